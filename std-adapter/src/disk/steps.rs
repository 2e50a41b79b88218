//! Blocks of free slots on their way back to the file system, a step at a time: when a step is due, and what
//! is under way. Bookkeeping only: the calls of the store are [`SlottedStore`]'s, with nothing locked.
//!
//! # A step
//!
//! | | what | by |
//! |---|---|---|
//! | due | more is warm than is kept; or the disk limit, a full store or a trim asks for it | [`Steps::start_if_due`], [`Steps::start`] |
//! | put off | it was due while the file was cut; it follows the cut | [`Steps::start_if_due`], [`Steps::start_put_off`] |
//! | under way, cutting | the file gets shorter: no slot is allocated, and no other step begins | [`Steps::end_cut`] |
//! | under way | its blocks are discarded, beside other steps and all else | [`Steps::end`] |
//! | ended | what was discarded has no blocks; what was not is warm as before | |
//!
//! [`SlottedStore`]: crate::disk::slotted_store::SlottedStore
//!
//! Held by: `tests/tests/leftovers.rs`, `tests/tests/large_drops.rs`, `tests/tests/given_back_together.rs`,
//! `tests/tests/spill_faults/`.

use crate::disk::slots::{Discarding, Slots};
use crate::disk::store_access;
use std::io;

/// Bytes of free slots that stay warm, because writing to blocks that are still there costs a fifth of
/// writing to fresh ones. When more have come together, all of them go back to the file system, a [`STEP`]
/// with each call that frees. When the last slot is freed, all go back too, unless the file was never longer
/// than this: then one small body after another uses the same blocks.
pub(crate) const WARM_MAX: u64 = 1 << 20;

/// Bytes of blocks that a step gives back to the file system, rounded up to a page, unless the disk limit
/// needs more: ext4 frees a gigabyte in 70 ms from the end of a file, and in 200 ms from its middle.
pub(crate) const STEP: u64 = 2 << 20;

/// The steps of one store.
#[derive(Debug)]
pub(crate) struct Steps {
    /// The furthest end of the slots since none was in use: 0 again then, unless a step is due that could not
    /// be begun.
    end_max: u64,
    /// The file is being cut.
    is_cutting: bool,
    /// A step was due meanwhile.
    is_put_off: bool,
    /// How many are under way, by the phase in which they began.
    under_way: [usize; 2],
    /// Of the steps that begin now: 0 or 1.
    phase: usize,
    /// Steps until discarding is tried: 0 unless the last attempt has failed. `None` if the store has said
    /// that it never can, until it is [tried again](Steps::try_discard_again).
    until_discard: Option<u64>,
}

/// Blocks on their way back to the file system.
#[derive(Debug)]
pub(crate) struct Step {
    /// Where to cut the file.
    pub(crate) cut: Option<u64>,
    pub(crate) discarding: Discarding,
    phase: usize,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Steps {
            end_max: 0,
            is_cutting: false,
            is_put_off: false,
            under_way: [0; 2],
            phase: 0,
            until_discard: Some(0),
        }
    }

    /// Notes where the slots end, after one was allocated.
    pub(crate) fn note_end(&mut self, end: u64) {
        self.end_max = self.end_max.max(end);
    }

    /// Whether the file is being cut, so that no slot may be allocated.
    pub(crate) fn is_cutting(&self) -> bool {
        self.is_cutting
    }

    /// Begins another phase, and returns the one before, so that a caller can wait for the steps begun so far
    /// and not for later ones. Two counters serve by turns: `None` while the next still counts steps.
    pub(crate) fn begin_phase(&mut self) -> Option<usize> {
        let (before, next) = (self.phase, 1 - self.phase);
        if self.is_under_way(next) {
            return None;
        }
        self.phase = next;
        Some(before)
    }

    /// Whether a step that began in the phase is under way.
    pub(crate) fn is_under_way(&self, phase: usize) -> bool {
        self.under_way[phase] > 0
    }

    /// Takes out up to `bytes_max` bytes of warm slots, rounded up to a page: from the end first. `None` if
    /// there is nothing to do, the file is being cut, or this thread may not call the store.
    pub(crate) fn start(&mut self, slots: &mut Slots, bytes_max: u64) -> Option<Step> {
        if self.is_cutting || store_access::is_resident_only() {
            return None;
        }
        let warm = slots.warm_bytes();
        let cut = slots.cut_free_tail(bytes_max);
        let left = bytes_max.saturating_sub(warm - slots.warm_bytes());
        let discarding = self.start_discard(slots, left);
        if cut.is_none() && discarding.is_empty() {
            return None;
        }
        self.is_cutting = cut.is_some();
        self.under_way[self.phase] += 1;
        Some(Step { cut, discarding, phase: self.phase })
    }

    /// What is to be discarded now, of `bytes_max` bytes.
    fn start_discard(&mut self, slots: &mut Slots, bytes_max: u64) -> Discarding {
        match &mut self.until_discard {
            Some(0) => return slots.start_discard(bytes_max),
            Some(steps) => *steps -= 1,
            None => {}
        }
        Discarding::default()
    }

    /// A step, if more is warm than is kept below a disk limit of `limit` bytes. `is_empty` says that no slot
    /// is in use.
    pub(crate) fn start_if_due(&mut self, slots: &mut Slots, is_empty: bool, limit: u64) -> Option<Step> {
        let was_long = is_empty && self.end_max > WARM_MAX;
        let keep = if was_long { 0 } else { WARM_MAX.min(limit) };
        let is_due = slots.warm_bytes() > keep;
        let step = if is_due { self.start(slots, STEP) } else { None };
        self.is_put_off = is_due && step.is_none() && (self.is_cutting || self.is_put_off);
        // What could not be begun now is due still.
        if is_empty && (step.is_some() || !is_due) {
            self.end_max = 0;
        }
        step
    }

    /// As [`start_if_due`](Steps::start_if_due), if a step was put off and the file is not cut any more.
    pub(crate) fn start_put_off(&mut self, slots: &mut Slots, is_empty: bool, limit: u64) -> Option<Step> {
        if self.is_cutting || !std::mem::take(&mut self.is_put_off) {
            return None;
        }
        self.start_if_due(slots, is_empty, limit)
    }

    pub(crate) fn end_cut(&mut self) {
        self.is_cutting = false;
    }

    /// Ends a step, of which what was to be discarded had `result`. As many steps pass after an attempt to
    /// discard that has failed as it had pages of `page` bytes, so that attempts are rare while each fails.
    pub(crate) fn end(
        &mut self,
        slots: &mut Slots,
        Step { discarding, phase, .. }: Step,
        result: &io::Result<()>,
        page: u64,
    ) {
        match result {
            Ok(()) => {}
            Err(error) if is_never(error) => self.until_discard = None,
            Err(_) => self.until_discard = Some((discarding.bytes() / page).max(1)),
        }
        slots.finish_discard(discarding, result.is_ok());
        self.under_way[phase] = self.under_way[phase].saturating_sub(1);
    }

    /// Lets the next step discard, even if that has failed before; but if the store never can, only
    /// `even_if_never`.
    pub(crate) fn try_discard_again(&mut self, even_if_never: bool) {
        if even_if_never || self.until_discard.is_some() {
            self.until_discard = Some(0);
        }
    }

    /// For a forked process: no thread of its parent ends a step here. What it was giving back is used no
    /// more.
    pub(crate) fn adopt(&mut self) {
        (self.is_cutting, self.is_put_off) = (false, false);
        self.under_way = [0; 2];
    }
}

/// Whether a store that fails to discard with `error` always will: the platform, the file system or a
/// sandbox has or allows no such call. What else it may say is of a moment or a place: a disk that is
/// busy, full or broken.
fn is_never(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), Unsupported | PermissionDenied | InvalidInput)
}
