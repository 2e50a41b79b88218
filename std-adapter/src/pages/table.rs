//! The page table of one buffer: which page is where. Bookkeeping alone; no I/O, no locks, no budget.
//!
//! # States of a page
//!
//! | state | its bytes are in | next state | by |
//! |---|---|---|---|
//! | hole | nothing: all zeros | window | [`Table::open`] |
//! | | | spilled | [`Table::put`] |
//! | window | the window's frame | resident | [`Table::open`] or [`Table::focus`] of another page |
//! | | | spilled, hole | [`Table::remove`], then the pager |
//! | resident | a frame | window | [`Table::focus`] |
//! | | | spilled, hole | [`Table::remove`], then the pager |
//! | window, resident | a frame | in transit, spilled, hole | a reclaiming thread, see [`reclaim`](crate::pool::reclaim) |
//! | in transit | the frame, with its carrier | spilled, resident | [`Table::settle`], after the transit has ended |
//! | spilled | a slot | window, hole | [`Table::remove`], then the pager |
//!
//! I1: a page that is not a hole is in exactly one of window, resident, in transit and spilled. A page in memory may keep a
//! slot: if the page is clean, the slot has the same bytes; if it is dirty, the slot is reserved for the next write.
//!
//! The page of the owner's current operation is pinned and is not reclaimed meanwhile. Any other page in memory may be in
//! transit or spilled each time the owner looks.
//!
//! The bytes of a page past its `valid` are zeros, whatever the frame or the slot has there: growing costs nothing, and
//! memory is used again without being cleared.
//!
//! Held by: `std-adapter/src/pages/table/tests.rs`, `tests/tests/spill_model.rs`, `std-adapter/src/models.rs` (loom).

use crate::pages::page::{Location, Page, View};
use crate::pages::page_map::PageMap;
use crate::pages::resident::Resident;
use crate::pages::sums::Sums;
use crate::pages::transit::{Outcome, Transit};
use crate::sync::Arc;

impl Window {
    /// The content of the page that the window is on.
    pub(crate) fn content(&self) -> &[u8] {
        self.resident.content()
    }
}

/// The page that the cursor stands on, apart from the others: small operations look here alone.
#[derive(Debug)]
pub(crate) struct Window {
    /// The offset of the page's first byte in the stream.
    start: u64,
    resident: Resident,
    /// A sequential pass brought it in; the pass evicts it again.
    passing: bool,
}

/// Bytes of the largest frame that stays with a table that is retired. It is charged to an empty buffer, of which a pool keeps
/// few. With 8 KiB, a body of 10,000 to 60,000 bytes grew its frame anew each time, and took up to three times as long.
pub(crate) const RETIRED_FRAME_MAX: usize = 64 << 10;

/// Which page of one buffer is where.
#[derive(Debug)]
pub(crate) struct Table {
    window: Option<Window>,
    /// All other pages; the window's is a hole here.
    map: PageMap,
    /// The binary logarithm of the page size.
    shift: u32,
    /// The page that the owner's current operation works on.
    pinned: Option<u64>,
    /// The checksums of spilled pages, if the pool keeps any.
    pub(crate) sums: Sums,
}

impl Table {
    pub(crate) fn new(page_size: usize) -> Self {
        Table {
            window: None,
            map: PageMap::default(),
            shift: page_size.trailing_zeros(),
            pinned: None,
            sums: Sums::default(),
        }
    }

    /// Keeps page `index` from being reclaimed until [`Table::unpin`], and returns where it is. One page is pinned at a
    /// time.
    pub(crate) fn pin(&mut self, index: u64) -> Location {
        self.pinned = Some(index);
        self.locate(index)
    }

    pub(crate) fn unpin(&mut self) {
        self.pinned = None;
    }

    pub(crate) fn is_pinned(&self, index: u64) -> bool {
        self.pinned == Some(index)
    }

    /// The `len` bytes at `offset`, to be overwritten, if they lie in the window without a gap and its frame was written so
    /// far before. They are content from now on.
    #[inline(always)]
    pub(crate) fn window_mut(&mut self, offset: u64, len: usize) -> Option<&mut [u8]> {
        let Window { start, resident: Resident { frame, valid, dirty, .. }, .. } = self.window.as_mut()?;
        let at = distance(*start, offset, *valid)?;
        let room = frame.written_mut(at, len)?;
        *valid = (*valid).max(at + len);
        *dirty |= len > 0;
        Some(room)
    }

    /// Writes all of `data` if `offset` is the end of the window's content and of what was ever written to its frame, and the
    /// frame is long enough; otherwise does nothing. `commit` runs before the copy.
    #[inline(always)]
    pub(crate) fn append(&mut self, offset: u64, data: &[u8], commit: impl FnOnce()) -> bool {
        let Some(Window { start, resident: Resident { frame, valid, dirty, .. }, .. }) = &mut self.window
        else {
            return false;
        };
        let at = *valid;
        offset.wrapping_sub(*start) == at as u64
            && frame.append(at, data, || {
                *valid = at + data.len();
                *dirty |= !data.is_empty();
                commit();
            })
    }

    /// The `len` bytes at `offset`, if they lie in the window's content.
    #[inline(always)]
    pub(crate) fn content(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let Window { start, resident, .. } = self.window.as_ref()?;
        let at = distance(*start, offset, resident.valid)?;
        resident.content().get(at..)?.get(..len)
    }

    /// The window's page, if there is a window.
    pub(crate) fn window_index(&self) -> Option<u64> {
        self.window.as_ref().map(|window| window.start >> self.shift)
    }

    /// The page of the window, if a sequential pass brought it in.
    pub(crate) fn passing_index(&self) -> Option<u64> {
        self.window_index().filter(|_| self.window.as_ref().is_some_and(|window| window.passing))
    }

    pub(crate) fn locate(&self, index: u64) -> Location {
        if self.window_index() == Some(index) {
            return Location::Memory;
        }
        match self.map.page(index) {
            None | Some(Page::Hole) => Location::Hole,
            Some(Page::Resident(_)) => Location::Memory,
            Some(&Page::Spilled { slot, valid }) => Location::Spilled { slot, valid },
            Some(Page::InTransit(_)) => Location::InTransit,
        }
    }

    /// Makes page `index` the window if it is in memory, and returns its bytes.
    pub(crate) fn focus(&mut self, index: u64) -> Option<&mut Resident> {
        if self.window_index() != Some(index) {
            if self.locate(index) != Location::Memory {
                return None;
            }
            if let Page::Resident(resident) = self.remove(index) {
                self.open(index, resident, false);
            }
        }
        self.window.as_mut().map(|window| &mut window.resident)
    }

    /// The bytes of a page in memory. If `stays`, it becomes the window.
    pub(crate) fn visit(&mut self, index: u64, stays: bool) -> Option<&mut Resident> {
        if stays { self.focus(index) } else { self.resident(index) }
    }

    /// The bytes of a page in memory, in the window or not.
    pub(crate) fn resident(&mut self, index: u64) -> Option<&mut Resident> {
        if self.window_index() == Some(index) {
            return self.window.as_mut().map(|window| &mut window.resident);
        }
        match self.map.page_mut(index)? {
            Page::Resident(resident) => Some(resident),
            Page::Hole | Page::Spilled { .. } | Page::InTransit(_) => None,
        }
    }

    /// The transit of page `index`, if it is in transit.
    pub(crate) fn transit(&self, index: u64) -> Option<Arc<Transit>> {
        match self.map.page(index)? {
            Page::InTransit(transit) => Some(Arc::clone(transit)),
            Page::Hole | Page::Resident(_) | Page::Spilled { .. } => None,
        }
    }

    /// Puts page `index` in its place again if it is in transit and the transit has ended.
    pub(crate) fn settle(&mut self, index: u64) {
        let Some(outcome) = self.transit(index).and_then(|transit| transit.take_outcome()) else {
            return;
        };
        self.remove(index);
        match outcome {
            Outcome::Arrived { slot, valid, sums } => {
                self.put(index, Page::Spilled { slot, valid });
                if let Some(sums) = sums {
                    self.sums.put(index, sums);
                }
            }
            Outcome::Returned(resident) => self.put(index, Page::Resident(resident)),
        }
    }

    /// Makes `resident` the window, as page `index`, which must be a hole. The window before it becomes a resident page.
    pub(crate) fn open(&mut self, index: u64, resident: Resident, passing: bool) {
        self.close_window();
        debug_assert_eq!(self.locate(index), Location::Hole, "I1");
        self.window = Some(Window { start: index << self.shift, resident, passing });
    }

    /// Makes the table as new if it has no page, or only the first one, in memory without a slot, in a frame of at most
    /// [`RETIRED_FRAME_MAX`]: that frame stays, empty. Otherwise returns false, and no content has changed.
    pub(crate) fn retire(&mut self) -> bool {
        if self.window.is_none()
            && let Some(resident) = self.map.remove_only_first()
        {
            self.window = Some(Window { start: 0, resident, passing: false });
        }
        if !self.map.is_empty() {
            return false;
        }
        if let Some(window) = &mut self.window {
            let bytes = window.resident.frame.capacity();
            if window.start != 0 || window.resident.slot.is_some() || bytes > RETIRED_FRAME_MAX {
                return false;
            }
            window.resident.valid = 0;
            window.passing = false;
        }
        self.sums.cut(0); // of a page that was returned from its transit
        self.pinned = None;
        true
    }

    /// Takes the window out, so that its bytes can be lent; [`Table::reopen`] puts it back.
    pub(crate) fn lend(&mut self) -> Option<Window> {
        self.window.take()
    }

    /// Puts back a window that was lent. There must be no other.
    pub(crate) fn reopen(&mut self, window: Window) {
        debug_assert!(self.window.is_none(), "I1");
        self.window = Some(window);
    }

    /// Makes the window a resident page.
    fn close_window(&mut self) {
        if let Some(window) = self.window.take() {
            self.put(window.start >> self.shift, Page::Resident(window.resident));
        }
    }

    /// Takes a page out, the window included, and leaves a hole.
    pub(crate) fn remove(&mut self, index: u64) -> Page {
        if self.window_index() == Some(index)
            && let Some(window) = self.window.take()
        {
            return Page::Resident(window.resident);
        }
        self.map.page_mut(index).map(std::mem::take).unwrap_or_default()
    }

    /// Takes a page out if it is in memory.
    pub(crate) fn remove_resident(&mut self, index: u64) -> Option<Resident> {
        self.resident(index)?;
        match self.remove(index) {
            Page::Resident(resident) => Some(resident),
            Page::Hole | Page::Spilled { .. } | Page::InTransit(_) => None,
        }
    }

    /// Puts a page in the place of a hole.
    pub(crate) fn put(&mut self, index: u64, page: Page) {
        debug_assert_eq!(self.locate(index), Location::Hole, "I1");
        self.map.put(index, page);
    }

    /// Counts a visit to a page outside the window, and returns its heat.
    pub(crate) fn touch(&mut self, index: u64) -> u8 {
        self.map.touch(index)
    }

    /// The coldest of the next few resident pages other than the window and the pinned page, and its
    /// heat.
    pub(crate) fn coldest(&mut self) -> Option<(u64, u8)> {
        self.map.coldest(self.pinned)
    }

    /// The first page in memory at or after `from`, the window included.
    pub(crate) fn next_in_memory(&self, from: u64) -> Option<u64> {
        let others = self.next_in_map(from, |page| matches!(page, Page::Resident(_)));
        let window = self.window_index().filter(|&index| index >= from);
        others.into_iter().chain(window).min()
    }

    /// The first page at or after `from` that is not a hole, the window included.
    pub(crate) fn next_page(&self, from: u64) -> Option<u64> {
        let others = self.next_in_map(from, |page| !matches!(page, Page::Hole));
        let window = self.window_index().filter(|&index| index >= from);
        others.into_iter().chain(window).min()
    }

    /// The first page at or after `from` that is in transit.
    pub(crate) fn next_in_transit(&self, from: u64) -> Option<u64> {
        self.next_in_map(from, |page| matches!(page, Page::InTransit(_)))
    }

    fn next_in_map(&self, from: u64, is_sought: impl Fn(&Page) -> bool) -> Option<u64> {
        self.map.pages(from).find(|(_, page)| is_sought(page)).map(|(index, _)| index)
    }

    /// Takes the window out if its page begins at or past `len`.
    pub(crate) fn cut_window(&mut self, len: u64) -> Page {
        match self.window.take_if(|window| window.start >= len) {
            Some(window) => Page::Resident(window.resident),
            None => Page::Hole,
        }
    }

    /// Takes out pages outside the window that begin at or past `len`, one leaf a call, so that cutting a large table needs
    /// little memory. `None` when there are none left; the page that `len` lies in is then cut as well.
    pub(crate) fn truncate(&mut self, len: u64) -> Option<Vec<Page>> {
        let keep = low_bits(len, self.shift);
        let last = len >> self.shift;
        let cut = if keep == 0 { last } else { last + 1 };
        let removed = self.map.cut_leaf(cut);
        if removed.is_some() {
            return removed;
        }
        if keep > 0 {
            self.shorten(last, keep);
        }
        self.sums.cut(cut);
        None
    }

    /// Cuts page `index` to `keep` bytes of content.
    fn shorten(&mut self, index: u64, keep: usize) {
        if let Some(resident) = self.resident(index) {
            resident.valid = resident.valid.min(keep);
        } else if let Some(Page::Spilled { valid, .. }) = self.map.page_mut(index) {
            *valid = (*valid).min(keep);
        }
    }

    /// Shows every page that is not a hole, the window first.
    pub(crate) fn for_each(&self, mut f: impl FnMut(u64, View<'_>)) {
        if let Some(window) = &self.window {
            f(window.start >> self.shift, View::Resident(&window.resident));
        }
        for (index, page) in self.map.pages(0) {
            match page {
                Page::Hole => {}
                Page::Resident(resident) => f(index, View::Resident(resident)),
                Page::InTransit(transit) => f(index, View::InTransit(transit)),
                &Page::Spilled { slot, valid } => f(index, View::Spilled { slot, valid }),
            }
        }
    }
}

/// How far `offset` lies past `start`, if that is at most `most`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most `most`, a usize")]
fn distance(start: u64, offset: u64, most: usize) -> Option<usize> {
    let distance = offset.wrapping_sub(start);
    (distance <= most as u64).then_some(distance as usize)
}

/// `offset` modulo a page of `1 << bits` bytes.
#[expect(clippy::cast_possible_truncation, reason = "less than a page, which fits in memory")]
pub(crate) fn low_bits(offset: u64, bits: u32) -> usize {
    (offset & ((1 << bits) - 1)) as usize
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;
