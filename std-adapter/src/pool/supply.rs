//! Where frames come from when memory is short, and go when its limit is lowered.
//!
//! | turn | source | who decides |
//! |---|---|---|
//! | 1 | recycled frames, and what the budget has left | [`Frames::take`](crate::memory::frame_pool::Frames::take) |
//! | 2 | the frames of kept tables | [`Core::spare_frame`] |
//! | 3 | other buffers | [`Registry::find_givers`] |
//! | 4 | a page of the asker's own | the pager |
//! | 5 | none: straight to the store | the pager |

use crate::memory::frame::Frame;
use crate::observe::stats::SpillReason;
use crate::pages::table::Table;
use crate::pool::member::{Member, OwnTable, PeerTable};
use crate::pool::reclaim::Taken;
use crate::pool::registry::{Ask, Reach, Registry};
use crate::pool::state::Core;
use crate::pool::table_cache::Kept;

/// Attempts in vain to take a page back, after which the asker looks elsewhere.
const MISSES_MAX: u32 = 4;

/// Rounds over all tables to get below a lowered limit at once; what is in use just now follows at its
/// owner's next access outside the window.
const ROUNDS_MAX: u32 = 4;

/// Pages that are taken from one buffer in one go when the limit is lowered. Two threads that write to one file get in each
/// other's way at each call, and a call for 16 pages of 64 KiB takes a fifth less time than 16 calls.
const PAGES_AT_ONCE: usize = 16;

impl Core {
    /// A table for a new buffer.
    #[inline]
    pub(crate) fn open_table(&self) -> Kept {
        self.idle.take().unwrap_or_else(|| {
            let table = OwnTable::new(Table::new(self.page_size), Member::new());
            let place = self.registry.as_ref().map(|registry| registry.register(&table));
            Kept { table, place }
        })
    }

    /// Takes back the table of a buffer that is gone. It has no pages but for an empty small frame.
    pub(crate) fn close_table(&self, kept: Kept) {
        kept.table.beside().account.reset();
        let has_own = kept.table.beside().own().is_some();
        let dropped = if has_own { Some(kept) } else { self.idle.keep(kept, &self.frames) };
        if let Some(kept) = dropped {
            self.drop_table(&kept);
        }
        self.disk.quota().stir();
    }

    fn drop_table(&self, kept: &Kept) {
        if let (Some(registry), Some(place)) = (&self.registry, kept.place) {
            registry.unregister(place);
        }
    }

    /// Lets all kept tables go; says whether there were frames among them.
    pub(crate) fn drop_kept(&self) -> bool {
        let mut bytes = 0;
        for kept in self.idle.take_all() {
            bytes += kept.table.beside().account.memory.taken();
            self.drop_table(&kept);
        }
        bytes > 0
    }

    pub(crate) fn trim(&self) {
        self.drop_kept();
        self.frames.trim();
        self.disk.trim_again();
    }

    /// A frame of `len` bytes that no page has to make way for.
    pub(crate) fn spare_frame(&self, len: usize) -> Option<Frame> {
        self.frames.take(len).or_else(|| if self.drop_kept() { self.frames.take(len) } else { None })
    }

    /// A frame for `bytes` of a page of `asker`, which has frames of `held` bytes.
    pub(crate) fn take_frame(
        &self,
        bytes: usize,
        held: u64,
        reach: Reach,
        asker: &OwnTable,
    ) -> Option<Frame> {
        let len = self.frames.class(bytes);
        if let Some(frame) = self.spare_frame(len) {
            return Some(frame);
        }
        let registry = self.registry.as_ref().filter(|_| reach > Reach::Spare)?;
        let (share, limit) = (self.fair_share(), self.frames.budget().limit());
        let (wanted, page) = (len as u64, self.page_size as u64);
        self.frame_of_other(registry, &Ask { held, wanted, share, limit, page, reach }, asker)
    }

    #[cold]
    fn frame_of_other(&self, registry: &Registry, ask: &Ask, asker: &OwnTable) -> Option<Frame> {
        let len = self.frames.class(usize::try_from(ask.wanted).ok()?);
        let mut misses = 0;
        while misses < MISSES_MAX {
            let givers = registry.find_givers(ask, asker);
            if givers.is_empty() {
                return None;
            }
            match self.take_back(&givers, SpillReason::TakenBack, 1) {
                Taken::Frames(mut frames) => {
                    let fitting = frames.iter().position(|frame| frame.capacity() == len);
                    let fitting = fitting.filter(|_| !self.frames.is_over()).map(|at| frames.swap_remove(at));
                    // The others are for the next who asks; and if all are too small, or too large, what the
                    // budget gets of them may do, with that of others.
                    let is_more = !frames.is_empty();
                    frames.into_iter().for_each(|frame| self.frames.recycle(frame));
                    let frame = fitting.or_else(|| self.spare_frame(len));
                    if is_more {
                        self.disk.quota().stir();
                    }
                    if frame.is_some() {
                        return frame;
                    }
                }
                Taken::Nothing => misses += 1,
                Taken::Stuck => return None,
            }
        }
        None
    }

    /// The number of buffers. Other threads may have changed it already.
    pub(crate) fn buffers(&self) -> usize {
        let tables = self.registry.as_ref().map_or(1, Registry::len);
        usize::try_from(tables).unwrap_or(usize::MAX).saturating_sub(self.idle.len())
    }

    /// What each buffer may hold without giving to others while it is in use, in bytes.
    fn fair_share(&self) -> u64 {
        self.frames.budget().limit() / (self.buffers() as u64).max(1)
    }

    /// Changes the memory limit, and takes back what is above it, as far as it is not in use just now.
    pub(crate) fn set_memory_limit(&self, bytes: u64) {
        self.frames.set_limit(bytes);
        if self.frames.is_over() {
            self.drop_kept();
            self.frames.trim();
            self.take_back_all_over();
        }
        self.disk.quota().stir();
    }

    /// Takes pages back from the buffers that hold more than their fair share. While the budget is
    /// passed there is at least one.
    fn take_back_all_over(&self) {
        let Some(registry) = &self.registry else { return };
        let share = self.fair_share();
        for _ in 0..ROUNDS_MAX {
            for table in registry.tables() {
                if !self.take_back_over(&table, share) {
                    return;
                }
            }
            if !self.frames.is_over() {
                return;
            }
        }
    }

    /// Takes back from one buffer what it holds past `share`, as far as the budget is passed. False if the store refuses.
    fn take_back_over(&self, table: &PeerTable, share: u64) -> bool {
        loop {
            let over = table.beside().account.memory.taken().saturating_sub(share).min(self.frames.over());
            // Pages, since a frame is at most as long as one.
            let most =
                usize::try_from(over).unwrap_or(usize::MAX).div_ceil(self.page_size).min(PAGES_AT_ONCE);
            if most == 0 {
                return true;
            }
            match self.take_back(std::slice::from_ref(table), SpillReason::LimitLowered, most) {
                Taken::Frames(frames) => frames.into_iter().for_each(|frame| self.frames.recycle(frame)),
                Taken::Nothing => return true,
                Taken::Stuck => return false,
            }
        }
    }
}
