//! The supply of frames: where they come from when memory is short, and who is told when memory comes free.
//!
//! Sources, in the order in which they are tried:
//!
//! | | source | tried by |
//! |---|---|---|
//! | 1 | recycled frames, and what the budget has left | [`FramePool::acquire`](crate::memory::frame_pool::FramePool::acquire) |
//! | 2 | the frames of kept tables | [`PoolState::spare_frame`] |
//! | 3 | pages of other buffers | [`Registry::find_donors`], [`PoolState::reclaim`] |
//! | 4 | a page of the requester's own | the pager |
//! | 5 | none: the bytes go straight to the store | the pager |
//!
//! Promises:
//!
//! - A request tries a bounded number of donors in use, and of those that the store refuses. It waits for no
//!   owner, but for the copy that one makes while anybody waits for memory.
//! - Memory that comes free wakes the waiters for disk room, since their bytes may then need no disk: at the
//!   end of the operation that frees it, with nothing locked and no page on its way.
//!
//! # Who is told
//!
//! A frame that is dropped or recycled notes that in its budget. What ends an operation looks at the note,
//! and wakes the waiters ([`PoolState::tell_waiters`], in `Pager::end_operation` and in each call of the
//! pool). So no path that frees memory has to remember them: several did not, while each path told the
//! waiters itself.
//!
//! - A page that is pinned can leave once that ends, and so can one whose frame was out of the table: see
//!   [`sought`](crate::pages::sought). What ends it tells the waiters, if a search found nothing there
//!   meanwhile; but not the waiter whose page it is, whose own attempts would keep it awake.
//! - A shared page can leave once its readers, and those that it was lent to, have let go. They look at no
//!   table. So a search notes in the budget that it looks, and then looks; they let go, and then look at the
//!   note; with a full fence in between on either side.
//! - A table whose owner is inside is passed over. While anybody waits, a search gives it time for the copy
//!   that it makes there. If it is inside still, since its thread has no processor, it tells the waiters at
//!   the end of its operation, or if that is one of the window, which looks at nothing, of the next one
//!   outside it.
//! - A woken waiter finds it: what a search has noted of a table without memory to give
//!   ([`Refusal`](crate::pool::activity::Refusal)) is over then.
//! - Waiters also learn of freed slots, of tickets that leave or request less, and of limits that change: in
//!   the queue itself.
//! - A frame that the allocator refuses tells nobody.
//! - A buffer that gives back a frame that it has only taken does not wake itself (`Pager::give_back`): each
//!   attempt of a waiter does that, and it would never sleep.
//! - Two waiters do not keep each other awake either. An attempt that fails for want of disk frees no frame
//!   that it would take again: a page gets its longer slot before it gets a frame, and takes what is left of
//!   the memory only after the disk has refused.
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/pool_stats.rs`, `tests/tests/when_full.rs`,
//! `tests/tests/told.rs`, `tests/tests/pool_stress.rs`, `std-adapter/src/models.rs` (loom).

use crate::disk::quota::Ticket;
use crate::disk::store_access;
use crate::memory::frame::Frame;
use crate::memory::page_frame::PageFrame;
use crate::memory::scratch::with_block;
use crate::observe::stats::SpillReason;
use crate::pool::member::OwnTable;
use crate::pool::reclaim::{Reclaimed, Take};
use crate::pool::registry::{Demand, Effort, Registry};
use crate::pool::state::PoolState;
use crate::sync::Ordering;

/// Reclaims that bring a request no nearer to its frame, after which it turns to the next source.
const FRUITLESS_MAX: u32 = 4;

impl PoolState {
    /// Wakes those that wait for disk room if memory came free since the last call. To be called at the
    /// end of each operation that may have freed some, with nothing locked and nothing under way:
    /// wakers are foreign code.
    #[inline]
    pub(crate) fn tell_waiters(&self) {
        if self.disk.quota().is_limited() && self.frames.take_freed() {
            self.disk.quota().wake_waiters();
        }
    }

    /// The same, after a reference to a shared page was dropped.
    pub(crate) fn tell_let_go(&self) {
        if self.disk.quota().is_limited() {
            self.frames.watched().tell_let_go();
        }
    }

    /// After a visit of `table` by its owner, in which a pin ended or a frame came back, and which found
    /// whether it `was_sought`: wakes those that wait, but not the one that has the ticket `own`, if a search
    /// has missed that.
    #[inline]
    pub(crate) fn tell_if_missed(&self, was_sought: bool, table: &OwnTable, own: Option<&Ticket>) {
        if was_sought {
            table.unlocked().refusal.forget();
        }
        if self.disk.quota().is_limited() && (was_sought || table.take_missed()) {
            self.tell_return(own);
        }
    }

    #[cold]
    fn tell_return(&self, own: Option<&Ticket>) {
        self.frames.watched().note_return();
        self.disk.quota().wake_waiters_but(own);
    }

    /// Whether there may be memory to spare for a frame of `len` bytes.
    #[inline]
    pub(crate) fn may_spare(&self, len: usize) -> bool {
        self.frames.may_acquire(len) || self.has_kept_tables.load(Ordering::Relaxed)
    }

    /// Whether `table` is in the list of the pool's tables, if that has one. A request for memory
    /// adds one that is not.
    #[inline]
    pub(crate) fn is_listed(&self, table: &OwnTable) -> bool {
        self.registry.is_none() || Registry::is_registered(table)
    }

    /// A frame of `len` bytes, if that takes no page out of memory.
    pub(crate) fn spare_frame(&self, len: usize) -> Option<Frame> {
        self.frames
            .acquire(len)
            .or_else(|| if self.drop_kept_tables() { self.frames.acquire(len) } else { None })
    }

    /// Runs `f` with memory to copy `len` bytes of a page through: a frame to spare, or else [a
    /// block](with_block) that is not charged, and may have fewer.
    pub(crate) fn with_scratch<R>(&self, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
        if let Some(mut frame) = self.spare_frame(self.frames.class(len)) {
            let done = f(frame.first_mut(frame.capacity()));
            self.frames.recycle(frame);
            return done;
        }
        with_block(len, f)
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
            returns: self.frames.watched().returns(),
            is_awaited: self.disk.quota().waiting() > 0,
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
            let mut reclaimed = self.reclaim(&donors, SpillReason::Reclaimed, Take::pages(1));
            if matches!(reclaimed, Reclaimed::StoreRefused) {
                // They may have others, which need no room there.
                reclaimed = self.reclaim(&donors, SpillReason::Reclaimed, Take::in_place(1));
                if let (Reclaimed::StoreRefused, [donor]) = (&reclaimed, &donors[..]) {
                    registry.note_refusal(donor, Some(demand.returns));
                }
            }
            match reclaimed {
                Reclaimed::Frames(mut frames) => {
                    let is_fitting = |frame: &PageFrame| !frame.is_given() && frame.capacity() == len;
                    let fitting = frames.iter().position(is_fitting).filter(|_| !self.frames.is_over());
                    let fitting = fitting.and_then(|at| frames.swap_remove(at).into_own());
                    // Given memory comes free with the last of its pages, and a lowered limit is kept first:
                    // either may take many rounds.
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

    /// Notes that the memory of a table has risen from 0, so that searches for donors find it. Returns false
    /// if it must hold none, for want of memory to note that.
    #[must_use]
    pub(crate) fn note_holder(&self, table: &OwnTable) -> bool {
        self.registry.as_ref().is_none_or(|registry| registry.note_holder(table))
    }

    /// Notes that a buffer needs memory that is not to spare.
    pub(crate) fn note_miss(&self, table: &OwnTable) {
        if let Some(registry) = &self.registry {
            registry.note_miss(table);
        }
    }

    /// Bytes that each buffer may hold before it becomes a donor while it is in use: of a limit that is
    /// divided among those that need memory.
    pub(crate) fn active_share(&self) -> u64 {
        let active = self.registry.as_ref().map_or(1, Registry::active);
        self.frames.budget().limit() / active
    }

    /// Bytes that each buffer keeps of a lowered limit: of one that is divided among all that hold memory.
    pub(crate) fn fair_share(&self) -> u64 {
        let holders = self.registry.as_ref().map_or(1, Registry::holders);
        self.frames.budget().limit() / holders.max(1)
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::api::pool::SpillPool;
    use crate::disk::memory_store::MemoryStore;
    use std::io::Write;
    use std::task::{Context, Waker};

    const PAGE: usize = 4 << 10;

    /// A donor that was in use for a moment, in its window or with another thread that reclaimed from it, was
    /// taken for one that has nothing to give, and asked no more in this epoch. Waiters for room then slept
    /// beside pages that were free to leave.
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

    /// So was one whose only page was pinned, between two visits of its owner to the table.
    #[test]
    fn a_donor_whose_only_page_is_pinned_is_asked_again() {
        let builder = SpillPool::builder().memory(PAGE).page_size(PAGE);
        let pool = builder.store(MemoryStore::new()).build().unwrap();
        let (mut donor, mut requester) = (pool.buffer(), pool.buffer());
        donor.write_all(&[1; PAGE]).unwrap();
        requester.pager.try_table().unwrap();
        let (state, table) = (&pool.state, requester.pager.own_table());
        let request = || state.acquire_frame(256, 0, Effort::Idle, table);
        donor.pager.table(|table| table.pin(0));
        assert!(request().is_none(), "a pinned page stays");
        donor.pager.end_operation();
        let frame = request().expect("the page can leave");
        state.frames.recycle(frame);
    }

    /// A page came free to leave when its pin ended, but no memory did, and so nobody was told: a waiter that
    /// had met it pinned slept on beside it. A pin that nobody met still tells nobody.
    #[test]
    fn a_waiter_that_met_a_pinned_page_is_told_at_the_end_of_the_pin() {
        let builder = SpillPool::builder().memory(PAGE).page_size(PAGE).disk(PAGE as u64);
        let pool = builder.store(MemoryStore::new()).build().unwrap();
        let (mut donor, mut requester) = (pool.buffer(), pool.buffer());
        donor.write_all(&[1; PAGE]).unwrap();
        requester.pager.try_table().unwrap();
        let (state, table) = (&pool.state, requester.pager.own_table());
        let ticket = state.disk.quota().enter(2 * PAGE as u64, None).unwrap();
        let is_told = || ticket.poll(&Context::from_waker(Waker::noop())).is_ready();
        for is_met in [false, true] {
            state.tell_waiters();
            while is_told() {}
            donor.pager.table(|table| table.pin(0));
            if is_met {
                assert!(state.acquire_frame(256, 0, Effort::Idle, table).is_none());
            }
            assert!(!is_told());
            donor.pager.end_operation();
            assert_eq!(is_told(), is_met);
        }
    }
}
