//! `embedded-dma` for the grants that own their end of a ring which lives for ever; its traits are unsafe.
//!
//! Held by: `core/tests/ring_dma.rs`.

use core::ptr;

use embedded_dma::{ReadBuffer, WriteBuffer};

use crate::ring::any_ring::AnyRing;
use crate::ring::owned_grant::{OwnedReadGrant, OwnedWriteGrant};

// SAFETY: the ring is borrowed for ever, so that its memory stays where it is and is never freed, even if the
// grant is leaked (R7). The granted bytes are this end's alone (R4) until it moves its index, and the grant
// has the end: only `commit` moves it, which takes the grant. Any byte is a valid `u8`.
unsafe impl<R: AnyRing> WriteBuffer for OwnedWriteGrant<'static, R> {
    type Word = u8;

    unsafe fn write_buffer(&mut self) -> (*mut u8, usize) {
        let bytes = self.as_mut_slice();
        (bytes.as_mut_ptr(), bytes.len())
    }
}

// SAFETY: as above, with `release` (R5).
unsafe impl<R: AnyRing> ReadBuffer for OwnedReadGrant<'static, R> {
    type Word = u8;

    unsafe fn read_buffer(&self) -> (*const u8, usize) {
        let bytes = self.as_slice();
        // The other end may jump in an empty ring: no bytes are always the same ones.
        (if bytes.is_empty() { ptr::dangling() } else { bytes.as_ptr() }, bytes.len())
    }
}
