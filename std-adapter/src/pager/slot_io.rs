//! A buffer's slots, charged to its disk limit and the pool's, and transfers to and from them, counted.
//!
//! Promises:
//!
//! - I6: a slot is charged before it is allocated. A slot that is refused leaves no charge.
//! - Each transfer is counted once for the pool and once for the buffer, whether it succeeds or fails.
//!
//! Held by: `tests/tests/pool_stats.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults`.

use crate::disk::backing::Backing;
use crate::disk::slots::{Fit, Slot, SlotLen};
use crate::disk::transfer;
use crate::error::{DiskLimitScope, SpillError};
use crate::memory::budget::Refused;
use crate::observe::counters::IoPath;
use crate::observe::events::Event;
use crate::observe::stats::IoCounts;
use crate::pager::state::Pager;
use crate::try_box::TryBox;
use std::fs::File;
use std::io::IoSlice;

impl Pager {
    fn backing(&self) -> Backing<'_> {
        Backing { disk: &self.pool.disk, own: self.own().map(|own| &**own) }
    }

    /// Allocates a slot for the first `bytes` bytes of page `index`. Fails at either disk limit, or if the
    /// own file cannot be made.
    pub(crate) fn allocate_slot(&mut self, index: u64, bytes: usize, fit: Fit) -> Result<Slot, SpillError> {
        let (backing, usage) = (self.backing(), &self.usage().disk);
        let requested = backing.slot_bytes(bytes, fit);
        self.charge_usage(requested)?;
        backing.allocate(index, bytes, fit, self.ticket()).inspect_err(|_| usage.release(requested))
    }

    /// Allocates a slot for the first `bytes` bytes of page `index`, as long as `len` says.
    pub(crate) fn allocate(&mut self, index: u64, bytes: usize, len: SlotLen) -> Result<Slot, SpillError> {
        match len {
            SlotLen::ToGrow(len) if len > bytes => self.allocate_to_grow(index, len, bytes),
            SlotLen::ToGrow(_) => self.allocate_slot(index, bytes, Fit::Blocks),
            SlotLen::Exact(fit) => self.allocate_slot(index, bytes, fit),
        }
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

    /// Allocates a slot for page `index`, in which it can grow to `room` bytes, charged as far as its first
    /// `end` need. Wakes nobody if that fails.
    ///
    /// A warm slot is charged whole, though it saves fresh blocks. Below a limit it is used only if
    /// half of it is to be written: else small content would take many times what it takes of the
    /// limit in a cold slot.
    pub(crate) fn allocate_to_grow(
        &mut self,
        index: u64,
        room: usize,
        end: usize,
    ) -> Result<Slot, SpillError> {
        if self.own().is_some() {
            return self.allocate_slot(index, room, Fit::Blocks); // as long as a page, and charged whole
        }
        // A limit of the buffer's own may have no room for all of a warm slot. So with one the slot is cold,
        // and not charged yet; without one, nothing refuses the charge.
        let fills_half = end >= room / 2 || !self.pool.disk.quota().is_limited();
        let may_be_warm = self.usage().disk.limit() == u64::MAX && fills_half;
        let slot = self.pool.disk.allocate_growable(room, may_be_warm)?;
        self.charge_usage(slot.charged()).inspect_err(|_| self.backing().free_quietly(slot))?;
        self.charge_slot(slot, end).inspect_err(|_| self.free_quietly(slot))
    }

    /// Charges `slot` as far as its first `end` bytes need. On an error nothing has changed.
    pub(crate) fn charge_slot(&mut self, slot: Slot, end: usize) -> Result<Slot, SpillError> {
        let more = slot.charge_for(end) - slot.charged();
        if more == 0 {
            return Ok(slot);
        }
        self.charge_usage(more)?;
        let usage = &self.usage().disk;
        self.backing().charge_to(slot, end, self.ticket()).inspect_err(|_| usage.release(more))
    }

    /// Takes back what was charged for `slot` beyond what it was `before`. Wakes nobody.
    pub(crate) fn discharge_quietly(&self, slot: Slot, before: Slot) {
        self.usage().disk.release(slot.charged() - before.charged());
        self.backing().discharge_quietly(slot, before);
    }

    /// Reserves `bytes` below the buffer's own disk limit.
    fn charge_usage(&self, bytes: u64) -> Result<(), SpillError> {
        self.usage().disk.reserve(bytes).map(drop).map_err(|refused| refused_by_own(refused, bytes))
    }

    /// Whether the first `end` bytes of a page would find room below both disk limits: in its `slot`, or else
    /// in a new one. Takes none, so nothing else is refused for it; another may take the room meanwhile.
    #[cfg(feature = "tokio")]
    pub(crate) fn check_room(&self, slot: Option<Slot>, end: usize) -> Result<(), SpillError> {
        let bytes = slot.map_or_else(
            || self.backing().charge_to_grow(end, Fit::Blocks),
            |slot| slot.charge_for(end) - slot.charged(),
        );
        self.usage().disk.check(bytes).map_err(|refused| refused_by_own(refused, bytes))?;
        self.pool.disk.quota().check_for_slot(bytes, self.ticket())
    }

    pub(crate) fn free_slot(&self, slot: Slot) {
        self.usage().disk.release(slot.charged());
        self.backing().free(slot);
    }

    /// Frees a slot in the middle of something, and wakes nobody; see [`Backing::free_quietly`].
    pub(crate) fn free_quietly(&self, slot: Slot) {
        self.usage().disk.release(slot.charged());
        self.backing().free_quietly(slot);
    }

    /// Frees slots in the middle of a cut, which [`end_freeing`](Pager::end_freeing) ends.
    pub(crate) fn free_all_quietly(&self, slots: &[Slot]) {
        self.usage().disk.release(slots.iter().map(|slot| slot.charged()).sum());
        self.backing().free_all_quietly(slots);
    }

    /// See [`Backing::end_freeing`].
    pub(crate) fn end_freeing(&self, bytes: u64) {
        if bytes > 0 {
            self.backing().end_freeing(bytes);
        }
    }

    /// See [`transfer::read`].
    pub(crate) fn read_store(&mut self, path: IoPath, offset: u64, buf: &mut [u8]) -> Result<(), SpillError> {
        let mut counts = IoCounts::default();
        let read = transfer::read(&self.backing(), offset, buf, &mut counts);
        self.count_transfer(path, counts, read.as_ref().err());
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
        let written = transfer::write(&self.backing(), offset, data, &mut counts);
        self.count_transfer(path, counts, written.1.as_ref().err());
        written
    }

    /// As [`write_store`](Pager::write_store), of several parts in one call.
    pub(crate) fn write_store_parts(
        &mut self,
        path: IoPath,
        offset: u64,
        parts: &mut [IoSlice<'_>],
    ) -> (usize, Result<(), SpillError>) {
        let mut counts = IoCounts::default();
        let written = transfer::write_parts(&self.backing(), offset, parts, &mut counts);
        self.count_transfer(path, counts, written.1.as_ref().err());
        written
    }

    /// Copies up to `len` bytes from `offset` in the store to `file`, at `at` there, and returns how many:
    /// see [`transfer::copy_to_file`]. Not for bytes that have checksums.
    pub(crate) fn copy_store_to(&mut self, offset: u64, len: usize, file: &File, at: u64) -> usize {
        let mut counts = IoCounts::default();
        let copied = transfer::copy_to_file(&self.backing(), offset, len, file, at, &mut counts);
        self.count_io(IoPath::Direct, counts);
        copied
    }

    /// Copies up to `len` bytes of `file`, from `at` there, to `offset` in the store, and returns how many.
    /// Not for bytes that get checksums.
    pub(crate) fn copy_store_from(&mut self, offset: u64, len: usize, file: &File, at: u64) -> usize {
        let mut counts = IoCounts::default();
        let copied = transfer::copy_from_file(&self.backing(), offset, len, file, at, &mut counts);
        self.count_io(IoPath::Direct, counts);
        copied
    }

    /// Counts a transfer, and notes its error, to be told at the end of the operation: its page, or a slot,
    /// may be in no table now.
    fn count_transfer(&mut self, path: IoPath, counts: IoCounts, error: Option<&SpillError>) {
        self.count_io(path, counts);
        if let Some(event) = self.pool.listeners.event_of_errors(&counts, error) {
            self.note_failure(event);
        }
    }

    /// Notes that the store failed. Without memory for that, it is not told.
    #[cold]
    fn note_failure(&mut self, event: Event) {
        let Some(cold) = self.cold() else { return };
        if cold.failures.is_none() {
            cold.failures = TryBox::new(Vec::new());
        }
        if let Some(failures) = &mut cold.failures
            && failures.try_reserve(1).is_ok()
        {
            failures.push(event);
        }
    }

    /// Tells that the store failed, if it did. For the end of an operation: with nothing pinned, and each
    /// page and slot in the table.
    #[inline]
    pub(crate) fn tell_failures(&mut self) {
        let Some(failures) = self.cold_if_any().and_then(|cold| cold.failures.take()) else { return };
        let [failures] = *failures.into_box();
        failures.into_iter().for_each(|event| self.pool.listeners.notify(event));
    }

    /// Counts a block that does not have its checksum, and returns the error. `position` is in the content,
    /// `offset` in the store; `len` is in bytes.
    #[cold]
    pub(crate) fn corrupted(&mut self, path: IoPath, position: u64, offset: u64, len: usize) -> SpillError {
        let error = SpillError::Corrupted { position, offset, len: len as u64 };
        self.count_transfer(path, IoCounts { errors: 1, ..IoCounts::default() }, Some(&error));
        error
    }

    pub(crate) fn count_io(&mut self, path: IoPath, counts: IoCounts) {
        self.pool.counters.count_io(path, &counts);
        self.note_io(counts);
    }

    /// Counts what the pool has counted already.
    pub(crate) fn note_io(&mut self, counts: IoCounts) {
        // Without memory for the buffer's own counts, the pool's have it.
        if let Some(cold) = self.cold() {
            cold.io = cold.io + counts;
        }
        self.tell_requested();
    }
}

/// For a request of `bytes` that the buffer's own disk limit refuses.
fn refused_by_own(refused: Refused, bytes: u64) -> SpillError {
    SpillError::disk_limit(refused.limit, refused.used, bytes, DiskLimitScope::Buffer)
}
