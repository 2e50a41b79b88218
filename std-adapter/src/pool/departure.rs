//! Pages that their owner sends away, for a job to write: the owner goes on meanwhile, and does
//! not wait for the store.
//!
//! They are in transit like those of a donor, and all that may become of a page in transit may become of
//! these. But nobody waits until they have arrived: so their owner settles them once the job has ended.
//!
//! Promises:
//!
//! - What is begun and ended here reaches no store: the job does.
//! - I3: a page that is not written, because the store refuses it or the job is not run,
//!   returns to its owner.
//!
//! Held by: `tests/tests/async_buffer/`, `std-adapter/src/models.rs` (loom, of transits).

use crate::disk::own_file::OwnFile;
use crate::disk::slots::Fit;
use crate::foreign::hold_back;
use crate::memory::page_frame::PageFrame;
use crate::observe::events::Event;
use crate::observe::stats::{IoCounts, SpillReason};
use crate::pages::table::Table;
use crate::pages::transit::Carrier;
use crate::pool::carriage::{Donor, Outgoing, with_room};
use crate::pool::member::{OwnTable, PeerTable};
use crate::pool::state::PoolState;
use crate::sync::Arc;
use std::ops::Range;

/// Pages of one buffer that are in transit, and are to be written together.
pub(crate) struct Departure {
    pool: Arc<PoolState>,
    table: PeerTable,
    own: Option<Arc<OwnFile>>,
    /// What is still to be written.
    pages: Vec<(u64, Carrier)>,
    /// Where all of them are.
    indices: Range<u64>,
    counts: IoCounts,
}

impl Departure {
    /// Takes those of the pages `indices` that can leave out of the table of a buffer, which has the file
    /// `own`. `None` if that is none.
    pub(crate) fn begin(
        pool: &Arc<PoolState>,
        table: &mut OwnTable,
        own: Option<Arc<OwnFile>>,
        indices: Range<u64>,
    ) -> Option<Self> {
        let mut pages = with_room(usize::try_from(indices.end - indices.start).ok()?)?;
        let peer = table.peer();
        {
            let donor = Donor::new(&peer, own.clone(), Fit::Blocks);
            for index in indices.clone() {
                let from = (donor.usage(), donor.backing(pool), donor.fit);
                let released = table.with(|table| table.release_page(index, from, pool.checksums));
                match released.map(|page| page.leave(&donor, pool)) {
                    Some(Ok(frame)) => pool.frames.recycle(frame),
                    Some(Err(Outgoing { index, carrier, .. })) => pages.push((index, carrier)),
                    None => {}
                }
            }
        }
        let departure = Departure {
            pool: Arc::clone(pool),
            table: peer,
            own,
            pages,
            indices,
            counts: IoCounts::default(),
        };
        Some(departure).filter(|departure| !departure.pages.is_empty())
    }

    /// Writes the pages, and recycles their frames. For
    /// [`Offload::submit`](crate::pool::offload::Offload::submit).
    pub(crate) fn run(&mut self) {
        let (mut first_spills, mut counts) = (with_room(self.pages.len()), IoCounts::default());
        self.end(|pool, outgoing, frames| {
            if let Some(first_spills) = &mut first_spills {
                counts = pool.write_all_out(outgoing, SpillReason::Evicted, frames, first_spills);
            } else {
                outgoing.into_iter().for_each(|page| pool.return_page(page, frames));
            }
        });
        self.counts = counts;
        for bytes in first_spills.into_iter().flatten() {
            self.pool.listeners.notify(Event::FirstSpill { reason: SpillReason::Evicted, bytes });
        }
    }

    /// For the owner, after the job: makes the pages spilled, or resident again. Returns what was written,
    /// which the pool has counted.
    pub(crate) fn settle(mut self, table: &mut OwnTable) -> IoCounts {
        self.give_up();
        let settle = |table: &mut Table| self.indices.clone().for_each(|index| table.settle(index));
        table.with(settle);
        self.counts
    }

    /// Returns what was not written.
    fn give_up(&mut self) {
        if !self.pages.is_empty() {
            self.end(|pool, outgoing, frames| {
                outgoing.into_iter().for_each(|page| pool.return_page(page, frames));
            });
        }
    }

    /// Ends the transits by `end`, and recycles the frames that this leaves.
    fn end(&mut self, end: impl FnOnce(&PoolState, Vec<Outgoing<'_>>, &mut Vec<PageFrame>)) {
        // A waker or a listener may use any buffer, and would wait for its pages that are in transit.
        let held_back = hold_back();
        let donor = Donor::new(&self.table, self.own.clone(), Fit::Blocks);
        let (mut frames, pages) = (Vec::new(), std::mem::take(&mut self.pages));
        let outgoing = pages.into_iter().map(|(index, carrier)| Outgoing { donor: &donor, index, carrier });
        match with_room(outgoing.len()) {
            Some(mut all) => {
                all.extend(outgoing);
                end(&self.pool, all, &mut frames);
            }
            None => outgoing.for_each(|page| self.pool.return_page(page, &mut frames)),
        }
        frames.into_iter().for_each(|frame| self.pool.frames.recycle(frame));
        Donor::settle_returned(std::iter::once(&donor));
        drop(held_back);
        self.pool.disk.quota().serve_if_waiting();
        self.pool.tell_waiters();
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::api::pool::SpillPool;
    use crate::pages::page::Location;
    use std::io::{Read, Seek, Write};

    const PAGE: usize = 4096;

    /// A page that could not leave stayed in transit until its owner came: no other buffer could have its
    /// memory, also once there was room on the disk again.
    #[test]
    fn a_page_that_cannot_leave_is_resident_again_before_its_owner_comes() {
        let pool = SpillPool::builder().memory(64 * PAGE).page_size(PAGE).disk(0).build().unwrap();
        let mut buffer = pool.buffer();
        buffer.write_all(&[7; 8 * PAGE]).unwrap();
        let table = buffer.pager.own_table.as_mut().unwrap();
        let mut departure = Departure::begin(&pool.state, table, None, 2..6).unwrap();
        departure.run();
        let found = table.with(|table| (2..6).all(|index| table.locate(index) == Location::Memory));
        assert!(found);
        buffer.pager.settle_departed(departure);
        drop(buffer);
        pool.check_invariants();
    }

    /// A page that left for a job without a write was not counted as evicted, and any other was.
    #[test]
    fn a_clean_page_that_leaves_is_counted() {
        let pool = SpillPool::builder().memory(64 * PAGE).page_size(PAGE).build().unwrap();
        let mut buffer = pool.buffer();
        buffer.write_all(&[7; 2 * PAGE]).unwrap();
        buffer.spill().unwrap();
        buffer.rewind().unwrap();
        (0..40).for_each(|_| buffer.read_exact(&mut [0; PAGE / 20]).unwrap());
        let (evictions, held) = (pool.stats().evictions, buffer.stats().memory_used);
        assert!(held > 0);
        let table = buffer.pager.own_table.as_mut().unwrap();
        assert!(Departure::begin(&pool.state, table, None, 0..2).is_none(), "nothing is to be written");
        assert_eq!(pool.stats().evictions - evictions, held / PAGE as u64);
    }
}
