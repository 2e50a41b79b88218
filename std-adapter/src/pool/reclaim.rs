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

use crate::disk::backing::Backing;
use crate::disk::own_file::OwnFile;
use crate::disk::slots::Slot;
use crate::disk::transfer;
use crate::memory::frame::Frame;
use crate::observe::counters::IoPath;
use crate::observe::events::Event;
use crate::observe::stats::{IoCounts, SpillReason};
use crate::pages::page::Page;
use crate::pages::table::Table;
use crate::pages::transit::{Arrived, Carrier, Transit};
use crate::pages::usage::Usage;
use crate::pool::member::PeerTable;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use std::cell::RefCell;
use std::io::IoSlice;

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Reclaimed {
    /// Frames, at least one, still charged to the pool, with anything in them.
    FramePool(Vec<Frame>),
    /// The table was in use, or had nothing to give.
    Nothing,
    /// The store refuses: no use in trying another.
    StoreRefused,
}

/// What a table gives up at once.
#[derive(Debug)]
struct ReleasedPage {
    what: Released,
    /// A slot that is not needed any more.
    outgrown: Option<Slot>,
}

#[derive(Debug)]
enum Released {
    /// A frame that had no bytes.
    Empty(Frame),
    /// A frame whose bytes are in a slot already.
    Clean(Frame),
    /// A page whose bytes are still to be written.
    Dirty { index: u64, carrier: Carrier },
}

/// Whom pages are taken from.
#[derive(Debug)]
struct Donor<'a> {
    table: &'a PeerTable,
    /// Where the buffer has its slots: known from the visit, since the table may be another buffer's by the time
    /// that the pages have arrived.
    own: Option<Arc<OwnFile>>,
    /// Its pages that could not be written, and are its again.
    returned: RefCell<Vec<u64>>,
}

impl Donor<'_> {
    fn backing<'b>(&'b self, pool: &'b PoolState) -> Backing<'b> {
        Backing { disk: &pool.disk, own: self.own.as_deref() }
    }

    fn usage(&self) -> &Usage {
        &self.table.unlocked().usage
    }
}

/// Page `index`, on its way.
#[derive(Debug)]
struct Outgoing<'a> {
    donor: &'a Donor<'a>,
    index: u64,
    carrier: Carrier,
}

/// A page on its way that knows where to.
#[derive(Debug)]
struct Placed<'a> {
    outgoing: Outgoing<'a>,
    slot: Slot,
}

impl Placed<'_> {
    fn content(&self) -> &[u8] {
        self.outgoing.carrier.resident().content()
    }

    /// The file that it goes to, if that is not the pool's.
    fn file(&self) -> Option<*const OwnFile> {
        self.outgoing.donor.own.as_ref().map(Arc::as_ptr)
    }

    /// Whether both can be written in one go: they go to the same file, and nothing is between them there.
    fn is_beside(&self, next: &Placed<'_>) -> bool {
        self.file() == next.file() && self.slot.offset + self.content().len() as u64 == next.slot.offset
    }
}

impl Table {
    /// Lets the coldest page go, the window only if there is no other.
    fn release_page(&mut self, usage: &Usage, backing: Backing<'_>) -> Option<ReleasedPage> {
        let window = self.window_index().filter(|&index| !self.is_pinned(index));
        let index = self.coldest().map(|(index, _)| index).or(window)?;
        let mut resident = self.remove_resident(index)?;
        let (what, outgrown) = if resident.valid == 0 {
            self.sums.forget(index);
            usage.memory.release(resident.frame.capacity() as u64);
            (Released::Empty(resident.frame), resident.slot)
        } else if let Some(slot) = resident.slot.filter(|_| !resident.dirty) {
            self.put(index, Page::Spilled { slot, valid: resident.valid });
            usage.memory.release(resident.frame.capacity() as u64);
            (Released::Clean(resident.frame), None)
        } else {
            let fitting = resident.slot.filter(|slot| slot.len() >= resident.valid as u64);
            let needed = fitting.map_or_else(|| backing.slot_bytes(resident.valid), |slot| slot.len());
            if fitting.is_none() && usage.disk.reserve(needed).is_err() {
                self.put(index, Page::Resident(resident));
                return None;
            }
            let outgrown = std::mem::replace(&mut resident.slot, fitting).filter(|_| fitting.is_none());
            let (transit, carrier) = Transit::start(resident, needed);
            self.put(index, Page::InTransit(transit));
            (Released::Dirty { index, carrier }, outgrown)
        };
        usage.disk.release(outgrown.map_or(0, |slot| slot.len()));
        Some(ReleasedPage { what, outgrown })
    }
}

impl PoolState {
    /// Takes up to `most` frames back from each of some buffers, whose pages go to their slots: those that lie side by
    /// side in one call of the store.
    pub(crate) fn reclaim(&self, from: &[PeerTable], reason: SpillReason, most: usize) -> Reclaimed {
        let visited = PeerTable::try_with_each(from.iter().map(|peer| (peer, peer)), |peer, table| {
            let own = peer.unlocked().own().cloned();
            let donor = Donor { table: peer, own, returned: RefCell::default() };
            let pages = std::iter::from_fn(|| table.release_page(donor.usage(), donor.backing(self)));
            let released: Vec<_> = pages.take(most).collect();
            (donor, released)
        });
        let (donors, released): (Vec<_>, Vec<_>) = visited.into_iter().unzip();
        let (mut frames, mut outgoing, mut is_empty) = (Vec::new(), Vec::new(), true);
        let mut first_spills = Vec::new();
        for (donor, released) in donors.iter().zip(released) {
            for ReleasedPage { what, outgrown } in released {
                is_empty = false;
                outgrown.into_iter().for_each(|slot| donor.backing(self).free(slot));
                match what {
                    Released::Empty(frame) => frames.push(frame),
                    Released::Clean(frame) => {
                        self.counters.count_eviction();
                        frames.push(frame);
                    }
                    Released::Dirty { index, carrier } => outgoing.push(Outgoing { donor, index, carrier }),
                }
            }
        }
        self.carry_out(outgoing, reason, &mut frames, &mut first_spills);
        // So that they can be taken again; an owner that is inside finds them itself.
        let returned = donors.iter().filter(|donor| !donor.returned.borrow().is_empty());
        PeerTable::try_with_each(returned.map(|donor| (donor, donor.table)), |donor, table| {
            donor.returned.borrow().iter().for_each(|&index| table.settle(index));
        });
        frames.iter().for_each(|_| self.counters.count_reclaim());
        // With nothing on its way any more: who listens may use any buffer.
        for bytes in first_spills {
            self.listeners.notify(&Event::FirstSpill { reason, bytes });
        }
        match frames {
            _ if is_empty => Reclaimed::Nothing,
            none if none.is_empty() => Reclaimed::StoreRefused,
            frames => Reclaimed::FramePool(frames),
        }
    }

    /// Writes pages that have left their tables, and tells their owners. Their frames are added to `frames`, but for
    /// those that are their owner's again; and to `first_spills` the bytes of those that are the first of their buffer.
    fn carry_out(
        &self,
        outgoing: Vec<Outgoing<'_>>,
        reason: SpillReason,
        frames: &mut Vec<Frame>,
        first_spills: &mut Vec<u64>,
    ) {
        let mut placed = Vec::with_capacity(outgoing.len());
        for outgoing in outgoing {
            let resident = outgoing.carrier.resident();
            let take = || outgoing.donor.backing(self).allocate(outgoing.index, resident.valid, None);
            match resident.slot.map_or_else(take, Ok) {
                Ok(slot) => placed.push(Placed { outgoing, slot }),
                Err(_) => frames.extend(self.return_page(outgoing)),
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
                let Placed { outgoing, slot } = page;
                if has_arrived {
                    frames.push(self.arrive(outgoing, slot, reason, first_spills));
                    continue;
                }
                if outgoing.carrier.resident().slot.is_none() {
                    outgoing.donor.backing(self).free(slot);
                }
                frames.extend(self.return_page(outgoing));
            }
        }
    }

    /// Writes pages that lie side by side, and says how many bytes of them are there now.
    fn write_run(&self, run: &[Placed<'_>]) -> usize {
        let Some(first) = run.first() else { return 0 };
        let (store, offset) = (first.outgoing.donor.backing(self).store(), first.slot.offset);
        let mut counts = IoCounts::default();
        let (written, _) = match run {
            [page] => transfer::write(store, offset, page.content(), &mut counts),
            pages => {
                let mut parts: Vec<_> = pages.iter().map(|page| IoSlice::new(page.content())).collect();
                transfer::write_parts(store, offset, &mut parts, &mut counts)
            }
        };
        self.counters.count_io(IoPath::Paged, &counts);
        written
    }

    fn arrive(
        &self,
        outgoing: Outgoing<'_>,
        slot: Slot,
        reason: SpillReason,
        first_spills: &mut Vec<u64>,
    ) -> Frame {
        let Outgoing { donor, carrier, .. } = outgoing;
        let bytes = carrier.resident().valid as u64;
        let sums = self.checksums.of_page(carrier.resident().content());
        let Arrived { frame, unwanted, is_first } = carrier.arrive(slot, sums, donor.usage());
        self.counters.count_eviction();
        self.counters.count_spills(reason, 1);
        first_spills.extend(is_first.then_some(bytes));
        unwanted.into_iter().for_each(|slot| donor.backing(self).free(slot));
        frame
    }

    /// Gives a page that could not be written back to its owner, unless that does not need it any more: then there is a
    /// frame.
    fn return_page(&self, outgoing: Outgoing<'_>) -> Option<Frame> {
        let Outgoing { donor, index, carrier } = outgoing;
        let Some(abandoned) = carrier.return_page(donor.usage()) else {
            donor.returned.borrow_mut().push(index);
            return None;
        };
        abandoned.slot.into_iter().for_each(|slot| donor.backing(self).free(slot));
        Some(abandoned.frame)
    }
}
