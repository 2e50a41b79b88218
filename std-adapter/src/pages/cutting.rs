//! Cutting a table to a length.
//!
//! Held by: `std-adapter/src/pages/table/tests.rs`, `tests/tests/spill_model.rs`.

use crate::memory::page_frame::PageFrame;
use crate::pages::cut_off::CutOff;
use crate::pages::page::{Location, Page, low_bits};
use crate::pages::table::Table;

impl Table {
    /// Removes the window and returns its page if that begins at or past `len`; otherwise returns a hole.
    pub(crate) fn cut_window(&mut self, len: u64) -> Page {
        let shift = self.shift;
        match self.window.take_if(|window| window.start >> shift << shift >= len) {
            Some(window) => Page::Resident(window.resident),
            None => Page::Hole,
        }
    }

    /// Makes the page that `len` falls in spilled, and returns its frame, if the page is a segment and the
    /// frame begins at or past `len`. Needs no memory: a segment has an entry from when it was spilled, or
    /// from [`Table::reserve_for_slide`].
    pub(crate) fn cut_segment(&mut self, len: u64) -> Option<PageFrame> {
        let (index, kept) = (len >> self.shift, low_bits(len, self.shift));
        let page = self.resident(index)?;
        if !page.is_segment() || page.frame_start() < kept || kept == 0 {
            return None;
        }
        let page = self.remove_resident(index)?;
        if let Some(slot) = page.slot {
            self.put(index, Page::Spilled { slot, end: kept });
        }
        // A write of the frame that failed half-way has left other bytes there.
        self.sums.forget_from(index, page.frame_start());
        Some(page.into_frame())
    }

    /// Removes pages outside the window that begin at or past `len`: adds the slots of spilled ones and the
    /// frames of resident ones to `cut_off`, from the end on, as many as that takes, and returns the page
    /// before them.
    /// Call it until it returns `None`: only the last call shortens the page that `len` falls in, in the
    /// window or not, and cuts the sums.
    pub(crate) fn truncate(&mut self, len: u64, cut_off: &mut CutOff) -> Option<Page> {
        let kept = low_bits(len, self.shift);
        let last = len >> self.shift;
        let cut = if kept == 0 { last } else { last + 1 };
        let removed = self.map.cut_last(cut, cut_off);
        if removed.is_some() {
            return removed;
        }
        if kept > 0 {
            self.shorten(last, kept);
        }
        self.sums.cut(cut);
        None
    }

    /// Shortens the content of page `index` to its first `end` bytes. Its frame and slot stay, and so does
    /// shorter content.
    fn shorten(&mut self, index: u64, end: usize) {
        if let Some(resident) = self.resident(index) {
            resident.shorten(end);
        } else if let Location::Spilled { slot, end: before } = self.locate(index) {
            self.map.take(index);
            self.map.put(index, Page::Spilled { slot, end: before.min(end) });
        }
    }
}
