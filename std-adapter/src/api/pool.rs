//! A memory budget, a disk limit and a store, shared by any number of buffers.

use crate::api::buffer::SpillBuffer;
use crate::observe::stats::PoolStats;
use crate::pool::state::PoolState;
use crate::sync::Arc;

/// One hard memory budget and one disk limit over any number of buffers.
///
/// Cloning is cheap, and all clones are the same pool. A pool lives as long as its last clone or
/// buffer; then its temp file is gone.
///
/// The frames of all buffers together never take more memory than the budget, not for a moment.
/// Beside the frames, a buffer costs some 250 bytes and 90 bytes for each page but one.
///
/// ```
/// use overspill::SpillPool;
/// use std::io::Write;
///
/// let pool = SpillPool::builder().memory(1 << 20).disk(1 << 30).build()?;
/// let mut buffers: Vec<_> = (0..100).map(|_| pool.buffer()).collect();
/// for buffer in &mut buffers {
///     buffer.write_all(&[7; 50_000])?; // 5 MB in all, of which at most 1 MiB is in RAM
/// }
/// assert!(pool.stats().memory_used <= 1 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpillPool {
    pub(crate) state: Arc<PoolState>,
}

impl SpillPool {
    /// An empty buffer. Costs no memory of the budget before the first byte, and no file.
    #[must_use]
    pub fn buffer(&self) -> SpillBuffer {
        SpillBuffer::in_pool(Arc::clone(&self.state))
    }

    /// What the pool holds just now, and what has happened in it since it was built. Other threads may
    /// have changed it already. Costs a few short locks.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let (memory, disk) = (self.state.frames.budget(), self.state.disk.quota());
        let recycled = self.state.frames.recycled_bytes() + self.state.table_cache.bytes();
        let mut stats = PoolStats {
            memory_used: memory.used().saturating_sub(recycled),
            memory_recycled: recycled,
            memory_high_water: self.state.frames.high_water(),
            memory_limit: memory.limit(),
            disk_used: disk.used(),
            disk_high_water: disk.high_water(),
            disk_limit: disk.limit(),
            buffers: self.state.buffers(),
            waiters: disk.waiting(),
            ..PoolStats::default()
        };
        self.state.counters.fill_in(&mut stats);
        stats
    }

    /// Changes the memory budget. Lowering it frees what is only kept to be used again, and moves pages
    /// to the store until what is charged is within the new limit. What cannot leave just now, because
    /// it is in use or the store refuses, does so later, when its buffer is used; until then nobody
    /// gets more. Raising it takes effect at once: pages that are in use come back to RAM.
    pub fn set_memory_limit(&self, bytes: usize) {
        self.state.set_memory_limit(bytes as u64);
    }

    /// Changes the disk limit. Lowering it below what is used loses nothing: what is there stays, and
    /// nothing more is taken before enough is freed.
    pub fn set_disk_limit(&self, bytes: u64) {
        self.state.disk.set_limit(bytes);
    }

    /// The name that the pool was [built](PoolBuilder::name) with; empty without one.
    #[must_use]
    pub fn name(&self) -> &str {
        self.state.listeners.name()
    }

    /// Checks every invariant of the pool as a whole. For tests, while no operation is under way.
    ///
    /// # Panics
    /// If one does not hold.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        self.state.check_quiet();
    }

    /// Frees what the pool keeps only to be used again: frames, and blocks of the temp file.
    pub fn trim(&self) {
        self.state.trim();
    }
}
