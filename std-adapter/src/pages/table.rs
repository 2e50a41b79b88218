//! The page table of one buffer: which page is in which state. Bookkeeping only: no I/O, no locks, no budget.
//!
//! # States of a page
//!
//! | state | its bytes are in | next state | by |
//! |---|---|---|---|
//! | hole | nothing here: what the base has there, and zeros past that | window | [`Table::open`] |
//! | | | spilled | [`Table::put`], after a direct write, or from the base to be written to |
//! | | | resident | [`Table::put`], of given memory, or ahead of a sequential pass |
//! | window | the window's frame | resident | [`Table::open`] or [`Table::focus`] of another page, or `Pager::close_window` |
//! | | | lent | [`Table::lend`] |
//! | lent | the window's frame, outside the table | window | [`Table::reopen`] |
//! | resident | a frame | window | [`Table::focus`], or [`Table::retire`], which empties the page |
//! | window, resident | a frame | spilled, hole | [`Table::remove_resident`], then `Pager::evict` or `slide` |
//! | | | spilled | [`Table::cut_segment`] |
//! | | | in transit, spilled, hole | `Table::release_page`, in a reclaiming thread, or by the owner for a `Departure` |
//! | | | shared | [`Table::share`] |
//! | | | hole | [`Table::take_copy`], [`Table::take_next_copy`], [`Table::take_empty`] |
//! | shared | a frame, held by readers too | resident | [`Table::end_sharing`], after the readers have let go |
//! | in transit | the frame, held by the carrier | spilled, resident | [`Table::settle`], after the transit has ended |
//! | spilled | a slot | window, resident | [`Table::remove`], then [`Table::open`] or [`Table::put`] |
//! | | | spilled | [`Table::remove`], then [`Table::put`]: written directly, or moved to another slot |
//! | any but lent | | hole | [`Table::cut_window`], [`Table::truncate`], or [`Table::remove`] in `Pager::discard_pages` |
//!
//! `Table::release_page` is in [`reclaim`](crate::pool::reclaim). The states of a page in transit are at the
//! head of [`transit`](crate::pages::transit); the pager abandons the transit of one that becomes a hole.
//!
//! I1: a page that is not a hole is in exactly one of window, lent, resident, shared, in transit and
//! spilled. While it is lent, the table shows it as a hole; there is no window then. A page in memory
//! may keep a slot: if the page is clean, the slot has the same bytes; if it is dirty, the slot is
//! reserved for the next write. A clean page without a slot is a copy of what other content has.
//!
//! The page of the owner's current operation is pinned and is not reclaimed. Any other page in memory may
//! turn out to be in transit, spilled or a hole each time the owner enters the table.
//!
//! The bytes of a page past the end of its content are zeros, whatever the frame or the slot has there. So
//! growing costs nothing, and a recycled frame need not be cleared.
//!
//! Held by: `std-adapter/src/pages/table/tests.rs`, `tests/tests/spill_model.rs`, `std-adapter/src/models.rs`
//! (loom).

use crate::disk::slots::Slot;
use crate::memory::ordered::Ordered;
use crate::pages::page::{Location, Page, Stay, View};
use crate::pages::page_map::PageMap;
use crate::pages::resident::Resident;
use crate::pages::sought::Sought;
use crate::pages::sums::Sums;
use crate::pages::transit::{Outcome, Transit};
use crate::pages::window::Window;
use crate::sync::Arc;
use std::ops::Range;

/// The pages of one buffer, by index. The owner changes it, and a reclaiming thread by `release_page` and
/// `settle`.
///
/// In this order, since the memory of another buffer may lie behind it, in the same cache line: what changes
/// with each page is not there.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Table {
    pub(super) window: Option<Window>,
    /// The page of the owner's current operation. Reclaiming skips it.
    pub(super) pinned: Option<u64>,
    /// All pages but the window's, which is a hole here.
    pub(crate) map: PageMap,
    /// The binary logarithm of the page size in bytes.
    pub(super) shift: u32,
    pub(crate) sought: Sought,
    /// The indices of shared pages.
    pub(crate) shared: Ordered<()>,
    /// Where to look next among them.
    pub(super) hand: u64,
    /// The checksums of pages that were spilled; empty if the pool keeps none.
    pub(crate) sums: Sums,
}

impl Table {
    /// Where what changes with each page ends, in bytes from the beginning.
    #[cfg(test)]
    pub(crate) const END_OF_WHAT_CHANGES: usize = std::mem::offset_of!(Table, shift);

    pub(crate) fn new(page_size: usize) -> Self {
        Table {
            window: None,
            pinned: None,
            map: PageMap::default(),
            shift: page_size.trailing_zeros(),
            sought: Sought::default(),
            shared: Ordered::default(),
            hand: 0,
            sums: Sums::default(),
        }
    }

    /// Bytes of a page.
    #[cfg(feature = "tokio")]
    pub(crate) fn page_size(&self) -> usize {
        1 << self.shift
    }

    /// Keeps page `index` from being reclaimed until [`Table::unpin`], and returns where it is. Unpins the
    /// page that was pinned before: one page is pinned at a time.
    pub(crate) fn pin(&mut self, index: u64) -> Location {
        self.pinned = Some(index);
        self.locate(index)
    }

    /// Unpins the page that is pinned, and returns whether a search for memory has found nothing meanwhile.
    pub(crate) fn unpin(&mut self) -> bool {
        self.pinned = None;
        self.sought.take_during_pin()
    }

    /// Whether any page is pinned.
    pub(crate) fn has_pin(&self) -> bool {
        self.pinned.is_some()
    }

    pub(crate) fn is_pinned(&self, index: u64) -> bool {
        self.pinned == Some(index)
    }

    /// Returns the `len` bytes at `offset` for overwriting, and makes them content. `None`, and nothing
    /// changes, unless they begin in the window's content or at its end, and lie in the part of its frame
    /// that was ever written.
    #[inline(always)]
    pub(crate) fn window_mut(&mut self, offset: u64, len: usize) -> Option<&mut [u8]> {
        let Window { start, resident: Resident { frame, len: content, dirty, .. }, .. } =
            self.window.as_mut()?;
        let at = distance(*start, offset, *content)?;
        let bytes = frame.written_mut(at, len)?;
        *content = (*content).max(at + len);
        *dirty |= len > 0;
        Some(bytes)
    }

    /// Appends all of `data` to the window's content, and returns true. Returns false, and changes nothing,
    /// unless `offset` is the end both of that content and of what was ever written to the frame, and the
    /// frame is long enough.
    ///
    /// `commit` runs before the copy, once the copy is certain: so no register has to be saved across it.
    #[inline(always)]
    pub(crate) fn append(&mut self, offset: u64, data: &[u8], commit: impl FnOnce()) -> bool {
        let Some(Window { start, resident: Resident { frame, len, dirty, .. }, .. }) = &mut self.window
        else {
            return false;
        };
        let at = *len;
        offset.wrapping_sub(*start) == at as u64
            && frame.append(at, data, || {
                *len = at + data.len();
                *dirty |= !data.is_empty();
                commit();
            })
    }

    /// The `len` bytes at `offset`, if all of them lie in the window's content.
    #[inline(always)]
    pub(crate) fn content(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let Window { start, resident, .. } = self.window.as_ref()?;
        let at = distance(*start, offset, resident.len)?;
        resident.content().get(at..)?.get(..len)
    }

    /// The index of the window's page, if there is a window.
    pub(crate) fn window_index(&self) -> Option<u64> {
        self.window.as_ref().map(|window| window.start >> self.shift)
    }

    /// Whether the window's content, or its page, ends at `offset`: a pass in pieces that divide it leaves
    /// it there, and no operation outside the window has noted so.
    pub(crate) fn window_ends_at(&self, offset: u64) -> bool {
        self.window.as_ref().is_some_and(|window| window.ends_at(offset, self.shift))
    }

    /// Where the window begins, if that is behind the first byte of `range`, or at its end: a pass downwards
    /// in pieces as long comes to there.
    pub(crate) fn window_begin_in(&self, range: &Range<u64>) -> Option<u64> {
        let begin = self.window.as_ref()?.start;
        (range.start < begin && begin <= range.end).then_some(begin)
    }

    /// Whether the window's frame is not for something else yet, at `offset`, that needs it for `want` bytes:
    /// the two may take turns. A pass that leaves the window gets it, and one that begins with the first
    /// byte.
    pub(crate) fn window_keeps_frame(&mut self, offset: u64, want: usize) -> bool {
        if offset == 0 || self.window_ends_at(offset) {
            return false;
        }
        self.window.as_mut().is_some_and(|window| window.keeps_frame(want))
    }

    /// The index of the window's page, if a sequential pass loaded it.
    pub(crate) fn passing_index(&self) -> Option<u64> {
        self.window_index()
            .filter(|_| self.window.as_ref().is_some_and(|window| window.stay == Stay::Passing))
    }

    /// Whether page `index` is in memory, outside the window, in a frame, and was visited fewer than `hot`
    /// times.
    pub(crate) fn is_cold(&mut self, index: u64, hot: u8) -> bool {
        self.window_index() != Some(index)
            && self.map.heat(index) < hot
            && self.locate(index) == Location::Memory
            && self.resident(index).is_some_and(|page| page.has_frame())
    }

    pub(crate) fn locate(&self, index: u64) -> Location {
        if self.window_index() == Some(index) {
            return Location::Memory;
        }
        match self.map.page(index) {
            None => Location::Hole,
            Some(View::Resident(_) | View::Shared(_)) => Location::Memory,
            Some(View::Spilled { slot, end }) => Location::Spilled { slot, end },
            Some(View::InTransit(_)) => Location::InTransit,
        }
    }

    /// Makes page `index` the window if it is in memory, and returns its bytes. `None`, and nothing has
    /// changed, if it is not, or if the former window has no entry in the map.
    pub(crate) fn focus(&mut self, index: u64) -> Option<&mut Resident> {
        if self.window_index() != Some(index) {
            match &mut self.window {
                Some(window) => {
                    let before = window.start >> self.shift;
                    if !self.map.exchange(index, before, &mut window.resident) {
                        return None;
                    }
                    window.start = (index << self.shift) + window.resident.frame_start() as u64;
                    window.stay = Stay::Kept;
                }
                None => {
                    let resident = self.remove_resident(index)?;
                    self.open(index, resident, Stay::Kept);
                }
            }
        }
        self.window.as_mut().map(|window| &mut window.resident)
    }

    /// Returns the bytes of page `index` if it is in memory. With `focus`, the page also becomes the window.
    ///
    /// Without memory for that, the page stays where it is.
    pub(crate) fn visit(&mut self, index: u64, focus: bool) -> Option<&mut Resident> {
        if focus && self.reserve_for_focus(index) { self.focus(index) } else { self.resident(index) }
    }

    /// Reserves what [`open`](Table::open) and [`focus`](Table::focus) need: the window can become a resident
    /// page then. Returns false if there is no memory for that.
    #[must_use]
    pub(crate) fn reserve_for_open(&mut self) -> bool {
        self.window_index().is_none_or(|index| self.map.reserve(index))
    }

    /// Reserves what page `index`, which is not in memory, needs to become resident. Returns false if there
    /// is no memory for that.
    #[must_use]
    pub(crate) fn reserve_for_load(&mut self, index: u64) -> bool {
        self.map.reserve(index)
    }

    /// Reserves what [`focus`](Table::focus) of page `index` needs. Returns false if there is no memory for
    /// that.
    #[must_use]
    pub(crate) fn reserve_for_focus(&mut self, index: u64) -> bool {
        self.window_index().is_none_or(|window| window == index || self.map.reserve_entry(window))
    }

    /// Reserves what page `index`, which is in memory, needs to be removed, and then be put where
    /// it is not in memory or opened as the window. Returns false, and no page has changed, if
    /// there is no memory for that.
    #[must_use]
    pub(crate) fn reserve_for_slide(&mut self, index: u64) -> bool {
        self.map.reserve_entry(index) && self.reserve_for_open()
    }

    /// Reserves what page `index` needs to be put where it is not in memory, and if it is the window back
    /// into the map. Returns false, and no page has changed, if there is no memory for that.
    #[must_use]
    pub(crate) fn reserve_for_leave(&mut self, index: u64) -> bool {
        if self.window_index() == Some(index) {
            self.map.reserve(index)
        } else {
            self.map.reserve_entry(index)
        }
    }

    /// The bytes of page `index` if it is in memory, in the window or not. Moves nothing.
    pub(crate) fn resident(&mut self, index: u64) -> Option<&mut Resident> {
        if self.window_index() == Some(index) {
            return self.window.as_mut().map(|window| &mut window.resident);
        }
        self.map.resident_mut(index)
    }

    /// The transit of page `index`, if it is in transit.
    pub(crate) fn transit(&self, index: u64) -> Option<Arc<Transit>> {
        match self.map.page(index)? {
            View::InTransit(transit) => Some(Arc::clone(transit)),
            View::Resident(_) | View::Spilled { .. } | View::Shared(_) => None,
        }
    }

    /// Makes page `index` spilled or resident if it is in transit and the transit has ended. Otherwise
    /// changes nothing.
    pub(crate) fn settle(&mut self, index: u64) {
        let Some(outcome) = self.transit(index).and_then(|transit| transit.take_outcome()) else {
            return;
        };
        self.remove(index);
        match outcome {
            Outcome::Arrived { slot, end, sums } => {
                self.put(index, Page::Spilled { slot, end });
                if let Some(sums) = sums {
                    self.sums.put(index, sums);
                }
            }
            Outcome::Returned(resident) => self.put(index, Page::Resident(resident)),
        }
    }

    /// Makes `resident` the window, as page `index`, which must be a hole. The former window becomes a
    /// resident page.
    pub(crate) fn open(&mut self, index: u64, resident: Resident, stay: Stay) {
        self.close_window();
        self.set_window(index, resident, stay);
    }

    /// As [`open`](Table::open), but the page may be spilled; and returns `resident`, and nothing has
    /// changed, if there is no memory to note where the former window goes.
    pub(crate) fn try_open(&mut self, index: u64, resident: Resident, stay: Stay) -> Result<(), Resident> {
        if let Some(Window { start, resident: former, stay: stayed, .. }) = self.window.take()
            && let Err(refused) = self.map.try_put(start >> self.shift, Page::Resident(former))
        {
            if let Page::Resident(former) = refused {
                self.window = Some(Window::new(start, former, stayed));
            }
            return Err(resident);
        }
        self.map.take(index);
        self.set_window(index, resident, stay);
        Ok(())
    }

    fn set_window(&mut self, index: u64, resident: Resident, stay: Stay) {
        debug_assert_eq!(self.locate(index), Location::Hole, "I1");
        let start = (index << self.shift) + resident.frame_start() as u64;
        self.window = Some(Window::new(start, resident, stay));
    }

    /// Takes the window out of the table, so that its bytes can be lent without the lock and are not
    /// reclaimed. [`Table::reopen`] puts it back.
    pub(crate) fn lend(&mut self) -> Option<Window> {
        self.window.take()
    }

    /// Puts a lent window back. There must be no other window.
    pub(crate) fn reopen(&mut self, window: Window) {
        debug_assert!(self.window.is_none(), "I1");
        self.window = Some(window);
    }

    /// Makes the window a resident page. To be called after [`Table::reserve_for_open`].
    pub(crate) fn close_window(&mut self) {
        if let Some(window) = self.window.take() {
            self.put(window.start >> self.shift, Page::Resident(window.resident));
        }
    }

    /// Removes page `index`, in the window or not, and leaves a hole.
    pub(crate) fn remove(&mut self, index: u64) -> Page {
        if self.window_index() == Some(index)
            && let Some(window) = self.window.take()
        {
            return Page::Resident(window.resident);
        }
        self.map.take(index)
    }

    /// Removes page `index` if it is in memory, in the window or not, and leaves a hole.
    pub(crate) fn remove_resident(&mut self, index: u64) -> Option<Resident> {
        self.resident(index)?;
        match self.remove(index) {
            Page::Resident(resident) => Some(resident),
            Page::Hole | Page::Spilled { .. } | Page::InTransit(_) | Page::Shared(_) => None,
        }
    }

    /// Makes page `index`, which must be a hole, `page`. The window stays as it is.
    pub(crate) fn put(&mut self, index: u64, page: Page) {
        debug_assert_eq!(self.locate(index), Location::Hole, "I1");
        self.map.put(index, page);
    }

    /// Puts a page back that was removed, and could not leave memory: as the window if there is none.
    /// So it needs no memory: a reclaiming thread may have taken the room in the map meanwhile, but
    /// only for the window.
    pub(crate) fn put_back(&mut self, index: u64, resident: Resident) {
        if self.window.is_none() {
            self.open(index, resident, Stay::Kept);
        } else {
            self.put(index, Page::Resident(resident));
        }
    }

    /// Counts a visit to page `index`, and returns its heat; 0 if the map has no entry for it.
    pub(crate) fn touch(&mut self, index: u64) -> u8 {
        self.map.touch(index)
    }

    /// The first page in memory at or after `from`, the window included.
    pub(crate) fn next_in_memory(&self, from: u64) -> Option<u64> {
        let others = self.next_in_map(from, |page| matches!(page, View::Resident(_)));
        let window = self.window_index().filter(|&index| index >= from);
        others.into_iter().chain(window).min()
    }

    /// The first page at or after `from` that is not a hole, the window included.
    pub(crate) fn next_page(&self, from: u64) -> Option<u64> {
        let others = self.next_in_map(from, |_| true);
        let window = self.window_index().filter(|&index| index >= from);
        others.into_iter().chain(window).min()
    }

    /// Calls `visit` for the index of every page that is not a hole, in order, the window included, until it
    /// returns `None`.
    pub(crate) fn try_for_each_index(&self, mut visit: impl FnMut(u64) -> Option<()>) -> Option<()> {
        let mut window = self.window_index();
        self.map.pages(0).try_for_each(|(index, _)| {
            if let Some(before) = window.take_if(|window| *window < index) {
                visit(before)?;
            }
            visit(index)
        })?;
        window.map_or(Some(()), visit)
    }

    /// The first page at or after `from` that is in transit.
    pub(crate) fn next_in_transit(&self, from: u64) -> Option<u64> {
        self.next_in_map(from, |page| matches!(page, View::InTransit(_)))
    }

    /// The first spilled page at or after `from` for which `is_sought` is true of its index and of the end of
    /// its content; its slot, and that end.
    pub(crate) fn next_spilled(
        &self,
        from: u64,
        is_sought: impl Fn(u64, usize) -> bool,
    ) -> Option<(u64, Slot, usize)> {
        self.map.pages(from).find_map(|(index, page)| match page {
            View::Spilled { slot, end } if is_sought(index, end) => Some((index, slot, end)),
            View::Spilled { .. } | View::Resident(_) | View::InTransit(_) | View::Shared(_) => None,
        })
    }

    fn next_in_map(&self, from: u64, is_sought: impl Fn(&View<'_>) -> bool) -> Option<u64> {
        self.map.pages(from).find(|(_, page)| is_sought(page)).map(|(index, _)| index)
    }

    /// Calls `visit` for every page that is not a hole: first the window, then the others in order.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(u64, View<'_>)) {
        if let Some(window) = &self.window {
            visit(window.start >> self.shift, View::Resident(&window.resident));
        }
        self.map.pages(0).for_each(|(index, page)| visit(index, page));
    }
}

/// How far `offset` lies past `start`, if that is at most `max`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most `max`, a usize")]
fn distance(start: u64, offset: u64, max: usize) -> Option<usize> {
    let distance = offset.wrapping_sub(start);
    (distance <= max as u64).then_some(distance as usize)
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;
