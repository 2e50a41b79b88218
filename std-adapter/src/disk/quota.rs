//! The disk limit of a pool, and the queue of waiters for room below it.
//!
//! Promises:
//!
//! - I6: used bytes never pass the limit. Bytes that are set aside for a ticket count as used.
//! - Tickets are served in the order of their arrival, each with all that it requested or with nothing. While one waits,
//!   a request that came later gets no room that the one might get, so small requests do not starve a large one. Only
//!   a ticket that requests more than the whole limit is passed over, until the limit is raised.
//! - No wake-up is lost. A ticket that leaves the queue passes its turn, and the bytes set aside for it, to
//!   the rest.
//! - Wakers run with nothing locked, and the panic of one reaches no other thread's call.
//! - Without waiters, a reservation or a release reads one counter and takes no lock.
//!
//! Held by: `std-adapter/src/models.rs` (loom), `tests/tests/when_full.rs`, `tests/tests/pool_stress.rs`.
//!
//! # A ticket in the queue
//!
//! | from | to | by |
//! |---|---|---|
//! | | waiting | [`Quota::enter`] |
//! | waiting | served | [`Quota::serve`]: all that it requested is set aside |
//! | served | waiting | [`Ticket::ask`]: what was set aside is released |
//! | waiting, served | gone | dropping the [`Ticket`] |
//!
//! A waiter is also *woken* when memory comes free, since its bytes may then need no disk: it tries again,
//! and keeps its ticket.
//!
//! # Why no wake-up is lost
//!
//! A waiter stores its arrival in `waiting`, passes a full fence, and only then checks for room. A release passes a full
//! fence between freeing and reading `waiting`. So at least one of the two sees the other's store.

use crate::error::{DiskLimitScope, SpillError};
use crate::foreign::wake_each;
use crate::memory::budget::{Budget, HighWater, Refused};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, fences, lock};
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

impl Queue {
    /// Whether a ticket that can be served below `limit` has waited longer than `number`, or at all if that is `None`.
    fn is_behind(&self, number: Option<u64>, limit: u64) -> bool {
        let mut earlier = self.waiting.iter().take_while(|&(&other, _)| number.is_none_or(|own| other < own));
        earlier.any(|(_, waiting)| waiting.requested <= limit)
    }
}

/// A waiting ticket.
#[derive(Debug, Default)]
struct Waiting {
    /// Bytes, which are set aside all at once.
    requested: u64,
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

    /// Reserves `bytes`, all or nothing. Uses the bytes that are set aside for `ticket` before any others, and no others
    /// while an earlier ticket waits: what is free is to be that one's.
    pub(crate) fn reserve(&self, bytes: u64, ticket: Option<&Ticket>) -> Result<(), Refused> {
        if ticket.is_none() && self.waiting() == 0 {
            return self.reserve_free(bytes);
        }
        let number = ticket.map(|ticket| ticket.number);
        let mut queue = lock(&self.queue);
        let set_aside = number.and_then(|number| queue.served.get(&number).copied()).unwrap_or(0);
        let taken = bytes.min(set_aside);
        if bytes > taken {
            let limit = self.budget.limit();
            if queue.is_behind(number, limit) {
                return Err(Refused { limit, used: self.budget.used().max(limit) });
            }
            self.reserve_free(bytes - taken)?;
        }
        if let Some(left) = number.and_then(|number| queue.served.get_mut(&number)) {
            *left -= taken;
        }
        Ok(())
    }

    /// Reserves `bytes` of those that are set aside for no ticket.
    fn reserve_free(&self, bytes: u64) -> Result<(), Refused> {
        self.high_water.note(self.budget.reserve(bytes)?);
        Ok(())
    }

    /// As [`reserve`](Quota::reserve), for a slot of `len` bytes. The error names the pool's disk limit.
    pub(crate) fn reserve_for_slot(&self, len: u64, ticket: Option<&Ticket>) -> Result<(), SpillError> {
        let refused =
            |refused: Refused| SpillError::disk_limit(refused.limit, refused.used, len, DiskLimitScope::Pool);
        self.reserve(len, ticket).map_err(refused)
    }

    /// Releases `bytes`, and serves waiting tickets with them.
    pub(crate) fn release(&self, bytes: u64) {
        self.release_quietly(bytes);
        self.serve_if_waiting();
    }

    /// Releases `bytes` in the middle of something, and wakes nobody: [`serve_if_waiting`](Quota::serve_if_waiting) is to
    /// follow at its end.
    pub(crate) fn release_quietly(&self, bytes: u64) {
        self.budget.release(bytes);
    }

    /// Changes the limit in bytes, and serves waiting tickets.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.budget.set_limit(bytes);
        self.serve_if_waiting();
    }

    /// Whether there is a limit. Without one nothing waits, which costs less to know than the fence: a third of a small body.
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.limit() < u64::MAX
    }

    /// Wakes all waiters, so that they try again. To be called after memory has come free.
    #[inline]
    pub(crate) fn wake_waiters(&self) {
        self.wake_waiters_but(None);
    }

    /// The same, without the waiter that has `own`.
    #[inline]
    pub(crate) fn wake_waiters_but(&self, own: Option<&Ticket>) {
        if self.is_limited() && self.may_have_waiters() {
            self.wake_all_but(own.map(|ticket| ticket.number));
        }
    }

    /// To be called after freeing something. False only if every later waiter sees what was freed.
    #[inline]
    fn may_have_waiters(&self) -> bool {
        fences::full();
        self.waiting.load(Ordering::Relaxed) > 0
    }

    #[cold]
    fn wake_all_but(&self, own: Option<u64>) {
        let wakers: Vec<Waker> = {
            let mut queue = lock(&self.queue);
            let others = queue.waiting.iter_mut().filter(|&(&number, _)| Some(number) != own);
            others.filter_map(|(_, waiting)| waiting.wake()).collect()
        };
        wake_each(wakers);
    }

    /// Serves waiting tickets with what was released.
    pub(crate) fn serve_if_waiting(&self) {
        if self.may_have_waiters() {
            let wakers = self.serve(&mut lock(&self.queue));
            wake_each(wakers);
        }
    }

    /// Sets free bytes aside for waiting tickets, in the order of their arrival. Returns wakers to be called
    /// once the queue is unlocked.
    fn serve(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let limit = self.budget.limit();
        let within = |(_, waiting): &(&u64, &Waiting)| waiting.requested <= limit;
        while let Some((&number, &Waiting { requested, .. })) = queue.waiting.iter().find(within)
            && self.reserve_free(requested).is_ok()
        {
            let served = queue.waiting.remove(&number);
            wakers.extend(served.and_then(|served| served.waker));
            queue.served.insert(number, requested);
        }
        self.update_waiting(queue);
        wakers
    }

    fn update_waiting(&self, queue: &Queue) {
        self.waiting.store(queue.waiting.len() as u64, Ordering::Relaxed);
    }

    /// Bytes that are set aside for tickets.
    pub(crate) fn set_aside(&self) -> u64 {
        lock(&self.queue).served.values().sum()
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
    /// Requests `bytes`, in place of what it has requested before. The ticket keeps its place in the queue; what was set
    /// aside for it is released, to be set aside again if it is still its turn.
    pub(crate) fn ask(&self, bytes: u64) {
        let quota = &*self.quota;
        {
            let mut queue = lock(&quota.queue);
            quota.budget.release(queue.served.remove(&self.number).unwrap_or(0));
            queue.waiting.entry(self.number).or_default().requested = bytes;
            quota.update_waiting(&queue);
        }
        fences::full();
        let wakers = quota.serve(&mut lock(&quota.queue));
        wake_each(wakers);
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
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (left, _waiting) = {
            let mut queue = lock(&self.quota.queue);
            let waiting = queue.waiting.remove(&self.number);
            let left = queue.served.remove(&self.number).unwrap_or(0);
            self.quota.update_waiting(&queue);
            (left, waiting)
        };
        // Even if this is 0: the next ticket may request less, and have its turn now.
        self.quota.release(left);
    }
}
