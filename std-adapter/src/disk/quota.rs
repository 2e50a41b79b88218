//! The disk limit of a pool, and the queue of waiters for room below it.
//!
//! Promises:
//!
//! - I6: used bytes never pass the limit. Bytes that are set aside for a ticket count as used.
//! - Tickets are served in the order of their arrival, each with all that it requested or with nothing.
//!   While one waits, a request that came later gets no room that the one might get, so small requests do
//!   not starve a large one. Only a ticket that requests more than the whole limit is passed over, until
//!   the limit is raised.
//! - A ticket past its deadline stands in nobody's way: from the next request that is refused or waits, or
//!   the next release while one waits, nothing is set aside for it, though nothing polls it any more.
//! - No wake-up is lost. A ticket that leaves the queue passes its turn, and the bytes set aside for it, to
//!   the rest.
//! - Wakers run, and are dropped, with nothing locked, and the panic of one reaches no other thread's call.
//! - Only [`Quota::enter`] needs memory, and may be refused. What frees bytes needs none.
//! - Without waiters, a reservation or a release reads one counter and takes no lock.
//!
//! Held by: `std-adapter/src/disk/quota/tests.rs`, `std-adapter/src/models.rs` (loom),
//! `tests/tests/when_full.rs`, `tests/tests/pool_stress.rs`.
//!
//! # A ticket in the queue
//!
//! | from | to | by |
//! |---|---|---|
//! | | waiting | [`Quota::enter`] |
//! | waiting | served | [`Quota::serve`]: all that it requested is set aside |
//! | waiting | served | [`Queue::expire`]: its deadline has passed, and nothing is set aside |
//! | served | served | [`Queue::expire`]: its deadline has passed, and what is left is released |
//! | served | waiting | [`Ticket::ask`]: what was set aside is released, and the ticket is woken |
//! | waiting, served | gone | dropping the [`Ticket`] |
//!
//! A waiter is also *woken* when memory comes free, since its bytes may then need no disk, and
//! when [parts](crate::disk::parts) of a block do, which are charged already: it tries again,
//! and keeps its ticket. Neither wakes a served one, which is about to try again anyway; so one that goes
//! back to waiting is woken at once, for what came free after it last looked.
//!
//! # Why no wake-up is lost
//!
//! A waiter stores its arrival in `waiting`, passes a full fence, and only then checks for room. A
//! release passes a full fence between freeing and reading `waiting`. So at least one of the two
//! sees the other's store.

use crate::disk::ticket_queue::{Queue, Waiting};
use crate::error::{DiskLimitScope, SpillError};
use crate::foreign::{Wakers, drop_waker};
use crate::memory::budget::{Budget, HighWater, Refused, Waiters};
use crate::sync::fork::{Forked, Lock};
use crate::sync::{Arc, AtomicBool, AtomicU64, MutexGuard, Ordering, fences};
use std::task::{Context, Poll};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Quota {
    budget: Budget,
    high_water: HighWater,
    /// The length of `queue.waiting`. Written with the queue locked; read without, so it may be out of date.
    waiting: AtomicU64,
    /// Parts of blocks came free, and no waiter was told yet. True for too long, it costs an
    /// attempt of each waiter.
    parts_freed: AtomicBool,
    queue: Lock<Queue>,
}

/// For the budget of the memory that they may use instead.
impl Waiters for Quota {
    fn wake(&self) {
        self.wake_waiters();
    }
}

impl Quota {
    pub(crate) fn new(limit: u64) -> Self {
        Quota {
            budget: Budget::new(limit),
            high_water: HighWater::default(),
            waiting: AtomicU64::new(0),
            parts_freed: AtomicBool::new(false),
            queue: Lock::default(),
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

    /// Reserves `bytes`, all or nothing. Uses the bytes that are set aside for `ticket` before any others,
    /// and no others while an earlier ticket waits: what is free is to be that one's.
    pub(crate) fn reserve(&self, bytes: u64, ticket: Option<&Ticket>) -> Result<(), Refused> {
        if ticket.is_none() && self.waiting() == 0 {
            return self.reserve_free(bytes);
        }
        let number = ticket.map(|ticket| ticket.number);
        let Ok(mut queue) = self.queue() else { return self.reserve_free(bytes) };
        let taken = self.share_of(&mut queue, bytes, number)?;
        if bytes > taken {
            self.reserve_free(bytes - taken)?;
        }
        if let Some(served) = number.and_then(|number| queue.served_mut(number)) {
            served.left -= taken;
        }
        Ok(())
    }

    /// How many of `bytes` the ticket `number` is to take of those set aside for it. Refused if it would need
    /// others too, and an earlier ticket waits.
    fn share_of(&self, queue: &mut Queue, bytes: u64, number: Option<u64>) -> Result<u64, Refused> {
        let set_aside = number.and_then(|number| queue.served_mut(number)).map_or(0, |served| served.left);
        if bytes > set_aside {
            let limit = self.budget.limit();
            if queue.is_behind(number, limit) {
                return Err(Refused { limit, used: self.budget.used() });
            }
        }
        Ok(bytes.min(set_aside))
    }

    /// Whether `bytes` could be [reserved](Quota::reserve) now. Takes none, so no other request is refused
    /// for it; another may take them meanwhile.
    #[cfg(feature = "tokio")]
    fn check(&self, bytes: u64, ticket: Option<&Ticket>) -> Result<(), Refused> {
        let has_queue = ticket.is_some() || self.waiting() > 0;
        let taken = if has_queue && let Ok(mut queue) = self.queue() {
            self.share_of(&mut queue, bytes, ticket.map(|ticket| ticket.number))?
        } else {
            0
        };
        self.budget.check(bytes - taken)
    }

    /// Reserves `bytes` of those that are set aside for no ticket.
    fn reserve_free(&self, bytes: u64) -> Result<(), Refused> {
        self.high_water.note(self.budget.reserve(bytes)?);
        Ok(())
    }

    /// As [`reserve`](Quota::reserve), for a slot of `len` bytes. The error names the pool's disk limit.
    pub(crate) fn reserve_for_slot(&self, len: u64, ticket: Option<&Ticket>) -> Result<(), SpillError> {
        self.reserve(len, ticket).map_err(|refused| refused_slot(refused, len))
    }

    /// As [`reserve_for_slot`](Quota::reserve_for_slot), but takes nothing.
    #[cfg(feature = "tokio")]
    pub(crate) fn check_for_slot(&self, len: u64, ticket: Option<&Ticket>) -> Result<(), SpillError> {
        self.check(len, ticket).map_err(|refused| refused_slot(refused, len))
    }

    /// Releases `bytes`, and serves waiting tickets with them.
    pub(crate) fn release(&self, bytes: u64) {
        self.release_quietly(bytes);
        self.serve_if_waiting();
    }

    /// Releases `bytes` in the middle of something, and wakes nobody:
    /// [`serve_if_waiting`](Quota::serve_if_waiting) is to follow at its end.
    pub(crate) fn release_quietly(&self, bytes: u64) {
        self.budget.release(bytes);
    }

    /// Notes that parts of blocks came free, in the middle of something:
    /// [`serve_if_waiting`](Quota::serve_if_waiting) is to follow at its end.
    pub(crate) fn note_parts_freed(&self) {
        // A swap, and Release: as for memory that comes free.
        self.parts_freed.swap(true, Ordering::Release);
    }

    /// Changes the limit in bytes, and serves waiting tickets.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.budget.set_limit(bytes);
        self.serve_if_waiting();
    }

    /// Whether there is a limit. Without one nothing waits, which costs less to know than the fence: a
    /// third of a small body.
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.limit() < u64::MAX
    }

    /// Wakes all waiters, so that they try again. To be called after memory has come free.
    #[inline]
    pub(crate) fn wake_waiters(&self) {
        self.wake_waiters_but(None);
    }

    /// As [`wake_waiters`](Quota::wake_waiters), but not the waiter that has the ticket `own`.
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
        let mut next = Some(0);
        while let Some(from) = next {
            let mut wakers = Wakers::default();
            next = self.queue().ok().and_then(|mut queue| queue.wake(from, own, &mut wakers));
            wakers.wake_all();
        }
    }

    /// Serves waiting tickets with what was released, and wakes them all if parts came free, for which no
    /// bytes are set aside.
    pub(crate) fn serve_if_waiting(&self) {
        if self.may_have_waiters() {
            self.serve();
            if self.parts_freed.swap(false, Ordering::Relaxed) {
                self.wake_all_but(None);
            }
        }
    }

    /// Sets free bytes aside for waiting tickets, in the order of their arrival, and wakes them once
    /// the queue is unlocked.
    fn serve(&self) {
        let mut may_be_more = true;
        while may_be_more {
            let Ok(mut queue) = self.queue() else { return };
            let wakers = self.serve_some(&mut queue);
            drop(queue);
            may_be_more = wakers.is_full();
            wakers.wake_all();
        }
    }

    /// Serves as many tickets as there is room for their wakers, which it returns.
    fn serve_some(&self, queue: &mut Queue) -> Wakers {
        let mut wakers = Wakers::default();
        if queue.may_expire() {
            self.budget.release(queue.expire(&mut wakers));
        }
        let limit = self.budget.limit();
        while !wakers.is_full()
            && let Some(at) = queue.waiting.iter().position(|waiting| waiting.requested <= limit)
            && self.reserve_free(queue.waiting[at].requested).is_ok()
        {
            wakers.add(queue.serve(at));
        }
        self.update_waiting(queue);
        wakers
    }

    /// Passes over the tickets that are out of time. Returns whether there may have been one: what was
    /// refused is worth trying again then.
    pub(crate) fn expire(&self) -> bool {
        let may_expire = self.queue().is_ok_and(|queue| queue.may_expire());
        if may_expire {
            self.serve();
        }
        may_expire
    }

    /// The queue. In a forked process it begins without those that wait, which are threads of its parent.
    fn queue(&self) -> Result<MutexGuard<'_, Queue>, Forked> {
        self.queue.lock_or_adopt(|queue| {
            // Their wakers are the parent's too.
            queue.waiting.drain(..).for_each(std::mem::forget);
            self.update_waiting(queue);
        })
    }

    /// Whether room is what the process has left free from which this one was forked: nobody is waited for
    /// here.
    pub(crate) fn is_inherited(&self) -> bool {
        self.queue.is_inherited()
    }

    fn update_waiting(&self, queue: &Queue) {
        self.waiting.store(queue.waiting.len() as u64, Ordering::Relaxed);
    }

    /// Bytes that are set aside for tickets.
    pub(crate) fn set_aside(&self) -> u64 {
        self.queue().map_or(0, |queue| queue.served.iter().map(|served| served.left).sum())
    }

    /// A ticket at the end of the queue, which requests `bytes` until the `deadline`, if it has one. `None`
    /// if there is no memory for it.
    pub(crate) fn enter(self: &Arc<Self>, bytes: u64, deadline: Option<Instant>) -> Option<Ticket> {
        let number = self.queue().ok()?.add_ticket()?;
        let ticket = Ticket { quota: Arc::clone(self), number };
        ticket.ask(bytes, deadline);
        Some(ticket)
    }
}

fn refused_slot(refused: Refused, len: u64) -> SpillError {
    SpillError::disk_limit(refused.limit, refused.used, len, DiskLimitScope::Pool)
}

/// A waiter's place in the queue, and the bytes set aside for it. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Ticket {
    quota: Arc<Quota>,
    number: u64,
}

impl Ticket {
    /// Requests `bytes` until the `deadline`, in place of what it has requested before. The ticket keeps its
    /// place in the queue; what was set aside for it is released, to be set aside again if it is still its
    /// turn. A ticket that was served is ready once more, since nobody woke it meanwhile.
    pub(crate) fn ask(&self, bytes: u64, deadline: Option<Instant>) {
        let quota = &*self.quota;
        let left = {
            let Ok(mut queue) = quota.queue() else { return };
            let left = queue.take_served(self.number);
            match queue.find_waiting(self.number) {
                Ok(at) => (queue.waiting[at].requested, queue.waiting[at].deadline) = (bytes, deadline),
                Err(at) => {
                    let (number, woken) = (self.number, left.is_some());
                    let waiting = Waiting { number, requested: bytes, deadline, woken, waker: None };
                    queue.waiting.insert(at, waiting);
                }
            }
            queue.note_deadline(deadline);
            quota.update_waiting(&queue);
            left
        };
        fences::full();
        // Only now: a request that begins once it is free sees the waiter.
        quota.budget.release(left.unwrap_or(0));
        quota.serve();
    }

    /// Ready if the ticket is served, or was woken since the last call. Otherwise the waker of `context` is
    /// called when that changes.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        // Clone the waker, and drop its predecessor, outside the lock: both run foreign code.
        let mut waker = Some(context.waker().clone());
        let Ok(mut queue) = self.quota.queue() else { return Poll::Ready(()) };
        let Ok(at) = queue.find_waiting(self.number) else { return Poll::Ready(()) };
        let waiting = &mut queue.waiting[at];
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
        let (waiting, left) = {
            let Ok(mut queue) = self.quota.queue() else { return };
            let removed = queue.remove_ticket(self.number);
            self.quota.update_waiting(&queue);
            removed
        };
        waiting.and_then(|waiting| waiting.waker).into_iter().for_each(drop_waker);
        // Even if this is 0: the next ticket may request less, and have its turn now.
        self.quota.release(left);
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;
