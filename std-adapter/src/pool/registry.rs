//! The tables of a pool, and who gives when memory is short.
//!
//! Promises:
//!
//! - A buffer whose frames are within its fair share (the limit divided by the number of buffers)
//!   gives only if it is idle, and only when a buffer that holds little asks. What several give beyond
//!   that one's need, at most a 64th of the limit, is for whoever asks next.
//! - Memory flows from who holds more to who holds less, never back: the donor still holds at least
//!   as much as the requester after it. So no two buffers take the same frame from each other in turn.
//! - A search looks at a bounded number of tables, and goes on the next time where it ended.
//!
//! # Who gives
//!
//! | rule | gives | to |
//! |---|---|---|
//! | [`larger`](Demand::may_take_from_larger) | the largest of a few that hold more than their share | any that holds less |
//! | [`idle`](Demand::may_take_from_idle) | some that were not visited since the last round | one with less than its share, or an eighth of the limit |
//!
//! The first rule keeps a huge buffer from starving small ones; the second keeps many idle ones from
//! starving a few active ones. Its bound keeps a huge one from washing out the idle ones: what it wants
//! more than that it takes from itself.

use crate::pool::member::{OwnTable, PeerTable};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use std::num::NonZeroUsize;

/// Tables that are looked at to find the largest, and those that are idle.
const SAMPLE: usize = 32;

/// Tables that are looked at to find any.
const SEARCH_MAX: usize = 1 << 10;

/// A requester may take from idle buffers until it holds the limit divided by this, if its share is less.
const IDLE_DONATION_PARTS: u64 = 8;

/// How many times as much as the requester wants idle buffers give at once, a page each: the rest waits for the next who
/// asks. Each by itself would cost a heavy fence, some 20 µs on a virtual machine, and a call of the store, in which two
/// threads get in each other's way.
const DONATED_TIMES: u64 = 8;

/// What idle buffers give at once is at most the limit divided by this, unless the requester wants more.
const DONATED_PARTS: u64 = 64;

/// Where a table is in the registry: its index and one, so that no registration takes no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registration(NonZeroUsize);

/// How much trouble a frame is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effort {
    /// What nobody uses.
    Spare,
    /// And what buffers hold that hold more than their share.
    Larger,
    /// And what idle buffers hold.
    Idle,
}

/// Somebody asks for memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Bytes that the requester holds already.
    pub(crate) held: u64,
    /// Bytes that it wants beside them.
    pub(crate) wanted: u64,
    /// The fair share of each buffer.
    pub(crate) share: u64,
    /// The limit of the pool.
    pub(crate) limit: u64,
    /// The length of a page.
    pub(crate) page: u64,
    pub(crate) effort: Effort,
}

impl Demand {
    fn may_take_from_larger(&self, held: u64) -> bool {
        self.effort >= Effort::Larger && held > self.share && held >= self.held + 2 * self.wanted
    }

    fn may_take_from_idle(&self) -> bool {
        let most = self.share.max(self.limit / IDLE_DONATION_PARTS);
        self.effort >= Effort::Idle && self.held + self.wanted <= most
    }

    /// How much idle buffers are to give at once, in bytes.
    fn of_idle(&self) -> u64 {
        if !self.may_take_from_idle() {
            return 0;
        }
        self.wanted.saturating_mul(DONATED_TIMES).min(self.limit / DONATED_PARTS).max(self.wanted)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    clock: Mutex<Clock>,
    /// The number of tables. Changed while the clock is locked; read by whoever asks for memory.
    len: AtomicU64,
}

#[derive(Debug, Default)]
struct Clock {
    entries: Vec<Option<Entry>>,
    /// Indices of entries that are `None`.
    vacant: Vec<usize>,
    /// Where the next search starts.
    hand: usize,
    /// Who gave last because it held more than its share: likely to do so still.
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

    /// Whether the owner has not been inside since the last call.
    fn is_idle(&self) -> bool {
        !self.table.was_visited()
    }
}

impl Registry {
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

    /// The number of tables.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Whom to take a page each back from: nobody, one, or several that are idle.
    pub(crate) fn find_donors(&self, demand: &Demand, requester: &OwnTable) -> Vec<PeerTable> {
        lock(&self.clock).find_donors(demand, requester)
    }

    /// All tables, as they are now.
    pub(crate) fn tables(&self) -> Vec<PeerTable> {
        lock(&self.clock).entries.iter().flatten().map(|entry| entry.table.clone()).collect()
    }
}

impl Clock {
    fn find_donors(&mut self, demand: &Demand, requester: &OwnTable) -> Vec<PeerTable> {
        let is_asker = |entry: &Entry| entry.table.is_of(requester);
        if let Some(Some(entry)) = self.entries.get(self.donor)
            && demand.may_take_from_larger(entry.held())
            && !is_asker(entry)
        {
            return vec![entry.table.clone()];
        }
        let (mut largest, mut largest_held) = (None, 0);
        let (mut idle, mut missing) = (Vec::new(), demand.of_idle());
        for step in 0..self.entries.len().min(SEARCH_MAX) {
            if step >= SAMPLE && (largest.is_some() || !idle.is_empty()) {
                break;
            }
            let at = self.hand % self.entries.len();
            self.hand = at + 1;
            let Some(entry) = &self.entries[at] else { continue };
            let (held, is_idle) = (entry.held(), entry.is_idle());
            if held == 0 || is_asker(entry) {
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
