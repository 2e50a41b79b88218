//! The tables of a pool, and the choice of donors when memory is short.
//!
//! Promises:
//!
//! - A buffer whose frames are within its fair share (the memory limit divided by the number of
//!   [active](crate::pool::activity) buffers) is a donor only if it is idle, and only for a requester that
//!   holds little. Frames that several idle donors release beyond the request, at most a 64th of the limit,
//!   are recycled for the next requester.
//! - Under the *larger* rule memory flows from a buffer that holds more than its share to one that then holds
//!   no more than its own, or still no more than the donor. So two buffers never reclaim the same frame from
//!   each other in turn.
//! - A search visits a bounded number of tables, and the next search continues where it stopped. Of requests
//!   that find no donor, only so many search that each visits eight tables on average, unless somebody waits.
//!   It visits a table that holds no memory once: buffers that are empty or spilled cost a search nothing.
//! - A table that was asked and gave nothing is not asked again in the same [epoch](crate::pool::activity):
//!   so one whose pages cannot leave, since they are lent or have no room on the disk, keeps nobody from the
//!   memory of the others. One that is in use, or has a page pinned, is asked again; and so is one that a
//!   page has returned to, or whose page was lent.
//! - A table that holds memory is where searches find it. One that could not be entered, for want of
//!   memory, gets no frame.
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/pool_stress.rs`, `std-adapter/src/models.rs` (loom).
//!
//! # Donors
//!
//! | rule | donors | requester |
//! |---|---|---|
//! | [`larger`](Demand::may_take_from_larger) | the largest of a sample, which holds more than its share | one that then holds no more than its share, or that holds less |
//! | [`idle`](Demand::may_take_from_idle) | those of a sample that have been silent for two epochs, and that no owner has visited since the last round, or while somebody waits | one with less than its share, or less than an eighth of the limit |
//!
//! The first rule keeps a huge buffer from starving small ones. The second keeps many idle buffers from
//! starving a few active ones. The bound of the second keeps a huge buffer from evicting all idle ones: past
//! the bound a requester evicts pages of its own.

use crate::pool::activity::Activity;
use crate::pool::member::{OwnTable, PeerTable};
use crate::sync::fork::Lock;
use crate::sync::{AtomicU64, Ordering};

/// Tables that a search visits to find the largest, and the idle ones.
const SAMPLE: usize = 32;

/// Tables that a search visits at most, if it finds no donor among the first [`SAMPLE`] and the requester may
/// reclaim from idle buffers.
const SEARCH_MAX: usize = 1 << 10;

/// Tables that searches visit for each request on average, if they find no donor.
const VISITS_EACH: usize = 8;

/// A requester may reclaim from idle buffers until it holds its share, or the limit divided by this if that
/// is more.
const IDLE_BOUND_DIVISOR: u64 = 8;

/// A reclaim from idle buffers frees up to this many times the request, one page from each buffer. The
/// surplus is recycled for the next requester. One reclaim for each page would cost a heavy fence, some 20 µs
/// on a virtual machine, and a call of the store, where threads contend.
const IDLE_BATCH_FACTOR: u64 = 8;

/// A reclaim from idle buffers frees at most the limit divided by this, unless the request is larger.
const IDLE_BATCH_DIVISOR: u64 = 64;

/// The place of a table that is in no list, for want of memory.
const UNREGISTERED: usize = usize::MAX;

/// Which sources of frames a request may use. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effort {
    /// Memory that no buffer uses, while there is more of it than an eighth of the limit.
    Ample,
    /// Memory that no buffer uses.
    Spare,
    /// Pages of buffers that hold more than their share.
    Larger,
    /// Pages of idle buffers.
    Idle,
}

/// A request for memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Bytes of frames that the requester holds already.
    pub(crate) held: u64,
    /// Bytes that it requests.
    pub(crate) requested: u64,
    /// The fair share of each buffer that needs memory, in bytes.
    pub(crate) share: u64,
    /// The fair share of each buffer that holds memory, in bytes.
    pub(crate) share_of_all: u64,
    /// The memory limit of the pool, in bytes.
    pub(crate) limit: u64,
    /// Bytes of a page.
    pub(crate) page: u64,
    pub(crate) effort: Effort,
    /// What [`returns`](crate::memory::budget::WatchedBudget::returns) says: memory that waiters were told
    /// of, and that only a search finds.
    pub(crate) returns: u64,
    /// Somebody waits for room, maybe the requester: who finds nothing sleeps.
    pub(crate) is_awaited: bool,
}

impl Demand {
    /// Whether a buffer that holds `held` bytes, more than its share, may be the donor: if the requester
    /// keeps within its own share, or if twice the request lies between the two, so that the donor still
    /// holds as much afterwards.
    fn may_take_from_larger(&self, held: u64) -> bool {
        let is_fair = self.held + self.requested <= self.share || held >= self.held + 2 * self.requested;
        self.effort >= Effort::Larger && held > self.share && is_fair
    }

    fn may_take_from_idle(&self) -> bool {
        let bound = self.share_of_all.max(self.limit / IDLE_BOUND_DIVISOR);
        self.effort >= Effort::Idle && self.held + self.requested <= bound
    }

    /// Bytes that one reclaim is to free in idle buffers.
    fn idle_batch(&self) -> u64 {
        if !self.may_take_from_idle() {
            return 0;
        }
        let batch = self.requested.saturating_mul(IDLE_BATCH_FACTOR);
        batch.min(self.limit / IDLE_BATCH_DIVISOR).max(self.requested)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    clock: Lock<Clock>,
    /// The number of holders. Written with the clock locked; read without, so it may be out of date.
    holders: AtomicU64,
    activity: Activity,
}

/// All tables, in two parts: the holders, a ring that searches go around, and those that hold no memory.
///
/// A search moves a holder that it finds without memory to the other part; [`Registry::note_holder`] moves it
/// back.
#[derive(Debug, Default)]
struct Clock {
    /// The place of each table is in its [`Member`](crate::pool::member::Member).
    tables: Vec<PeerTable>,
    /// The number of holders, which come first.
    holders: usize,
    /// The index where the next search starts.
    hand: usize,
    /// The index of the last donor under the *larger* rule. Tried first, since it probably still qualifies.
    donor: usize,
    /// Requests that are not to be searched for, because the last two searches found no donor. So searches
    /// visit a bounded number of tables for each request, on average, even if none of a hundred thousand
    /// has anything to give.
    unsearched: usize,
    /// How many tables the last search was allowed to visit, if it found no donor. The next one may find
    /// some: it is the second look at tables that were visited lately.
    fruitless: usize,
}

fn held(table: &PeerTable) -> u64 {
    table.unlocked().usage.memory.used()
}

/// A list of one table, or an empty one if there is no memory for it.
fn only(table: PeerTable) -> Vec<PeerTable> {
    let mut tables = Vec::new();
    if tables.try_reserve_exact(1).is_ok() {
        tables.push(table);
    }
    tables
}

impl Registry {
    /// Adds a table that holds no memory. It stays until [`unregister`](Registry::unregister). If there is no
    /// memory for that, it is added when it becomes a holder.
    pub(crate) fn register(&self, table: &OwnTable) {
        let _ = self.clock.lock().map(|mut clock| clock.add(table));
    }

    /// Whether a table is in the list.
    #[inline]
    pub(crate) fn is_registered(table: &OwnTable) -> bool {
        table.unlocked().place.load(Ordering::Relaxed) != UNREGISTERED
    }

    pub(crate) fn unregister(&self, table: &OwnTable) {
        let Ok(mut clock) = self.clock.lock() else { return };
        let place = table.unlocked().place.load(Ordering::Relaxed);
        if place != UNREGISTERED {
            clock.remove(place);
            self.note_holders(&clock);
        }
    }

    /// Makes a table a holder. Its owner calls this each time after its usage of memory has risen from 0: so
    /// a search that saw 0 ends before the call, or sees more. Returns false if there is no memory for that:
    /// then the table must hold none.
    #[must_use]
    pub(crate) fn note_holder(&self, table: &OwnTable) -> bool {
        let Ok(mut clock) = self.clock.lock() else { return false };
        if table.unlocked().place.load(Ordering::Relaxed) == UNREGISTERED && !clock.add(table) {
            return false;
        }
        clock.add_holder(table.unlocked().place.load(Ordering::Relaxed));
        self.note_holders(&clock);
        true
    }

    fn note_holders(&self, clock: &Clock) {
        self.holders.store(clock.holders as u64, Ordering::Relaxed);
    }

    /// The number of tables that hold memory, and of some that did. May be out of date at once.
    pub(crate) fn holders(&self) -> u64 {
        self.holders.load(Ordering::Relaxed)
    }

    /// Counts that the buffer of `table` needed memory while it was short.
    pub(crate) fn note_miss(&self, table: &OwnTable) {
        self.activity.note_miss(&table.unlocked().last_miss);
    }

    /// Whether the buffer of `table` has needed no memory for two epochs.
    pub(crate) fn is_silent(&self, table: &PeerTable) -> bool {
        self.activity.is_silent(&table.unlocked().last_miss)
    }

    /// The number of buffers that need memory, at least 1. An estimate.
    pub(crate) fn active(&self) -> u64 {
        self.activity.active(self.holders())
    }

    /// The donors for `demand`: none, one larger buffer, or several idle ones. One page is to be reclaimed
    /// from each.
    pub(crate) fn find_donors(&self, demand: &Demand, requester: &OwnTable) -> Vec<PeerTable> {
        let Ok(mut clock) = self.clock.lock() else { return Vec::new() };
        let donors = clock.find_donors(demand, requester, &self.activity);
        self.note_holders(&clock);
        donors
    }

    /// See [`Activity::note_refusal`].
    pub(crate) fn note_refusal(&self, donor: &PeerTable, returns: Option<u64>) {
        self.activity.note_refusal(&donor.unlocked().refusal, returns);
    }

    /// All tables that are registered now: those that may hold memory, and the others.
    pub(crate) fn tables(&self) -> (Vec<PeerTable>, Vec<PeerTable>) {
        let Ok(clock) = self.clock.lock() else { return Default::default() };
        let (holders, others) = clock.tables.split_at(clock.holders);
        (holders.to_vec(), others.to_vec())
    }

    /// The tables that may hold memory now. None if there is no memory for the list.
    pub(crate) fn holding_tables(&self) -> Vec<PeerTable> {
        let mut tables = Vec::new();
        let Ok(clock) = self.clock.lock() else { return tables };
        if tables.try_reserve_exact(clock.holders).is_ok() {
            tables.extend_from_slice(&clock.tables[..clock.holders]);
        }
        tables
    }

    /// Tables that the list has room for, for tests.
    #[cfg(test)]
    #[cfg(not(overspill_loom))]
    pub(crate) fn capacity(&self) -> usize {
        self.clock.lock().map_or(0, |clock| clock.tables.capacity())
    }

    /// Frees what the list of tables does not need.
    pub(crate) fn trim(&self) {
        let _ = self.clock.lock().map(|mut clock| clock.tables.shrink_to_fit());
    }
}

impl Clock {
    /// Adds a table behind all others, and returns true. Returns false if there is no memory for that.
    fn add(&mut self, table: &OwnTable) -> bool {
        let has_room = self.tables.try_reserve(1).is_ok();
        let place = if has_room { self.tables.len() } else { UNREGISTERED };
        table.unlocked().place.store(place, Ordering::Relaxed);
        if has_room {
            self.tables.push(table.peer());
        }
        has_room
    }

    /// Swaps two tables, and notes their places.
    fn swap(&mut self, one: usize, other: usize) {
        self.tables.swap(one, other);
        for at in [one, other] {
            self.tables[at].unlocked().place.store(at, Ordering::Relaxed);
        }
    }

    fn add_holder(&mut self, at: usize) {
        if at >= self.holders {
            self.swap(at, self.holders);
            self.holders += 1;
        }
    }

    fn remove_holder(&mut self, at: usize) {
        self.holders -= 1;
        self.swap(at, self.holders);
    }

    fn remove(&mut self, at: usize) {
        let at = if at < self.holders {
            self.remove_holder(at);
            self.holders
        } else {
            at
        };
        self.swap(at, self.tables.len() - 1);
        self.tables.pop();
        // A quarter, so that tables which come and go do not make the list shrink and grow each time.
        if self.tables.len() < self.tables.capacity() / 4 {
            self.tables.shrink_to(2 * self.tables.len());
        }
    }

    fn find_donors(&mut self, demand: &Demand, requester: &OwnTable, activity: &Activity) -> Vec<PeerTable> {
        let is_out = |table: &PeerTable| {
            table.is_of(requester) || activity.has_refused(&table.unlocked().refusal, demand.returns)
        };
        if let Some(table) = self.tables.get(self.donor)
            && demand.may_take_from_larger(held(table))
            && !is_out(table)
        {
            return only(table.clone());
        }
        if self.unsearched > 0 && !demand.is_awaited {
            self.unsearched -= 1;
            return Vec::new();
        }
        // Past the bound of the *idle* rule a requester has pages of its own to evict, which is
        // cheaper than a long search.
        let seeks_idle = demand.may_take_from_idle() && activity.may_know_silent();
        let visits_max = if seeks_idle { SEARCH_MAX } else { SAMPLE };
        let (mut largest, mut largest_held) = (None, 0);
        let (mut idle, mut missing) = (Vec::new(), demand.idle_batch());
        let mut visits = 0;
        for step in 0..self.holders.min(visits_max) {
            visits = step + 1;
            if step >= SAMPLE && (largest.is_some() || !idle.is_empty()) {
                break;
            }
            let at = if self.hand < self.holders { self.hand } else { 0 };
            let Some(table) = self.tables.get(at) else { break };
            let held = held(table);
            if held == 0 {
                self.remove_holder(at);
                continue;
            }
            self.hand = at + 1;
            if is_out(table) {
                continue;
            }
            if held > largest_held && demand.may_take_from_larger(held) {
                (largest, largest_held) = (Some(table.clone()), held);
            }
            let is_silent = || activity.is_silent(&table.unlocked().last_miss);
            // While somebody waits, a visit may be what has told of the memory.
            let is_away = || !table.was_visited() || demand.is_awaited;
            let may_be_idle = seeks_idle && missing > 0 && is_silent() && is_away();
            if may_be_idle && idle.try_reserve(1).is_ok() {
                missing = missing.saturating_sub(held.min(demand.page));
                idle.push(table.clone());
            }
        }
        let Some(largest) = largest else {
            let is_second = idle.is_empty() && self.fruitless >= visits_max;
            self.unsearched = if is_second { visits / VISITS_EACH } else { 0 };
            self.fruitless = if idle.is_empty() { visits_max } else { 0 };
            return idle;
        };
        self.donor = largest.unlocked().place.load(Ordering::Relaxed);
        only(largest)
    }
}
