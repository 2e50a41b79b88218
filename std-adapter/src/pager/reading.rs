//! Reading: from frames, from slots, and which of the two.
//!
//! Promises:
//!
//! - I4: the bytes that a read returns never depend on where they were.
//! - A read never needs room on the disk: if nothing can be evicted, it goes past the frames.
//!
//! [`residency`](crate::pager::residency) decides what gets a frame.
//!
//! Held by: `tests/tests/spill_model.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults`.

use crate::disk::slots::Slot;
use crate::error::SpillError;
use crate::foreign::{as_far_as, drop_quietly};
use crate::memory::frame::Frame;
use crate::observe::counters::IoPath;
use crate::observe::stats::SpillReason;
use crate::pager::residency::Admitted;
use crate::pager::span::{Access, Direction, Origin, Span};
use crate::pager::state::Pager;
use crate::pages::page::{Location, Stay};
use crate::pages::resident::{Part, Resident};

impl Pager {
    #[cold]
    pub(crate) fn read_slow(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        self.note_descent(offset, self.readable(offset, buf.len()));
        self.read_shared(offset, buf)
    }

    /// The same, where other handles read too: which way they go is not noted.
    pub(crate) fn read_shared(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        self.operate(|pager| pager.read_pages(offset, buf))
    }

    /// How many of `len` bytes at `offset` are content.
    fn readable(&self, offset: u64, len: usize) -> usize {
        len.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX))
    }

    fn read_pages(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let want = self.readable(offset, buf.len());
        if want == 0 {
            return Ok(0);
        }
        self.try_table()?;
        let done = as_far_as(want, |done| {
            let read = self.read_some(offset + done as u64, &mut buf[done..want], want)?;
            self.last_end = offset + (done + read) as u64;
            Ok::<_, SpillError>(read)
        })?;
        self.last_end = offset + done as u64; // a part that has failed was noted
        Ok(done)
    }

    /// Reads at least one byte of `buf`, which is not empty and ends before the end of the content. The whole
    /// call reads `want` bytes.
    fn read_some(&mut self, offset: u64, buf: &mut [u8], want: usize) -> Result<usize, SpillError> {
        let span = self.span(offset, buf.len());
        if self.read_turn(offset, span, &mut buf[..span.part], want) {
            return Ok(span.part);
        }
        let (page, access) = self.access(offset, span, want)?;
        let origin = self.origin(page, span);
        let in_base =
            matches!(origin, Origin::Base).then(|| span.part.min(self.base_bytes(span.index) - span.at));
        // Before a frame is sought for the page.
        if let Some(part) = in_base
            && self.read_window_below(offset, &mut buf[..part])
        {
            return Ok(part);
        }
        if self.bring_to_read(origin, span, access)? {
            self.visit_to_read(offset, &mut buf[..span.part], access.continues())
        } else if let Some(part) = in_base.filter(|_| access.continues()) {
            self.read_below(offset, &mut buf[..part], access.direction)
        } else {
            self.read_past(origin, offset, buf)
        }
    }

    /// Brings what is read at `span` to memory, from its `origin`, if it deserves a frame. Returns whether
    /// the page is there then.
    pub(crate) fn bring_to_read(
        &mut self,
        origin: Origin,
        span: Span,
        access: Access,
    ) -> Result<bool, SpillError> {
        match origin {
            Origin::Memory => self.read_on(span, access),
            Origin::Slot { .. } => self.load(span, access),
            Origin::Base => self.copy_base_page(span, access),
            Origin::Zeros => Ok(false),
        }
    }

    /// Reads at least one byte of `buf` past the frames, from the `origin` of `offset`. A page that was
    /// in memory has left it.
    pub(crate) fn read_past(
        &mut self,
        origin: Origin,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, SpillError> {
        let part = self.span(offset, buf.len()).part;
        match origin {
            Origin::Memory | Origin::Slot { .. } => self.read_direct(offset, buf),
            Origin::Base => self.read_base(offset, &mut buf[..part]),
            Origin::Zeros => {
                buf[..part].fill(0);
                Ok(part)
            }
        }
    }

    /// Reads from the page at `offset`, which is in memory and pinned, whole or as a segment, and moves no
    /// page. Returns how much was read, at least one byte.
    pub(crate) fn read_memory(&mut self, offset: u64, out: &mut [u8]) -> Result<usize, SpillError> {
        self.visit_to_read(offset, out, false)
    }

    /// As [`read_memory`](Pager::read_memory). With `focus`, the page becomes the window.
    fn visit_to_read(&mut self, offset: u64, out: &mut [u8], focus: bool) -> Result<usize, SpillError> {
        let span = self.span(offset, out.len());
        let part = self.table(|table| {
            let page = table.visit(span.index, focus).expect("I1: a pinned page stays");
            if !page.is_segment() {
                page.read(span.at, out);
                return Part::Frame(out.len());
            }
            let part = page.part(span.at, out.len());
            if let Part::Frame(len) | Part::Zeros(len) = part {
                page.read(span.at, &mut out[..len]);
            }
            part
        });
        match part {
            Part::Frame(len) | Part::Zeros(len) => Ok(len),
            Part::Slot(slot, len) => {
                self.read_spilled(IoPath::Direct, offset, slot.offset + span.at as u64, &mut out[..len])
            }
        }
    }

    /// Moves the segment on, if the page of `span` is one and a sequential pass of short pieces has come to
    /// its end. If it cannot be evicted, the read goes past it. Returns false if the page is spilled then, as
    /// [`load_into`](Pager::load_into) does.
    pub(crate) fn read_on(&mut self, span: Span, access: Access) -> Result<bool, SpillError> {
        let ends_here = |page: &mut Resident| {
            let is_short = access.want < page.frame.capacity();
            is_short && page.is_segment() && matches!(page.part(span.at, 1), Part::Slot(..))
        };
        if access.direction == Direction::Up
            && access.is_small
            && self.table(|table| table.resident(span.index).is_some_and(ends_here))
            && let Ok(Some(frame)) = self.evict(span.index, SpillReason::Evicted).map_err(drop_quietly)
            && let Some(frame) = self.reusable(frame)
        {
            return self.load_into(frame, span, Stay::Passing);
        }
        Ok(true)
    }

    /// Loads a spilled page into the window if it deserves a frame, or a segment of it, and
    /// returns whether it did.
    pub(crate) fn load(&mut self, span: Span, access: Access) -> Result<bool, SpillError> {
        let Location::Spilled { end, .. } = self.table(|table| table.locate(span.index)) else {
            return Ok(false);
        };
        let least = match access.direction {
            // A write past the content needs a frame that has the whole page, and the gap as well.
            _ if span.at >= end => span.at + 1,
            // What comes next lies before a segment.
            Direction::Down | Direction::Across => end,
            _ => self.shortest_segment(),
        };
        let Some(Admitted { frame, stay }) = self.admit(span, end, least, access) else { return Ok(false) };
        self.load_into(frame, span, stay)
    }

    /// Loads a spilled page into `frame` and makes it the window: the whole page if it fits, and else a
    /// segment from `span` on. Returns false if there are none, if they cannot be checked or if there is no
    /// memory to note it; the access, which may not need the bad block, is to go directly to the slot.
    pub(crate) fn load_into(&mut self, frame: Frame, span: Span, stay: Stay) -> Result<bool, SpillError> {
        let Location::Spilled { slot, end } = self.table(|table| table.locate(span.index)) else {
            self.give_back(frame);
            return Ok(false);
        };
        if frame.capacity() < end && (span.at >= end || frame.capacity() < self.shortest_segment()) {
            self.give_back(frame);
            return Ok(false);
        }
        let page = if frame.capacity() >= end {
            Resident::of_slot(frame, slot)
        } else {
            Resident::segment(frame, slot, self.first_of_segment(span.at), end)
        };
        let len = page.frame.usable().min(end - page.frame_start());
        Ok(match self.fill_from_slot(page, span.index, slot, len)? {
            Some(page) => self.open(span.index, page, stay),
            None => false,
        })
    }

    /// Reads the first `len` bytes of the frame of `page`, which is page `index` or a segment of it, from its
    /// slot. Calls no store if that are none. `None`, and the frame is given back, if they cannot be checked.
    pub(crate) fn fill_from_slot(
        &mut self,
        mut page: Resident,
        index: u64,
        slot: Slot,
        len: usize,
    ) -> Result<Option<Resident>, SpillError> {
        let start = page.frame_start() as u64;
        let offset = index * self.pool.page_size as u64 + start;
        let read = match page.frame.first_mut(len) {
            [] => Ok(0),
            room => self.read_spilled(IoPath::Paged, offset, slot.offset + start, room),
        };
        page.len = len;
        match read {
            Ok(n) if n == len => Ok(Some(page)),
            Ok(_) | Err(SpillError::Corrupted { .. }) => {
                self.give_back(page.into_frame());
                Ok(None)
            }
            Err(error) => {
                self.recycle_frame(page.into_frame());
                Err(error)
            }
        }
    }

    /// Reads from one page, at least one byte of `buf`, and moves no page. `buf` is not empty and ends before
    /// the end of the content.
    pub(crate) fn peek(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let span = self.span(offset, buf.len());
        let out = &mut buf[..span.part];
        let done = self.pin_settled(span.index).and_then(|page| match self.origin(page, span) {
            Origin::Memory => self.read_memory(offset, out),
            origin => self.read_past(origin, offset, out),
        });
        self.end_operation();
        done
    }
}
