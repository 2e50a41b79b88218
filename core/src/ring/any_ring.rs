//! What the ends of a ring need of it, whichever kind it is.

use super::layout::Layout;
use super::raw::memory::Bytes;
use super::shared::Shared;
use crate::sync::Ordering::Relaxed;

/// What only this crate can make. Who has a type parameter can call the methods of its bounds, of a sealed trait
/// too; the indices are not for everybody.
pub struct Token;

/// The parts of a ring. It cannot be named outside this crate, so that nobody else implements it.
pub trait Parts {
    type Layout: Layout;
    type Shared: Shared;
    fn shared(&self, token: Token) -> &Self::Shared;
    fn bytes(&self) -> Bytes<'_>;
}

/// What a [`Producer`](super::Producer) and a [`Consumer`](super::Consumer) are the ends of: a [`Ring`](super::Ring), or
/// a [`SliceRing`](super::SliceRing).
pub trait AnyRing: Parts + Sync {}

impl<R: Parts + Sync> AnyRing for R {}

/// The high-water mark of a ring that keeps one, and 0 of others.
pub(crate) fn high_water<R: AnyRing>(ring: &R) -> usize {
    ring.shared(Token).high_water().map_or(0, |mark| mark.load(Relaxed))
}
