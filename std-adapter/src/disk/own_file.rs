//! A temp file that becomes the final one: for a buffer that is to be persisted.
//!
//! Each page lies where it will lie in the end, so that handing the content over means writing what
//! is still in memory and giving the file a name: nothing is copied.
//!
//! Promises:
//!
//! - What is read back is what was written, as with any store: pages that were freed may hold anything.
//! - When [`finish`](OwnFile::finish) succeeds, the file is the content and nothing else.
//! - Once [`detach`](OwnFile::detach) was called the file is somebody else's, and never touched again.

use crate::disk::quota::{Quota, Ticket};
use crate::disk::slots::Slot;
use crate::disk::store::Store;
use crate::disk::temp_file::TempFileStore;
use crate::error::SpillError;
use crate::sync::{Arc, AtomicBool, Ordering};
use std::fs::File;
use std::io;
use std::path::Path;

/// Files end here: their offsets are signed.
const END_MAX: u64 = i64::MAX as u64;

#[derive(Debug)]
pub(crate) struct OwnFile {
    store: TempFileStore,
    /// The disk limit that it counts against: the pool's.
    quota: Arc<Quota>,
    page_size: u64,
    /// The file has bytes in a hole that could not be cleared.
    has_residue: AtomicBool,
    /// The file has been handed over.
    detached: AtomicBool,
}

impl OwnFile {
    /// A file in `dir`, made when the first page is spilled.
    pub(crate) fn new(dir: &Path, quota: Arc<Quota>, page_size: usize) -> Self {
        OwnFile {
            store: TempFileStore::in_dir(dir),
            quota,
            page_size: page_size as u64,
            has_residue: AtomicBool::new(false),
            detached: AtomicBool::new(false),
        }
    }

    pub(crate) fn slot_bytes(&self) -> u64 {
        self.page_size
    }

    /// The ticket of page `index`, paid for with what `ticket` in the queue was granted first.
    pub(crate) fn allocate(&self, index: u64, ticket: Option<&Ticket>) -> Result<Slot, SpillError> {
        let len = self.page_size;
        let refused = || SpillError::TooLarge { position: u64::MAX, requested: len };
        let offset = index.checked_mul(len).filter(|&offset| offset <= END_MAX - len).ok_or_else(refused)?;
        self.quota.reserve_for_slot(len, ticket)?;
        Ok(Slot::new(offset, len))
    }

    /// Takes the ticket of a page back, and clears it: it may be a hole in the end.
    pub(crate) fn free(&self, slot: Slot) {
        let holds = self.store.is_made() && !self.detached.load(Ordering::Relaxed);
        if holds && Store::discard(&self.store, slot.offset, slot.len()).is_err() {
            self.has_residue.store(true, Ordering::Relaxed);
        }
        self.quota.release(slot.len());
    }

    /// Makes the file as long as the content, with zeros where `zeros` says: `(offset, len)` of what
    /// pages have past their content. `None` if it cannot be made into the content; it still serves
    /// as a store then.
    pub(crate) fn finish(&self, len: u64, zeros: &[(u64, u64)]) -> io::Result<Option<&File>> {
        if self.has_residue.load(Ordering::Relaxed) {
            return Ok(None);
        }
        for &(offset, len) in zeros {
            if Store::discard(&self.store, offset, len).is_err() {
                return Ok(None);
            }
        }
        self.store.set_len(len)?;
        self.store.file().map(Some)
    }

    fn check_is_ours(&self) -> io::Result<()> {
        if self.detached.load(Ordering::Relaxed) {
            return Err(io::Error::other("the file has been handed over"));
        }
        Ok(())
    }

    /// Never touches the file again.
    pub(crate) fn detach(&self) {
        self.has_residue.store(true, Ordering::Relaxed);
        self.detached.store(true, Ordering::Relaxed);
    }
}

/// The pages, while the file is ours.
impl Store for OwnFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.store.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.check_is_ours()?;
        self.store.write_at(offset, data)
    }

    fn write_vectored_at(&self, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.check_is_ours()?;
        self.store.write_vectored_at(offset, parts)
    }
}
