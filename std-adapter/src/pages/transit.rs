//! A page on its way to the store, in the hands of a taker that is not its owner.
//!
//! The taker takes the page out of the table, and leaves a transit in its place, before it writes;
//! so no lock is held while the store works (I5), and the owner can tell what became of the page.
//!
//! # States
//!
//! | state | the bytes are | goes to | by |
//! |---|---|---|---|
//! | underway | in the frame, with the taker | landed | [`Carrier::arrive`] |
//! | | | returned | dropping [`Carrier`]: the write failed, or panicked |
//! | | | abandoned | [`Transit::abandon`]: the owner does not need the page any more |
//! | landed | in a slot | settled | [`Transit::take_outcome`] or [`Transit::abandon`] |
//! | returned | in the frame again | settled | the same |
//! | abandoned | needed by nobody | | what the taker ends with is disposed of by the taker |
//!
//! I1: the bytes are in one place in each state. I3: a page that could not be written comes back. A
//! taker never waits for an owner; an owner waits for what a taker took in one go to be written at the most.
//!
//! While it is in transit, the frame and the slot that it will need count in its buffer's usage. Who
//! ends that state corrects the usage: the taker, unless the owner has abandoned the page. For then
//! the table may be another buffer's already.

use crate::disk::slots::Slot;
use crate::memory::frame::Frame;
use crate::pages::resident::Resident;
use crate::pages::sums::PageSums;
use crate::pages::usage::Usage;
use crate::sync::{Arc, Condvar, Mutex, lock};

#[derive(Debug)]
pub(crate) struct Transit {
    state: Mutex<State>,
    /// Signalled when a transit that is not abandoned ends.
    ended: Condvar,
    /// Bytes of the slot that the page will have, and of the frame that it has.
    pub(crate) slot_bytes: u64,
    pub(crate) frame_bytes: u64,
}

#[derive(Debug)]
enum State {
    Moving,
    Ended(Outcome),
    Abandoned,
    Settled,
}

/// What became of a page that was to leave.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its bytes are in a slot, and have these sums if the pool keeps any.
    Arrived { slot: Slot, valid: usize, sums: Option<PageSums> },
    /// It could not be written.
    Returned(Resident),
}

impl Transit {
    /// A page that is to leave: one half for the table, one for the taker. The account has been
    /// charged for a slot of `slot_bytes`.
    pub(crate) fn start(resident: Resident, slot_bytes: u64) -> (Arc<Transit>, Carrier) {
        let transit = Arc::new(Transit {
            state: Mutex::new(State::Moving),
            ended: Condvar::new(),
            slot_bytes,
            frame_bytes: resident.frame.capacity() as u64,
        });
        (Arc::clone(&transit), Carrier { transit, resident: Some(resident) })
    }

    /// For the owner: waits for the end.
    pub(crate) fn wait(&self) {
        let mut state = lock(&self.state);
        while matches!(*state, State::Moving) {
            state = self.ended.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// What became of the page, if the transit has ended. It is told once.
    pub(crate) fn take_outcome(&self) -> Option<Outcome> {
        let mut state = lock(&self.state);
        (!matches!(*state, State::Moving)).then(|| take(&mut state))
    }

    /// For the owner: the page is not needed any more. If the transit has ended already, the page
    /// is given, to be disposed of; if not, the taker does that.
    pub(crate) fn abandon(&self, usage: &Usage) -> Option<Outcome> {
        let mut state = lock(&self.state);
        if matches!(*state, State::Moving) {
            *state = State::Abandoned;
            usage.memory.release(self.frame_bytes);
            usage.disk.release(self.slot_bytes);
            return None;
        }
        Some(take(&mut state))
    }

    /// For the taker: tells the end to the owner, and corrects the usage; or, if the owner has
    /// abandoned the page, gives it back.
    fn end(&self, with: Outcome, correct: impl FnOnce()) -> Option<Outcome> {
        let mut state = lock(&self.state);
        if matches!(*state, State::Abandoned) {
            return Some(with);
        }
        *state = State::Ended(with);
        correct();
        drop(state);
        self.ended.notify_all();
        None
    }
}

fn take(state: &mut State) -> Outcome {
    match std::mem::replace(state, State::Settled) {
        State::Ended(outcome) => outcome,
        State::Moving | State::Abandoned | State::Settled => unreachable!("a transit ends once"),
    }
}

/// What the taker has when a page has landed.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) frame: Frame,
    /// The slot, if the owner does not need the page any more.
    pub(crate) unwanted: Option<Slot>,
    /// Nothing of the buffer went to the store before.
    pub(crate) is_first: bool,
}

/// The taker's half. Dropped before it has landed, as when the store panics, it gives the page back.
#[derive(Debug)]
pub(crate) struct Carrier {
    transit: Arc<Transit>,
    /// There until it has landed. It may have a slot, which then fits.
    resident: Option<Resident>,
}

impl Carrier {
    pub(crate) fn resident(&self) -> &Resident {
        self.resident.as_ref().expect("it is there until the page has landed")
    }

    /// The bytes have arrived in `slot`, and have these sums if the pool keeps any.
    pub(crate) fn arrive(mut self, slot: Slot, sums: Option<PageSums>, usage: &Usage) -> Arrived {
        let resident = self.resident.take().expect("a page lands once");
        let landed = Outcome::Arrived { slot, valid: resident.valid, sums };
        let mut is_first = false;
        let correct = || {
            usage.memory.release(self.transit.frame_bytes);
            is_first = usage.count_spills(1);
        };
        let unwanted = self.transit.end(landed, correct).map(|_| slot);
        Arrived { frame: resident.frame, unwanted, is_first }
    }

    /// The bytes cannot be written: gives the page back. If its owner does not need it any more, it
    /// is given to the caller, to be disposed of.
    pub(crate) fn return_page(mut self, usage: &Usage) -> Option<Resident> {
        let resident = self.resident.take()?;
        let unused = if resident.slot.is_none() { self.transit.slot_bytes } else { 0 };
        self.return_to_owner(resident, || usage.disk.release(unused))
    }

    fn return_to_owner(&mut self, resident: Resident, correct: impl FnOnce()) -> Option<Resident> {
        match self.transit.end(Outcome::Returned(resident), correct) {
            Some(Outcome::Returned(resident)) => Some(resident),
            _ => None,
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // Only a store that panicked leads here with the page still there. Its slot stays taken in the
        // usage, and if the owner has abandoned the page, in the store: room lost, but no byte.
        if let Some(resident) = self.resident.take() {
            drop(self.return_to_owner(resident, || ()));
        }
    }
}
