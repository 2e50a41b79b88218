//! The tables of a pool, and the choice of donors when memory is short.
//!
//! Promises:
//!
//! - A buffer whose frames are within its fair share (the memory limit divided by the number of buffers) is a
//!   donor only if it is idle, and only for a requester that holds little. Frames that several idle donors
//!   release beyond the request, at most a 64th of the limit, are recycled for the next requester.
//! - Under the *larger* rule memory flows from the buffer that holds more to the one that holds less:
//!   afterwards the donor still holds at least as much as the requester. So two buffers never reclaim the
//!   same frame from each other in turn.
//! - A search visits a bounded number of tables, and the next search continues where it stopped.
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/pool_stress.rs`.
//!
//! # Donors
//!
//! | rule | donors | requester |
//! |---|---|---|
//! | [`larger`](Demand::may_take_from_larger) | the largest of a sample, which holds more than its share | any that holds less |
//! | [`idle`](Demand::may_take_from_idle) | those of a sample that no owner has visited since the last round | one with less than its share, or less than an eighth of the limit |
//!
//! The first rule keeps a huge buffer from starving small ones. The second keeps many idle buffers from
//! starving a few active ones. The bound of the second keeps a huge buffer from evicting all idle ones: past
//! the bound a requester evicts pages of its own.

use crate::pool::member::{OwnTable, PeerTable};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use std::num::NonZeroUsize;

/// Tables that a search visits to find the largest, and the idle ones.
const SAMPLE: usize = 32;

/// Tables that a search visits at most, if it finds no donor among the first [`SAMPLE`].
const SEARCH_MAX: usize = 1 << 10;

/// A requester may reclaim from idle buffers until it holds its share, or the limit divided by this if that
/// is more.
const IDLE_BOUND_DIVISOR: u64 = 8;

/// A reclaim from idle buffers frees up to this many times the request, one page from each buffer. The
/// surplus is recycled for the next requester. One reclaim for each page would cost a heavy fence, some 20 µs
/// on a virtual machine, and a call of the store, where threads contend.
const IDLE_BATCH_FACTOR: u64 = 8;

/// A reclaim from idle buffers frees at most the limit divided by this, unless the request is larger.
const IDLE_BATCH_DIVISOR: u64 = 64;

/// A table's place in the registry: its index plus one, so that `Option<Registration>` needs no tag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registration(NonZeroUsize);

/// Which sources of frames a request may use. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effort {
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
    /// The fair share of each buffer, in bytes.
    pub(crate) share: u64,
    /// The memory limit of the pool, in bytes.
    pub(crate) limit: u64,
    /// Bytes of a page.
    pub(crate) page: u64,
    pub(crate) effort: Effort,
}

impl Demand {
    /// Whether a buffer that holds `held` bytes may be the donor. Twice the request lies between the two, so
    /// that the donor still holds as much as the requester afterwards.
    fn may_take_from_larger(&self, held: u64) -> bool {
        self.effort >= Effort::Larger && held > self.share && held >= self.held + 2 * self.requested
    }

    fn may_take_from_idle(&self) -> bool {
        let bound = self.share.max(self.limit / IDLE_BOUND_DIVISOR);
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
    clock: Mutex<Clock>,
    /// The number of tables. Written with the clock locked; read without, so it may be out of date.
    len: AtomicU64,
}

/// All tables, in a ring that searches go around.
#[derive(Debug, Default)]
struct Clock {
    entries: Vec<Option<Entry>>,
    /// Indices of entries that are `None`.
    vacant: Vec<usize>,
    /// The index where the next search starts.
    hand: usize,
    /// The index of the last donor under the *larger* rule. Tried first, since it probably still qualifies.
    donor: usize,
}

#[derive(Debug)]
struct Entry {
    table: PeerTable,
}

impl Entry {
    fn held(&self) -> u64 {
        self.table.unlocked().usage.memory.used()
    }

    /// Whether the owner has not visited the table since the last call.
    fn is_idle(&self) -> bool {
        !self.table.was_visited()
    }
}

impl Registry {
    /// Adds a table. It stays until [`unregister`](Registry::unregister).
    pub(crate) fn register(&self, table: &OwnTable) -> Registration {
        let entry = Some(Entry { table: table.peer() });
        let mut clock = lock(&self.clock);
        let at = clock.vacant.pop().unwrap_or(clock.entries.len());
        if at < clock.entries.len() {
            clock.entries[at] = entry;
        } else {
            clock.entries.push(entry);
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        Registration(NonZeroUsize::MIN.saturating_add(at))
    }

    pub(crate) fn unregister(&self, Registration(registration): Registration) {
        let at = registration.get() - 1;
        let mut clock = lock(&self.clock);
        clock.entries[at] = None;
        clock.vacant.push(at);
        self.len.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of tables. May be out of date at once.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// The donors for `demand`: none, one larger buffer, or several idle ones. One page is to be reclaimed
    /// from each.
    pub(crate) fn find_donors(&self, demand: &Demand, requester: &OwnTable) -> Vec<PeerTable> {
        lock(&self.clock).find_donors(demand, requester)
    }

    /// All tables that are registered now.
    pub(crate) fn tables(&self) -> Vec<PeerTable> {
        lock(&self.clock).entries.iter().flatten().map(|entry| entry.table.clone()).collect()
    }
}

impl Clock {
    fn find_donors(&mut self, demand: &Demand, requester: &OwnTable) -> Vec<PeerTable> {
        let is_requester = |entry: &Entry| entry.table.is_of(requester);
        if let Some(Some(entry)) = self.entries.get(self.donor)
            && demand.may_take_from_larger(entry.held())
            && !is_requester(entry)
        {
            return vec![entry.table.clone()];
        }
        let (mut largest, mut largest_held) = (None, 0);
        let (mut idle, mut missing) = (Vec::new(), demand.idle_batch());
        for step in 0..self.entries.len().min(SEARCH_MAX) {
            if step >= SAMPLE && (largest.is_some() || !idle.is_empty()) {
                break;
            }
            let at = self.hand % self.entries.len();
            self.hand = at + 1;
            let Some(entry) = &self.entries[at] else { continue };
            let (held, is_idle) = (entry.held(), entry.is_idle());
            if held == 0 || is_requester(entry) {
                continue;
            }
            if held > largest_held && demand.may_take_from_larger(held) {
                (largest, largest_held) = (Some(at), held);
            }
            if is_idle && missing > 0 {
                missing = missing.saturating_sub(held.min(demand.page));
                idle.push(entry.table.clone());
            }
        }
        let Some(largest) = largest else { return idle };
        self.donor = largest;
        self.entries[largest].iter().map(|entry| entry.table.clone()).collect()
    }
}
