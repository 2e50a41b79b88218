//! Frames: the memory that holds pages, charged to the pool's budget, and used again.
//!
//! Promises:
//!
//! - I2: a frame is charged before it is allocated and credited after it is freed; the charge is the
//!   capacity of its one allocation.
//! - A frame carries its charge with it: wherever it is dropped, the budget gets it back.

use crate::memory::budget::Budget;
use crate::memory::copy::{append, copy};
use crate::sync::Arc;
use aligned_vec::{AVec, RuntimeAlign};

/// Frames of this and more begin at a cache line. The allocator puts those 16 bytes past a page of the
/// machine, and there the kernel meets the trap that [`copy`](crate::memory::copy) describes whenever it copies from the
/// page cache: 64 KiB took 28 µs instead of 3. Smaller ones lie anywhere, and one in 256 of them there; asking
/// for their alignment would leave holes between them, a quarter of all memory.
pub(crate) const ALIGNED_MIN: usize = 128 << 10;

pub(crate) const ALIGN: usize = 64;

/// What fresh memory is cleared from, where it has to be.
static ZEROS: [u8; 4096] = [0; 4096];

/// Memory for one page, or for the beginning of one.
#[derive(Debug)]
pub(crate) struct Frame {
    /// As long as it was ever written, so that fresh memory need not be cleared first. Its capacity
    /// is charged, and never changes.
    bytes: AVec<u8, RuntimeAlign>,
    /// The budget it is charged to.
    budget: Arc<Budget>,
}

impl Frame {
    /// A frame of `len` bytes, for which `budget` has been charged. If the allocator refuses, the charge goes back.
    pub(crate) fn allocate(len: usize, budget: &Arc<Budget>) -> Option<Frame> {
        let mut bytes = AVec::new(if len < ALIGNED_MIN { 1 } else { ALIGN });
        if bytes.try_reserve_exact(len).is_err() {
            budget.release(len as u64);
            return None;
        }
        debug_assert_eq!(bytes.capacity(), len, "I2: what is allocated is what is charged");
        Some(Frame { bytes, budget: Arc::clone(budget) })
    }

    /// What was ever written here, by whoever had the frame.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that fit: what is charged.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The `len` bytes from `at` on, if all of them were ever written.
    #[inline(always)]
    pub(crate) fn written_mut(&mut self, at: usize, len: usize) -> Option<&mut [u8]> {
        self.bytes.get_mut(at..)?.get_mut(..len)
    }

    /// Writes `data` from `at` on, if that is where nothing was ever written and the frame is large enough;
    /// else does nothing, and returns false.
    #[inline(always)]
    pub(crate) fn append(&mut self, at: usize, data: &[u8], commit: impl FnOnce()) -> bool {
        let appends = at == self.bytes.len() && data.len() <= self.bytes.capacity() - self.bytes.len();
        if appends {
            commit();
            append(&mut self.bytes, data); // within the capacity: allocates nothing
        }
        appends
    }

    /// Writes `data` from `at` on, which must not lie past what was ever written; false, and
    /// nothing written, if it does or if the frame is too small.
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) -> bool {
        let written = self.bytes.len();
        if at > written || at + data.len() > self.capacity() {
            return false;
        }
        let (over, further) = data.split_at(data.len().min(written - at));
        copy(&mut self.bytes[at..at + over.len()], over);
        further.is_empty() || self.append(written, further, || ())
    }

    /// The first `len` bytes, at most the capacity, with anything in them.
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
        drop(std::mem::replace(&mut self.bytes, AVec::new(ALIGN))); // I2: freed first, credited after
        self.budget.release(charged);
    }
}
