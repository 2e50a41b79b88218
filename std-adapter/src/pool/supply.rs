//! Where frames come from when memory is short, and go when its limit is lowered.
//!
//! | turn | source | who decides |
//! |---|---|---|
//! | 1 | recycled frames, and what the budget has left | [`FramePool::acquire`](crate::memory::frame_pool::FramePool::acquire) |
//! | 2 | the frames of kept tables | [`PoolState::spare_frame`] |
//! | 3 | other buffers | [`Registry::find_donors`] |
//! | 4 | a page of the requester's own | the pager |
//! | 5 | none: straight to the store | the pager |

use crate::memory::frame::Frame;
use crate::observe::stats::SpillReason;
use crate::pages::table::Table;
use crate::pool::member::{Member, OwnTable, PeerTable};
use crate::pool::reclaim::Reclaimed;
use crate::pool::registry::{Demand, Effort, Registry};
use crate::pool::state::PoolState;
use crate::pool::table_cache::RegisteredTable;

/// Attempts in vain to take a page back, after which the requester looks elsewhere.
const MISSES_MAX: u32 = 4;

/// Rounds over all tables to get below a lowered limit at once; what is in use just now follows at its
/// owner's next access outside the window.
const ROUNDS_MAX: u32 = 4;

/// Pages that are taken from one buffer in one go when the limit is lowered. Two threads that write to one file get in each
/// other's way at each call, and a call for 16 pages of 64 KiB takes a fifth less time than 16 calls.
const PAGES_AT_ONCE: usize = 16;

impl PoolState {
    /// A table for a new buffer.
    #[inline]
    pub(crate) fn open_table(&self) -> RegisteredTable {
        self.table_cache.pop().unwrap_or_else(|| {
            let table = OwnTable::new(Table::new(self.page_size), Member::new());
            let registration = self.registry.as_ref().map(|registry| registry.register(&table));
            RegisteredTable { table, registration }
        })
    }

    /// Takes back the table of a buffer that is gone. It has no pages but for an empty small frame.
    pub(crate) fn close_table(&self, registered: RegisteredTable) {
        registered.table.unlocked().usage.reset();
        let has_own = registered.table.unlocked().own().is_some();
        let dropped =
            if has_own { Some(registered) } else { self.table_cache.push(registered, &self.frames) };
        if let Some(registered) = dropped {
            self.drop_table(&registered);
        }
        self.disk.quota().wake_waiters();
    }

    fn drop_table(&self, registered: &RegisteredTable) {
        if let (Some(registry), Some(registration)) = (&self.registry, registered.registration) {
            registry.unregister(registration);
        }
    }

    /// Lets all kept tables go; says whether there were frames among them.
    pub(crate) fn drop_cached(&self) -> bool {
        let mut bytes = 0;
        for registered in self.table_cache.drain() {
            bytes += registered.table.unlocked().usage.memory.used();
            self.drop_table(&registered);
        }
        bytes > 0
    }

    pub(crate) fn trim(&self) {
        self.drop_cached();
        self.frames.trim();
        self.disk.trim_again();
    }

    /// A frame of `len` bytes that no page has to make way for.
    pub(crate) fn spare_frame(&self, len: usize) -> Option<Frame> {
        self.frames.acquire(len).or_else(|| if self.drop_cached() { self.frames.acquire(len) } else { None })
    }

    /// A frame for `bytes` of a page of `requester`, which has frames of `held` bytes.
    pub(crate) fn acquire_frame(
        &self,
        bytes: usize,
        held: u64,
        effort: Effort,
        requester: &OwnTable,
    ) -> Option<Frame> {
        let len = self.frames.class(bytes);
        if let Some(frame) = self.spare_frame(len) {
            return Some(frame);
        }
        let registry = self.registry.as_ref().filter(|_| effort > Effort::Spare)?;
        let (share, limit) = (self.fair_share(), self.frames.budget().limit());
        let (wanted, page) = (len as u64, self.page_size as u64);
        self.frame_from_donors(registry, &Demand { held, wanted, share, limit, page, effort }, requester)
    }

    #[cold]
    fn frame_from_donors(&self, registry: &Registry, demand: &Demand, requester: &OwnTable) -> Option<Frame> {
        let len = self.frames.class(usize::try_from(demand.wanted).ok()?);
        let mut misses = 0;
        while misses < MISSES_MAX {
            let donors = registry.find_donors(demand, requester);
            if donors.is_empty() {
                return None;
            }
            match self.reclaim(&donors, SpillReason::Reclaimed, 1) {
                Reclaimed::FramePool(mut frames) => {
                    let fitting = frames.iter().position(|frame| frame.capacity() == len);
                    let fitting = fitting.filter(|_| !self.frames.is_over()).map(|at| frames.swap_remove(at));
                    // The others are for the next who asks; and if all are too small, or too large, what the
                    // budget gets of them may do, with that of others.
                    let is_more = !frames.is_empty();
                    frames.into_iter().for_each(|frame| self.frames.recycle(frame));
                    let frame = fitting.or_else(|| self.spare_frame(len));
                    if is_more {
                        self.disk.quota().wake_waiters();
                    }
                    if frame.is_some() {
                        return frame;
                    }
                }
                Reclaimed::Nothing => misses += 1,
                Reclaimed::StoreRefused => return None,
            }
        }
        None
    }

    /// The number of buffers. Other threads may have changed it already.
    pub(crate) fn buffers(&self) -> usize {
        let tables = self.registry.as_ref().map_or(1, Registry::len);
        usize::try_from(tables).unwrap_or(usize::MAX).saturating_sub(self.table_cache.len())
    }

    /// What each buffer may hold without giving to others while it is in use, in bytes.
    fn fair_share(&self) -> u64 {
        self.frames.budget().limit() / (self.buffers() as u64).max(1)
    }

    /// Changes the memory limit, and takes back what is above it, as far as it is not in use just now.
    pub(crate) fn set_memory_limit(&self, bytes: u64) {
        self.frames.set_limit(bytes);
        if self.frames.is_over() {
            self.drop_cached();
            self.frames.trim();
            self.reclaim_all_over();
        }
        self.disk.quota().wake_waiters();
    }

    /// Takes pages back from the buffers that hold more than their fair share. While the budget is
    /// passed there is at least one.
    fn reclaim_all_over(&self) {
        let Some(registry) = &self.registry else { return };
        let share = self.fair_share();
        for _ in 0..ROUNDS_MAX {
            for table in registry.tables() {
                if !self.reclaim_over(&table, share) {
                    return;
                }
            }
            if !self.frames.is_over() {
                return;
            }
        }
    }

    /// Takes back from one buffer what it holds past `share`, as far as the budget is passed. False if the store refuses.
    fn reclaim_over(&self, table: &PeerTable, share: u64) -> bool {
        loop {
            let over = table.unlocked().usage.memory.used().saturating_sub(share).min(self.frames.over());
            // Pages, since a frame is at most as long as one.
            let most =
                usize::try_from(over).unwrap_or(usize::MAX).div_ceil(self.page_size).min(PAGES_AT_ONCE);
            if most == 0 {
                return true;
            }
            match self.reclaim(std::slice::from_ref(table), SpillReason::LimitLowered, most) {
                Reclaimed::FramePool(frames) => {
                    frames.into_iter().for_each(|frame| self.frames.recycle(frame));
                }
                Reclaimed::Nothing => return true,
                Reclaimed::StoreRefused => return false,
            }
        }
    }
}
