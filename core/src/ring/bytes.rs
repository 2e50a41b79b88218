//! `bytes::Buf` and `bytes::BufMut`.
//!
//! These traits require that only their own calls change the number of remaining bytes; in a ring, the other
//! end changes it too. So views implement the traits: a view has the bytes that the ring held, or had free,
//! when the view was made. Advancing it releases or commits bytes at once.
//!
//! The traits' provided methods panic if too few bytes remain: `get_u32`, `copy_to_slice`, `put_slice` and
//! their like. The forms with `try_` do not. To avoid the panic, check the number of remaining bytes first.
//!
//! Held by: `core/tests/ring_field_bugs.rs`, `core/tests/ring_handles.rs`.

use bytes::Buf;

use super::any_ring::AnyRing;
use super::consumer::Consumer;
use super::producer::Producer;
use super::raw::buf::Writable;
use super::raw::read_end::ReadEnd;

impl<'a, R: AnyRing> Consumer<'a, R> {
    /// The bytes that are in the ring now, as a `bytes::Buf`. Its `get_` methods panic if too few bytes
    /// remain; its `try_get_` methods return an error.
    pub fn as_buf(&mut self) -> Readable<'_, 'a, R> {
        let len = self.end.filled_bytes(self.capacity());
        Readable { end: &mut self.end, len }
    }
}

impl<'a, R: AnyRing> Producer<'a, R> {
    /// The bytes that are free now, as a `bytes::BufMut`. Its `put_` methods panic if too few bytes remain:
    /// check `remaining_mut` first.
    pub fn as_buf_mut(&mut self) -> Writable<'_, 'a, R> {
        let len = self.end.free_bytes(self.capacity());
        Writable::new(&mut self.end, len)
    }
}

/// The bytes that were in the ring when [`Consumer::as_buf`] was called.
pub struct Readable<'g, 'a, R: AnyRing> {
    end: &'g mut ReadEnd<'a, R>,
    len: usize,
}

impl<R: AnyRing> Buf for Readable<'_, '_, R> {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.end.filled_slices(self.len).0
    }

    /// Removes `count` bytes from the ring, at most as many as remain.
    fn advance(&mut self, count: usize) {
        self.len -= self.end.release(count.min(self.len));
    }
}

impl<R: AnyRing> core::fmt::Debug for Readable<'_, '_, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Readable").field("remaining", &self.len).finish_non_exhaustive()
    }
}
