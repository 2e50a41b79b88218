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
use crate::disk;
use crate::events::Event;
use crate::frame::Frame;
use crate::home::Home;
use crate::pool::Core;
use crate::slots::Slot;
use crate::stats::{IoCounts, SpillReason};
use crate::table::{Page, Table};
use crate::tally::Way;
use std::io::IoSlice;

/// A buffer's table and what lies beside it, in the hands of the buffer.
pub(crate) type OwnTable = Owner<Table, Account>;

/// The same, in the hands of somebody else.
pub(crate) type PeerTable = Peer<Table, Account>;

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Frames, at least one, still charged to the pool, with anything in them.
    Frames(Vec<Frame>),
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
}

#[derive(Debug)]
enum What {
    /// A frame that had no bytes.
    Empty(Frame),
    /// A frame whose bytes are in a slot already.
    Clean(Frame),
    /// A page whose bytes are still to be written.
    Leaving(Leaving),
}

/// Page `index`, on its way.
#[derive(Debug)]
struct Leaving {
    index: u64,
    underway: Underway,
}

/// A page on its way that knows where to.
#[derive(Debug)]
struct Placed {
    leaving: Leaving,
    slot: Slot,
}

impl Placed {
    fn content(&self) -> &[u8] {
        self.leaving.underway.resident().content()
    }

    /// Whether both can be written in one go: nothing is between them in the store.
    fn is_beside(&self, next: &Placed) -> bool {
        self.slot.offset + self.content().len() as u64 == next.slot.offset
    }
}

impl Table {
    /// Lets the coldest page go, the window only if there is no other.
    fn surrender(&mut self, account: &Account, home: Home<'_>) -> Option<Surrendered> {
        let window = self.window_index().filter(|&index| !self.is_pinned(index));
        let index = self.coldest().map(|(index, _)| index).or(window)?;
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
            let fitting = resident.slot.filter(|slot| slot.len() >= resident.valid as u64);
            let needed = fitting.map_or_else(|| home.slot_bytes(resident.valid), |slot| slot.len());
            if fitting.is_none() && account.disk.take(needed).is_err() {
                self.put(index, Page::Resident(resident));
                return None;
            }
            let outgrown = std::mem::replace(&mut resident.slot, fitting).filter(|_| fitting.is_none());
            let (departure, underway) = Departure::start(resident, needed);
            self.put(index, Page::Leaving(departure));
            (What::Leaving(Leaving { index, underway }), outgrown)
        };
        account.disk.give_back(outgrown.map_or(0, |slot| slot.len()));
        Some(Surrendered { what, outgrown })
    }
}

impl Core {
    /// Takes up to `most` frames back from a buffer, whose pages go to their slots: those that lie side by side in one
    /// call of the store.
    pub(crate) fn take_back(&self, from: &PeerTable, reason: SpillReason, most: usize) -> Taken {
        let surrendered = from.try_with(|table| {
            // Where the buffer has its slots: to be known now, since the table may be another buffer's by the time that
            // the pages have arrived.
            let own = from.beside().own().cloned();
            let home = Home { disk: &self.disk, own: own.as_deref() };
            let pages = std::iter::from_fn(|| table.surrender(from.beside(), home));
            (pages.take(most).collect::<Vec<_>>(), own)
        });
        let (surrendered, own) = surrendered.unwrap_or_default();
        let home = Home { disk: &self.disk, own: own.as_deref() };
        let (mut frames, mut leaving) = (Vec::new(), Vec::new());
        let is_empty = surrendered.is_empty();
        for Surrendered { what, outgrown } in surrendered {
            outgrown.into_iter().for_each(|slot| home.free(slot));
            match what {
                What::Empty(frame) => frames.push(frame),
                What::Clean(frame) => {
                    self.tally.count_eviction();
                    frames.push(frame);
                }
                What::Leaving(page) => leaving.push(page),
            }
        }
        self.carry_out(home, leaving, from, reason, &mut frames);
        frames.iter().for_each(|_| self.tally.count_taking());
        match frames {
            _ if is_empty => Taken::Nothing,
            none if none.is_empty() => Taken::Stuck,
            frames => Taken::Frames(frames),
        }
    }

    /// Writes pages that have left their table, and tells their owner. Their frames are added to `frames`, but for those
    /// that are their owner's again.
    fn carry_out(
        &self,
        home: Home<'_>,
        leaving: Vec<Leaving>,
        from: &PeerTable,
        reason: SpillReason,
        frames: &mut Vec<Frame>,
    ) {
        let mut placed = Vec::with_capacity(leaving.len());
        for leaving in leaving {
            let resident = leaving.underway.resident();
            match resident.slot.map_or_else(|| home.take(leaving.index, resident.valid, None), Ok) {
                Ok(slot) => placed.push(Placed { leaving, slot }),
                Err(_) => frames.extend(self.give_up(home, leaving, from)),
            }
        }
        placed.sort_unstable_by_key(|page| page.slot.offset);
        let mut placed = placed.into_iter().peekable();
        while let Some(first) = placed.next() {
            let mut run = vec![first];
            while let Some(next) = placed.next_if(|next| run.last().is_some_and(|last| last.is_beside(next)))
            {
                run.push(next);
            }
            let mut written = self.write_run(home, &run);
            // At once, since their owner may be waiting for them.
            for page in run {
                let has_arrived = written >= page.content().len();
                written = written.saturating_sub(page.content().len());
                let Placed { leaving, slot } = page;
                if has_arrived {
                    frames.push(self.land(home, leaving.underway, slot, from.beside(), reason));
                    continue;
                }
                if leaving.underway.resident().slot.is_none() {
                    home.free(slot);
                }
                frames.extend(self.give_up(home, leaving, from));
            }
        }
    }

    /// Writes pages that lie side by side, and says how many bytes of them are there now.
    fn write_run(&self, home: Home<'_>, run: &[Placed]) -> usize {
        let mut counts = IoCounts::default();
        let (written, _) = match run {
            [] => return 0,
            [page] => disk::write(home.store(), page.slot.offset, page.content(), &mut counts),
            [first, ..] => {
                let mut parts: Vec<_> = run.iter().map(|page| IoSlice::new(page.content())).collect();
                disk::write_parts(home.store(), first.slot.offset, &mut parts, &mut counts)
            }
        };
        self.tally.count_io(Way::Paged, &counts);
        written
    }

    fn land(
        &self,
        home: Home<'_>,
        underway: Underway,
        slot: Slot,
        account: &Account,
        reason: SpillReason,
    ) -> Frame {
        let bytes = underway.resident().valid as u64;
        let sums = self.checksums.of_page(underway.resident().content());
        let Landed { frame, unwanted, is_first } = underway.land(slot, sums, account);
        self.tally.count_eviction();
        self.tally.count_spills(reason, 1);
        if is_first {
            self.listeners.tell(&Event::FirstSpill { reason, bytes });
        }
        unwanted.into_iter().for_each(|slot| home.free(slot));
        frame
    }

    /// Gives a page that could not be written back to its owner, unless that does not need it any more: then there is a
    /// frame.
    fn give_up(&self, home: Home<'_>, leaving: Leaving, from: &PeerTable) -> Option<Frame> {
        let Leaving { index, underway } = leaving;
        let Some(abandoned) = underway.give_up(from.beside()) else {
            // So that it can be taken again; if the owner is inside, it finds the page itself.
            from.try_with(|table| table.readmit(index));
            return None;
        };
        abandoned.slot.into_iter().for_each(|slot| home.free(slot));
        Some(abandoned.frame)
    }
}
