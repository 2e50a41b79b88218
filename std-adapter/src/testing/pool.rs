//! A small pool that needs no file system, described by a plain value.
//!
//! Held by: the tests of `from_bytes.rs`, and all targets in `fuzz/` over pools.

use super::{Fault, FaultPlan, FaultStore, Faults};
use crate::api::pool::SpillPool;
use crate::disk::memory_store::MemoryStore;
use crate::pages::sums::Checksums;

/// A pool over a [`MemoryStore`], with pages so small that every boundary is near, and with planned faults.
///
/// It does not depend on the machine, the clock or the file system. Only
/// [`into_file`](crate::SpillBuffer::into_file) and [`persist`](crate::SpillBuffer::persist) still make
/// files.
///
/// ```
/// use overspill::testing::PoolPlan;
/// use std::io::Write;
///
/// let (pool, faults) = PoolPlan::default().pool(); // pages of 8 bytes, none of them in memory
/// pool.buffer().write_all(b"to the store")?;
/// assert_eq!((faults.calls() > 0, faults.failed()), (true, 0));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPlan {
    /// The size of a page in bytes: a power of two from 1 byte to 16 MiB.
    pub page_size: usize,
    /// The memory limit in bytes.
    pub memory: usize,
    /// The disk limit in bytes.
    pub disk: u64,
    /// Whether bytes read back are checked. With checksums, a small write first reads the rest of its block.
    pub checksums: Checksums,
    /// The faults of the store.
    pub faults: FaultPlan,
}

impl PoolPlan {
    /// Adds a fault.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults = self.faults.with(fault);
        self
    }

    /// Builds the pool, and returns it with the handle of its store's faults.
    ///
    /// # Panics
    /// If `page_size` is out of range.
    #[must_use]
    pub fn pool(self) -> (SpillPool, Faults) {
        let (store, faults) = FaultStore::new(MemoryStore::new(), self.faults);
        let builder = SpillPool::builder().memory(self.memory).disk(self.disk).page_size(self.page_size);
        let pool = builder.checksums(self.checksums).store(store).build();
        (pool.unwrap_or_else(|error| panic!("this plan makes no pool: {error}")), faults)
    }
}

/// Pages of 8 bytes, no memory, no disk limit, no checksums, no faults.
impl Default for PoolPlan {
    fn default() -> Self {
        let (checksums, faults) = (Checksums::Off, FaultPlan::new());
        PoolPlan { page_size: 8, memory: 0, disk: u64::MAX, checksums, faults }
    }
}
