//! Where a buffer's slots are: in the pool's store, or in a file of the buffer's own.
//!
//! Promises:
//!
//! - Blocks of free slots make no write fail, nor one of an export: what finds no room gives them back to the
//!   file system, and tries again.
//! - I6: nor do they stand beside what is written to a buffer's own file: what is used there and they are
//!   together within the limit.
//!
//! Held by: `tests/tests/hand_over.rs`, `tests/tests/spill_model.rs`, `tests/tests/large_drops.rs`.

use crate::disk::own_file::OwnFile;
use crate::disk::quota::Ticket;
use crate::disk::slots::{BLOCK, Fit, Slot};
use crate::disk::slotted_store::SlottedStore;
use crate::disk::store::Store;
use crate::error::SpillError;
use crate::foreign::drop_quietly;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Backing<'a> {
    /// The pool's store.
    pub(crate) disk: &'a SlottedStore,
    /// The buffer's own file, which is used instead if there is one.
    pub(crate) own: Option<&'a OwnFile>,
}

impl<'a> Backing<'a> {
    /// The length in bytes of the slot for `bytes` of a page.
    pub(crate) fn slot_bytes(self, bytes: usize, fit: Fit) -> u64 {
        self.own.map_or_else(|| self.disk.slot_bytes(bytes, fit), OwnFile::slot_bytes)
    }

    /// Allocates a slot for `bytes` of page `index`. Uses the bytes that `ticket` was granted before any
    /// others.
    pub(crate) fn allocate(
        self,
        index: u64,
        bytes: usize,
        fit: Fit,
        ticket: Option<&Ticket>,
    ) -> Result<Slot, SpillError> {
        match self.own {
            Some(own) => self.allocate_own(own, index, ticket),
            None => self.disk.allocate(bytes, fit, ticket),
        }
    }

    /// Allocates the slot of page `index` in the buffer's own file. The pool's free blocks, which have no
    /// part in it, go back as far as the limit needs.
    fn allocate_own(self, own: &OwnFile, index: u64, ticket: Option<&Ticket>) -> Result<Slot, SpillError> {
        let slot = own.allocate(index, ticket)?;
        self.disk.trim_beside();
        Ok(slot)
    }

    /// Bytes that [`allocate_to_grow`](Backing::allocate_to_grow) charges.
    pub(crate) fn charge_to_grow(self, bytes: usize, fit: Fit) -> u64 {
        if self.own.is_some() || bytes as u64 <= BLOCK {
            return self.slot_bytes(bytes, fit);
        }
        (bytes as u64).next_multiple_of(BLOCK).min(self.slot_bytes(bytes, fit))
    }

    /// Allocates a slot for `bytes` of page `index`, in which it can grow if it has more than a block, and
    /// charges what it needs now.
    pub(crate) fn allocate_to_grow(self, index: u64, bytes: usize, fit: Fit) -> Result<Slot, SpillError> {
        if self.own.is_some() || bytes as u64 <= BLOCK {
            return self.allocate(index, bytes, fit, None);
        }
        let slot = self.disk.allocate_growable(self.disk.growable_len(index, bytes), false)?;
        self.charge_to(slot, bytes, None).inspect_err(|_| self.free_quietly(slot))
    }

    /// See [`SlottedStore::charge_to`]. A slot in a file of the buffer's own is charged whole already.
    pub(crate) fn charge_to(
        self,
        slot: Slot,
        end: usize,
        ticket: Option<&Ticket>,
    ) -> Result<Slot, SpillError> {
        self.disk.charge_to(slot, end, ticket)
    }

    /// Allocates a slot of a whole page for page `index`, if the one at `offset` is available.
    pub(crate) fn allocate_at(self, index: u64, offset: u64) -> Option<Slot> {
        match self.own {
            // At the page's own place, which is `offset`.
            Some(own) => self.allocate_own(own, index, None).ok(),
            None => self.disk.allocate_at(offset),
        }
    }

    /// Takes back what [`charge_to`](Backing::charge_to) has charged for `slot` beyond what it was
    /// `before`. Wakes nobody.
    pub(crate) fn discharge_quietly(self, slot: Slot, before: Slot) {
        self.disk.quota().release_quietly(slot.charged() - before.charged());
    }

    /// Frees a slot, and serves those that wait for room.
    pub(crate) fn free(self, slot: Slot) {
        self.free_quietly(slot);
        self.disk.quota().serve_if_waiting();
    }

    /// Frees a slot in the middle of something: those that wait for room are to be
    /// [served](crate::disk::quota::Quota::serve_if_waiting) at its end.
    pub(crate) fn free_quietly(self, slot: Slot) {
        match self.own {
            Some(own) => own.free_quietly(slot),
            None => self.disk.free_quietly(slot),
        }
    }

    /// Frees slots in the middle of something, without a call of the pool's store.
    /// [`end_freeing`](Backing::end_freeing) is to follow.
    pub(crate) fn free_all_quietly(self, slots: &[Slot]) {
        match self.own {
            Some(own) => own.free_all_quietly(slots),
            None => self.disk.free_all_quietly(slots),
        }
    }

    /// After `bytes` were freed: serves those that wait for room, and gives blocks back to the file system if
    /// they are not too many for one call.
    pub(crate) fn end_freeing(self, bytes: u64) {
        self.disk.quota().serve_if_waiting();
        if self.own.is_none() {
            self.disk.end_freeing(bytes);
        }
    }

    fn store(&self) -> &'a dyn Store {
        self.own.map_or_else(|| self.disk.store(), |own| own as &dyn Store)
    }

    /// Calls `write`, and once more if the file system had no room and some could be made. An own file, and
    /// the target of an export, are probably in the same one as the pool's file.
    pub(crate) fn with_room<R>(self, write: impl Fn() -> io::Result<R>) -> io::Result<R> {
        let ended = self.disk.steps_ended();
        match write() {
            Err(full)
                if matches!(full.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
                    && self.disk.make_room(ended) =>
            {
                drop_quietly(full);
                write()
            }
            result => result,
        }
    }
}

/// Of transfers. Slots are freed, and never discarded or cut by themselves.
impl Store for Backing<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.store().read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.with_room(|| self.store().write_at(offset, data))
    }

    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.with_room(|| self.store().write_vectored_at(offset, parts))
    }

    fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        self.store().copy_to_file(offset, len, file, at)
    }

    fn copy_from_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        self.with_room(|| self.store().copy_from_file(offset, len, file, at))
    }
}
