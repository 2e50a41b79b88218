//! The pages of one buffer outside its window, by index: a sparse array in leaves, with the resident pages
//! beside it.
//!
//! - A buffer whose only page is the window usually has no leaf, and so no allocation here.
//! - A page without an entry takes no memory, a spilled one 24 bytes, and a resident one some 110.
//! - Each page has a heat: the number of recent accesses that the window alone could not serve.
//! - A search for a cold page takes constant time, and finds one if any may leave: it visits resident pages
//!   only, however many others there are.
//!
//! Held by: the tests below, `std-adapter/src/pages/table/tests.rs`, `tests/tests/pool_limits.rs`.

use crate::disk::slots::Slot;
use crate::pages::leaf::{Entry, LEAF_PAGES, Leaf, State};
use crate::pages::page::{Page, View};
use crate::pages::resident::Resident;
use std::collections::BTreeMap;

/// How many resident pages one search for the coldest compares at most.
const SAMPLE_PAGES: usize = 8;

/// Pages by index. A page without an entry is a hole or the window.
#[derive(Debug, Default)]
pub(crate) struct PageMap {
    /// `None` while there are no entries. Boxed, so that a table without leaves is small.
    leaves: Option<Box<Leaves>>,
}

#[derive(Debug, Default)]
struct Leaves {
    /// The leaf of the first pages, the only one that most buffers have.
    first: Leaf,
    /// The other leaves, by page index / [`LEAF_PAGES`].
    further: BTreeMap<u64, Leaf>,
    /// The resident pages, in any order. The entry of each has its position here.
    resident: Vec<InMemory>,
    /// The position in `resident` at which the next search for the coldest page begins: the hand of a clock.
    hand: usize,
    /// How many calls of `touch` are left until all heat is halved.
    until_cooling: u64,
}

#[derive(Debug)]
struct InMemory {
    index: u64,
    page: Resident,
}

/// What was cut off a map. Spilled pages apart: there may be millions.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    /// Of the spilled pages, in order.
    pub(crate) slots: Vec<Slot>,
    /// The pages in memory and in transit.
    pub(crate) pages: Vec<Page>,
}

impl PageMap {
    /// Whether there are no entries, not even of holes: no page was put here since the last entry was cut
    /// off.
    pub(crate) fn is_empty(&self) -> bool {
        self.leaves.is_none()
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

    /// Removes the first page if it is in memory and there is no other entry. The map is empty then.
    pub(crate) fn remove_only_first(&mut self) -> Option<Resident> {
        let leaves = self.leaves.as_mut().filter(|leaves| leaves.further.is_empty())?;
        let [Entry { at: 0, state: State::Resident(_), .. }] = leaves.first.from(0) else { return None };
        let first = leaves.resident.pop()?;
        self.leaves = None;
        Some(first.page)
    }

    /// Removes page `index`, and leaves a hole. Its heat stays.
    pub(crate) fn take(&mut self, index: u64) -> Page {
        self.leaves.as_mut().map(|leaves| leaves.take(index)).unwrap_or_default()
    }

    /// Makes page `index`, which must be a hole, `page`. Its heat stays.
    pub(crate) fn put(&mut self, index: u64, page: Page) {
        let leaves = self.leaves.get_or_insert_default();
        let state = match page {
            Page::Hole => State::Hole,
            Page::Spilled { slot, valid } => State::spilled(slot, valid),
            Page::InTransit(transit) => State::InTransit(transit),
            Page::Shared(page) => State::Shared(page),
            Page::Resident(page) => {
                leaves.resident.push(InMemory { index, page });
                State::Resident(leaves.resident.len() - 1)
            }
        };
        let leaf = if index < LEAF_PAGES {
            &mut leaves.first
        } else {
            leaves.further.entry(index / LEAF_PAGES).or_default()
        };
        let before = std::mem::replace(&mut leaf.get_or_insert(offset_in_leaf(index)).state, state);
        debug_assert!(matches!(before, State::Hole), "I1: page {index} was {before:?}");
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

    /// Returns the coldest of the next [`SAMPLE_PAGES`] resident pages, and its heat. Skips the pinned page.
    /// The next search goes on where this one ends. `None` if no other page is resident.
    pub(crate) fn coldest(&mut self, pinned: Option<u64>) -> Option<(u64, u8)> {
        let leaves = self.leaves.as_mut()?;
        let hand = leaves.hand.min(leaves.resident.len());
        let turn = (hand..leaves.resident.len()).chain(0..hand);
        let mut coldest: Option<(u64, u8)> = None;
        let others =
            turn.map(|at| (at, leaves.resident[at].index)).filter(|(_, index)| pinned != Some(*index));
        for (at, index) in others.take(SAMPLE_PAGES) {
            let heat = leaves.leaf(index).and_then(|leaf| leaf.get(offset_in_leaf(index)))?.heat;
            if coldest.is_none_or(|(_, least)| heat < least) {
                coldest = Some((index, heat));
            }
            leaves.hand = at + 1;
        }
        coldest
    }

    /// The pages from `from` on that are not holes, in order.
    pub(crate) fn pages(&self, from: u64) -> impl Iterator<Item = (u64, View<'_>)> {
        self.leaves.iter().flat_map(move |leaves| {
            leaves.entries(from).filter_map(|(index, entry)| Some((index, leaves.view(entry)?)))
        })
    }

    /// Cuts off the entries at or past page `cut` in the last leaf that has any. Returns their pages without
    /// the holes; `None` if no entry is there. Call it until it returns `None` to cut all of them off.
    pub(crate) fn cut_leaf(&mut self, cut: u64) -> Option<Cut> {
        let leaves = self.leaves.as_mut()?;
        let removed = leaves.cut_last(cut);
        if leaves.first.is_empty() && leaves.further.is_empty() {
            self.leaves = None;
        }
        removed
    }
}

impl Leaves {
    fn leaf(&self, index: u64) -> Option<&Leaf> {
        if index < LEAF_PAGES { Some(&self.first) } else { self.further.get(&(index / LEAF_PAGES)) }
    }

    fn leaf_mut(&mut self, index: u64) -> Option<&mut Leaf> {
        if index < LEAF_PAGES { Some(&mut self.first) } else { self.further.get_mut(&(index / LEAF_PAGES)) }
    }

    fn entry_mut(&mut self, index: u64) -> Option<&mut Entry> {
        self.leaf_mut(index)?.get_mut(offset_in_leaf(index))
    }

    /// The page of an entry; `None` if it is a hole.
    fn view<'a>(&'a self, entry: &'a Entry) -> Option<View<'a>> {
        match &entry.state {
            State::Hole => None,
            State::Resident(at) => Some(View::Resident(&self.resident.get(*at)?.page)),
            State::Spilled { .. } => entry.state.slot().map(|(slot, valid)| View::Spilled { slot, valid }),
            State::InTransit(transit) => Some(View::InTransit(transit)),
            State::Shared(page) => Some(View::Shared(page)),
        }
    }

    fn take(&mut self, index: u64) -> Page {
        match self.entry_mut(index).map(|entry| std::mem::take(&mut entry.state)) {
            Some(State::Resident(at)) => Page::Resident(self.take_resident(at)),
            Some(state) => page_elsewhere(state),
            None => Page::Hole,
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
        // After a limit was lowered. A short vector keeps its room, so that a page that comes and goes does not
        // allocate each time.
        if self.resident.len() < self.resident.capacity() / 4 && self.resident.capacity() > 8 * SAMPLE_PAGES {
            self.resident.shrink_to(2 * self.resident.len());
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
        let further = self.further.range(start.max(1)..).map(|(&number, leaf)| (number, leaf));
        first.into_iter().chain(further).flat_map(move |(number, leaf)| {
            let at = if number == start { offset_in_leaf(from) } else { 0 };
            leaf.from(at).iter().map(move |entry| (number * LEAF_PAGES + u64::from(entry.at), entry))
        })
    }

    fn cut_last(&mut self, cut: u64) -> Option<Cut> {
        let last = self.further.last_key_value().map_or(0, |(&number, _)| number);
        let from = cut.max(last * LEAF_PAGES);
        let at = offset_in_leaf(from);
        if from / LEAF_PAGES != last {
            return None;
        }
        let entries = self.leaf(from).map_or(&[][..], |leaf| leaf.from(at));
        if entries.is_empty() {
            return None;
        }
        // The resident pages first: each of them is taken out of both places.
        let resident = entries.iter().filter(|entry| matches!(entry.state, State::Resident(_)));
        let resident: Vec<u64> = resident.map(|entry| from - u64::from(at) + u64::from(entry.at)).collect();
        let pages = resident.into_iter().map(|index| self.take(index)).collect();
        let mut removed = Cut { slots: Vec::new(), pages };
        let leaf = self.leaf_mut(from)?;
        for Entry { state, .. } in leaf.cut(at) {
            match state.slot() {
                Some((slot, _)) => removed.slots.push(slot),
                None if matches!(state, State::InTransit(_) | State::Shared(_)) => {
                    removed.pages.push(page_elsewhere(state));
                }
                None => {}
            }
        }
        if leaf.is_empty() {
            if last == 0 {
                self.first = Leaf::default();
            } else {
                self.further.remove(&last);
            }
        }
        Some(removed)
    }
}

/// The page in this state, which is not resident.
fn page_elsewhere(state: State) -> Page {
    match state {
        State::Spilled { .. } => {
            state.slot().map(|(slot, valid)| Page::Spilled { slot, valid }).unwrap_or_default()
        }
        State::InTransit(transit) => Page::InTransit(transit),
        State::Shared(page) => Page::Shared(page),
        State::Hole | State::Resident(_) => Page::Hole,
    }
}

/// The offset of page `index` in its leaf.
fn offset_in_leaf(index: u64) -> u8 {
    index.to_le_bytes()[0]
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::frame_pool::FramePool;

    fn spilled(mark: u64) -> Page {
        Page::Spilled { slot: Slot::new(mark, 1), valid: 1 }
    }

    fn mark(page: Page) -> Option<u64> {
        match page {
            Page::Spilled { slot, .. } => Some(slot.offset),
            Page::Resident(resident) => Some(resident.valid as u64),
            Page::Hole | Page::InTransit(_) | Page::Shared(_) => None,
        }
    }

    fn mark_of(view: View<'_>) -> u64 {
        match view {
            View::Spilled { slot, .. } => slot.offset,
            View::Resident(resident) => resident.valid as u64,
            View::InTransit(_) | View::Shared(_) => unreachable!("no page is in transit or shared"),
        }
    }

    fn resident(frames: &FramePool) -> Page {
        marked(frames, 0)
    }

    fn marked(frames: &FramePool, valid: usize) -> Page {
        Page::Resident(Resident::whole(frames.acquire(8).unwrap(), valid, false, None))
    }

    /// Indices around the ends of leaves, of the first and the last leaf too.
    const PLACES: [u64; 14] =
        [0, 1, 7, 254, 255, 256, 257, 511, 512, 600, 70_000, u64::MAX - 256, u64::MAX - 255, u64::MAX];

    #[test]
    fn a_page_map_agrees_with_a_btree_map() {
        let frames = FramePool::new(1 << 20, 8);
        let (mut map, mut model) = (PageMap::default(), BTreeMap::new());
        let mut seed = 7_u64;
        for round in 1..2000_u32 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let place = PLACES[(seed >> 33) as usize % PLACES.len()];
            match seed >> 60 {
                0 => {
                    let mut removed = Vec::new();
                    while let Some(Cut { slots, pages }) = map.cut_leaf(place) {
                        removed.extend(slots.iter().map(|slot| slot.offset));
                        removed
                            .extend(pages.into_iter().map(|page| mark(page).expect("a hole was returned")));
                    }
                    removed.sort_unstable();
                    let mut cut: Vec<u64> = model.split_off(&place).into_values().collect();
                    cut.sort_unstable();
                    assert_eq!(removed, cut, "{place} in round {round}");
                }
                kind => {
                    assert_eq!(mark(map.take(place)), model.remove(&place), "{place} in round {round}");
                    if kind > 4 {
                        let page = if kind % 2 == 0 {
                            spilled(u64::from(round))
                        } else {
                            marked(&frames, round as usize)
                        };
                        map.put(place, page);
                        model.insert(place, u64::from(round));
                    }
                }
            }
            for from in PLACES {
                assert_eq!(map.page(from).map(mark_of), model.get(&from).copied());
                let resident = map.resident_mut(from).map(|page| page.valid as u64);
                assert!(
                    resident.is_none() || resident == model.get(&from).copied(),
                    "{from} in round {round}"
                );
                let pages = map.pages(from).map(|(index, view)| (index, mark_of(view)));
                assert!(
                    pages.eq(model.range(from..).map(|(&index, &mark)| (index, mark))),
                    "from {from} in round {round}"
                );
            }
            assert!(!map.is_empty() || model.is_empty());
        }
        while map.cut_leaf(0).is_some() {}
        assert!(map.is_empty() && map.page(0).is_none() && map.resident_mut(0).is_none());
        assert_eq!((map.touch(0), map.coldest(None)), (0, None));
    }

    #[test]
    fn the_coldest_of_the_next_few_is_found_and_searches_go_on_in_turn() {
        let frames = FramePool::new(1 << 20, 8);
        let mut map = PageMap::default();
        for index in (0..40).chain(300..310) {
            map.put(index, if index % 2 == 0 { resident(&frames) } else { spilled(index) });
        }
        let all: Vec<u64> = (0..40).chain(300..310).step_by(2).collect();
        // All have the same heat: each search returns the first page of its sample.
        let turns: Vec<u64> = (0..4).map(|_| map.coldest(None).unwrap().0).collect();
        assert_eq!(turns, [all[0], all[8], all[16], all[24]]);
        for index in 0..40 {
            for _ in 0..5 {
                map.touch(index);
            }
        }
        map.touch(300);
        // A cold page is found wherever the hand is, and never the pinned one.
        for _ in 0..4 {
            let (index, heat) = (0..4).filter_map(|_| map.coldest(Some(302))).min_by_key(|c| c.1).unwrap();
            assert!((304..310).contains(&index) && heat == 0, "{index} of heat {heat}");
        }
        let mut one = PageMap::default();
        one.put(5, resident(&frames));
        assert_eq!(
            (one.coldest(Some(5)), one.coldest(None), one.coldest(Some(4))),
            (None, Some((5, 0)), Some((5, 0)))
        );
    }

    /// A search visited 1,024 entries, resident or not, and then found no page to evict.
    #[test]
    fn a_search_for_the_coldest_finds_the_only_resident_page_of_many() {
        let frames = FramePool::new(1 << 20, 8);
        let mut map = PageMap::default();
        (0..5000).filter(|&index| index != 2500).for_each(|index| map.put(index, spilled(index)));
        map.put(2500, resident(&frames));
        let found: Vec<_> = (0..3).map(|_| map.coldest(None)).collect();
        assert_eq!(found, [Some((2500, 0)); 3]);
        assert_eq!(map.coldest(Some(2500)), None, "it is pinned");
    }

    /// Each search must go on behind the last one, though each eviction moves a page to another position.
    #[test]
    fn every_resident_page_is_found_when_they_are_evicted_one_by_one() {
        let frames = FramePool::new(1 << 20, 8);
        let mut map = PageMap::default();
        (0..600).for_each(|index| map.put(index, resident(&frames)));
        let mut evicted = Vec::new();
        while let Some((index, _)) = map.coldest(None) {
            assert!(matches!(map.take(index), Page::Resident(_)), "{index}");
            map.put(index, spilled(index));
            evicted.push(index);
        }
        evicted.sort_unstable();
        assert!(evicted.into_iter().eq(0..600));
    }

    #[test]
    fn heat_is_halved_at_intervals_and_saturates() {
        let mut map = PageMap::default();
        for index in [3, 7, 9, 70_000] {
            map.put(index, spilled(index));
        }
        // Four entries: all heat is halved every forty visits.
        let heats: Vec<u8> = (0..42).map(|_| map.touch(3)).collect();
        assert_eq!((heats[0], heats[39], heats[40], heats[41]), (1, 40, 21, 22));
        assert_eq!(map.touch(99), 0, "no entry");
        map.take(3);
        assert_eq!((map.touch(3), map.touch(3)), (23, 24), "the heat stays when the page leaves");
        let mut large = PageMap::default();
        (0..600).for_each(|index| large.put(index, spilled(index)));
        assert_eq!((0..300).map(|_| large.touch(1)).last(), Some(255), "the heat saturates");
        for _ in 300..8 * 601 {
            large.touch(599);
        }
        assert_eq!(large.touch(1), 128, "all leaves cool");
    }
}
