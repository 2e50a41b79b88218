//! Writing: to frames, to slots, and which of the two.
//!
//! Promises:
//!
//! - I3: the bytes that a call accepted are in their place before the call returns. What a frame has leaves
//!   it only after it has arrived in the slot.
//! - An append to a page whose beginning is in the slot reads nothing of it, unless there are checksums: they
//!   make it read a part of a block.
//! - What the disk limit refuses takes what is left of the memory, whatever the share, if that is enough for
//!   a frame: only without either does a write fail there.
//!
//! # An append when memory is short
//!
//! The page becomes a segment: what its frame has goes to the slot, and the frame continues where that ended.
//! The slot is one in which the page can grow, and is charged as far as it was written. So each byte is
//! written once, in pieces as long as the frame; `residency` says how long that is.
//!
//! Held by: `tests/tests/spill_model.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults`,
//! `tests/tests/many_streams.rs`.

use crate::disk::slots::Slot;
use crate::disk::store_access;
use crate::error::SpillError;
use crate::foreign::{as_far_as, drop_quietly};
use crate::memory::frame::Frame;
use crate::observe::stats::SpillReason;
use crate::pager::residency::Admitted;
use crate::pager::slide::Slid;
use crate::pager::span::{Access, Pinned, Span};
use crate::pager::state::Pager;
use crate::pages::page::{Location, Stay};
use crate::pages::resident::Resident;
use crate::pool::registry::Effort;

/// Where the next bytes of a write go.
pub(crate) enum Way {
    /// So many of them to the frame of their page.
    Frame(usize),
    /// So many of them are in the slot already.
    Along(usize),
    /// To the slot.
    Slot,
}

impl Pager {
    /// Writes what does not lie in the window. Waits for room on the disk as the policy says.
    #[cold]
    pub(crate) fn write_slow(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        self.retry_after_waits(|pager| {
            pager.write_once(offset, data).map_err(|error| pager.refusal_of_buffer(error))
        })
    }

    /// The bytes of `data`, to be written at `position`, that a file of the buffer's own has places for: an
    /// error if it has none. Memory would take the others, and none could ever leave it.
    pub(crate) fn fitting<'a>(&self, position: u64, data: &'a [u8]) -> Result<&'a [u8], SpillError> {
        let Some(own) = self.own() else { return Ok(data) };
        let fits = own.fitting(position, data.len() as u64)?;
        Ok(&data[..usize::try_from(fits).unwrap_or(data.len())])
    }

    /// As [`write_slow`](Pager::write_slow), but does not wait.
    pub(crate) fn write_once(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        if !data.is_empty() {
            self.try_table()?;
            self.note_descent(offset, data.len());
        }
        self.operate(|pager| pager.write_pages(offset, data))
    }

    fn write_pages(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        if data.is_empty() {
            return Ok(0);
        }
        let taken = as_far_as(data.len(), |taken| {
            let more = self.write_some(offset + taken as u64, &data[taken..], data.len())?;
            self.last_end = offset + (taken + more) as u64;
            self.len = self.len.max(self.last_end);
            Ok::<_, SpillError>(more)
        })?;
        self.last_end = offset + taken as u64; // a part that has failed was noted
        Ok(taken)
    }

    /// Writes at least one byte of `data`, which is not empty. The whole call writes `want` bytes.
    fn write_some(&mut self, offset: u64, data: &[u8], want: usize) -> Result<usize, SpillError> {
        let span = self.span(offset, data.len());
        if self.write_turn(offset, span, &data[..span.part]) {
            return Ok(span.part);
        }
        let (page, access) = self.access(offset, span, want)?;
        let len = match self.make_way(page, span, access, span.covered(), data)? {
            Way::Frame(len) => len,
            Way::Along(len) => return Ok(len),
            Way::Slot => match self.write_direct(offset, data) {
                Err(SpillError::DiskLimit { .. }) if self.open_beyond_share(span, false)? => span.part,
                written => return written,
            },
        };
        let data = &data[..len];
        self.table(|table| {
            let page = table.visit(span.index, access.continues());
            page.expect("I1: a pinned page stays").write(span.at, data);
        });
        if page == Pinned::Hole {
            self.forget_in_base(span.index);
        }
        Ok(len)
    }

    /// Loads, evicts or opens what a write of `span` needs, and returns where its bytes then go. `data` is
    /// empty if they come later. The write covers the first `covered` bytes of the page: what the page has of
    /// these is not needed.
    pub(crate) fn make_way(
        &mut self,
        page: Pinned,
        span: Span,
        access: Access,
        covered: usize,
        data: &[u8],
    ) -> Result<Way, SpillError> {
        let in_memory = match page {
            Pinned::Memory => true,
            Pinned::Slot { slot, end } if end <= covered => {
                return Ok(self.open_unread(span, access, Some(slot)));
            }
            Pinned::Slot { end, .. } if end == span.at => return self.open_to_append(span, access),
            Pinned::Slot { .. } => self.load(span, access)?,
            Pinned::Hole if self.base_bytes(span.index) > covered => self.bring_to_frame(span, access)?,
            Pinned::Hole => return Ok(self.open_unread(span, access, None)),
        };
        if in_memory { self.make_room(span, data) } else { Ok(Way::Slot) }
    }

    /// How many bytes of `span` the frame of its page can take.
    fn room(&mut self, span: Span) -> usize {
        self.table(|table| table.resident(span.index).map_or(0, |page| page.room(span.at))).min(span.part)
    }

    /// Opens the window on a page whose old bytes, in `slot` or in the base, are not needed, if it deserves a
    /// frame. If there are old bytes, the frame must hold all of `span`: if the write stopped at the end of a
    /// shorter one, those behind that would be needed after all.
    fn open_unread(&mut self, span: Span, access: Access, slot: Option<Slot>) -> Way {
        let Some(Admitted { frame, stay }) = self.admit(span, 0, span.at + 1, access) else {
            return Way::Slot;
        };
        let room = frame.capacity().saturating_sub(span.at).min(span.part);
        let is_hole = slot.is_none() && self.base_bytes(span.index) == 0;
        if room < span.part && !is_hole {
            self.recycle_frame(frame);
            return Way::Slot;
        }
        let page = Resident::fresh(frame).with_slot(slot);
        if self.open(span.index, page, stay) { Way::Frame(room) } else { Way::Slot }
    }

    /// Makes room in memory for bytes of `span`, whose page is in memory and pinned. Otherwise evicts the
    /// page.
    fn make_room(&mut self, span: Span, data: &[u8]) -> Result<Way, SpillError> {
        self.own_copy(span.index);
        let room = self.room(span);
        if room == span.part {
            return Ok(Way::Frame(room));
        }
        let (held, end, is_segment, is_left) = self.table(|table| {
            let page = table.resident(span.index).expect("I1: a pinned page stays");
            let is_left = span.index == 0 && page.end() == 0 && page.slot.is_none();
            (page.frame.capacity(), page.end(), page.is_segment(), is_left)
        });
        if !is_segment && let Some(larger) = self.find_larger(span, end, held) {
            self.grow(span.index, larger);
            return Ok(Way::Frame(span.part));
        }
        if is_left && self.base_bytes(span.index) == 0 && self.fits_in_place(span, held) {
            return Ok(self.open_again(span, held));
        }
        let appends = span.at == end && end > 0;
        if room > 0 && (store_access::is_resident_only() || !(appends && data.len() >= held)) {
            return Ok(Way::Frame(room));
        }
        let moved = if appends { self.slide_on(span, data) } else { self.way_to_slot(span.index) };
        match moved {
            Err(SpillError::DiskLimit { .. }) if self.grow_beyond_share(span, end) => {
                Ok(Way::Frame(span.part))
            }
            // What has room where it is needs neither memory nor disk.
            Err(SpillError::OutOfMemory | SpillError::DiskLimit { .. } | SpillError::StoreFull { .. })
                if room > 0 =>
            {
                Ok(Way::Frame(room))
            }
            moved => moved,
        }
    }

    /// Whether a frame for all of `span` would find room if one of `held` bytes were given back.
    fn fits_in_place(&self, span: Span, held: usize) -> bool {
        let more = self.pool.frames.class(span.end()).saturating_sub(held);
        let memory = &self.usage().memory;
        memory.limit().saturating_sub(memory.used()) >= more as u64 && self.pool.frames.may_acquire(more)
    }

    /// Gives back the frame of `held` bytes of the page of `span`, which is empty, and opens the page in a
    /// longer one, if that finds room in its place. Otherwise in one as long, if that is long enough for a
    /// byte: another may have taken the room meanwhile.
    fn open_again(&mut self, span: Span, held: usize) -> Way {
        self.drop_empty_page();
        let mut lens = [span.end().max(held), held].into_iter().filter(|len| *len > span.at);
        let Some(frame) = lens.find_map(|len| self.find_frame(len, Effort::Spare)) else {
            return Way::Slot;
        };
        let room = frame.capacity().saturating_sub(span.at).min(span.part);
        let is_open = self.open(span.index, Resident::fresh(frame), Stay::Kept);
        if is_open { Way::Frame(room) } else { Way::Slot }
    }

    /// Moves the page of `span` on, where its content ends.
    fn slide_on(&mut self, span: Span, data: &[u8]) -> Result<Way, SpillError> {
        match self.slide(span, data)? {
            Slid::On => self.way_to_frame(span),
            Slid::Along(len) => Ok(Way::Along(len)),
            Slid::Gone => Ok(Way::Slot),
            Slid::Off(frame) => match self.fit_to_share(frame) {
                Some(frame) => self.append_in(frame, span),
                None => Ok(Way::Slot),
            },
        }
    }

    /// Moves a page in memory to a larger frame, or out of given memory to one as large.
    fn grow(&mut self, index: u64, mut larger: Frame) {
        let smaller = self.table(|table| {
            let page = table.resident(index).expect("I1: a pinned page stays");
            let copied = larger.write(0, page.content());
            debug_assert!(copied, "the frame is too short");
            std::mem::replace(&mut page.frame, larger.into())
        });
        self.recycle_frame(smaller);
    }

    /// Brings all of the page of `span`, for which the disk has no room, to memory that no buffer uses,
    /// whatever the share. Returns whether there is enough. Bytes that `span` covers are not brought along,
    /// unless it `keeps` them: then nothing may be written after all.
    pub(crate) fn open_beyond_share(&mut self, span: Span, keeps: bool) -> Result<bool, SpillError> {
        let covered = if keeps { 0 } else { span.covered() };
        let (slot, stored) = match self.table(|table| table.locate(span.index)) {
            Location::Spilled { slot, end } => (Some(slot), if end > covered { end } else { 0 }),
            Location::Hole if self.base_bytes(span.index) > covered => {
                let in_base = self.base_bytes(span.index);
                let frame = self.find_frame(span.end().max(in_base), Effort::Spare);
                let page = frame.map(Resident::fresh);
                return page.map_or(Ok(false), |page| self.fill_from_base(page, span.index, Stay::Kept));
            }
            Location::Hole => (None, 0),
            Location::Memory | Location::InTransit => return Ok(false),
        };
        let Some(frame) = self.find_frame(span.end().max(stored), Effort::Spare) else { return Ok(false) };
        if stored > 0 {
            return self.load_into(frame, span, Stay::Kept);
        }
        Ok(self.open(span.index, Resident::fresh(frame).with_slot(slot), Stay::Kept))
    }

    /// As [`open_beyond_share`](Pager::open_beyond_share), for a page in memory with content to `end`, which
    /// cannot leave it to make room for `span`.
    fn grow_beyond_share(&mut self, span: Span, end: usize) -> bool {
        let Some(larger) = self.find_frame(span.end().max(end), Effort::Spare) else { return false };
        if self.table(|table| table.resident(span.index).is_some_and(|page| page.is_segment())) {
            return self.unite(span.index, larger, end);
        }
        self.grow(span.index, larger);
        true
    }

    /// Brings all of page `index`, a segment with content to `end`, to one frame. Returns false if it cannot
    /// be read or noted.
    fn unite(&mut self, index: u64, larger: Frame, end: usize) -> bool {
        let slot = self.table(|table| table.resident(index).and_then(|page| page.slot));
        let mut page = Resident::fresh(larger).with_slot(slot);
        let (start, mut done) = (index * self.pool.page_size as u64, 0);
        while done < end {
            let room = &mut page.frame.first_mut(end)[done..];
            match self.read_memory(start + done as u64, room) {
                Ok(read) => done += read,
                Err(error) => {
                    drop_quietly(error);
                    break;
                }
            }
        }
        page.len = end;
        let is_noted = done == end && self.table(|table| table.reserve_for_slide(index));
        if !is_noted {
            self.give_back(page.into_frame());
            return false;
        }
        let segment = self.table(|table| {
            let segment = table.remove_resident(index);
            table.open(index, page, Stay::Kept);
            segment
        });
        if let Some(segment) = segment {
            self.recycle_frame(segment.into_frame());
        }
        true
    }

    /// Opens the window at the end of a spilled page, where `span` begins, if that deserves a frame.
    fn open_to_append(&mut self, span: Span, access: Access) -> Result<Way, SpillError> {
        // Before a frame is taken: each attempt of a waiter would take it and give it back.
        if !self.make_slot_reach(span) {
            return Ok(Way::Slot);
        }
        match self.admit(span, 1, self.shortest_segment(), access) {
            Some(admitted) => self.append_in(admitted.frame, span),
            None => Ok(Way::Slot),
        }
    }

    /// Opens the window at the end of a spilled page, where `span` begins, in `frame`, as a segment.
    fn append_in(&mut self, frame: Frame, span: Span) -> Result<Way, SpillError> {
        let Some(page) = self.segment_at_end(frame, span.index)? else { return Ok(Way::Slot) };
        if self.open(span.index, page, Stay::Passing) { self.way_to_frame(span) } else { Ok(Way::Slot) }
    }

    /// To the frame of the page of `span`, or to the slot if the frame has no room: then the page
    /// must not be in memory.
    fn way_to_frame(&mut self, span: Span) -> Result<Way, SpillError> {
        match self.room(span) {
            0 => self.way_to_slot(span.index),
            room => Ok(Way::Frame(room)),
        }
    }

    /// To the slot of page `index`, which is evicted.
    fn way_to_slot(&mut self, index: u64) -> Result<Way, SpillError> {
        self.evict_and_recycle(index, SpillReason::Evicted)?;
        Ok(Way::Slot)
    }
}
