//! Where a buffer's slots are: in the pool's store, or in a file of its own.

use crate::disk::own_file::OwnFile;
use crate::disk::quota::Ticket;
use crate::disk::slots::Slot;
use crate::disk::slotted_store::SlottedStore;
use crate::disk::store::Store;
use crate::error::SpillError;

#[derive(Clone, Copy)]
pub(crate) struct Backing<'a> {
    pub(crate) disk: &'a SlottedStore,
    pub(crate) own: Option<&'a OwnFile>,
}

impl<'a> Backing<'a> {
    /// The length of the slot that `bytes` of a page need.
    pub(crate) fn slot_bytes(self, bytes: usize) -> u64 {
        self.own.map_or_else(|| self.disk.slot_bytes(bytes), OwnFile::slot_bytes)
    }

    /// A slot for `bytes` of page `index`, paid for with what `ticket` was granted first.
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

    /// A slot as long as a page for page `index`, if the one at `offset` can be had.
    pub(crate) fn allocate_at(self, index: u64, offset: u64) -> Option<Slot> {
        match self.own {
            Some(own) => own.allocate(index, None).ok(), // where page `index` is, and so at `offset`
            None => self.disk.allocate_at(offset),
        }
    }

    pub(crate) fn free(self, slot: Slot) {
        match self.own {
            Some(own) => own.free(slot),
            None => self.disk.free(slot),
        }
    }

    pub(crate) fn store(self) -> &'a dyn Store {
        self.own.map_or_else(|| self.disk.store(), |own| own as &dyn Store)
    }
}
