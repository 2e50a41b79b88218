//! What is done off an event loop, so that its next operations find in memory what they need.
//!
//! Promises:
//!
//! - What is made ready at the offset that was asked for is pinned until the buffer's next operation: other
//!   buffers cannot take it before the operation that waits for it, so each job is followed by progress. A
//!   job that has failed, or waits for room, pins nothing.
//! - No content changes, and neither does the length: an operation that waits and is dropped
//!   has taken nothing.
//! - A sequential pass moves up to [`AHEAD_MAX`] bytes with one job, and a quarter of the buffer's share at
//!   most, once it comes from the beginning or has come through a whole page: before, its page. Pages that it
//!   has filled leave in one call of the store. What was in memory before the pass stays, but for as much as
//!   a job moves: cold pages, whose frames the pass then uses over and over.
//! - Scattered accesses evict no page for one that they see once.
//!
//! Held by: the tests below, `tests/tests/async_buffer/`.

use crate::error::SpillError;
use crate::foreign::{as_far_as, drop_quietly};
use crate::memory::frame::Frame;
use crate::observe::counters::IoPath;
use crate::pager::span::{Access, Origin, Pinned, Span};
use crate::pager::state::Pager;
use crate::pager::writing::Way;
use crate::pages::page::{Location, Page};
use crate::pages::resident::{Part, Resident};
use crate::pool::departure::Departure;
use crate::sync::Arc;
use std::ops::Range;

/// Bytes that one job makes ready, or moves out. The task switch then is a small part of what the
/// store takes for them.
pub(crate) const AHEAD_MAX: usize = 1 << 20;

/// The most pages of one job.
const PAGES_MAX: usize = 64;

/// A pass between whose operations so many came elsewhere takes turns with another, and what is made ready
/// ahead of the one would leave for the other before it is used.
const JUMPS_MIN: u8 = 4;

/// A page is tried so often: its frame may have to be evicted before it can be opened again as a segment.
const TRIES: usize = 3;

impl Pager {
    /// Makes room in memory for bytes at `offset`, of a call that has `len` of them. Returns false if
    /// the page gets no frame.
    pub(crate) fn prepare_write(&mut self, offset: u64, len: usize) -> Result<bool, SpillError> {
        self.prepare(offset, len, Pager::open_for_write, Pager::open_ahead)
    }

    /// Brings bytes at `offset` into memory, of a call for `len`. Returns false if the page gets no frame.
    pub(crate) fn prepare_read(&mut self, offset: u64, len: usize) -> Result<bool, SpillError> {
        self.prepare(offset, len, Pager::load_for_read, Pager::load_ahead)
    }

    /// Whether an operation at `offset` goes on where the last one ended, or in the window did.
    pub(crate) fn goes_on_at(&mut self, offset: u64) -> bool {
        let may_look = self.own_table.is_some() && self.check().is_ok();
        offset == self.last_end || may_look && self.table(|table| table.window_ends_at(offset))
    }

    /// Makes a page ready by `make`, and those behind it by `go_on` if this is a sequential pass.
    fn prepare(
        &mut self,
        offset: u64,
        len: usize,
        make: fn(&mut Self, u64, Span, usize, bool) -> Result<bool, SpillError>,
        go_on: fn(&mut Self, u64) -> u64,
    ) -> Result<bool, SpillError> {
        self.try_table()?;
        let continues = offset == 0 || self.goes_on_at(offset);
        let last_end = self.last_end;
        let span = self.span(offset, len.max(1));
        let made = self.operate(|pager| {
            if continues {
                pager.move_passed_out(span.index);
            }
            let made = make(pager, offset, span, len, continues);
            pager.last_end = last_end;
            if continues && span.at == 0 && matches!(made, Ok(true)) {
                let next = span.index + 1;
                let is_long = !pager.takes_turns()
                    && (pager.is_long_pass(span.index) || pager.has_come_through(span.index));
                let next = if is_long { go_on(pager, next) } else { next };
                pager.note_ready(next, is_long);
            }
            made
        });
        if matches!(made, Ok(true)) {
            self.table(|table| {
                table.pin(span.index);
                // While passes take turns, the next one to need a frame would take it before it is used.
                if let Some(passed) = span.index.checked_sub(1).filter(|_| continues) {
                    table.map.inherit_heat(passed, span.index);
                }
            });
        }
        made
    }

    /// Whether operations elsewhere came between those of the pass since the last job.
    fn takes_turns(&mut self) -> bool {
        self.cold_if_any().is_some_and(|cold| std::mem::take(&mut cold.jumps) >= JUMPS_MIN)
    }

    /// Whether a pass that has come to the beginning of page `index` goes further than a page or two, as far
    /// as that can be known: it comes from the beginning, or through all that was made ready for it. One that
    /// began elsewhere may end soon.
    fn has_come_through(&mut self, index: u64) -> bool {
        index == 0 || self.cold_if_any().is_none_or(|cold| cold.ready_to == index)
    }

    /// Whether such a pass was seen near page `index`.
    fn is_long_pass(&mut self, index: u64) -> bool {
        let near = 2 + 2 * self.pages_ahead() as u64;
        self.cold_if_any().is_none_or(|cold| cold.is_long_pass && cold.ready_to.abs_diff(index) <= near)
    }

    /// Notes that all before page `index` was made ready for a pass, and whether that is a long one.
    pub(crate) fn note_ready(&mut self, index: u64, is_long: bool) {
        if let Some(cold) = self.cold_if_any() {
            (cold.ready_to, cold.is_long_pass) = (index, is_long);
        }
    }

    fn open_for_write(
        &mut self,
        offset: u64,
        span: Span,
        len: usize,
        continues: bool,
    ) -> Result<bool, SpillError> {
        for _ in 0..TRIES {
            match self.way_for_write(offset, span, len, continues)? {
                Way::Frame(room) if room > 0 => return Ok(true),
                Way::Frame(_) | Way::Along(_) | Way::Slot => {}
            }
            if self.table(|table| table.locate(span.index)) == Location::Hole {
                break;
            }
        }
        self.open_beyond_share(span, true)
    }

    /// How far bytes at `offset`, of a call that has `len`, would find room on the disk, or where they are to
    /// go in memory: to `most` of them, or as far as those of the call, and no further than their page. An
    /// error if there is none. Another may take the room meanwhile.
    pub(crate) fn room_beside(&mut self, offset: u64, len: usize, most: usize) -> Result<u64, SpillError> {
        let part = self.span(offset, most).part;
        self.probe_room(offset, part).or_else(|error| match len.min(part) {
            less if less < part => self.probe_room(offset, less),
            _ => Err(error),
        })
    }

    /// Takes no room for the look, so no write of another buffer is refused for it.
    fn probe_room(&mut self, offset: u64, part: usize) -> Result<u64, SpillError> {
        let span = self.span(offset, part);
        self.await_transit(span.index)?; // it may come back, or have a slot with room
        let to = |part: usize| offset.saturating_add(part as u64); // the last page ends at 2^64
        let in_base = self.base_bytes(span.index);
        let (room, end, slot) = self.table(|table| match table.resident(span.index) {
            Some(page) => (page.room(span.at), page.end(), page.slot),
            None => match table.locate(span.index) {
                Location::Spilled { slot, end } => (0, end, Some(slot)),
                Location::Hole => (0, in_base, None),
                Location::Memory | Location::InTransit => (0, 0, None),
            },
        });
        if room >= span.part {
            return Ok(to(span.part));
        }
        let end = span.end().max(end);
        match self.check_room(slot.filter(|slot| slot.len() >= end as u64), end) {
            Err(error) if room > 0 => {
                drop_quietly(error);
                Ok(to(room))
            }
            checked => checked.map(|()| to(span.part)),
        }
    }

    fn way_for_write(
        &mut self,
        offset: u64,
        span: Span,
        len: usize,
        continues: bool,
    ) -> Result<Way, SpillError> {
        let (page, access) = self.access_ahead(offset, span, len, continues)?;
        self.make_way(page, span, access, 0, &[])
    }

    fn load_for_read(
        &mut self,
        offset: u64,
        span: Span,
        len: usize,
        continues: bool,
    ) -> Result<bool, SpillError> {
        let (page, access) = self.access_ahead(offset, span, len, continues)?;
        let origin = self.origin(page, span);
        if matches!(origin, Origin::Zeros) {
            return Ok(true);
        }
        if !self.bring_to_read(origin, span, access)? {
            return Ok(false);
        }
        let part = self.table(|table| table.resident(span.index).map(|page| page.part(span.at, span.part)));
        Ok(matches!(part, Some(Part::Frame(_) | Part::Zeros(_))))
    }

    /// Reads bytes at `offset` past the frames, at least one, in as many pages as need be.
    /// `offset` is before the end.
    pub(crate) fn read_past_frames(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let left = usize::try_from(self.len - offset).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let done = as_far_as(want, |done| self.peek(offset + done as u64, &mut buf[done..want]))?;
        self.last_end = offset + done as u64;
        Ok(done)
    }

    /// As [`access`](Pager::access), for a call that has counted it before it needed a job. A sequential pass
    /// gets a page as one of small pieces does.
    fn access_ahead(
        &mut self,
        offset: u64,
        span: Span,
        len: usize,
        continues: bool,
    ) -> Result<(Pinned, Access), SpillError> {
        let (page, access) = self.access_by(offset, span, len, |table, index| table.map.heat(index))?;
        Ok((page, if continues { access.as_small_scan() } else { access }))
    }

    /// How many pages a job moves.
    pub(crate) fn pages_ahead(&self) -> usize {
        let quarter = usize::try_from(self.share() / 4).unwrap_or(usize::MAX);
        (quarter.min(AHEAD_MAX) / self.pool.page_size).min(PAGES_MAX)
    }

    /// Tries to take a frame to spare for a page, and gives it back. Returns whether there is
    /// none: memory is short.
    fn probe_shortage(&mut self) -> bool {
        let spare = self.find_frame(self.pool.page_size, self.effort_for_more());
        let is_short = spare.is_none();
        if let Some(frame) = spare {
            self.give_back(frame);
        }
        is_short
    }

    /// Frees the pages past the end, which a job has opened for a pass that did not come.
    pub(crate) fn end_ahead(&mut self) {
        let first = self.len.div_ceil(self.pool.page_size as u64);
        self.discard_pages(first..u64::MAX);
    }

    // ---- ahead of a sequential pass

    /// Opens the pages from `first` on that are holes, while there are frames for them. Returns the first
    /// that it leaves.
    fn open_ahead(&mut self, first: u64) -> u64 {
        // The last page ends at 2^64.
        let last = u64::MAX >> self.pool.page_size.trailing_zeros();
        let end = first.saturating_add(self.pages_ahead() as u64).min(last.saturating_add(1));
        for index in first..end {
            if self.base_bytes(index) > 0 || self.table(|table| table.locate(index)) != Location::Hole {
                return index;
            }
            let Some(frame) = self.find_ahead(index) else { return index };
            let page = Page::Resident(Resident::fresh(frame));
            self.table(|table| table.put(index, page));
        }
        end
    }

    /// Loads the pages from `first` on that are spilled, while there are frames for them: spare ones, and
    /// at the beginning of a pass those of cold pages. So a pass has as many as a job moves, and then
    /// uses them over and over. Returns the first that it leaves.
    fn load_ahead(&mut self, first: u64) -> u64 {
        let pages = first..first.saturating_add(self.pages_ahead() as u64);
        for index in pages.clone() {
            let Location::Spilled { slot, end } = self.table(|table| table.locate(index)) else {
                return index;
            };
            let frame = self.find_ahead(index);
            let Some(frame) = frame.or_else(|| self.frame_of_cold(first.saturating_sub(1)..pages.end)) else {
                return index;
            };
            let mut page = Resident::of_slot(frame, slot);
            let offset = index * self.pool.page_size as u64;
            let read = self.read_spilled(IoPath::Paged, offset, slot.offset, page.frame.first_mut(end));
            // What cannot be read is an error for those that read it.
            if !matches!(read, Ok(n) if n == end) {
                self.recycle_frame(page.into_frame());
                return index;
            }
            page.len = end;
            self.table(|table| {
                table.remove(index);
                table.put(index, Page::Resident(page));
            });
        }
        pages.end
    }

    /// A frame for page `index`, whole and to spare, and memory to note it.
    fn find_ahead(&mut self, index: u64) -> Option<Frame> {
        if !self.table(|table| table.reserve_for_load(index)) {
            return None;
        }
        self.find_frame(self.pool.page_size, self.effort_for_more())
    }

    /// The frame of the coldest of a sample of pages in memory, if it is none of `pages`.
    fn frame_of_cold(&mut self, pages: Range<u64>) -> Option<Frame> {
        let page_size = self.pool.page_size;
        let (coldest, _) = self
            .table(|table| table.coldest(Resident::has_frame).filter(|(index, _)| !pages.contains(index)))?;
        self.evict_for_frame(coldest, page_size, page_size)
    }

    // ---- behind it

    /// If memory is short, moves the pages right before page `before` out of it, as many as a job moves.
    fn move_passed_out(&mut self, before: u64) {
        let most = self.pages_ahead() as u64;
        if most == 0 || before == 0 || !self.probe_shortage() {
            return;
        }
        self.close_window(); // maybe the last page of the pass
        let pages = before.saturating_sub(most)..before;
        let is_passed = |index: &u64| self.table(|table| table.is_behind(*index));
        let Some(first) = pages.rev().take_while(is_passed).last() else { return };
        let (pool, own) = (Arc::clone(&self.pool), self.own().cloned());
        let table = self.own_table.as_mut();
        let departure = table.and_then(|table| Departure::begin(&pool, table, own, first..before));
        if let Some(mut departure) = departure {
            departure.run();
            self.settle_departed(departure);
        }
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use crate::api::buffer::SpillBuffer;
    use crate::api::pool::SpillPool;
    use std::io::Write;

    const PAGE: usize = 4096;

    fn buffer() -> SpillBuffer {
        SpillPool::builder().memory(64 * PAGE).page_size(PAGE).build().unwrap().buffer()
    }

    /// A page was opened that would begin at 2^64: the buffer's next clone panicked where overflow is
    /// checked.
    #[test]
    fn no_page_is_opened_past_the_last() {
        let mut buffer = buffer();
        let last = u64::MAX / PAGE as u64;
        buffer.pager.last_end = last * PAGE as u64;
        assert!(buffer.pager.prepare_write(last * PAGE as u64, 10).unwrap());
        let pages = buffer.pager.table(|table| [0, last, last + 1].map(|from| table.next_page(from)));
        assert_eq!(pages, [Some(last), Some(last), None]);
        assert!(buffer.try_clone().unwrap().is_empty());
        buffer.check_invariants();
    }

    /// The pages that were opened for a pass which did not come became a source without a byte of content.
    #[test]
    fn a_clone_shares_no_page_past_the_end() {
        let mut buffer = buffer();
        for len in [0, 10] {
            buffer.set_len(len).unwrap();
            assert!(buffer.pager.prepare_write(len, 10).unwrap());
            let mut clone = buffer.try_clone().unwrap();
            assert_eq!(clone.len(), len);
            clone.check_invariants();
            buffer.check_invariants();
        }
    }

    /// A call that found its first page in memory, and the next one not, was noted as if it had had both: the
    /// next one seemed to begin anywhere, and its job moved 16 KiB instead of what a pass comes to.
    #[test]
    fn a_pass_goes_on_after_a_call_that_memory_had_only_a_part_for() {
        let mut buffer = buffer();
        buffer.write_all(&[7; 8 * PAGE]).unwrap();
        buffer.spill().unwrap();
        assert!(buffer.pager.prepare_read(PAGE as u64, 10).unwrap());
        let read = buffer.pager.read_inline(PAGE as u64, &mut [0; 20 * PAGE]);
        let end = PAGE + read.unwrap().unwrap();
        assert!(end < 8 * PAGE);
        assert_eq!(buffer.pager.last_end, end as u64);
    }

    /// The attempt on the loop counted an access, and then its job did: a page that was seen once was loaded
    /// as one that is used again.
    #[test]
    fn an_access_that_needs_a_job_is_counted_once() {
        let mut buffer = buffer();
        buffer.write_all(&[7; 8 * PAGE]).unwrap();
        buffer.spill().unwrap();
        let at = 5 * PAGE as u64;
        let heat = buffer.pager.table(|table| table.map.heat(5));
        assert!(buffer.pager.read_inline(at, &mut [0; PAGE]).is_none());
        buffer.pager.prepare_read(at, PAGE).unwrap();
        assert_eq!(buffer.pager.table(|table| table.map.heat(5)), heat + 1);
    }
}
