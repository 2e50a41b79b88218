//! The pages of one buffer outside its window, by index: a sparse array in leaves, with the resident pages
//! beside it.
//!
//! - A buffer whose only page is the window usually has no leaf, and so no allocation here but one that a
//!   buffer before it may have left.
//! - A page without an entry takes no memory, a spilled one 24 bytes, and a resident one some 110.
//! - Each page has a heat: the number of recent accesses that the window alone could not serve.
//! - A search for a cold page takes constant time, and finds one if any of those that it looks at
//!   may leave, the next search beginning where it stopped: it visits resident pages only, however
//!   many others there are.
//!
//! Held by: `std-adapter/src/pages/page_map/tests.rs`, `std-adapter/src/pages/table/tests.rs`,
//! `tests/tests/pool_limits.rs`.

use crate::disk::slots::Slot;
use crate::memory::ordered::Ordered;
use crate::pages::cut_off::CutOff;
use crate::pages::leaf::{Entry, LEAF_PAGES, Leaf, State};
use crate::pages::page::{Page, View};
use crate::pages::resident::Resident;
use crate::try_box::TryBox;
use std::alloc::{Layout, handle_alloc_error};
use std::ops::Range;

/// How many resident pages one search for the coldest compares at most.
const SAMPLE_PAGES: usize = 8;

/// How many it looks at, where not all of them are sought: an eighth are frames at least, once a buffer
/// holds all that it may.
const LOOKED_AT_MAX: usize = 8 * SAMPLE_PAGES;

/// Pages for which an emptied map keeps room: 2 kB at most. A body of 100 kB has two pages, and room for them
/// that was allocated anew was a twentieth of what it costs.
const PAGES_KEPT: usize = 16;

/// Room that a vector of resident pages always keeps.
const ROOM_KEPT: usize = 64;

/// Pages by index. A page without an entry is a hole or the window.
#[derive(Debug, Default)]
pub(crate) struct PageMap {
    /// `None` while there are no entries, or room of a former buffer. Boxed, so that a table without leaves
    /// is small.
    leaves: Option<TryBox<Leaves>>,
}

#[derive(Debug, Default)]
struct Leaves {
    /// The leaf of the first pages, the only one that most buffers have.
    first: Leaf,
    /// The other leaves, by page index / [`LEAF_PAGES`].
    further: Ordered<Leaf>,
    /// The resident pages, in any order. The entry of each has its position here.
    resident: Vec<InMemory>,
    /// Pages in transit and shared pages, each of which may return: `resident` has room for all of them.
    returning: usize,
    /// The position in `resident` at which the next search for the coldest page begins: the hand of a clock.
    hand: usize,
    /// How many calls of `touch` and `visit` are left until all heat is halved.
    until_cooling: u64,
}

/// A page that an access has come to.
pub(crate) enum Visited<'a> {
    Resident(&'a mut Resident),
    Spilled(Slot),
}

#[derive(Debug)]
struct InMemory {
    index: u64,
    page: Resident,
}

impl PageMap {
    /// Whether there are no entries, not even of holes: no page was put here since the last entry was cut
    /// off.
    pub(crate) fn is_empty(&self) -> bool {
        self.leaves.as_ref().is_none_or(|leaves| leaves.is_empty())
    }

    /// How many entries there are, of holes too.
    #[cfg(test)]
    #[cfg(not(overspill_loom))]
    pub(crate) fn entries(&self) -> usize {
        self.leaves.as_ref().map_or(0, |leaves| leaves.entries(0).count())
    }

    /// Page `index`; `None` if it is a hole.
    pub(crate) fn page(&self, index: u64) -> Option<View<'_>> {
        let leaves = self.leaves.as_ref()?;
        leaves.view(leaves.leaf(index)?.get(offset_in_leaf(index))?)
    }

    /// Page `index`, if it is resident.
    pub(crate) fn resident_mut(&mut self, index: u64) -> Option<&mut Resident> {
        let leaves = self.leaves.as_mut()?;
        let State::Resident(at) = leaves.entry_mut(index)?.state else { return None };
        leaves.resident.get_mut(at).map(|in_memory| &mut in_memory.page)
    }

    /// Removes the first page if it is in memory and there is no other entry. The map is empty then, and as
    /// it is for another buffer; a little room may be left.
    pub(crate) fn remove_only_first(&mut self) -> Option<Resident> {
        let leaves = self.leaves.as_mut().filter(|leaves| leaves.further.is_empty())?;
        let [Entry { at: 0, state: State::Resident(_), .. }] = leaves.first.from(0) else { return None };
        let first = leaves.resident.pop()?;
        if leaves.is_small() {
            leaves.first.pop(0);
            (leaves.hand, leaves.until_cooling) = (0, 0);
        } else {
            self.leaves = None;
        }
        Some(first.page)
    }

    /// Removes page `index`, and leaves a hole. Its heat stays.
    pub(crate) fn take(&mut self, index: u64) -> Page {
        self.leaves.as_mut().map(|leaves| leaves.take(index)).unwrap_or_default()
    }

    /// Swaps the bytes of page `index`, which leaves a hole, with those of page `other`, which is a hole and
    /// becomes resident in its place. Returns false, and nothing has changed, if page `index` is not resident
    /// or page `other` has no entry. As fast as two lookups: a pass from page to page does it at each.
    pub(crate) fn exchange(&mut self, index: u64, other: u64, bytes: &mut Resident) -> bool {
        let Some(leaves) = &mut self.leaves else { return false };
        let Some(&mut State::Resident(at)) = leaves.entry_mut(index).map(|entry| &mut entry.state) else {
            return false;
        };
        let Some(entry) = leaves.entry_mut(other) else { return false };
        debug_assert!(matches!(entry.state, State::Hole), "I1: page {other} was {:?}", entry.state);
        entry.state = State::Resident(at);
        if let Some(entry) = leaves.entry_mut(index) {
            entry.state = State::Hole;
        }
        if let Some(resident) = leaves.resident.get_mut(at) {
            resident.index = other;
            std::mem::swap(&mut resident.page, bytes);
        }
        true
    }

    /// Makes sure that [`put`](PageMap::put) of page `index` needs no memory, if the page is spilled. Returns
    /// false, and no page has changed, if there is none.
    #[must_use]
    pub(crate) fn reserve_entry(&mut self, index: u64) -> bool {
        if self.leaves.is_none() {
            self.leaves = TryBox::new(Leaves::default());
        }
        let Some(leaves) = &mut self.leaves else { return false };
        let is_reserved = leaves.reserve_entry(index).is_some();
        if !is_reserved {
            self.free_if_empty();
        }
        is_reserved
    }

    /// As [`reserve_entry`](PageMap::reserve_entry), whatever the page is.
    #[must_use]
    pub(crate) fn reserve(&mut self, index: u64) -> bool {
        self.reserve_entry(index) && self.leaves.as_mut().is_some_and(|leaves| leaves.reserve_resident())
    }

    /// Makes page `index`, which must be a hole, `page`. Its heat stays. Ends the process if there is no
    /// memory for that, which was to be [reserved](PageMap::reserve).
    pub(crate) fn put(&mut self, index: u64, page: Page) {
        if self.try_put(index, page).is_err() {
            handle_alloc_error(Layout::new::<Entry>());
        }
    }

    /// The same, but returns the page, and none has changed, if there is no memory for that.
    pub(crate) fn try_put(&mut self, index: u64, page: Page) -> Result<(), Page> {
        if self.leaves.is_none() {
            self.leaves = TryBox::new(Leaves::default());
        }
        let Some(leaves) = &mut self.leaves else { return Err(page) };
        let refused = leaves.try_put(index, page);
        if refused.is_err() {
            self.free_if_empty();
        }
        refused
    }

    /// Counts an access to page `index`, and returns its heat; 0 if it has no entry. All heat is halved after
    /// about eight calls for each entry, so that a page that is no longer used cools.
    pub(crate) fn touch(&mut self, index: u64) -> u8 {
        let Some(leaves) = &mut self.leaves else { return 0 };
        if leaves.until_cooling == 0 {
            leaves.cool();
        }
        leaves.until_cooling -= 1;
        leaves.entry_mut(index).map_or(0, |entry| {
            entry.heat = entry.heat.saturating_add(1);
            entry.heat
        })
    }

    /// The heat of page `index`, which stays as it is; 0 if it has no entry.
    pub(crate) fn heat(&self, index: u64) -> u8 {
        let entry = self.leaves.as_ref().and_then(|leaves| leaves.leaf(index)?.get(offset_in_leaf(index)));
        entry.map_or(0, |entry| entry.heat)
    }

    /// Makes page `index` as hot as page `from`, if that is hotter.
    #[cfg(feature = "tokio")]
    pub(crate) fn inherit_heat(&mut self, from: u64, index: u64) {
        let heat = self.heat(from);
        if let Some(entry) = self.leaves.as_mut().and_then(|leaves| leaves.entry_mut(index)) {
            entry.heat = entry.heat.max(heat);
        }
    }

    /// Counts an access to page `index` as [`touch`](PageMap::touch) does, and returns the page, if it is
    /// resident and `is_sought`, or spilled and with the end of its content and its heat `may_go_past`.
    /// `None`, and nothing has changed, also when it is time to halve all heat.
    pub(crate) fn visit(
        &mut self,
        index: u64,
        is_sought: impl FnOnce(&Resident) -> bool,
        may_go_past: impl FnOnce(usize, u8) -> bool,
    ) -> Option<Visited<'_>> {
        let Leaves { first, further, resident, until_cooling, .. } = &mut **self.leaves.as_mut()?;
        let leaf = if index < LEAF_PAGES { first } else { further.get_mut(index / LEAF_PAGES)? };
        let entry = leaf.get_mut(offset_in_leaf(index))?;
        let heat = entry.heat.saturating_add(1);
        let visited = match &entry.state {
            State::Resident(at) => {
                Visited::Resident(Some(&mut resident.get_mut(*at)?.page).filter(|page| is_sought(page))?)
            }
            state => Visited::Spilled(state.slot().filter(|(_, end)| may_go_past(*end, heat))?.0),
        };
        *until_cooling = until_cooling.checked_sub(1)?;
        entry.heat = heat;
        Some(visited)
    }

    /// Returns the coldest of the next [`SAMPLE_PAGES`] resident pages that are sought, and its heat. Skips
    /// the pinned page. The next search goes on where this one ends. `None` if it finds no other.
    pub(crate) fn coldest(
        &mut self,
        pinned: Option<u64>,
        is_sought: impl Fn(&Resident) -> bool,
    ) -> Option<(u64, u8)> {
        let leaves: &mut Leaves = self.leaves.as_mut()?;
        let hand = leaves.hand.min(leaves.resident.len());
        let turn = (hand..leaves.resident.len()).chain(0..hand);
        let mut coldest: Option<(u64, u8)> = None;
        let mut sampled = 0;
        for at in turn.take(LOOKED_AT_MAX) {
            let index = leaves.resident[at].index;
            if pinned == Some(index) {
                continue;
            }
            if !is_sought(&leaves.resident[at].page) {
                leaves.hand = at + 1;
                continue;
            }
            let heat = leaves.leaf(index).and_then(|leaf| leaf.get(offset_in_leaf(index)))?.heat;
            if coldest.is_none_or(|(_, least)| heat < least) {
                coldest = Some((index, heat));
            }
            leaves.hand = at + 1;
            sampled += 1;
            if sampled == SAMPLE_PAGES {
                break;
            }
        }
        coldest
    }

    /// Frees the leaves that have some of `pages`, and only holes, but for that of page `kept`.
    pub(crate) fn forget_holes(&mut self, pages: Range<u64>, kept: Option<u64>) {
        let Some(leaves) = self.leaves.as_mut().filter(|_| !pages.is_empty()) else { return };
        let (numbers, kept) =
            (pages.start / LEAF_PAGES..pages.end.div_ceil(LEAF_PAGES), kept.map(|kept| kept / LEAF_PAGES));
        let is_unneeded = |number, leaf: &Leaf| kept != Some(number) && leaf.has_only_holes();
        if numbers.contains(&0) && is_unneeded(0, &leaves.first) {
            leaves.first = Leaf::default();
        }
        leaves.further.remove_if(numbers, is_unneeded);
        self.free_if_empty();
    }

    /// The pages from `from` on that are not holes, in order.
    pub(crate) fn pages(&self, from: u64) -> impl Iterator<Item = (u64, View<'_>)> {
        self.leaves.iter().flat_map(move |leaves| {
            leaves.entries(from).filter_map(|(index, entry)| Some((index, leaves.view(entry)?)))
        })
    }

    /// Cuts the last entries at or past page `cut` off. Adds the slots of spilled pages and the frames of
    /// resident ones to `cut_off`, from the end on, as many as that takes. Returns the page before them, if
    /// that is no hole; `None` if no entry is left there. Call it until it returns `None` to cut all of them
    /// off.
    pub(crate) fn cut_last(&mut self, cut: u64, cut_off: &mut CutOff) -> Option<Page> {
        let leaves = self.leaves.as_mut()?;
        let removed = leaves.cut_last(cut, cut_off);
        self.free_if_empty();
        removed
    }

    /// Frees the leaves if they have no entry.
    fn free_if_empty(&mut self) {
        if self.leaves.as_ref().is_some_and(|leaves| leaves.is_empty()) {
            self.leaves = None;
        }
    }
}

impl Leaves {
    /// Whether there is little room, so that it may wait for the next buffer.
    fn is_small(&self) -> bool {
        self.first.capacity().max(self.resident.capacity()) <= PAGES_KEPT
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.further.is_empty()
    }

    fn leaf(&self, index: u64) -> Option<&Leaf> {
        if index < LEAF_PAGES { Some(&self.first) } else { self.further.get(index / LEAF_PAGES) }
    }

    fn leaf_mut(&mut self, index: u64) -> Option<&mut Leaf> {
        if index < LEAF_PAGES { Some(&mut self.first) } else { self.further.get_mut(index / LEAF_PAGES) }
    }

    /// Makes sure that a page can become resident, and each that is in transit besides. The first allocation
    /// is for one: many buffers have one page outside the window.
    fn reserve_resident(&mut self) -> bool {
        let more = self.returning + 1;
        let reserved = match self.resident.capacity() {
            0 => self.resident.try_reserve_exact(more),
            _ => self.resident.try_reserve(more),
        };
        reserved.is_ok()
    }

    /// The entry of page `index`, added as a hole if there was none. `None` if there is no memory for that.
    fn reserve_entry(&mut self, index: u64) -> Option<&mut Entry> {
        let number = index / LEAF_PAGES;
        let leaf = if number == 0 { Some(&mut self.first) } else { self.further.try_insert(number) };
        if leaf.is_some_and(|leaf| leaf.try_insert(offset_in_leaf(index)).is_some()) {
            return self.entry_mut(index);
        }
        self.remove_if_empty(number);
        None
    }

    fn entry_mut(&mut self, index: u64) -> Option<&mut Entry> {
        self.leaf_mut(index)?.get_mut(offset_in_leaf(index))
    }

    /// Removes a leaf, by its number, if it has no entry.
    fn remove_if_empty(&mut self, number: u64) {
        if number == 0 && self.first.is_empty() {
            self.first = Leaf::default();
        } else if self.further.get(number).is_some_and(Leaf::is_empty) {
            self.further.remove(number);
        }
    }

    /// The page of an entry; `None` if it is a hole.
    fn view<'a>(&'a self, entry: &'a Entry) -> Option<View<'a>> {
        match &entry.state {
            State::Hole => None,
            State::Resident(at) => Some(View::Resident(&self.resident.get(*at)?.page)),
            State::Spilled { .. } => entry.state.slot().map(|(slot, end)| View::Spilled { slot, end }),
            State::InTransit(transit) => Some(View::InTransit(transit)),
            State::Shared(page) => Some(View::Shared(page)),
        }
    }

    /// See [`PageMap::try_put`].
    fn try_put(&mut self, index: u64, page: Page) -> Result<(), Page> {
        let is_resident = matches!(page, Page::Resident(_));
        if is_resident && !self.reserve_resident() {
            return Err(page);
        }
        let at = self.resident.len();
        let Some(entry) = self.reserve_entry(index) else { return Err(page) };
        debug_assert!(matches!(entry.state, State::Hole), "I1: page {index} was {:?}", entry.state);
        entry.state = match page {
            Page::Hole => State::Hole,
            Page::Spilled { slot, end } => State::spilled(slot, end),
            Page::InTransit(transit) => State::InTransit(transit),
            Page::Shared(page) => State::Shared(page),
            Page::Resident(page) => {
                entry.state = State::Resident(at);
                self.resident.push(InMemory { index, page });
                return Ok(());
            }
        };
        self.returning += usize::from(matches!(entry.state, State::InTransit(_) | State::Shared(_)));
        Ok(())
    }

    fn take(&mut self, index: u64) -> Page {
        let state = self.entry_mut(index).map(|entry| std::mem::take(&mut entry.state));
        self.page_of(state.unwrap_or_default())
    }

    /// The page in a state that was taken out of its entry.
    fn page_of(&mut self, state: State) -> Page {
        match state {
            State::Resident(at) => Page::Resident(self.take_resident(at)),
            State::InTransit(transit) => {
                self.returning -= 1;
                Page::InTransit(transit)
            }
            State::Shared(page) => {
                self.returning -= 1;
                Page::Shared(page)
            }
            State::Spilled { .. } | State::Hole => {
                state.slot().map_or(Page::Hole, |(slot, end)| Page::Spilled { slot, end })
            }
        }
    }

    /// Removes the resident page at position `at`, and moves the last one there.
    fn take_resident(&mut self, at: usize) -> Resident {
        let removed = self.resident.swap_remove(at);
        if let Some(index) = self.resident.get(at).map(|moved| moved.index)
            && let Some(entry) = self.entry_mut(index)
        {
            entry.state = State::Resident(at);
        }
        // After a limit was lowered. A short vector keeps its room, so that a page that comes and goes does
        // not allocate each time.
        if self.resident.len() < self.resident.capacity() / 4 {
            self.resident.shrink_to(2 * self.resident.len() + self.returning + ROOM_KEPT);
        }
        removed.page
    }

    /// Halves all heat.
    fn cool(&mut self) {
        let mut entries = 0;
        for entry in self.further.values_mut().chain([&mut self.first]).flat_map(Leaf::all_mut) {
            entry.heat /= 2;
            entries += 1;
        }
        self.until_cooling = 8 * (entries + 1);
    }

    /// The entries of the pages from `from` on, in order.
    fn entries(&self, from: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let start = from / LEAF_PAGES;
        let first = (start == 0).then_some((0, &self.first));
        let further = self.further.from(start.max(1));
        first.into_iter().chain(further).flat_map(move |(number, leaf)| {
            let at = if number == start { offset_in_leaf(from) } else { 0 };
            leaf.from(at).iter().map(move |entry| (number * LEAF_PAGES + u64::from(entry.at), entry))
        })
    }

    fn cut_last(&mut self, cut: u64, cut_off: &mut CutOff) -> Option<Page> {
        loop {
            let last = self.further.last().unwrap_or(0);
            let from = cut.max(last * LEAF_PAGES);
            if from / LEAF_PAGES != last {
                return None;
            }
            let at = offset_in_leaf(from);
            let leaf = self.leaf_mut(from)?;
            let mut state = leaf.pop(at)?.state;
            while let Some((slot, _)) = state.slot()
                && cut_off.add_slot(slot)
            {
                state = leaf.pop(at).map(|entry| entry.state).unwrap_or_default();
            }
            self.remove_if_empty(last);
            match self.page_of(state) {
                Page::Hole => {}
                Page::Resident(page) => {
                    if let Err(page) = cut_off.add_page(page, self.resident.len()) {
                        return Some(Page::Resident(page));
                    }
                }
                page => return Some(page),
            }
        }
    }
}

/// The offset of page `index` in its leaf.
fn offset_in_leaf(index: u64) -> u8 {
    index.to_le_bytes()[0]
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;
