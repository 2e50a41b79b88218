//! The supply of frames: where they come from when memory is short, and how the pool gets below a lowered
//! limit.
//!
//! Sources, in the order in which they are tried:
//!
//! | | source | tried by |
//! |---|---|---|
//! | 1 | recycled frames, and what the budget has left | [`FramePool::acquire`](crate::memory::frame_pool::FramePool::acquire) |
//! | 2 | the frames of spare tables | [`PoolState::spare_frame`] |
//! | 3 | pages of other buffers | [`Registry::find_donors`], [`PoolState::reclaim`] |
//! | 4 | a page of the requester's own | the pager |
//! | 5 | none: the bytes go straight to the store | the pager |
//!
//! Promises:
//!
//! - A request tries a bounded number of donors in use, and of those that the store refuses. It waits for no
//!   owner.
//! - A lowered memory limit is kept at once, but for pages that are in use or cannot be written. Those follow
//!   at their owner's next access outside the window, refill or end of a loan (`Pager::keep_limit`).
//! - Memory that comes free wakes the waiters for disk room, since their bytes may then need no disk: at the end of the
//!   operation that frees it, with nothing locked and no page on its way.
//!
//! # Who is told
//!
//! Some paths told the waiters, and others did not: an outgrown frame, that of a page that could not grow,
//! one that was taken for a load, a copy or a hand-over and given back, a page that left at the end of its
//! loan. So telling is no longer a matter of the path. A frame that is dropped or recycled notes that in its
//! budget, and what ends an operation looks there ([`PoolState::tell_waiters`], in `Pager::end_operation` and
//! in each call of the pool). Of the same kind, and in order: slots, whose release serves the queue, at once
//! or at the end of a reclaim; tickets that leave or request less; limits. Not told are a frame that the
//! allocator refuses, and a buffer of what it has only taken and given back itself (`Pager::give_back`): it
//! would wake itself for ever. An attempt that fails for want of disk frees no frame otherwise that it would
//! take again, so waiters do not keep each other awake: a page gets its longer slot before it gets a frame,
//! and what the disk refuses takes what is left of the memory only then.
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/pool_stats.rs`, `tests/tests/when_full.rs`,
//! `tests/tests/told.rs`, `tests/tests/pool_stress.rs`, `std-adapter/src/models.rs` (loom).

use crate::disk::store_access;
use crate::memory::frame::Frame;
use crate::memory::page_frame::PageFrame;
use crate::observe::stats::SpillReason;
use crate::pages::table::Table;
use crate::pool::member::{Member, OwnTable, PeerTable};
use crate::pool::private;
use crate::pool::reclaim::{Reclaimed, Take};
use crate::pool::registry::{Demand, Effort, Registry};
use crate::pool::spare::Spare;
use crate::pool::state::PoolState;
use crate::pool::thread_cache;
use crate::sync::{Arc, Ordering};

/// Reclaims that bring a request no nearer to its frame, after which it turns to the next source.
const FRUITLESS_MAX: u32 = 4;

/// Rounds over all tables to get below a lowered limit. A page that is in use in all of them leaves at its
/// owner's next access outside the window, refill or end of a loan.
const ROUNDS_MAX: u32 = 4;

/// Buffers that pages are reclaimed from at once when the limit is lowered. One heavy fence serves all of
/// them: with a fence and a write for each, 100,000 bodies of 600 bytes took three times as long to leave.
const DONORS_AT_ONCE: usize = 256;

/// Pages that are reclaimed from one buffer at once when the limit is lowered. Threads that write to one file
/// contend at each call, and one call for 16 pages of 64 KiB takes a fifth less time than 16 calls.
const PAGES_AT_ONCE: usize = 16;

/// Counts a new buffer of a shared pool, and returns a cached table for it if there is one. Otherwise it gets one by
/// [`open_table`](PoolState::open_table) when it needs one.
#[inline]
pub(crate) fn open_buffer(pool: &Arc<PoolState>) -> Spare {
    thread_cache::take(pool).and_then(Spare::enterable).unwrap_or_else(|| open_buffer_of_all(pool))
}

#[inline(never)]
fn open_buffer_of_all(pool: &Arc<PoolState>) -> Spare {
    let table = pool.cached_table();
    if table.is_none() {
        pool.population.fetch_add(1, Ordering::Relaxed);
    }
    Spare { table, pool: Arc::clone(pool) }
}

/// Takes what a dropped buffer leaves, to keep it for another or to drop it. Its table has no pages; it may have one empty
/// frame of 64 KiB at most. A table with a file of its own is dropped, since the file cannot be unset.
pub(crate) fn close_buffer(spare: Spare) {
    let Spare { table, pool } = &spare;
    let Some(table) = table else {
        if pool.registry.is_none() {
            return private::close(spare);
        }
        pool.population.fetch_sub(1, Ordering::Relaxed);
        return;
    };
    table.unlocked().usage.reset();
    if table.unlocked().own().is_some() || pool.frames.is_over() {
        pool.drop_table(table);
        let pool = Arc::clone(pool);
        drop(spare);
        pool.tell_waiters();
    } else if pool.registry.is_none() {
        private::close(spare);
    } else if pool.may_be_kept_by_thread() {
        pool.note_spares();
        if let Some(spare) = thread_cache::put(spare) {
            put_in_place_of_another(spare);
        }
    } else {
        cache_for_all(spare);
    }
}

#[cold]
fn put_in_place_of_another(spare: Spare) {
    let other = thread_cache::make_room();
    // No foreign code in between, such as a waker, which may drop a buffer too.
    for spare in [thread_cache::put(spare), other].into_iter().flatten() {
        cache_for_all(spare);
    }
}

/// Keeps a table without pages for a buffer of any thread, or drops it if there are enough.
#[inline(never)]
fn cache_for_all(spare: Spare) {
    let Spare { table: Some(table), pool } = spare else { return };
    let held = table.unlocked().usage.memory.used();
    // Its pages have woken the waiters already. What is left is the frame of the table, if there is one.
    if let Some(table) = pool.table_cache.push(table) {
        pool.drop_table(&table);
        drop(table);
        pool.tell_waiters();
    } else if held > 0 {
        // Spare now. Not noted first, which would be an atomic exchange more for each small body.
        pool.note_spares();
        pool.disk.quota().wake_waiters();
    }
}

impl PoolState {
    /// A cached table that can be entered.
    #[inline]
    fn cached_table(&self) -> Option<OwnTable> {
        let cached = self.table_cache.pop()?;
        if cached.check().is_ok() {
            return Some(cached);
        }
        std::mem::forget(cached);
        None
    }

    /// A table for a buffer that has none: a cached one, or a new one that is now registered. `None` if there is no memory.
    #[cold]
    pub(crate) fn open_table(&self) -> Option<OwnTable> {
        let kept = || thread_cache::take(self).and_then(Spare::enterable)?.table;
        if let Some(cached) = kept().or_else(|| self.cached_table()) {
            self.population.fetch_sub(1, Ordering::Relaxed);
            return Some(cached);
        }
        let (table, member) = (Table::new(self.page_size), Member::new());
        let Some(registry) = &self.registry else { return OwnTable::private(table, member) };
        let table = OwnTable::new(table, member)?;
        registry.register(&table);
        Some(table)
    }

    /// Unregisters the table of a reader, which has no page and counts as no buffer.
    pub(crate) fn close_reader(&self, table: &OwnTable) {
        if let Some(registry) = &self.registry {
            registry.unregister(table);
        }
    }

    fn drop_table(&self, table: &OwnTable) {
        self.population.fetch_sub(1, Ordering::Relaxed);
        if let Some(registry) = &self.registry {
            registry.unregister(table);
        }
    }

    /// Whether a thread may keep a table: not if memory is short, or was missed by who waits now, and not without handles. Who begins to
    /// wait just now, while others take what is ample here, is woken by what comes free next.
    #[inline]
    fn may_be_kept_by_thread(&self) -> bool {
        self.frames.is_ample() && self.disk.quota().waiting() == 0 && self.handles.load(Ordering::Relaxed) > 0
    }

    /// Notes that there may be spare tables, so that they are looked for.
    #[inline]
    fn note_spares(&self) {
        if !self.has_spares.load(Ordering::Relaxed) {
            self.has_spares.store(true, Ordering::Relaxed);
        }
    }

    /// Drops all spare tables, if any were noted. Returns whether that freed any memory. One that is just being noted may be missed,
    /// until the next is. A buffer calls this for each page that it has no memory for.
    #[inline]
    pub(crate) fn drop_spares(&self) -> bool {
        self.has_spares.load(Ordering::Relaxed) && self.drop_noted_spares()
    }

    fn drop_noted_spares(&self) -> bool {
        self.has_spares.store(false, Ordering::Relaxed);
        let mut bytes = 0;
        let kept = thread_cache::take_all(self).filter_map(|spare| spare.table);
        for table in self.table_cache.drain().chain(kept) {
            bytes += table.unlocked().usage.memory.used();
            self.drop_table(&table);
        }
        bytes > 0
    }

    /// Notes that the last handle is gone, so that no thread keeps the pool.
    pub(crate) fn end(&self) {
        for spare in thread_cache::end(self) {
            cache_for_all(spare);
        }
    }

    /// Frees the memory that no buffer uses, and gives the blocks of freed slots back to the file system.
    pub(crate) fn trim(&self) {
        self.drop_noted_spares();
        if let Some(registry) = &self.registry {
            registry.trim();
        }
        private::trim();
        self.frames.trim();
        self.disk.trim_again();
        self.tell_waiters();
    }

    /// Wakes those that wait for disk room if memory came free since the last call. To be called at the end of each
    /// operation that may have freed some, with nothing locked and nothing under way: wakers are foreign code.
    #[inline]
    pub(crate) fn tell_waiters(&self) {
        if self.disk.quota().is_limited() && self.frames.take_freed() {
            self.disk.quota().wake_waiters();
        }
    }

    /// Whether there may be memory to spare for a frame of `len` bytes.
    #[inline]
    pub(crate) fn may_spare(&self, len: usize) -> bool {
        self.frames.may_acquire(len) || self.has_spares.load(Ordering::Relaxed)
    }

    /// Whether `table` is in the list of the pool's tables, if that has one. A request for memory adds one that is not.
    #[inline]
    pub(crate) fn is_listed(&self, table: &OwnTable) -> bool {
        self.registry.is_none() || Registry::is_registered(table)
    }

    /// A frame of `len` bytes, if that takes no page out of memory.
    pub(crate) fn spare_frame(&self, len: usize) -> Option<Frame> {
        self.frames.acquire(len).or_else(|| if self.drop_spares() { self.frames.acquire(len) } else { None })
    }

    /// A frame for `bytes` of a page of `requester`, which holds frames of `held` bytes. `None` if the
    /// sources that `effort` allows have none.
    pub(crate) fn acquire_frame(
        &self,
        bytes: usize,
        held: u64,
        effort: Effort,
        requester: &OwnTable,
    ) -> Option<Frame> {
        let len = self.frames.class(bytes);
        if effort == Effort::Ample {
            return self.frames.acquire_if_ample(len);
        }
        if let Some(frame) = self.spare_frame(len) {
            return Some(frame);
        }
        // Pages of others leave by way of the store.
        let may_reclaim = effort > Effort::Spare && !store_access::is_resident_only();
        let registry = self.registry.as_ref().filter(|_| may_reclaim)?;
        let demand = Demand {
            held,
            requested: len as u64,
            // The donor is one of at least two, though it may have had no need of memory lately.
            share: self.active_share().min(self.frames.budget().limit() / 2),
            share_of_all: self.fair_share(),
            limit: self.frames.budget().limit(),
            page: self.page_size as u64,
            effort,
        };
        self.frame_from_donors(registry, &demand, requester)
    }

    #[cold]
    fn frame_from_donors(&self, registry: &Registry, demand: &Demand, requester: &OwnTable) -> Option<Frame> {
        let len = self.frames.class(usize::try_from(demand.requested).ok()?);
        let mut fruitless = 0;
        while fruitless < FRUITLESS_MAX {
            let donors = registry.find_donors(demand, requester);
            if donors.is_empty() {
                return None;
            }
            match self.reclaim(&donors, SpillReason::Reclaimed, Take::pages(1)) {
                Reclaimed::Frames(mut frames) => {
                    let is_fitting = |frame: &PageFrame| !frame.is_given() && frame.capacity() == len;
                    let fitting = frames.iter().position(is_fitting).filter(|_| !self.frames.is_over());
                    let fitting = fitting.and_then(|at| frames.swap_remove(at).into_own());
                    // Given memory comes free with the last of its pages, and a lowered limit is kept first: either may take
                    // many rounds.
                    let is_far = self.frames.is_over() || frames.iter().any(PageFrame::is_given);
                    fruitless += u32::from(is_far);
                    // Recycle the others for the next requester. If none fits, freeing them may leave enough
                    // of the budget for a frame that does.
                    frames.into_iter().for_each(|frame| self.frames.recycle(frame));
                    let frame = fitting.or_else(|| self.spare_frame(len));
                    if frame.is_some() {
                        return frame;
                    }
                }
                Reclaimed::Nothing | Reclaimed::StoreRefused => fruitless += 1,
            }
        }
        None
    }

    /// Notes that the memory of a table has risen from 0, so that searches for donors find it. Returns false if it must hold none, for
    /// want of memory to note that.
    #[must_use]
    pub(crate) fn note_holder(&self, table: &OwnTable) -> bool {
        self.registry.as_ref().is_none_or(|registry| registry.note_holder(table))
    }

    /// The number of buffers, and of tables that threads keep. May be out of date at once.
    pub(crate) fn buffers(&self) -> usize {
        let population = usize::try_from(self.population.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        population.saturating_sub(self.table_cache.len())
    }

    /// Notes that a buffer needs memory that is not to spare.
    pub(crate) fn note_miss(&self, table: &OwnTable) {
        if let Some(registry) = &self.registry {
            registry.note_miss(table);
        }
    }

    /// Bytes that each buffer may hold before it becomes a donor while it is in use: of a limit that is divided among
    /// those that need memory.
    pub(crate) fn active_share(&self) -> u64 {
        let active = self.registry.as_ref().map_or(1, Registry::active);
        self.frames.budget().limit() / active
    }

    /// Bytes that each buffer keeps of a lowered limit: of one that is divided among all that hold memory.
    pub(crate) fn fair_share(&self) -> u64 {
        let holders = self.registry.as_ref().map_or(1, Registry::holders);
        self.frames.budget().limit() / holders.max(1)
    }

    /// Changes the memory limit in bytes, and reclaims what is above it from pages that are not in use.
    pub(crate) fn set_memory_limit(&self, bytes: u64) {
        self.frames.set_limit(bytes);
        if self.frames.is_over() {
            self.drop_noted_spares();
            self.frames.trim();
            self.reclaim_excess();
        }
        self.tell_waiters();
    }

    /// Reclaims from the buffers that hold more than their fair share, until no more than the limit is
    /// charged. While more is, at least one buffer holds more than its share.
    fn reclaim_excess(&self) {
        let Some(registry) = &self.registry else { return };
        let share = self.fair_share();
        for _ in 0..ROUNDS_MAX {
            let (before, mut is_refused) = (self.frames.over(), false);
            let mut tables = registry.holding_tables();
            tables.retain(|table| excess_of(table, share) > 0);
            let mut rest = &tables[..];
            while !rest.is_empty() {
                let (batch, others) = rest.split_at(self.batch_len(rest, share));
                is_refused |= !self.reclaim_excess_of(batch, share);
                rest = others;
            }
            let over = self.frames.over();
            if over == 0 || is_refused && over >= before {
                return;
            }
        }
    }

    /// How many of `tables` to reclaim from at once: at least one, at most [`DONORS_AT_ONCE`], with about
    /// [`PAGES_AT_ONCE`] pages.
    fn batch_len(&self, tables: &[PeerTable], share: u64) -> usize {
        let most = (PAGES_AT_ONCE * self.page_size) as u64;
        let mut bytes = 0;
        let fitting = tables.iter().take(DONORS_AT_ONCE).take_while(|table| {
            bytes += excess_of(table, share).min(most);
            bytes <= most
        });
        fitting.count().max(1)
    }

    /// Reclaims what each of `tables` holds beyond `share` bytes, but no more than is charged above the
    /// limit. Returns false if the store refuses: what is left may still leave from other tables.
    fn reclaim_excess_of(&self, tables: &[PeerTable], share: u64) -> bool {
        loop {
            let take = Take { pages_max: PAGES_AT_ONCE, share, bytes_max: self.frames.over() };
            if take.bytes_max == 0 {
                return true;
            }
            match self.reclaim(tables, SpillReason::LimitLowered, take) {
                Reclaimed::Frames(frames) => {
                    frames.into_iter().for_each(|frame| self.frames.recycle(frame));
                }
                Reclaimed::Nothing => return true,
                Reclaimed::StoreRefused => return false,
            }
        }
    }
}

/// Bytes of frames that a buffer holds beyond `share`.
fn excess_of(table: &PeerTable, share: u64) -> u64 {
    table.unlocked().usage.memory.used().saturating_sub(share)
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::api::pool::SpillPool;
    use crate::disk::memory_store::MemoryStore;
    use std::io::Write;

    const PAGE: usize = 4 << 10;

    /// A donor that was in use for a moment, in its window or with another thread that reclaimed from it, was taken for one that has
    /// nothing to give, and asked no more in this epoch. Waiters for room then slept beside pages that were free to leave.
    #[test]
    fn a_donor_that_is_in_use_is_asked_again() {
        let builder = SpillPool::builder().memory(8 * PAGE).page_size(PAGE);
        let pool = builder.store(MemoryStore::new()).build().unwrap();
        let (mut donor, mut requester) = (pool.buffer(), pool.buffer());
        donor.write_all(&[1; 7 * PAGE]).unwrap();
        requester.write_all(&[2; PAGE]).unwrap();
        let (state, table) = (&pool.state, requester.pager.own_table());
        let request = || state.acquire_frame(PAGE, PAGE as u64, Effort::Idle, table);
        let while_in_use = donor.pager.table(|_| request());
        assert!(while_in_use.is_none(), "a table in use is not waited for");
        let frame = request().expect("the donor has pages that can leave");
        state.frames.recycle(frame);
    }
}
