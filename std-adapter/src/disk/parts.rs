//! Parts of blocks: slots of less than a block, for small bodies that have come to rest.
//!
//! A block that is cut has 32 parts, and a slot is some that lie side by side. So six bodies of 600 bytes are written in one
//! block; with a block each they took, and wrote, six times as much. Shorter parts would save little, since the system's page cache
//! writes whole blocks.
//!
//! Promises:
//!
//! - Slots never overlap, and lie in one block each.
//! - A slot goes where the free parts fit it best, so that a new block is cut only if it fits nowhere.
//! - Only [`cut`](Parts::cut) needs memory: some 40 bytes for each block that is cut, however long the file is.
//!
//! Held by: the tests below, the tests of `slots.rs`.

use crate::disk::bits::Bits;
use crate::memory::ordered::Ordered;
use std::ops::Range;

/// Bytes of a part.
pub(crate) const PART: u64 = 128;

/// A bit for each part of a block.
type Mask = u32;

/// Parts of a block.
const PARTS: u32 = Mask::BITS;

/// Bytes of a block.
const BLOCK: u64 = PART * PARTS as u64;

/// The free parts of the blocks that are cut, which have some in use.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The blocks that are cut, in any order. Their positions here are their numbers.
    blocks: Vec<Cut>,
    /// The number of each, by its place in the store.
    numbers: Ordered<usize>,
    /// By length, the numbers of those whose longest run of free parts has it: `by_run[0]` those with one part. Empty before a block is
    /// cut.
    by_run: Vec<Bits>,
    /// Free parts of all blocks that are cut.
    free_parts: u64,
}

/// A block that is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Its place in the store, in blocks.
    place: u64,
    /// A bit for each free part.
    free: Mask,
}

/// The length of the longest run of free parts.
fn longest_run(free: Mask) -> u32 {
    let (mut left, mut longest) = (free, 0);
    while left != 0 {
        left &= left << 1; // each run loses one
        longest += 1;
    }
    longest
}

/// A bit for each of `parts` parts, at least one and at most all, from part `first` on.
fn mask(first: u32, parts: u32) -> Mask {
    (Mask::MAX >> (PARTS - parts)) << first
}

/// The parts in `len` bytes.
fn parts_of(len: u64) -> u32 {
    u32::try_from(len / PART).unwrap_or(u32::MAX)
}

impl Parts {
    /// Bytes of the free parts of blocks that are cut.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_parts * PART
    }

    /// The sets of blocks that have room for `parts` parts, those that fit best first.
    fn runs_from(&self, parts: u32) -> Range<usize> {
        parts as usize - 1..self.by_run.len()
    }

    /// Whether a slot of `len` bytes fits into a block that is cut.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        self.runs_from(parts_of(len)).any(|run| !self.by_run[run].is_empty())
    }

    /// Allocates `len` bytes, a multiple of [`PART`] below a block, in a block that is cut. Returns their offset; `None` if they
    /// fit nowhere.
    pub(crate) fn allocate(&mut self, len: u64) -> Option<u64> {
        let parts = parts_of(len);
        let number = self.runs_from(parts).find_map(|run| self.by_run[run].pop_first())?;
        // The shortest run that is long enough.
        let Cut { place, free } = self.blocks[number];
        let fits = |first: &u32| free & mask(*first, parts) == mask(*first, parts);
        let run = |first: &u32| (free >> first).trailing_ones();
        let is_start = |first: &u32| *first == 0 || free & mask(first - 1, 1) == 0;
        let first = (0..=PARTS - parts).filter(|first| is_start(first) && fits(first)).min_by_key(run)?;
        self.set_free(number, free & !mask(first, parts));
        self.free_parts -= u64::from(parts);
        Some(place * BLOCK + u64::from(first) * PART)
    }

    /// Cuts the block at `offset`, and takes its first `len` bytes. Returns false if there is no memory to note it.
    #[must_use]
    pub(crate) fn cut(&mut self, offset: u64, len: u64) -> bool {
        let (place, number) = (offset / BLOCK, self.blocks.len());
        let runs = PARTS as usize - 1;
        let has_room =
            self.blocks.try_reserve(1).is_ok() && self.by_run.try_reserve(runs - self.by_run.len()).is_ok();
        if !has_room {
            return false;
        }
        self.by_run.resize_with(runs, Bits::default);
        if !self.by_run.iter_mut().all(|set| set.grow(number + 1)) {
            return false;
        }
        let Some(noted) = self.numbers.try_insert(place) else { return false };
        *noted = number;
        self.blocks.push(Cut { place, free: 0 });
        let parts = parts_of(len);
        self.set_free(number, !mask(0, parts));
        self.free_parts += u64::from(PARTS - parts);
        true
    }

    /// Frees `len` bytes at `offset`. Returns the offset of their block if it is whole now, and no longer cut.
    pub(crate) fn free(&mut self, offset: u64, len: u64) -> Option<u64> {
        let (place, parts) = (offset / BLOCK, parts_of(len));
        let number = *self.numbers.get(place)?; // there, since some of it is in use
        let freed = self.take_from_set(number) | mask(parts_of(offset % BLOCK), parts);
        if freed == Mask::MAX {
            self.forget(number);
            self.free_parts -= u64::from(PARTS - parts);
            return Some(place * BLOCK);
        }
        self.free_parts += u64::from(parts);
        self.set_free(number, freed);
        None
    }

    /// Forgets a block that is in no set. The last one gets its number.
    fn forget(&mut self, number: usize) {
        let last = self.blocks.len() - 1;
        let free = if number < last { self.take_from_set(last) } else { 0 };
        let forgotten = self.blocks.swap_remove(number);
        self.numbers.remove(forgotten.place);
        if let Some(moved) = self.blocks.get(number) {
            self.numbers.get_mut(moved.place).into_iter().for_each(|noted| *noted = number);
            self.set_free(number, free);
        }
        if self.blocks.len() < self.blocks.capacity() / 4 {
            self.blocks.shrink_to(2 * self.blocks.len());
        }
        self.by_run.iter_mut().for_each(|set| set.shrink(last));
    }

    /// Takes a block out of its set, if it is in one, and returns its free parts.
    fn take_from_set(&mut self, number: usize) -> Mask {
        let free = self.blocks[number].free;
        if let Some(run) = longest_run(free).checked_sub(1) {
            self.by_run[run as usize].remove(number);
        }
        free
    }

    /// Notes the free parts of a block that is in no set: not all of them.
    fn set_free(&mut self, number: usize, free: Mask) {
        self.blocks[number].free = free;
        if let Some(run) = longest_run(free).checked_sub(1) {
            self.by_run[run as usize].insert(number);
        }
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    #[test]
    fn the_longest_run_is_that_of_the_bits() {
        for seed in 0..=Mask::from(u16::MAX) {
            let free = seed.wrapping_mul(0x9e37_79b9) | seed;
            let bits = format!("{free:b}");
            let expected = bits.split('0').map(str::len).max();
            assert_eq!(Some(longest_run(free) as usize), expected, "{bits}");
        }
    }

    #[test]
    fn a_slot_goes_where_it_fits_best() {
        const REST: u64 = PARTS as u64 - 8; // so that eight parts of a block are left
        let mut parts = Parts::default();
        assert!(!parts.has_room(PART) && parts.allocate(PART).is_none(), "no block is cut");
        assert!(parts.cut(0, (REST + 5) * PART) && parts.cut(BLOCK, (REST + 2) * PART));
        assert_eq!(
            (parts.free_bytes(), parts.has_room(6 * PART), parts.has_room(7 * PART)),
            (9 * PART, true, false)
        );
        assert_eq!(parts.allocate(3 * PART), Some((REST + 5) * PART), "all that the first has");
        assert_eq!(parts.allocate(PART), Some(BLOCK + (REST + 2) * PART));
        assert_eq!(parts.free(PART, PART), None);
        assert_eq!(parts.free(3 * PART, 2 * PART), None);
        assert_eq!(parts.allocate(PART), Some(PART), "between two that are in use");
        assert_eq!(parts.allocate(6 * PART), None);
        assert_eq!(parts.free(0, 3 * PART), None);
        assert_eq!(parts.free(5 * PART, (REST + 3) * PART), Some(0));
        assert_eq!(parts.free_bytes(), 5 * PART);
    }

    #[test]
    fn parts_never_overlap_and_a_block_is_whole_when_its_last_is_freed() {
        const BLOCKS: u64 = 40;
        let mut parts = Parts::default();
        let (mut blocks, mut slots) = ((0..BLOCKS).rev().collect::<Vec<_>>(), Vec::new());
        let mut random = 1_u64;
        for round in 0..20_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let len = (random >> 40) % u64::from(PARTS - 1) * PART + PART;
            let has_room = parts.has_room(len);
            let found = parts.allocate(len);
            assert_eq!(found.is_some(), has_room);
            if let Some(offset) = found {
                slots.push((offset, len));
            } else if let Some(block) = blocks.pop() {
                assert!(parts.cut(block * BLOCK, len));
                slots.push((block * BLOCK, len));
            } else {
                for _ in 0..slots.len() / 2 {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let (offset, len) = slots.swap_remove((random >> 33) as usize % slots.len());
                    blocks.extend(parts.free(offset, len).map(|block| block / BLOCK));
                }
            }
            if round % 64 > 0 {
                continue;
            }
            slots.sort_unstable();
            assert!(slots.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
            let (cut, used) = (BLOCKS - blocks.len() as u64, slots.iter().map(|slot| slot.1).sum::<u64>());
            assert_eq!(parts.free_bytes() + used, cut * BLOCK, "each part of a cut block is free or in use");
        }
        slots.drain(..).for_each(|(offset, len)| blocks.extend(parts.free(offset, len)));
        assert_eq!((blocks.len() as u64, parts.free_bytes()), (BLOCKS, 0));
        assert_eq!((parts.blocks.capacity(), parts.numbers.is_empty()), (0, true));
    }
}
