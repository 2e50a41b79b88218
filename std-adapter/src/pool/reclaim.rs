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
//! - The reclaiming thread waits for no owner, but for a copy while anybody waits for memory. A page that its
//!   owner has pinned or lent stays where it is.
//!
//! Held by: `std-adapter/src/models.rs` (loom), `tests/tests/pool_stress.rs`, `tests/tests/spill_threads.rs`,
//! `tests/tests/spill_faults/`, `tests/tests/pool_limits.rs`, `tests/tests/pool_stats.rs`.

use crate::disk::backing::Backing;
use crate::disk::slots::{Fit, Slot};
use crate::foreign::hold_back;
use crate::memory::page_frame::PageFrame;
use crate::observe::events::Event;
use crate::observe::stats::SpillReason;
use crate::pages::page::Page;
use crate::pages::resident::Resident;
use crate::pages::sums::Checksums;
use crate::pages::table::Table;
use crate::pages::transit::{Carrier, Transit};
use crate::pages::usage::Usage;
use crate::pool::carriage::{Donor, Outgoing, with_room};
use crate::pool::member::PeerTable;
use crate::pool::registry::Registry;
use crate::pool::state::PoolState;
use crate::sync::biased::Looks;

/// How much one reclaim takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    /// Pages from each buffer, at most.
    pub(crate) pages_max: usize,
    /// Bytes of frames: a buffer that holds no more is left alone.
    pub(crate) share: u64,
    /// Bytes of frames in all. The last page may exceed it.
    pub(crate) bytes_max: u64,
    /// Only pages that need no more room on the disk.
    pub(crate) in_place: bool,
}

impl Take {
    /// Up to `pages_max` pages from each buffer, whatever it holds.
    pub(crate) fn pages(pages_max: usize) -> Self {
        Take { pages_max, share: 0, bytes_max: u64::MAX, in_place: false }
    }

    /// The same, of pages that need no more room on the disk.
    pub(crate) fn in_place(pages_max: usize) -> Self {
        Take { in_place: true, ..Take::pages(pages_max) }
    }
}

/// The outcome of [`PoolState::reclaim`].
#[derive(Debug)]
pub(crate) enum Reclaimed {
    /// At least one frame, still charged to the pool, with arbitrary bytes in it; or given
    /// memory, to be let go.
    Frames(Vec<PageFrame>),
    /// Every table was in use, or had no page that could leave.
    Nothing,
    /// Pages left their tables, but none could be written. Those of other tables may lie in
    /// other files, or be clean.
    StoreRefused,
}

/// A page that has left its table.
#[derive(Debug)]
pub(crate) struct ReleasedPage {
    content: Released,
    /// The page's former slot, if it has become too short. To be freed.
    outgrown: Option<Slot>,
}

#[derive(Debug)]
enum Released {
    /// The page had no bytes, or is a copy of what other content has.
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

    /// Its frame, if it need not be written. Frees what it has outgrown.
    pub(crate) fn leave<'a>(self, donor: &'a Donor<'a>, pool: &PoolState) -> Result<PageFrame, Outgoing<'a>> {
        self.outgrown.into_iter().for_each(|slot| donor.backing(pool).free_quietly(slot));
        match self.content {
            Released::Empty(frame) => Ok(frame),
            Released::Clean(frame) => {
                pool.counters.count_eviction();
                Ok(frame)
            }
            Released::Dirty { index, carrier } => Err(Outgoing { donor, index, carrier }),
        }
    }
}

impl Table {
    /// Takes pages out of memory, as many as `take` says and there is memory to note, and subtracts their
    /// frames from it. Adds them to `released`, as those of the buffer number `donor`. Returns whether there
    /// were any.
    fn release_pages(
        &mut self,
        from: (&Usage, Backing<'_>, Fit),
        checksums: Checksums,
        take: &mut Take,
        donor: usize,
        released: &mut Vec<(usize, ReleasedPage)>,
    ) -> bool {
        let (mut pages, mut held) = (0, from.0.memory.used());
        while pages < take.pages_max
            && held > take.share
            && take.bytes_max > 0
            && released.try_reserve(1).is_ok()
        {
            let mut page = self.release_coldest(from, checksums, take.in_place);
            if page.is_none() && !take.in_place {
                // A limit of the buffer's own may refuse the coldest, and another need no room.
                page = self.release_coldest(from, checksums, true);
            }
            let Some(page) = page else {
                if pages == 0 {
                    self.sought.note(self.has_pin());
                }
                break;
            };
            pages += 1;
            held = held.saturating_sub(page.frame_bytes());
            take.bytes_max = take.bytes_max.saturating_sub(page.frame_bytes());
            released.push((donor, page));
        }
        pages > 0
    }

    /// Reserves memory to note what page `index` becomes when it leaves, and to put it back.
    /// False if there is none.
    fn reserve_for_release(&mut self, index: u64, checksums: Checksums) -> bool {
        let Some(page) = self.resident(index) else { return false };
        let (end, needs_entry) = (page.end_of_segment(), page.end() > 0 && !page.is_copy());
        let sums_are_reserved = checksums == Checksums::Off || !needs_entry || self.sums.reserve(index, end);
        sums_are_reserved && (!needs_entry || self.reserve_for_leave(index))
    }

    /// Takes the coldest page out of memory; or, if `in_place`, the coldest that needs no write, and else no
    /// more room on the disk. The window only if there is no other. `None` if no page can leave.
    fn release_coldest(
        &mut self,
        from: (&Usage, Backing<'_>, Fit),
        checksums: Checksums,
        in_place: bool,
    ) -> Option<ReleasedPage> {
        let is_clean = |page: &Resident| !page.dirty;
        let fits = |page: &Resident| {
            let fits_in =
                |slot: Slot| slot.len() >= page.end() as u64 && slot.charge_for(page.end()) <= slot.charged();
            is_clean(page) || page.slot.is_some_and(fits_in)
        };
        let window = self.window_index().filter(|&index| !self.is_pinned(index));
        let coldest = if in_place {
            let window = window.filter(|&index| self.resident(index).is_some_and(|page| fits(page)));
            let coldest = self.coldest(is_clean).or_else(|| self.coldest(fits));
            coldest.map(|(index, _)| index).or(window)
        } else {
            self.coldest(|_| true).map(|(index, _)| index).or(window)
        };
        let index = coldest?;
        self.release_page(index, from, checksums)
    }

    /// Takes page `index` out of memory. `None` if it is not there, or cannot leave.
    ///
    /// Reserves a dirty page's slot in the buffer's usage, and room for its sums if there are `checksums`.
    /// The slot itself is allocated later, outside the table.
    pub(crate) fn release_page(
        &mut self,
        index: u64,
        (usage, backing, fit): (&Usage, Backing<'_>, Fit),
        checksums: Checksums,
    ) -> Option<ReleasedPage> {
        if !self.reserve_for_release(index, checksums) {
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
            (Released::Empty(resident.into_frame()), None)
        } else if let Some(slot) = resident.slot.filter(|_| !resident.dirty) {
            self.put(index, Page::Spilled { slot, end: resident.end() });
            usage.release_frame(&resident.frame);
            (Released::Clean(resident.into_frame()), None)
        } else {
            let fitting = resident.slot.filter(|slot| slot.len() >= resident.end() as u64);
            let needed = fitting.map_or_else(
                || backing.charge_to_grow(resident.len, fit),
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

impl PoolState {
    /// Reclaims pages from each of `tables`, as many as `take` says, and returns their frames.
    /// Costs one heavy fence for all tables, and one call of the store for each run of pages whose
    /// slots lie side by side.
    pub(crate) fn reclaim(&self, tables: &[PeerTable], reason: SpillReason, mut take: Take) -> Reclaimed {
        // A waker or a listener may use any buffer, and would wait for its pages that are in transit.
        let held_back = hold_back();
        let (mut released, mut visits) = (Vec::new(), 0);
        let returns = self.frames.watched().returns(); // before the looks
        let peers = tables.iter().map(|peer| (peer, peer));
        // A waiter that finds nothing sleeps.
        let looks = if self.disk.quota().waiting() > 0 { Looks::Twice } else { Looks::Once };
        let donors = PeerTable::try_with_each(peers, looks, |peer, table| {
            let before = released.len();
            let donor = self.visit(peer, table, reason, &mut take, (visits, &mut released));
            visits += 1;
            // Here, since its owner forgets it once there is something. A table in use is not among them, and
            // a page that is pinned may leave soon. Of several, one may have been in use when all were asked
            // for any page; the next search comes to others.
            let is_asked_for_all = !take.in_place || tables.len() == 1;
            let has_none = released.len() == before && !table.has_pin() && is_asked_for_all;
            if has_none && reason == SpillReason::Reclaimed {
                self.note_refusal(peer, (!table.shared.is_empty()).then_some(returns));
            }
            donor
        });
        let is_empty = released.is_empty();
        let mut frames = Vec::new();
        let count = released.len();
        // Without memory for these, pages return.
        let (mut outgoing, mut first_spills) = (with_room(count), with_room(count));
        for (donor, page) in released {
            match (page.leave(&donors[donor], self), &mut outgoing, &first_spills) {
                (Ok(frame), ..) => self.collect(&mut frames, frame),
                (Err(page), Some(outgoing), Some(_)) => outgoing.push(page),
                (Err(page), ..) => self.return_page(page, &mut frames),
            }
        }
        if let (Some(outgoing), Some(first_spills)) = (outgoing, &mut first_spills) {
            let _counts = self.write_all_out(outgoing, reason, &mut frames, first_spills); // not the donors' doing
        }
        Donor::settle_returned(donors.iter());
        frames.iter().for_each(|_| self.counters.count_reclaim());
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

    /// Takes pages out of the table of a donor, and adds them to `released`, as those of donor number `at`.
    fn visit<'a>(
        &self,
        peer: &'a PeerTable,
        table: &mut Table,
        reason: SpillReason,
        take: &mut Take,
        (at, released): (usize, &mut Vec<(usize, ReleasedPage)>),
    ) -> Donor<'a> {
        let own = peer.unlocked().own().cloned();
        let fit = if self.is_at_rest(peer, reason) { Fit::Parts } else { Fit::Blocks };
        let donor = Donor::new(peer, own, fit);
        let from = (donor.usage(), donor.backing(self), fit);
        let has_shared = !table.shared.is_empty();
        if has_shared && self.disk.quota().is_limited() {
            self.frames.watched().seek_shared();
        }
        let found = table.release_pages(from, self.checksums, take, at, released);
        // Each search looks at a few of the shared pages. A limit is kept though all of these are lent.
        if !found && reason == SpillReason::LimitLowered && has_shared {
            table.end_sharing();
            table.release_pages(from, self.checksums, take, at, released);
        }
        donor
    }

    /// Notes that a donor had nothing to give; see [`Activity::note_refusal`](crate::pool::activity).
    fn note_refusal(&self, donor: &PeerTable, returns: Option<u64>) {
        if let Some(registry) = &self.registry {
            registry.note_refusal(donor, returns);
        }
    }

    /// Whether the pages of a donor probably do not grow further: it has been silent for long,
    /// or all are to leave.
    fn is_at_rest(&self, donor: &PeerTable, reason: SpillReason) -> bool {
        let is_silent = |registry: &Registry| registry.is_silent(donor);
        reason == SpillReason::LimitLowered || self.registry.as_ref().is_some_and(is_silent)
    }
}
