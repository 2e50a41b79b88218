//! Reclaim: the pool moves pages of other buffers, the donors, to their slots, and hands their frames to a
//! requester.
//!
//! [`registry`](crate::pool::registry) chooses the donors.
//!
//! Promises:
//!
//! - I5: no lock is held while the store works. A donor's owner is kept out of its table only while pages
//!   change their state: its own pages, and those of the other donors of the same call.
//! - I3: a page that cannot be written returns to its owner.
//! - I6: neither the pool's disk limit nor a limit of the donor's own is passed.
//! - The reclaiming thread waits for no owner. A page that its owner has pinned or lent stays where it is.
//!
//! Held by: `std-adapter/src/models.rs` (loom), `tests/tests/pool_stress.rs`, `tests/tests/spill_threads.rs`,
//! `tests/tests/spill_faults/`, `tests/tests/pool_limits.rs`, `tests/tests/pool_stats.rs`.

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

/// The outcome of [`PoolState::reclaim`].
#[derive(Debug)]
pub(crate) enum Reclaimed {
    /// At least one frame, still charged to the pool, with arbitrary bytes in it.
    Frames(Vec<Frame>),
    /// Every table was in use, or had no page that could leave.
    Nothing,
    /// Pages left their tables, but none could be written. Pages of other donors would probably fail too.
    StoreRefused,
}

/// A page that has left its table.
#[derive(Debug)]
struct ReleasedPage {
    content: Released,
    /// The page's former slot, if it has become too short. To be freed.
    outgrown: Option<Slot>,
}

#[derive(Debug)]
enum Released {
    /// The page had no bytes.
    Empty(Frame),
    /// The page's bytes are in its slot already.
    Clean(Frame),
    /// The page's bytes are still to be written.
    Dirty { index: u64, carrier: Carrier },
}

/// A buffer that pages are reclaimed from.
#[derive(Debug)]
struct Donor<'a> {
    table: &'a PeerTable,
    /// The buffer's own file, if it has one. Read during the visit: by the time the pages have arrived, the
    /// table may belong to another buffer.
    own: Option<Arc<OwnFile>>,
    /// Indices of pages that could not be written and have returned to the buffer.
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

/// Page `index` of `donor`, in transit.
#[derive(Debug)]
struct Outgoing<'a> {
    donor: &'a Donor<'a>,
    index: u64,
    carrier: Carrier,
}

/// A page in transit, and the slot that it goes to.
#[derive(Debug)]
struct Placed<'a> {
    outgoing: Outgoing<'a>,
    slot: Slot,
}

impl Placed<'_> {
    fn content(&self) -> &[u8] {
        self.outgoing.carrier.resident().content()
    }

    /// Identifies the file that the page goes to. `None` is the pool's store.
    fn file(&self) -> Option<*const OwnFile> {
        self.outgoing.donor.own.as_ref().map(Arc::as_ptr)
    }

    /// Whether one call of the store can write both: they go to the same file, and `next` begins where this
    /// page ends.
    fn adjoins(&self, next: &Placed<'_>) -> bool {
        self.file() == next.file() && self.slot.offset + self.content().len() as u64 == next.slot.offset
    }
}

impl Table {
    /// Takes the coldest page out of memory; the window only if there is no other. `None` if no page can
    /// leave.
    ///
    /// Reserves a dirty page's slot in the buffer's usage. The slot itself is allocated later, outside the
    /// table.
    fn release_page(&mut self, usage: &Usage, backing: Backing<'_>) -> Option<ReleasedPage> {
        let window = self.window_index().filter(|&index| !self.is_pinned(index));
        let index = self.coldest().map(|(index, _)| index).or(window)?;
        let mut resident = self.remove_resident(index)?;
        let (content, outgrown) = if resident.valid == 0 {
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
        Some(ReleasedPage { content, outgrown })
    }
}

impl PoolState {
    /// Reclaims up to `pages_max` pages from each of `tables`, and returns their frames. Costs one heavy
    /// fence for all tables, and one call of the store for each run of pages whose slots lie side by side.
    pub(crate) fn reclaim(&self, tables: &[PeerTable], reason: SpillReason, pages_max: usize) -> Reclaimed {
        let visited = PeerTable::try_with_each(tables.iter().map(|peer| (peer, peer)), |peer, table| {
            let own = peer.unlocked().own().cloned();
            let donor = Donor { table: peer, own, returned: RefCell::default() };
            let pages = std::iter::from_fn(|| table.release_page(donor.usage(), donor.backing(self)));
            let released: Vec<_> = pages.take(pages_max).collect();
            (donor, released)
        });
        let (donors, released): (Vec<_>, Vec<_>) = visited.into_iter().unzip();
        let (mut frames, mut outgoing, mut is_empty) = (Vec::new(), Vec::new(), true);
        let mut first_spills = Vec::new();
        for (donor, released) in donors.iter().zip(released) {
            for ReleasedPage { content, outgrown } in released {
                is_empty = false;
                outgrown.into_iter().for_each(|slot| donor.backing(self).free(slot));
                match content {
                    Released::Empty(frame) => frames.push(frame),
                    Released::Clean(frame) => {
                        self.counters.count_eviction();
                        frames.push(frame);
                    }
                    Released::Dirty { index, carrier } => outgoing.push(Outgoing { donor, index, carrier }),
                }
            }
        }
        self.write_out(outgoing, reason, &mut frames, &mut first_spills);
        // Settle returned pages, so that they can be reclaimed again. Skip a table in use: its owner settles
        // them itself.
        let returned = donors.iter().filter(|donor| !donor.returned.borrow().is_empty());
        PeerTable::try_with_each(returned.map(|donor| (donor, donor.table)), |donor, table| {
            donor.returned.borrow().iter().for_each(|&index| table.settle(index));
        });
        frames.iter().for_each(|_| self.counters.count_reclaim());
        // Notify last, with no page in transit: a listener may use any buffer, and would wait for its pages.
        for bytes in first_spills {
            self.listeners.notify(&Event::FirstSpill { reason, bytes });
        }
        match frames {
            _ if is_empty => Reclaimed::Nothing,
            none if none.is_empty() => Reclaimed::StoreRefused,
            frames => Reclaimed::Frames(frames),
        }
    }

    /// Writes pages that are in transit, and ends their transits.
    ///
    /// Adds to `frames` the frame of each page that has arrived or is abandoned, and to `first_spills` the
    /// length of each that is the first spilled page of its buffer. A page that cannot be written returns to
    /// its owner.
    fn write_out(
        &self,
        outgoing: Vec<Outgoing<'_>>,
        reason: SpillReason,
        frames: &mut Vec<Frame>,
        first_spills: &mut Vec<u64>,
    ) {
        let mut placed = Vec::with_capacity(outgoing.len());
        for outgoing in outgoing {
            let resident = outgoing.carrier.resident();
            let allocate = || outgoing.donor.backing(self).allocate(outgoing.index, resident.valid, None);
            match resident.slot.map_or_else(allocate, Ok) {
                Ok(slot) => placed.push(Placed { outgoing, slot }),
                Err(_) => frames.extend(self.return_page(outgoing)),
            }
        }
        placed.sort_unstable_by_key(|page| (page.file(), page.slot.offset));
        let mut placed = placed.into_iter().peekable();
        while let Some(first) = placed.next() {
            let mut run = vec![first];
            while let Some(next) = placed.next_if(|next| run.last().is_some_and(|last| last.adjoins(next))) {
                run.push(next);
            }
            let mut written = self.write_run(&run);
            // End the transits before the next run: owners may be waiting for them.
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

    /// Writes pages whose slots lie side by side. Returns how many bytes of them the store has now.
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

    /// Ends the transit of a page that is in `slot` now, and returns its frame. Frees the slot if the owner
    /// has abandoned the page.
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

    /// Returns a page that could not be written to its owner. If the owner has abandoned it, frees its slot
    /// and returns its frame.
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
