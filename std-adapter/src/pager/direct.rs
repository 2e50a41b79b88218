//! Direct transfers: between the caller's bytes and slots, without a frame.
//!
//! Promises:
//!
//! - Pages whose slots are adjacent are moved in one call of the store: a megabyte written to a fresh part of
//!   the file is one system call.
//! - I3: a write returns how much the store has accepted, and the table says the same. A slot that was
//!   allocated for a page and not written is freed.
//! - A direct read allocates no slot and needs no room on the disk.
//!
//! Held by: `tests/tests/pool_stats.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults`.

use crate::disk::slots::Slot;
use crate::error::SpillError;
use crate::observe::counters::IoPath;
use crate::observe::stats::SpillReason;
use crate::pager::span::{Span, ZEROS};
use crate::pager::state::Pager;
use crate::pages::page::{Location, Page};
use crate::sync::Arc;
use std::ops::Range;

/// The most pages that are moved in one call: a bit of [`Run::fresh`] for each.
const RUN: u32 = u64::BITS;

/// A run of pages that one write goes to: their slots are adjacent.
pub(crate) struct Run {
    /// The index of the first page.
    first: u64,
    /// The store offset of the run's first byte.
    pub(crate) offset: u64,
    /// The slot of each page. Bit `i` of `fresh` says that the slot of page `i` was allocated for this write.
    slots: [Slot; RUN as usize],
    fresh: u64,
    pages: u32,
    /// How many of the bytes to be written belong to the run.
    pub(crate) len: usize,
}

impl Pager {
    /// Reads from a spilled page, at an offset that has content, and from the pages after it while their
    /// slots are adjacent. Returns how much was read, at least one byte.
    pub(crate) fn read_direct(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let (start, len) = self.run_in_store(offset, buf.len());
        self.read_spilled(IoPath::Direct, offset, start, &mut buf[..len])
    }

    /// Where in the store the content at `offset` is, and how many of the next `most` bytes of content lie
    /// there one after another: those of its page, and of the pages after it while their slots are adjacent.
    /// None if the page is not spilled, or its content ends before.
    pub(crate) fn run_in_store(&mut self, offset: u64, most: usize) -> (u64, usize) {
        let page = self.pool.page_size;
        let span = self.span(offset, most);
        self.table(|table| {
            let Location::Spilled { slot, end } = table.locate(span.index) else { return (0, 0) };
            let mut len = span.part.min(end.saturating_sub(span.at));
            let (mut index, mut next) = (span.index, slot.offset + page as u64);
            // A page that ends early ends the run: the rest of its slot is not content.
            while len < most && (span.at + len).is_multiple_of(page) && len > 0 {
                index += 1;
                match table.locate(index) {
                    Location::Spilled { slot, end } if slot.offset == next => {
                        len += end.min(most - len);
                        next = slot.offset + page as u64;
                        if end < page {
                            break;
                        }
                    }
                    _ => break,
                }
            }
            (slot.offset + span.at as u64, len)
        })
    }

    /// Writes to a page that is not in memory, and to the pages after it while they are not in memory either
    /// and their slots are adjacent. Returns how much was accepted, at least one byte.
    pub(crate) fn write_direct(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        let span = self.span(offset, data.len());
        if span.part == data.len() {
            return self.write_in_slot(span, offset, data);
        }
        let run = self.plan_run(offset, data.len())?;
        let (written, result) = self.write_spilled(IoPath::Direct, offset, run.offset, &data[..run.len]);
        let settled = self.settle_run(&run, offset, written);
        if settled == 0 {
            result?;
        }
        Ok(settled)
    }

    /// Writes `data` to the page of `span`, which is not in memory, and has all of it. Returns how much was
    /// accepted, at least one byte.
    fn write_in_slot(&mut self, span: Span, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        let (slot, is_fresh) = self.slot_to_write(span.index, span.at, span.end())?;
        let store_offset = slot.offset + span.at as u64;
        let (written, result) = self.write_spilled(IoPath::Direct, offset, store_offset, data);
        let settled = self.settle_page(span.index, slot, is_fresh, span.at..span.at + written);
        if settled == 0 {
            result?;
        }
        self.count_spills(SpillReason::Direct, u64::from(settled > 0), settled);
        Ok(settled)
    }

    /// Chooses the pages and slots of a run for `len` bytes, and allocates those that are missing.
    pub(crate) fn plan_run(&mut self, offset: u64, len: usize) -> Result<Run, SpillError> {
        let page = self.pool.page_size;
        let span = self.span(offset, len);
        let (slot, fresh) = self.slot_to_write(span.index, span.at, span.end())?;
        let mut run = Run {
            first: span.index,
            offset: slot.offset + span.at as u64,
            slots: [slot; RUN as usize],
            fresh: u64::from(fresh),
            pages: 1,
            len: span.part,
        };
        let mut next = slot.offset + page as u64;
        while run.len < len && run.pages < RUN {
            let part = page.min(len - run.len);
            let index = run.first + u64::from(run.pages);
            // If there is no room for a further page, end the run and write the pages before it.
            let Some((slot, fresh)) = self.slot_beside(index, next, part) else { break };
            run.slots[run.pages as usize] = slot;
            run.fresh |= u64::from(fresh) << run.pages;
            run.pages += 1;
            run.len += part;
            next += page as u64;
        }
        Ok(run)
    }

    /// The slot of page `index`, ready to be written from `at` to `end`, and whether it was allocated for
    /// that. What lies between the content and `at` is filled with zeros.
    fn slot_to_write(&mut self, index: u64, at: usize, end: usize) -> Result<(Slot, bool), SpillError> {
        let in_base = self.base_bytes_of_hole(index);
        if in_base > 0 && (at > 0 || end < in_base) {
            self.bring_to_slot(index, in_base)?;
        }
        let (slot, content_end, fresh) = match self.table(|table| table.locate(index)) {
            Location::Spilled { slot, end: content_end } => {
                let fits = slot.len() >= end as u64;
                let slot = if fits { slot } else { self.relocate(index, slot, content_end)? };
                (self.charge_spilled(index, slot, content_end, end)?, content_end, false)
            }
            location @ (Location::Hole | Location::Memory | Location::InTransit) => {
                debug_assert_eq!(location, Location::Hole, "what is in memory is written there");
                if !self.table(|table| table.reserve_for_leave(index)) {
                    return Err(SpillError::OutOfMemory);
                }
                (self.allocate_to_grow(index, self.pool.page_size, end)?, 0, true)
            }
        };
        if at > content_end
            && let Err(error) = self.write_zeros(index, slot, content_end..at)
        {
            if fresh {
                self.free_fresh(index, slot);
            }
            return Err(error);
        }
        Ok((slot, fresh))
    }

    /// The slot of page `index` if it is at `offset` and holds `part` bytes from the beginning of the page,
    /// and whether it was allocated for that. `None` also for a page in memory.
    fn slot_beside(&mut self, index: u64, offset: u64, part: usize) -> Option<(Slot, bool)> {
        match self.table(|table| table.locate(index)) {
            Location::Spilled { slot, end } => {
                let is_beside = slot.offset == offset && slot.len() >= part as u64;
                let slot = is_beside.then(|| self.charge_spilled(index, slot, end, part).ok())??;
                Some((slot, false))
            }
            Location::Memory | Location::InTransit => None,
            Location::Hole if self.base_bytes(index) > part => None,
            Location::Hole if !self.table(|table| table.reserve_for_leave(index)) => None,
            Location::Hole => self.allocate_slot_at(index, offset).map(|slot| (slot, true)),
        }
    }

    /// Enters in the table what was written, and frees the slots that were allocated but not
    /// reached. Returns how much was accepted: not what was written of a page that has more bytes in
    /// the base, and stays there.
    pub(crate) fn settle_run(&mut self, run: &Run, offset: u64, written: usize) -> usize {
        let mut at = self.span(offset, 0).at;
        let (mut left, mut settled, mut pages) = (written, 0, 0);
        for page in 0..run.pages {
            let slot = run.slots[page as usize];
            let index = run.first + u64::from(page);
            let is_fresh = run.fresh >> page & 1 == 1;
            let part = left.min(self.pool.page_size - at);
            let settled_part = self.settle_page(index, slot, is_fresh, at..at + part);
            pages += u64::from(settled_part > 0);
            settled += settled_part;
            left -= part;
            at = 0;
        }
        self.count_spills(SpillReason::Direct, pages, settled);
        settled
    }

    /// Enters in the table that `written` of page `index` is in `slot`, and returns how many bytes were
    /// accepted. If that is none, frees a slot that was allocated for it.
    fn settle_page(&mut self, index: u64, slot: Slot, is_fresh: bool, written: Range<usize>) -> usize {
        if written.is_empty() || is_fresh && self.base_bytes(index) > written.end {
            if is_fresh {
                self.free_fresh(index, slot);
            }
            return 0;
        }
        self.table(|table| {
            let before = match table.locate(index) {
                Location::Spilled { slot: same, end } if same == slot && end >= written.end => return,
                Location::Spilled { end, .. } => end,
                Location::Hole | Location::Memory | Location::InTransit => 0,
            };
            table.remove(index);
            table.put(index, Page::Spilled { slot, end: before.max(written.end) });
        });
        if is_fresh {
            self.forget_in_base(index);
        }
        written.len()
    }

    /// Frees a slot that was allocated for page `index`, which is still a hole.
    fn free_fresh(&mut self, index: u64, slot: Slot) {
        self.table(|table| table.sums.forget(index));
        self.free_slot(slot);
    }

    /// Charges the slot of spilled page `index`, whose content ends at `content_end`, as far as its first
    /// `end` bytes need.
    fn charge_spilled(
        &mut self,
        index: u64,
        slot: Slot,
        content_end: usize,
        end: usize,
    ) -> Result<Slot, SpillError> {
        let charged = self.charge_slot(slot, end)?;
        if charged != slot {
            self.table(|table| {
                table.remove(index);
                table.put(index, Page::Spilled { slot: charged, end: content_end });
            });
        }
        Ok(charged)
    }

    /// Moves a spilled page to a slot in which it can grow to a page. Its checksums still hold: all bytes
    /// that they cover are copied. On an error the page is still in its old slot.
    pub(crate) fn relocate(&mut self, index: u64, from: Slot, end: usize) -> Result<Slot, SpillError> {
        let len = self.covered(index, end);
        let to = self.allocate_to_grow(index, self.pool.page_size, len)?;
        if let Err(error) = self.copy_slot(from, to, len) {
            self.free_slot(to);
            return Err(error);
        }
        self.table(|table| {
            table.remove(index);
            table.put(index, Page::Spilled { slot: to, end });
        });
        self.free_slot(from);
        Ok(to)
    }

    /// Copies `len` bytes from slot to slot, through a spare frame if the pool has one.
    fn copy_slot(&mut self, from: Slot, to: Slot, len: usize) -> Result<(), SpillError> {
        let pool = Arc::clone(&self.pool);
        pool.with_scratch(len, |room| self.copy_through(room, from, to, len))
    }

    fn copy_through(&mut self, room: &mut [u8], from: Slot, to: Slot, len: usize) -> Result<(), SpillError> {
        let step = room.len();
        for done in (0..len).step_by(step) {
            let block = &mut room[..step.min(len - done)];
            self.read_store(IoPath::Paged, from.offset + done as u64, block)?;
            self.write_store(IoPath::Paged, to.offset + done as u64, block).1?;
        }
        Ok(())
    }

    /// Fills `gap` of page `index`, which begins at the end of its content, with zeros.
    fn write_zeros(&mut self, index: u64, slot: Slot, gap: Range<usize>) -> Result<(), SpillError> {
        let start = index * self.pool.page_size as u64;
        let mut at = gap.start;
        while at < gap.end {
            let zeros = &ZEROS[..ZEROS.len().min(gap.end - at)];
            let (written, result) =
                self.write_spilled(IoPath::Paged, start + at as u64, slot.offset + at as u64, zeros);
            result?;
            at += written;
        }
        Ok(())
    }
}
