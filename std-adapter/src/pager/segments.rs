//! Segments: how long they are, and how one is opened at the end of a spilled page.
//!
//! While memory is short, a buffer has the fair share of those that need some. If that is less than a page,
//! its frames are as long as the share allows, from 256 bytes on, and each holds a segment of a page. So a
//! thousand uploads in 32 MiB move 32 KiB at a time, each byte once; with whole pages each append read 64
//! KiB and wrote 64 KiB.
//!
//! Held by: `tests/tests/many_streams.rs`, `tests/tests/spill_model.rs`, `tests/tests/spill_faults`.

use crate::error::SpillError;
use crate::foreign::drop_quietly;
use crate::memory::frame::Frame;
use crate::pager::span::Span;
use crate::pager::state::Pager;
use crate::pages::page::Location;
use crate::pages::resident::Resident;
use crate::pool::registry::Effort;

impl Pager {
    /// Bytes of the longest frame that this buffer may have while memory is short; less than any frame's
    /// if it may have none.
    pub(crate) fn segment_len(&self) -> usize {
        let share = usize::try_from(self.share()).unwrap_or(usize::MAX);
        self.pool.frames.class_within(share)
    }

    /// How much effort a frame is worth that is longer than the share may allow.
    pub(crate) fn effort_for_more(&self) -> Effort {
        if self.segment_len() < self.pool.page_size { Effort::Ample } else { Effort::Spare }
    }

    /// Bytes that this buffer may hold while memory is short.
    pub(crate) fn share(&self) -> u64 {
        self.pool.active_share().min(self.usage().memory.limit())
    }

    /// The offset in its page at which a segment is to begin that has the byte at `at`. With checksums that
    /// is the beginning of a block.
    pub(crate) fn first_of_segment(&self, at: usize) -> usize {
        if self.has_sums() { at / self.block_bytes() * self.block_bytes() } else { at }
    }

    /// Bytes of the shortest frame that a segment may have. With checksums it has whole blocks.
    pub(crate) fn shortest_segment(&self) -> usize {
        if self.has_sums() { self.block_bytes() } else { 1 }
    }

    /// Whether `frame` is as long as the fair share allows.
    pub(crate) fn fits_share(&self, frame: &Frame) -> bool {
        frame.capacity() == self.segment_len()
    }

    /// `frame`, or a longer or shorter one if the fair share has changed: the shorter frees memory for
    /// others.
    pub(crate) fn fit_to_share(&mut self, frame: Frame) -> Option<Frame> {
        if self.fits_share(&frame) {
            return Some(frame);
        }
        let (len, held) = (self.segment_len(), frame.capacity());
        self.recycle_frame(frame);
        let effort = if len > held { Effort::Idle } else { Effort::Spare };
        self.find_frame(len.max(1), effort).or_else(|| self.find_frame(held.min(len).max(1), Effort::Spare))
    }

    /// Whether the slot of a spilled page has room where `span` begins, at the end of its content. Moves the
    /// page to a longer slot if need be.
    pub(crate) fn make_slot_reach(&mut self, span: Span) -> bool {
        match self.table(|table| table.locate(span.index)) {
            Location::Spilled { slot, end } if slot.len() <= span.at as u64 => {
                self.relocate(span.index, slot, end).map_err(drop_quietly).is_ok()
            }
            _ => true,
        }
    }

    /// A segment in `frame` at the end of the content of page `index`, which is spilled. The page's slot is
    /// moved if it is too short, and the segment ends with it if there is no room for a longer one. `None` if
    /// the frame is too short, or the slot has no room at all.
    pub(crate) fn segment_at_end(
        &mut self,
        frame: Frame,
        index: u64,
    ) -> Result<Option<Resident>, SpillError> {
        let Location::Spilled { slot, end } = self.table(|table| table.locate(index)) else {
            self.give_back(frame);
            return Ok(None);
        };
        let start = self.first_of_segment(end);
        let reach = (start + frame.capacity()).min(self.pool.page_size);
        let is_short = slot.len() < reach as u64;
        let longer = if is_short { self.relocate(index, slot, end).map_err(drop_quietly) } else { Ok(slot) };
        let slot = longer.unwrap_or(slot);
        let has_room = end < reach && (end as u64) < slot.len();
        if !has_room || frame.capacity() < self.shortest_segment() {
            self.give_back(frame);
            return Ok(None);
        }
        self.fill_from_slot(Resident::segment(frame, slot, start, end), index, slot, end - start)
    }
}
