//! What one buffer holds of its pool, and what it may hold: readable by everybody, at any time.
//!
//! It lies beside the buffer's table, outside the lock. Written by the owner, and by a taker while
//! it is inside the table; so whoever is inside sees counts that fit the pages.

use crate::memory::budget::Budget;
use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Usage {
    /// The frames of the buffer's pages. Bytes; a part of what is taken of the pool's budget.
    pub(crate) memory: Budget,
    /// The slots of its pages, and those that pages on their way to the store will have.
    pub(crate) disk: Budget,
    /// Pages of it that went to the store, so far.
    spills: AtomicU64,
}

impl Usage {
    /// An account that nothing but the pool limits.
    pub(crate) fn new() -> Self {
        Usage { memory: Budget::new(u64::MAX), disk: Budget::new(u64::MAX), spills: AtomicU64::new(0) }
    }

    pub(crate) fn spills(&self) -> u64 {
        self.spills.load(Ordering::Relaxed)
    }

    /// Says whether they are the first.
    pub(crate) fn count_spills(&self, pages: u64) -> bool {
        pages > 0 && self.spills.fetch_add(pages, Ordering::Relaxed) == 0
    }

    /// As new, for the next buffer. The bytes held stay.
    pub(crate) fn reset(&self) {
        self.memory.set_limit(u64::MAX);
        self.disk.set_limit(u64::MAX);
        self.spills.store(0, Ordering::Relaxed);
    }
}
