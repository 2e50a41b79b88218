//! Slots: a buddy allocator over the offsets of a store.
//!
//! A slot's length is a power of two from one block to one page, or some [parts](crate::disk::parts) of such
//! a slot. Freed buddies merge, up to a page. A free slot is *warm* while the file system still has its
//! blocks, and *cold* once they went back.
//!
//! Promises:
//!
//! - Allocated slots never overlap.
//! - A freed slot is used again before the file grows, and a warm one before a cold one: writing to fresh
//!   blocks costs several times as much. But a slot that is to be [without
//!   blocks](Slots::allocate_without_blocks) is never a warm one.
//! - Bytes that are being discarded are not allocated meanwhile.
//! - Only what makes the file longer needs memory, and may be refused. What frees needs none; what cannot be
//!   noted for discarding stays warm.
//! - No I/O: the caller gets a list of what to discard. So this can be tested alone.
//!
//! Held by: `std-adapter/src/disk/slots/tests.rs`, `tests/tests/leftovers.rs`,
//! `tests/tests/tidy.rs` (no I/O).

use crate::disk::bits::Bits;
use crate::disk::parts::{PART, Parts, Whole};
use std::num::NonZeroU32;

/// Bytes of the smallest slot, unless pages are smaller: the least that the usual file systems allocate.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;

/// [`BLOCK`], of memory.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// The place of a page, or of the beginning of one, in the store.
///
/// A slot for a page that grows is as long as the page may become, and charged only as far as it was written:
/// the file system gives blocks to what is written, and none to a hole.
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

/// How short a new slot may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Of whole blocks, for a page that may grow.
    Blocks,
    /// Of parts of a slot if less than a block is enough, for a page that has come to rest. It moves if it
    /// grows.
    Parts,
}

/// How long a new slot is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SlotLen {
    /// Long enough for what is written to it first.
    Exact(Fit),
    /// Of so many bytes, up to which its page can grow there. It is charged as far as it is written.
    ToGrow(usize),
}

/// The length of the slot for `bytes` of a page, where pages have `page` bytes.
pub(crate) fn slot_bytes(bytes: usize, page: u64, fit: Fit) -> u64 {
    if fit == Fit::Parts && bytes as u64 <= BLOCK - PART && page >= BLOCK {
        return (bytes as u64).next_multiple_of(PART).max(PART);
    }
    (bytes as u64).clamp(BLOCK.min(page), page).next_power_of_two()
}

/// The offsets of free slots of one length, a multiple of that, by their numbers.
#[derive(Debug)]
struct Free {
    /// Bytes of each.
    slot: u64,
    warm: Bits,
    cold: Bits,
}

impl Free {
    fn new(slot: u64) -> Self {
        Free { slot, warm: Bits::default(), cold: Bits::default() }
    }

    /// Makes room for all slots below `end`. Returns false if there is no memory for that.
    #[must_use]
    fn grow(&mut self, end: u64) -> bool {
        let numbers = usize::try_from(end / self.slot);
        numbers.is_ok_and(|numbers| self.warm.grow(numbers) && self.cold.grow(numbers))
    }

    /// Gives back room for slots from `end` on, of which none is free.
    fn shrink(&mut self, end: u64) {
        let numbers = self.number(end);
        self.warm.shrink(numbers);
        self.cold.shrink(numbers);
    }

    /// The number of the slot at `offset`. It fits, since there was room for it.
    fn number(&self, offset: u64) -> usize {
        usize::try_from(offset >> self.slot.trailing_zeros()).unwrap_or(usize::MAX)
    }

    fn put(&mut self, offset: u64, warm: bool) {
        let number = self.number(offset);
        if warm { self.warm.insert(number) } else { self.cold.insert(number) }
    }

    /// Takes `offset` out, and returns whether it was warm; `None` if it is not free.
    fn remove(&mut self, offset: u64) -> Option<bool> {
        let number = self.number(offset);
        if self.warm.remove(number) { Some(true) } else { self.cold.remove(number).then_some(false) }
    }

    fn is_empty(&self) -> bool {
        self.warm.is_empty() && self.cold.is_empty()
    }
}

/// Why no slot was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// Offsets have run out.
    End,
    /// There is no memory to note it.
    Memory,
}

#[derive(Debug)]
pub(crate) struct Slots {
    block: u64,
    page: u64,
    /// By order: `free[k]` has the slots of `block << k` bytes.
    free: Vec<Free>,
    /// The end of the slots: no slot lies at or past this offset, allocated or free.
    end: u64,
    /// Bytes of all warm slots.
    warm: u64,
    /// The slots that are cut, which are in no set of `free`, and their free parts.
    parts: Parts,
}

/// Free slots that are being discarded. They are not allocated before [`Slots::finish_discard`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Discarding {
    /// `(offset, len)` of the slots in ascending order, merged where they touch.
    extents: Vec<(u64, u64)>,
    /// `(offset, len)` of free blocks of slots that are cut into parts, in any order.
    blocks: Vec<(u64, u64)>,
}

impl Discarding {
    /// What is to be discarded, as `(offset, len)`.
    pub(crate) fn extents(&self) -> impl Iterator<Item = (u64, u64)> {
        self.extents.iter().chain(&self.blocks).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.extents.is_empty() && self.blocks.is_empty()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.extents().map(|(_, len)| len).sum()
    }
}

impl Slots {
    pub(crate) fn new(page_size: usize) -> Self {
        let page = page_size as u64;
        let block = BLOCK.min(page);
        let orders = (page / block).trailing_zeros() as usize + 1;
        let free = (0..orders).map(|k| Free::new(block << k)).collect();
        Slots { block, page, free, end: 0, warm: 0, parts: Parts::new(page) }
    }

    /// The length of the slot for `bytes` of a page.
    pub(crate) fn class(&self, bytes: usize, fit: Fit) -> u64 {
        slot_bytes(bytes, self.page, fit)
    }

    fn order(&self, len: u64) -> usize {
        (len.trailing_zeros() - self.block.trailing_zeros()) as usize
    }

    /// Allocates a slot of `len` bytes, which must be a [`class`](Slots::class): in a smallest free one that
    /// is long enough, a warm one of any length before a cold one, and of one length the lowest, so that the
    /// end of the file becomes free. One below a block in a slot that is cut, or is cut now.
    pub(crate) fn allocate(&mut self, len: u64) -> Result<Slot, NoSlot> {
        if self.is_parts(len) {
            return self.allocate_parts(len);
        }
        let order = self.order(len);
        match (order..self.free.len()).find_map(|k| Some((k, self.free[k].warm.pop_first()?))) {
            Some((at, number)) => Ok(self.split(order, at, number as u64 * self.free[at].slot, true)),
            None => self.allocate_without_blocks(len),
        }
    }

    /// Whether a slot of `len` bytes is some parts of another.
    pub(crate) fn is_parts(&self, len: u64) -> bool {
        len < self.block
    }

    /// Bytes that come to be in use with a slot of `len` bytes.
    pub(crate) fn charge(&self, len: u64) -> u64 {
        if self.is_parts(len) { self.parts.charge(len).unwrap_or(self.block) } else { len }
    }

    fn allocate_parts(&mut self, len: u64) -> Result<Slot, NoSlot> {
        if let Some(offset) = self.parts.allocate(len) {
            return Ok(Slot::new(offset, len));
        }
        let warm = self.warm;
        let whole = self.allocate(self.parts.cut_bytes())?;
        let is_warm = self.warm < warm;
        if !self.parts.cut(whole.offset, is_warm) {
            self.put_back(whole.offset, self.order(whole.len()), is_warm);
            return Err(NoSlot::Memory);
        }
        let offset = self.parts.allocate(len).expect("all of a slot is free that was cut just now");
        Ok(Slot::new(offset, len))
    }

    /// Bytes of the free parts of blocks that are in use.
    pub(crate) fn free_parts(&self) -> u64 {
        self.parts.free_bytes()
    }

    /// As [`allocate`](Slots::allocate), but no warm slot: no block of it is on the disk
    /// before it is written.
    pub(crate) fn allocate_without_blocks(&mut self, len: u64) -> Result<Slot, NoSlot> {
        let order = self.order(len);
        let (at, offset) =
            match (order..self.free.len()).find_map(|k| Some((k, self.free[k].cold.pop_first()?))) {
                Some((at, number)) => (at, number as u64 * self.free[at].slot),
                None => (self.free.len() - 1, self.grow()?),
            };
        Ok(self.split(order, at, offset, false))
    }

    /// Appends a page, and returns its offset. Makes room for all that may be freed there, so that
    /// freeing needs no memory.
    fn grow(&mut self) -> Result<u64, NoSlot> {
        let grown = self.end.checked_add(self.page).ok_or(NoSlot::End)?;
        if !self.free.iter_mut().all(|free| free.grow(grown)) {
            return Err(NoSlot::Memory);
        }
        Ok(std::mem::replace(&mut self.end, grown))
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
        let top = self.free.len() - 1;
        match self.free[top].remove(offset) {
            Some(true) => self.warm -= self.page,
            Some(false) => {}
            None if offset == self.end && self.free[top].is_empty() => {
                self.grow().ok()?;
            }
            None => return None,
        }
        Some(Slot::new(offset, self.page))
    }

    /// Frees a slot. It is warm, unless nothing of it was charged, and so nothing written. Returns the bytes
    /// that are no longer in use: of parts those of blocks that no other slot has some of.
    pub(crate) fn free(&mut self, slot: Slot) -> u64 {
        if slot.len() >= self.block {
            self.put_back(slot.offset, self.order(slot.len()), slot.charged() > 0);
            return slot.charged();
        }
        let freed = self.parts.free(slot.offset, slot.len());
        self.put_whole_back(freed.whole);
        freed.unused
    }

    /// Frees a slot that is no longer cut, if there is one.
    fn put_whole_back(&mut self, whole: Option<Whole>) {
        if let Some(Whole { offset, is_warm }) = whole {
            self.put_back(offset, self.order(self.parts.cut_bytes()), is_warm);
        }
    }

    /// Frees the slot of `order` at `offset`, and merges it with its buddies.
    fn put_back(&mut self, mut offset: u64, mut order: usize, mut warm: bool) {
        while order + 1 < self.free.len()
            && let Some(buddy_warm) = self.free[order].remove(offset ^ (self.block << order))
        {
            self.warm -= if buddy_warm { self.block << order } else { 0 };
            // A half warm slot counts as warm: discarding cold blocks again does no harm.
            warm |= buddy_warm;
            offset &= !(self.block << order);
            order += 1;
        }
        self.free[order].put(offset, warm);
        self.warm += if warm { self.block << order } else { 0 };
    }

    /// Bytes of free slots, and of free blocks of slots that are cut, whose blocks the file system still has.
    pub(crate) fn warm_bytes(&self) -> u64 {
        self.warm + self.parts.warm_bytes()
    }

    /// Takes warm slots out, so that their blocks can go back to the file system: `bytes_max` of them,
    /// rounded up to a page, or as many as there is memory to note. The pages first, and the highest first,
    /// since the lowest are allocated first; blocks of slots that are cut last.
    pub(crate) fn start_discard(&mut self, bytes_max: u64) -> Discarding {
        let mut left = bytes_max;
        let mut extents: Vec<(u64, u64)> = Vec::new();
        for free in self.free.iter_mut().rev() {
            let len = free.slot;
            while left > 0
                && let Some(number) = free.warm.last()
            {
                let offset = number as u64 * len;
                if let Some((start, bytes)) = extents.last_mut()
                    && *start == offset + len
                {
                    (*start, *bytes) = (offset, *bytes + len);
                } else if extents.try_reserve(1).is_ok() {
                    extents.push((offset, len));
                } else {
                    break;
                }
                free.warm.remove(number);
                self.warm -= len;
                left = left.saturating_sub(len);
            }
        }
        extents.sort_unstable();
        extents.dedup_by(|(start, bytes), (before, len)| {
            let touches = *before + *len == *start;
            *len += if touches { *bytes } else { 0 };
            touches
        });
        let mut blocks: Vec<(u64, u64)> = Vec::new();
        while left > 0
            && blocks.try_reserve(1).is_ok()
            && let Some((offset, len)) = self.parts.start_discard()
        {
            blocks.push((offset, len));
            left = left.saturating_sub(len);
        }
        Discarding { extents, blocks }
    }

    /// Frees the slots again that [`start_discard`](Slots::start_discard) took out: cold if their blocks went
    /// back (`done`), warm otherwise.
    pub(crate) fn finish_discard(&mut self, discarding: Discarding, done: bool) {
        for (mut offset, mut len) in discarding.extents {
            while len > 0 {
                // The longest slot that begins here.
                let fitting =
                    |&order: &usize| offset % self.free[order].slot == 0 && self.free[order].slot <= len;
                let order = (0..self.free.len()).rev().find(fitting).unwrap_or(0);
                let slot = self.block << order;
                self.put_back(offset, order, !done);
                offset += slot;
                len = len.saturating_sub(slot);
            }
        }
        for (offset, len) in discarding.blocks {
            let whole = self.parts.finish_discard(offset, len, done);
            self.put_whole_back(whole);
        }
    }

    /// Removes the free pages at the end, `warm_max` bytes of warm ones at most, rounded up to a page.
    /// Returns the new end if there were any.
    ///
    /// The caller must cut the file there before it allocates another slot: see `SlottedStore`.
    pub(crate) fn cut_free_tail(&mut self, warm_max: u64) -> Option<u64> {
        let (before, top) = (self.end, self.free.len() - 1);
        let mut left = warm_max;
        while let Some(last) = self.end.checked_sub(self.page) {
            let number = self.free[top].number(last);
            if left > 0 && self.free[top].warm.remove(number) {
                self.warm -= self.page;
                left = left.saturating_sub(self.page);
            } else if !self.free[top].cold.remove(number) {
                break;
            }
            self.end = last;
        }
        if self.end == before {
            return None;
        }
        let end = self.end;
        self.free.iter_mut().for_each(|free| free.shrink(end));
        Some(end)
    }

    /// The end of the slots: no slot reaches past this offset.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;
