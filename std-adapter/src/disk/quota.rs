//! The disk limit of a pool, and the queue of waiters for room below it.
//!
//! Promises:
//!
//! - I6: used bytes never pass the limit. Bytes that are set aside for a ticket count as used.
//! - Tickets are served in the order of their arrival. Bytes that come free are set aside for the oldest
//!   ticket until it has all that it requested, so that small requests do not starve a large one. Only a
//!   ticket that requests more than the whole limit is passed over, until the limit is raised.
//! - No wake-up is lost. A ticket that leaves the queue passes its turn, and the bytes set aside for it, to
//!   the rest.
//! - Wakers run with nothing locked.
//! - A release without waiters reads one counter and takes no lock, where heavy fences work.
//!
//! Held by: `std-adapter/src/models.rs` (loom), `tests/tests/when_full.rs`, `tests/tests/pool_stress.rs`.
//!
//! # A ticket in the queue
//!
//! | from | to | by |
//! |---|---|---|
//! | | waiting | [`Quota::enter`] |
//! | waiting | served | [`Quota::serve`]: all that it requested is set aside |
//! | served | waiting | [`Ticket::ask`] |
//! | waiting, served | gone | dropping the [`Ticket`] |
//!
//! A waiter is also *woken* when memory comes free, since its bytes may then need no disk: it tries again,
//! and keeps its ticket.
//!
//! # Why no wake-up is lost
//!
//! The protocol is that of [`biased`](crate::sync::biased). A waiter stores its arrival in `waiting`, passes
//! the heavy fence, and only then checks for room. A release passes the light fence between freeing and
//! reading `waiting`. So at least one of the two sees the other's store. Where the heavy fence does not work,
//! a release always takes the queue's lock.

use crate::error::{DiskLimitScope, SpillError};
use crate::memory::budget::{Budget, HighWater, Refused};
use crate::sync::biased::fences;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

#[derive(Debug)]
pub(crate) struct Quota {
    budget: Budget,
    high_water: HighWater,
    /// The length of `queue.waiting`. Written with the queue locked; read without, so it may be out of date.
    waiting: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The number of the newest ticket. Numbers rise in the order of arrival.
    newest: u64,
    /// Waiting tickets, by their numbers.
    waiting: BTreeMap<u64, Waiting>,
    /// Served tickets, and the bytes still set aside for each.
    served: BTreeMap<u64, u64>,
}

/// A waiting ticket.
#[derive(Debug, Default)]
struct Waiting {
    /// Bytes in all.
    requested: u64,
    /// Bytes of these that are set aside so far.
    granted: u64,
    /// Memory came free since the last poll.
    woken: bool,
    /// From the last poll that returned `Pending`.
    waker: Option<Waker>,
}

impl Quota {
    pub(crate) fn new(limit: u64) -> Self {
        Quota {
            budget: Budget::new(limit),
            high_water: HighWater::default(),
            waiting: AtomicU64::new(0),
            queue: Mutex::default(),
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.budget.limit()
    }

    /// Bytes of slots, and bytes that are set aside for tickets.
    pub(crate) fn used(&self) -> u64 {
        self.budget.used()
    }

    pub(crate) fn high_water(&self) -> u64 {
        self.high_water.get()
    }

    /// The number of waiting tickets. May be out of date at once.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Reserves `bytes`, all or nothing. Uses the bytes that are set aside for `ticket` before any others.
    pub(crate) fn reserve(&self, bytes: u64, ticket: Option<&Ticket>) -> Result<(), Refused> {
        let granted = ticket.map_or(0, |ticket| ticket.claim(bytes));
        match self.budget.reserve(bytes - granted) {
            Ok(used) => {
                self.high_water.note(used);
                Ok(())
            }
            Err(refused) => {
                if let Some(ticket) = ticket {
                    ticket.unclaim(granted);
                }
                Err(refused)
            }
        }
    }

    /// As [`reserve`](Quota::reserve), for a slot of `len` bytes. The error names the pool's disk limit.
    pub(crate) fn reserve_for_slot(&self, len: u64, ticket: Option<&Ticket>) -> Result<(), SpillError> {
        let refused =
            |refused: Refused| SpillError::disk_limit(refused.limit, refused.used, len, DiskLimitScope::Pool);
        self.reserve(len, ticket).map_err(refused)
    }

    /// Releases `bytes`, and serves waiting tickets with them.
    pub(crate) fn release(&self, bytes: u64) {
        self.budget.release(bytes);
        self.serve_if_waiting();
    }

    /// Changes the limit in bytes, and serves waiting tickets.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.budget.set_limit(bytes);
        self.serve_if_waiting();
    }

    /// Wakes all waiters, so that they try again. To be called after memory has come free.
    #[inline]
    pub(crate) fn wake_waiters(&self) {
        if self.may_have_waiters() {
            self.wake_all();
        }
    }

    /// To be called after freeing something. False only if every later waiter sees what was freed.
    #[inline]
    fn may_have_waiters(&self) -> bool {
        fences::light();
        self.waiting.load(Ordering::Relaxed) > 0 || !fences::work()
    }

    #[cold]
    fn wake_all(&self) {
        let wakers: Vec<Waker> = {
            let mut queue = lock(&self.queue);
            queue.waiting.values_mut().filter_map(Waiting::wake).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn serve_if_waiting(&self) {
        if self.may_have_waiters() {
            let wakers = self.serve(&mut lock(&self.queue));
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Sets free bytes aside for waiting tickets, in the order of their arrival. Returns wakers to be called
    /// once the queue is unlocked.
    fn serve(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut served = Vec::new();
        for (&number, waiting) in &mut queue.waiting {
            if waiting.requested > self.budget.limit() {
                self.budget.release(std::mem::take(&mut waiting.granted)); // the limit was lowered
                continue;
            }
            let (more, used) = self.budget.reserve_up_to(waiting.requested - waiting.granted);
            self.high_water.note(used);
            waiting.granted += more;
            if waiting.granted < waiting.requested {
                break;
            }
            served.push((number, waiting.granted));
            wakers.extend(waiting.waker.take());
        }
        for (number, granted) in served {
            queue.waiting.remove(&number);
            queue.served.insert(number, granted);
        }
        self.update_waiting(queue);
        wakers
    }

    fn update_waiting(&self, queue: &Queue) {
        self.waiting.store(queue.waiting.len() as u64, Ordering::Relaxed);
    }

    /// Bytes that are set aside for tickets, waiting or served.
    pub(crate) fn set_aside(&self) -> u64 {
        let queue = lock(&self.queue);
        let waiting: u64 = queue.waiting.values().map(|waiting| waiting.granted).sum();
        waiting + queue.served.values().sum::<u64>()
    }

    /// A ticket at the end of the queue, which requests `bytes`.
    pub(crate) fn enter(self: &Arc<Self>, bytes: u64) -> Ticket {
        let number = {
            let mut queue = lock(&self.queue);
            queue.newest += 1;
            queue.newest
        };
        let ticket = Ticket { quota: Arc::clone(self), number };
        ticket.ask(bytes);
        ticket
    }
}

impl Waiting {
    /// Marks the ticket as woken, and returns its waker, to be called once the queue is unlocked.
    fn wake(&mut self) -> Option<Waker> {
        self.woken = true;
        self.waker.take()
    }
}

/// A waiter's place in the queue, and the bytes set aside for it. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Ticket {
    quota: Arc<Quota>,
    number: u64,
}

impl Ticket {
    /// Requests `bytes` in all, but no less than are set aside already. The ticket keeps its place in the
    /// queue.
    pub(crate) fn ask(&self, bytes: u64) {
        let quota = &*self.quota;
        {
            let mut queue = lock(&quota.queue);
            let granted = queue.served.remove(&self.number).unwrap_or(0);
            let waiting = queue.waiting.entry(self.number).or_default();
            waiting.granted += granted;
            waiting.requested = bytes.max(waiting.granted);
            quota.update_waiting(&queue);
        }
        fences::heavy();
        let wakers = quota.serve(&mut lock(&quota.queue));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ready if the ticket is served, or was woken since the last call. Otherwise the waker of `context` is
    /// called when that changes.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        // Clone the waker, and drop its predecessor, outside the lock: both run foreign code.
        let mut waker = Some(context.waker().clone());
        let mut queue = lock(&self.quota.queue);
        let Some(waiting) = queue.waiting.get_mut(&self.number) else { return Poll::Ready(()) };
        if std::mem::take(&mut waiting.woken) {
            return Poll::Ready(());
        }
        std::mem::swap(&mut waiting.waker, &mut waker);
        drop(queue);
        Poll::Pending
    }

    /// Passes up to `bytes` of those set aside to the caller, and returns how many.
    fn claim(&self, bytes: u64) -> u64 {
        let mut queue = lock(&self.quota.queue);
        let Some(granted) = queue.granted_mut(self.number) else { return 0 };
        let claimed = bytes.min(*granted);
        *granted -= claimed;
        claimed
    }

    /// Sets `bytes` aside again that were [claimed](Ticket::claim) but not used.
    fn unclaim(&self, bytes: u64) {
        if let Some(granted) = lock(&self.quota.queue).granted_mut(self.number) {
            *granted += bytes;
        }
    }
}

impl Queue {
    fn granted_mut(&mut self, number: u64) -> Option<&mut u64> {
        match self.waiting.get_mut(&number) {
            Some(waiting) => Some(&mut waiting.granted),
            None => self.served.get_mut(&number),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (left, _waker) = {
            let mut queue = lock(&self.quota.queue);
            let waiting = queue.waiting.remove(&self.number).unwrap_or_default();
            let served = queue.served.remove(&self.number).unwrap_or(0);
            self.quota.update_waiting(&queue);
            (waiting.granted + served, waiting.waker)
        };
        // Even if this is 0: the next ticket may request less, and have its turn now.
        self.quota.release(left);
    }
}
