//! A page in transit: a reclaiming thread, which is not its owner, carries it from its frame to a slot.
//!
//! The reclaiming thread removes the page from the table and leaves a [`Transit`] in its place before it writes. So no
//! lock is held while the store works (I5), and the owner can tell what became of the page.
//!
//! # States
//!
//! | state | the bytes are | next state | by |
//! |---|---|---|---|
//! | moving | in the frame, with the carrier | ended: arrived | [`Carrier::arrive`] |
//! | | | ended: returned | [`Carrier::return_page`], or dropping the [`Carrier`]: the write failed, or panicked |
//! | | | abandoned | [`Transit::abandon`]: the owner no longer needs the page |
//! | ended: arrived | in a slot | settled | [`Transit::take_outcome`] or [`Transit::abandon`] |
//! | ended: returned | in the frame again | settled | the same |
//! | abandoned | not needed | | the carrier disposes of the frame and the slot |
//!
//! I1: the bytes are in one place in each state. I3: a page that could not be written returns to its owner. A
//! reclaiming thread never waits for an owner; an owner waits at most until the pages that left in the same go are
//! written.
//!
//! While the page moves, its frame and the slot that it will need are part of its buffer's usage. The side that ends this
//! state corrects the usage: the carrier, unless the owner has abandoned the page. The table may belong to another
//! buffer by then.
//!
//! Held by: `std-adapter/src/models.rs` (loom), `std-adapter/src/pages/table/tests.rs`, `tests/tests/pool_stress.rs`.

use crate::disk::slots::Slot;
use crate::memory::frame::Frame;
use crate::pages::resident::Resident;
use crate::pages::sums::PageSums;
use crate::pages::usage::Usage;
use crate::sync::{Arc, Condvar, Mutex, lock};

/// The owner's half: stands in the table in the page's place.
#[derive(Debug)]
pub(crate) struct Transit {
    state: Mutex<State>,
    /// Signalled when a transit that is not abandoned ends.
    ended: Condvar,
    /// Bytes of the slot that the page will have.
    pub(crate) slot_bytes: u64,
    /// Bytes of the frame that it leaves.
    pub(crate) frame_bytes: u64,
}

#[derive(Debug)]
enum State {
    Moving,
    Ended(Outcome),
    Abandoned,
    Settled,
}

/// What became of a page in transit.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its bytes are in a slot, and have these sums if the pool keeps any.
    Arrived { slot: Slot, valid: usize, sums: Option<PageSums> },
    /// It could not be written.
    Returned(Resident),
}

impl Transit {
    /// Starts the transit of a page: one half for the table, one for the reclaiming thread. The usage already has a slot
    /// of `slot_bytes`.
    pub(crate) fn start(resident: Resident, slot_bytes: u64) -> (Arc<Transit>, Carrier) {
        let transit = Arc::new(Transit {
            state: Mutex::new(State::Moving),
            ended: Condvar::new(),
            slot_bytes,
            frame_bytes: resident.frame.capacity() as u64,
        });
        (Arc::clone(&transit), Carrier { transit, resident: Some(resident) })
    }

    /// For the owner: blocks until the transit has ended.
    pub(crate) fn wait(&self) {
        let mut state = lock(&self.state);
        while matches!(*state, State::Moving) {
            state = self.ended.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// What became of the page, once the transit has ended. To be called once.
    pub(crate) fn take_outcome(&self) -> Option<Outcome> {
        let mut state = lock(&self.state);
        (!matches!(*state, State::Moving)).then(|| take(&mut state))
    }

    /// For the owner: gives the page up. If the transit has ended already, returns the page, for the caller to dispose of;
    /// if not, the carrier disposes of it.
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

    /// For the carrier: ends the transit and corrects the usage. If the owner has abandoned the page, changes nothing and
    /// returns the outcome.
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

/// What the reclaiming thread has after a page has arrived.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) frame: Frame,
    /// The slot, if the owner has abandoned the page.
    pub(crate) unwanted: Option<Slot>,
    /// It is the first page of its buffer that went to the store.
    pub(crate) is_first: bool,
}

/// The reclaiming thread's half. Dropped before the page has arrived, as when the store panics, it returns the page.
#[derive(Debug)]
pub(crate) struct Carrier {
    transit: Arc<Transit>,
    /// There until the page has arrived. If it has a slot, that slot fits.
    resident: Option<Resident>,
}

impl Carrier {
    pub(crate) fn resident(&self) -> &Resident {
        self.resident.as_ref().expect("it is there until the page has arrived")
    }

    /// The bytes have arrived in `slot`, and have these sums if the pool keeps any.
    pub(crate) fn arrive(mut self, slot: Slot, sums: Option<PageSums>, usage: &Usage) -> Arrived {
        let resident = self.resident.take().expect("a page arrives once");
        let arrived = Outcome::Arrived { slot, valid: resident.valid, sums };
        let mut is_first = false;
        let correct = || {
            usage.memory.release(self.transit.frame_bytes);
            is_first = usage.count_spills(1);
        };
        let unwanted = self.transit.end(arrived, correct).map(|_| slot);
        Arrived { frame: resident.frame, unwanted, is_first }
    }

    /// Returns a page that cannot be written to its owner. If the owner has abandoned it, the caller gets it, to dispose
    /// of.
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
        // Only a panic leads here with the page still there. Its slot stays in the usage, and if the owner has abandoned
        // the page, in the store: room is lost, but no byte.
        if let Some(resident) = self.resident.take() {
            drop(self.return_to_owner(resident, || ()));
        }
    }
}
