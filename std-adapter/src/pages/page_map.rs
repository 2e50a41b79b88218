//! The pages of one buffer outside its window, by index: a sparse array in leaves.
//!
//! - A buffer whose only page is the window usually has no leaf, and so no allocation here.
//! - Each page has a heat: the number of recent accesses that the window alone could not serve.
//! - A search for a cold page takes bounded time, so it may find none in a large table.
//!
//! Held by: the tests below, `std-adapter/src/pages/table/tests.rs`.

use crate::pages::page::Page;
use crate::pages::resident::Resident;
use std::collections::BTreeMap;
use std::ops::Range;

/// Pages in one leaf: 16 MiB of content in pages of 64 KiB.
const LEAF_PAGES: u64 = 256;

/// How many resident pages one search for the coldest compares at most.
const SAMPLE_PAGES: usize = 8;

/// How many entries such a search visits at most: few pages of a large table may be in memory.
const VISITS_MAX: usize = 1 << 10;

/// Pages by index. A page without an entry is a hole or the window.
#[derive(Debug, Default)]
pub(crate) struct PageMap {
    /// `None` while there are no entries. Boxed, so that a table without leaves is small.
    leaves: Option<Box<Leaves>>,
}

#[derive(Debug, Default)]
struct Leaves {
    /// The leaf of the first pages, the only one that most buffers have. A leaf is no longer than the last
    /// page put there needs.
    first: Vec<Entry>,
    /// The other leaves, by page index / [`LEAF_PAGES`].
    further: BTreeMap<u64, Vec<Entry>>,
    /// The index at which the next search for the coldest page begins: the hand of a clock.
    hand: u64,
    /// How many calls of `touch` are left until all heat is halved.
    until_cooling: u64,
}

#[derive(Debug, Default)]
struct Entry {
    page: Page,
    /// The number of recent accesses that the window alone could not serve, halved now and then.
    heat: u8,
}

impl PageMap {
    /// Whether there are no entries, not even of holes: no page was put here since the last entry was cut
    /// off.
    pub(crate) fn is_empty(&self) -> bool {
        self.leaves.is_none()
    }

    /// Page `index`; `None` if it has no entry, which makes it a hole.
    pub(crate) fn page(&self, index: u64) -> Option<&Page> {
        let leaf = self.leaves.as_ref()?.leaf(index)?;
        leaf.get(offset_in_leaf(index)).map(|entry| &entry.page)
    }

    pub(crate) fn page_mut(&mut self, index: u64) -> Option<&mut Page> {
        self.entry_mut(index).map(|entry| &mut entry.page)
    }

    fn entry_mut(&mut self, index: u64) -> Option<&mut Entry> {
        let leaves = self.leaves.as_mut()?;
        let leaf = if index < LEAF_PAGES {
            Some(&mut leaves.first)
        } else {
            leaves.further.get_mut(&(index / LEAF_PAGES))
        };
        leaf?.get_mut(offset_in_leaf(index))
    }

    /// Removes the first page if it is in memory and there is no other entry. The map is empty then.
    pub(crate) fn remove_only_first(&mut self) -> Option<Resident> {
        let leaves = self.leaves.as_mut().filter(|leaves| leaves.further.is_empty())?;
        let [first] = &mut leaves.first[..] else { return None };
        match std::mem::take(&mut first.page) {
            Page::Resident(resident) => {
                self.leaves = None;
                Some(resident)
            }
            other => {
                first.page = other;
                None
            }
        }
    }

    /// Makes page `index`, which must be a hole, `page`. Its heat stays.
    pub(crate) fn put(&mut self, index: u64, page: Page) {
        let leaves = self.leaves.get_or_insert_default();
        let leaf = if index < LEAF_PAGES {
            &mut leaves.first
        } else {
            leaves.further.entry(index / LEAF_PAGES).or_default()
        };
        let at = offset_in_leaf(index);
        if at >= leaf.len() {
            lengthen(leaf, at + 1);
        }
        leaf[at].page = page;
    }

    /// Counts an access to page `index`, and returns its heat; 0 if it has no entry. All heat is halved after
    /// about eight calls for each entry, so that a page that is no longer used cools.
    pub(crate) fn touch(&mut self, index: u64) -> u8 {
        let Some(leaves) = &mut self.leaves else { return 0 };
        if leaves.until_cooling == 0 {
            leaves.cool();
        }
        leaves.until_cooling -= 1;
        self.entry_mut(index).map_or(0, |entry| {
            entry.heat = entry.heat.saturating_add(1);
            entry.heat
        })
    }

    /// Returns the coldest of the next [`SAMPLE_PAGES`] resident pages, and its heat. Skips the pinned page.
    /// The next search goes on where this one ends. `None` if the next [`VISITS_MAX`] entries have none.
    pub(crate) fn coldest(&mut self, pinned: Option<u64>) -> Option<(u64, u8)> {
        let leaves = self.leaves.as_mut()?;
        let mut coldest: Option<(u64, u8)> = None;
        let (mut compared, mut visited, mut hand) = (0, 0, leaves.hand);
        'search: for range in [hand..u64::MAX, 0..hand] {
            for (index, entry) in leaves.entries(range) {
                visited += 1;
                if compared == SAMPLE_PAGES || visited == VISITS_MAX {
                    hand = index;
                    break 'search;
                }
                if !matches!(entry.page, Page::Resident(_)) || pinned == Some(index) {
                    continue;
                }
                if coldest.is_none_or(|(_, heat)| entry.heat < heat) {
                    coldest = Some((index, entry.heat));
                }
                compared += 1;
            }
        }
        leaves.hand = hand;
        coldest
    }

    /// The pages that have entries, from `from` on, in order. Some are holes.
    pub(crate) fn pages(&self, from: u64) -> impl Iterator<Item = (u64, &Page)> {
        let entries = self.leaves.iter().flat_map(move |leaves| leaves.entries(from..u64::MAX));
        entries.map(|(index, entry)| (index, &entry.page))
    }

    /// Cuts off the entries at or past page `cut` in the last leaf that has any. Returns their pages without
    /// the holes; `None` if no entry is there. Call it until it returns `None` to cut all of them off.
    pub(crate) fn cut_leaf(&mut self, cut: u64) -> Option<Vec<Page>> {
        let leaves = self.leaves.as_mut()?;
        let removed = leaves.cut_further(cut).or_else(|| leaves.cut_first(cut));
        if leaves.first.is_empty() && leaves.further.is_empty() {
            self.leaves = None;
        }
        removed
    }
}

impl Leaves {
    fn leaf(&self, index: u64) -> Option<&Vec<Entry>> {
        if index < LEAF_PAGES { Some(&self.first) } else { self.further.get(&(index / LEAF_PAGES)) }
    }

    /// Halves all heat.
    fn cool(&mut self) {
        let mut entries = 0;
        for entry in self.further.values_mut().chain([&mut self.first]).flatten() {
            entry.heat /= 2;
            entries += 1;
        }
        self.until_cooling = 8 * (entries + 1);
    }

    /// The entries of pages in `range`, in order.
    fn entries(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Entry)> {
        let start = range.start / LEAF_PAGES;
        let first = (start == 0).then_some((0, &self.first));
        let further = self.further.range(start..).map(|(&leaf, entries)| (leaf, entries));
        first
            .into_iter()
            .chain(further)
            .flat_map(move |(leaf, entries)| {
                let skipped = if leaf == start { offset_in_leaf(range.start).min(entries.len()) } else { 0 };
                // Not `(leaf * LEAF_PAGES..).zip(entries)`: it would count one past the last possible index,
                // and overflow.
                (skipped as u64..)
                    .zip(&entries[skipped..])
                    .map(move |(at, entry)| (leaf * LEAF_PAGES + at, entry))
            })
            .take_while(move |(index, _)| *index < range.end)
    }

    fn cut_further(&mut self, cut: u64) -> Option<Vec<Page>> {
        let mut last = self.further.last_entry().filter(|leaf| *leaf.key() >= cut / LEAF_PAGES)?;
        let at = if *last.key() == cut / LEAF_PAGES { offset_in_leaf(cut) } else { 0 };
        let removed = cut_at(last.get_mut(), at);
        if last.get().is_empty() {
            last.remove();
        }
        removed
    }

    fn cut_first(&mut self, cut: u64) -> Option<Vec<Page>> {
        let removed = if cut < LEAF_PAGES { cut_at(&mut self.first, offset_in_leaf(cut)) } else { None };
        if self.first.is_empty() {
            self.first = Vec::new();
        }
        removed
    }
}

/// Cuts a leaf to `at` entries, and returns the pages of the others without the holes; `None` if there are
/// none to cut off.
fn cut_at(leaf: &mut Vec<Entry>, at: usize) -> Option<Vec<Page>> {
    if at >= leaf.len() {
        return None;
    }
    Some(leaf.drain(at..).map(|entry| entry.page).filter(|page| !matches!(page, Page::Hole)).collect())
}

/// Lengthens a leaf to `len` entries. The first allocation has exactly that many, since most buffers have one
/// page; later ones at least double, up to a full leaf.
fn lengthen(leaf: &mut Vec<Entry>, len: usize) {
    if len > leaf.capacity() {
        let room = (2 * leaf.capacity()).clamp(len, offset_in_leaf(u64::MAX) + 1);
        leaf.reserve_exact(room - leaf.len());
    }
    leaf.resize_with(len, Entry::default);
}

/// The offset of page `index` in its leaf, in entries.
fn offset_in_leaf(index: u64) -> usize {
    (index % LEAF_PAGES) as usize
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::disk::slots::Slot;
    use crate::memory::frame_pool::FramePool;

    fn spilled(mark: u64) -> Page {
        Page::Spilled { slot: Slot::new(mark, 1), valid: 1 }
    }

    fn mark(page: &Page) -> Option<u64> {
        if let Page::Spilled { slot, .. } = page { Some(slot.offset) } else { None }
    }

    fn resident(frames: &FramePool) -> Page {
        Page::Resident(Resident { frame: frames.acquire(8).unwrap(), valid: 0, dirty: false, slot: None })
    }

    /// Indices around the ends of leaves, of the first and the last leaf too.
    const PLACES: [u64; 14] =
        [0, 1, 7, 254, 255, 256, 257, 511, 512, 600, 70_000, u64::MAX - 256, u64::MAX - 255, u64::MAX];

    #[test]
    fn a_page_map_agrees_with_a_btree_map() {
        let (mut map, mut model) = (PageMap::default(), BTreeMap::new());
        let mut seed = 7_u64;
        for round in 1..1000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let place = PLACES[(seed >> 33) as usize % PLACES.len()];
            match (seed >> 60, map.page_mut(place)) {
                (0..2, _) => {
                    let mut removed = Vec::new();
                    while let Some(pages) = map.cut_leaf(place) {
                        removed.extend(pages.iter().map(|page| mark(page).expect("a hole was returned")));
                    }
                    removed.sort_unstable();
                    let mut cut: Vec<u64> = model.split_off(&place).into_values().collect();
                    cut.sort_unstable();
                    assert_eq!(removed, cut, "{place} in round {round}");
                }
                (2..4, Some(page)) => {
                    *page = Page::Hole;
                    model.remove(&place);
                }
                _ => {
                    map.put(place, spilled(round));
                    model.insert(place, round);
                }
            }
            for from in PLACES {
                assert_eq!(map.page(from).and_then(mark), model.get(&from).copied());
                let pages = map.pages(from).filter_map(|(index, page)| Some((index, mark(page)?)));
                // The listing ends before the last possible page, which no buffer has.
                let wanted = model.range(from..u64::MAX).map(|(&index, &mark)| (index, mark));
                assert!(pages.eq(wanted), "from {from} in round {round}");
            }
            assert!(!map.is_empty() || model.is_empty());
        }
        while map.cut_leaf(0).is_some() {}
        assert!(map.is_empty() && map.page(0).is_none() && map.page_mut(0).is_none());
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

    #[test]
    fn a_search_for_the_coldest_is_bounded_if_few_pages_are_in_memory() {
        let frames = FramePool::new(1 << 20, 8);
        let mut map = PageMap::default();
        (0..3000).for_each(|index| map.put(index, spilled(index)));
        map.put(2500, resident(&frames));
        let found: Vec<_> = (0..3).map(|_| map.coldest(None)).collect();
        assert_eq!(found, [None, None, Some((2500, 0))], "each search visits about a thousand pages");
    }

    /// Most buffers have one page, so the first allocation has no entry to spare.
    #[test]
    fn the_capacity_of_a_leaf_begins_exact_and_doubles_up_to_a_full_leaf() {
        let mut leaf = Vec::new();
        let lens = [1, 2, 2, 3, 4, 5, 100, 101, 200, 201, 256];
        let capacities = lens.map(|len| {
            lengthen(&mut leaf, len);
            assert_eq!(leaf.len(), len);
            leaf.capacity()
        });
        assert_eq!(capacities, [1, 2, 2, 4, 4, 8, 100, 200, 200, 256, 256]);
    }

    #[test]
    fn heat_is_halved_at_intervals_and_saturates() {
        let mut map = PageMap::default();
        map.put(3, spilled(3));
        // Four entries, three of them holes: all heat is halved every forty visits.
        let heats: Vec<u8> = (0..42).map(|_| map.touch(3)).collect();
        assert_eq!((heats[0], heats[39], heats[40], heats[41]), (1, 40, 21, 22));
        assert_eq!(map.touch(99), 0, "no entry");
        let mut large = PageMap::default();
        (0..600).for_each(|index| large.put(index, spilled(index)));
        assert_eq!((0..300).map(|_| large.touch(1)).last(), Some(255), "the heat saturates");
        for _ in 300..8 * 601 {
            large.touch(599);
        }
        assert_eq!(large.touch(1), 128, "all leaves cool");
    }
}
