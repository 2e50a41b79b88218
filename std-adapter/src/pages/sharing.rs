//! Pages of a table that are read without its lock.
//!
//! Promises:
//!
//! - What a shared page holds does not change, and stays while a reference to it exists, in the table or not.
//! - Once the table has the only one, the page can leave memory like any other. Dropping a reference tells
//!   the table nothing, so it looks: at a few of the shared pages for each page that is to leave, and at
//!   some more before it finds none, however many there are. The next search goes on with those behind.
//!
//! Held by: `tests/tests/frozen.rs`, `tests/tests/lent_bytes.rs`.

use crate::pages::page::{Page, View, low_bits};
use crate::pages::resident::Resident;
use crate::pages::table::Table;
use crate::sync::{Arc, can_make_arc};

/// Shared pages that are looked at for each page that is to leave.
const LOOKS: usize = 16;

/// Further ones that are looked at before a search finds none.
const FURTHER_LOOKS: usize = 64;

impl Table {
    /// Page `index`, if it is in memory and whole and there is memory to note it, to be read without the lock
    /// for as long as the caller likes. It is no longer the window.
    pub(crate) fn share(&mut self, index: u64) -> Option<Arc<Resident>> {
        if let Some(shared) = self.shared_page(index) {
            return Some(shared);
        }
        if self.resident(index)?.is_segment() {
            return None;
        }
        self.forget_gone();
        // One that is listed and then not shared is forgotten as one that is gone.
        if !self.reserve_for_leave(index)
            || self.shared.try_insert(index).is_none()
            || !can_make_arc::<Resident>()
        {
            return None;
        }
        let page = Arc::new(self.remove_resident(index)?);
        self.put(index, Page::Shared(Arc::clone(&page)));
        Some(page)
    }

    /// Page `index`, if it is shared already.
    pub(crate) fn shared_page(&self, index: u64) -> Option<Arc<Resident>> {
        match self.map.page(index)? {
            View::Shared(page) => Some(Arc::clone(page)),
            View::Resident(_) | View::Spilled { .. } | View::InTransit(_) => None,
        }
    }

    /// The address of the byte at `offset`, if it is in memory, outside the window.
    pub(crate) fn address_of(&self, offset: u64) -> Option<usize> {
        let page = match self.map.page(offset >> self.shift)? {
            View::Resident(page) => page,
            View::Shared(page) => page,
            View::Spilled { .. } | View::InTransit(_) => return None,
        };
        let content = page.content_from(low_bits(offset, self.shift));
        (!content.is_empty()).then(|| content.as_ptr().addr())
    }

    /// Makes page `index` resident again if it is shared, and only referenced here.
    pub(crate) fn end_sharing_if_idle(&mut self, index: u64) {
        if self.shared_page(index).is_some() {
            self.end_sharing_of(index);
        }
    }

    /// Whether page `index` is in memory, and nothing keeps it there.
    pub(crate) fn is_unshared_and_unpinned(&mut self, index: u64) -> bool {
        !self.is_pinned(index) && self.resident(index).is_some()
    }

    /// The next page of the list, in turn.
    fn next_shared(&mut self) -> Option<u64> {
        let next = self.shared.from(self.hand).chain(self.shared.from(0)).next();
        let (index, ()) = next?;
        self.hand = index + 1;
        Some(index)
    }

    /// Looks at two of the list, and removes those that were removed from the table. So it has no more than
    /// twice what is shared.
    fn forget_gone(&mut self) {
        for _ in 0..2 {
            if let Some(index) = self.next_shared().filter(|index| self.shared_page(*index).is_none()) {
                self.shared.remove(index);
            }
        }
    }

    /// Makes the shared pages that are only referenced here resident again.
    pub(crate) fn end_sharing(&mut self) {
        let mut at = 0;
        while let Some((index, ())) = { self.shared.from(at).next() } {
            self.end_sharing_of(index);
            at = index + 1;
        }
    }

    /// The coldest of the next few resident pages that are sought, and its heat. Skips the window
    /// and the pinned page.
    pub(crate) fn coldest(&mut self, is_sought: impl Fn(&Resident) -> bool) -> Option<(u64, u8)> {
        self.end_sharing_of_next(LOOKS);
        self.map.coldest(self.pinned, &is_sought).or_else(|| {
            self.end_sharing_of_next(FURTHER_LOOKS);
            self.map.coldest(self.pinned, is_sought)
        })
    }

    /// As [`end_sharing`](Table::end_sharing), of the next `count` of the list.
    fn end_sharing_of_next(&mut self, count: usize) {
        let mut first = None;
        for _ in 0..count {
            let Some(index) = self.next_shared().filter(|index| first != Some(*index)) else { break };
            first = first.or(Some(index));
            self.end_sharing_of(index);
        }
    }

    /// Makes page `index` resident if it is only referenced here. What is no shared page leaves the list.
    fn end_sharing_of(&mut self, index: u64) {
        match self.map.page(index) {
            Some(View::Shared(page)) if Arc::strong_count(page) > 1 => return,
            Some(View::Shared(_)) => {
                let page = match self.remove(index) {
                    Page::Shared(page) => Arc::try_unwrap(page).map_or_else(Page::Shared, Page::Resident),
                    page => page,
                };
                self.put(index, page);
            }
            _ => {} // removed
        }
        if self.shared_page(index).is_none() {
            self.shared.remove(index);
        }
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::frame_pool::FramePool;

    /// A search that found no page looked at all that are shared, with the content locked: with 16,000 loans,
    /// of which none had ended, it took 700 µs.
    #[test]
    fn a_search_looks_at_a_bounded_number_of_shared_pages_and_the_next_goes_on_there() {
        const PAGES: u64 = 10_000;
        let (frames, mut table) = (FramePool::new(1 << 20, 8), Table::new(8));
        let mut lent: Vec<_> = (0..PAGES)
            .map(|index| {
                table.put(index, Page::Resident(Resident::copy(frames.acquire(8).unwrap(), 0)));
                table.share(index).unwrap()
            })
            .collect();
        drop(lent.remove(5000));
        let failed = (0..PAGES).take_while(|_| table.coldest(|_| true).is_none()).count();
        assert!((2..150).contains(&failed), "{failed} searches");
    }
}
