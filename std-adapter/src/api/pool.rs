//! A memory limit, a disk limit and a store, shared by any number of buffers.
//!
//! Promises:
//!
//! - The frames of all buffers together never pass the memory limit, not for a moment (I2).
//! - Slots in use never pass the disk limit (I6).
//! - Statistics steer nothing.
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/pool_memory.rs`, `tests/tests/pool_stats.rs`,
//! `tests/tests/pool_stress.rs`.

use crate::api::buffer::SpillBuffer;
use crate::memory::chunks::warm_bytes_of_process;
use crate::observe::stats::PoolStats;
use crate::pool::state::PoolState;
use crate::pool::thread_cache;
use crate::sync::{Arc, Ordering};
use std::fmt;

/// One hard memory limit and one disk limit over any number of buffers.
///
/// A clone is another handle to the same pool, and costs two atomic increments. A pool lives until its last
/// handle and its last buffer are dropped; its temp file goes with it.
///
/// The memory of all pages together never passes the memory limit, not for a moment; a limit that is lowered
/// below what is used is kept as pages leave. Not charged to it are some 400 bytes for each buffer, 768 once
/// it has spilled, some 2 kB for a spool with a reader, and 34 for each page of 64 KiB that was written, 90
/// more while it is in memory, 130 more with checksums.
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
pub struct SpillPool {
    pub(crate) state: Arc<PoolState>,
}

impl Clone for SpillPool {
    fn clone(&self) -> Self {
        SpillPool::of(Arc::clone(&self.state))
    }
}

impl Drop for SpillPool {
    fn drop(&mut self) {
        if self.state.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.state.end();
        }
    }
}

impl SpillPool {
    /// A further handle, or the first.
    pub(crate) fn of(state: Arc<PoolState>) -> Self {
        state.handles.fetch_add(1, Ordering::Relaxed);
        SpillPool { state }
    }

    /// Makes an empty buffer. It uses nothing of the memory limit before its first byte, and makes no file
    /// before its first spill.
    #[must_use]
    pub fn buffer(&self) -> SpillBuffer {
        SpillBuffer::in_pool(&self.state)
    }

    /// What the pool holds now, and what has happened in it since it was built.
    ///
    /// Other threads may have changed the figures before the call returns. Costs a few short locks, and some
    /// microseconds for a fence if threads keep something of this pool for their next buffer.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let (memory, disk) = (self.state.frames.budget(), self.state.disk.quota());
        let (kept, kept_bytes) = thread_cache::count(&self.state);
        let recycled = self.state.frames.recycled_bytes() + self.state.table_cache.bytes() + kept_bytes;
        let mut stats = PoolStats {
            memory_used: memory.used().saturating_sub(recycled),
            memory_recycled: recycled,
            memory_high_water: self.state.frames.high_water(),
            memory_limit: memory.limit(),
            memory_warm: warm_bytes_of_process(),
            memory_lent: self.state.lent.get(),
            disk_used: disk.used(),
            disk_recycled: self.state.disk.recycled_bytes(),
            disk_high_water: disk.high_water(),
            disk_limit: disk.limit(),
            buffers: self.state.buffers().saturating_sub(kept),
            waiters: disk.waiting(),
            ..PoolStats::default()
        };
        self.state.counters.fill_in(&mut stats);
        stats
    }

    /// Changes the memory limit, in bytes.
    ///
    /// Lowering it frees recycled frames, and moves pages to the store until the used memory is within the
    /// new limit; the caller's thread does this I/O, so it is not for an event loop. A page that cannot leave
    /// now, because it is in use or the store refuses, leaves later, when its buffer is used. Until then no
    /// buffer gets more memory.
    ///
    /// Raising it takes effect at once: pages that are in use come back to RAM.
    pub fn set_memory_limit(&self, bytes: usize) {
        self.state.set_memory_limit(bytes as u64);
    }

    /// Changes the disk limit, in bytes.
    ///
    /// Lowering it below what is used loses nothing: slots in use stay, and no more are allocated until
    /// enough are freed. If a lower limit is below what is used and
    /// [recycled](crate::PoolStats::disk_recycled) together, blocks go back to the file system; the caller's
    /// thread does this I/O, so it is not for an event loop. Raising it serves the waiters that now fit, and
    /// makes no call of the store.
    pub fn set_disk_limit(&self, bytes: u64) {
        self.state.disk.set_limit(bytes);
    }

    /// The [name](crate::PoolBuilder::name) that the pool was built with; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.state.listeners.name()
    }

    /// Checks every invariant of the pool as a whole. For tests, while no other operation runs.
    ///
    /// # Panics
    /// If one does not hold.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        self.state.check_quiet();
    }

    /// Frees what is kept only for reuse: recycled frames and free blocks of the temp file, which are this
    /// pool's; and the memory that the process keeps warm for all its pools and buffers.
    ///
    /// After much was dropped this takes as long as the file system needs to free its blocks, some
    /// 60 ms for a gigabyte.
    pub fn trim(&self) {
        self.state.trim();
    }
}

/// Shows the name and the figures, and nothing of the buffers.
impl fmt::Debug for SpillPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("SpillPool")
            .field("name", &self.name())
            .field("memory_used", &stats.memory_used)
            .field("memory_limit", &stats.memory_limit)
            .field("disk_used", &stats.disk_used)
            .field("disk_limit", &stats.disk_limit)
            .field("buffers", &stats.buffers)
            .finish_non_exhaustive()
    }
}
