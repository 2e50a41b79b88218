//! The tables of a pool, and who gives when memory is short.
//!
//! Promises:
//!
//! - A buffer whose frames are within its fair share (the limit divided by the number of buffers)
//!   gives only if it is idle, and only when a buffer that holds little asks. What several give beyond
//!   that one's need, at most a 64th of the limit, is for whoever asks next.
//! - Memory flows from who holds more to who holds less, never back: the giver still holds at least
//!   as much as the asker after it. So no two buffers take the same frame from each other in turn.
//! - A search looks at a bounded number of tables, and goes on the next time where it ended.
//!
//! # Who gives
//!
//! | rule | gives | to |
//! |---|---|---|
//! | [`larger`](Ask::may_take_from_larger) | the largest of a few that hold more than their share | any that holds less |
//! | [`idle`](Ask::may_take_from_idle) | some that were not visited since the last round | one with less than its share, or an eighth of the limit |
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

/// An asker may take from idle buffers until it holds the limit divided by this, if its share is less.
const IDLE_GIVE_PARTS: u64 = 8;

/// How many times as much as the asker wants idle buffers give at once, a page each: the rest waits for the next who
/// asks. Each by itself would cost a heavy fence, some 20 µs on a virtual machine, and a call of the store, in which two
/// threads get in each other's way.
const GIVEN_TIMES: u64 = 8;

/// What idle buffers give at once is at most the limit divided by this, unless the asker wants more.
const GIVEN_PARTS: u64 = 64;

/// Where a table is in the registry: its index and one, so that no place takes no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(NonZeroUsize);

/// How much trouble a frame is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// What nobody uses.
    Spare,
    /// And what buffers hold that hold more than their share.
    Larger,
    /// And what idle buffers hold.
    Idle,
}

/// Somebody asks for memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Bytes that the asker holds already.
    pub(crate) held: u64,
    /// Bytes that it wants beside them.
    pub(crate) wanted: u64,
    /// The fair share of each buffer.
    pub(crate) share: u64,
    /// The limit of the pool.
    pub(crate) limit: u64,
    /// The length of a page.
    pub(crate) page: u64,
    pub(crate) reach: Reach,
}

impl Ask {
    fn may_take_from_larger(&self, held: u64) -> bool {
        self.reach >= Reach::Larger && held > self.share && held >= self.held + 2 * self.wanted
    }

    fn may_take_from_idle(&self) -> bool {
        let most = self.share.max(self.limit / IDLE_GIVE_PARTS);
        self.reach >= Reach::Idle && self.held + self.wanted <= most
    }

    /// How much idle buffers are to give at once, in bytes.
    fn of_idle(&self) -> u64 {
        if !self.may_take_from_idle() {
            return 0;
        }
        self.wanted.saturating_mul(GIVEN_TIMES).min(self.limit / GIVEN_PARTS).max(self.wanted)
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
    giver: usize,
}

#[derive(Debug)]
struct Entry {
    table: PeerTable,
}

impl Entry {
    fn held(&self) -> u64 {
        self.table.beside().account.memory.taken()
    }

    /// Whether the owner has not been inside since the last call.
    fn is_idle(&self) -> bool {
        !self.table.was_visited()
    }
}

impl Registry {
    pub(crate) fn register(&self, table: &OwnTable) -> Place {
        let entry = Some(Entry { table: table.peer() });
        let mut clock = lock(&self.clock);
        let at = clock.vacant.pop().unwrap_or(clock.entries.len());
        if at < clock.entries.len() {
            clock.entries[at] = entry;
        } else {
            clock.entries.push(entry);
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        Place(NonZeroUsize::MIN.saturating_add(at))
    }

    pub(crate) fn unregister(&self, Place(place): Place) {
        let at = place.get() - 1;
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
    pub(crate) fn find_givers(&self, ask: &Ask, asker: &OwnTable) -> Vec<PeerTable> {
        lock(&self.clock).find_givers(ask, asker)
    }

    /// All tables, as they are now.
    pub(crate) fn tables(&self) -> Vec<PeerTable> {
        lock(&self.clock).entries.iter().flatten().map(|entry| entry.table.clone()).collect()
    }
}

impl Clock {
    fn find_givers(&mut self, ask: &Ask, asker: &OwnTable) -> Vec<PeerTable> {
        let is_asker = |entry: &Entry| entry.table.is_of(asker);
        if let Some(Some(entry)) = self.entries.get(self.giver)
            && ask.may_take_from_larger(entry.held())
            && !is_asker(entry)
        {
            return vec![entry.table.clone()];
        }
        let (mut largest, mut largest_held) = (None, 0);
        let (mut idle, mut missing) = (Vec::new(), ask.of_idle());
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
            if held > largest_held && ask.may_take_from_larger(held) {
                (largest, largest_held) = (Some(at), held);
            }
            if is_idle && missing > 0 {
                missing = missing.saturating_sub(held.min(ask.page));
                idle.push(entry.table.clone());
            }
        }
        let Some(largest) = largest else { return idle };
        self.giver = largest;
        self.entries[largest].iter().map(|entry| entry.table.clone()).collect()
    }
}
