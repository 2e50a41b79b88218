//! Slots: a buddy allocator over the offsets of a store.
//!
//! A slot's length is a power of two from one block to one page. Freed buddies merge, up to a page. A free
//! slot is *warm* while the file system still has its blocks, and *cold* once they went back.
//!
//! Promises:
//!
//! - Allocated slots never overlap.
//! - A freed slot is used again before the file grows, and a warm one before a cold one: writing to fresh
//!   blocks costs several times as much.
//! - Bytes that are being discarded are not allocated meanwhile.
//! - No I/O: the caller gets a list of what to discard. So this can be tested alone.
//!
//! Held by: the tests below, `tests/tests/leftovers.rs`, `tests/tests/tidy.rs` (no I/O).

use crate::disk::runs::Runs;
use std::collections::BTreeSet;
use std::num::NonZeroU32;

/// Bytes of the smallest slot, unless pages are smaller: the least that the usual file systems allocate.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;

/// [`BLOCK`], of memory.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// The place of a page, or of the beginning of one, in the store.
///
/// A slot for a page that grows is as long as the page may become, and charged only as far as it was written: the
/// file system gives blocks to what is written, and none to a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Of the first byte in the store.
    pub(crate) offset: u64,
    /// Bytes. Not zero, so that `Option<Slot>` needs no tag: there are millions.
    len: NonZeroU32,
    /// Bytes from the slot's beginning that are charged to the disk limits: whole blocks, or all of them.
    charged: u32,
}

/// The length of a slot, at most [`PAGE_SIZE_MAX`](crate::memory::size_class::PAGE_SIZE_MAX).
#[expect(clippy::cast_possible_truncation, reason = "a page has 16 MiB at most")]
fn short(bytes: u64) -> u32 {
    bytes as u32
}

impl Slot {
    /// A slot that is charged whole. `len` is at least 1.
    pub(crate) fn new(offset: u64, len: u64) -> Self {
        debug_assert!(len > 0 && u32::try_from(len).is_ok());
        let len = NonZeroU32::new(short(len)).unwrap_or(NonZeroU32::MIN);
        Slot { offset, len, charged: len.get() }
    }

    pub(crate) fn len(self) -> u64 {
        u64::from(self.len.get())
    }

    /// Bytes that are charged.
    pub(crate) fn charged(self) -> u64 {
        u64::from(self.charged)
    }

    /// The same slot with `bytes` charged.
    pub(crate) fn with_charge(self, bytes: u64) -> Self {
        debug_assert!(bytes <= self.len());
        Slot { charged: short(bytes), ..self }
    }

    /// Bytes to charge if the slot's first `end` bytes are written: no fewer than are charged now.
    pub(crate) fn charge_for(self, end: usize) -> u64 {
        (end as u64).next_multiple_of(BLOCK).min(self.len()).max(self.charged())
    }

    /// Whether the slot is charged whole.
    pub(crate) fn is_charged_whole(self) -> bool {
        self.charged == self.len.get()
    }
}

/// The length of the slot for `bytes` of a page, where pages have `page` bytes.
pub(crate) fn slot_bytes(bytes: usize, page: u64) -> u64 {
    (bytes as u64).clamp(BLOCK.min(page), page).next_power_of_two()
}

/// The offsets of free slots of one length, less than a page.
#[derive(Debug, Default)]
struct Free {
    warm: BTreeSet<u64>,
    cold: BTreeSet<u64>,
}

impl Free {
    fn put(&mut self, offset: u64, warm: bool) {
        if warm {
            self.warm.insert(offset)
        } else {
            self.cold.insert(offset)
        };
    }

    /// Takes `offset` out, and returns whether it was warm; `None` if it is not free.
    fn remove(&mut self, offset: u64) -> Option<bool> {
        if self.warm.remove(&offset) { Some(true) } else { self.cold.remove(&offset).then_some(false) }
    }
}

/// Free whole pages.
#[derive(Debug, Default)]
struct FreePages {
    warm: Runs,
    cold: Runs,
}

#[derive(Debug)]
pub(crate) struct Slots {
    block: u64,
    page: u64,
    /// By order: `free[k]` has the slots of `block << k` bytes, which are less than a page.
    free: Vec<Free>,
    pages: FreePages,
    /// The end of the slots: no slot lies at or past this offset, allocated or free.
    end: u64,
    /// Bytes of all warm slots.
    warm: u64,
}

/// Free slots that are being discarded. They are not allocated before [`Slots::finish_discard`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Discarding {
    /// `(offset, len)` of the slots in ascending order, merged where they touch.
    pub(crate) extents: Vec<(u64, u64)>,
    slots: Vec<Slot>,
    /// `(offset, len)` of runs of pages.
    pages: Vec<(u64, u64)>,
}

impl Discarding {
    pub(crate) fn bytes(&self) -> u64 {
        self.extents.iter().map(|(_, len)| len).sum()
    }
}

impl Slots {
    pub(crate) fn new(page_size: usize) -> Self {
        let page = page_size as u64;
        let block = BLOCK.min(page);
        let orders = (page / block).trailing_zeros() as usize;
        let free = (0..orders).map(|_| Free::default()).collect();
        Slots { block, page, free, pages: FreePages::default(), end: 0, warm: 0 }
    }

    /// The length of the slot for `bytes` of a page.
    pub(crate) fn class(&self, bytes: usize) -> u64 {
        slot_bytes(bytes, self.page)
    }

    fn order(&self, len: u64) -> usize {
        (len / self.block).trailing_zeros() as usize
    }

    /// Allocates a slot of `len` bytes, which must be a [`class`](Slots::class): in a smallest free one that is long enough,
    /// a warm one of any length before a cold one, and of one length the lowest, so that the end of the file becomes free.
    /// `None` if offsets have run out.
    pub(crate) fn allocate(&mut self, len: u64) -> Option<Slot> {
        let order = self.order(len);
        let warm = (order..self.free.len()).find_map(|k| Some((k, self.free[k].warm.pop_first()?)));
        let warm = warm.or_else(|| Some((self.free.len(), self.pages.warm.pop_first(self.page)?)));
        match warm {
            Some((at, offset)) => Some(self.split(order, at, offset, true)),
            None => self.allocate_without_blocks(len),
        }
    }

    /// As [`allocate`](Slots::allocate), but no warm slot: no block of it is on the disk before it is written.
    pub(crate) fn allocate_without_blocks(&mut self, len: u64) -> Option<Slot> {
        let order = self.order(len);
        let cold = (order..self.free.len()).find_map(|k| Some((k, self.free[k].cold.pop_first()?)));
        let cold = cold.or_else(|| Some((self.free.len(), self.pages.cold.pop_first(self.page)?)));
        let (at, offset) = match cold {
            Some(cold) => cold,
            None => {
                let grown = self.end.checked_add(self.page)?;
                (self.free.len(), std::mem::replace(&mut self.end, grown))
            }
        };
        Some(self.split(order, at, offset, false))
    }

    /// A slot of `order` in the one of order `at` at `offset`, which was taken out. The rest of that is free.
    fn split(&mut self, order: usize, mut at: usize, offset: u64, warm: bool) -> Slot {
        // Keep the lower half, so that slots allocated one after another lie one after another.
        while at > order {
            at -= 1;
            self.free[at].put(offset + (self.block << at), warm);
        }
        let len = self.block << order;
        self.warm -= if warm { len } else { 0 };
        Slot::new(offset, len)
    }

    /// Allocates the slot of one page at `offset`, if it is free, or if it is at the end and no other page is
    /// free.
    pub(crate) fn allocate_at(&mut self, offset: u64) -> Option<Slot> {
        if self.pages.warm.take(offset, self.page) {
            self.warm -= self.page;
        } else if !self.pages.cold.take(offset, self.page) {
            if offset != self.end || !self.pages.warm.is_empty() || !self.pages.cold.is_empty() {
                return None;
            }
            self.end = self.end.checked_add(self.page)?;
        }
        Some(Slot::new(offset, self.page))
    }

    /// Frees a slot. It is warm.
    pub(crate) fn free(&mut self, slot: Slot) {
        self.put_back(slot, true);
    }

    /// Frees slots: whole pages that lie one after another in one go.
    pub(crate) fn free_all(&mut self, slots: &[Slot]) {
        let mut run = (0, 0);
        for slot in slots {
            if slot.len() < self.page {
                self.put_back(*slot, true);
            } else if slot.offset == run.0 + run.1 {
                run.1 += self.page;
            } else {
                self.put_pages(run, true);
                run = (slot.offset, self.page);
            }
        }
        self.put_pages(run, true);
    }

    /// Frees a run of pages, which may have none.
    fn put_pages(&mut self, (offset, len): (u64, u64), warm: bool) {
        match len {
            0 => {}
            _ if warm => {
                self.pages.warm.put(offset, len);
                self.warm += len;
            }
            _ => self.pages.cold.put(offset, len),
        }
    }

    fn put_back(&mut self, slot: Slot, warm: bool) {
        let mut offset = slot.offset;
        let mut order = self.order(slot.len());
        let mut warm_merged = warm;
        while order < self.free.len() {
            let len = self.block << order;
            let Some(buddy_warm) = self.free[order].remove(offset ^ len) else {
                self.free[order].put(offset, warm_merged);
                self.warm += if warm_merged { len } else { 0 };
                return;
            };
            if buddy_warm {
                self.warm -= len;
            }
            // A half warm slot counts as warm: discarding cold blocks again does no harm.
            warm_merged |= buddy_warm;
            offset &= !len;
            order += 1;
        }
        self.put_pages((offset, self.page), warm_merged);
    }

    /// Bytes of free slots whose blocks the file system still has.
    pub(crate) fn warm_bytes(&self) -> u64 {
        self.warm
    }

    /// Takes warm slots out, so that their blocks can go back to the file system: `bytes_max` of them, rounded up to a page.
    /// The pages first, and the highest first, since the lowest are allocated first.
    pub(crate) fn start_discard(&mut self, bytes_max: u64) -> Discarding {
        let mut left = bytes_max;
        let mut pages = Vec::new();
        while left > 0
            && let Some((offset, len)) =
                self.pages.warm.pop_last(left.div_ceil(self.page).saturating_mul(self.page))
        {
            self.warm -= len;
            left = left.saturating_sub(len);
            pages.push((offset, len));
        }
        let mut slots = Vec::new();
        for order in (0..self.free.len()).rev() {
            let len = self.block << order;
            while left > 0
                && let Some(offset) = self.free[order].warm.pop_last()
            {
                self.warm -= len;
                left = left.saturating_sub(len);
                slots.push(Slot::new(offset, len));
            }
        }
        let mut all = pages.clone();
        all.extend(slots.iter().map(|slot| (slot.offset, slot.len())));
        all.sort_unstable();
        let mut extents: Vec<(u64, u64)> = Vec::new();
        for (start, bytes) in all {
            match extents.last_mut() {
                Some((offset, len)) if *offset + *len == start => *len += bytes,
                _ => extents.push((start, bytes)),
            }
        }
        Discarding { extents, slots, pages }
    }

    /// Frees the slots again that [`start_discard`](Slots::start_discard) took out: cold if their blocks went
    /// back (`done`), warm otherwise.
    pub(crate) fn finish_discard(&mut self, discarding: Discarding, done: bool) {
        discarding.slots.into_iter().for_each(|slot| self.put_back(slot, !done));
        discarding.pages.into_iter().for_each(|run| self.put_pages(run, !done));
    }

    /// Removes the free pages at the end, `warm_max` bytes of warm ones at most, rounded up to a page. Returns the new end if
    /// there were any.
    ///
    /// The caller must cut the file there before it allocates another slot: see `SlottedStore`.
    pub(crate) fn cut_free_tail(&mut self, warm_max: u64) -> Option<u64> {
        let before = self.end;
        let mut left = warm_max;
        loop {
            if self.pages.cold.end() == Some(self.end) {
                self.end = self.pages.cold.pop_last(u64::MAX)?.0;
            } else if left > 0 && self.pages.warm.end() == Some(self.end) {
                let most = left.div_ceil(self.page).saturating_mul(self.page);
                let (offset, len) = self.pages.warm.pop_last(most)?;
                self.end = offset;
                self.warm -= len;
                left = left.saturating_sub(len);
            } else {
                return (self.end < before).then_some(self.end);
            }
        }
    }

    /// The end of the slots: no slot reaches past this offset.
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
        for (offset, len) in slots.pages.warm.iter().chain(slots.pages.cold.iter()) {
            blocks.extend((0..len / slots.block).map(|i| offset + i * slots.block));
        }
        blocks.sort_unstable();
        blocks
    }

    #[test]
    fn slots_never_overlap_and_all_merge_when_freed() {
        let mut slots = Slots::new(64 << 10);
        let mut allocated = Vec::new();
        let mut seed = 1u64;
        for round in 0..4000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let pick = (seed >> 33) as usize;
            if round % 3 == 2 && !allocated.is_empty() {
                slots.free(allocated.swap_remove(pick % allocated.len()));
            } else {
                allocated.push(slots.allocate(slots.class(pick % (70 << 10))).unwrap());
            }
            if round % 97 == 0 {
                let discarding = slots.start_discard(u64::MAX);
                slots.finish_discard(discarding, true);
                assert_eq!(slots.warm_bytes(), 0);
            }
            if round % 50 != 0 {
                continue;
            }
            let mut blocks = free_blocks(&slots);
            for slot in &allocated {
                blocks.extend((0..slot.len() / BLOCK).map(|i| slot.offset + i * BLOCK));
            }
            blocks.sort_unstable();
            let all: Vec<u64> = (0..slots.end() / BLOCK).map(|i| i * BLOCK).collect();
            assert_eq!(blocks, all, "each block is free or allocated, once");
        }
        allocated.drain(..).for_each(|slot| slots.free(slot));
        assert_eq!(slots.cut_free_tail(u64::MAX), Some(0));
        assert_eq!((slots.end(), slots.warm_bytes()), (0, 0));
    }

    #[test]
    fn slots_allocated_one_after_another_lie_one_after_another() {
        let mut slots = Slots::new(8);
        let offsets: Vec<u64> = (0..5).map(|_| slots.allocate(8).unwrap().offset).collect();
        assert_eq!(offsets, [0, 8, 16, 24, 32]);
    }

    #[test]
    fn a_slot_at_an_offset_is_available_if_it_is_free_or_at_the_end() {
        let mut slots = Slots::new(4096);
        assert_eq!(slots.allocate_at(4096), None, "the gap before it would be lost");
        let a = slots.allocate_at(0).unwrap();
        let b = slots.allocate_at(4096).unwrap();
        assert_eq!(slots.allocate_at(4096), None);
        slots.free(a);
        assert_eq!(slots.allocate_at(8192), None, "a free slot is used before the file grows");
        assert_eq!(slots.allocate_at(0), Some(a));
        slots.free(a);
        slots.free(b);
        assert_eq!((slots.warm_bytes(), slots.cut_free_tail(u64::MAX)), (8192, Some(0)));
    }

    #[test]
    fn slots_that_are_being_discarded_are_not_allocated() {
        let mut slots = Slots::new(4096);
        let [a, b, c] = [0; 3].map(|_| slots.allocate(4096).unwrap());
        slots.free(a);
        slots.free(b);
        let discarding = slots.start_discard(u64::MAX);
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
        let discarding = slots.start_discard(u64::MAX);
        slots.finish_discard(discarding, true);
        slots.free(long);
        assert_eq!(slots.warm_bytes(), 8192);
        assert_eq!(
            slots.allocate(4096).unwrap().offset,
            8192,
            "half of the warm one, though a cold one fits"
        );
        assert_eq!(slots.warm_bytes(), 4096);
        assert_eq!(slots.cut_free_tail(u64::MAX), None, "a slot is in use at the end");
    }

    #[test]
    fn slots_that_touch_are_discarded_as_one_extent() {
        let mut slots = Slots::new(4096);
        let allocated: Vec<Slot> = (0..7).map(|_| slots.allocate(4096).unwrap()).collect();
        for n in [0, 1, 3, 5] {
            slots.free(allocated[n]);
        }
        let discarding = slots.start_discard(u64::MAX);
        assert_eq!(discarding.extents, [(0, 8192), (3 * 4096, 4096), (5 * 4096, 4096)]);
        slots.finish_discard(discarding, true);
        assert_eq!((slots.warm_bytes(), slots.cut_free_tail(u64::MAX)), (0, None));
        // The last two pages are free now, one warm and one cold; two that are not at the end stay.
        slots.free(allocated[6]);
        slots.free(allocated[4]);
        assert_eq!(slots.warm_bytes(), 2 * 4096);
        assert_eq!(slots.cut_free_tail(u64::MAX), Some(3 * 4096));
        assert_eq!((slots.warm_bytes(), slots.end()), (0, 3 * 4096));
        slots.free(allocated[2]);
        assert_eq!((slots.warm_bytes(), slots.cut_free_tail(u64::MAX)), (4096, Some(0)));
    }

    #[test]
    fn a_merged_slot_that_is_half_warm_counts_as_warm() {
        let mut slots = Slots::new(8192);
        let [low, high] = [4096; 2].map(|len| slots.allocate(len).unwrap());
        slots.free(low);
        let discarding = slots.start_discard(u64::MAX);
        slots.finish_discard(discarding, true);
        slots.free(high);
        assert_eq!(slots.warm_bytes(), 8192);
        let [low, high] = [4096; 2].map(|len| slots.allocate(len).unwrap());
        slots.free(high);
        let discarding = slots.start_discard(u64::MAX);
        slots.finish_discard(discarding, true);
        slots.free(low);
        assert_eq!(
            (slots.warm_bytes(), slots.cut_free_tail(u64::MAX), slots.warm_bytes()),
            (8192, Some(0), 0)
        );
    }
}
