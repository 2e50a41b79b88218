//! What was cut off a table, a part at a time: to be freed without the table's lock.
//!
//! Held by: `std-adapter/src/pages/page_map/tests.rs`, `tests/tests/spill_model.rs`.

use crate::disk::slots::Slot;
use crate::memory::frame::Frame;
use crate::pages::resident::Resident;

/// Slots, and frames, that are taken out together at most: as many as a leaf has.
const TOGETHER_MAX: usize = 1 << u8::BITS;

/// The slots and the frames of pages, each in the order in which they were cut off.
#[derive(Debug, Default)]
pub(crate) struct CutOff {
    pub(crate) slots: Vec<Slot>,
    pub(crate) frames: Vec<Frame>,
}

impl CutOff {
    /// Adds a slot. Returns false if there are enough, or no memory to note it.
    pub(crate) fn add_slot(&mut self, slot: Slot) -> bool {
        let has_room = self.slots.len() < TOGETHER_MAX && self.slots.try_reserve(1).is_ok();
        if has_room {
            self.slots.push(slot);
        }
        has_room
    }

    /// Adds the frame and the slot of a page, after which at most `more` follow. Returns the page if there
    /// are enough, or no memory to note them, or if it lies in given memory: to let go of that is foreign
    /// code.
    pub(crate) fn add_page(&mut self, page: Resident, more: usize) -> Result<(), Resident> {
        let frames = &mut self.frames;
        let left = TOGETHER_MAX - frames.len();
        // One at first: most cuts are of one page.
        let wanted = if frames.is_empty() { 1 } else { left.min(more + 1) };
        let has_room =
            left > 0 && (frames.len() < frames.capacity() || frames.try_reserve_exact(wanted).is_ok());
        if !page.has_frame() || !has_room || page.slot.is_some_and(|slot| !self.add_slot(slot)) {
            return Err(page);
        }
        self.frames.extend(page.into_frame().into_own());
        Ok(())
    }
}
