//! The store, its slots and its limit together.
//!
//! Promises:
//!
//! - I6: slots in use never pass the limit; it is checked before a slot is taken.
//! - I5: no lock is held while the store works.

use crate::disk::catch_unwind::CatchUnwind;
use crate::disk::quota::{Quota, Ticket};
use crate::disk::slots::{Discarding, Slot, Slots, slot_bytes};
use crate::disk::store::Store;
use crate::error::SpillError;
use crate::sync::{Arc, Condvar, Mutex, lock};
use std::io;

/// Bytes of freed file that are kept, because writing to blocks that are still there costs a
/// fifth of writing to fresh ones; what is freed past that goes back to the file system. When the last
/// slot is freed, all does, unless the file was never longer: then one small body after another uses
/// the same blocks.
pub(crate) const WARM_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct SlottedStore {
    store: CatchUnwind,
    quota: Arc<Quota>,
    page_size: usize,
    state: Mutex<State>,
    /// Signalled when `shrinking` ends.
    cut: Condvar,
}

#[derive(Debug)]
struct State {
    slots: Slots,
    /// Slots that are taken.
    in_use: u64,
    /// The end of the slots at its furthest, since none was in use.
    reached: u64,
    /// The file is being cut to a length: nobody may take a slot past it meanwhile.
    shrinking: bool,
    /// The store gave blocks in the middle back whenever it was asked.
    can_discard: bool,
}

impl State {
    fn count_taken(&mut self) {
        self.in_use += 1;
        self.reached = self.reached.max(self.slots.end());
    }
}

impl SlottedStore {
    pub(crate) fn new(store: Box<dyn Store>, quota: Arc<Quota>, page_size: usize) -> Self {
        let store = CatchUnwind(store);
        let state = State {
            slots: Slots::new(page_size),
            in_use: 0,
            reached: 0,
            shrinking: false,
            can_discard: true,
        };
        SlottedStore { store, quota, page_size, state: Mutex::new(state), cut: Condvar::new() }
    }

    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.quota.set_limit(bytes);
        self.trim();
    }

    /// The length of the slot that `bytes` of a page need.
    pub(crate) fn slot_bytes(&self, bytes: usize) -> u64 {
        slot_bytes(bytes, self.page_size as u64)
    }

    /// A slot that holds `bytes` of a page, paid for with what `ticket` was granted first.
    pub(crate) fn allocate(&self, bytes: usize, ticket: Option<&Ticket>) -> Result<Slot, SpillError> {
        let mut state = lock(&self.state);
        while state.shrinking {
            state = self.cut.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        let len = state.slots.class(bytes);
        self.quota.reserve_for_slot(len, ticket)?;
        let slot = state.slots.allocate(len).ok_or_else(|| {
            self.quota.release(len);
            SpillError::TooLarge { position: state.slots.end(), requested: len }
        })?;
        let warm = state.slots.warm_bytes();
        state.count_taken();
        drop(state);
        self.trim_for_quota(warm);
        Ok(slot)
    }

    /// I6: freed blocks that a slot just taken could not use must not add up with it to more than the
    /// limit.
    fn trim_for_quota(&self, warm: u64) {
        if warm > 0 && self.quota.used().saturating_add(warm) > self.quota.limit() {
            self.trim();
        }
    }

    /// Gives a slot back, and its blocks to the file system if enough has come together.
    pub(crate) fn free(&self, slot: Slot) {
        let (warm, keep) = {
            let mut state = lock(&self.state);
            state.slots.free(slot);
            state.in_use -= 1;
            let is_done = state.in_use == 0 && std::mem::take(&mut state.reached) > WARM_MAX;
            (state.slots.warm_bytes(), if is_done { 0 } else { WARM_MAX })
        };
        self.quota.release(slot.len());
        if warm > keep.min(self.quota.limit()) {
            self.trim();
        }
    }

    /// A slot as long as a page, if the one at `offset` can be had.
    pub(crate) fn allocate_at(&self, offset: u64) -> Option<Slot> {
        let mut state = lock(&self.state);
        if state.shrinking {
            return None;
        }
        let slot = state.slots.allocate_at(offset)?;
        if self.quota.reserve(slot.len(), None).is_err() {
            state.slots.free(slot);
            return None;
        }
        let warm = state.slots.warm_bytes();
        state.count_taken();
        drop(state);
        self.trim_for_quota(warm);
        Some(slot)
    }

    /// Gives the blocks of all freed slots back to the file system: off the end first, and then out of
    /// the middle. What the store refuses to give back stays usable for further slots.
    pub(crate) fn trim(&self) {
        let (cut, discarding) = {
            let mut state = lock(&self.state);
            if state.shrinking {
                return;
            }
            let cut = state.slots.cut_free_tail();
            state.shrinking = cut.is_some();
            (cut, if state.can_discard { state.slots.start_discard() } else { Discarding::default() })
        };
        if let Some(end) = cut {
            // If it fails the file stays long, which costs room but harms nobody: the slots past
            // `end` will be written again before they are read.
            let _ = self.store.set_len(end);
            lock(&self.state).shrinking = false;
            self.cut.notify_all();
        }
        let freed: io::Result<()> =
            discarding.extents.iter().try_for_each(|&(offset, len)| self.store.discard(offset, len));
        let mut state = lock(&self.state);
        state.can_discard &= freed.is_ok();
        state.slots.finish_discard(discarding, freed.is_ok());
    }

    /// As [`trim`](SlottedStore::trim), even if the store refused before.
    pub(crate) fn trim_again(&self) {
        lock(&self.state).can_discard = true;
        self.trim();
    }

    /// The store, for [`transfer`](crate::disk::transfer).
    pub(crate) fn store(&self) -> &dyn Store {
        &self.store
    }
}
