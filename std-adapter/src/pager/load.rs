//! A spilled page that is read into a frame while nothing keeps it where it is: by a thread that does not
//! have the lock of shared content, or by a job off the event loop.
//!
//! Promises:
//!
//! - The page comes to memory only if it is still spilled to the slot that was read. It may have been freed
//!   meanwhile, and the slot be another buffer's.
//! - The frame on its way is charged to the buffer. Those that wait are told when it has come, if a search
//!   missed it.
//!
//! Held by: `std-adapter/src/models/spool.rs` (loom), `tests/tests/async_buffer/`.

use crate::disk::slots::Slot;
use crate::memory::frame::Frame;
use crate::pager::state::Pager;
use crate::pages::page::{Location, Page};
use crate::pages::resident::Resident;

/// A page on its way from its slot.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) index: u64,
    pub(crate) slot: Slot,
    /// The end of the page's content.
    pub(crate) end: usize,
    pub(crate) frame: Frame,
}

impl Pager {
    /// Ends a load, of which `is_read` says whether the frame has what the slot had. Gives the frame back if
    /// the page cannot come to memory.
    pub(crate) fn end_load(&mut self, load: Load, is_read: bool) {
        let Load { index, slot, end, frame } = load;
        let can_come = is_read
            && self.table(|table| {
                table.locate(index) == Location::Spilled { slot, end } && table.reserve_for_load(index)
            });
        if !can_come {
            self.recycle_frame(frame);
            return;
        }
        let mut page = Resident::of_slot(frame, slot);
        page.len = end;
        let was_sought = self.table(|table| {
            table.remove(index);
            table.put(index, Page::Resident(page));
            table.sought.take()
        });
        self.pool.tell_if_missed(was_sought, self.own_table(), self.ticket());
    }
}
