//! A buffer's slots, charged to its disk limit and the pool's, and transfers to and from them, counted.
//!
//! Promises:
//!
//! - I6: a slot is charged before it is allocated. A slot that is refused leaves no charge.
//! - Each transfer is counted once for the pool and once for the buffer, whether it succeeds or fails.
//!
//! Held by: `tests/tests/pool_stats.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults`.

use crate::disk::backing::Backing;
use crate::disk::slots::Slot;
use crate::disk::transfer;
use crate::error::{DiskLimitScope, SpillError};
use crate::memory::budget::Refused;
use crate::observe::counters::IoPath;
use crate::observe::stats::IoCounts;
use crate::pager::state::Pager;

impl Pager {
    fn backing(&self) -> Backing<'_> {
        Backing { disk: &self.pool.disk, own: self.own().map(|own| &**own) }
    }

    /// Allocates a slot for the first `bytes` bytes of page `index`. Fails at either disk limit, or if the
    /// own file cannot be made.
    pub(crate) fn allocate_slot(&mut self, index: u64, bytes: usize) -> Result<Slot, SpillError> {
        let (backing, usage) = (self.backing(), &self.usage().disk);
        let requested = backing.slot_bytes(bytes);
        let refused = |refused: Refused| {
            SpillError::disk_limit(refused.limit, refused.used, requested, DiskLimitScope::Buffer)
        };
        usage.reserve(requested).map_err(refused)?;
        backing.allocate(index, bytes, self.ticket()).inspect_err(|_| usage.release(requested))
    }

    /// Allocates the slot at `offset`, as long as a page, for page `index`; `None` if it is in use or over a
    /// limit.
    pub(crate) fn allocate_slot_at(&mut self, index: u64, offset: u64) -> Option<Slot> {
        let (backing, usage) = (self.backing(), &self.usage().disk);
        let requested = self.pool.page_size as u64;
        usage.reserve(requested).ok()?;
        let slot = backing.allocate_at(index, offset);
        if slot.is_none() {
            usage.release(requested);
        }
        slot
    }

    pub(crate) fn free_slot(&self, slot: Slot) {
        self.usage().disk.release(slot.len());
        self.backing().free(slot);
    }

    /// See [`transfer::read`].
    pub(crate) fn read_store(&mut self, path: IoPath, offset: u64, buf: &mut [u8]) -> Result<(), SpillError> {
        let mut counts = IoCounts::default();
        let read = transfer::read(self.backing().store(), offset, buf, &mut counts);
        self.count_io(path, counts);
        read
    }

    /// See [`transfer::write()`].
    pub(crate) fn write_store(
        &mut self,
        path: IoPath,
        offset: u64,
        data: &[u8],
    ) -> (usize, Result<(), SpillError>) {
        let mut counts = IoCounts::default();
        let written = transfer::write(self.backing().store(), offset, data, &mut counts);
        self.count_io(path, counts);
        written
    }

    fn count_io(&mut self, path: IoPath, counts: IoCounts) {
        self.pool.counters.count_io(path, &counts);
        let cold = self.cold();
        cold.io = cold.io + counts;
        self.tell_requested();
    }
}
