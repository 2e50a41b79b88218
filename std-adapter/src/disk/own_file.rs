//! The own file of a buffer that is to be persisted: a temp file that becomes the final one.
//!
//! Each page lies in its final place. So persisting writes the pages that are still in memory and gives the
//! file a name; it copies nothing.
//!
//! Promises:
//!
//! - A page reads back as it was written, as with any store. A freed page may hold anything.
//! - No page lies past the end of the longest file, or across it.
//! - When [`finish`](OwnFile::finish) returns a file, that file is the content and nothing else.
//! - After [`detach`](OwnFile::detach) nothing here changes the file: the caller has it, or nobody reads it
//!   again.
//!
//! Held by: `tests/tests/hand_over.rs`, `tests/tests/pool_limits.rs`, `tests/tests/checksums/`.

use crate::disk::quota::{Quota, Ticket};
use crate::disk::slots::Slot;
use crate::disk::store::Store;
use crate::disk::store_access;
use crate::disk::temp_file::TempFileStore;
use crate::error::{SpillError, StoreOperation};
use crate::sync::{Arc, AtomicBool, Ordering};
use std::fs::File;
use std::io;
use std::path::Path;

/// The largest length of a file: file offsets are signed.
const END_MAX: u64 = i64::MAX as u64;

#[derive(Debug)]
pub(crate) struct OwnFile {
    store: TempFileStore,
    /// The pool's disk limit, which the pages count against.
    quota: Arc<Quota>,
    page_size: u64,
    /// The file cannot become the content: a freed page could not be cleared, the file could not be synced,
    /// or it is detached.
    has_residue: AtomicBool,
    /// Nothing here changes the file any more: the caller has it, or nobody reads it again.
    detached: AtomicBool,
}

impl OwnFile {
    /// An own file in `dir`. The file is made when the first page is spilled.
    pub(crate) fn new(dir: &Path, quota: Arc<Quota>, page_size: usize) -> Self {
        OwnFile {
            store: TempFileStore::in_dir(dir),
            quota,
            page_size: page_size as u64,
            has_residue: AtomicBool::new(false),
            detached: AtomicBool::new(false),
        }
    }

    /// The file, if it was made.
    pub(crate) fn made_file(&self) -> Option<&File> {
        if self.store.is_made() { self.store.file().ok() } else { None }
    }

    /// The length of a slot: always a page.
    pub(crate) fn slot_bytes(&self) -> u64 {
        self.page_size
    }

    /// Whether [`detach`](OwnFile::detach) was called.
    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Relaxed)
    }

    /// Allocates the slot of page `index`. Uses the bytes that `ticket` was granted before any others.
    pub(crate) fn allocate(&self, index: u64, ticket: Option<&Ticket>) -> Result<Slot, SpillError> {
        let len = self.page_size;
        store_access::check(StoreOperation::Write, index.saturating_mul(len), len)?;
        let position = index.saturating_mul(len);
        self.fitting(position, len)?;
        self.quota.reserve_for_slot(len, ticket)?;
        Ok(Slot::new(position, len))
    }

    /// How many of `len` bytes from `position` on are within the last page that a file can have: an error if
    /// none is.
    pub(crate) fn fitting(&self, position: u64, len: u64) -> Result<u64, SpillError> {
        let end = END_MAX / self.page_size * self.page_size;
        match end.checked_sub(position) {
            None | Some(0) if len > 0 => Err(SpillError::TooLarge { position, requested: len, end }),
            left => Ok(left.unwrap_or(0).min(len)),
        }
    }

    /// Frees the slot of a page, and clears it: the page may be a hole in the final content. Wakes nobody.
    pub(crate) fn free_quietly(&self, slot: Slot) {
        self.free_all_quietly(&[slot]);
    }

    /// As [`free_quietly`](OwnFile::free_quietly), of several pages. Those that lie one after another are
    /// cleared in one call.
    pub(crate) fn free_all_quietly(&self, slots: &[Slot]) {
        let holds = self.store.is_made() && !self.is_detached();
        if holds {
            // A thread that may not call the store leaves the bytes there.
            let is_allowed = !store_access::is_resident_only();
            for run in slots.chunk_by(|slot, next| slot.offset + slot.len() == next.offset) {
                let len = run.len() as u64 * self.page_size;
                if !is_allowed || Store::discard(&self.store, run[0].offset, len).is_err() {
                    self.has_residue.store(true, Ordering::Relaxed);
                }
            }
        }
        self.quota.release_quietly(slots.len() as u64 * self.page_size);
    }

    /// Makes the file the content: `len` bytes, with zeros in the ranges `zeros` of `(offset, len)`, which
    /// pages have past their content. `None` if bytes there, or of a freed page, could not be cleared; the
    /// file still serves as a store then.
    pub(crate) fn finish(&self, len: u64, zeros: &[(u64, u64)]) -> io::Result<Option<&File>> {
        // A forked process copies what its parent's file has.
        if self.has_residue.load(Ordering::Relaxed) || self.store.changeable_file().is_err() {
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

    /// Notes that the file could not be synced. The system may have given up on some of its pages, and a
    /// further sync would not say so: it tells of each failure once.
    pub(crate) fn note_unsynced(&self) {
        self.has_residue.store(true, Ordering::Relaxed);
    }

    fn check_not_detached(&self) -> io::Result<()> {
        if self.is_detached() {
            return Err(io::Error::other("the file has been handed over"));
        }
        Ok(())
    }

    /// Leaves the file to the caller, or as it is if nobody reads it again: nothing here changes it from now
    /// on.
    pub(crate) fn detach(&self) {
        self.has_residue.store(true, Ordering::Relaxed);
        self.detached.store(true, Ordering::Relaxed);
    }
}

/// Reads work after [`detach`](OwnFile::detach) too; writes fail.
impl Store for OwnFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.store.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.check_not_detached()?;
        self.store.write_at(offset, data)
    }

    fn write_vectored_at(&self, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.check_not_detached()?;
        self.store.write_vectored_at(offset, parts)
    }

    fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        self.store.copy_to_file(offset, len, file, at)
    }

    fn copy_from_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        self.check_not_detached()?;
        self.store.copy_from_file(offset, len, file, at)
    }
}
