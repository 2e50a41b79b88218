//! What all handles of frozen content share: the content, and readers for those that have none of their own.
//!
//! Held by: `tests/tests/frozen.rs`.

use crate::disk::store_access;
use crate::error::SpillError;
use crate::foreign::hold_back;
use crate::pager::base::{Leaving, Source, StoreCopy};
use crate::pager::content::Content;
use crate::pager::reader::Reader;
use crate::pager::state::Pager;
use crate::pool::state::PoolState;
use crate::sync::fork::Lock;
use crate::sync::{Arc, OnceLock, thread_number};
use crate::try_box::TryBox;
use std::array;
use std::fs::File;
use std::ops::Range;

/// Readers for threads that read through one handle: a thread uses the one that its number falls on, so that
/// two threads seldom meet.
const COMMON: usize = 8;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) content: Content,
    /// Made by the first that reads without a reader.
    common: OnceLock<TryBox<[Apart; COMMON]>>,
}

/// A reader that shares no cache line with its neighbours, nor the next line, which processors load with it.
#[derive(Debug)]
#[repr(align(128))]
struct Apart(Lock<Reader>);

impl Shared {
    pub(crate) fn new(content: Content) -> Self {
        Shared { content, common: OnceLock::new() }
    }

    /// See [`Content::read_at`]. Threads may call this at once.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let Some(common) = self.common() else { return self.content.read_at(offset, buf) };
        // A frame for the window may be another buffer's, whose first spill is an event; and its
        // listener may read here too.
        let _held_back = hold_back();
        let lock = &common[thread_number() % COMMON].0;
        // One that another thread has may be reading from the store.
        let reader = if store_access::is_resident_only() { lock.try_lock() } else { lock.lock().ok() };
        let Some(mut reader) = reader else { return self.content.read_at(offset, buf) };
        if reader.read_window(&mut { offset }, buf) {
            return Ok(buf.len());
        }
        reader.read(&self.content, offset, buf)
    }

    /// The pager, to be written to again; or the handle, if it is not the only one of content that is all
    /// there, and of which nothing is lent.
    pub(crate) fn into_pager(mut shared: Arc<Shared>) -> Result<Pager, Arc<Shared>> {
        // First whether it is the only one: another could lend a page after the second question, and be gone.
        if Arc::get_mut(&mut shared).is_none() || !shared.content.is_whole() {
            return Err(shared);
        }
        Arc::try_unwrap(shared).map(|shared| shared.content.into_pager())
    }

    /// The readers; `None` if there is no memory for them, or the content is the one of a process from which
    /// this one was forked while a thread may have been making them.
    fn common(&self) -> Option<&[Apart; COMMON]> {
        if self.common.get().is_none() {
            if self.content.is_inherited() {
                return None;
            }
            let reader = || Apart(Lock::new(Reader::new(Arc::clone(&self.content.pool), u64::MAX)));
            let made = TryBox::new(array::from_fn(|_| reader()))?;
            self.common.get_or_init(|| {
                self.content.add_readers(COMMON);
                made
            });
        }
        self.common.get().map(|common| &**common)
    }
}

/// Counts a handle among those that read the content, for as long as this exists.
#[cfg(feature = "http-body")]
#[derive(Debug)]
pub(crate) struct Counted(Arc<Shared>);

#[cfg(feature = "http-body")]
impl Counted {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.content.add_readers(1);
        Counted(shared)
    }
}

#[cfg(feature = "http-body")]
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.content.remove_reader();
    }
}

/// Content that clones of a buffer have as their base.
impl Source for Shared {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        self.content.read_at(offset, buf) // small reads have their window in the buffer above
    }

    fn copy_run(&self, from: u64, most: usize, file: &File, at: u64) -> StoreCopy {
        self.content.copy_run(from, most, file, at)
    }

    fn next_data(&self, from: u64) -> Result<Option<u64>, SpillError> {
        self.content.next_data(from)
    }

    fn discard(&self, range: Range<u64>) {
        let page = self.content.pool.page_size as u64;
        let end = if range.end == u64::MAX { u64::MAX } else { range.end / page }; // with the last page
        let pages = range.start.div_ceil(page)..end;
        if !pages.is_empty() {
            let _ = self.content.with_pager(|pager| pager.discard_pages(pages));
        }
    }

    fn make_room(&self, bytes: usize, leaving: Leaving, pool: &PoolState) -> bool {
        std::ptr::eq(&*self.content.pool, pool) && self.content.make_room(bytes, leaving)
    }

    fn check_invariants(&self) {
        let _ = self.content.with_pager(|pager| pager.check_invariants());
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::api::buffer::SpillBuffer;

    /// The first read of each source made readers of its own, of 3 KiB that no limit counts, and the source
    /// then took itself for one that several read.
    #[test]
    fn what_lies_below_clones_is_read_without_further_readers() {
        let shared = Shared::new(Content::new(SpillBuffer::from(&b"below"[..]).pager, false));
        let mut bytes = [0; 5];
        assert_eq!((Source::read_at(&shared, 0, &mut bytes).unwrap(), &bytes), (5, b"below"));
        assert!(shared.common.get().is_none());
    }
}
