//! Admission and eviction: which of a buffer's pages have frames.
//!
//! While the memory limit has room, every page gets a frame, except a spilled page at its first large access.
//! After that, a page in memory is evicted only for
//!
//! - a page that a sequential pass of small operations reaches. It gets a frame of another buffer if there is
//!   a donor (see [`registry`](crate::pool::registry)), or else that of the page that passed before it. So a
//!   long pass uses one frame and leaves the others alone;
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
//! - I3: only [`Pager::evict`] moves a page of its own buffer out of memory. On an error the page is still
//!   resident.
//!
//! Held by: `tests/tests/pool_memory.rs`, `tests/tests/pool_limits.rs`, `tests/tests/pool_stats.rs`, `tests/tests/spill_faults`.

use crate::disk::slots::Slot;
use crate::error::SpillError;
use crate::memory::frame::Frame;
use crate::observe::counters::IoPath;
use crate::observe::events::Event;
use crate::observe::stats::SpillReason;
use crate::pager::span::{Access, Span};
use crate::pager::state::Pager;
use crate::pages::page::Page;
use crate::pages::resident::Resident;
use crate::pool::registry::Effort;

/// A page may request a frame after so many visits, and again after each further so many: a request has a
/// cost even if it fails.
const HOT: u8 = 8;

impl Access {
    /// The page is visited often, and its turn to request a frame has come.
    fn is_hot(self) -> bool {
        self.heat >= HOT && (self.heat.is_multiple_of(HOT) || self.heat == u8::MAX)
    }

    /// How much effort a frame for the page is worth. `fresh` says that none of its bytes are spilled. A
    /// large write of a fresh page is one write wherever it goes; reclaiming an idle buffer's frame for it
    /// would add a second one.
    fn effort(self, fresh: bool) -> Effort {
        match self {
            Access { small: true, sequential: true, .. } => Effort::Idle,
            _ if self.is_hot() => Effort::Idle,
            Access { small: false, .. } if self.heat > 1 => Effort::Idle,
            Access { small: false, .. } if fresh => Effort::Larger,
            _ => Effort::Spare,
        }
    }
}

impl Pager {
    /// Makes sure that the frame of a pinned page in memory reaches to the end of `span`, and returns `true`.
    /// If there is no memory for that, evicts the page and returns `false`.
    pub(crate) fn make_fit(&mut self, span: Span) -> Result<bool, SpillError> {
        let held =
            self.table(|table| table.resident(span.index).map_or(0, |resident| resident.frame.capacity()));
        if held >= span.end() {
            return Ok(true);
        }
        // Double the frame if there is room to spare, so that growth copies each byte once or twice in all.
        let larger = self.find_frame(self.expected_len(span, span.end().max(2 * held)), Effort::Spare);
        let larger = larger
            .or_else(|| self.find_frame(span.end(), Effort::Idle))
            .or_else(|| self.evict_coldest(span.end()));
        let Some(mut larger) = larger else {
            if let Some(frame) = self.evict(span.index, SpillReason::Evicted)? {
                self.recycle_frame(frame);
            }
            return Ok(false);
        };
        let smaller = self.table(|table| {
            let resident = table.resident(span.index).expect("I1: a pinned page stays");
            larger.write(0, resident.content());
            std::mem::replace(&mut resident.frame, larger)
        });
        self.recycle_frame(smaller);
        Ok(true)
    }

    /// A frame for a page that is not in memory, if it deserves one, and whether the page is only passing.
    /// The frame has room for the page's `valid` bytes and reaches to the end of `span`.
    pub(crate) fn admit(&mut self, span: Span, valid: usize, access: Access) -> Option<(Frame, bool)> {
        let need = span.end().max(valid);
        // Do not cache a large read of a page seen once: the copy would be wasted.
        let worthwhile = access.small || valid == 0 || access.heat > 1;
        if worthwhile
            && let Some(frame) = self.find_frame(self.expected_len(span, need), access.effort(valid == 0))
        {
            return Some((frame, false));
        }
        if !access.small {
            return None;
        }
        if let Some((victim, passing)) = self.choose_victim(access)
            && let Some(frame) = self.evict_for_frame(victim, need)
        {
            return Some((frame, passing));
        }
        self.find_frame(need, Effort::Spare).map(|frame| (frame, false))
    }

    /// The page in memory to evict for an access like this, if there is one, and whether the new page is only
    /// passing.
    fn choose_victim(&mut self, access: Access) -> Option<(u64, bool)> {
        self.table(|table| {
            if access.sequential {
                let passing = table.passing_index();
                let victim = passing.or_else(|| Some(table.coldest()?.0)).or_else(|| table.window_index());
                return victim.map(|victim| (victim, true));
            }
            if !access.is_hot() {
                return None;
            }
            let (victim, heat) = table.coldest()?;
            (access.heat >= heat.saturating_mul(2).saturating_add(HOT)).then_some((victim, false))
        })
    }

    /// The expected final length of the page of `span`, at least `need`: a whole page, unless it is the
    /// first. So a small buffer has a small frame, and a long one does not grow each page step by step.
    fn expected_len(&self, span: Span, need: usize) -> usize {
        if span.index == 0 { need } else { self.pool.page_size }
    }

    /// A frame of at least `bytes` from the pool, charged to the buffer. Evicts no page of this buffer.
    fn find_frame(&mut self, bytes: usize, effort: Effort) -> Option<Frame> {
        let memory = &self.usage().memory;
        let len = self.pool.frames.class(bytes) as u64;
        let held = memory.used();
        let used = memory.reserve(len).ok()?;
        // Not if `held` is 0: the last page may have left in between.
        if used == len {
            self.pool.note_holder(self.own_table());
        }
        let frame = self.pool.acquire_frame(bytes, held, effort, self.own_table());
        if frame.is_none() {
            memory.release(len);
        }
        frame
    }

    /// A frame of at least `need` bytes, by evicting the coldest of a sample. The pinned page is not in it.
    fn evict_coldest(&mut self, need: usize) -> Option<Frame> {
        let (victim, _) = self.table(|table| table.coldest())?;
        self.evict_for_frame(victim, need)
    }

    /// A frame of at least `need` bytes, by evicting `victim`. `None` if the page cannot be evicted, or if
    /// its frame is too small and the pool has no other to spare.
    fn evict_for_frame(&mut self, victim: u64, need: usize) -> Option<Frame> {
        // The error can be dropped: the page is still resident, and the caller goes directly to the store.
        let frame = self.evict(victim, SpillReason::Evicted).ok()??;
        if frame.capacity() >= need {
            return Some(frame);
        }
        self.recycle_frame(frame);
        self.find_frame(need, Effort::Spare)
    }

    /// Returns a frame of this buffer to the pool, and releases its charge.
    pub(crate) fn recycle_frame(&self, frame: Frame) {
        self.usage().memory.release(frame.capacity() as u64);
        self.pool.frames.recycle(frame);
    }

    /// Evicts pages, the window last, while the pool uses more than its memory limit, which was lowered, and
    /// this buffer more than its fair share. Nothing may be pinned or lent.
    #[inline]
    pub(crate) fn keep_limit(&mut self) {
        if self.pool.frames.is_over() {
            self.evict_over_limit();
        }
    }

    #[cold]
    fn evict_over_limit(&mut self) {
        let share = self.pool.fair_share();
        while self.pool.frames.is_over()
            && self.bytes_in_memory() > share
            && let Some(victim) = self.table(|table| {
                let coldest = table.coldest().map(|(index, _)| index);
                coldest.or_else(|| table.window_index())
            })
            && let Ok(Some(frame)) = self.evict(victim, SpillReason::LimitLowered)
        {
            self.recycle_frame(frame);
        }
    }

    /// Moves a page from memory to its slot, and returns its frame; `None` if the page is no longer in
    /// memory. Only here does an owner move a page out of memory, in this order: choose a slot, copy out,
    /// only then let go. On an error the page is still resident, and nothing else has changed.
    pub(crate) fn evict(&mut self, index: u64, reason: SpillReason) -> Result<Option<Frame>, SpillError> {
        let Some(resident) = self.table(|table| table.remove_resident(index)) else { return Ok(None) };
        match self.write_out(index, &resident) {
            Ok(None) => {
                self.table(|table| table.sums.forget(index));
                Ok(Some(resident.frame))
            }
            Ok(Some(slot)) => {
                let outgrown = resident.slot.filter(|&old| old != slot);
                let Resident { frame, valid, dirty, .. } = resident;
                self.table(|table| table.put(index, Page::Spilled { slot, valid }));
                // Only now: it wakes those that wait for room.
                outgrown.into_iter().for_each(|outgrown| self.free_slot(outgrown));
                self.pool.counters.count_eviction();
                self.count_spills(reason, u64::from(dirty), valid);
                Ok(Some(frame))
            }
            Err(error) => {
                self.table(|table| table.put(index, Page::Resident(resident)));
                Err(error)
            }
        }
    }

    /// Copies a page to a slot, unless its slot has the same bytes already. Returns the slot, or `None` if
    /// the page has no content: it becomes a hole.
    fn write_out(&mut self, index: u64, resident: &Resident) -> Result<Option<Slot>, SpillError> {
        if resident.valid == 0 {
            if let Some(slot) = resident.slot {
                self.free_slot(slot);
            }
            return Ok(None);
        }
        let fitting = resident.slot.filter(|slot| slot.len() >= resident.valid as u64);
        if fitting.is_some() && !resident.dirty {
            return Ok(fitting);
        }
        let slot = match fitting {
            Some(slot) => slot,
            None => self.allocate_slot(index, resident.valid)?,
        };
        let (_, written) = self.write_store(IoPath::Paged, slot.offset, resident.content());
        if written.is_err() && fitting.is_none() {
            self.free_slot(slot);
        }
        if written.is_ok() {
            self.note_sums(index, resident.content());
        }
        written.map(|()| Some(slot))
    }

    /// Counts `pages` written to the store, `bytes` in all, and notifies the listeners of a buffer's first
    /// spill.
    pub(crate) fn count_spills(&self, reason: SpillReason, pages: u64, bytes: usize) {
        self.pool.counters.count_spills(reason, pages);
        if self.usage().count_spills(pages) {
            self.pool.listeners.notify(&Event::FirstSpill { reason, bytes: bytes as u64 });
        }
    }
}
