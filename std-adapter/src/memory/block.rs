//! The bytes of one frame: memory of a fixed length, of which a beginning was written.
//!
//! There are two origins. What [`chunks`](crate::memory::chunks) have a piece for comes from there, where
//! they exist; all else comes from the allocator.
//!
//! Promises:
//!
//! - Only bytes that this block's owner has written can be seen. So the old bytes of a piece, which may be
//!   another pool's, never are, and fresh memory need not be cleared first.
//! - Allocating may be refused, and never aborts.
//!
//! Held by: the tests below, `tests/tests/resident_memory.rs` (a canary from pool to pool), `.ci/sanitize`.

#![allow(unsafe_code)]

use crate::memory::chunks::{NoPiece, of_process};
use crate::memory::copy::copy_to;
use crate::memory::pieces::Piece;
use crate::memory::system::HAS_CHUNKS;
use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// Blocks of this length and more from the allocator begin at a cache line.
///
/// Otherwise the allocator would put each of them 16 bytes past a page of the machine. There the kernel's
/// copies from the page cache hit the slow case that `core/src/copy.rs` describes: 64 KiB took 28 µs instead
/// of 3. Smaller ones lie anywhere, one in 256 of them in such a place. Aligning those too would leave holes
/// between them, a quarter of all memory.
const ALIGNED_MIN: usize = 128 << 10;

/// Bytes of a cache line.
const ALIGN: usize = 64;

/// Memory with one owner.
#[derive(Debug)]
pub(crate) struct Block {
    memory: Piece,
    /// The bytes from the beginning that were written since this block was allocated, and that may be used;
    /// all of them are initialized. At most `usable`.
    written: u32,
    /// The bytes from the beginning that may be used. At most the length of `memory`.
    usable: u32,
}

/// How `len` bytes are allocated. `None` if that many cannot be.
fn layout(len: usize) -> Option<Layout> {
    Layout::from_size_align(len, if len < ALIGNED_MIN { 1 } else { ALIGN }).ok()
}

/// A number of bytes in a block, which is a `u32`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most the capacity, which is a u32")]
fn short(bytes: usize) -> u32 {
    bytes as u32
}

impl Block {
    /// A block of `len` bytes, at least one, none of them written. `None` if there is no memory.
    pub(crate) fn allocate(len: usize) -> Option<Block> {
        if HAS_CHUNKS {
            match of_process().allocate(len) {
                Ok(memory) => return Some(Block { usable: short(memory.len()), memory, written: 0 }),
                Err(NoPiece::Refused) => return None,
                Err(NoPiece::Never) => {}
            }
        }
        let bytes = u32::try_from(len).ok().filter(|len| *len > 0)?;
        // SAFETY: the length is not 0.
        let at = NonNull::new(unsafe { alloc(layout(len)?) })?;
        Some(Block { memory: Piece::of_allocator(at, bytes), written: 0, usable: bytes })
    }

    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// The bytes from the beginning that may be used.
    #[inline(always)]
    pub(crate) fn usable(&self) -> usize {
        self.usable as usize
    }

    /// Uses the first `len` bytes from now on, or all if there are not so many. What was written past them is
    /// forgotten.
    pub(crate) fn use_first(&mut self, len: usize) {
        self.usable = short(len.min(self.capacity()));
        self.written = self.written.min(self.usable);
    }

    /// The bytes from the beginning that were ever written.
    #[inline(always)]
    pub(crate) fn written(&self) -> &[u8] {
        // SAFETY: the block owns `usable` bytes there, of which the first `written` are initialized.
        unsafe { std::slice::from_raw_parts(self.memory.at().as_ptr(), self.written as usize) }
    }

    /// The bytes from the beginning that were ever written.
    #[inline(always)]
    pub(crate) fn written_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `written`; `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.memory.at().as_ptr(), self.written as usize) }
    }

    /// Writes `data` past the bytes that were written, and returns true. Calls `commit` before the copy, once
    /// that is certain. If `data` does not fit, does nothing and returns false.
    #[inline(always)]
    pub(crate) fn append(&mut self, data: &[u8], commit: impl FnOnce()) -> bool {
        let (written, usable) = (self.written as usize, self.usable());
        if data.len() > usable - written {
            return false;
        }
        commit();
        self.written = short(written + data.len());
        // SAFETY: `written` is at most `usable`, so this stays in the block, or at its end.
        let to = unsafe { self.memory.at().as_ptr().add(written) };
        // SAFETY: `data.len()` bytes at `to` are the block's, and were not written. `data` is initialized,
        // and cannot overlap the block, which shows only what was written. Nothing reads them before: neither
        // the copy nor anything above it can panic after `written` has changed.
        unsafe { copy_to(to, data) };
        true
    }

    /// Frees the memory now. Nothing is left to be written then.
    pub(crate) fn free(&mut self) {
        (self.written, self.usable) = (0, 0);
        let memory = std::mem::replace(&mut self.memory, Piece::NONE);
        if memory.is_of_chunk() {
            // SAFETY: the piece is from the process's chunks, and the block, its only owner, has let it go.
            unsafe { of_process().free(memory) };
        } else if let Some(layout) = layout(memory.len()).filter(|layout| layout.size() > 0) {
            // SAFETY: the memory was allocated with this layout, and the block has let it go.
            unsafe { dealloc(memory.at().as_ptr(), layout) };
        }
    }

    /// Makes sure that the first `len` bytes count as written. Those that were not are zeros then. `len` is
    /// at most what may be used.
    pub(crate) fn clear_to(&mut self, len: usize) {
        let written = self.written as usize;
        let len = len.min(self.usable());
        if len > written {
            // SAFETY: `written` is less than `len`, so this lies in the block.
            let to = unsafe { self.memory.at().as_ptr().add(written) };
            // SAFETY: the bytes from `written` to `len` are the block's.
            unsafe { to.write_bytes(0, len - written) };
            self.written = short(len);
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_is_never_seen() {
        for len in [2, 300, 4 << 10, 64 << 10, 3 * ALIGNED_MIN] {
            for round in 0..3 {
                let mut block = Block::allocate(len).unwrap();
                assert_eq!((block.written(), block.capacity()), (&[][..], len), "round {round}");
                block.clear_to(len / 2);
                assert!(block.written().len() == len / 2 && block.written().iter().all(|byte| *byte == 0));
                assert!(!block.append(&vec![7; len], || panic!("it does not fit")));
                assert!(block.append(&vec![7; len - block.written().len()], || ()));
                block.written_mut()[0] = 9;
                assert_eq!((block.written()[0], block.written().len()), (9, len));
            }
        }
    }

    #[test]
    fn more_than_there_is_is_refused() {
        assert!(Block::allocate(0).is_none());
        assert!(Block::allocate(usize::MAX).is_none());
    }

    #[test]
    fn large_blocks_begin_at_a_cache_line() {
        for len in [ALIGNED_MIN, 2 * ALIGNED_MIN, ALIGNED_MIN + 1] {
            assert_eq!(Block::allocate(len).unwrap().written().as_ptr().align_offset(ALIGN), 0);
        }
    }
}
