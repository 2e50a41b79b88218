//! A table that a dropped buffer leaves: empty, for another buffer.
//!
//! Most bodies are small, and a table is made for none of them if one is left. So this is a large part of
//! what they cost; what is rare is out of the way.
//!
//! Held by: the tests below, and those of [`table`](crate::pages::table).

use crate::memory::ordered::Ordered;
use crate::pages::page::Stay;
use crate::pages::table::Table;
use crate::pages::window::Window;

/// The largest frame that a retired table keeps, in bytes. Such a frame stays charged, and a pool keeps few
/// of them. With 8 KiB, a body of 10,000 to 60,000 bytes grew its frame anew each time, and took up to three
/// times as long.
pub(crate) const RETIRED_FRAME_MAX: usize = 64 << 10;

impl Table {
    /// Empties the table for another buffer, and returns true, if it has no page or only the first one, and
    /// that one is in memory, without a slot, in a frame, not of given memory, of at most
    /// [`RETIRED_FRAME_MAX`] bytes. The frame stays, as an empty window. Otherwise returns false, and no
    /// content has changed.
    #[inline]
    pub(crate) fn retire(&mut self) -> bool {
        if !self.map.is_empty() && !self.open_only_first() {
            return false;
        }
        if let Some(window) = &mut self.window {
            let page = &window.resident;
            let is_plain = page.slot.is_none() && page.has_frame();
            if window.start != 0 || !is_plain || page.frame.capacity() > RETIRED_FRAME_MAX {
                return false;
            }
            (window.resident.len, window.resident.dirty) = (0, true); // as a fresh page, not as a copy
            window.stay = Stay::Kept;
        }
        if self.shared.has_memory() || !self.sums.is_empty() {
            self.forget_pages();
        }
        self.unpin();
        true
    }

    /// Makes the first page the window if it is in memory, and there is no other. Returns whether it is.
    #[cold]
    fn open_only_first(&mut self) -> bool {
        if self.window.is_some() {
            return false;
        }
        let Some(resident) = self.map.remove_only_first() else { return false };
        self.window = Some(Window::new(resident.frame_start() as u64, resident, Stay::Kept));
        true
    }

    /// Frees what was noted of pages beside the map.
    #[cold]
    fn forget_pages(&mut self) {
        self.shared = Ordered::default();
        // A page without a slot has old sums if its outgrown slot was freed and its transit then failed.
        self.sums.cut(0);
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::frame_pool::FramePool;
    use crate::pages::resident::Resident;

    /// A copy of what a clone's base had left its mark: the next buffer began with a clean page that nothing
    /// had.
    #[test]
    fn a_retired_table_has_no_copy() {
        const PAGE: usize = 8;
        let mut copy = Resident::copy(FramePool::new(64, PAGE).acquire(PAGE).unwrap(), 0);
        copy.frame.first_mut(3).fill(7);
        copy.len = 3;
        assert!(copy.is_copy());
        let mut table = Table::new(PAGE);
        table.open(0, copy, Stay::Kept);
        assert!(table.retire());
        let page = table.resident(0).unwrap();
        assert!(page.dirty && page.len == 0, "{page:?}");
    }
}
