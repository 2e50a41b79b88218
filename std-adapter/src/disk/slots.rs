//! Which bytes of the store are whose: a buddy allocator over its offsets, and nothing else.
//!
//! No I/O happens here, so it can be tested alone; what has to be done to the store is handed to the
//! caller as a list. Promises:
//!
//! - Two slots that are taken never overlap.
//! - A freed slot is used again before the file grows, one whose blocks are still there ("warm")
//!   before one whose blocks went back to the file system ("cold"): writing to fresh blocks costs
//!   several times as much.
//! - What is being given back to the file system is not handed out meanwhile.
//!
//! A slot's length is a power of two from one block to one page. Freed buddies merge, up to a page.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

/// Bytes of the smallest slot, unless pages are smaller: what a file system allocates at the least.
const BLOCK: u64 = 4096;

/// A place of a page, or of the beginning of one, in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) offset: u64,
    /// So that no slot takes no room of its own beside this, millions of times.
    len: NonZeroU64,
}

impl Slot {
    /// `len` is at least one byte.
    pub(crate) fn new(offset: u64, len: u64) -> Self {
        debug_assert!(len > 0);
        Slot { offset, len: NonZeroU64::MIN.saturating_add(len.saturating_sub(1)) }
    }

    pub(crate) fn len(self) -> u64 {
        self.len.get()
    }
}

/// The length of the slot that `bytes` of a page need, where pages have `page` bytes.
pub(crate) fn slot_bytes(bytes: usize, page: u64) -> u64 {
    (bytes as u64).clamp(BLOCK.min(page), page).next_power_of_two()
}

/// Freed slots of one length.
#[derive(Debug, Default)]
struct Free {
    warm: BTreeSet<u64>,
    cold: BTreeSet<u64>,
}

impl Free {
    /// The lowest offset first, so that the end of the file becomes free.
    fn pop(&mut self) -> Option<(u64, bool)> {
        match self.warm.pop_first() {
            Some(offset) => Some((offset, true)),
            None => self.cold.pop_first().map(|offset| (offset, false)),
        }
    }

    fn is_empty(&self) -> bool {
        self.warm.is_empty() && self.cold.is_empty()
    }

    fn put(&mut self, offset: u64, warm: bool) {
        if warm {
            self.warm.insert(offset)
        } else {
            self.cold.insert(offset)
        };
    }

    /// Takes `offset` out, and says whether it was warm; `None` if it is not free.
    fn remove(&mut self, offset: u64) -> Option<bool> {
        if self.warm.remove(&offset) { Some(true) } else { self.cold.remove(&offset).then_some(false) }
    }
}

#[derive(Debug)]
pub(crate) struct Slots {
    block: u64,
    page: u64,
    /// By order: `free[k]` holds slots of `block << k` bytes.
    free: Vec<Free>,
    /// No slot was ever taken at or past this offset, since the file was last cut there.
    end: u64,
    /// Bytes in free slots whose blocks are still allocated below.
    warm: u64,
}

/// Parts of the store that nobody needs and nobody is given before [`Slots::finish_discard`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Discarding {
    /// Merged where they touch.
    pub(crate) extents: Vec<(u64, u64)>,
    slots: Vec<Slot>,
}

impl Slots {
    pub(crate) fn new(page_size: usize) -> Self {
        let page = page_size as u64;
        let block = BLOCK.min(page);
        let orders = (page / block).trailing_zeros() as usize + 1;
        Slots { block, page, free: (0..orders).map(|_| Free::default()).collect(), end: 0, warm: 0 }
    }

    /// The length of the slot that `bytes` of a page need.
    pub(crate) fn class(&self, bytes: usize) -> u64 {
        slot_bytes(bytes, self.page)
    }

    fn order(&self, len: u64) -> usize {
        (len / self.block).trailing_zeros() as usize
    }

    /// A slot of `len` bytes, which must be a class; `None` if offsets have run out.
    pub(crate) fn allocate(&mut self, len: u64) -> Option<Slot> {
        let order = self.order(len);
        let (mut at, offset, warm) = match self.pop(order) {
            Some(found) => found,
            None => {
                let grown = self.end.checked_add(self.page)?;
                let offset = std::mem::replace(&mut self.end, grown);
                (self.free.len() - 1, offset, false)
            }
        };
        if warm {
            self.warm -= self.block << at;
        }
        // Split down, keeping the lower half, so that slots taken in turn lie in turn.
        while at > order {
            at -= 1;
            let half = self.block << at;
            self.free[at].put(offset + half, warm);
            self.warm += if warm { half } else { 0 };
        }
        Some(Slot::new(offset, len))
    }

    /// The slot of one page at `offset`, if it is free or the next that the file would grow by.
    pub(crate) fn allocate_at(&mut self, offset: u64) -> Option<Slot> {
        let top = self.free.len() - 1;
        match self.free[top].remove(offset) {
            Some(true) => self.warm -= self.page,
            Some(false) => {}
            None if offset == self.end && self.free[top].is_empty() => {
                self.end = self.end.checked_add(self.page)?;
            }
            None => return None,
        }
        Some(Slot::new(offset, self.page))
    }

    /// The smallest free slot of at least `order`: warm ones of any size before cold ones.
    fn pop(&mut self, order: usize) -> Option<(usize, u64, bool)> {
        let warm = (order..self.free.len()).find(|&k| !self.free[k].warm.is_empty());
        let at = warm.or_else(|| (order..self.free.len()).find(|&k| !self.free[k].cold.is_empty()))?;
        self.free[at].pop().map(|(offset, warm)| (at, offset, warm))
    }

    /// Takes a slot back; its blocks are still there.
    pub(crate) fn free(&mut self, slot: Slot) {
        self.put_back(slot, true);
    }

    fn put_back(&mut self, slot: Slot, warm: bool) {
        let mut offset = slot.offset;
        let mut order = self.order(slot.len());
        let mut warm_merged = warm;
        let mut warm_bytes = if warm { slot.len() } else { 0 };
        while order + 1 < self.free.len() {
            let len = self.block << order;
            let Some(buddy_warm) = self.free[order].remove(offset ^ len) else { break };
            if buddy_warm {
                self.warm -= len;
            }
            // Half warm counts as warm: giving cold blocks back once more does no harm.
            warm_merged |= buddy_warm;
            offset &= !len;
            order += 1;
            warm_bytes = if warm_merged { self.block << order } else { 0 };
        }
        self.warm += warm_bytes;
        self.free[order].put(offset, warm_merged);
    }

    /// Bytes that nobody needs and that are still allocated below.
    pub(crate) fn warm_bytes(&self) -> u64 {
        self.warm
    }

    /// Takes all warm free slots out, so that their blocks can be given back.
    pub(crate) fn start_discard(&mut self) -> Discarding {
        let mut slots = Vec::new();
        for order in 0..self.free.len() {
            let len = self.block << order;
            slots.extend(
                std::mem::take(&mut self.free[order].warm).into_iter().map(|offset| Slot::new(offset, len)),
            );
        }
        self.warm = 0;
        slots.sort_unstable_by_key(|slot| slot.offset);
        let mut extents: Vec<(u64, u64)> = Vec::new();
        for slot in &slots {
            match extents.last_mut() {
                Some((offset, len)) if *offset + *len == slot.offset => *len += slot.len(),
                _ => extents.push((slot.offset, slot.len())),
            }
        }
        Discarding { extents, slots }
    }

    /// Puts back what [`start_discard`](Slots::start_discard) took out: as cold if the blocks
    /// went back (`done`), as warm otherwise.
    pub(crate) fn finish_discard(&mut self, discarding: Discarding, done: bool) {
        for slot in discarding.slots {
            self.put_back(slot, !done);
        }
    }

    /// Cuts the free pages off the end; returns the new end if there were any.
    ///
    /// Only for a store whose file is cut before anybody takes another slot: see `SlottedStore::trim`.
    pub(crate) fn cut_free_tail(&mut self) -> Option<u64> {
        let before = self.end;
        let top = self.free.len() - 1;
        while let Some(last) = self.end.checked_sub(self.page)
            && let Some(warm) = self.free[top].remove(last)
        {
            self.warm -= if warm { self.page } else { 0 };
            self.end = last;
        }
        (self.end < before).then_some(self.end)
    }

    /// No slot reaches past this offset.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every free byte, as a sorted list of blocks.
    fn free_blocks(slots: &Slots) -> Vec<u64> {
        let mut blocks = Vec::new();
        for (order, free) in slots.free.iter().enumerate() {
            for &offset in free.warm.iter().chain(&free.cold) {
                blocks.extend((0..1u64 << order).map(|i| offset + i * slots.block));
            }
        }
        blocks.sort_unstable();
        blocks
    }

    #[test]
    fn slots_never_overlap_and_all_merge_again() {
        let mut slots = Slots::new(64 << 10);
        let mut taken = Vec::new();
        let mut seed = 1u64;
        for round in 0..4000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let pick = (seed >> 33) as usize;
            if round % 3 == 2 && !taken.is_empty() {
                slots.free(taken.swap_remove(pick % taken.len()));
            } else {
                taken.push(slots.allocate(slots.class(pick % (70 << 10))).unwrap());
            }
            if round % 97 == 0 {
                let discarding = slots.start_discard();
                slots.finish_discard(discarding, true);
                assert_eq!(slots.warm_bytes(), 0);
            }
            if round % 50 != 0 {
                continue;
            }
            let mut blocks = free_blocks(&slots);
            for slot in &taken {
                blocks.extend((0..slot.len() / BLOCK).map(|i| slot.offset + i * BLOCK));
            }
            blocks.sort_unstable();
            let all: Vec<u64> = (0..slots.end() / BLOCK).map(|i| i * BLOCK).collect();
            assert_eq!(blocks, all, "each block is free or taken, once");
        }
        taken.drain(..).for_each(|slot| slots.free(slot));
        assert_eq!(slots.cut_free_tail(), Some(0));
        assert_eq!((slots.end(), slots.warm_bytes()), (0, 0));
    }

    #[test]
    fn slots_taken_in_turn_lie_in_turn() {
        let mut slots = Slots::new(8);
        let offsets: Vec<u64> = (0..5).map(|_| slots.allocate(8).unwrap().offset).collect();
        assert_eq!(offsets, [0, 8, 16, 24, 32]);
    }

    #[test]
    fn a_slot_at_a_place_is_had_if_it_is_free_or_next() {
        let mut slots = Slots::new(4096);
        assert_eq!(slots.allocate_at(4096), None, "a gap would be nobody's");
        let a = slots.allocate_at(0).unwrap();
        let b = slots.allocate_at(4096).unwrap();
        assert_eq!(slots.allocate_at(4096), None);
        slots.free(a);
        assert_eq!(slots.allocate_at(8192), None, "a free slot is used before the file grows");
        assert_eq!(slots.allocate_at(0), Some(a));
        slots.free(a);
        slots.free(b);
        assert_eq!((slots.warm_bytes(), slots.cut_free_tail()), (8192, Some(0)));
    }

    #[test]
    fn what_is_being_returned_is_not_handed_out() {
        let mut slots = Slots::new(4096);
        let [a, b, c] = [0; 3].map(|_| slots.allocate(4096).unwrap());
        slots.free(a);
        slots.free(b);
        let discarding = slots.start_discard();
        assert_eq!(discarding.extents, [(0, 8192)]);
        assert_eq!(slots.allocate(4096).unwrap().offset, 3 * 4096);
        slots.finish_discard(discarding, true);
        assert_eq!(slots.allocate(4096).unwrap(), a);
        slots.free(c);
        assert_eq!(slots.allocate(4096).unwrap(), c, "warm before cold");
    }

    #[test]
    fn warm_slots_of_any_length_come_before_cold_ones() {
        let mut slots = Slots::new(16 << 10);
        let [cold, long, kept] = [4096, 8192, 4096].map(|len| slots.allocate(len).unwrap());
        assert_eq!((cold.offset, long.offset, kept.offset), (0, 8192, 4096));
        slots.free(cold);
        let discarding = slots.start_discard();
        slots.finish_discard(discarding, true);
        slots.free(long);
        assert_eq!(slots.warm_bytes(), 8192);
        assert_eq!(
            slots.allocate(4096).unwrap().offset,
            8192,
            "a part of the warm one, though a cold one fits"
        );
        assert_eq!(slots.warm_bytes(), 4096);
        assert_eq!(slots.cut_free_tail(), None, "something is in use at the end");
    }

    #[test]
    fn what_touches_goes_back_together_and_what_does_not_apart() {
        let mut slots = Slots::new(4096);
        let taken: Vec<Slot> = (0..7).map(|_| slots.allocate(4096).unwrap()).collect();
        for n in [0, 1, 3, 5] {
            slots.free(taken[n]);
        }
        let discarding = slots.start_discard();
        assert_eq!(discarding.extents, [(0, 8192), (3 * 4096, 4096), (5 * 4096, 4096)]);
        slots.finish_discard(discarding, true);
        assert_eq!((slots.warm_bytes(), slots.cut_free_tail()), (0, None));
        // The last two pages are free now, one warm and one cold; two that are not at the end stay.
        slots.free(taken[6]);
        slots.free(taken[4]);
        assert_eq!(slots.warm_bytes(), 2 * 4096);
        assert_eq!(slots.cut_free_tail(), Some(3 * 4096));
        assert_eq!((slots.warm_bytes(), slots.end()), (0, 3 * 4096));
        slots.free(taken[2]);
        assert_eq!((slots.warm_bytes(), slots.cut_free_tail()), (4096, Some(0)));
    }

    #[test]
    fn a_buddy_that_is_half_warm_is_warm_as_a_whole() {
        let mut slots = Slots::new(8192);
        let [low, high] = [4096; 2].map(|len| slots.allocate(len).unwrap());
        slots.free(low);
        let discarding = slots.start_discard();
        slots.finish_discard(discarding, true);
        slots.free(high);
        assert_eq!(slots.warm_bytes(), 8192);
        let [low, high] = [4096; 2].map(|len| slots.allocate(len).unwrap());
        slots.free(high);
        let discarding = slots.start_discard();
        slots.finish_discard(discarding, true);
        slots.free(low);
        assert_eq!((slots.warm_bytes(), slots.cut_free_tail(), slots.warm_bytes()), (8192, Some(0), 0));
    }
}
