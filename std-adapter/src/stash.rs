//! The pages of one buffer that are not its window, by index: a sparse array, and nothing at all for a
//! buffer of one page in memory.

use crate::table::Page;
use std::collections::BTreeMap;
use std::ops::Range;

/// Pages in one leaf: 16 MiB of content in pages of 64 KiB.
const LEAF: u64 = 256;

/// How many resident pages are looked at for the coldest.
const SAMPLE: usize = 8;

/// How many pages are looked at to find them: few of a large table may be in memory.
const LOOK_MAX: usize = 1 << 10;

#[derive(Debug, Default)]
pub(crate) struct Stash {
    /// None while there are no entries.
    leaves: Option<Box<Leaves>>,
}

#[derive(Debug, Default)]
struct Leaves {
    /// The leaf of the first pages, which is all that most buffers have. Each leaf is as long as its last page
    /// needs.
    first: Vec<Entry>,
    /// The other leaves, by page index / [`LEAF`].
    further: BTreeMap<u64, Vec<Entry>>,
    /// Where the search for a cold page goes on.
    hand: u64,
    /// Touches until all heat is halved.
    until_cooling: u64,
}

#[derive(Debug, Default)]
struct Entry {
    page: Page,
    /// How often the page was sought lately, while it was not the window.
    heat: u8,
}

impl Stash {
    /// Whether no page was put here since the last of them was cut off.
    pub(crate) fn is_empty(&self) -> bool {
        self.leaves.is_none()
    }

    pub(crate) fn page(&self, index: u64) -> Option<&Page> {
        let leaf = self.leaves.as_ref()?.leaf(index)?;
        leaf.get(in_leaf(index)).map(|entry| &entry.page)
    }

    pub(crate) fn page_mut(&mut self, index: u64) -> Option<&mut Page> {
        self.entry_mut(index).map(|entry| &mut entry.page)
    }

    fn entry_mut(&mut self, index: u64) -> Option<&mut Entry> {
        let leaves = self.leaves.as_mut()?;
        let leaf =
            if index < LEAF { Some(&mut leaves.first) } else { leaves.further.get_mut(&(index / LEAF)) };
        leaf?.get_mut(in_leaf(index))
    }

    /// Puts a page where a hole is.
    pub(crate) fn put(&mut self, index: u64, page: Page) {
        let leaves = self.leaves.get_or_insert_default();
        let leaf =
            if index < LEAF { &mut leaves.first } else { leaves.further.entry(index / LEAF).or_default() };
        let at = in_leaf(index);
        if at >= leaf.len() {
            lengthen(leaf, at + 1);
        }
        leaf[at].page = page;
    }

    /// Counts a visit to a page, and returns how hot that makes it. Now and then everything cools, so that
    /// what was hot once does not stay.
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

    /// The coldest of the next few resident pages other than the pinned one, and its heat.
    pub(crate) fn coldest(&mut self, pinned: Option<u64>) -> Option<(u64, u8)> {
        let leaves = self.leaves.as_mut()?;
        let mut coldest: Option<(u64, u8)> = None;
        let (mut seen, mut looked_at, mut hand) = (0, 0, leaves.hand);
        'search: for range in [hand..u64::MAX, 0..hand] {
            for (index, entry) in leaves.entries(range) {
                looked_at += 1;
                if seen == SAMPLE || looked_at == LOOK_MAX {
                    hand = index;
                    break 'search;
                }
                if !matches!(entry.page, Page::Resident(_)) || pinned == Some(index) {
                    continue;
                }
                if coldest.is_none_or(|(_, heat)| entry.heat < heat) {
                    coldest = Some((index, entry.heat));
                }
                seen += 1;
            }
        }
        leaves.hand = hand;
        coldest
    }

    /// The pages from `from` on, holes included, in order.
    pub(crate) fn pages(&self, from: u64) -> impl Iterator<Item = (u64, &Page)> {
        let entries = self.leaves.iter().flat_map(move |leaves| leaves.entries(from..u64::MAX));
        entries.map(|(index, entry)| (index, &entry.page))
    }

    /// Takes out the pages of the last leaf that are at or past `cut`, without the holes; `None` if there
    /// are no entries.
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
        if index < LEAF { Some(&self.first) } else { self.further.get(&(index / LEAF)) }
    }

    fn cool(&mut self) {
        let mut pages = 0;
        for entry in self.further.values_mut().chain([&mut self.first]).flatten() {
            entry.heat /= 2;
            pages += 1;
        }
        self.until_cooling = 8 * (pages + 1);
    }

    /// The entries of pages in `range`, in order.
    fn entries(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Entry)> {
        let start = range.start / LEAF;
        let first = (start == 0).then_some((0, &self.first));
        let further = self.further.range(start..).map(|(&leaf, entries)| (leaf, entries));
        first
            .into_iter()
            .chain(further)
            .flat_map(move |(leaf, entries)| {
                let skipped = if leaf == start { in_leaf(range.start).min(entries.len()) } else { 0 };
                // Not `(leaf * LEAF..).zip(entries)`: it would count one past the last page there can be.
                (skipped as u64..).zip(&entries[skipped..]).map(move |(at, entry)| (leaf * LEAF + at, entry))
            })
            .take_while(move |(index, _)| *index < range.end)
    }

    fn cut_further(&mut self, cut: u64) -> Option<Vec<Page>> {
        let mut last = self.further.last_entry().filter(|leaf| *leaf.key() >= cut / LEAF)?;
        let at = if *last.key() == cut / LEAF { in_leaf(cut) } else { 0 };
        let removed = cut_at(last.get_mut(), at);
        if last.get().is_empty() {
            last.remove();
        }
        removed
    }

    fn cut_first(&mut self, cut: u64) -> Option<Vec<Page>> {
        let removed = if cut < LEAF { cut_at(&mut self.first, in_leaf(cut)) } else { None };
        if self.first.is_empty() {
            self.first = Vec::new();
        }
        removed
    }
}

fn cut_at(leaf: &mut Vec<Entry>, at: usize) -> Option<Vec<Page>> {
    if at >= leaf.len() {
        return None;
    }
    Some(leaf.drain(at..).map(|entry| entry.page).filter(|page| !matches!(page, Page::Hole)).collect())
}

/// Makes room for `len` entries: for exactly one at first, since most buffers have no more.
fn lengthen(leaf: &mut Vec<Entry>, len: usize) {
    if len > leaf.capacity() {
        let room = (2 * leaf.capacity()).clamp(len, in_leaf(u64::MAX) + 1);
        leaf.reserve_exact(room - leaf.len());
    }
    leaf.resize_with(len, Entry::default);
}

/// Where in its leaf a page is.
fn in_leaf(index: u64) -> usize {
    (index % LEAF) as usize
}
