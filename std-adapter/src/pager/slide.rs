//! A segment moves on: what its frame has goes to the slot, and the frame goes on where that ended.
//!
//! Promises:
//!
//! - I3: on an error the page is in its frame, as before. None of the caller's bytes were taken.
//! - A call that is longer than the frame goes to the slot together with what the frame has, in one call of
//!   the store, up to the end of a block. So the store gets whole blocks, whatever the pieces.
//!
//! Held by: `tests/tests/many_streams.rs`, `tests/tests/spill_faults`.

use crate::disk::slots::{BLOCK_BYTES, Slot, SlotLen};
use crate::error::SpillError;
use crate::memory::frame::Frame;
use crate::memory::page_frame::PageFrame;
use crate::observe::counters::IoPath;
use crate::observe::stats::SpillReason;
use crate::pager::span::Span;
use crate::pager::state::Pager;
use crate::pages::page::{Page, Stay};
use crate::pages::resident::Resident;
use std::io::IoSlice;

/// What became of the frame, and of the caller's bytes.
pub(crate) enum Slid {
    /// The frame has room at the end of the content now.
    On,
    /// So many of the caller's bytes went to the slot. The page may be in memory or not.
    Along(usize),
    /// The page is spilled, and this was its frame, which goes on somewhere else.
    Off(Frame),
    /// The page was no longer in memory, or it is spilled and leaves no frame.
    Gone,
}

impl Pager {
    /// Moves the page of `span` on, which begins where its content ends. `data` is to be written there; some
    /// of it goes along if it is longer than the frame.
    pub(crate) fn slide(&mut self, span: Span, data: &[u8]) -> Result<Slid, SpillError> {
        let index = span.index;
        let removed =
            self.table(|table| table.reserve_for_slide(index).then(|| table.remove_resident(index)));
        let Some(page) = removed.ok_or(SpillError::OutOfMemory)? else { return Ok(Slid::Gone) };
        let held = page.frame.capacity();
        // Not if the slot has bytes between what the frame has and the content's end.
        let goes_along = data.len() >= held && page.frame_end() == page.end();
        let along = &data[..if goes_along { self.goes_along(&page, span) } else { 0 }];
        let len = SlotLen::ToGrow(self.pool.disk.growable_len(index, held + along.len()));
        let slot = match self.write_out(index, &page, along, len) {
            Ok(Some(slot)) => slot,
            Ok(None) => unreachable!("a page that content is appended to has some"),
            Err(error) => {
                self.table(|table| table.open(index, page, Stay::Passing));
                self.pool.disk.quota().serve_if_waiting();
                return Err(error);
            }
        };
        let outgrown = page.slot.filter(|old| old.offset != slot.offset);
        let written = along.len() + if page.dirty || outgrown.is_some() { page.len } else { 0 };
        let end = span.at + along.len();
        let frame = page.into_frame();
        let left = match frame {
            PageFrame::Own(frame) if self.goes_on(&frame, slot, end) => {
                let page = Resident::segment(frame, slot, end, end);
                self.table(|table| table.open(index, page, Stay::Passing));
                None
            }
            frame => {
                self.table(|table| table.put(index, Page::Spilled { slot, end }));
                self.pool.counters.count_eviction();
                Some(frame)
            }
        };
        // Only now: both call foreign code.
        if let Some(outgrown) = outgrown {
            self.free_slot(outgrown);
        }
        self.count_spills(SpillReason::Evicted, u64::from(written > 0), written);
        let slid_on = left.is_none();
        let off = left.and_then(|frame| self.reusable(frame));
        Ok(match off {
            Some(frame) if along.is_empty() => Slid::Off(frame),
            None if along.is_empty() && slid_on => Slid::On,
            None if along.is_empty() => Slid::Gone,
            off => {
                if let Some(frame) = off {
                    self.recycle_frame(frame);
                }
                Slid::Along(along.len())
            }
        })
    }

    /// How many bytes of `span` go along with `page`: up to the end of a block, or of the page.
    /// None with checksums, which are of one piece. A segment stays in its slot, which has bytes
    /// that the frame has not.
    fn goes_along(&self, page: &Resident, span: Span) -> usize {
        if self.has_sums() {
            return 0;
        }
        let slot_end = page.slot.filter(|_| page.is_segment()).map_or(u64::MAX, Slot::len);
        let end = span.end().min(usize::try_from(slot_end).unwrap_or(usize::MAX));
        let end = if end == self.pool.page_size { end } else { end / BLOCK_BYTES * BLOCK_BYTES };
        end.saturating_sub(span.at)
    }

    /// Whether a segment can go on at `end` in the same frame and slot.
    fn goes_on(&self, frame: &Frame, slot: Slot, end: usize) -> bool {
        let page = self.pool.page_size;
        let reaches = slot.len() >= (end + frame.capacity()).min(page) as u64;
        let is_block = !self.has_sums() || end.is_multiple_of(self.block_bytes());
        end < page
            && reaches
            && is_block
            && frame.capacity() >= self.shortest_segment()
            && self.fits_share(frame)
    }

    /// Writes what a page has in its frame, unless `slot` has that already, and `along` behind it.
    pub(crate) fn write_with(&mut self, slot: Slot, page: &Resident, along: &[u8]) -> Result<(), SpillError> {
        let is_stored = !page.dirty && page.slot.is_some_and(|old| old.offset == slot.offset);
        let (start, content) =
            if is_stored { (page.end(), &[][..]) } else { (page.frame_start(), page.content()) };
        let offset = slot.offset + start as u64;
        if along.is_empty() {
            return self.write_store(IoPath::Paged, offset, content).1;
        }
        self.write_store_parts(IoPath::Paged, offset, &mut [content, along].map(IoSlice::new)).1
    }
}
