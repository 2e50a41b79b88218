//! Pages of shared content that are lent outside the pool, for as long as the receiver keeps them, on whatever thread.
//!
//! Promises:
//!
//! - A page that is lent is counted once, from the first loan to the last, and stays charged to the pool, though the content
//!   may be gone.
//! - Past a share of the memory limit, and where a loan would hold much for few bytes, copies are handed out.
//! - The end of a loan does no I/O, calls nobody, and keeps neither the pool nor its file open: it refers to the memory and
//!   its budget alone.
//!
//! Held by: `tests/tests/lent_bytes.rs`.

use crate::memory::lent::LentBytes;
use crate::pages::resident::Resident;
use crate::sync::{Arc, Weak, try_arc};

/// A page that is lent, until the last reference to it is dropped.
#[derive(Debug)]
pub(crate) struct LentPage {
    page: Arc<Resident>,
    lent: Arc<LentBytes>,
}

impl LentPage {
    /// The bytes of the page from offset `at` on.
    pub(crate) fn bytes_from(&self, at: usize) -> &[u8] {
        self.page.content_from(at)
    }
}

impl Drop for LentPage {
    fn drop(&mut self) {
        self.lent.subtract(self.page.frame.capacity() as u64);
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
        let page = try_arc(LentPage { page, lent })?;
        self.0.try_reserve(1).ok()?;
        self.0.push((index, Arc::downgrade(&page)));
        Some(page)
    }
}
