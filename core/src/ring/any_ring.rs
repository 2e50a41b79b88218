//! What the ends of a ring need of it, of whichever kind it is.
//!
//! Held by: `core/tests/ring_handles.rs`.

use super::layout::Layout;
use super::raw::memory::Bytes;
use super::shared::Shared;
use crate::sync::Ordering::Relaxed;

/// An argument that only this crate can construct. Generic code outside can call the methods of a sealed
/// trait through a bound; this keeps it from the indices.
pub struct Token;

/// The parts of a ring. Not nameable outside this crate, and so not implemented there.
pub trait Parts {
    type Layout: Layout;
    type Shared: Shared;
    fn shared(&self, token: Token) -> &Self::Shared;
    fn bytes(&self) -> Bytes<'_>;
}

/// A ring of which a [`Producer`](super::Producer) and a [`Consumer`](super::Consumer) are the ends: a
/// [`Ring`](super::Ring) or a [`SliceRing`](super::SliceRing).
pub trait AnyRing: Parts + Sync {}

impl<R: Parts + Sync> AnyRing for R {}

/// The high-water mark of a ring in bytes, or 0 if its layout has none.
pub(crate) fn high_water<R: AnyRing>(ring: &R) -> usize {
    ring.shared(Token).high_water().map_or(0, |mark| mark.load(Relaxed))
}
