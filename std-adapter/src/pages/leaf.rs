//! One leaf of the page map: the entries of up to 256 neighbouring pages, packed and in order.
//!
//! - A leaf has entries of the pages that were put there, or that room was reserved for, and of no others.
//! - An entry takes 24 bytes: there are millions. The parts of a resident page are kept elsewhere.
//!
//! Held by: the tests below, `std-adapter/src/pages/page_map/tests.rs`.

use crate::disk::parts::PART;
use crate::disk::slots::{BLOCK, Slot};
use crate::pages::resident::Resident;
use crate::pages::transit::Transit;
use crate::sync::Arc;

/// Pages in one leaf: 16 MiB of content in pages of 64 KiB. Their offsets in it are the values of a byte.
pub(crate) const LEAF_PAGES: u64 = 1 << u8::BITS;

/// Says of a slot that it is charged whole, however long it is. The longest has fewer blocks.
const CHARGED_WHOLE: u16 = u16::MAX;

/// Says of a slot that it is some parts of a block.
const PARTS: u8 = u8::MAX;

/// The state of a page outside the window, in 16 bytes.
#[derive(Debug, Default)]
pub(crate) enum State {
    #[default]
    Hole,
    /// The page's position among the resident pages of its map.
    Resident(usize),
    /// Made by [`State::spilled`] and read by [`State::slot`].
    Spilled {
        offset: u64,
        end: u32,
        /// Blocks that are charged; [`CHARGED_WHOLE`] if all are. Of a slot of [`PARTS`], its parts.
        charged: u16,
        /// The binary logarithm of the slot's length, or [`PARTS`].
        order: u8,
    },
    InTransit(Arc<Transit>),
    Shared(Arc<Resident>),
}

impl State {
    /// The length of `slot` is a power of two, or less than a block.
    pub(crate) fn spilled(slot: Slot, end: usize) -> State {
        let len = slot.len();
        debug_assert!(len.is_power_of_two() || (len < BLOCK && slot.is_charged_whole()));
        #[expect(clippy::cast_possible_truncation, reason = "a page has 16 MiB at most")]
        let (end, order, blocks, parts) =
            (end as u32, len.ilog2() as u8, (slot.charged() / BLOCK) as u16, (len / PART) as u16);
        let (charged, order) = if !len.is_power_of_two() {
            (parts, PARTS)
        } else if slot.is_charged_whole() {
            (CHARGED_WHOLE, order)
        } else {
            (blocks, order)
        };
        State::Spilled { offset: slot.offset, end, charged, order }
    }

    /// The slot of a spilled page, and the end of its content.
    pub(crate) fn slot(&self) -> Option<(Slot, usize)> {
        let State::Spilled { offset, end, charged, order } = *self else { return None };
        let slot = match order {
            PARTS => Slot::new(offset, u64::from(charged) * PART),
            _ if charged == CHARGED_WHOLE => Slot::new(offset, 1 << order),
            _ => Slot::new(offset, 1 << order).with_charge(u64::from(charged) * BLOCK),
        };
        Some((slot, end as usize))
    }
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) state: State,
    /// The page's offset in its leaf, in pages.
    pub(crate) at: u8,
    /// The number of recent accesses that the window alone could not serve, halved now and then.
    pub(crate) heat: u8,
}

#[derive(Debug, Default)]
pub(crate) struct Leaf {
    /// By offset, ascending.
    entries: Vec<Entry>,
}

impl Leaf {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// The position of the entry at offset `at`, or where it is to be inserted.
    fn position(&self, at: u8) -> Result<usize, usize> {
        // The guess is right in a leaf without gaps, as most are; and what is not there is most often the
        // next page of a stream.
        match self.entries.get(usize::from(at)) {
            Some(entry) if entry.at == at => Ok(usize::from(at)),
            _ if self.entries.last().is_none_or(|last| last.at < at) => Err(self.entries.len()),
            _ => self.entries.binary_search_by_key(&at, |entry| entry.at),
        }
    }

    pub(crate) fn get(&self, at: u8) -> Option<&Entry> {
        self.entries.get(self.position(at).ok()?)
    }

    pub(crate) fn get_mut(&mut self, at: u8) -> Option<&mut Entry> {
        let position = self.position(at).ok()?;
        self.entries.get_mut(position)
    }

    /// The entry at offset `at`, added as a cold hole if there was none. `None` if there is no memory for
    /// that.
    ///
    /// The first allocation has exactly one entry, since most buffers have one page outside the window; each
    /// later one doubles, up to a full leaf.
    pub(crate) fn try_insert(&mut self, at: u8) -> Option<&mut Entry> {
        let position = match self.position(at) {
            Ok(position) => position,
            Err(position) => {
                let len = self.entries.len();
                if len == self.entries.capacity() {
                    self.entries.try_reserve_exact(len.clamp(1, usize::from(u8::MAX) + 1 - len)).ok()?;
                }
                self.entries.insert(position, Entry { state: State::Hole, at, heat: 0 });
                position
            }
        };
        self.entries.get_mut(position)
    }

    /// The entries at offset `at` and after it, in order.
    pub(crate) fn from(&self, at: u8) -> &[Entry] {
        &self.entries[self.position(at).unwrap_or_else(|position| position)..]
    }

    pub(crate) fn all_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    pub(crate) fn has_only_holes(&self) -> bool {
        self.entries.iter().all(|entry| matches!(entry.state, State::Hole))
    }

    /// Removes the last entry, if it is at offset `at` or after it, and returns it.
    pub(crate) fn pop(&mut self, at: u8) -> Option<Entry> {
        self.entries.pop_if(|last| last.at >= at)
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    /// Four million pages took 72 bytes each, of which a spilled page needs a third.
    #[test]
    fn an_entry_takes_24_bytes_at_most() {
        assert!(size_of::<State>() <= 16 && size_of::<Entry>() <= 24 && size_of::<Leaf>() <= 24);
    }

    #[test]
    fn a_slot_is_the_same_after_packing() {
        for (offset, len, end) in [(0, 1, 0), (4096, 4096, 17), (u64::MAX, 16 << 20, 16 << 20)] {
            let slot = Slot::new(offset, len);
            assert_eq!(State::spilled(slot, end).slot(), Some((slot, end)));
        }
        for parts in 1..BLOCK / PART {
            let slot = Slot::new(3 * PART, parts * PART);
            assert_eq!(State::spilled(slot, 17).slot(), Some((slot, 17)));
        }
        for (len, charged) in [(64 << 10, 0), (64 << 10, 20 << 10), (16 << 20, (16 << 20) - 4096)] {
            let slot = Slot::new(1 << 40, len).with_charge(charged);
            assert_eq!(State::spilled(slot, 17).slot(), Some((slot, 17)));
        }
        assert_eq!([State::Hole, State::Resident(3)].map(|state| state.slot()), [None, None]);
    }

    /// A byte in the last page of a leaf made all 256 entries, and took 18,495 bytes.
    #[test]
    fn a_leaf_holds_what_was_put_there_and_room_for_at_most_as_much_again() {
        let mut leaf = Leaf::default();
        let mut offsets = Vec::new();
        for round in 0..=u8::MAX {
            let at = round.wrapping_mul(77); // 77 is odd: each offset once
            leaf.try_insert(at).unwrap().heat = round;
            assert_eq!(leaf.try_insert(at).unwrap().heat, round, "the entry at {at} stays");
            offsets.push(at);
            offsets.sort_unstable();
            assert!(leaf.from(0).iter().map(|entry| &entry.at).eq(&offsets));
            let capacity = leaf.entries.capacity();
            assert!(capacity == offsets.len().next_power_of_two(), "{capacity} for {}", offsets.len());
            assert_eq!(leaf.get(at.wrapping_add(77)).is_some(), round == u8::MAX);
        }
        assert_eq!(leaf.get_mut(77).map(|entry| entry.heat), Some(1));
    }

    #[test]
    fn entries_leave_from_the_end_down_to_an_offset() {
        let mut leaf = Leaf::default();
        for at in [3, 0, 200, 255, 7] {
            leaf.try_insert(at).unwrap();
        }
        let mut pop = |at| std::iter::from_fn(|| leaf.pop(at)).map(|entry| entry.at).collect::<Vec<_>>();
        assert_eq!((pop(201), pop(201), pop(7), pop(4)), (vec![255], vec![], vec![200, 7], vec![]));
        assert_eq!((pop(0), leaf.is_empty()), (vec![3, 0], true));
    }
}
