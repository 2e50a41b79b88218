//! Taking a page back from another buffer: how a frame gets from one to the other.
//!
//! Promises:
//!
//! - I5: the owner is kept out of its table only while pages change their state, its own and those of
//!   others that are taken in the same go, never while the store works.
//! - I3: a page that cannot be written comes back to its owner.
//! - I6: neither the pool's disk limit nor that of the buffer is passed.
//! - The taker waits for no owner. A page that its owner works on just now, or has lent, stays.
//!
//! Who gives to whom is decided in [`registry`](crate::pool::registry).

use crate::disk::backing::Home;
use crate::disk::own_file::OwnFile;
use crate::disk::slots::Slot;
use crate::disk::transfer;
use crate::memory::frame::Frame;
use crate::observe::counters::Way;
use crate::observe::events::Event;
use crate::observe::stats::{IoCounts, SpillReason};
use crate::pages::page::Page;
use crate::pages::table::Table;
use crate::pages::transit::{Departure, Landed, Underway};
use crate::pages::usage::Account;
use crate::pool::member::PeerTable;
use crate::pool::state::Core;
use crate::sync::Arc;
use std::cell::RefCell;
use std::io::IoSlice;

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
    Leaving { index: u64, underway: Underway },
}

/// Whom pages are taken from.
#[derive(Debug)]
struct Giver<'a> {
    table: &'a PeerTable,
    /// Where the buffer has its slots: known from the visit, since the table may be another buffer's by the time
    /// that the pages have arrived.
    own: Option<Arc<OwnFile>>,
    /// Its pages that could not be written, and are its again.
    returned: RefCell<Vec<u64>>,
}

impl Giver<'_> {
    fn home<'b>(&'b self, core: &'b Core) -> Home<'b> {
        Home { disk: &core.disk, own: self.own.as_deref() }
    }

    fn account(&self) -> &Account {
        &self.table.beside().account
    }
}

/// Page `index`, on its way.
#[derive(Debug)]
struct Leaving<'a> {
    giver: &'a Giver<'a>,
    index: u64,
    underway: Underway,
}

/// A page on its way that knows where to.
#[derive(Debug)]
struct Placed<'a> {
    leaving: Leaving<'a>,
    slot: Slot,
}

impl Placed<'_> {
    fn content(&self) -> &[u8] {
        self.leaving.underway.resident().content()
    }

    /// The file that it goes to, if that is not the pool's.
    fn file(&self) -> Option<*const OwnFile> {
        self.leaving.giver.own.as_ref().map(Arc::as_ptr)
    }

    /// Whether both can be written in one go: they go to the same file, and nothing is between them there.
    fn is_beside(&self, next: &Placed<'_>) -> bool {
        self.file() == next.file() && self.slot.offset + self.content().len() as u64 == next.slot.offset
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
            (What::Leaving { index, underway }, outgrown)
        };
        account.disk.give_back(outgrown.map_or(0, |slot| slot.len()));
        Some(Surrendered { what, outgrown })
    }
}

impl Core {
    /// Takes up to `most` frames back from each of some buffers, whose pages go to their slots: those that lie side by
    /// side in one call of the store.
    pub(crate) fn take_back(&self, from: &[PeerTable], reason: SpillReason, most: usize) -> Taken {
        let visited = PeerTable::try_with_each(from.iter().map(|peer| (peer, peer)), |peer, table| {
            let own = peer.beside().own().cloned();
            let giver = Giver { table: peer, own, returned: RefCell::default() };
            let pages = std::iter::from_fn(|| table.surrender(giver.account(), giver.home(self)));
            let surrendered: Vec<_> = pages.take(most).collect();
            (giver, surrendered)
        });
        let (givers, surrendered): (Vec<_>, Vec<_>) = visited.into_iter().unzip();
        let (mut frames, mut leaving, mut is_empty) = (Vec::new(), Vec::new(), true);
        let mut first_spills = Vec::new();
        for (giver, surrendered) in givers.iter().zip(surrendered) {
            for Surrendered { what, outgrown } in surrendered {
                is_empty = false;
                outgrown.into_iter().for_each(|slot| giver.home(self).free(slot));
                match what {
                    What::Empty(frame) => frames.push(frame),
                    What::Clean(frame) => {
                        self.tally.count_eviction();
                        frames.push(frame);
                    }
                    What::Leaving { index, underway } => leaving.push(Leaving { giver, index, underway }),
                }
            }
        }
        self.carry_out(leaving, reason, &mut frames, &mut first_spills);
        // So that they can be taken again; an owner that is inside finds them itself.
        let returned = givers.iter().filter(|giver| !giver.returned.borrow().is_empty());
        PeerTable::try_with_each(returned.map(|giver| (giver, giver.table)), |giver, table| {
            giver.returned.borrow().iter().for_each(|&index| table.readmit(index));
        });
        frames.iter().for_each(|_| self.tally.count_taking());
        // With nothing on its way any more: who listens may use any buffer.
        for bytes in first_spills {
            self.listeners.tell(&Event::FirstSpill { reason, bytes });
        }
        match frames {
            _ if is_empty => Taken::Nothing,
            none if none.is_empty() => Taken::Stuck,
            frames => Taken::Frames(frames),
        }
    }

    /// Writes pages that have left their tables, and tells their owners. Their frames are added to `frames`, but for
    /// those that are their owner's again; and to `first_spills` the bytes of those that are the first of their buffer.
    fn carry_out(
        &self,
        leaving: Vec<Leaving<'_>>,
        reason: SpillReason,
        frames: &mut Vec<Frame>,
        first_spills: &mut Vec<u64>,
    ) {
        let mut placed = Vec::with_capacity(leaving.len());
        for leaving in leaving {
            let resident = leaving.underway.resident();
            let take = || leaving.giver.home(self).take(leaving.index, resident.valid, None);
            match resident.slot.map_or_else(take, Ok) {
                Ok(slot) => placed.push(Placed { leaving, slot }),
                Err(_) => frames.extend(self.give_up(leaving)),
            }
        }
        placed.sort_unstable_by_key(|page| (page.file(), page.slot.offset));
        let mut placed = placed.into_iter().peekable();
        while let Some(first) = placed.next() {
            let mut run = vec![first];
            while let Some(next) = placed.next_if(|next| run.last().is_some_and(|last| last.is_beside(next)))
            {
                run.push(next);
            }
            let mut written = self.write_run(&run);
            // At once, since their owners may be waiting for them.
            for page in run {
                let has_arrived = written >= page.content().len();
                written = written.saturating_sub(page.content().len());
                let Placed { leaving, slot } = page;
                if has_arrived {
                    frames.push(self.land(leaving, slot, reason, first_spills));
                    continue;
                }
                if leaving.underway.resident().slot.is_none() {
                    leaving.giver.home(self).free(slot);
                }
                frames.extend(self.give_up(leaving));
            }
        }
    }

    /// Writes pages that lie side by side, and says how many bytes of them are there now.
    fn write_run(&self, run: &[Placed<'_>]) -> usize {
        let Some(first) = run.first() else { return 0 };
        let (store, offset) = (first.leaving.giver.home(self).store(), first.slot.offset);
        let mut counts = IoCounts::default();
        let (written, _) = match run {
            [page] => transfer::write(store, offset, page.content(), &mut counts),
            pages => {
                let mut parts: Vec<_> = pages.iter().map(|page| IoSlice::new(page.content())).collect();
                transfer::write_parts(store, offset, &mut parts, &mut counts)
            }
        };
        self.tally.count_io(Way::Paged, &counts);
        written
    }

    fn land(
        &self,
        leaving: Leaving<'_>,
        slot: Slot,
        reason: SpillReason,
        first_spills: &mut Vec<u64>,
    ) -> Frame {
        let Leaving { giver, underway, .. } = leaving;
        let bytes = underway.resident().valid as u64;
        let sums = self.checksums.of_page(underway.resident().content());
        let Landed { frame, unwanted, is_first } = underway.land(slot, sums, giver.account());
        self.tally.count_eviction();
        self.tally.count_spills(reason, 1);
        first_spills.extend(is_first.then_some(bytes));
        unwanted.into_iter().for_each(|slot| giver.home(self).free(slot));
        frame
    }

    /// Gives a page that could not be written back to its owner, unless that does not need it any more: then there is a
    /// frame.
    fn give_up(&self, leaving: Leaving<'_>) -> Option<Frame> {
        let Leaving { giver, index, underway } = leaving;
        let Some(abandoned) = underway.give_up(giver.account()) else {
            giver.returned.borrow_mut().push(index);
            return None;
        };
        abandoned.slot.into_iter().for_each(|slot| giver.home(self).free(slot));
        Some(abandoned.frame)
    }
}
