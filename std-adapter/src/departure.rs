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
//! | landed | in a slot | settled | [`Departure::wait`] or [`Departure::abandon`] |
//! | returned | in the frame again | settled | the same |
//! | abandoned | needed by nobody | | what the taker ends with is disposed of by the taker |
//!
//! I1: the bytes are in one place in each state. I3: a page that could not be written comes back. A
//! taker never waits for an owner; an owner waits for a taker's one write at the most.

use crate::frame::Frame;
use crate::slots::Slot;
use crate::sync::{Arc, Condvar, Mutex, lock};
use crate::table::{Page, Resident};

#[derive(Debug)]
pub(crate) struct Departure {
    state: Mutex<State>,
    /// Signalled when a departure that is not abandoned ends.
    ended: Condvar,
    /// Bytes of the slot that the owner's account was charged for.
    pub(crate) slot_bytes: u64,
}

#[derive(Debug)]
enum State {
    Underway,
    Landed { slot: Slot, valid: usize },
    Returned(Resident),
    Abandoned,
    Settled,
}

impl Departure {
    /// A page that is to leave: one half for the table, one for the taker.
    pub(crate) fn start(resident: Resident, slot_bytes: u64) -> (Arc<Departure>, Underway) {
        let departure =
            Arc::new(Departure { state: Mutex::new(State::Underway), ended: Condvar::new(), slot_bytes });
        (Arc::clone(&departure), Underway { departure, resident: Some(resident) })
    }

    /// For the owner: waits for the end, and gives the page as it is then, spilled or resident.
    pub(crate) fn wait(&self) -> Page {
        let mut state = lock(&self.state);
        while matches!(*state, State::Underway) {
            state = self.ended.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        settle(&mut state)
    }

    /// For the owner: the page is not needed any more. If the departure has ended already, the page
    /// is given, to be disposed of.
    pub(crate) fn abandon(&self) -> Option<Page> {
        let mut state = lock(&self.state);
        if matches!(*state, State::Underway) {
            *state = State::Abandoned;
            return None;
        }
        Some(settle(&mut state))
    }

    /// For the taker: tells the end to the owner; or, if nobody wants to know, gives it back.
    fn end(&self, with: State) -> Option<State> {
        let mut state = lock(&self.state);
        if matches!(*state, State::Abandoned) {
            return Some(with);
        }
        *state = with;
        drop(state);
        self.ended.notify_all();
        None
    }
}

fn settle(state: &mut State) -> Page {
    match std::mem::replace(state, State::Settled) {
        State::Landed { slot, valid } => Page::Spilled { slot, valid },
        State::Returned(resident) => Page::Resident(resident),
        State::Underway | State::Abandoned | State::Settled => unreachable!("a departure ends once"),
    }
}

/// The taker's half. Dropped before it has landed, it gives the page back to its owner.
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

    /// The bytes have arrived in `slot`. Gives the frame; and the slot too, if the owner does not
    /// need the page any more.
    pub(crate) fn land(mut self, slot: Slot) -> (Frame, Option<Slot>) {
        let resident = self.resident.take().expect("a page lands once");
        let unwanted = self.departure.end(State::Landed { slot, valid: resident.valid });
        (resident.frame, unwanted.map(|_| slot))
    }

    /// The bytes cannot be written: gives the page back. If its owner does not need it any more, it
    /// is given to the caller, to be disposed of.
    pub(crate) fn give_up(mut self) -> Option<Resident> {
        self.give_back()
    }

    fn give_back(&mut self) -> Option<Resident> {
        match self.departure.end(State::Returned(self.resident.take()?)) {
            Some(State::Returned(resident)) => Some(resident),
            _ => None,
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        // Only a store that panicked leads here with the page still there. The frame of an abandoned
        // page is freed then; its slot, if it had one, stays taken, which harms nobody's bytes.
        drop(self.give_back());
    }
}
