//! Where a buffer's slots are: in the pool's store, or in a file of the buffer's own.
//!
//! Held by: `tests/tests/hand_over.rs`, `tests/tests/spill_model.rs`.

use crate::disk::own_file::OwnFile;
use crate::disk::quota::Ticket;
use crate::disk::slots::Slot;
use crate::disk::slotted_store::SlottedStore;
use crate::disk::store::Store;
use crate::error::SpillError;

#[derive(Clone, Copy)]
pub(crate) struct Backing<'a> {
    /// The pool's store.
    pub(crate) disk: &'a SlottedStore,
    /// The buffer's own file, which is used instead if there is one.
    pub(crate) own: Option<&'a OwnFile>,
}

impl<'a> Backing<'a> {
    /// The length in bytes of the slot for `bytes` of a page.
    pub(crate) fn slot_bytes(self, bytes: usize) -> u64 {
        self.own.map_or_else(|| self.disk.slot_bytes(bytes), OwnFile::slot_bytes)
    }

    /// Allocates a slot for `bytes` of page `index`. Uses the bytes that `ticket` was granted before any
    /// others.
    pub(crate) fn allocate(
        self,
        index: u64,
        bytes: usize,
        ticket: Option<&Ticket>,
    ) -> Result<Slot, SpillError> {
        match self.own {
            Some(own) => own.allocate(index, ticket),
            None => self.disk.allocate(bytes, ticket),
        }
    }

    /// Allocates a slot of a whole page for page `index`, if the one at `offset` is available.
    pub(crate) fn allocate_at(self, index: u64, offset: u64) -> Option<Slot> {
        match self.own {
            Some(own) => own.allocate(index, None).ok(), // at the page's own place, which is `offset`
            None => self.disk.allocate_at(offset),
        }
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

    pub(crate) fn store(self) -> &'a dyn Store {
        self.own.map_or_else(|| self.disk.store(), |own| own as &dyn Store)
    }
}
