//! Pages in transit on their way to their slots, and the calls of the store that write them.
//!
//! Promises:
//!
//! - I3: a page that cannot be written returns to its owner.
//! - I6: neither the pool's disk limit nor a limit of the donor's own is passed.
//! - Pages that leave together are written together where their slots lie side by side. Nothing is written
//!   outside their own slots.
//!
//! Held by: `std-adapter/src/models.rs` (loom), `tests/tests/spill_threads.rs`, `tests/tests/spill_faults/`,
//! `tests/tests/pool_limits.rs`, `tests/tests/pool_stats.rs`.

use crate::disk::backing::Backing;
use crate::disk::own_file::OwnFile;
use crate::disk::slots::{Fit, Slot};
use crate::disk::transfer;
use crate::foreign::drop_quietly;
use crate::memory::page_frame::PageFrame;
use crate::observe::counters::IoPath;
use crate::observe::stats::{IoCounts, SpillReason};
use crate::pages::sums::PageSums;
use crate::pages::transit::{Arrived, Carrier};
use crate::pages::usage::Usage;
use crate::pool::member::PeerTable;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use crate::sync::biased::Looks;
use std::cell::RefCell;
use std::io::IoSlice;

/// Pages that are not contiguous in the store, but nearly, are copied into a block of so many bytes and
/// written in one call. Small bodies lie so. Not charged to the memory limit.
const GATHERED_MAX: usize = 64 << 10;

/// The longest gap between such pages, in bytes. A longer one would add blocks to the write.
const GAP_MAX: u64 = 4 << 10;

/// A buffer that pages are reclaimed from.
#[derive(Debug)]
pub(crate) struct Donor<'a> {
    pub(crate) table: &'a PeerTable,
    /// The buffer's own file, if it has one. Read during the visit: by the time the pages have arrived, the
    /// table may belong to another buffer.
    pub(crate) own: Option<Arc<OwnFile>>,
    /// Of new slots.
    pub(crate) fit: Fit,
    /// Indices of pages that could not be written and have returned to the buffer.
    returned: RefCell<Vec<u64>>,
}

impl<'a> Donor<'a> {
    pub(crate) fn new(table: &'a PeerTable, own: Option<Arc<OwnFile>>, fit: Fit) -> Self {
        Donor { table, own, fit, returned: RefCell::default() }
    }

    /// Settles what has returned to each of `donors`, so that it can be reclaimed again. Skips a table in
    /// use: its owner, which may else be silent for long, settles it itself.
    pub(crate) fn settle_returned(donors: impl Iterator<Item = &'a Donor<'a>>) {
        let returned = donors.filter(|donor| !donor.returned.borrow().is_empty());
        PeerTable::try_with_each(returned.map(|donor| (donor, donor.table)), Looks::Once, |donor, table| {
            donor.returned.borrow().iter().for_each(|&index| table.settle(index));
        });
    }

    pub(crate) fn backing<'b>(&'b self, pool: &'b PoolState) -> Backing<'b> {
        Backing { disk: &pool.disk, own: self.own.as_deref() }
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.table.unlocked().usage
    }
}

/// Page `index` of `donor`, in transit.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) donor: &'a Donor<'a>,
    pub(crate) index: u64,
    pub(crate) carrier: Carrier,
}

/// A page in transit, and the slot that it goes to.
#[derive(Debug)]
struct Placed<'a> {
    outgoing: Outgoing<'a>,
    slot: Slot,
    /// If the pool keeps any.
    sums: Option<PageSums>,
}

impl Placed<'_> {
    fn content(&self) -> &[u8] {
        self.outgoing.carrier.resident().content()
    }

    /// Identifies the file that the page goes to. `None` is the pool's store.
    fn file(&self) -> Option<*const OwnFile> {
        self.outgoing.donor.own.as_ref().map(Arc::as_ptr)
    }

    /// Where in its file what the frame has begins.
    fn start(&self) -> u64 {
        self.slot.offset + self.outgoing.carrier.resident().frame_start() as u64
    }

    /// Where in its file what the frame has ends.
    fn end(&self) -> u64 {
        self.start() + self.content().len() as u64
    }

    /// How many bytes lie between this page's content and `next`, if their slots lie side by side in one
    /// file. So the gap belongs to this page.
    fn gap(&self, next: &Placed<'_>) -> Option<u64> {
        let adjoins = self.slot.offset + self.slot.len() == next.slot.offset;
        let [page, next_page] = [self, next].map(|page| page.outgoing.carrier.resident());
        // The slot of a segment has content beside it, and that of a page that grows has no blocks there.
        let is_free = self.slot.is_charged_whole() && !page.is_segment() && !next_page.is_segment();
        let gap = (adjoins && self.file() == next.file()).then(|| next.start() - self.end())?;
        (gap == 0 || is_free).then_some(gap)
    }
}

/// How many of `placed`, from the first on, one call of the store can write together: the pages that begin
/// where the one before ends; if there are none, those within [`GATHERED_MAX`] bytes, with short gaps.
fn run_len(placed: &[Placed<'_>]) -> usize {
    let Some(first) = placed.first() else { return 0 };
    let start = first.start();
    let count = |may_follow: &dyn Fn(u64, &Placed<'_>) -> bool| {
        let follows = |two: &&[Placed<'_>]| two[0].gap(&two[1]).is_some_and(|gap| may_follow(gap, &two[1]));
        1 + placed.windows(2).take_while(follows).count()
    };
    match count(&|gap, _| gap == 0) {
        1 => count(&|gap, next| gap < GAP_MAX && next.end() - start <= GATHERED_MAX as u64),
        contiguous => contiguous,
    }
}

fn is_contiguous(run: &[Placed<'_>]) -> bool {
    run.windows(2).all(|two| two[0].gap(&two[1]) == Some(0))
}

/// The content of a run, with zeros in its gaps. What lies past the content of a page is never read. `None`
/// if there is no memory for it.
fn gathered(run: &[Placed<'_>]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(GATHERED_MAX).ok()?;
    let mut end = None;
    for page in run {
        let gap = end.map_or(0, |end| page.start() - end);
        bytes.resize(bytes.len() + usize::try_from(gap).unwrap_or(0), 0);
        bytes.extend_from_slice(page.content());
        end = Some(page.end());
    }
    Some(bytes)
}

/// An empty vector with room for `len`. `None` if there is no memory for that.
pub(crate) fn with_room<T>(len: usize) -> Option<Vec<T>> {
    let mut empty = Vec::new();
    empty.try_reserve_exact(len).ok()?;
    Some(empty)
}

impl PoolState {
    /// Writes pages that are in transit, and ends their transits. Returns what was written, which
    /// the pool has counted.
    ///
    /// Adds to `frames` the frame of each page that has arrived or is abandoned, and to `first_spills` the
    /// length of each that is the first spilled page of its buffer. A page that cannot be written returns to
    /// its owner.
    pub(crate) fn write_all_out(
        &self,
        outgoing: Vec<Outgoing<'_>>,
        reason: SpillReason,
        frames: &mut Vec<PageFrame>,
        first_spills: &mut Vec<u64>,
    ) -> IoCounts {
        let mut counts = IoCounts::default();
        let mut placed = with_room(outgoing.len());
        for outgoing in outgoing {
            let Some(placed) = &mut placed else {
                self.return_page(outgoing, frames);
                continue;
            };
            let resident = outgoing.carrier.resident();
            let backing = outgoing.donor.backing(self);
            let place = || match resident.slot {
                Some(slot) => backing.charge_to(slot, resident.end(), None),
                None => backing.allocate_to_grow(outgoing.index, resident.len, outgoing.donor.fit),
            };
            let sums = self.checksums.of_page(resident);
            let slot = sums.is_ok().then(place);
            match (slot, sums) {
                (Some(Ok(slot)), Ok(sums)) => placed.push(Placed { outgoing, slot, sums }),
                _ => self.return_page(outgoing, frames),
            }
        }
        let mut placed = placed.unwrap_or_default();
        placed.sort_unstable_by_key(|page| (page.file(), page.start()));
        let mut placed = placed.into_iter();
        while let len @ 1.. = run_len(placed.as_slice()) {
            let written_to = self.write_run(&placed.as_slice()[..len], &mut counts);
            // End the transits before the next run: owners may be waiting for them.
            for page in placed.by_ref().take(len) {
                let has_arrived = page.end() <= written_to;
                let Placed { outgoing, slot, sums } = page;
                if has_arrived {
                    let frame = self.arrive(outgoing, slot, sums, reason, first_spills);
                    self.collect(frames, frame);
                    continue;
                }
                let backing = outgoing.donor.backing(self);
                match outgoing.carrier.resident().slot {
                    Some(before) => backing.discharge_quietly(slot, before),
                    None => backing.free_quietly(slot),
                }
                self.return_page(outgoing, frames);
            }
        }
        counts
    }

    /// Adds a frame to `frames`, or recycles it if there is no memory for that.
    pub(crate) fn collect(&self, frames: &mut Vec<PageFrame>, frame: PageFrame) {
        if frames.try_reserve(1).is_ok() {
            frames.push(frame);
        } else {
            self.frames.recycle(frame);
        }
    }

    /// Writes a run of pages in one call of the store, or only the first if there is no memory for more.
    /// Returns the offset up to which the store has them now.
    fn write_run(&self, run: &[Placed<'_>], total: &mut IoCounts) -> u64 {
        let Some(first) = run.first() else { return 0 };
        let (store, offset) = (&first.outgoing.donor.backing(self), first.start());
        let mut counts = IoCounts::default();
        let (parts, bytes) = match run {
            [_] => (None, None),
            pages if is_contiguous(pages) => (with_room(pages.len()), None),
            pages => (None, gathered(pages)),
        };
        let (written, result) = if let Some(mut parts) = parts {
            parts.extend(run.iter().map(|page| IoSlice::new(page.content())));
            transfer::write_parts(store, offset, &mut parts, &mut counts)
        } else {
            transfer::write(store, offset, bytes.as_deref().unwrap_or(first.content()), &mut counts)
        };
        self.counters.count_io(IoPath::Paged, &counts);
        self.listeners.notify_errors(&counts, result.as_ref().err());
        drop_quietly(result); // pages are in transit
        *total = *total + counts;
        offset + written as u64
    }

    /// Ends the transit of a page that is in `slot` now, and returns its frame. Frees the slot if the owner
    /// has abandoned the page.
    fn arrive(
        &self,
        outgoing: Outgoing<'_>,
        slot: Slot,
        sums: Option<PageSums>,
        reason: SpillReason,
        first_spills: &mut Vec<u64>,
    ) -> PageFrame {
        let Outgoing { donor, carrier, .. } = outgoing;
        let bytes = carrier.resident().len as u64;
        let Arrived { frame, unwanted, is_first } = carrier.arrive(slot, sums, donor.usage());
        self.counters.count_eviction();
        self.counters.count_spills(reason, 1);
        first_spills.extend(is_first.then_some(bytes));
        unwanted.into_iter().for_each(|slot| donor.backing(self).free_quietly(slot));
        frame
    }

    /// Returns a page that could not be written to its owner. If the owner has abandoned it, frees its slot
    /// and adds its frame to `frames`.
    pub(crate) fn return_page(&self, outgoing: Outgoing<'_>, frames: &mut Vec<PageFrame>) {
        let Outgoing { donor, index, carrier } = outgoing;
        let Some(abandoned) = carrier.return_page(donor.usage()) else {
            let mut returned = donor.returned.borrow_mut();
            // Without memory to note it, its owner settles it.
            if returned.try_reserve(1).is_ok() {
                returned.push(index);
            }
            return;
        };
        abandoned.slot.into_iter().for_each(|slot| donor.backing(self).free_quietly(slot));
        self.collect(frames, abandoned.into_frame());
    }
}
