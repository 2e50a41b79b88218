//! Access to the bytes of a ring in place, without a copy.
//!
//! `commit` hands written bytes to the consumer, `release` gives the room of read ones back to the producer;
//! either is capped at what was granted. A grant that is dropped changes nothing.
//!
//! Held by: `core/tests/ring_handles.rs`, `core/tests/loom_ring.rs` (`grants_against_grants`),
//! `tests/tests/ring_model.rs`.

use super::any_ring::AnyRing;
use super::raw::read_end::ReadEnd;
use super::raw::write_end::WriteEnd;

/// Free bytes, to be written in place.
#[must_use = "dropped uncommitted it changes nothing"]
pub struct WriteGrant<'g, 'a, R: AnyRing> {
    end: &'g mut WriteEnd<'a, R>,
    len: usize,
}

impl<'g, 'a, R: AnyRing> WriteGrant<'g, 'a, R> {
    pub(crate) fn new(end: &'g mut WriteEnd<'a, R>, len: usize) -> Self {
        WriteGrant { end, len }
    }

    /// The granted bytes: those before the wrap, and those after it (empty if the grant does not wrap).
    /// They hold old content.
    #[must_use]
    pub fn as_mut_slices(&mut self) -> (&mut [u8], &mut [u8]) {
        self.end.free_slices(self.len)
    }

    /// The number of bytes granted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is granted: the ring is full.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hands the first `count` granted bytes to the consumer, or all of them if `count` is larger.
    pub fn commit(self, count: usize) {
        self.end.commit(count.min(self.len));
    }
}

/// Filled bytes, to be read in place.
#[must_use = "dropped unreleased it changes nothing"]
pub struct ReadGrant<'g, 'a, R: AnyRing> {
    end: &'g mut ReadEnd<'a, R>,
    len: usize,
}

impl<'g, 'a, R: AnyRing> ReadGrant<'g, 'a, R> {
    pub(crate) fn new(end: &'g mut ReadEnd<'a, R>, len: usize) -> Self {
        ReadGrant { end, len }
    }

    /// The granted bytes: those before the wrap, and those after it (empty if the grant does not wrap). The
    /// first slice is empty only if the grant is.
    #[must_use]
    pub fn as_slices(&self) -> (&[u8], &[u8]) {
        self.end.filled_slices(self.len)
    }

    /// The number of bytes granted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is granted: the ring is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes the first `count` granted bytes from the ring, or all of them if `count` is larger. Their room
    /// is the producer's again.
    pub fn release(self, count: usize) {
        self.end.release(count.min(self.len));
    }
}

/// Implements `Debug` and `defmt::Format`. They show how many bytes are granted, and not the bytes.
macro_rules! debug_grant {
    ($($name:ident<$($lifetime:lifetime),+>),+) => {$(
        impl<R: AnyRing> core::fmt::Debug for $name<$($lifetime,)+ R> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($name)).field("len", &self.len).finish_non_exhaustive()
            }
        }

        #[cfg(feature = "defmt")]
        impl<R: AnyRing> defmt::Format for $name<$($lifetime,)+ R> {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, "{=str} {{ len: {=usize} }}", stringify!($name), self.len);
            }
        }
    )+};
}

debug_grant!(WriteGrant<'_, '_>, ReadGrant<'_, '_>);
pub(crate) use debug_grant;
