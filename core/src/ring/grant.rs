//! Bytes of the ring handed out in place, without a copy.
//!
//! A grant that is dropped changes nothing: written bytes are handed over by `commit`, read ones given back by
//! `release`, of at most what was granted.

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

    /// The bytes: those before the wrap, and those after it (empty if there is none within). They hold
    /// leftovers.
    #[must_use]
    pub fn as_mut_slices(&mut self) -> (&mut [u8], &mut [u8]) {
        self.end.free_slices(self.len)
    }

    /// Bytes granted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is granted: the ring is full.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hands the first `count` bytes to the consumer, at most all of them.
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

    /// The bytes: those before the wrap, and those after it (empty if there is none within). The first is empty only
    /// if the grant is.
    #[must_use]
    pub fn as_slices(&self) -> (&[u8], &[u8]) {
        self.end.filled_slices(self.len)
    }

    /// Bytes granted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is granted: the ring is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives the first `count` bytes back to the producer, at most all of them.
    pub fn release(self, count: usize) {
        self.end.release(count.min(self.len));
    }
}

/// Shows how many bytes are granted, not the bytes.
macro_rules! debug_grant {
    ($($name:ident<$($lifetime:lifetime),+>),+) => {$(
        impl<R: AnyRing> core::fmt::Debug for $name<$($lifetime,)+ R> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($name)).field("len", &self.len).finish_non_exhaustive()
            }
        }
    )+};
}

debug_grant!(WriteGrant<'_, '_>, ReadGrant<'_, '_>);
pub(crate) use debug_grant;
