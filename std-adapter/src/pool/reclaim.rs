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
//! - Pages that leave together are written together where their slots lie side by side. Nothing is written
//!   outside their own slots.
//! - The reclaiming thread waits for no owner. A page that its owner has pinned or lent stays where it is.
//!
//! Held by: `std-adapter/src/models.rs` (loom), `tests/tests/pool_stress.rs`, `tests/tests/spill_threads.rs`,
//! `tests/tests/spill_faults/`, `tests/tests/pool_limits.rs`, `tests/tests/pool_stats.rs`.

use crate::disk::backing::Backing;
use crate::disk::own_file::OwnFile;
use crate::disk::slots::{Fit, Slot};
use crate::disk::transfer;
use crate::foreign::hold_back;
use crate::memory::page_frame::PageFrame;
use crate::observe::counters::IoPath;
use crate::observe::events::Event;
use crate::observe::stats::{IoCounts, SpillReason};
use crate::pages::page::Page;
use crate::pages::sums::{Checksums, PageSums};
use crate::pages::table::Table;
use crate::pages::transit::{Arrived, Carrier, Transit};
use crate::pages::usage::Usage;
use crate::pool::member::PeerTable;
use crate::pool::registry::Registry;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use std::cell::RefCell;
use std::io::IoSlice;

/// Pages that are not contiguous in the store, but nearly, are copied into a block of so many bytes and
/// written in one call. Small bodies lie so. Not charged to the memory limit.
const GATHERED_MAX: usize = 64 << 10;

/// The longest gap between such pages, in bytes. A longer one would add blocks to the write.
const GAP_MAX: u64 = 4 << 10;

/// How much one reclaim takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    /// Pages from each buffer, at most.
    pub(crate) pages_max: usize,
    /// Bytes of frames: a buffer that holds no more is left alone.
    pub(crate) share: u64,
    /// Bytes of frames in all. The last page may exceed it.
    pub(crate) bytes_max: u64,
}

impl Take {
    /// Up to `pages_max` pages from each buffer, whatever it holds.
    pub(crate) fn pages(pages_max: usize) -> Self {
        Take { pages_max, share: 0, bytes_max: u64::MAX }
    }
}

/// The outcome of [`PoolState::reclaim`].
#[derive(Debug)]
pub(crate) enum Reclaimed {
    /// At least one frame, still charged to the pool, with arbitrary bytes in it; or given memory, to be let go.
    Frames(Vec<PageFrame>),
    /// Every table was in use, or had no page that could leave.
    Nothing,
    /// Pages left their tables, but none could be written. Those of other tables may lie in other files, or be clean.
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
    Empty(PageFrame),
    /// The page's bytes are in its slot already.
    Clean(PageFrame),
    /// The page's bytes are still to be written.
    Dirty { index: u64, carrier: Carrier },
}

impl ReleasedPage {
    fn frame_bytes(&self) -> u64 {
        let frame = match &self.content {
            Released::Empty(frame) | Released::Clean(frame) => frame,
            Released::Dirty { carrier, .. } => &carrier.resident().frame,
        };
        frame.capacity() as u64
    }
}

/// A buffer that pages are reclaimed from.
#[derive(Debug)]
struct Donor<'a> {
    table: &'a PeerTable,
    /// The buffer's own file, if it has one. Read during the visit: by the time the pages have arrived, the
    /// table may belong to another buffer.
    own: Option<Arc<OwnFile>>,
    /// Of new slots.
    fit: Fit,
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
        self.slot.offset + self.outgoing.carrier.resident().base() as u64
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

impl Table {
    /// Takes pages out of memory, as many as `take` says and there is memory to note, and subtracts their frames from it. Adds them to
    /// `released`, as those of the buffer number `donor`.
    fn release_pages(
        &mut self,
        (usage, backing, fit): (&Usage, Backing<'_>, Fit),
        checksums: Checksums,
        take: &mut Take,
        donor: usize,
        released: &mut Vec<(usize, ReleasedPage)>,
    ) {
        let (mut pages, mut held) = (0, usage.memory.used());
        while pages < take.pages_max
            && held > take.share
            && take.bytes_max > 0
            && released.try_reserve(1).is_ok()
            && let Some(page) = self.release_page(usage, backing, fit, checksums)
        {
            pages += 1;
            held = held.saturating_sub(page.frame_bytes());
            take.bytes_max = take.bytes_max.saturating_sub(page.frame_bytes());
            released.push((donor, page));
        }
    }

    /// Whether there is memory to note what page `index`, which is in memory, becomes when it leaves, and to put it back.
    fn can_note(&mut self, index: u64, checksums: Checksums) -> bool {
        let Some(page) = self.resident(index) else { return false };
        let (end, needs_entry) = (page.end_of_segment(), page.end() > 0 && !page.is_copy());
        let can_have_sums = checksums == Checksums::Off || !needs_entry || self.sums.reserve(index, end);
        can_have_sums && (!needs_entry || self.can_leave(index))
    }

    /// Takes the coldest page out of memory; the window only if there is no other. `None` if no page can
    /// leave.
    ///
    /// Reserves a dirty page's slot in the buffer's usage, and room for its sums if there are `checksums`. The slot itself is allocated
    /// later, outside the table.
    fn release_page(
        &mut self,
        usage: &Usage,
        backing: Backing<'_>,
        fit: Fit,
        checksums: Checksums,
    ) -> Option<ReleasedPage> {
        let window = self.window_index().filter(|&index| !self.is_pinned(index));
        let index = self.coldest(|_| true).map(|(index, _)| index).or(window)?;
        if !self.can_note(index, checksums) {
            return None;
        }
        let mut resident = self.remove_resident(index)?;
        let (content, outgrown) = if resident.end() == 0 {
            self.sums.forget(index);
            usage.release_frame(&resident.frame);
            let slot = resident.slot;
            (Released::Empty(resident.into_frame()), slot)
        } else if resident.is_copy() {
            usage.release_frame(&resident.frame);
            (Released::Clean(resident.into_frame()), None)
        } else if let Some(slot) = resident.slot.filter(|_| !resident.dirty) {
            self.put(index, Page::Spilled { slot, valid: resident.end() });
            usage.release_frame(&resident.frame);
            (Released::Clean(resident.into_frame()), None)
        } else {
            let fitting = resident.slot.filter(|slot| slot.len() >= resident.end() as u64);
            let needed = fitting.map_or_else(
                || backing.charge_to_grow(resident.valid, fit),
                |slot| slot.charge_for(resident.end()),
            );
            if usage.disk.reserve(needed - fitting.map_or(0, Slot::charged)).is_err() {
                self.put(index, Page::Resident(resident));
                return None;
            }
            let former = std::mem::replace(&mut resident.slot, fitting);
            match Transit::start(resident, needed) {
                Ok((transit, carrier)) => {
                    self.put(index, Page::InTransit(transit));
                    (Released::Dirty { index, carrier }, former.filter(|_| fitting.is_none()))
                }
                Err(mut resident) => {
                    resident.slot = former;
                    self.put(index, Page::Resident(resident));
                    usage.disk.release(needed - fitting.map_or(0, Slot::charged));
                    return None;
                }
            }
        };
        usage.disk.release(outgrown.map_or(0, Slot::charged));
        Some(ReleasedPage { content, outgrown })
    }
}

/// How many of `placed`, from the first on, one call of the store can write together: the pages that begin where the one before ends; if
/// there are none, those within [`GATHERED_MAX`] bytes, with short gaps.
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

/// The content of a run, with zeros in its gaps. What lies past the content of a page is never read. `None` if there is no memory for
/// it.
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
fn with_room<T>(len: usize) -> Option<Vec<T>> {
    let mut empty = Vec::new();
    empty.try_reserve_exact(len).ok()?;
    Some(empty)
}

impl PoolState {
    /// Reclaims pages from each of `tables`, as many as `take` says, and returns their frames. Costs one heavy
    /// fence for all tables, and one call of the store for each run of pages whose slots lie side by side.
    pub(crate) fn reclaim(&self, tables: &[PeerTable], reason: SpillReason, mut take: Take) -> Reclaimed {
        // A waker or a listener may use any buffer, and would wait for its pages that are in transit.
        let held_back = hold_back();
        let (mut released, mut visits) = (Vec::new(), 0);
        let donors = PeerTable::try_with_each(tables.iter().map(|peer| (peer, peer)), |peer, table| {
            let own = peer.unlocked().own().cloned();
            let fit = if self.is_at_rest(peer, reason) { Fit::Parts } else { Fit::Blocks };
            let donor = Donor { table: peer, own, fit, returned: RefCell::default() };
            let from = (donor.usage(), donor.backing(self), fit);
            table.release_pages(from, self.checksums, &mut take, visits, &mut released);
            visits += 1;
            donor
        });
        let is_empty = released.is_empty();
        let mut frames = Vec::new();
        let count = released.len();
        // Without memory for these, pages return.
        let (mut outgoing, mut first_spills) = (with_room(count), with_room(count));
        for (donor, ReleasedPage { content, outgrown }) in released {
            let donor = &donors[donor];
            outgrown.into_iter().for_each(|slot| donor.backing(self).free_quietly(slot));
            match content {
                Released::Empty(frame) => self.collect(&mut frames, frame),
                Released::Clean(frame) => {
                    self.counters.count_eviction();
                    self.collect(&mut frames, frame);
                }
                Released::Dirty { index, carrier } => {
                    let page = Outgoing { donor, index, carrier };
                    match (&mut outgoing, &first_spills) {
                        (Some(outgoing), Some(_)) => outgoing.push(page),
                        _ => self.return_page(page, &mut frames),
                    }
                }
            }
        }
        if let (Some(outgoing), Some(first_spills)) = (outgoing, &mut first_spills) {
            self.write_out(outgoing, reason, &mut frames, first_spills);
        }
        // Settle returned pages, so that they can be reclaimed again. Skip a table in use: its owner settles
        // them itself.
        let returned = donors.iter().filter(|donor| !donor.returned.borrow().is_empty());
        PeerTable::try_with_each(returned.map(|donor| (donor, donor.table)), |donor, table| {
            donor.returned.borrow().iter().for_each(|&index| table.settle(index));
        });
        frames.iter().for_each(|_| self.counters.count_reclaim());
        let gave_nothing = frames.is_empty() && reason == SpillReason::Reclaimed;
        if let Some(registry) = self.registry.as_ref().filter(|_| gave_nothing) {
            donors.iter().for_each(|donor| registry.note_gave_nothing(donor.table)); // a table in use is not among them
        }
        drop(held_back);
        self.disk.quota().serve_if_waiting();
        for bytes in first_spills.into_iter().flatten() {
            self.listeners.notify(Event::FirstSpill { reason, bytes });
        }
        match frames {
            _ if is_empty => Reclaimed::Nothing,
            none if none.is_empty() => Reclaimed::StoreRefused,
            frames => Reclaimed::Frames(frames),
        }
    }

    /// Whether the pages of a donor probably do not grow further: it has been silent for long, or all are to leave.
    fn is_at_rest(&self, donor: &PeerTable, reason: SpillReason) -> bool {
        let is_silent = |registry: &Registry| registry.is_silent(donor);
        reason == SpillReason::LimitLowered || self.registry.as_ref().is_some_and(is_silent)
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
        frames: &mut Vec<PageFrame>,
        first_spills: &mut Vec<u64>,
    ) {
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
                None => backing.allocate_to_grow(outgoing.index, resident.valid, outgoing.donor.fit),
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
            let written_to = self.write_run(&placed.as_slice()[..len]);
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
    }

    /// Adds a frame to `frames`, or recycles it if there is no memory for that.
    fn collect(&self, frames: &mut Vec<PageFrame>, frame: PageFrame) {
        if frames.try_reserve(1).is_ok() {
            frames.push(frame);
        } else {
            self.frames.recycle(frame);
        }
    }

    /// Writes a run of pages in one call of the store, or only the first if there is no memory for more. Returns the offset up to which
    /// the store has them now.
    fn write_run(&self, run: &[Placed<'_>]) -> u64 {
        let Some(first) = run.first() else { return 0 };
        let (store, offset) = (&first.outgoing.donor.backing(self), first.start());
        let mut counts = IoCounts::default();
        let (parts, bytes) = match run {
            [_] => (None, None),
            pages if is_contiguous(pages) => (with_room(pages.len()), None),
            pages => (None, gathered(pages)),
        };
        let (written, _) = if let Some(mut parts) = parts {
            parts.extend(run.iter().map(|page| IoSlice::new(page.content())));
            transfer::write_parts(store, offset, &mut parts, &mut counts)
        } else {
            transfer::write(store, offset, bytes.as_deref().unwrap_or(first.content()), &mut counts)
        };
        self.counters.count_io(IoPath::Paged, &counts);
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
        let bytes = carrier.resident().valid as u64;
        let Arrived { frame, unwanted, is_first } = carrier.arrive(slot, sums, donor.usage());
        self.counters.count_eviction();
        self.counters.count_spills(reason, 1);
        first_spills.extend(is_first.then_some(bytes));
        unwanted.into_iter().for_each(|slot| donor.backing(self).free_quietly(slot));
        frame
    }

    /// Returns a page that could not be written to its owner. If the owner has abandoned it, frees its slot
    /// and adds its frame to `frames`.
    fn return_page(&self, outgoing: Outgoing<'_>, frames: &mut Vec<PageFrame>) {
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
