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
use crate::departure::{Departure, Landed, Underway};
use crate::disk::{self, Disk};
use crate::error::SpillError;
use crate::events::Event;
use crate::frame::Frame;
use crate::home::Home;
use crate::own_file::OwnFile;
use crate::pool::Core;
use crate::slots::Slot;
use crate::stats::{IoCounts, SpillReason};
use crate::sync::Arc;
use crate::table::{Page, Table};
use crate::tally::Way;

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
struct Surrendered {
    what: What,
    /// A slot that is not needed any more.
    outgrown: Option<Slot>,
    /// Where the buffer has its slots. Told here, since the table may be another buffer's by the time
    /// that the page has arrived.
    own: Option<Arc<OwnFile>>,
}

#[derive(Debug)]
enum What {
    /// A frame that had no bytes.
    Empty(Frame),
    /// A frame whose bytes are in a slot already.
    Clean(Frame),
    /// Page `index`, whose bytes are still to be written.
    Leaving { index: u64, underway: Underway },
}

impl Table {
    /// Lets the coldest page go, the window only if there is no other.
    fn surrender(&mut self, account: &Account, disk: &Disk) -> Option<Surrendered> {
        let window = self.window_index().filter(|&index| !self.is_pinned(index));
        let index = self.coldest().map(|(index, _)| index).or(window)?;
        let own = account.own().cloned();
        let mut resident = self.take_resident(index)?;
        let (what, outgrown) = if resident.valid == 0 {
            self.sums.forget(index);
            account.memory.give_back(resident.frame.capacity() as u64);
            (What::Empty(resident.frame), resident.slot)
        } else if let Some(slot) = resident.slot.filter(|_| !resident.dirty) {
            self.put(index, Page::Spilled { slot, valid: resident.valid });
            account.memory.give_back(resident.frame.capacity() as u64);
            (What::Clean(resident.frame), None)
        } else {
            let home = Home { disk, own: own.as_deref() };
            let fitting = resident.slot.filter(|slot| slot.len() >= resident.valid as u64);
            let needed = fitting.map_or_else(|| home.slot_bytes(resident.valid), |slot| slot.len());
            if fitting.is_none() && account.disk.take(needed).is_err() {
                self.put(index, Page::Resident(resident));
                return None;
            }
            let outgrown = std::mem::replace(&mut resident.slot, fitting).filter(|_| fitting.is_none());
            let (departure, underway) = Departure::start(resident, needed);
            self.put(index, Page::Leaving(departure));
            (What::Leaving { index, underway }, outgrown)
        };
        account.disk.give_back(outgrown.map_or(0, |slot| slot.len()));
        Some(Surrendered { what, outgrown, own })
    }
}

impl Core {
    /// Takes a frame back from a buffer, whose page goes to its slot.
    pub(crate) fn take_back(&self, from: &PeerTable, reason: SpillReason) -> Taken {
        let surrendered = from.try_with(|table| table.surrender(from.beside(), &self.disk)).flatten();
        let Some(Surrendered { what, outgrown, own }) = surrendered else { return Taken::Nothing };
        let home = Home { disk: &self.disk, own: own.as_deref() };
        outgrown.into_iter().for_each(|slot| home.free(slot));
        let frame = match what {
            What::Empty(frame) => frame,
            What::Clean(frame) => {
                self.tally.count_eviction();
                frame
            }
            What::Leaving { index, underway } => {
                let Some(frame) = self.carry_out(home, index, underway, from.beside(), reason) else {
                    // So that it can be taken again; if the owner is inside, it finds the page itself.
                    from.try_with(|table| table.readmit(index));
                    return Taken::Stuck;
                };
                frame
            }
        };
        self.tally.count_taking();
        Taken::Frame(frame)
    }

    /// Writes a page that has left its table, and tells its owner. `None` if the page is its owner's again.
    fn carry_out(
        &self,
        home: Home<'_>,
        index: u64,
        underway: Underway,
        account: &Account,
        reason: SpillReason,
    ) -> Option<Frame> {
        let bytes = underway.resident().valid as u64;
        let (frame, unwanted) = match self.write_leaving(home, index, &underway) {
            Ok(slot) => {
                let sums = self.checksums.of_page(underway.resident().content());
                let Landed { frame, unwanted, is_first } = underway.land(slot, sums, account);
                self.tally.count_eviction();
                self.tally.count_spills(reason, 1);
                if is_first {
                    self.listeners.tell(&Event::FirstSpill { reason, bytes });
                }
                (frame, unwanted)
            }
            Err(_) => {
                let abandoned = underway.give_up(account)?;
                (abandoned.frame, abandoned.slot)
            }
        };
        unwanted.into_iter().for_each(|slot| home.free(slot));
        Some(frame)
    }

    fn write_leaving(&self, home: Home<'_>, index: u64, underway: &Underway) -> Result<Slot, SpillError> {
        let resident = underway.resident();
        let slot = match resident.slot {
            Some(slot) => slot,
            None => home.take(index, resident.valid, None)?,
        };
        let mut counts = IoCounts::default();
        let (_, written) = disk::write(home.store(), slot.offset, resident.content(), &mut counts);
        self.tally.count_io(Way::Paged, &counts);
        if written.is_err() && resident.slot.is_none() {
            home.free(slot);
        }
        written.map(|()| slot)
    }
}
