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
//!   give them back, each at most [`STEP`] bytes; so does [`trim`](SlottedStore::trim), all of them; and so
//!   does a write that finds no room in the store, before it fails.
//! - A thread that may not call a store now allocates no slot, and leaves what it frees to later calls.
//! - Discarding is a refinement: what cannot be discarded stays and is used again. An error of the moment
//!   ends one attempt, and only one that says "never" ends them all.
//!
//! Held by: `tests/tests/leftovers.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults/`,
//! `tests/tests/pool_stress.rs`.

use crate::disk::catch_unwind::CatchUnwind;
use crate::disk::quota::{Quota, Ticket};
use crate::disk::slots::{Discarding, Fit, NoSlot, Slot, Slots, slot_bytes};
use crate::disk::store::Store;
use crate::disk::store_access;
use crate::error::{SpillError, StoreOperation};
use crate::foreign::contained;
use crate::sync::fork::{Forked, Lock};
use crate::sync::{Arc, AtomicU64, Condvar, MutexGuard, Ordering};
use std::io;

/// Bytes of free slots that stay warm, because writing to blocks that are still there costs a fifth of
/// writing to fresh ones. When more have come together, all of them go back to the file system, a [`STEP`]
/// with each call that frees. When the last slot is freed, all go back too, unless the file was never longer
/// than this: then one small body after another uses the same blocks.
pub(crate) const WARM_MAX: u64 = 1 << 20;

/// Bytes of blocks that one call gives back to the file system, rounded up to a page, unless the disk limit
/// needs more: ext4 frees a gigabyte in 70 ms from the end of a file, and in 200 ms from its middle.
pub(crate) const STEP: u64 = 2 << 20;

/// A buffer's first page that begins to grow in the store gets a slot this many times as long as what
/// it had in memory, a page at most. If it grows further, it moves once more. Small bodies then lie
/// close to each other.
const GROWTH: usize = 16;

#[derive(Debug)]
pub(crate) struct SlottedStore {
    store: CatchUnwind,
    quota: Arc<Quota>,
    page_size: usize,
    state: Lock<State>,
    /// Signalled when `shrinking` ends.
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
    /// The furthest end of the slots since `in_use` was last 0.
    end_max: u64,
    /// The file is being cut, so no slot may be allocated.
    shrinking: bool,
    /// A step was due meanwhile.
    put_off: bool,
    /// Steps under way.
    steps: usize,
    /// Steps until discarding is tried: 0 unless the last attempt has failed. `None` if the store has said
    /// that it never can, until [`trim_again`](SlottedStore::trim_again).
    until_discard: Option<u64>,
}

/// Blocks on their way back to the file system.
#[derive(Debug)]
struct Step {
    /// Where to cut the file.
    cut: Option<u64>,
    discarding: Discarding,
}

impl State {
    fn count_allocated(&mut self) {
        self.in_use += 1;
        self.end_max = self.end_max.max(self.slots.end());
    }

    /// What is to be discarded now, of `bytes_max` bytes.
    fn start_discard(&mut self, bytes_max: u64) -> Discarding {
        match &mut self.until_discard {
            Some(0) => return self.slots.start_discard(bytes_max),
            Some(steps) => *steps -= 1,
            None => {}
        }
        Discarding::default()
    }

    /// Takes out up to `bytes_max` bytes of warm slots, rounded up to a page: from the end first. To be
    /// [carried out](SlottedStore::carry_out) without the lock. `None` if there is nothing to do, the file is being cut,
    /// or this thread may not call the store.
    fn start_step(&mut self, bytes_max: u64) -> Option<Step> {
        if self.shrinking || store_access::is_resident_only() {
            return None;
        }
        let warm = self.slots.warm_bytes();
        let cut = self.slots.cut_free_tail(bytes_max);
        let left = bytes_max.saturating_sub(warm - self.slots.warm_bytes());
        let discarding = self.start_discard(left);
        if cut.is_none() && discarding.is_empty() {
            return None;
        }
        self.shrinking = cut.is_some();
        self.steps += 1;
        Some(Step { cut, discarding })
    }

    /// A step, if more has come together than is kept.
    fn start_step_if_due(&mut self, limit: u64) -> Option<Step> {
        let was_long = self.in_use == 0 && self.end_max > WARM_MAX;
        let keep = if was_long { 0 } else { WARM_MAX.min(limit) };
        let is_due = self.slots.warm_bytes() > keep;
        let step = if is_due { self.start_step(STEP) } else { None };
        self.put_off = is_due && self.shrinking && step.is_none();
        // What could not be begun now is due still.
        if self.in_use == 0 && (step.is_some() || !is_due) {
            self.end_max = 0;
        }
        step
    }

    /// As many steps pass after an attempt that has failed as it had pages, so that attempts are
    /// rare while each fails.
    fn finish_discard(&mut self, discarding: Discarding, result: &io::Result<()>, page: u64) {
        match result {
            Ok(()) => {}
            Err(error) if is_never(error) => self.until_discard = None,
            Err(_) => self.until_discard = Some((discarding.bytes() / page).max(1)),
        }
        self.slots.finish_discard(discarding, result.is_ok());
    }
}

impl State {
    /// For a forked process: no thread of its parent ends a step here. What it was giving back is used no
    /// more.
    fn adopt(&mut self) {
        self.shrinking = false;
        self.steps = 0;
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
            put_off: false,
            steps: 0,
            until_discard: Some(0),
        };
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

    /// Changes the disk limit in bytes, and gives the blocks of free slots back to the file system.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.quota.set_limit(bytes);
        self.trim();
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
                    NoSlot::End => SpillError::TooLarge { position, requested: charge },
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
        self.state.lock_or_adopt(State::adopt)
    }

    /// The state, once no other thread cuts the file.
    fn lock_uncut(&self) -> Result<MutexGuard<'_, State>, Forked> {
        let mut state = self.state()?;
        while state.shrinking {
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
        if state.shrinking {
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

    /// Gives the blocks of a step back, with nothing locked; and those of one more, if that was put off while
    /// the file was cut.
    fn carry_out(&self, step: Option<Step>) {
        let Some(step) = step else { return };
        self.give_back_step(step);
        let limit = self.quota.limit();
        let put_off = self.state().map(|mut state| {
            if !state.shrinking && std::mem::take(&mut state.put_off) {
                state.start_step_if_due(limit)
            } else {
                None
            }
        });
        if let Ok(Some(step)) = put_off {
            self.give_back_step(step);
        }
    }

    fn give_back_step(&self, Step { cut, discarding }: Step) {
        if let Some(end) = cut {
            // If this fails, the file stays long. That costs room but no byte: slots past `end` are written
            // again before they are read.
            // The error is foreign, and its drop may panic.
            let _ = contained(|| drop(self.store.set_len(end)));
            let _ = self.state().map(|mut state| state.shrinking = false);
            self.cut.notify_all();
        }
        let discarded: io::Result<()> =
            discarding.extents().try_for_each(|(offset, len)| self.store.discard(offset, len));
        if let Ok(mut state) = self.state() {
            state.finish_discard(discarding, &discarded, self.page_size as u64);
            state.steps = state.steps.saturating_sub(1);
            self.steps_ended.fetch_add(1, Ordering::Release);
        }
        self.stepped.notify_all();
        // The error is foreign, and its drop may panic.
        let _ = contained(|| drop(discarded));
    }

    /// How many steps have ended, for [`make_room`](SlottedStore::make_room).
    pub(crate) fn steps_ended(&self) -> u64 {
        self.steps_ended.load(Ordering::Acquire)
    }

    /// For a write that the store has no room for: gives the blocks of all free slots back, and waits until as
    /// many steps have ended as other threads have under way. Returns whether a step has ended since there were `ended` of them, which is
    /// before the write: then it is worth another attempt.
    pub(crate) fn make_room(&self, ended: u64) -> bool {
        let step = {
            let Ok(mut state) = self.lock_uncut() else { return false };
            state.until_discard = state.until_discard.map(|_| 0);
            state.start_step(u64::MAX)
        };
        self.carry_out(step);
        let Ok(mut state) = self.state() else { return false };
        // Not for those that begin meanwhile: threads that go on freeing have one under way at any time.
        let until = self.steps_ended() + state.steps as u64;
        while state.steps > 0 && self.steps_ended() < until {
            state = self.stepped.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.steps_ended() > ended
    }

    /// As [`trim`](SlottedStore::trim), but tries to discard even if that has failed before.
    pub(crate) fn trim_again(&self) {
        let _ = self.state().map(|mut state| state.until_discard = Some(0));
        self.trim();
    }

    /// The store, for whole [transfers](crate::disk::transfer).
    pub(crate) fn store(&self) -> &dyn Store {
        &self.store
    }
}

/// Whether a store that fails to discard with `error` always will: the platform, the file system or a
/// sandbox has or allows no such call. What else it may say is of a moment or a place: a disk that is
/// busy, full or broken.
fn is_never(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), Unsupported | PermissionDenied | InvalidInput)
}
