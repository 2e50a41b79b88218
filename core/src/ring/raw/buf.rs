//! `bytes::BufMut` for the free bytes of a ring; the trait is unsafe.
//!
//! Held by: `core/tests/ring_field_bugs.rs`, `core/tests/ring_handles.rs`.

use core::fmt;

use ::bytes::BufMut;
use ::bytes::buf::UninitSlice;

use super::write_end::WriteEnd;
use crate::ring::any_ring::AnyRing;

/// The bytes that were free when [`Producer::as_buf_mut`](crate::ring::Producer::as_buf_mut) was called.
pub struct Writable<'g, 'a, R: AnyRing> {
    end: &'g mut WriteEnd<'a, R>,
    len: usize,
}

impl<'g, 'a, R: AnyRing> Writable<'g, 'a, R> {
    /// The first `len` bytes of those known to be free.
    pub(crate) fn new(end: &'g mut WriteEnd<'a, R>, len: usize) -> Self {
        Writable { end, len }
    }
}

// SAFETY: `chunk_mut` is the front of the free bytes, `remaining_mut` counts them, and only
// `advance_mut` changes either.
unsafe impl<R: AnyRing> BufMut for Writable<'_, '_, R> {
    fn remaining_mut(&self) -> usize {
        self.len
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::new(self.end.free_slices(self.len).0)
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        self.len -= self.end.commit(count.min(self.len));
    }
}

impl<R: AnyRing> fmt::Debug for Writable<'_, '_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").field("remaining", &self.len).finish_non_exhaustive()
    }
}
