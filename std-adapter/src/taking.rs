//! Taking a page back from another buffer: how a frame gets from one to the other.
//!
//! Promises:
//!
//! - I5: the owner is kept out of its table only while the page changes its state, never while the
//!   store works.
//! - I3: a page that cannot be written comes back to its owner.
//! - I6: neither the pool's disk limit nor that of the buffer is passed.
//! - The taker waits for no owner. A page that its owner works on just now, or has lent, stays.
//!
//! Who gives to whom is decided in [`registry`](crate::registry).

use crate::account::Account;
use crate::biased::{Owner, Peer};
use crate::departure::{Departure, Underway};
use crate::error::SpillError;
use crate::frame::Frame;
use crate::pool::Core;
use crate::slots::Slot;
use crate::stats::IoCounts;
use crate::table::{Page, Table};

/// A buffer's table and what lies beside it, in the hands of the buffer.
pub(crate) type OwnTable = Owner<Table, Account>;

/// The same, in the hands of somebody else.
pub(crate) type PeerTable = Peer<Table, Account>;

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A frame, still charged to the pool, with anything in it.
    Frame(Frame),
    /// The table was in use, or had nothing to give.
    Nothing,
    /// The store refuses: no use in trying another.
    Stuck,
}

/// What a table gives up at once.
#[derive(Debug)]
enum Surrendered {
    /// The bytes are in a slot already, or there are none: then the slot is to be freed.
    Frame(Frame, Option<Slot>),
    /// The bytes are still to be written; the slot that they have outgrown is to be freed.
    Leaving(Underway, Option<Slot>),
}

impl Table {
    /// Lets the coldest page go, the window only if there is no other. `slot_bytes` says how long
    /// the slot for so many bytes would be.
    fn surrender(&mut self, account: &Account, slot_bytes: impl Fn(usize) -> u64) -> Option<Surrendered> {
        let window = self.window_index().filter(|&index| !self.is_pinned(index));
        let index = self.coldest().map(|(index, _)| index).or(window)?;
        let Page::Resident(mut resident) = self.take(index) else { return None };
        let frame_bytes = resident.frame.capacity() as u64;
        let surrendered = if resident.valid == 0 {
            account.disk.give_back(bytes_of(resident.slot));
            Surrendered::Frame(resident.frame, resident.slot)
        } else if let Some(slot) = resident.slot.filter(|_| !resident.dirty) {
            self.put(index, Page::Spilled { slot, valid: resident.valid });
            Surrendered::Frame(resident.frame, None)
        } else {
            let fitting = resident.slot.filter(|slot| slot.len >= resident.valid as u64);
            let needed = fitting.map_or_else(|| slot_bytes(resident.valid), |slot| slot.len);
            if fitting.is_none() && account.disk.take(needed).is_err() {
                self.put(index, Page::Resident(resident));
                return None;
            }
            let outgrown = std::mem::replace(&mut resident.slot, fitting).filter(|_| fitting.is_none());
            account.disk.give_back(bytes_of(outgrown));
            let (departure, underway) = Departure::start(resident, needed);
            self.put(index, Page::Leaving(departure));
            account.count_spill();
            Surrendered::Leaving(underway, outgrown)
        };
        account.memory.give_back(frame_bytes);
        Some(surrendered)
    }
}

fn bytes_of(slot: Option<Slot>) -> u64 {
    slot.map_or(0, |slot| slot.len)
}

impl Core {
    /// Takes a frame back from a buffer, whose page goes to its slot.
    pub(crate) fn take_back(&self, from: &PeerTable) -> Taken {
        let slot_bytes = |bytes| self.disk.slot_bytes(bytes);
        match from.try_with(|table| table.surrender(from.beside(), slot_bytes)).flatten() {
            None => Taken::Nothing,
            Some(Surrendered::Frame(frame, slot)) => {
                self.free_slots(slot);
                Taken::Frame(frame)
            }
            Some(Surrendered::Leaving(underway, outgrown)) => {
                self.free_slots(outgrown);
                self.carry_out(underway)
            }
        }
    }

    fn carry_out(&self, underway: Underway) -> Taken {
        match self.write_leaving(&underway) {
            Ok(slot) => {
                let (frame, unwanted) = underway.land(slot);
                self.free_slots(unwanted);
                Taken::Frame(frame)
            }
            Err(_) => match underway.give_up() {
                Some(unwanted) => {
                    self.free_slots(unwanted.slot);
                    Taken::Frame(unwanted.frame)
                }
                None => Taken::Stuck,
            },
        }
    }

    fn write_leaving(&self, underway: &Underway) -> Result<Slot, SpillError> {
        let resident = underway.resident();
        let slot = match resident.slot {
            Some(slot) => slot,
            None => self.disk.take(resident.valid)?,
        };
        let (_, written) = self.disk.write(slot.offset, resident.content(), &mut IoCounts::default());
        if written.is_err() && resident.slot.is_none() {
            self.disk.free(slot);
        }
        written.map(|()| slot)
    }

    fn free_slots(&self, slots: impl IntoIterator<Item = Slot>) {
        slots.into_iter().for_each(|slot| self.disk.free(slot));
    }
}
