//! The state of a buffer's pager: its table, its pool, its length and the end of its last access.
//!
//! Promises:
//!
//! - A dropped pager frees all its slots and frames, except a frame that its table keeps for reuse.
//! - An empty buffer has no table of its own until its first byte, unless the pool had a cached one.
//!
//! Held by: the tests below, `tests/tests/pool_memory.rs`, `tests/tests/pool_stress.rs`,
//! `std-adapter/src/models.rs` (loom).

use crate::disk::own_file::OwnFile;
use crate::error::SpillError;
use crate::observe::events::Event;
use crate::observe::stats::{BufferStats, ByteCounts, IoCounts};
use crate::pager::base::Base;
use crate::pager::descent::Descent;
use crate::pager::loan::Loan;
use crate::pager::reader::Reader;
use crate::pager::span::Span;
use crate::pager::wait_state::WaitState;
use crate::pages::page::low_bits;
use crate::pages::table::Table;
use crate::pages::usage::Usage;
use crate::pool::leftover::{Leftover, PoolRef};
use crate::pool::member::OwnTable;
use crate::pool::private;
use crate::pool::state::PoolState;
use crate::pool::tables::{close_buffer, open_buffer};
use crate::sync::Arc;
use crate::try_box::TryBox;
use std::alloc::{Layout, handle_alloc_error};
use std::mem::ManuallyDrop;

/// One buffer's pages: the medium below its cursor.
#[derive(Debug)]
pub(crate) struct Pager {
    /// `None` until the buffer needs one, unless there was a cached one: many buffers of a pool may be empty.
    pub(crate) own_table: Option<OwnTable>,
    pub(crate) pool: PoolRef,
    pub(crate) len: u64,
    /// The end of the last access that missed the window. An access that starts there is sequential. Set by
    /// [`access`](Pager::access) to the end of what is to be moved, and by its callers to that of what was.
    pub(crate) last_end: u64,
    /// What callers have read and written.
    pub(crate) requested: ByteCounts,
    /// Boxed and allocated on first use: a pool may have many small buffers, and each byte of a pager counts.
    /// The drop takes it out, so that nothing is left to look for.
    cold: ManuallyDrop<Option<TryBox<ColdState>>>,
}

/// State that many buffers never need: of a buffer that has lent a chunk, done I/O, was cloned, or
/// has a [`WaitState`].
#[derive(Debug, Default)]
pub(crate) struct ColdState {
    pub(crate) loan: Option<TryBox<Loan>>,
    pub(crate) io: IoCounts,
    /// What the pool has counted of `requested`.
    told: ByteCounts,
    pub(crate) wait_state: Option<TryBox<WaitState>>,
    pub(crate) descent: Descent,
    /// Whether the buffer's own memory limit had no room for the frame that it last did not find.
    is_bound: bool,
    /// The page behind those that were made ready for a pass, and whether that is a long one.
    #[cfg(feature = "tokio")]
    pub(crate) ready_to: u64,
    #[cfg(feature = "tokio")]
    pub(crate) is_long_pass: bool,
    /// Operations on an event loop, since a job was done for the last, that went on nowhere. At most 255.
    #[cfg(feature = "tokio")]
    pub(crate) jumps: u8,
    /// Failures of the store in the current operation.
    pub(crate) failures: Option<TryBox<Vec<Event>>>,
    /// What it shares with its clones.
    pub(crate) base: Option<Base>,
    /// Its window on that.
    pub(crate) below: Option<TryBox<Reader>>,
}

impl Pager {
    /// A pager without content, in a pool of many.
    #[inline]
    pub(crate) fn new(pool: &Arc<PoolState>) -> Self {
        Pager::of(open_buffer(pool))
    }

    /// A pager without content, of what another has left.
    #[inline]
    pub(crate) fn of(leftover: Leftover) -> Self {
        Pager::with_table(leftover.table, leftover.pool, 0)
    }

    /// A pager of `len` bytes with a table that has pages already.
    pub(crate) fn with_table(own_table: Option<OwnTable>, pool: Arc<PoolState>, len: u64) -> Self {
        let pool = PoolRef::new(pool);
        Pager {
            own_table,
            pool,
            len,
            last_end: 0,
            requested: ByteCounts::default(),
            cold: ManuallyDrop::new(None),
        }
    }

    pub(crate) fn stats(&self) -> BufferStats {
        let usage = self.usage_if_any();
        BufferStats {
            memory_used: usage.map_or(0, |usage| usage.memory.used()) + self.bytes_below(),
            disk_used: usage.map_or(0, |usage| usage.disk.used()),
            spills: usage.map_or(0, Usage::spills),
            requested: self.requested,
            io: self.cold.as_ref().map_or_else(IoCounts::default, |cold| cold.io),
        }
    }

    /// Adds what callers have requested to the pool's count, if the store was used for this buffer, be it by
    /// the pool alone. So a buffer that stays in memory costs the pool's counters, which threads share,
    /// nothing.
    #[inline]
    pub(crate) fn tell_requested(&mut self) {
        let (requested, has_spilled) = (self.requested, self.has_spilled());
        if let Some(cold) = self.cold.as_deref_mut()
            && (has_spilled || cold.io != IoCounts::default())
        {
            let told = std::mem::replace(&mut cold.told, requested);
            self.pool.counters.count_requested(&requested.since(&told));
        }
    }

    /// Whether a page was written to the store, by the buffer or by the pool, since the buffer was made.
    #[inline]
    fn has_spilled(&self) -> bool {
        self.usage_if_any().is_some_and(|usage| usage.spills() > 0)
    }

    /// Sets the buffer's own limits, in bytes, on top of the pool's. Only for an empty buffer.
    pub(crate) fn limit(&mut self, memory: u64, disk: u64) {
        debug_assert_eq!(self.len, 0);
        self.need_table();
        self.usage().memory.set_limit(memory);
        self.usage().disk.set_limit(disk);
        // A recycled table may have brought a frame, which the new limit does not allow.
        if self.usage().memory.used() > memory {
            self.truncate(0);
        }
    }

    /// Closes the file of a buffer without a pool, if nothing of it is spilled any more. For an empty buffer.
    pub(crate) fn leave_empty_file(&mut self) {
        debug_assert_eq!(self.len, 0);
        if let Some(pool) = private::renewed(&self.pool) {
            self.pool = PoolRef::new(pool);
        }
    }

    /// An error if the table cannot be entered: see [`Owner::check`](crate::sync::biased::Owner::check). What
    /// enters it outside the window checks that first.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), SpillError> {
        Ok(self.own_table.as_ref().map_or(Ok(()), OwnTable::check)?)
    }

    /// The table, which a buffer has from its first access to a page on.
    pub(crate) fn own_table(&self) -> &OwnTable {
        self.own_table.as_ref().expect("a buffer has a table before it has a page")
    }

    /// Makes sure that the buffer has a table. An error if there is no memory for one.
    pub(crate) fn try_table(&mut self) -> Result<(), SpillError> {
        if self.own_table.is_none() {
            self.own_table = Some(self.pool.open_table().ok_or(SpillError::OutOfMemory)?);
        }
        Ok(())
    }

    /// The table. Makes one if there is none, and ends the process if there is no memory for that: what may
    /// fail calls [`try_table`](Pager::try_table) before.
    #[inline]
    pub(crate) fn need_table(&mut self) -> &mut OwnTable {
        let open = || self.pool.open_table().unwrap_or_else(|| handle_alloc_error(Layout::new::<Table>()));
        self.own_table.get_or_insert_with(open)
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.own_table().unlocked().usage
    }

    /// What the buffer uses; `None` if that is nothing, because it has no table yet.
    pub(crate) fn usage_if_any(&self) -> Option<&Usage> {
        self.own_table.as_ref().map(|table| &table.unlocked().usage)
    }

    /// The limits of memory and disk as they are now: the pool's, or the buffer's own if they are lower.
    #[cfg(feature = "http-body")]
    fn limits(&self) -> (u64, u64) {
        let (memory, disk) = (self.pool.frames.budget().limit(), self.pool.disk.quota().limit());
        let own = self.usage_if_any();
        own.map_or((memory, disk), |own| (memory.min(own.memory.limit()), disk.min(own.disk.limit())))
    }

    /// The most bytes that the buffer could have if its pool had no other, by the limits.
    #[cfg(feature = "http-body")]
    pub(crate) fn room_of_limits(&self) -> u64 {
        let (memory, disk) = self.limits();
        memory.saturating_add(disk)
    }

    /// Whether the buffer, to which the pool has refused `requested` bytes of the disk, has the pool for
    /// itself and no room there. Frames and slots are whole, so it may have less than the
    /// [`room_of_limits`](Pager::room_of_limits) by then.
    #[cfg(feature = "http-body")]
    pub(crate) fn fills_pool(&self, requested: u64) -> bool {
        let ((_, disk), frames) = (self.limits(), &self.pool.frames);
        let on_disk = self.usage_if_any().map_or(0, |own| own.disk.used());
        let in_use = frames.budget().used().saturating_sub(frames.recycled_bytes());
        let is_alone = self.pool.disk.quota().used() <= on_disk && in_use <= self.bytes_in_memory();
        is_alone && on_disk.saturating_add(requested) > disk
    }

    /// Bytes of the buffer's frames and slots.
    pub(crate) fn bytes_held(&self) -> u64 {
        self.bytes_in_memory() + self.usage_if_any().map_or(0, |usage| usage.disk.used())
    }

    /// Bytes of the buffer's frames.
    pub(crate) fn bytes_in_memory(&self) -> u64 {
        self.usage_if_any().map_or(0, |usage| usage.memory.used())
    }

    /// The buffer's own file, if it spills to one instead of the pool's store.
    pub(crate) fn own(&self) -> Option<&Arc<OwnFile>> {
        self.own_table.as_ref()?.unlocked().own()
    }

    /// The cold state, allocated on first use. `None` if there is no memory for it.
    pub(crate) fn cold(&mut self) -> Option<&mut ColdState> {
        if self.cold.is_none() {
            *self.cold = TryBox::new(ColdState::default());
        }
        self.cold.as_deref_mut()
    }

    pub(crate) fn cold_ref(&self) -> Option<&ColdState> {
        self.cold.as_deref()
    }

    pub(crate) fn cold_if_any(&mut self) -> Option<&mut ColdState> {
        self.cold.as_deref_mut()
    }

    /// Notes, of a frame of `len` bytes that was not found, whether the buffer's own memory limit has room
    /// for it. Without memory to note that, it seems so.
    pub(crate) fn note_refusal(&mut self, len: u64) {
        let memory = &self.usage().memory;
        let is_bound = len > memory.limit().saturating_sub(memory.used());
        let cold = if is_bound { self.cold() } else { self.cold_if_any() };
        cold.into_iter().for_each(|cold| cold.is_bound = is_bound);
    }

    /// Whether it had none.
    pub(crate) fn is_bound(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.is_bound)
    }

    /// Runs `f` on the table, inside its biased lock. `f` must not do I/O (I5).
    #[inline]
    pub(crate) fn table<R>(&mut self, f: impl FnOnce(&mut Table) -> R) -> R {
        self.need_table().with(f)
    }

    /// The part of `len` bytes at `offset` that lies in the page of `offset`.
    pub(crate) fn span(&self, offset: u64, len: usize) -> Span {
        let page = self.pool.page_size;
        let at = low_bits(offset, page.trailing_zeros());
        Span { index: offset >> page.trailing_zeros(), at, part: len.min(page - at) }
    }
}

impl Drop for Pager {
    #[inline]
    fn drop(&mut self) {
        if self.cold.is_some() || self.has_spilled() || !self.retire() {
            self.empty();
        }
        close_buffer(Leftover { table: self.own_table.take(), pool: self.pool.take() });
    }
}

impl Pager {
    /// Empties the table for another buffer if that takes no more than [`Table::retire`] does.
    /// True if there is none.
    #[inline]
    fn retire(&mut self) -> bool {
        self.own_table.as_mut().is_none_or(|table| table.try_with(Table::retire) == Some(true))
    }

    /// Frees what the buffer holds, but for a frame that its table may keep. For the drop.
    #[cold]
    fn empty(&mut self) {
        if self.cold.is_some() {
            self.tell_requested();
        } else if self.has_spilled() {
            self.pool.counters.count_requested(&self.requested); // nothing of it was told
        }
        self.tell_failures();
        if self.check().is_err() {
            std::mem::forget(self.own_table.take()); // its slots and frames are lost
        }
        if self.own_table.is_some() {
            self.empty_table();
        }
        drop(self.cold.take()); // what it shared may be in the same pool
    }

    fn empty_table(&mut self) {
        self.end_loan();
        if let Some(own) = self.own() {
            own.detach(); // the file is not read again, so its pages need not be cleared one by one
        }
        if !self.table(Table::retire) {
            // All but the first page, whose frame may stay with the table: the next buffer
            // need not grow one again.
            let page_size = self.pool.page_size as u64;
            let mut freed = if self.len > page_size { self.cut(page_size) } else { 0 };
            if !self.table(Table::retire) {
                freed += self.cut(0);
            }
            self.end_freeing(freed);
        }
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use crate::api::buffer::SpillBuffer;
    use crate::api::pool::SpillPool;
    use crate::pool::private;
    use std::io::{BufRead, Read, Seek, Write};

    /// A million empty buffers cost 288 bytes each, most of it for tables without a page; and the list of
    /// them kept 16 MB when they were gone.
    #[test]
    fn an_empty_buffer_has_no_table_and_leaves_nothing() {
        let _alone = private::ALONE.lock(); // `trim` drops the kept pools of the whole process
        assert!(size_of::<SpillBuffer>() <= 64);
        let pool = SpillPool::builder().memory(1 << 20).build().unwrap();
        let mut buffers: Vec<_> = (0..5000).map(|_| pool.buffer()).collect();
        for buffer in &mut buffers {
            assert_eq!(buffer.read(&mut [0; 10]).unwrap(), 0);
            assert!(buffer.fill_buf().unwrap().is_empty());
            buffer.consume(0);
            assert_eq!(buffer.write(&[]).unwrap(), 0);
            buffer.spill().unwrap();
            buffer.set_len(10).unwrap();
            buffer.clear();
            buffer.rewind().unwrap();
            assert!(!buffer.is_spilled() && buffer.stats() == SpillBuffer::new().stats());
            assert!(buffer.pager.own_table.is_none());
        }
        assert_eq!(pool.stats().buffers, 5000);
        for buffer in &mut buffers[1000..] {
            buffer.write_all(&[1; 100]).unwrap();
        }
        assert_eq!(pool.stats().buffers, 5000);
        drop(buffers);
        assert_eq!(pool.stats().buffers, 0);
        pool.trim();
        let registry = pool.state.registry.as_ref().unwrap();
        assert_eq!(registry.capacity(), 0);
        pool.check_invariants();
    }

    /// A buffer that was made while no table was cached uses one that is cached when it needs one.
    #[test]
    fn a_buffer_uses_the_table_of_one_that_was_dropped_after_it_was_made() {
        let pool = SpillPool::builder().memory(1 << 20).build().unwrap();
        let (mut first, mut second) = (pool.buffer(), pool.buffer());
        first.write_all(b"first").unwrap();
        drop(first);
        assert!(pool.stats().memory_recycled + pool.stats().memory_used > 0, "its table keeps a frame");
        second.write_all(b"second").unwrap();
        second.rewind().unwrap();
        let mut content = String::new();
        second.read_to_string(&mut content).unwrap();
        assert_eq!((&content[..], pool.stats().buffers), ("second", 1));
        assert_eq!(pool.state.registry.as_ref().unwrap().tables().0.len(), 1, "there is one table");
        second.check_invariants();
        drop(second);
        pool.check_invariants();
    }
}
