//! Pages that a sequential pass has left behind: it needs them no more.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::pages::page::Location;
use crate::pages::resident::Resident;
use crate::pages::table::Table;

impl Table {
    /// Whether page `index` is in memory, outside the window, whole and full.
    pub(crate) fn is_behind(&mut self, index: u64) -> bool {
        let page_size = self.page_size();
        self.window_index() != Some(index)
            && self.locate(index) == Location::Memory
            && self.resident(index).is_some_and(|page| !page.is_segment() && page.len == page_size)
    }

    /// Whether page `index` is [behind](Table::is_behind), and was never spilled.
    pub(crate) fn is_new_behind(&mut self, index: u64) -> bool {
        let is_new = |page: &mut Resident| page.dirty && page.slot.is_none();
        self.is_behind(index) && self.resident(index).is_some_and(is_new)
    }

    /// Whether page `index` is [behind](Table::is_behind), and its slot has the same bytes: it
    /// leaves its frame without the store.
    pub(crate) fn is_clean_behind(&mut self, index: u64) -> bool {
        let is_clean = |page: &mut Resident| !page.dirty && page.slot.is_some() && page.has_frame();
        self.is_behind(index) && self.resident(index).is_some_and(is_clean)
    }
}
