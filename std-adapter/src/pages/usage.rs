//! What one buffer holds of its pool, and the limits that it has of its own.
//!
//! It lies beside the buffer's table, outside the lock, where any thread may read it at any time. The owner writes it, and
//! a reclaiming thread while it is inside the table; so a thread inside sees counts that fit the pages.
//!
//! Held by: `SpillBuffer::check_invariants` in every driver, `tests/tests/pool_limits.rs`, `tests/tests/pool_stress.rs`.

use crate::memory::budget::Budget;
use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Usage {
    /// Bytes of the frames of the buffer's pages; a part of what is used of the pool's budget.
    pub(crate) memory: Budget,
    /// Bytes of the slots of its pages, and of those that its pages in transit will have.
    pub(crate) disk: Budget,
    /// Pages that went to the store since the buffer was made.
    spills: AtomicU64,
}

impl Usage {
    /// Nothing held, and no limits but those of the pool.
    pub(crate) fn new() -> Self {
        Usage { memory: Budget::new(u64::MAX), disk: Budget::new(u64::MAX), spills: AtomicU64::new(0) }
    }

    pub(crate) fn spills(&self) -> u64 {
        self.spills.load(Ordering::Relaxed)
    }

    /// Counts pages that went to the store, and returns whether they are the first.
    pub(crate) fn count_spills(&self, pages: u64) -> bool {
        pages > 0 && self.spills.fetch_add(pages, Ordering::Relaxed) == 0
    }

    /// Lifts the limits and forgets the spills, for the next buffer that uses the table. What is held stays.
    pub(crate) fn reset(&self) {
        self.memory.set_limit(u64::MAX);
        self.disk.set_limit(u64::MAX);
        self.spills.store(0, Ordering::Relaxed);
    }
}
