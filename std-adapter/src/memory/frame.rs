//! Frames: the memory of pages, charged to the pool's budget.
//!
//! Promises:
//!
//! - I2: a frame is charged before it is allocated and credited after it is freed. The charge is the capacity
//!   of its one allocation.
//! - A frame carries its charge: wherever it is dropped, the charge is released.
//! - Recycled memory is not cleared: a frame holds arbitrary bytes until they are overwritten.
//!
//! Held by: `tests/tests/pool_memory.rs`, `tests/tests/pool_stress.rs`, the tests of `frame_pool.rs`.

use crate::memory::budget::Budget;
use crate::memory::copy::{append, copy};
use crate::sync::Arc;
use aligned_vec::{AVec, RuntimeAlign};

/// Frames of this length and more begin at a cache line.
///
/// Otherwise the allocator would put each of them 16 bytes past a page of the machine. There the kernel's
/// copies from the page cache hit the slow case that `core/src/copy.rs` describes: 64 KiB took 28 µs instead
/// of 3. Smaller frames lie anywhere, one in 256 of them in such a place. Aligning those too would leave
/// holes between them, a quarter of all memory.
pub(crate) const ALIGNED_MIN: usize = 128 << 10;

/// Bytes of a cache line.
pub(crate) const ALIGN: usize = 64;

/// Copied from to clear fresh memory.
static ZEROS: [u8; 4096] = [0; 4096];

/// Memory for one page, or for the beginning of one.
#[derive(Debug)]
pub(crate) struct Frame {
    /// As long as what was ever written, so that fresh memory need not be cleared first. The capacity is
    /// charged, and never changes.
    bytes: AVec<u8, RuntimeAlign>,
    /// The budget that the capacity is charged to.
    budget: Arc<Budget>,
}

impl Frame {
    /// Allocates a frame of `len` bytes, which are reserved in `budget` already. If the allocator refuses,
    /// releases them and returns `None`.
    pub(crate) fn allocate(len: usize, budget: &Arc<Budget>) -> Option<Frame> {
        let mut bytes = AVec::new(if len < ALIGNED_MIN { 1 } else { ALIGN });
        if bytes.try_reserve_exact(len).is_err() {
            budget.release(len as u64);
            return None;
        }
        debug_assert_eq!(bytes.capacity(), len, "I2: what is allocated is what is charged");
        Some(Frame { bytes, budget: Arc::clone(budget) })
    }

    /// All bytes that were ever written, for this page or an earlier one.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes that fit, which are the bytes charged.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The `len` bytes from `at` on, if all of them were ever written.
    #[inline(always)]
    pub(crate) fn written_mut(&mut self, at: usize, len: usize) -> Option<&mut [u8]> {
        self.bytes.get_mut(at..)?.get_mut(..len)
    }

    /// Writes `data` at `at`, if that is the end of what was ever written and the frame is large enough.
    /// Calls `commit` before the copy, once that is certain. Otherwise does nothing, and returns false.
    #[inline(always)]
    pub(crate) fn append(&mut self, at: usize, data: &[u8], commit: impl FnOnce()) -> bool {
        let appends = at == self.bytes.len() && data.len() <= self.bytes.capacity() - self.bytes.len();
        if appends {
            commit();
            append(&mut self.bytes, data); // within the capacity: allocates nothing
        }
        appends
    }

    /// Writes `data` at `at`. If that lies past the end of what was ever written, or if the frame is too
    /// small, writes nothing and returns false.
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) -> bool {
        let written = self.bytes.len();
        if at > written || at + data.len() > self.capacity() {
            return false;
        }
        let (overwriting, appending) = data.split_at(data.len().min(written - at));
        copy(&mut self.bytes[at..at + overwriting.len()], overwriting);
        appending.is_empty() || self.append(written, appending, || ())
    }

    /// The first `len` bytes, with arbitrary values. `len` is at most the capacity.
    pub(crate) fn first_mut(&mut self, len: usize) -> &mut [u8] {
        debug_assert!(len <= self.capacity());
        while self.bytes.len() < len {
            let more = ZEROS.len().min(len - self.bytes.len());
            self.bytes.extend_from_slice(&ZEROS[..more]);
        }
        &mut self.bytes[..len]
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let charged = self.capacity() as u64;
        drop(std::mem::replace(&mut self.bytes, AVec::new(ALIGN))); // I2: free first, then credit
        self.budget.release(charged);
    }
}
