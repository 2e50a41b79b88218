//! What one buffer uses of its pool, and the buffer's own limits.
//!
//! - It lies beside the buffer's table, outside the lock: any thread may read it at any time.
//! - The owner changes it, and a reclaiming thread while it is inside the table or ends a transit. So a
//!   thread inside the table finds counts that agree with the pages, but for those in transit.
//!
//! Held by: `SpillBuffer::check_invariants` in every driver, `tests/tests/pool_limits.rs`,
//! `tests/tests/pool_stress.rs`.

use crate::memory::budget::Budget;
use crate::memory::frame::Frame;
use crate::memory::page_frame::PageFrame;
use crate::sync::{AtomicU64, Ordering};

/// The memory and disk used by one buffer, each with the buffer's own limit.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Bytes of the frames of the buffer's pages, and of all given memory that some of them lie in. They are
    /// also charged to the pool's budget.
    pub(crate) memory: Budget,
    /// Bytes of the slots of the buffer's pages, including those that its pages in transit will have.
    pub(crate) disk: Budget,
    /// How many times a page of the buffer was written to the store, since the buffer was made.
    spills: AtomicU64,
}

impl Usage {
    /// Nothing used, and no limits but those of the pool.
    pub(crate) fn new() -> Self {
        Usage { memory: Budget::new(u64::MAX), disk: Budget::new(u64::MAX), spills: AtomicU64::new(0) }
    }

    /// Releases the memory of a page that is the buffer's no more: see
    /// [`Given::leave`](crate::memory::given::Given::leave).
    pub(crate) fn release_frame(&self, frame: &PageFrame) {
        let bytes = frame.given().map_or(frame.capacity() as u64, |given| given.leave());
        self.memory.release(bytes);
    }

    /// As [`release_frame`](Usage::release_frame), of several frames.
    pub(crate) fn release_frames(&self, frames: &[Frame]) {
        self.memory.release(frames.iter().map(|frame| frame.capacity() as u64).sum());
    }

    pub(crate) fn spills(&self) -> u64 {
        self.spills.load(Ordering::Relaxed)
    }

    /// Counts `pages` written to the store, and returns whether the buffer's first is among them.
    pub(crate) fn count_spills(&self, pages: u64) -> bool {
        pages > 0 && self.spills.fetch_add(pages, Ordering::Relaxed) == 0
    }

    /// Lifts the limits and sets the spills to 0, for the next buffer that uses the table. What is used
    /// stays.
    pub(crate) fn reset(&self) {
        self.memory.set_limit(u64::MAX);
        self.disk.set_limit(u64::MAX);
        self.spills.store(0, Ordering::Relaxed);
    }
}
