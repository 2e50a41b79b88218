//! Pages of a table that are read without its lock.
//!
//! Promises:
//!
//! - What a shared page holds does not change, and stays while a reference to it exists, in the table or not.
//! - Once the table has the only one, the page can leave memory like any other. Dropping a reference tells the table nothing, so it looks:
//!   at a few of the shared pages for each page that is to leave, however many there are, and at all of them before it finds none.
//!
//! Held by: `tests/tests/frozen.rs`, `tests/tests/lent_bytes.rs`.

use crate::pages::page::{Page, View};
use crate::pages::resident::Resident;
use crate::pages::table::Table;
use crate::sync::{Arc, can_make_arc};

/// Shared pages that are looked at for each page that is to leave.
const LOOKS: usize = 16;

impl Table {
    /// Page `index`, if it is in memory and whole and there is memory to note it, to be read without the lock for as long as the
    /// caller likes. It is no longer the window.
    pub(crate) fn share(&mut self, index: u64) -> Option<Arc<Resident>> {
        if let Some(shared) = self.shared_page(index) {
            return Some(shared);
        }
        if self.resident(index)?.is_segment() {
            return None;
        }
        if !self.reserve_for_leave(index)
            || self.shared.try_reserve(1).is_err()
            || !can_make_arc::<Resident>()
        {
            return None;
        }
        self.forget_gone();
        let page = Arc::new(self.remove_resident(index)?);
        self.put(index, Page::Shared(Arc::clone(&page)));
        self.shared.push_back(index);
        Some(page)
    }

    /// Page `index`, if it is shared already.
    pub(crate) fn shared_page(&self, index: u64) -> Option<Arc<Resident>> {
        match self.map.page(index)? {
            View::Shared(page) => Some(Arc::clone(page)),
            View::Resident(_) | View::Spilled { .. } | View::InTransit(_) => None,
        }
    }

    /// Makes page `index` resident again if it is shared, and only referenced here.
    pub(crate) fn end_sharing_if_idle(&mut self, index: u64) {
        if self.shared_page(index).is_some() && self.try_unshare(index) {
            self.shared.retain(|shared| *shared != index);
        }
    }

    /// Whether page `index` is in memory, and nothing keeps it there.
    pub(crate) fn is_unshared_and_unpinned(&mut self, index: u64) -> bool {
        !self.is_pinned(index) && self.resident(index).is_some()
    }

    /// Looks at two of the list, and removes those that were removed from the table. So it has no more than twice what is shared.
    fn forget_gone(&mut self) {
        for _ in 0..2.min(self.shared.len()) {
            let next = self.shared.pop_front();
            self.shared.extend(next.filter(|index| self.shared_page(*index).is_some()));
        }
    }

    /// Makes the shared pages that are only referenced here resident again.
    pub(crate) fn end_sharing(&mut self) {
        self.end_sharing_of(usize::MAX);
    }

    /// As [`end_sharing`](Table::end_sharing), for the next so many of them: others each time.
    fn end_sharing_of(&mut self, looks: usize) {
        for _ in 0..looks.min(self.shared.len()) {
            if let Some(index) = self.shared.pop_front().filter(|index| !self.try_unshare(*index)) {
                self.shared.push_back(index);
            }
        }
    }

    /// The coldest of the next few resident pages that are sought, and its heat. Skips the window and the pinned page.
    pub(crate) fn coldest(&mut self, is_sought: impl Fn(&Resident) -> bool) -> Option<(u64, u8)> {
        self.end_sharing_of(LOOKS);
        self.map.coldest(self.pinned, &is_sought).or_else(|| {
            self.end_sharing();
            self.map.coldest(self.pinned, is_sought)
        })
    }

    /// Makes page `index` resident if it is only referenced here. Returns whether it is no shared page then.
    fn try_unshare(&mut self, index: u64) -> bool {
        match self.map.page(index) {
            Some(View::Shared(page)) if Arc::strong_count(page) > 1 => return false,
            Some(View::Shared(_)) => {}
            _ => return true, // removed
        }
        let Page::Shared(page) = self.remove(index) else { return true };
        let page = Arc::try_unwrap(page).map_or_else(Page::Shared, Page::Resident);
        let is_resident = matches!(page, Page::Resident(_));
        self.put(index, page);
        is_resident
    }
}
