//! Pages of shared content that are lent outside the pool, for as long as the receiver keeps
//! them, on whatever thread.
//!
//! Promises:
//!
//! - A page that is lent is counted once, from the first loan to the last, and stays charged to the pool,
//!   though the content may be gone.
//! - Past a share of the memory limit, and where a loan would hold much for few bytes, copies are handed out.
//! - Given memory is counted as a whole, and once, while any page of it is lent.
//! - The end of a loan does no I/O, and keeps neither the pool nor its file open: it refers to the
//!   memory, its budget, and those that wait for it. It calls them, and the owner of given memory,
//!   with nothing locked.
//!
//! Held by: `tests/tests/lent_bytes.rs`.

use crate::memory::budget::TellsAtEnd;
use crate::memory::lent::LentBytes;
use crate::memory::ordered::Ordered;
use crate::memory::page_frame::PageFrame;
use crate::pages::resident::Resident;
use crate::sync::{Arc, Weak, try_arc};

/// A page that is lent, until the last reference to it is dropped.
#[derive(Debug)]
pub(crate) struct LentPage {
    page: Arc<Resident>,
    lent: Arc<LentBytes>,
    /// Behind the page, which may be gone with its content but for this reference, or can leave now.
    _tells: TellsAtEnd,
}

impl LentPage {
    /// The bytes of the page from offset `at` on.
    pub(crate) fn bytes_from(&self, at: usize) -> &[u8] {
        self.page.content_from(at)
    }
}

/// A part of a lent page.
#[derive(Debug)]
pub(crate) struct LentPart {
    page: Arc<LentPage>,
    at: usize,
    len: usize,
}

impl LentPart {
    /// The `len` bytes from offset `at` of `page` on, which has them.
    pub(crate) fn new(page: Arc<LentPage>, at: usize, len: usize) -> Self {
        LentPart { page, at, len }
    }
}

impl AsRef<[u8]> for LentPart {
    fn as_ref(&self) -> &[u8] {
        &self.page.bytes_from(self.at)[..self.len]
    }
}

impl Drop for LentPage {
    fn drop(&mut self) {
        end_loan(&self.page, &self.lent);
    }
}

/// Counts `page` in `lent`, unless more than `limit` bytes would be lent then: its frame, or all given memory
/// that it keeps. Returns whether it did.
pub(crate) fn begin_loan(page: &Resident, lent: &LentBytes, limit: u64) -> bool {
    match &page.frame {
        PageFrame::Own(frame) => lent.add(frame.capacity() as u64, limit),
        PageFrame::Given(page) => page.begin_loan(lent, limit),
    }
}

fn end_loan(page: &Resident, lent: &LentBytes) {
    match &page.frame {
        PageFrame::Own(frame) => lent.subtract(frame.capacity() as u64),
        PageFrame::Given(page) => page.end_loan(lent),
    }
}

/// The pages of one content that are lent, and about as many that have come back.
#[derive(Debug, Default)]
pub(crate) struct LentPages {
    pages: Ordered<Weak<LentPage>>,
    /// Where to look next for one that has come back.
    hand: u64,
}

impl LentPages {
    /// Page `index`, if it is lent.
    pub(crate) fn find(&self, index: u64) -> Option<Arc<LentPage>> {
        self.pages.get(index)?.upgrade()
    }

    /// Lends `page`, whose frame is counted in `lent` already. `None`, and it is not counted any more, if
    /// there is no memory to note that.
    pub(crate) fn add(
        &mut self,
        index: u64,
        page: Arc<Resident>,
        lent: Arc<LentBytes>,
    ) -> Option<Arc<LentPage>> {
        let _tells = TellsAtEnd(Arc::clone(page.frame.budget()));
        let page = try_arc(LentPage { page, lent, _tells })?;
        *self.pages.try_insert(index)? = Arc::downgrade(&page);
        self.forget_some();
        Some(page)
    }

    /// Forgets two pages that have come back, if they are the next. Called for each that is added, so that no
    /// more of them are kept than are lent.
    fn forget_some(&mut self) {
        let mut next = self.pages.from(self.hand).map(|(index, page)| (index, page.strong_count() == 0));
        let two = [next.next(), next.next()];
        drop(next);
        self.hand = two[1].map_or(0, |(index, _)| index.saturating_add(1));
        for (index, _) in two.into_iter().flatten().filter(|(_, is_back)| *is_back) {
            self.pages.remove(index);
        }
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::frame_pool::FramePool;

    /// All that were lent were looked at for each loan, with the content locked.
    #[test]
    fn pages_are_found_while_they_are_lent_and_forgotten_when_they_are_back() {
        let (frames, lent) = (FramePool::new(1 << 20, 64), Arc::new(LentBytes::default()));
        let mut pages = LentPages::default();
        let lend = |pages: &mut LentPages, index| {
            let page = Resident::copy(frames.acquire(64).unwrap(), 0);
            pages.add(index, Arc::new(page), Arc::clone(&lent)).unwrap()
        };
        let kept: Vec<_> = (0..100).map(|index| lend(&mut pages, 3 * index)).collect();
        for index in 1000..3000 {
            drop(lend(&mut pages, index));
            assert!(pages.find(index).is_none());
        }
        let noted = pages.pages.from(0).count();
        assert!((100..=202).contains(&noted), "{noted}");
        assert!((0..).zip(&kept).all(|(index, page)| Arc::ptr_eq(&pages.find(3 * index).unwrap(), page)));
        assert!(pages.find(1).is_none());
        std::mem::forget(kept); // they were not counted as lent
    }
}
