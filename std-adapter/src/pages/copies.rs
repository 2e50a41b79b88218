//! Pages of a table that are copies of what other content has, and pages that have a frame and no bytes.
//!
//! Both may be dropped at any time: a hole shows the same.
//!
//! Held by: `tests/tests/clones.rs`.

use crate::pages::page::View;
use crate::pages::resident::Resident;
use crate::pages::table::Table;

impl Table {
    /// Removes the window if it is a copy.
    pub(crate) fn take_copy(&mut self) -> Option<Resident> {
        let index = self.window_index()?;
        self.resident(index).filter(|page| page.is_copy())?;
        self.remove_resident(index)
    }

    /// Removes the first copy at or after page `from`, the window first of all. Returns its index too.
    pub(crate) fn take_next_copy(&mut self, from: u64) -> Option<(u64, Resident)> {
        if let Some(window) = self.take_copy() {
            return Some((from, window));
        }
        let is_copy = |page: &View<'_>| matches!(page, View::Resident(page) if page.is_copy());
        let (index, _) = self.map.pages(from).find(|(_, page)| is_copy(page))?;
        Some((index, self.remove_resident(index)?))
    }

    /// Removes the empty page that a table keeps from its former buffer, for its frame.
    pub(crate) fn take_empty(&mut self) -> Option<Resident> {
        self.resident(0).filter(|page| page.end() == 0)?;
        self.remove_resident(0)
    }
}
