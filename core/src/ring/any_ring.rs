//! What the ends of a ring need of it, of whichever kind it is.
//!
//! Held by: `core/tests/ring_handles.rs`.

use super::layout::Layout;
use super::raw::memory::Bytes;
use super::shared::Shared;
use crate::sync::Ordering::Relaxed;

/// An argument that only this crate can construct. Generic code outside can call the methods of a sealed
/// trait through a bound; this argument keeps such code from the indices.
pub struct Token;

/// The parts of a ring. Not nameable outside this crate, and so not implemented there.
pub trait Parts {
    type Layout: Layout;
    type Shared: Shared;
    fn shared(&self, token: Token) -> &Self::Shared;
    fn bytes(&self) -> Bytes<'_>;
}

/// A ring whose ends are a [`Producer`](super::Producer) and a [`Consumer`](super::Consumer): a
/// [`Ring`](super::Ring) or a [`SliceRing`](super::SliceRing).
pub trait AnyRing: Parts + Sync {}

impl<R: Parts + Sync> AnyRing for R {}

/// The high-water mark of a ring in bytes, or 0 if its layout has none.
pub(crate) fn high_water<R: AnyRing>(ring: &R) -> usize {
    ring.shared(Token).high_water().map_or(0, |mark| mark.load(Relaxed))
}

/// Implements `Debug` and `defmt::Format` for an end of a ring. They show how full the ring is, and not its
/// bytes.
macro_rules! debug_end {
    ($name:ident) => {
        impl<R: AnyRing> core::fmt::Debug for $name<'_, R> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("capacity", &self.capacity())
                    .field("len", &self.len())
                    .field("closed", &self.is_closed())
                    .finish_non_exhaustive()
            }
        }

        #[cfg(feature = "defmt")]
        impl<R: AnyRing> defmt::Format for $name<'_, R> {
            fn format(&self, f: defmt::Formatter<'_>) {
                let (name, capacity, len) = (stringify!($name), self.capacity(), self.len());
                defmt::write!(f, "{=str} {{ capacity: {=usize}, len: {=usize} }}", name, capacity, len);
            }
        }
    };
}
pub(crate) use debug_end;
