//! Pages of shared content that are lent outside the pool, for as long as the receiver keeps them, on whatever thread.
//!
//! Promises:
//!
//! - A page that is lent is counted once, from the first loan to the last, and stays charged to the pool, though the content
//!   may be gone.
//! - Past a share of the memory limit, and where a loan would hold much for few bytes, copies are handed out.
//! - Given memory is counted as a whole, and once, while any page of it is lent.
//! - The end of a loan does no I/O, and keeps neither the pool nor its file open: it refers to the memory, its budget, and those that
//!   wait for it. It calls them, and the owner of given memory, with nothing locked.
//!
//! Held by: `tests/tests/lent_bytes.rs`.

use crate::memory::budget::TellsAtEnd;
use crate::memory::lent::LentBytes;
use crate::memory::page_frame::PageFrame;
use crate::pages::resident::Resident;
use crate::sync::{Arc, Weak, try_arc};

/// A page that is lent, until the last reference to it is dropped.
#[derive(Debug)]
pub(crate) struct LentPage {
    page: Arc<Resident>,
    lent: Arc<LentBytes>,
    /// Behind the page, which may be gone with its content but for this reference.
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

/// Counts `page` in `lent`, unless more than `limit` bytes would be lent then: its frame, or all given memory that it keeps. Returns
/// whether it did.
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

/// The pages of one content that are lent, some of which may have come back.
#[derive(Debug, Default)]
pub(crate) struct LentPages(Vec<(u64, Weak<LentPage>)>);

impl LentPages {
    /// Page `index`, if it is lent.
    pub(crate) fn find(&mut self, index: u64) -> Option<Arc<LentPage>> {
        self.0.retain(|(_, page)| page.strong_count() > 0);
        let lent = self.0.iter().find(|(other, _)| *other == index);
        lent.and_then(|(_, page)| page.upgrade())
    }

    /// Lends `page`, whose frame is counted in `lent` already. `None`, and it is not counted any more, if there is no memory to
    /// note that.
    pub(crate) fn add(
        &mut self,
        index: u64,
        page: Arc<Resident>,
        lent: Arc<LentBytes>,
    ) -> Option<Arc<LentPage>> {
        let _tells = TellsAtEnd(Arc::clone(page.frame.budget()));
        let page = try_arc(LentPage { page, lent, _tells })?;
        self.0.try_reserve(1).ok()?;
        self.0.push((index, Arc::downgrade(&page)));
        Some(page)
    }
}
