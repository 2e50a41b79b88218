//! A page on its way to the store, in the hands of a taker that is not its owner.
//!
//! The taker takes the page out of the table, and leaves a departure in its place, before it writes;
//! so no lock is held while the store works (I5), and the owner can tell what became of the page.
//!
//! # States
//!
//! | state | the bytes are | goes to | by |
//! |---|---|---|---|
//! | underway | in the frame, with the taker | landed | [`Underway::land`] |
//! | | | returned | dropping [`Underway`]: the write failed, or panicked |
//! | | | abandoned | [`Departure::abandon`]: the owner does not need the page any more |
//! | landed | in a slot | settled | [`Departure::try_settle`] or [`Departure::abandon`] |
//! | returned | in the frame again | settled | the same |
//! | abandoned | needed by nobody | | what the taker ends with is disposed of by the taker |
//!
//! I1: the bytes are in one place in each state. I3: a page that could not be written comes back. A
//! taker never waits for an owner; an owner waits for what a taker took in one go to be written at the most.
//!
//! While it is underway, the frame and the slot that it will need count in its buffer's account. Who
//! ends that state corrects the account: the taker, unless the owner has abandoned the page. For then
//! the table may be another buffer's already.

use crate::disk::slots::Slot;
use crate::memory::frame::Frame;
use crate::pages::resident::Resident;
use crate::pages::sums::PageSums;
use crate::pages::usage::Account;
use crate::sync::{Arc, Condvar, Mutex, lock};

#[derive(Debug)]
pub(crate) struct Departure {
    state: Mutex<State>,
    /// Signalled when a departure that is not abandoned ends.
    ended: Condvar,
    /// Bytes of the slot that the page will have, and of the frame that it has.
    pub(crate) slot_bytes: u64,
    pub(crate) frame_bytes: u64,
}

#[derive(Debug)]
enum State {
    Underway,
    Ended(Outcome),
    Abandoned,
    Settled,
}

/// What became of a page that was to leave.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its bytes are in a slot, and have these sums if the pool keeps any.
    Landed { slot: Slot, valid: usize, sums: Option<PageSums> },
    /// It could not be written.
    Returned(Resident),
}

impl Departure {
    /// A page that is to leave: one half for the table, one for the taker. The account has been
    /// charged for a slot of `slot_bytes`.
    pub(crate) fn start(resident: Resident, slot_bytes: u64) -> (Arc<Departure>, Underway) {
        let departure = Arc::new(Departure {
            state: Mutex::new(State::Underway),
            ended: Condvar::new(),
            slot_bytes,
            frame_bytes: resident.frame.capacity() as u64,
        });
        (Arc::clone(&departure), Underway { departure, resident: Some(resident) })
    }

    /// For the owner: waits for the end.
    pub(crate) fn await_end(&self) {
        let mut state = lock(&self.state);
        while matches!(*state, State::Underway) {
            state = self.ended.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// What became of the page, if the departure has ended. It is told once.
    pub(crate) fn try_settle(&self) -> Option<Outcome> {
        let mut state = lock(&self.state);
        (!matches!(*state, State::Underway)).then(|| settle(&mut state))
    }

    /// For the owner: the page is not needed any more. If the departure has ended already, the page
    /// is given, to be disposed of; if not, the taker does that.
    pub(crate) fn abandon(&self, account: &Account) -> Option<Outcome> {
        let mut state = lock(&self.state);
        if matches!(*state, State::Underway) {
            *state = State::Abandoned;
            account.memory.give_back(self.frame_bytes);
            account.disk.give_back(self.slot_bytes);
            return None;
        }
        Some(settle(&mut state))
    }

    /// For the taker: tells the end to the owner, and corrects the account; or, if the owner has
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

fn settle(state: &mut State) -> Outcome {
    match std::mem::replace(state, State::Settled) {
        State::Ended(outcome) => outcome,
        State::Underway | State::Abandoned | State::Settled => unreachable!("a departure ends once"),
    }
}

/// What the taker has when a page has landed.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) frame: Frame,
    /// The slot, if the owner does not need the page any more.
    pub(crate) unwanted: Option<Slot>,
    /// Nothing of the buffer went to the store before.
    pub(crate) is_first: bool,
}

/// The taker's half. Dropped before it has landed, as when the store panics, it gives the page back.
#[derive(Debug)]
pub(crate) struct Underway {
    departure: Arc<Departure>,
    /// There until it has landed. It may have a slot, which then fits.
    resident: Option<Resident>,
}

impl Underway {
    pub(crate) fn resident(&self) -> &Resident {
        self.resident.as_ref().expect("it is there until the page has landed")
    }

    /// The bytes have arrived in `slot`, and have these sums if the pool keeps any.
    pub(crate) fn land(mut self, slot: Slot, sums: Option<PageSums>, account: &Account) -> Landed {
        let resident = self.resident.take().expect("a page lands once");
        let landed = Outcome::Landed { slot, valid: resident.valid, sums };
        let mut is_first = false;
        let correct = || {
            account.memory.give_back(self.departure.frame_bytes);
            is_first = account.count_spills(1);
        };
        let unwanted = self.departure.end(landed, correct).map(|_| slot);
        Landed { frame: resident.frame, unwanted, is_first }
    }

    /// The bytes cannot be written: gives the page back. If its owner does not need it any more, it
    /// is given to the caller, to be disposed of.
    pub(crate) fn give_up(mut self, account: &Account) -> Option<Resident> {
        let resident = self.resident.take()?;
        let unused = if resident.slot.is_none() { self.departure.slot_bytes } else { 0 };
        self.give_back(resident, || account.disk.give_back(unused))
    }

    fn give_back(&mut self, resident: Resident, correct: impl FnOnce()) -> Option<Resident> {
        match self.departure.end(Outcome::Returned(resident), correct) {
            Some(Outcome::Returned(resident)) => Some(resident),
            _ => None,
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        // Only a store that panicked leads here with the page still there. Its slot stays taken in the
        // account, and if the owner has abandoned the page, in the store: room lost, but no byte.
        if let Some(resident) = self.resident.take() {
            drop(self.give_back(resident, || ()));
        }
    }
}
