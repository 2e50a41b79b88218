//! A store, its slots and its disk limit together.
//!
//! Promises:
//!
//! - I6: slots in use never pass the limit, which is checked before a slot is allocated. If slots in use and
//!   free blocks that the file system still has add up to more than the limit, the free blocks go back: with
//!   the next slot that is allocated, here or in a buffer's own file, so what is written to slots that are
//!   there may pass it by a page each.
//! - I5: no lock is held while the store works.
//! - The file does not grow while it is being cut: what allocates waits for that.
//! - A call that frees more than [`STEP`] bytes, and more than a page, makes no call of the store, and gives
//!   its room below the limit back at once: the blocks stay warm. The next calls that allocate or free a slot
//!   give them back, a step or two each; so does [`trim`](SlottedStore::trim), all of them; and so
//!   does a write that finds no room in the store, before it fails.
//! - A thread that may not call a store now allocates no slot, and leaves what it frees to later calls.
//! - Discarding is a refinement: what cannot be discarded stays and is used again. An error of the moment
//!   ends one attempt, and only one that says "never" ends them all.
//!
//! Held by: `tests/tests/leftovers.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults/`,
//! `tests/tests/pool_stress.rs`.

use crate::disk::catch_unwind::CatchUnwind;
use crate::disk::quota::{Quota, Ticket};
use crate::disk::slots::{Fit, NoSlot, Slot, Slots, slot_bytes};
use crate::disk::steps::{STEP, Step, Steps, WARM_MAX};
use crate::disk::store::Store;
use crate::disk::store_access;
use crate::error::{SpillError, StoreOperation};
use crate::foreign::drop_quietly;
use crate::sync::fork::{Forked, Lock};
use crate::sync::{Arc, AtomicU64, Condvar, MutexGuard, Ordering};
use std::io;

/// A buffer's first page that begins to grow in the store gets a slot this many times as long as what
/// it had in memory, a page at most. If it grows further, it moves once more. Small bodies then lie
/// close to each other.
const GROWTH: usize = 16;

/// Steps that one call carries out for others, which were put off. Each takes a fraction of a millisecond.
const PUT_OFF_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct SlottedStore {
    store: CatchUnwind,
    quota: Arc<Quota>,
    page_size: usize,
    state: Lock<State>,
    /// Signalled when a cut ends.
    cut: Condvar,
    /// Signalled when a step ends.
    stepped: Condvar,
    /// Counted with the state locked, and read without.
    steps_ended: AtomicU64,
}

#[derive(Debug)]
struct State {
    slots: Slots,
    /// The number of allocated slots.
    in_use: u64,
    steps: Steps,
}

impl State {
    fn count_allocated(&mut self) {
        self.in_use += 1;
        self.steps.note_end(self.slots.end());
    }

    /// See [`Steps::start`].
    fn start_step(&mut self, bytes_max: u64) -> Option<Step> {
        self.steps.start(&mut self.slots, bytes_max)
    }

    /// See [`Steps::start_if_due`].
    fn start_step_if_due(&mut self, limit: u64) -> Option<Step> {
        self.steps.start_if_due(&mut self.slots, self.in_use == 0, limit)
    }
}

impl SlottedStore {
    pub(crate) fn new(store: Box<dyn Store>, quota: Arc<Quota>, page_size: usize) -> Self {
        let store = CatchUnwind(store);
        let state = State { slots: Slots::new(page_size), in_use: 0, steps: Steps::new() };
        SlottedStore {
            store,
            quota,
            page_size,
            state: Lock::new(state),
            cut: Condvar::new(),
            stepped: Condvar::new(),
            steps_ended: AtomicU64::new(0),
        }
    }

    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// Bytes of free slots whose blocks the store still has.
    pub(crate) fn recycled_bytes(&self) -> u64 {
        self.state().map_or(0, |state| state.slots.warm_bytes())
    }

    /// Changes the disk limit in bytes. Gives the blocks of free slots back to the file system as far as a
    /// lower limit needs.
    pub(crate) fn set_limit(&self, bytes: u64) {
        let is_lower = bytes < self.quota.limit();
        self.quota.set_limit(bytes);
        if is_lower {
            self.trim_for_quota(self.recycled_bytes());
        }
    }

    /// The length of the slot for `bytes` of a page.
    pub(crate) fn slot_bytes(&self, bytes: usize, fit: Fit) -> u64 {
        slot_bytes(bytes, self.page_size as u64, fit)
    }

    /// Allocates a slot for `bytes` of a page. Uses the bytes that `ticket` was granted before any others.
    /// Waits while another thread cuts the file.
    pub(crate) fn allocate(
        &self,
        bytes: usize,
        fit: Fit,
        ticket: Option<&Ticket>,
    ) -> Result<Slot, SpillError> {
        let len = self.slot_bytes(bytes, fit);
        store_access::check(StoreOperation::Write, 0, len)?;
        let state = self.lock_uncut()?;
        let charge = state.slots.charge(len);
        self.allocate_with(state, charge, ticket, |slots| slots.allocate(len))
    }

    /// Bytes below the disk limit that no buffer has: the free parts of blocks of which others are in use.
    pub(crate) fn free_parts(&self) -> u64 {
        self.state().map_or(0, |state| state.slots.free_parts())
    }

    /// The length of a slot for page `index`, of which `bytes` are to be written there first, and which may
    /// grow.
    pub(crate) fn growable_len(&self, index: u64, bytes: usize) -> usize {
        if index > 0 { self.page_size } else { bytes.saturating_mul(GROWTH).clamp(1, self.page_size) }
    }

    /// Allocates a slot in which a page can grow to `room` bytes. Nothing of it is charged yet, unless it is
    /// warm: then its blocks are there, and all of it is. `may_be_warm` allows that.
    pub(crate) fn allocate_growable(&self, room: usize, may_be_warm: bool) -> Result<Slot, SpillError> {
        store_access::check(StoreOperation::Write, 0, room as u64)?;
        self.allocate_with(self.lock_uncut()?, 0, None, |slots| {
            let len = slots.class(room, Fit::Blocks);
            let before = slots.warm_bytes();
            let found = if may_be_warm { slots.allocate(len) } else { slots.allocate_without_blocks(len) };
            match found {
                Ok(warm) if slots.warm_bytes() < before => {
                    if self.quota.reserve(len, None).is_ok() {
                        return Ok(warm);
                    }
                    slots.free(warm);
                    slots.allocate_without_blocks(len).map(|slot| slot.with_charge(0))
                }
                found => found.map(|slot| slot.with_charge(0)),
            }
        })
    }

    /// Charges a slot as far as its first `end` bytes need, before they are written. Uses the bytes that
    /// `ticket` was granted before any others.
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
        store_access::check(StoreOperation::Write, slot.offset, charge)?;
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
        mut state: MutexGuard<'_, State>,
        charge: u64,
        ticket: Option<&Ticket>,
        allocate: impl FnOnce(&mut Slots) -> Result<Slot, NoSlot>,
    ) -> Result<Slot, SpillError> {
        self.quota.reserve_for_slot(charge, ticket)?;
        let slot = match allocate(&mut state.slots) {
            Ok(slot) => slot,
            Err(why) => {
                let position = state.slots.end();
                drop(state);
                self.quota.release(charge);
                return Err(match why {
                    NoSlot::End => SpillError::TooLarge { position, requested: charge, end: u64::MAX },
                    NoSlot::Memory => SpillError::OutOfMemory,
                });
            }
        };
        self.end_allocation(state);
        Ok(slot)
    }

    /// Counts a slot that was allocated. Gives some blocks back if many are free, and as many as the limit
    /// needs.
    fn end_allocation(&self, mut state: MutexGuard<'_, State>) {
        state.count_allocated();
        let step = state.start_step_if_due(self.quota.limit());
        let warm = state.slots.warm_bytes();
        drop(state);
        self.carry_out(step);
        self.trim_for_quota(warm);
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Forked> {
        self.state.lock_or_adopt(|state| state.steps.adopt())
    }

    /// The state, once no other thread cuts the file.
    fn lock_uncut(&self) -> Result<MutexGuard<'_, State>, Forked> {
        let mut state = self.state()?;
        while state.steps.is_cutting() {
            state = self.cut.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        Ok(state)
    }

    /// I6: keeps the sum of used bytes and warm bytes within the limit. A new slot may be unable to use the
    /// warm ones.
    fn trim_for_quota(&self, warm: u64) {
        let excess = self.quota.used().saturating_add(warm).saturating_sub(self.quota.limit());
        if warm > 0 && excess > 0 {
            self.give_back(excess.max(STEP));
        }
    }

    /// As after an allocation, for what was reserved for another file.
    pub(crate) fn trim_beside(&self) {
        if self.quota.is_limited() {
            self.trim_for_quota(self.recycled_bytes());
        }
    }

    /// Frees a slot, and wakes nobody. If enough free blocks have come together, some go back to the file
    /// system.
    pub(crate) fn free_quietly(&self, slot: Slot) {
        self.free_all_quietly(&[slot]);
        self.end_freeing(slot.len());
    }

    /// Frees slots, and wakes nobody. Makes no call of the store:
    /// [`end_freeing`](SlottedStore::end_freeing) is to follow.
    pub(crate) fn free_all_quietly(&self, slots: &[Slot]) {
        let free = |mut state: MutexGuard<'_, State>| {
            state.in_use -= slots.len() as u64;
            slots.iter().fold((0, false), |(sum, has_parts), slot| {
                (sum + state.slots.free(*slot), has_parts || state.slots.is_parts(slot.len()))
            })
        };
        let (unused, has_parts) = self.state().map_or((0, false), free);
        self.quota.release_quietly(unused);
        if has_parts {
            self.quota.note_parts_freed();
        }
    }

    /// After `bytes` were freed: if enough free blocks have come together, gives some back to the file
    /// system. Leaves that to the next calls if `bytes` are many.
    pub(crate) fn end_freeing(&self, bytes: u64) {
        if bytes <= STEP.max(self.page_size as u64) {
            let limit = self.quota.limit();
            let step = self.state().map(|mut state| state.start_step_if_due(limit));
            self.carry_out(step.unwrap_or_default());
        }
    }

    /// Allocates the slot of a whole page at `offset`, if it is available. Does not wait.
    pub(crate) fn allocate_at(&self, offset: u64) -> Option<Slot> {
        store_access::check(StoreOperation::Write, offset, self.page_size as u64).ok()?;
        let mut state = self.state().ok()?;
        if state.steps.is_cutting() {
            return None;
        }
        let warm = state.slots.warm_bytes();
        let slot = state.slots.allocate_at(offset)?;
        if self.quota.reserve(slot.len(), None).is_err() {
            let was_warm = state.slots.warm_bytes() < warm;
            state.slots.free(if was_warm { slot } else { slot.with_charge(0) });
            return None;
        }
        self.end_allocation(state);
        Some(slot)
    }

    /// Gives the blocks of all free slots back to the file system: cuts them off the end, then discards those
    /// in the middle. If the store refuses, the slots stay warm, and are used again; see [`Store::discard`]
    /// for when it is tried again.
    pub(crate) fn trim(&self) {
        self.give_back(u64::MAX);
    }

    /// As [`trim`](SlottedStore::trim), with at most `bytes_max` bytes, rounded up to a page. Waits while
    /// another thread cuts the file.
    fn give_back(&self, bytes_max: u64) {
        let step = self.lock_uncut().map(|mut state| state.start_step(bytes_max));
        self.carry_out(step.unwrap_or_default());
    }

    /// Gives the blocks of a step back, with nothing locked; and those of a few more, that were put off while
    /// the file was cut.
    fn carry_out(&self, step: Option<Step>) {
        let mut next = step;
        for _ in 0..PUT_OFF_MAX {
            let Some(step) = next else { return };
            self.give_back_step(step);
            let limit = self.quota.limit();
            let put_off = self.state().map(|mut state| {
                let State { slots, in_use, steps } = &mut *state;
                steps.start_put_off(slots, *in_use == 0, limit)
            });
            next = put_off.unwrap_or_default();
        }
        next.into_iter().for_each(|step| self.give_back_step(step));
    }

    fn give_back_step(&self, step: Step) {
        if let Some(end) = step.cut {
            // If this fails, the file stays long. That costs room but no byte: slots past `end` are written
            // again before they are read.
            drop_quietly(self.store.set_len(end));
            let _ = self.state().map(|mut state| state.steps.end_cut());
            self.cut.notify_all();
        }
        let discarded: io::Result<()> =
            step.discarding.extents().try_for_each(|(offset, len)| self.store.discard(offset, len));
        if let Ok(mut state) = self.state() {
            let State { slots, steps, .. } = &mut *state;
            steps.end(slots, step, &discarded, self.page_size as u64);
            self.steps_ended.fetch_add(1, Ordering::Release);
        }
        self.stepped.notify_all();
        drop_quietly(discarded);
    }

    /// How many steps have ended, for [`make_room`](SlottedStore::make_room).
    pub(crate) fn steps_ended(&self) -> u64 {
        self.steps_ended.load(Ordering::Acquire)
    }

    /// For a write that the store has no room for: gives the blocks of all free slots back, and waits for the
    /// steps that other threads have begun. Returns whether a step has ended since there were `ended` of
    /// them, which is before the write: then it is worth another attempt.
    pub(crate) fn make_room(&self, ended: u64) -> bool {
        let step = {
            let Ok(mut state) = self.lock_uncut() else { return false };
            state.steps.try_discard_again(false);
            state.start_step(u64::MAX)
        };
        self.carry_out(step);
        let Ok(mut state) = self.state() else { return false };
        // Not for those that begin meanwhile: threads that go on freeing have one under way at any time.
        let mut begun = state.steps.begin_phase();
        while begun.is_none_or(|phase| state.steps.is_under_way(phase)) {
            state = self.stepped.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
            begun = begun.or_else(|| state.steps.begin_phase());
        }
        self.steps_ended() > ended
    }

    /// As [`trim`](SlottedStore::trim), but tries to discard even if that has failed before.
    pub(crate) fn trim_again(&self) {
        let _ = self.state().map(|mut state| state.steps.try_discard_again(true));
        self.trim();
    }

    /// The store, for whole [transfers](crate::disk::transfer).
    pub(crate) fn store(&self) -> &dyn Store {
        &self.store
    }
}
