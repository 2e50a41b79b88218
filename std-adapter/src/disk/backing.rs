//! Where a buffer's slots are: in the pool's store, or in a file of its own.

use crate::disk::own_file::OwnFile;
use crate::disk::quota::Place;
use crate::disk::slots::Slot;
use crate::disk::slotted_store::Disk;
use crate::disk::store::Store;
use crate::error::SpillError;

#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) own: Option<&'a OwnFile>,
}

impl<'a> Home<'a> {
    /// The length of the slot that `bytes` of a page need.
    pub(crate) fn slot_bytes(self, bytes: usize) -> u64 {
        self.own.map_or_else(|| self.disk.slot_bytes(bytes), OwnFile::slot_bytes)
    }

    /// A slot for `bytes` of page `index`, paid for with what `place` was granted first.
    pub(crate) fn take(self, index: u64, bytes: usize, place: Option<&Place>) -> Result<Slot, SpillError> {
        match self.own {
            Some(own) => own.take(index, place),
            None => self.disk.take(bytes, place),
        }
    }

    /// A slot as long as a page for page `index`, if the one at `offset` can be had.
    pub(crate) fn take_at(self, index: u64, offset: u64) -> Option<Slot> {
        match self.own {
            Some(own) => own.take(index, None).ok(), // where page `index` is, and so at `offset`
            None => self.disk.take_at(offset),
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
