//! Frames: the memory of pages, charged to the pool's budget.
//!
//! Promises:
//!
//! - I2: a frame is charged before it is allocated and credited after it is freed. The charge is the capacity
//!   of its one allocation.
//! - A frame carries its charge: wherever it is dropped, the charge is released, and its budget notes that
//!   for those that wait for memory.
//! - Recycled memory is not cleared: a frame holds arbitrary bytes until they are overwritten.
//!
//! Held by: `tests/tests/pool_memory.rs`, `tests/tests/pool_stress.rs`, the tests of `frame_pool.rs`.

use crate::memory::block::Block;
use crate::memory::budget::WatchedBudget;
use crate::memory::copy::copy;
use crate::sync::Arc;

/// Memory for one page, or for the beginning of one.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Its capacity is charged, and never changes.
    block: Block,
    /// The budget that the capacity is charged to.
    budget: Arc<WatchedBudget>,
}

impl Frame {
    /// Allocates a frame of `len` bytes, which are reserved in `budget` already. If the allocator refuses,
    /// releases them and returns `None`.
    pub(crate) fn allocate(len: usize, budget: &Arc<WatchedBudget>) -> Option<Frame> {
        let Some(block) = Block::allocate(len) else {
            // Not noted: no memory came free, and waiters that all try this would wake each other for ever.
            budget.budget().release(len as u64);
            return None;
        };
        debug_assert_eq!(block.capacity(), len, "I2: what is allocated is what is charged");
        Some(Frame { block, budget: Arc::clone(budget) })
    }

    /// The budget that it is charged to.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) fn budget(&self) -> &Arc<WatchedBudget> {
        &self.budget
    }

    /// All bytes that were ever written, for this page or an earlier one.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.block.written()
    }

    /// The bytes that fit, which are the bytes charged.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.block.capacity()
    }

    /// The bytes from the beginning that may be used.
    #[inline(always)]
    pub(crate) fn usable(&self) -> usize {
        self.block.usable()
    }

    /// Uses the first `len` bytes from now on, or all if there are not so many.
    pub(crate) fn use_first(&mut self, len: usize) {
        self.block.use_first(len);
    }

    /// The `len` bytes from `at` on, if all of them were ever written.
    #[inline(always)]
    pub(crate) fn written_mut(&mut self, at: usize, len: usize) -> Option<&mut [u8]> {
        self.block.written_mut().get_mut(at..)?.get_mut(..len)
    }

    /// Writes `data` at `at`, if that is the end of what was ever written and the frame is large enough.
    /// Calls `commit` before the copy, once that is certain. Otherwise does nothing, and returns false.
    #[inline(always)]
    pub(crate) fn append(&mut self, at: usize, data: &[u8], commit: impl FnOnce()) -> bool {
        at == self.block.written().len() && self.block.append(data, commit)
    }

    /// Writes `data` at `at`. If that lies past the end of what was ever written, or if the frame is too
    /// small, writes nothing and returns false.
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) -> bool {
        let written = self.block.written().len();
        if at > written || at + data.len() > self.usable() {
            return false;
        }
        let (overwriting, appending) = data.split_at(data.len().min(written - at));
        copy(&mut self.block.written_mut()[at..at + overwriting.len()], overwriting);
        appending.is_empty() || self.append(written, appending, || ())
    }

    /// The first `len` bytes, with arbitrary values. `len` is at most what may be used.
    pub(crate) fn first_mut(&mut self, len: usize) -> &mut [u8] {
        debug_assert!(len <= self.usable());
        self.block.clear_to(len);
        &mut self.block.written_mut()[..len]
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let charged = self.capacity() as u64;
        self.block.free(); // I2: free first, then credit
        self.budget.release(charged);
    }
}
