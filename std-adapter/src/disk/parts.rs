//! Parts of slots: slots of less than a block, for small bodies that have come to rest.
//!
//! A slot of four blocks, or of a page if that is shorter, is *cut* into parts of 128 bytes, and a small slot is some that lie side
//! by side. So 25 bodies of 600 bytes are written in one call, and take four blocks; with a block each they took, and wrote, six
//! times as much. Shorter parts would save little, since the system's page cache writes whole blocks. Single blocks that are cut had
//! room for six such bodies, two of 1,500 bytes, and one of 3,000.
//!
//! Promises:
//!
//! - Slots never overlap, and lie in one cut slot each.
//! - A slot goes where the free parts fit it best, so that another one is cut only if it fits nowhere.
//! - A block is in use from the first slot on that has a part of it until its cut slot is whole again.
//! - Only [`cut`](Parts::cut) needs memory: some 100 bytes for each slot that is cut, however long the file is.
//!
//! Held by: the tests below, the tests of `slots.rs`, `tests/tests/small_bodies.rs`.

use crate::disk::bits::Bits;
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
    /// By length, the numbers of those whose longest run of free parts has it: `by_run[0]` those with one part. Empty before a slot is
    /// cut.
    by_run: Vec<Bits>,
    /// A bit for each set of `by_run` that has some.
    runs: Mask,
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
        let (cuts, by_run) = (Vec::new(), Vec::new());
        Parts { count, cuts, numbers: Ordered::default(), by_run, runs: 0, free_bytes: 0 }
    }

    /// Bytes of a slot that can be cut.
    pub(crate) fn cut_bytes(&self) -> u64 {
        bytes(self.count)
    }

    /// Bytes of the blocks in use that no slot has.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Bytes of the blocks of cut slots that are not in use.
    #[cfg(test)]
    pub(crate) fn unused_bytes(&self) -> u64 {
        self.cuts.iter().map(|cut| bytes((mask(0, self.count) & !cut.used).count_ones())).sum()
    }

    /// The parts in `len` bytes, a multiple of [`PART`] below a block.
    fn parts_of(len: u64) -> u32 {
        u32::try_from(len / PART).unwrap_or(u32::MAX)
    }

    /// The best place for `parts` parts: in a cut slot whose longest run fits them best.
    fn find(&self, parts: u32) -> Option<Place> {
        let fitting = self.runs >> (parts - 1);
        if fitting == 0 {
            return None;
        }
        let run = (parts - 1 + fitting.trailing_zeros()) as usize;
        let number = self.by_run[run].first()?;
        Some(Place { number, first: best_fit(self.cuts[number].free, parts)? })
    }

    /// Bytes of the blocks that come to be in use with a slot of `len` bytes in a cut slot. `None` if it fits into none.
    pub(crate) fn charge(&self, len: u64) -> Option<u64> {
        let parts = Parts::parts_of(len);
        let Place { number, first } = self.find(parts)?;
        Some(bytes((mask_of_blocks(first, parts) & !self.cuts[number].used).count_ones()))
    }

    /// Allocates `len` bytes, a multiple of [`PART`] below a block, in a slot that is cut. Returns their offset; `None` if they
    /// fit nowhere.
    pub(crate) fn allocate(&mut self, len: u64) -> Option<u64> {
        let parts = Parts::parts_of(len);
        let Place { number, first } = self.find(parts)?;
        self.take_from_set(number);
        let cut = &mut self.cuts[number];
        let newly_used = mask_of_blocks(first, parts) & !cut.used;
        cut.used |= newly_used;
        let offset = cut.place * bytes(self.count) + bytes(first);
        self.free_bytes += bytes(newly_used.count_ones());
        self.free_bytes -= len;
        let free = cut.free & !mask(first, parts);
        self.set_free(number, free);
        Some(offset)
    }

    /// Cuts the slot at `offset`, of [`cut_bytes`](Parts::cut_bytes), all of whose blocks are in use if it `is_warm`. To be
    /// followed by [`allocate`](Parts::allocate). Returns false if there is no memory to note it.
    #[must_use]
    pub(crate) fn cut(&mut self, offset: u64, is_warm: bool) -> bool {
        let (place, number) = (offset / self.cut_bytes(), self.cuts.len());
        let runs = self.count as usize;
        let has_room =
            self.cuts.try_reserve(1).is_ok() && self.by_run.try_reserve(runs - self.by_run.len()).is_ok();
        if !has_room {
            return false;
        }
        self.by_run.resize_with(runs, Bits::default);
        if !self.by_run.iter_mut().all(|set| set.grow(number + 1)) {
            return false;
        }
        let Some(noted) = self.numbers.try_insert(place) else { return false };
        *noted = number;
        let all = mask(0, self.count);
        self.cuts.push(Cut { place, free: 0, used: if is_warm { all } else { 0 } });
        self.free_bytes += if is_warm { self.cut_bytes() } else { 0 };
        self.set_free(number, all);
        true
    }

    /// Frees `len` bytes at `offset`. If nothing of their cut slot is in use then, it is no longer cut: returns its offset, and the
    /// bytes of its blocks that were in use.
    pub(crate) fn free(&mut self, offset: u64, len: u64) -> Option<(u64, u64)> {
        let place = offset / self.cut_bytes();
        let number = *self.numbers.get(place)?; // there, since some of it is in use
        self.take_from_set(number);
        let Cut { free, used, .. } = self.cuts[number];
        let first = Parts::parts_of(offset % self.cut_bytes());
        let free = free | mask(first, Parts::parts_of(len));
        self.free_bytes += len;
        if free == mask(0, self.count) {
            self.forget(number);
            let were_used = bytes(used.count_ones());
            self.free_bytes -= were_used;
            return Some((place * self.cut_bytes(), were_used));
        }
        self.set_free(number, free);
        None
    }

    /// Forgets a cut slot that is in no set. The last one gets its number.
    fn forget(&mut self, number: usize) {
        let last = self.cuts.len() - 1;
        if number < last {
            self.take_from_set(last);
        }
        let forgotten = self.cuts.swap_remove(number);
        self.numbers.remove(forgotten.place);
        if let Some(&Cut { place, free, .. }) = self.cuts.get(number) {
            self.numbers.get_mut(place).into_iter().for_each(|noted| *noted = number);
            self.set_free(number, free);
        }
        if self.cuts.len() < self.cuts.capacity() / 4 {
            self.cuts.shrink_to(2 * self.cuts.len());
        }
        self.by_run.iter_mut().for_each(|set| set.shrink(last));
    }

    /// Takes a cut slot out of its set, if it is in one.
    fn take_from_set(&mut self, number: usize) {
        if let Some(run) = longest_run(self.cuts[number].free).checked_sub(1) {
            let set = &mut self.by_run[run as usize];
            set.remove(number);
            self.runs &= if set.is_empty() { !mask(run, 1) } else { Mask::MAX };
        }
    }

    /// Notes the free parts of a cut slot that is in no set.
    fn set_free(&mut self, number: usize, free: Mask) {
        self.cuts[number].free = free;
        if let Some(run) = longest_run(free).checked_sub(1) {
            self.by_run[run as usize].insert(number);
            self.runs |= mask(run, 1);
        }
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    const PARTS: u32 = Mask::BITS;
    const CUT: u64 = PART * PARTS as u64;
    const BLOCK: u64 = PART * BLOCK_PARTS as u64;

    /// Cuts the slot at `offset`, and allocates its first `len` bytes.
    fn cut(parts: &mut Parts, offset: u64, len: u64) {
        assert!(parts.cut(offset, false));
        assert_eq!(parts.allocate(len), Some(offset));
    }

    fn next(random: &mut u64) -> u32 {
        *random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        u32::try_from(*random >> 33).unwrap()
    }

    #[test]
    fn the_longest_run_is_that_of_the_bits() {
        let mut random = 1;
        for round in 0..20_000 {
            let [a, b, c] = [(); 3].map(|()| u128::from(next(&mut random)) << (next(&mut random) % 97));
            let free = [a, a | b, (a | b) << 7 | c, !a, !(a & b), !(1 << (c % 128))][round % 6];
            let expected = format!("{free:b}").split('0').map(str::len).max();
            assert_eq!(Some(longest_run(free) as usize), expected, "{free:b}");
        }
        assert_eq!([0, 1, Mask::MAX, Mask::MAX >> 1].map(longest_run), [0, 1, 128, 127]);
    }

    #[test]
    fn a_block_has_so_many_parts() {
        assert_eq!(BLOCK, crate::disk::slots::BLOCK);
    }

    #[test]
    fn a_slot_goes_where_it_fits_best() {
        const REST: u64 = PARTS as u64 - 8; // so that eight parts of a cut slot are left
        let mut parts = Parts::new(64 << 10);
        assert!(parts.charge(PART).is_none() && parts.allocate(PART).is_none(), "no slot is cut");
        for (offset, taken) in [(0, REST + 5), (CUT, REST + 2)] {
            assert!(parts.cut(offset, false));
            for first in (0..taken).step_by(31) {
                let len = PART * 31.min(taken - first);
                // By number of free parts, so that the second is not taken from the first.
                assert_eq!(parts.allocate(len), Some(offset + first * PART));
            }
        }
        let has_room = |parts: &Parts, count| parts.charge(count * PART).is_some();
        assert_eq!((parts.free_bytes(), has_room(&parts, 6), has_room(&parts, 7)), (9 * PART, true, false));
        assert_eq!(parts.allocate(3 * PART), Some((REST + 5) * PART), "all that the first has");
        assert_eq!(parts.allocate(PART), Some(CUT + (REST + 2) * PART));
        assert_eq!(parts.free(PART, PART), None);
        assert_eq!(parts.free(3 * PART, 2 * PART), None);
        assert_eq!(parts.allocate(PART), Some(PART), "between two that are in use");
        assert_eq!(parts.allocate(6 * PART), None);
        assert_eq!(parts.free(0, 3 * PART), None);
        assert_eq!(parts.free(5 * PART, (REST + 3) * PART), Some((0, CUT)));
        assert_eq!(parts.free_bytes(), 5 * PART);
    }

    #[test]
    fn a_block_is_in_use_from_its_first_part_on() {
        let mut parts = Parts::new(64 << 10);
        cut(&mut parts, 3 * CUT, BLOCK - 2 * PART);
        assert_eq!((parts.charge(2 * PART), parts.charge(3 * PART)), (Some(0), Some(BLOCK)));
        assert_eq!(parts.allocate(3 * PART), Some(3 * CUT + BLOCK - 2 * PART), "across the end of a block");
        assert_eq!(parts.free_bytes(), BLOCK - PART);
        assert_eq!(parts.free(3 * CUT + BLOCK - 2 * PART, 3 * PART), None);
        assert_eq!(parts.charge(3 * PART), Some(0), "the second block still is");
        assert_eq!(parts.free(3 * CUT, BLOCK - 2 * PART), Some((3 * CUT, 2 * BLOCK)));
        assert_eq!(parts.free_bytes(), 0);

        assert!(parts.cut(0, true));
        assert_eq!((parts.charge(BLOCK - PART), parts.free_bytes()), (Some(0), CUT), "all of a warm one are");
        assert_eq!(parts.allocate(PART), Some(0));
        assert_eq!(parts.free(0, PART), Some((0, CUT)));
    }

    #[test]
    fn parts_never_overlap_and_a_slot_is_whole_when_its_last_is_freed() {
        for page in [BLOCK, 2 * BLOCK, 64 << 10] {
            check_parts(page);
        }
    }

    fn check_parts(page: u64) {
        const CUTS: u64 = 40;
        let mut parts = Parts::new(page);
        let len_of_cut = parts.cut_bytes();
        assert_eq!(len_of_cut, page.min(CUT));
        let (mut whole, mut slots) = ((0..CUTS).rev().collect::<Vec<_>>(), Vec::new());
        let (mut random, mut used) = (1, 0);
        for round in 0..20_000 {
            let len = bytes(next(&mut random) % (BLOCK_PARTS - 1) + 1);
            let charge = parts.charge(len);
            let found = parts.allocate(len);
            assert_eq!(found.is_some(), charge.is_some());
            used += charge.unwrap_or(0);
            if let Some(offset) = found {
                slots.push((offset, len));
            } else if let Some(place) = whole.pop() {
                let is_warm = round % 2 == 0;
                assert!(parts.cut(place * len_of_cut, is_warm));
                used += if is_warm { len_of_cut } else { parts.charge(len).unwrap() };
                slots.push((parts.allocate(len).unwrap(), len));
            } else {
                for _ in 0..slots.len() / 2 {
                    let (offset, len) = slots.swap_remove(next(&mut random) as usize % slots.len());
                    if let Some((offset, unused)) = parts.free(offset, len) {
                        whole.push(offset / len_of_cut);
                        used -= unused;
                    }
                }
            }
            if round % 64 > 0 {
                continue;
            }
            slots.sort_unstable();
            assert!(slots.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
            let held = slots.iter().map(|slot| slot.1).sum::<u64>();
            assert_eq!(parts.free_bytes() + held, used, "each part of a block in use is free or a slot's");
        }
        for (offset, len) in slots {
            if let Some((offset, unused)) = parts.free(offset, len) {
                whole.push(offset / len_of_cut);
                used -= unused;
            }
        }
        assert_eq!((whole.len() as u64, parts.free_bytes(), used, parts.runs), (CUTS, 0, 0, 0));
        assert_eq!((parts.cuts.capacity(), parts.numbers.is_empty()), (0, true));
    }
}
