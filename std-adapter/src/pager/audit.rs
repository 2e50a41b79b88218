//! Recounts what a buffer holds and compares it with its usage and its table, for tests. Panics at a
//! difference.

use crate::disk::slots::Slot;
use crate::memory::given::Given;
use crate::pager::base::Base;
use crate::pager::state::Pager;
use crate::pages::page::{Location, View};
use crate::pages::resident::Resident;
use crate::sync::Arc;
use overspill_core::ReadMedium;

impl Pager {
    /// Checks what the buffer shares, and returns its length.
    fn check_base(&self) -> u64 {
        let (len, base_len) = (self.len(), self.base().map_or(0, Base::len));
        assert!(base_len <= len, "the base reaches to {base_len}, past {len}");
        if let Some(base) = self.base() {
            base.check_invariants();
        }
        base_len
    }

    /// See [`SpillBuffer::check_invariants`](crate::SpillBuffer::check_invariants).
    pub(crate) fn check_invariants(&mut self) {
        self.end_loan();
        let (len, page_size, has_sums) = (self.len(), self.pool.page_size as u64, self.has_sums());
        let peer = self.need_table().peer();
        let usage = &peer.unlocked().usage;
        let base_len = self.check_base();
        self.table(|table| {
            let (mut resident, mut spilled) = (0, 0);
            let (mut frames_in_transit, mut slots_in_transit) = (0, 0);
            let (mut slots, mut given) = (Vec::new(), Vec::new());
            table.end_sharing();
            table.for_each(|index, view| {
                let (end, room, slot) = match view {
                    View::InTransit(transit) => {
                        // The reclaiming thread may correct the usage at any moment: either value is right.
                        frames_in_transit += transit.memory_bytes();
                        slots_in_transit += transit.slot_bytes;
                        return;
                    }
                    View::Shared(page) => {
                        resident += held_first(page, &mut given);
                        (page.end(), page_size, page.slot)
                    }
                    View::Resident(page) => {
                        resident += held_first(page, &mut given);
                        check_resident(index, page, index * page_size < base_len);
                        (page.end(), page_size, page.slot)
                    }
                    View::Spilled { slot, end } => (end, slot.len(), Some(slot)),
                };
                assert!(end as u64 <= room, "page {index}: {end} bytes of content in {room}");
                let position = (index * page_size).saturating_add(end as u64);
                assert!(end == 0 || position <= len, "page {index}: content ends at {position}, past {len}");
                let is_clean = match view {
                    View::Resident(page) => !page.dirty && !page.is_copy(),
                    View::Shared(page) => !page.dirty && !page.is_copy(),
                    View::Spilled { .. } | View::InTransit(_) => true,
                };
                let covered = table.sums.covered(index);
                assert!(
                    !has_sums || !is_clean || covered >= end,
                    "page {index}: the sums cover {covered} of {end} bytes"
                );
                spilled += slot.map_or(0, Slot::charged);
                slots.extend(slot.map(|slot| (slot.offset, slot.len())));
            });
            let hole_with_sums = table.sums.pages().find(|&index| table.locate(index) == Location::Hole);
            assert_eq!(hole_with_sums, None, "a hole has sums");
            slots.sort_unstable();
            assert!(slots.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0), "I1: slots overlap");
            let (frames, slots) = (usage.memory.used(), usage.disk.used());
            assert!(
                (resident..=resident + frames_in_transit).contains(&frames),
                "I2: {frames} bytes charged, {resident} resident"
            );
            assert!(
                (spilled..=spilled + slots_in_transit).contains(&slots),
                "I6: {slots} bytes charged, {spilled} in slots"
            );
        });
        self.pool.check_budget();
    }
}

/// Bytes of the memory of `page`, but for given memory that is in `seen` already.
fn held_first(page: &Resident, seen: &mut Vec<*const Given>) -> u64 {
    let Some(given) = page.frame.given() else { return page.frame.capacity() as u64 };
    assert!(given.is_held(), "I2: a page lies in given memory that is released");
    let is_first = !seen.contains(&Arc::as_ptr(given));
    seen.extend(is_first.then_some(Arc::as_ptr(given)));
    if is_first { given.charge() } else { 0 }
}

/// `may_be_copy` if the base has a part of the page.
fn check_resident(index: u64, page: &Resident, may_be_copy: bool) {
    let is_copy = page.is_copy() && page.frame_start() == 0 && may_be_copy;
    assert!(page.dirty || page.slot.is_some() || is_copy, "I1: page {index} is clean without a slot");
    assert!(!page.is_segment() || page.slot.is_some_and(|slot| slot.len() >= page.end() as u64));
    let room = if page.frame.is_given() { page.frame.capacity() } else { page.frame.usable() };
    assert!(page.len <= room, "page {index}: its frame is too short");
}
