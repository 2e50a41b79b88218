//! A page in transit: a reclaiming thread, which is not the page's owner, moves it from its frame to a slot.
//!
//! The reclaiming thread removes the page from the table and puts a [`Transit`] in its place before it
//! writes. So no lock is held while the store works (I5), and the owner can find out how the write ended.
//!
//! # States
//!
//! | state | the bytes are | next state | by |
//! |---|---|---|---|
//! | `Moving`, from [`Transit::start`] | in the frame, held by the [`Carrier`] | `Ended(Arrived)` | [`Carrier::arrive`] |
//! | | | `Ended(Returned)` | [`Carrier::return_page`]: the page cannot be written |
//! | | | `Ended(Returned)` | dropping the [`Carrier`], which nothing known does |
//! | | | `Abandoned` | [`Transit::abandon`]: the owner no longer needs the page |
//! | `Ended(Arrived)` | in a slot | `Settled` | [`Transit::take_outcome`] or [`Transit::abandon`] |
//! | `Ended(Returned)` | in the frame | `Settled` | [`Transit::take_outcome`] or [`Transit::abandon`] |
//! | `Settled` | with the owner | | |
//! | `Abandoned` | not needed | | the reclaiming thread recycles the frame and frees the slot |
//!
//! - I1: the bytes are in one place in each state.
//! - I3: a page that could not be written returns to its owner.
//! - A reclaiming thread never waits for an owner. An owner waits at most until the pages that were reclaimed
//!   in the same call are written.
//!
//! While the state is `Moving`, the page's frame and the slot that it will need are part of its buffer's
//! usage. The side that ends this state corrects the usage, while it holds the lock of the state: the
//! carrier, unless the owner has abandoned the page. By the time the write of an abandoned page ends, the
//! table and its usage may belong to another buffer.
//!
//! Held by: `std-adapter/src/models.rs` (loom), `std-adapter/src/pages/table/tests.rs`,
//! `tests/tests/pool_stress.rs`.

use crate::disk::slots::Slot;
use crate::memory::given::Given;
use crate::memory::page_frame::PageFrame;
use crate::pages::resident::Resident;
use crate::pages::sums::PageSums;
use crate::pages::usage::Usage;
use crate::sync::fork::{Forked, Lock};
use crate::sync::{Arc, Condvar, Weak, try_arc};

/// The owner's half of a transit. It takes the page's place in the table.
#[derive(Debug)]
pub(crate) struct Transit {
    state: Lock<State>,
    /// Notified when the state becomes `Ended`, if the owner waits for that.
    ended: Condvar,
    /// Bytes that are charged for the slot that the page will have.
    pub(crate) slot_bytes: u64,
    /// Capacity in bytes of the frame that the page leaves.
    frame_bytes: u64,
    /// The memory that it leaves instead, if that was given. The transit is not settled at once,
    /// and must not keep it.
    given: Option<Weak<Given>>,
}

#[derive(Debug)]
enum State {
    Moving {
        /// Whether the owner waits for the end. Telling nobody costs a call of the system too.
        is_awaited: bool,
    },
    Ended(Outcome),
    Abandoned,
    Settled,
}

/// What became of a page in transit.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its bytes are in `slot`. `sums` are theirs, if the pool keeps any.
    Arrived { slot: Slot, end: usize, sums: Option<PageSums> },
    /// It could not be written, and is in its frame as before.
    Returned(Resident),
}

impl Transit {
    /// Starts the transit of a page. Returns one half for the table and one for the reclaiming thread;
    /// or the page, if there is no memory for them. The caller has reserved `slot_bytes` in the
    /// buffer's usage already.
    pub(crate) fn start(resident: Resident, slot_bytes: u64) -> Result<(Arc<Transit>, Carrier), Resident> {
        let transit = try_arc(Transit {
            state: Lock::new(State::Moving { is_awaited: false }),
            ended: Condvar::new(),
            slot_bytes,
            frame_bytes: resident.frame.capacity() as u64,
            given: resident.frame.given().map(Arc::downgrade),
        });
        match transit {
            Some(transit) => Ok((Arc::clone(&transit), Carrier { transit, resident: Some(resident) })),
            None => Err(resident),
        }
    }

    /// Bytes that the buffer's usage has for the page while it is moving, and that of given memory some
    /// other page may have too.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.given
            .as_ref()
            .map_or(self.frame_bytes, |given| given.upgrade().map_or(0, |given| given.charge()))
    }

    /// Releases the memory that the page leaves, and is in still.
    fn release_memory(&self, usage: &Usage) {
        let bytes = match &self.given {
            None => self.frame_bytes,
            Some(given) => given.upgrade().map_or(0, |given| given.leave()),
        };
        usage.memory.release(bytes);
    }

    /// For the owner: blocks until the transit is no longer `Moving`. An error if it never ends, because the
    /// thread that moves the page is one of the process that this one was forked from.
    pub(crate) fn wait(&self) -> Result<(), Forked> {
        let mut state = self.state.lock()?;
        while let State::Moving { is_awaited } = &mut *state {
            if self.state.is_inherited() {
                return Err(Forked);
            }
            *is_awaited = true;
            state = self.ended.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        Ok(())
    }

    /// For the owner: returns the outcome, or `None` while the page is moving, and for ever if that was lost
    /// in a fork. Panics if the outcome was taken already, or the page was abandoned.
    pub(crate) fn take_outcome(&self) -> Option<Outcome> {
        let mut state = self.state.lock().ok()?;
        (!matches!(*state, State::Moving { .. })).then(|| settle(&mut state))
    }

    /// For the owner: abandons the page. If the transit has ended already, returns the outcome, and the
    /// caller frees what it holds. Otherwise returns `None`: the reclaiming thread frees it, and `usage` is
    /// credited now. Panics if the outcome was taken already.
    pub(crate) fn abandon(&self, usage: &Usage) -> Option<Outcome> {
        let mut state = self.state.lock().ok()?;
        if matches!(*state, State::Moving { .. }) {
            *state = State::Abandoned;
            self.release_memory(usage);
            usage.disk.release(self.slot_bytes);
            return None;
        }
        Some(settle(&mut state))
    }

    /// For the carrier: ends the transit and calls `correct_usage`. If the owner has abandoned the page,
    /// changes nothing and returns the outcome.
    fn end(&self, with: Outcome, correct_usage: impl FnOnce()) -> Option<Outcome> {
        // The thread that carries the page holds it in no fork but its own.
        let Ok(mut state) = self.state.lock() else { return Some(with) };
        let is_awaited = match *state {
            State::Abandoned => return Some(with),
            State::Moving { is_awaited } => is_awaited,
            State::Ended(_) | State::Settled => false,
        };
        *state = State::Ended(with);
        correct_usage();
        drop(state);
        if is_awaited {
            self.ended.notify_all();
        }
        None
    }
}

/// Takes the outcome of a transit that has ended.
fn settle(state: &mut State) -> Outcome {
    match std::mem::replace(state, State::Settled) {
        State::Ended(outcome) => outcome,
        State::Moving { .. } | State::Abandoned | State::Settled => {
            unreachable!("an outcome is taken once, after the transit has ended")
        }
    }
}

/// What [`Carrier::arrive`] leaves to the reclaiming thread.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// The page's former frame, no longer part of the buffer's usage.
    pub(crate) frame: PageFrame,
    /// The slot, to be freed, if the owner has abandoned the page.
    pub(crate) unwanted: Option<Slot>,
    /// Whether it is the first page of its buffer that went to the store. False if it was abandoned.
    pub(crate) is_first: bool,
}

/// The reclaiming thread's half of a transit. Dropping it before the page has arrived returns the page.
#[derive(Debug)]
pub(crate) struct Carrier {
    transit: Arc<Transit>,
    /// `None` once the page has arrived or returned. If the page has a slot, the slot is long enough.
    resident: Option<Resident>,
}

impl Carrier {
    /// The page that is in transit.
    pub(crate) fn resident(&self) -> &Resident {
        self.resident.as_ref().expect("the page has not arrived yet")
    }

    /// Ends the transit: the bytes are in `slot` now. `sums` are theirs, if the pool keeps any.
    pub(crate) fn arrive(mut self, slot: Slot, sums: Option<PageSums>, usage: &Usage) -> Arrived {
        let resident = self.resident.take().expect("a page arrives once");
        let arrived = Outcome::Arrived { slot, end: resident.end(), sums };
        let mut is_first = false;
        let correct_usage = || {
            self.transit.release_memory(usage);
            is_first = usage.count_spills(1);
        };
        let unwanted = self.transit.end(arrived, correct_usage).map(|_| slot);
        Arrived { frame: resident.into_frame(), unwanted, is_first }
    }

    /// Ends the transit of a page that cannot be written: returns the page to its owner. If the owner has
    /// abandoned it, returns it to the caller, who frees its slot and recycles its frame.
    pub(crate) fn return_page(mut self, usage: &Usage) -> Option<Resident> {
        let resident = self.resident.take()?;
        let unused = self.transit.slot_bytes - resident.slot.map_or(0, Slot::charged);
        self.return_to_owner(resident, || usage.disk.release(unused))
    }

    fn return_to_owner(&mut self, resident: Resident, correct_usage: impl FnOnce()) -> Option<Resident> {
        match self.transit.end(Outcome::Returned(resident), correct_usage) {
            Some(Outcome::Returned(resident)) => Some(resident),
            _ => None,
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // Nothing known leaves a page here: panics of stores, and of what they return, are contained. After
        // any other its slot stays reserved in the usage, and stays allocated if the owner has abandoned the
        // page: disk room is lost, but no byte.
        if let Some(resident) = self.resident.take() {
            drop(self.return_to_owner(resident, || ()));
        }
    }
}
