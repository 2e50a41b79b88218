//! Admission and eviction: which of a buffer's pages have frames.
//!
//! While the memory limit has room, every page gets a frame, except a spilled page at its first large access.
//! After that a frame is at most as long as the buffer's share (see [`segments`](crate::pager::segments)), a
//! call that is longer gets none, and a page in memory is evicted only for
//!
//! - a page that a sequential pass of small operations reaches. While the buffer holds less than its share,
//!   it gets a frame of another buffer if there is a donor (see [`registry`](crate::pool::registry)), and
//!   else that of the page that it has passed. So a long pass, up or down, uses one frame, or two where calls
//!   on the way down cross from page to page, and leaves the others alone. One that comes from elsewhere,
//!   since passes take turns, gets that of the coldest of a sample, and if there is no other frame the
//!   window's, after a while;
//! - a page that was recently visited more than twice as often as the coldest of a sample of those in memory;
//! - a page in memory that must grow, if the pool has no larger frame for it: it gets that of the coldest of
//!   a sample.
//!
//! All other transfers go directly between the caller and the slot.
//!
//! Promises:
//!
//! - A buffer that holds more than its fair share of a lowered memory limit evicts pages at each access
//!   outside the window, each refill and each end of a loan, until the limit is kept.
//! - Crossing the memory limit moves nothing, and neither a scan nor scattered accesses evict the pages in
//!   use.
//! - I2: a frame is charged before it is acquired.
//! - I3: the owner moves bytes out of memory by [`Pager::evict`], [`Pager::slide`] and `Departure` alone. A
//!   page that cannot leave is resident again.
//!
//! Held by: `tests/tests/pool_memory.rs`, `tests/tests/pool_limits.rs`, `tests/tests/pool_stats.rs`,
//! `tests/tests/spill_faults`.

use crate::disk::slots::{Fit, Slot, SlotLen};
use crate::disk::store_access;
use crate::error::{SpillError, StoreOperation};
use crate::foreign::drop_quietly;
use crate::memory::frame::Frame;
use crate::memory::page_frame::PageFrame;
use crate::observe::events::Event;
use crate::observe::stats::SpillReason;
use crate::pager::base::Leaving;
use crate::pager::span::{Access, Direction, Span};
use crate::pager::state::Pager;
use crate::pages::page::{Page, Stay};
use crate::pages::resident::Resident;
use crate::pages::table::Table;
use crate::pool::registry::Effort;

/// A page may request a frame after so many visits, and again after each further so many: a request has a
/// cost even if it fails.
const HOT: u8 = 8;

/// A frame for a page that is not in memory.
pub(crate) struct Admitted {
    pub(crate) frame: Frame,
    pub(crate) stay: Stay,
}

impl Access {
    /// The page is visited often, and its turn to request a frame has come.
    pub(crate) fn is_hot(self) -> bool {
        self.heat >= HOT && (self.heat.is_multiple_of(HOT) || self.heat == u8::MAX)
    }

    /// The page is worth the frame of one of `heat`.
    pub(crate) fn is_hotter_than(self, heat: u8) -> bool {
        self.heat >= heat.saturating_mul(2).saturating_add(HOT)
    }

    /// How much effort a frame for the page is worth. `fresh` says that none of its bytes are spilled. A
    /// large write of a fresh page is one write wherever it goes; reclaiming an idle buffer's frame for it
    /// would add a second one.
    fn effort(self, fresh: bool) -> Effort {
        match self {
            _ if self.continues() || self.is_hot() => Effort::Idle,
            _ if self.is_small => Effort::Spare,
            _ if self.heat > 1 => Effort::Idle,
            _ if fresh => Effort::Larger,
            _ => Effort::Spare,
        }
    }
}

impl Pager {
    /// A frame of at least `need` bytes that reaches to the end of `span`, for a page in memory whose frame
    /// has `held` bytes. Evicts the coldest of a sample of this buffer's other pages if need be.
    pub(crate) fn find_larger(&mut self, span: Span, need: usize, held: usize) -> Option<Frame> {
        let need = span.end().max(need);
        // Double the frame if there is room to spare, so that growth copies each byte once or twice in all.
        let doubled = self.expected_len(span, need.max(2 * held));
        if let Some(frame) = self.find_frame(doubled, self.effort_for_more()) {
            return Some(frame);
        }
        self.pool.note_miss(self.own_table());
        let need = self.pool.frames.class(need);
        let found = self.find_in_share(need, held, Effort::Idle);
        let found = found.or_else(|| self.find_frame_from_base(need, Leaving::Any));
        found.or_else(|| self.evict_coldest(need, Leaving::Any))
    }

    /// A frame for a page that is not in memory, if it deserves one. The slot has `stored` bytes of the page
    /// that are needed: 0 if none are, or the base has them. While memory is short the frame may be shorter
    /// than the page, but has `least` bytes, which are enough for a byte at `span`.
    pub(crate) fn admit(
        &mut self,
        span: Span,
        stored: usize,
        least: usize,
        access: Access,
    ) -> Option<Admitted> {
        let whole = self.expected_len(span, span.end().max(stored));
        // Do not cache a large read of a page seen once: the copy would be wasted.
        let worthwhile = access.is_small || stored == 0 || access.heat > 1;
        let kept = |frame| Some(Admitted { frame, stay: Stay::Kept });
        if worthwhile && let Some(frame) = self.find_frame(whole, self.effort_for_more()) {
            return kept(frame);
        }
        let segment = self.segment_len();
        if access.want >= segment && segment < self.pool.page_size {
            return None;
        }
        let len = whole.min(segment);
        let effort = access.effort(stored == 0);
        if worthwhile && effort > Effort::Spare {
            self.pool.note_miss(self.own_table());
            if len >= least
                && let Some(frame) = self.find_in_share(len, 0, effort)
            {
                return kept(frame);
            }
        }
        if !access.is_small {
            return None;
        }
        if let Some(frame) = self.find_frame_from_base(len.max(least), Leaving::Any) {
            return kept(frame);
        }
        let (victim, stay) = self.choose_victim(span, access)?;
        self.evict_for_frame(victim, len.max(least), least).map(|frame| Admitted { frame, stay })
    }

    /// The page in memory to evict for an access to `span` like this, if there is one, and whether the new
    /// page stays. A pass takes the frame of the window that it leaves, and not that of another pass, in
    /// which this one's next operation would look like a pass in turn. While a window takes turns with
    /// something else, it keeps its frame even if there is no other. Else each would read, or write, a good
    /// part of a page for each piece of the other.
    fn choose_victim(&mut self, span: Span, access: Access) -> Option<(u64, Stay)> {
        let offset = span.index * self.pool.page_size as u64 + span.at as u64;
        let goes_past = self.pool.bytes_moved_for(access.want);
        self.table(|table| {
            let leaves_window = match access.direction {
                Direction::Up => table.window_ends_at(offset),
                Direction::Down => table.window_index() == Some(span.index + 1),
                // Not the window, but what the pass has come through before that.
                Direction::Across if table.is_cold(span.index + 2, HOT) => {
                    return Some((span.index + 2, Stay::Passing));
                }
                Direction::Across => false,
                Direction::None if access.is_hot() => {
                    let (victim, heat) = table.coldest(Resident::has_frame)?;
                    return access.is_hotter_than(heat).then_some((victim, Stay::Kept));
                }
                Direction::None => return None,
            };
            let passed = table.passing_index().filter(|_| leaves_window);
            let victim = passed.or_else(|| Some(table.coldest(Resident::has_frame)?.0)).or_else(|| {
                let keeps_frame = !leaves_window && table.window_keeps_frame(offset, goes_past);
                table.window_index().filter(|_| !keeps_frame)
            })?;
            Some((victim, Stay::Passing))
        })
    }

    /// The expected final length of the page of `span`, at least `need`: a whole page, unless it is the
    /// first. So a small buffer has a small frame, and a long one does not grow each page step by step.
    fn expected_len(&self, span: Span, need: usize) -> usize {
        if span.index == 0 { need } else { self.pool.page_size }
    }

    /// A frame of at least `bytes` from the pool, charged to the buffer. Evicts no page of this buffer.
    pub(crate) fn find_frame(&mut self, bytes: usize, effort: Effort) -> Option<Frame> {
        self.give_up_window_below();
        let class = self.pool.frames.class(bytes);
        // Refuse without a change of the budgets. A table that is not listed goes on: `note_holder` lists it.
        if effort <= Effort::Spare && !self.pool.may_spare(class) && self.pool.is_listed(self.own_table()) {
            self.note_refusal(class as u64);
            return None;
        }
        let (memory, len) = (&self.usage().memory, class as u64);
        let held = memory.used();
        let Ok(used) = memory.reserve(len) else {
            self.note_refusal(len);
            return None;
        };
        // By what `reserve` has returned, not by `held`: the last page may have left between the two.
        if used == len && !self.pool.note_holder(self.own_table()) {
            memory.release(len);
            return None;
        }
        let frame = self.pool.acquire_frame(bytes, held, effort, self.own_table());
        if frame.is_none() {
            memory.release(len);
            self.note_refusal(len);
        }
        frame
    }

    /// As [`find_frame`](Pager::find_frame), if the buffer then holds no more than its share, without the
    /// `outgrown` bytes that the frame replaces.
    pub(crate) fn find_in_share(&mut self, len: usize, outgrown: usize, effort: Effort) -> Option<Frame> {
        let held = self.bytes_in_memory().saturating_sub(outgrown as u64);
        if held + len as u64 > self.share() {
            return None;
        }
        self.find_frame(len, effort)
    }

    /// A frame of at least `need` bytes, by evicting the coldest of a sample of those that `leaving` allows.
    /// The pinned page is not in it.
    pub(crate) fn evict_coldest(&mut self, need: usize, leaving: Leaving) -> Option<Frame> {
        let may_leave = |page: &Resident| page.has_frame() && (leaving == Leaving::Any || !page.dirty);
        let (victim, _) = self.table(|table| table.coldest(may_leave))?;
        self.evict_for_frame(victim, need, need)
    }

    /// A frame of `len` bytes, or at least of `least`, by evicting `victim`. `None` if the page cannot be
    /// evicted, or if its frame is too short and the pool has no other to spare.
    pub(crate) fn evict_for_frame(&mut self, victim: u64, len: usize, least: usize) -> Option<Frame> {
        // The error can be dropped: the page is still resident, and the caller goes directly to the store.
        let frame = self.evict(victim, SpillReason::Evicted).map_err(drop_quietly).ok()??;
        let Some(frame) = self.reusable(frame) else { return self.find_frame(len, Effort::Spare) };
        if frame.capacity() >= len {
            return Some(frame);
        }
        if frame.capacity() < least {
            self.recycle_frame(frame);
            return self.find_frame(len, Effort::Spare);
        }
        match self.find_frame(len, Effort::Spare) {
            Some(longer) => {
                self.recycle_frame(frame);
                Some(longer)
            }
            None => Some(frame),
        }
    }

    /// Returns a frame of this buffer to the pool, or lets go of given memory, and releases its charge.
    pub(crate) fn recycle_frame(&self, frame: impl Into<PageFrame>) {
        let frame = frame.into();
        self.usage().release_frame(&frame);
        self.pool.frames.recycle(frame);
    }

    /// The frame of a page that has left memory, still charged to this buffer, to be used again.
    /// Lets go of given memory.
    pub(crate) fn reusable(&self, frame: PageFrame) -> Option<Frame> {
        if frame.is_given() {
            self.recycle_frame(frame);
            return None;
        }
        frame.into_own()
    }

    /// Returns a frame that an operation took and could not use. Tells those that did not find it meanwhile,
    /// and not this buffer, if it waits itself: each of its attempts takes and returns it.
    pub(crate) fn give_back(&self, frame: impl Into<PageFrame>) {
        self.recycle_frame(frame);
        if self.pool.frames.take_freed() {
            self.pool.disk.quota().wake_waiters_but(self.ticket());
        }
    }

    /// Makes `page` the window, as page `index`, which is spilled or a hole. Returns false, and gives the
    /// frame back, if there is no memory to note where the former window goes.
    pub(crate) fn open(&mut self, index: u64, page: Resident, stay: Stay) -> bool {
        let refused = self.table(|table| table.try_open(index, page, stay).err());
        let Some(page) = refused else { return true };
        self.give_back(page.into_frame());
        false
    }

    /// Evicts pages, the window last, while the pool uses more than its memory limit, which was lowered, and
    /// this buffer more than its fair share. No page may be pinned, and no window lent.
    #[inline]
    pub(crate) fn keep_limit(&mut self) {
        if self.pool.frames.is_over() && self.check().is_ok() {
            self.evict_over_limit();
        }
    }

    #[cold]
    fn evict_over_limit(&mut self) {
        let share = self.pool.fair_share();
        while self.pool.frames.is_over()
            && self.bytes_in_memory() > share
            && let Some(victim) = self.table(|table| {
                let coldest = table.coldest(|_| true).or_else(|| {
                    table.end_sharing(); // of all: the search looks at a few
                    table.coldest(|_| true)
                });
                coldest.map(|(index, _)| index).or_else(|| table.window_index())
            })
        {
            let evicted = self.evict_and_recycle(victim, SpillReason::LimitLowered);
            if evicted.map_err(drop_quietly).is_err() {
                break;
            }
        }
        self.pool.tell_waiters();
    }

    /// As [`evict`](Pager::evict), and recycles the frame, if the pool has not reclaimed the page meanwhile.
    pub(crate) fn evict_and_recycle(&mut self, index: u64, reason: SpillReason) -> Result<(), SpillError> {
        if let Some(frame) = self.evict(index, reason)? {
            self.recycle_frame(frame);
        }
        Ok(())
    }

    /// Moves a page from memory to its slot, the shortest that fits if it has none, and returns its frame, or
    /// the given memory; `None` if the page is no longer in memory. An owner moves a page out of memory in
    /// this order: choose a slot, copy out, only then let go. On an error the page is still resident, and
    /// nothing else has changed.
    pub(crate) fn evict(&mut self, index: u64, reason: SpillReason) -> Result<Option<PageFrame>, SpillError> {
        let reserve = |table: &mut Table| match table.resident(index) {
            Some(resident) => resident.end() == 0 || table.reserve_for_leave(index),
            None => true,
        };
        let removed = self.table(|table| reserve(table).then(|| table.remove_resident(index)));
        let Some(resident) = removed.ok_or(SpillError::OutOfMemory)? else { return Ok(None) };
        if resident.is_copy() {
            return Ok(Some(resident.into_frame())); // the base has it
        }
        // What is spilled on request is often complete.
        let fit = if reason == SpillReason::Requested { Fit::Parts } else { Fit::Blocks };
        match self.write_out(index, &resident, &[], SlotLen::Exact(fit)) {
            Ok(None) => {
                self.table(|table| table.sums.forget(index));
                if let Some(unneeded) = resident.slot {
                    self.free_slot(unneeded);
                }
                Ok(Some(resident.into_frame()))
            }
            Ok(Some(slot)) => {
                let outgrown = resident.slot.filter(|old| old.offset != slot.offset);
                let (end, written, dirty) = (resident.end(), resident.len, resident.dirty);
                self.table(|table| table.put(index, Page::Spilled { slot, end }));
                // Only now: it wakes those that wait for room.
                if let Some(outgrown) = outgrown {
                    self.free_slot(outgrown);
                }
                if resident.slot.is_none() {
                    self.forget_in_base(index); // it was a copy when it was written to
                }
                self.pool.counters.count_eviction();
                self.count_spills(reason, u64::from(dirty), written);
                Ok(Some(resident.into_frame()))
            }
            Err(error) => {
                self.table(|table| table.put_back(index, resident));
                self.pool.disk.quota().serve_if_waiting();
                Err(error)
            }
        }
    }

    /// Copies what a page has in its frame to a slot, unless its slot has the same bytes already, and `along`
    /// behind it. Returns the slot; or `None` if there is no content, and the page, whose slot is to be
    /// freed, becomes a hole.
    ///
    /// A slot that is allocated is as long as `len` says. The page is out of the table, so foreign code must
    /// not run: after an error the caller puts the page back, and then serves those that wait for room. The
    /// error itself is told when the operation ends.
    pub(crate) fn write_out(
        &mut self,
        index: u64,
        resident: &Resident,
        along: &[u8],
        len: SlotLen,
    ) -> Result<Option<Slot>, SpillError> {
        let end = resident.end() + along.len();
        if end == 0 {
            return Ok(None);
        }
        let fitting = resident.slot.filter(|slot| slot.len() >= end as u64);
        if fitting.is_some() && !resident.dirty && along.is_empty() {
            return Ok(fitting);
        }
        store_access::check(StoreOperation::Write, index * self.pool.page_size as u64, end as u64)?;
        debug_assert!(fitting.is_some() || !resident.is_segment(), "only the slot has the page's beginning");
        // What is noted after the write needs no memory then.
        let sums = self.pool.checksums.of_page(resident).map_err(|_| SpillError::OutOfMemory)?;
        if sums.is_some() && !self.table(|table| table.sums.reserve_for(index, resident)) {
            return Err(SpillError::OutOfMemory);
        }
        let slot = match fitting {
            Some(slot) => self.charge_slot(slot, end)?,
            None => self.allocate(index, end, len)?,
        };
        let written = self.write_with(slot, resident, along);
        match (&written, fitting) {
            (Ok(()), _) => {
                if let Some(sums) = sums {
                    self.table(|table| table.sums.put(index, sums));
                }
            }
            (Err(_), Some(before)) => self.discharge_quietly(slot, before),
            (Err(_), None) => self.free_quietly(slot),
        }
        written.map(|()| Some(slot))
    }

    /// Counts `pages` written to the store, `bytes` in all, and notifies the listeners of a buffer's first
    /// spill.
    pub(crate) fn count_spills(&self, reason: SpillReason, pages: u64, bytes: usize) {
        self.pool.counters.count_spills(reason, pages);
        if self.usage().count_spills(pages) {
            self.pool.listeners.notify(Event::FirstSpill { reason, bytes: bytes as u64 });
        }
    }
}
