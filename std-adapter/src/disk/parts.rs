//! Parts of slots: slots of less than a block, for small bodies that have come to rest.
//!
//! A slot of four blocks, or of a page if that is shorter, is *cut* into parts of 128 bytes, and a small slot
//! is some that lie side by side. So 25 bodies of 600 bytes are written in one call, and take four blocks;
//! with a block each they took, and wrote, six times as much. Shorter parts would save little, since the
//! system's page cache writes whole blocks. Single blocks that are cut had room for six such bodies, two of
//! 1,500 bytes, and one of 3,000.
//!
//! Promises:
//!
//! - Slots never overlap, and lie in one cut slot each.
//! - A slot goes where the free parts of blocks in use fit it best, else where any do; so another block is
//!   used only if it does not fit into those, and another slot cut only if it fits nowhere.
//! - A block is in use while a slot has a part of it. Before, it is *cold* or *warm* as a free slot is, and
//!   afterwards warm; it can be discarded while others of its cut slot are in use.
//! - Only [`cut`](Parts::cut) needs memory: some 150 bytes for each slot that is cut, however long the file
//!   is.
//!
//! Held by: `std-adapter/src/disk/parts/tests.rs`, the tests of `slots.rs`, `tests/tests/small_bodies.rs`.

use crate::memory::ordered::Ordered;

/// Bytes of a part.
pub(crate) const PART: u64 = 128;

/// A bit for each part of a cut slot.
type Mask = u128;

/// Parts of a block.
const BLOCK_PARTS: u32 = 32;

/// The free parts of the slots that are cut, which have some in use.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Parts of each slot that is cut.
    count: u32,
    /// The slots that are cut, in any order. Their positions here are their numbers.
    cuts: Vec<Cut>,
    /// The number of each, by its place in the store.
    numbers: Ordered<usize>,
    /// By the free parts of blocks in use, which cost nothing more.
    runs_in_use: Runs,
    /// By all free parts.
    runs: Runs,
    /// By warm blocks.
    runs_warm: Runs,
    /// Bytes of warm blocks.
    warm_bytes: u64,
    /// Bytes of the blocks in use that no slot has.
    free_bytes: u64,
}

/// A slot that is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Its place in the store, in slots of its length.
    place: u64,
    /// A bit for each free part.
    free: Mask,
    /// A bit for each part whose block is in use.
    used: Mask,
    /// A bit for each part whose block is warm.
    warm: Mask,
}

/// Lists of numbers of cut slots, one for each length that their longest run of some parts can have. What
/// moves between them needs no memory.
#[derive(Debug, Default)]
struct Runs {
    /// The first of each list, that of runs of one part at 0. Empty before a slot is cut.
    firsts: Vec<usize>,
    /// A bit for each list that has some.
    some: Mask,
    /// By number, the one before and the one behind in its list.
    links: Vec<[usize; 2]>,
}

/// No number.
const NONE: usize = usize::MAX;

/// What comes of freeing some parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    /// Bytes of blocks that are no longer in use.
    pub(crate) unused: u64,
    /// The cut slot is whole again.
    pub(crate) whole: Option<Whole>,
}

/// A slot that is no longer cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) offset: u64,
    /// Whether some of it is warm.
    pub(crate) is_warm: bool,
}

/// Where some parts are free: the number of a cut slot, and a part of it.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: usize,
    first: u32,
}

/// The length of the longest run of free parts.
fn longest_run(free: Mask) -> u32 {
    if free == 0 {
        return 0;
    }
    let first_run = free >> free.trailing_zeros();
    if first_run & first_run.wrapping_add(1) == 0 {
        return first_run.trailing_ones(); // the only one, as a rule
    }
    // In `ends[k]`, a bit for each part where a run of 2^k ends.
    let mut ends = [free; Mask::BITS.ilog2() as usize + 1];
    for k in 1..ends.len() {
        ends[k] = ends[k - 1] & (ends[k - 1] << (1 << (k - 1)));
    }
    let longest = ends.iter().rposition(|ends| *ends != 0).unwrap_or(0);
    let (mut at, mut len) = (ends[longest], 1 << longest);
    for k in (0..longest).rev() {
        let longer = (at << (1 << k)) & ends[k];
        if longer != 0 {
            (at, len) = (longer, len + (1 << k));
        }
    }
    len
}

/// A bit for each of `parts` parts, at least one, from part `first` on.
fn mask(first: u32, parts: u32) -> Mask {
    (Mask::MAX >> (Mask::BITS - parts)) << first
}

/// A bit for each part of the blocks that have some of `parts` parts from part `first` on.
fn mask_of_blocks(first: u32, parts: u32) -> Mask {
    let start = first / BLOCK_PARTS * BLOCK_PARTS;
    mask(start, (first + parts).next_multiple_of(BLOCK_PARTS) - start)
}

/// Those of `blocks`, which are whole blocks, that are in `parts` altogether.
fn whole_blocks(blocks: Mask, parts: Mask) -> Mask {
    let each = (0..Mask::BITS / BLOCK_PARTS).map(|block| mask(block * BLOCK_PARTS, BLOCK_PARTS));
    each.filter(|block| blocks & parts & block == *block).fold(0, |all, block| all | block)
}

/// The bytes of `parts` parts.
fn bytes(parts: u32) -> u64 {
    u64::from(parts) * PART
}

/// The first part of the shortest run that has `parts` parts at least.
fn best_fit(free: Mask, parts: u32) -> Option<u32> {
    let (mut left, mut best) = (free, None);
    while left != 0 {
        let first = left.trailing_zeros();
        let len = (left >> first).trailing_ones();
        if len >= parts && best.is_none_or(|(_, shortest)| len < shortest) {
            best = Some((first, len));
        }
        left &= !mask(first, len);
    }
    best.map(|(first, _)| first)
}

impl Parts {
    /// For pages of `page` bytes, a power of two, and at least a block.
    pub(crate) fn new(page: u64) -> Self {
        let count = Mask::BITS.min(u32::try_from(page / PART).unwrap_or(u32::MAX));
        Parts {
            count,
            cuts: Vec::new(),
            numbers: Ordered::default(),
            runs_in_use: Runs::default(),
            runs: Runs::default(),
            runs_warm: Runs::default(),
            warm_bytes: 0,
            free_bytes: 0,
        }
    }

    /// Bytes of a slot that can be cut.
    pub(crate) fn cut_bytes(&self) -> u64 {
        bytes(self.count)
    }

    /// Bytes of the blocks in use that no slot has.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Bytes of the blocks that are not in use, and that the file system still has.
    pub(crate) fn warm_bytes(&self) -> u64 {
        self.warm_bytes
    }

    /// Bytes of the blocks of cut slots that are not in use, some of which are being discarded.
    #[cfg(test)]
    #[cfg(not(overspill_loom))]
    pub(crate) fn unused_bytes(&self) -> u64 {
        self.cuts.iter().map(|cut| bytes((mask(0, self.count) & !cut.used).count_ones())).sum()
    }

    /// The parts in `len` bytes, a multiple of [`PART`] below a block.
    fn parts_of(len: u64) -> u32 {
        u32::try_from(len / PART).unwrap_or(u32::MAX)
    }

    /// The best place for `parts` parts: in a cut slot whose longest run fits them best.
    fn find(&self, parts: u32) -> Option<Place> {
        let place = |number: usize, free| Some(Place { number, first: best_fit(free, parts)? });
        let free_in_use = |number: usize| self.cuts[number].free & self.cuts[number].used;
        let in_use = self.runs_in_use.find(parts).and_then(|number| place(number, free_in_use(number)));
        in_use.or_else(|| self.runs.find(parts).and_then(|number| place(number, self.cuts[number].free)))
    }

    /// Bytes of the blocks that come to be in use with a slot of `len` bytes in a cut slot. `None`
    /// if it fits into none.
    pub(crate) fn charge(&self, len: u64) -> Option<u64> {
        let parts = Parts::parts_of(len);
        let Place { number, first } = self.find(parts)?;
        Some(bytes((mask_of_blocks(first, parts) & !self.cuts[number].used).count_ones()))
    }

    /// Allocates `len` bytes, a multiple of [`PART`] below a block, in a slot that is cut. Returns their
    /// offset; `None` if they fit nowhere.
    pub(crate) fn allocate(&mut self, len: u64) -> Option<u64> {
        let parts = Parts::parts_of(len);
        let Place { number, first } = self.find(parts)?;
        let Cut { place, free, used, warm } = self.cuts[number];
        let newly_used = mask_of_blocks(first, parts) & !used;
        self.free_bytes += bytes(newly_used.count_ones());
        self.free_bytes -= len;
        self.set_warm(number, warm & !newly_used);
        self.set_free(number, free & !mask(first, parts), used | newly_used);
        Some(place * bytes(self.count) + bytes(first))
    }

    /// Cuts the slot at `offset`, of [`cut_bytes`](Parts::cut_bytes), whose blocks are warm or cold. To be
    /// followed by [`allocate`](Parts::allocate). Returns false if there is no memory to note it.
    #[must_use]
    pub(crate) fn cut(&mut self, offset: u64, is_warm: bool) -> bool {
        let (place, number, count) = (offset / self.cut_bytes(), self.cuts.len(), self.count);
        let has_room = self.cuts.try_reserve(1).is_ok() && self.all_runs().all(|runs| runs.reserve(count));
        if !has_room {
            return false;
        }
        let Some(noted) = self.numbers.try_insert(place) else { return false };
        *noted = number;
        let all = mask(0, self.count);
        self.cuts.push(Cut { place, free: 0, used: 0, warm: 0 });
        self.all_runs().for_each(|runs| runs.links.push([NONE; 2]));
        self.set_warm(number, if is_warm { all } else { 0 });
        self.set_free(number, all, 0);
        true
    }

    fn all_runs(&mut self) -> impl Iterator<Item = &mut Runs> {
        [&mut self.runs_in_use, &mut self.runs, &mut self.runs_warm].into_iter()
    }

    /// Frees `len` bytes at `offset`. Its blocks that no slot has a part of any more are warm.
    pub(crate) fn free(&mut self, offset: u64, len: u64) -> Freed {
        let place = offset / self.cut_bytes();
        let Some(&number) = self.numbers.get(place) else { return Freed::default() }; // it is there, since some of it is in use
        let (first, parts) = (Parts::parts_of(offset % self.cut_bytes()), Parts::parts_of(len));
        let Cut { free, used, warm, .. } = self.cuts[number];
        let free = free | mask(first, parts);
        let unused = whole_blocks(mask_of_blocks(first, parts), free);
        let unused_bytes = bytes(unused.count_ones());
        self.free_bytes += len;
        self.free_bytes -= unused_bytes;
        self.set_warm(number, warm | unused);
        self.set_free(number, free, used & !unused);
        Freed { unused: unused_bytes, whole: self.forget_if_whole(number) }
    }

    /// Takes warm blocks that lie side by side out, which are not allocated before
    /// [`finish_discard`](Parts::finish_discard). Returns their offset and length.
    pub(crate) fn start_discard(&mut self) -> Option<(u64, u64)> {
        let number = self.runs_warm.find(BLOCK_PARTS)?;
        let Cut { place, free, used, warm } = self.cuts[number];
        let first = warm.trailing_zeros();
        let parts = (warm >> first).trailing_ones();
        self.set_warm(number, warm & !mask(first, parts));
        self.set_free(number, free & !mask(first, parts), used);
        Some((place * self.cut_bytes() + bytes(first), bytes(parts)))
    }

    /// Puts blocks back that [`start_discard`](Parts::start_discard) took out: cold if that is `done`.
    /// Returns their cut slot if that is whole now.
    pub(crate) fn finish_discard(&mut self, offset: u64, len: u64, done: bool) -> Option<Whole> {
        let number = *self.numbers.get(offset / self.cut_bytes())?; // it is not whole without these
        let blocks = mask(Parts::parts_of(offset % self.cut_bytes()), Parts::parts_of(len));
        let Cut { free, used, warm, .. } = self.cuts[number];
        self.set_warm(number, if done { warm } else { warm | blocks });
        self.set_free(number, free | blocks, used);
        self.forget_if_whole(number)
    }

    /// Forgets a cut slot of which all is free. The last one gets its number.
    fn forget_if_whole(&mut self, number: usize) -> Option<Whole> {
        let Cut { place, free, warm, .. } = self.cuts[number];
        if free != mask(0, self.count) {
            return None;
        }
        let last = self.cuts.len() - 1;
        let moved = self.cuts[last];
        for number in [number, last] {
            self.set_warm(number, 0);
            self.set_free(number, 0, 0);
        }
        self.cuts.swap_remove(number);
        self.numbers.remove(place);
        if number < last {
            if let Some(noted) = self.numbers.get_mut(moved.place) {
                *noted = number;
            }
            self.set_warm(number, moved.warm);
            self.set_free(number, moved.free, moved.used);
        }
        if self.cuts.len() < self.cuts.capacity() / 4 {
            self.cuts.shrink_to(2 * self.cuts.len());
        }
        self.all_runs().for_each(Runs::pop);
        Some(Whole { offset: place * self.cut_bytes(), is_warm: warm != 0 })
    }

    /// Notes the warm blocks of a cut slot.
    fn set_warm(&mut self, number: usize, warm: Mask) {
        let before = std::mem::replace(&mut self.cuts[number].warm, warm);
        self.warm_bytes += bytes(warm.count_ones());
        self.warm_bytes -= bytes(before.count_ones());
        self.runs_warm.note(number, before, warm);
    }

    /// Notes the free parts of a cut slot, and those of blocks in use.
    fn set_free(&mut self, number: usize, free: Mask, used: Mask) {
        let Cut { free: free_before, used: used_before, .. } = self.cuts[number];
        self.runs.note(number, free_before, free);
        self.runs_in_use.note(number, free_before & used_before, free & used);
        (self.cuts[number].free, self.cuts[number].used) = (free, used);
    }
}

impl Runs {
    /// Makes room for one number more, and runs of at most `longest` parts. Returns false if there
    /// is no memory for that.
    #[must_use]
    fn reserve(&mut self, longest: u32) -> bool {
        let longest = longest as usize;
        let has_room = self.firsts.try_reserve_exact(longest - self.firsts.len()).is_ok()
            && self.links.try_reserve(1).is_ok();
        if has_room {
            self.firsts.resize(longest, NONE);
        }
        has_room
    }

    /// Gives back the room of the last number, which is in no list.
    fn pop(&mut self) {
        self.links.pop();
        if self.links.len() < self.links.capacity() / 4 {
            self.links.shrink_to(2 * self.links.len());
        }
    }

    /// A cut slot whose longest run has `parts` parts, or as few more as any has.
    fn find(&self, parts: u32) -> Option<usize> {
        let run = parts - 1 + (self.some >> (parts - 1)).trailing_zeros();
        self.firsts.get(run as usize).copied()
    }

    /// Notes that cut slot `number` has the parts `after` in place of `before`.
    fn note(&mut self, number: usize, before: Mask, after: Mask) {
        let [before, after] = [before, after].map(longest_run);
        if before == after {
            return;
        }
        if let Some(run) = before.checked_sub(1) {
            self.remove(number, run);
        }
        if let Some(run) = after.checked_sub(1) {
            self.insert(number, run);
        }
    }

    fn remove(&mut self, number: usize, run: u32) {
        let [before, behind] = self.links[number];
        match before {
            NONE => self.firsts[run as usize] = behind,
            before => self.links[before][1] = behind,
        }
        match behind {
            NONE if before == NONE => self.some &= !mask(run, 1),
            NONE => {}
            behind => self.links[behind][0] = before,
        }
    }

    fn insert(&mut self, number: usize, run: u32) {
        let first = std::mem::replace(&mut self.firsts[run as usize], number);
        self.links[number] = [NONE, first];
        if first != NONE {
            self.links[first][0] = number;
        }
        self.some |= mask(run, 1);
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;
