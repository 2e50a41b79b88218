//! The disk limit of a pool, and the queue of those who wait for room below it.
//!
//! Promises:
//!
//! - I6: what is used never passes the limit; what is set aside for a waiter counts as used.
//! - First come, first served: what comes free is set aside for whoever has waited longest until that
//!   is all it asked for, so that a large requester is not starved by small ones. Only who asks for more
//!   than the whole limit is passed over, until the limit is raised.
//! - No wake-up is lost, and who leaves the queue gives its ticket and what it was granted to the rest.
//! - Wakers run with nothing locked.
//! - Who gives something back while nobody waits looks at one counter, and locks nothing.
//!
//! # A ticket in the queue
//!
//! | from | to | by |
//! |---|---|---|
//! | | waiting | [`Quota::enter`], or [`Ticket::ask`] for more than was granted |
//! | waiting | served | [`Quota::serve`]: all that was asked has been set aside |
//! | waiting, served | gone | dropping the [`Ticket`] |
//!
//! Who waits is also *woken* when memory comes free, since its bytes may then need no disk at all:
//! it tries again, and keeps its ticket.
//!
//! # Why no wake-up is lost
//!
//! It is the protocol of [`biased`](crate::sync::biased) once more. Who enters the queue makes itself known in
//! `waiting`, passes the heavy fence, and only then looks whether there is room. Who frees passes the
//! light fence between freeing and looking at `waiting`. So one of them sees what the other did. Where
//! the heavy fence is not to be had, who frees always goes through the queue's lock.

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
    /// How many are in `queue.waiting`. Written with the queue locked, read without.
    waiting: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The number of the next ticket: who comes later has a higher one.
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Those who were granted what they asked for, and how much of it they have not used yet, in bytes.
    served: BTreeMap<u64, u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Bytes.
    requested: u64,
    /// Bytes of these that are set aside so far.
    granted: u64,
    /// Something came free since the last poll that is no room on the disk.
    woken: bool,
    /// Who is to be told.
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

    /// Bytes of slots, and bytes that are set aside for those who wait.
    pub(crate) fn used(&self) -> u64 {
        self.budget.used()
    }

    pub(crate) fn high_water(&self) -> u64 {
        self.high_water.get()
    }

    /// How many wait. May change at any moment.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, all or nothing, starting with what `ticket` was granted.
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

    /// As [`reserve`](Quota::reserve), for a slot of `len` bytes; the error says that it is the pool's limit.
    pub(crate) fn reserve_for_slot(&self, len: u64, ticket: Option<&Ticket>) -> Result<(), SpillError> {
        let refused =
            |refused: Refused| SpillError::disk_limit(refused.limit, refused.used, len, DiskLimitScope::Pool);
        self.reserve(len, ticket).map_err(refused)
    }

    /// Gives back `bytes` of what was used, to whoever waits for it.
    pub(crate) fn release(&self, bytes: u64) {
        self.budget.release(bytes);
        self.serve_if_waiting();
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.budget.set_limit(bytes);
        self.serve_if_waiting();
    }

    /// Memory has come free: whoever waits for disk tries again.
    #[inline]
    pub(crate) fn wake_waiters(&self) {
        if self.has_waiting() {
            self.wake_all();
        }
    }

    /// For who has just freed something.
    #[inline]
    fn has_waiting(&self) -> bool {
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
        if self.has_waiting() {
            let wakers = self.serve(&mut lock(&self.queue));
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Sets aside what there is, in turn; returns who is to be told when the queue is unlocked.
    fn serve(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut done = Vec::new();
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
            done.push((number, waiting.granted));
            wakers.extend(waiting.waker.take());
        }
        for (number, granted) in done {
            queue.waiting.remove(&number);
            queue.served.insert(number, granted);
        }
        self.note_waiting(queue);
        wakers
    }

    fn note_waiting(&self, queue: &Queue) {
        self.waiting.store(queue.waiting.len() as u64, Ordering::Relaxed);
    }

    /// Bytes that are set aside for those who wait, or were served and have not used them.
    pub(crate) fn set_aside(&self) -> u64 {
        let queue = lock(&self.queue);
        let waiting: u64 = queue.waiting.values().map(|waiting| waiting.granted).sum();
        waiting + queue.served.values().sum::<u64>()
    }

    /// A ticket at the end of the queue, which asks for `bytes`.
    pub(crate) fn enter(self: &Arc<Self>, bytes: u64) -> Ticket {
        let number = {
            let mut queue = lock(&self.queue);
            queue.next += 1;
            queue.next
        };
        let ticket = Ticket { quota: Arc::clone(self), number };
        ticket.ask(bytes);
        ticket
    }
}

impl Waiting {
    fn wake(&mut self) -> Option<Waker> {
        self.woken = true;
        self.waker.take()
    }
}

/// A ticket in the queue for room, and what it was granted. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Ticket {
    quota: Arc<Quota>,
    number: u64,
}

impl Ticket {
    /// Asks for `bytes` in all, and keeps its turn.
    pub(crate) fn ask(&self, bytes: u64) {
        let quota = &*self.quota;
        {
            let mut queue = lock(&quota.queue);
            let granted = queue.served.remove(&self.number).unwrap_or(0);
            let waiting = queue.waiting.entry(self.number).or_default();
            waiting.granted += granted;
            waiting.requested = bytes.max(waiting.granted);
            quota.note_waiting(&queue);
        }
        fences::heavy();
        let wakers = quota.serve(&mut lock(&quota.queue));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ready when it was served, or woken since the last call; else `context` is told when it is.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        // Foreign code, and so outside the lock: the clone, and the drop of the waker before it.
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

    /// Gives up to `bytes` of what was granted to the caller, and says how much.
    fn claim(&self, bytes: u64) -> u64 {
        let mut queue = lock(&self.quota.queue);
        let Some(granted) = queue.granted_mut(self.number) else { return 0 };
        let claimed = bytes.min(*granted);
        *granted -= claimed;
        claimed
    }

    /// Takes back what was [claimed](Ticket::claim) in vain.
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
            self.quota.note_waiting(&queue);
            (waiting.granted + served, waiting.waker)
        };
        // Even if nothing is left: who comes next may ask for less.
        self.quota.release(left);
    }
}
