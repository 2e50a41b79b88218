//! A store, its slots and its disk limit together.
//!
//! Promises:
//!
//! - I6: slots in use never pass the limit, which is checked before a slot is allocated. If slots in use and
//!   free blocks that the file system still has add up to more than the limit, the free blocks go back.
//! - I5: no lock is held while the store works.
//! - The file does not grow while it is being cut.
//! - Discarding is a refinement: what cannot be discarded stays and is used again. An error of the moment ends one attempt, and only
//!   one that says "never" ends them all.
//!
//! Held by: `tests/tests/leftovers.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults/`,
//! `tests/tests/pool_stress.rs`.

use crate::disk::catch_unwind::CatchUnwind;
use crate::disk::quota::{Quota, Ticket};
use crate::disk::slots::{Discarding, Slot, Slots, slot_bytes};
use crate::disk::store::Store;
use crate::error::SpillError;
use crate::foreign::contained;
use crate::sync::{Arc, Condvar, Mutex, lock};
use std::io;

/// Bytes of free slots that stay warm, because writing to blocks that are still there costs a fifth of
/// writing to fresh ones. When more have come together, all of them go back to the file system. When the last
/// slot is freed, all go back too, unless the file was never longer than this: then one small body after
/// another uses the same blocks.
pub(crate) const WARM_MAX: u64 = 1 << 20;

/// A buffer's first page that begins to grow in the store gets a slot this many times as long as what it had in memory, a
/// page at most. If it grows further, it moves once more. Small bodies then lie close to each other.
const GROWTH: usize = 16;

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
    /// The number of allocated slots.
    in_use: u64,
    /// The furthest end of the slots since `in_use` was last 0.
    end_max: u64,
    /// The file is being cut, so no slot may be allocated.
    shrinking: bool,
    /// Calls of [`trim`](SlottedStore::trim) until discarding is tried: 0 unless the last attempt has failed. `None` if the store
    /// has said that it never can, until [`trim_again`](SlottedStore::trim_again).
    until_discard: Option<usize>,
}

impl State {
    fn count_allocated(&mut self) {
        self.in_use += 1;
        self.end_max = self.end_max.max(self.slots.end());
    }

    /// What is to be discarded now.
    fn start_discard(&mut self) -> Discarding {
        match &mut self.until_discard {
            Some(0) => return self.slots.start_discard(),
            Some(calls) => *calls -= 1,
            None => {}
        }
        Discarding::default()
    }

    /// An attempt costs as much as there are free slots, so that as many calls pass after one that has failed.
    fn finish_discard(&mut self, discarding: Discarding, result: &io::Result<()>) {
        match result {
            Ok(()) => {}
            Err(error) if is_never(error) => self.until_discard = None,
            Err(_) => self.until_discard = Some(discarding.slots()),
        }
        self.slots.finish_discard(discarding, result.is_ok());
    }
}

impl SlottedStore {
    pub(crate) fn new(store: Box<dyn Store>, quota: Arc<Quota>, page_size: usize) -> Self {
        let store = CatchUnwind(store);
        let state = State {
            slots: Slots::new(page_size),
            in_use: 0,
            end_max: 0,
            shrinking: false,
            until_discard: Some(0),
        };
        SlottedStore { store, quota, page_size, state: Mutex::new(state), cut: Condvar::new() }
    }

    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// Bytes of free slots whose blocks the store still has.
    pub(crate) fn recycled_bytes(&self) -> u64 {
        lock(&self.state).slots.warm_bytes()
    }

    /// Changes the disk limit in bytes, and gives the blocks of free slots back to the file system.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.quota.set_limit(bytes);
        self.trim();
    }

    /// The length of the slot for `bytes` of a page.
    pub(crate) fn slot_bytes(&self, bytes: usize) -> u64 {
        slot_bytes(bytes, self.page_size as u64)
    }

    /// Allocates a slot for `bytes` of a page. Uses the bytes that `ticket` was granted before any others.
    /// Waits while another thread cuts the file.
    pub(crate) fn allocate(&self, bytes: usize, ticket: Option<&Ticket>) -> Result<Slot, SpillError> {
        let len = self.slot_bytes(bytes);
        self.allocate_with(len, ticket, |slots| slots.allocate(len))
    }

    /// The length of a slot for page `index`, of which `bytes` are to be written there first, and which may grow.
    pub(crate) fn place_to_grow(&self, index: u64, bytes: usize) -> usize {
        if index > 0 { self.page_size } else { bytes.saturating_mul(GROWTH).clamp(1, self.page_size) }
    }

    /// Allocates a slot in which a page can grow to `room` bytes. Nothing of it is charged yet, unless it is warm: then
    /// its blocks are there, and all of it is. `may_be_warm` allows that.
    pub(crate) fn allocate_growing(&self, room: usize, may_be_warm: bool) -> Result<Slot, SpillError> {
        self.allocate_with(0, None, |slots| {
            let len = slots.class(room);
            let before = slots.warm_bytes();
            let found = if may_be_warm { slots.allocate(len) } else { slots.allocate_without_blocks(len) };
            let slot = found.filter(|_| slots.warm_bytes() < before);
            match slot {
                Some(warm) if self.quota.reserve(len, None).is_ok() => Some(warm),
                Some(warm) => {
                    slots.free(warm);
                    slots.allocate_without_blocks(len).map(|slot| slot.with_charge(0))
                }
                None => found.map(|slot| slot.with_charge(0)),
            }
        })
    }

    /// Charges a slot as far as its first `end` bytes need, before they are written. Uses the bytes that `ticket` was
    /// granted before any others.
    pub(crate) fn charge_to(
        &self,
        slot: Slot,
        end: usize,
        ticket: Option<&Ticket>,
    ) -> Result<Slot, SpillError> {
        let charge = slot.charge_for(end);
        if charge == slot.charged() {
            return Ok(slot);
        }
        self.quota.reserve_for_slot(charge - slot.charged(), ticket)?;
        // A look without the lock: there is seldom more that is warm.
        if self.quota.used().saturating_add(WARM_MAX) > self.quota.limit() {
            self.trim_for_quota(self.recycled_bytes());
        }
        Ok(slot.with_charge(charge))
    }

    /// Reserves `charge` bytes, and allocates a slot by `allocate`.
    fn allocate_with(
        &self,
        charge: u64,
        ticket: Option<&Ticket>,
        allocate: impl FnOnce(&mut Slots) -> Option<Slot>,
    ) -> Result<Slot, SpillError> {
        let mut state = lock(&self.state);
        while state.shrinking {
            state = self.cut.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.quota.reserve_for_slot(charge, ticket)?;
        let Some(slot) = allocate(&mut state.slots) else {
            let position = state.slots.end();
            drop(state);
            self.quota.release(charge);
            return Err(SpillError::TooLarge { position, requested: charge });
        };
        let warm = state.slots.warm_bytes();
        state.count_allocated();
        drop(state);
        self.trim_for_quota(warm);
        Ok(slot)
    }

    /// I6: keeps the sum of used bytes and warm bytes within the limit. A new slot may be unable to use the
    /// warm ones.
    fn trim_for_quota(&self, warm: u64) {
        if warm > 0 && self.quota.used().saturating_add(warm) > self.quota.limit() {
            self.trim();
        }
    }

    /// Frees a slot, and wakes nobody. If enough free blocks have come together, they go back to the file system.
    pub(crate) fn free_quietly(&self, slot: Slot) {
        let (warm, keep) = {
            let mut state = lock(&self.state);
            state.slots.free(slot);
            state.in_use -= 1;
            let was_long = state.in_use == 0 && std::mem::take(&mut state.end_max) > WARM_MAX;
            (state.slots.warm_bytes(), if was_long { 0 } else { WARM_MAX })
        };
        self.quota.release_quietly(slot.charged());
        if warm > keep.min(self.quota.limit()) {
            self.trim();
        }
    }

    /// Allocates the slot of a whole page at `offset`, if it is available. Does not wait.
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
        state.count_allocated();
        drop(state);
        self.trim_for_quota(warm);
        Some(slot)
    }

    /// Gives the blocks of all free slots back to the file system: cuts them off the end, then discards those
    /// in the middle. If the store refuses, the slots stay warm, and are used again; see [`Store::discard`] for when it is tried
    /// again.
    pub(crate) fn trim(&self) {
        let (cut, discarding) = {
            let mut state = lock(&self.state);
            if state.shrinking {
                return;
            }
            let cut = state.slots.cut_free_tail();
            state.shrinking = cut.is_some();
            (cut, state.start_discard())
        };
        if let Some(end) = cut {
            // If this fails, the file stays long. That costs room but no byte: slots past `end` are written
            // again before they are read.
            // The error is foreign, and its drop may panic.
            let _ = contained(|| drop(self.store.set_len(end)));
            lock(&self.state).shrinking = false;
            self.cut.notify_all();
        }
        let discarded: io::Result<()> =
            discarding.extents.iter().try_for_each(|&(offset, len)| self.store.discard(offset, len));
        lock(&self.state).finish_discard(discarding, &discarded);
        // The error is foreign, and its drop may panic.
        let _ = contained(|| drop(discarded));
    }

    /// As [`trim`](SlottedStore::trim), but tries to discard even if that has failed before.
    pub(crate) fn trim_again(&self) {
        lock(&self.state).until_discard = Some(0);
        self.trim();
    }

    /// The store, for whole [transfers](crate::disk::transfer).
    pub(crate) fn store(&self) -> &dyn Store {
        &self.store
    }
}

/// Whether a store that fails to discard with `error` always will: the platform, the file system or a sandbox has or allows no such
/// call. What else it may say is of a moment or a place: a disk that is busy, full or broken.
fn is_never(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), Unsupported | PermissionDenied | InvalidInput)
}
