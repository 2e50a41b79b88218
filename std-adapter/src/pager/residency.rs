//! Which of a buffer's pages have frames.
//!
//! While the budget has room, every page gets one. After that a page in memory makes way only for
//!
//! - a page that a sequential pass of small operations comes to: it takes a frame of another buffer
//!   if one is to give (see [`registry`](crate::pool::registry)), or else the place of the page that passed
//!   before it; so that a long pass uses one frame and leaves the others alone;
//! - a page that was visited more than twice as often, lately, as the coldest of a few in memory.
//!
//! Everything else goes straight between the caller and the slot. So crossing the budget moves
//! nothing, and neither a scan nor scattered accesses wash out what is in use.

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

/// Visits after which a page may ask for a frame for the first time, and after which again.
const HOT: u8 = 8;

impl Access {
    /// The page was sought often enough to ask for a frame, and not just now.
    fn is_hot(self) -> bool {
        self.heat >= HOT && (self.heat.is_multiple_of(HOT) || self.heat == u8::MAX)
    }

    /// How much trouble a frame for the page is worth. A fresh page that is written whole is written
    /// once, to whatever place; taking an idle buffer's frame would write twice.
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
    /// Makes sure that the frame of a pinned page in memory reaches to the end of `span`. If there is
    /// no memory for that, the page leaves for its slot, and the answer is false.
    pub(crate) fn make_fit(&mut self, span: Span) -> Result<bool, SpillError> {
        let held =
            self.table(|table| table.resident(span.index).map_or(0, |resident| resident.frame.capacity()));
        if held >= span.end() {
            return Ok(true);
        }
        // Twice as large if there is room to spare, so that growing copies each byte once or twice.
        let larger = self.find_frame(self.likely(span, span.end().max(2 * held)), Effort::Spare);
        let larger = larger
            .or_else(|| self.find_frame(span.end(), Effort::Idle))
            .or_else(|| self.frame_of_coldest(span));
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

    /// A frame for a page that is not in memory, if it deserves one, and whether it is only passing.
    /// It holds `valid` bytes and the end of `span`.
    pub(crate) fn admit(&mut self, span: Span, valid: usize, access: Access) -> Option<(Frame, bool)> {
        let need = span.end().max(valid);
        // With room to spare, a large read of a page that is not visited again would only cost a copy.
        let worth_it = access.small || valid == 0 || access.heat > 1;
        if worth_it && let Some(frame) = self.find_frame(self.likely(span, need), access.effort(valid == 0)) {
            return Some((frame, false));
        }
        if !access.small {
            return None;
        }
        if let Some((victim, passing)) = self.choose_victim(access)
            && let Some(frame) = self.frame_of(victim, need)
        {
            return Some((frame, passing));
        }
        self.find_frame(need, Effort::Spare).map(|frame| (frame, false))
    }

    /// The page in memory that is to make way for one that is approached like this, if any is; and
    /// whether the new one is only passing.
    fn choose_victim(&mut self, access: Access) -> Option<(u64, bool)> {
        self.table(|table| {
            if access.sequential {
                let before = table.passing_index();
                let victim = before.or_else(|| Some(table.coldest()?.0)).or_else(|| table.window_index());
                return victim.map(|victim| (victim, true));
            }
            if !access.is_hot() {
                return None;
            }
            let (victim, heat) = table.coldest()?;
            (access.heat >= heat.saturating_mul(2).saturating_add(HOT)).then_some((victim, false))
        })
    }

    /// How much of its page a span is likely to need in the end: all of it, if the stream is longer
    /// than a page already, so that a long one does not grow each page step by step.
    fn likely(&self, span: Span, need: usize) -> usize {
        if span.index == 0 { need } else { self.pool.page_size }
    }

    /// A frame of at least `bytes` from the pool, that no page of this buffer has to make way for.
    fn find_frame(&mut self, bytes: usize, effort: Effort) -> Option<Frame> {
        let memory = &self.usage().memory;
        let len = self.pool.frames.class(bytes) as u64;
        let held = memory.used();
        memory.reserve(len).ok()?;
        let frame = self.pool.acquire_frame(bytes, held, effort, self.own_table());
        if frame.is_none() {
            memory.release(len);
        }
        frame
    }

    /// A frame that reaches to the end of `span`, from a page that is colder than this one.
    fn frame_of_coldest(&mut self, span: Span) -> Option<Frame> {
        let (victim, _) = self.table(|table| table.coldest())?;
        self.frame_of(victim, span.end())
    }

    /// A frame of at least `need` bytes, by evicting `victim`.
    fn frame_of(&mut self, victim: u64, need: usize) -> Option<Frame> {
        // A page that cannot leave stays where it is, and the caller goes straight to the store.
        let frame = self.evict(victim, SpillReason::Evicted).ok()??;
        if frame.capacity() >= need {
            return Some(frame);
        }
        self.recycle_frame(frame);
        self.find_frame(need, Effort::Spare)
    }

    pub(crate) fn recycle_frame(&self, frame: Frame) {
        self.usage().memory.release(frame.capacity() as u64);
        self.pool.frames.recycle(frame);
    }

    /// Moves pages to their slots while the pool's budget, lowered meanwhile, is passed.
    pub(crate) fn evict_over_limit(&mut self) {
        while self.pool.frames.is_over()
            && let Some((victim, _)) = self.table(|table| table.coldest())
            && let Ok(Some(frame)) = self.evict(victim, SpillReason::LimitLowered)
        {
            self.recycle_frame(frame);
        }
    }

    /// Moves a page from memory to its slot, and hands out its frame; `None` if it is not in memory any
    /// more. This is the one place where an owner lets a page leave memory: choose where, copy out, only
    /// then let go. On an error the page is still resident, and nothing else has changed.
    pub(crate) fn evict(&mut self, index: u64, reason: SpillReason) -> Result<Option<Frame>, SpillError> {
        let Some(resident) = self.table(|table| table.remove_resident(index)) else { return Ok(None) };
        match self.write_out(index, &resident) {
            Ok(None) => {
                self.table(|table| table.sums.forget(index));
                Ok(Some(resident.frame))
            }
            Ok(Some(slot)) => {
                if let Some(outgrown) = resident.slot.filter(|&old| old != slot) {
                    self.free_slot(outgrown);
                }
                let Resident { frame, valid, dirty, .. } = resident;
                self.table(|table| table.put(index, Page::Spilled { slot, valid }));
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

    /// Copies a page to a slot unless the slot has the same bytes already; returns the slot, if the
    /// page has any bytes at all.
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

    /// Counts pages whose bytes, so many in all, have gone to the store, and tells of a buffer's first.
    pub(crate) fn count_spills(&self, reason: SpillReason, pages: u64, bytes: usize) {
        self.pool.counters.count_spills(reason, pages);
        if self.usage().count_spills(pages) {
            self.pool.listeners.notify(&Event::FirstSpill { reason, bytes: bytes as u64 });
        }
    }
}
