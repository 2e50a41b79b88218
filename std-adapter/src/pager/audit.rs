//! Recounts what a buffer holds and compares it with its usage and its table, for tests. Panics at a
//! difference.

use crate::disk::slots::Slot;
use crate::pager::state::Pager;
use crate::pages::page::{Location, View};
use overspill_core::ReadMedium;

impl Pager {
    /// See [`SpillBuffer::check_invariants`](crate::SpillBuffer::check_invariants).
    pub(crate) fn check_invariants(&mut self) {
        self.end_loan();
        let (len, page_size, has_sums) = (self.len(), self.pool.page_size as u64, self.has_sums());
        let peer = self.need_table().peer();
        let usage = &peer.unlocked().usage;
        self.table(|table| {
            let (mut resident, mut spilled) = (0, 0);
            let (mut frames_in_transit, mut slots_in_transit) = (0, 0);
            let mut slots = Vec::new();
            table.end_sharing();
            table.for_each(|index, view| {
                let (valid, room, slot) = match view {
                    View::InTransit(transit) => {
                        // The reclaiming thread may correct the usage at any moment: either value is right.
                        frames_in_transit += transit.frame_bytes;
                        slots_in_transit += transit.slot_bytes;
                        return;
                    }
                    View::Shared(page) => {
                        resident += page.frame.capacity() as u64;
                        (page.end(), page_size, page.slot)
                    }
                    View::Resident(page) => {
                        resident += page.frame.capacity() as u64;
                        assert!(
                            page.dirty || page.slot.is_some(),
                            "I1: page {index} is clean without a slot"
                        );
                        assert!(
                            !page.is_segment()
                                || page.slot.is_some_and(|slot| slot.len() >= page.end() as u64)
                        );
                        assert!(page.valid <= page.frame.usable(), "page {index}: its frame is too short");
                        (page.end(), page_size, page.slot)
                    }
                    View::Spilled { slot, valid } => (valid, slot.len(), Some(slot)),
                };
                assert!(valid as u64 <= room, "page {index}: {valid} bytes of content in {room}");
                let end = (index * page_size).saturating_add(valid as u64);
                assert!(valid == 0 || end <= len, "page {index}: content ends at {end}, past {len}");
                let is_clean = match view {
                    View::Resident(page) => !page.dirty,
                    View::Shared(page) => !page.dirty,
                    View::Spilled { .. } | View::InTransit(_) => true,
                };
                let covered = table.sums.covered(index);
                assert!(
                    !has_sums || !is_clean || covered >= valid,
                    "page {index}: the sums cover {covered} of {valid} bytes"
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
