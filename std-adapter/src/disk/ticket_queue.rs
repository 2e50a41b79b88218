//! The tickets of those that wait for room below a disk limit, in the order of their arrival.
//!
//! Promises:
//!
//! - Plain data: nothing here locks, wakes, or touches the limit.
//! - Only [`Queue::add_ticket`] needs memory, and may be refused.
//! - The clock is read only while a ticket has a deadline.
//!
//! Held by: `std-adapter/src/disk/quota/tests.rs`, `std-adapter/src/models/waiting.rs` (loom).

use crate::foreign::Wakers;
use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The number of the newest ticket. Numbers rise in the order of arrival.
    newest: u64,
    /// How many tickets there are. `waiting` and `served` both have room for all of them.
    pub(crate) tickets: usize,
    /// Waiting tickets, by their numbers.
    pub(crate) waiting: VecDeque<Waiting>,
    /// Served tickets, by their numbers.
    pub(crate) served: VecDeque<Served>,
    /// No ticket that waits, or for which bytes are set aside, is out of time before this. `None` if none
    /// ever will be.
    first_deadline: Option<Instant>,
}

impl Queue {
    /// Whether a ticket that can be served below `limit` has waited longer than `number`, or at
    /// all if that is `None`.
    pub(crate) fn is_behind(&self, number: Option<u64>, limit: u64) -> bool {
        let mut earlier = self.waiting.iter().take_while(|other| number.is_none_or(|own| other.number < own));
        earlier.any(|waiting| waiting.requested <= limit)
    }

    /// The number of a new ticket, and room for it. `None` if there is no memory for that.
    pub(crate) fn add_ticket(&mut self) -> Option<u64> {
        let tickets = self.tickets + 1;
        self.waiting.try_reserve(tickets - self.waiting.len()).ok()?;
        self.served.try_reserve(tickets - self.served.len()).ok()?;
        self.tickets = tickets;
        self.newest += 1;
        Some(self.newest)
    }

    /// Removes ticket `number`. Returns what it had in the queue, and the bytes that are still set aside for
    /// it.
    pub(crate) fn remove_ticket(&mut self, number: u64) -> (Option<Waiting>, u64) {
        let waiting = self.find_waiting(number).ok().and_then(|at| self.waiting.remove(at));
        let left = self.take_served(number).unwrap_or(0);
        self.tickets -= 1;
        if self.tickets == 0 {
            self.first_deadline = None;
        }
        // A quarter, so that tickets which come and go do not make the lists shrink and grow each time.
        if self.tickets < self.waiting.capacity() / 4 {
            self.waiting.shrink_to(2 * self.tickets);
            self.served.shrink_to(2 * self.tickets);
        }
        (waiting, left)
    }

    /// The position of waiting ticket `number`, or the one where it would be.
    pub(crate) fn find_waiting(&self, number: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&number, |waiting| waiting.number)
    }

    pub(crate) fn served_mut(&mut self, number: u64) -> Option<&mut Served> {
        let at = self.served.binary_search_by_key(&number, |served| served.number).ok()?;
        self.served.get_mut(at)
    }

    /// Removes ticket `number` from the served ones, and returns the bytes that are still set aside for it.
    /// `None` if it is not one of them.
    pub(crate) fn take_served(&mut self, number: u64) -> Option<u64> {
        let at = self.served.binary_search_by_key(&number, |served| served.number).ok()?;
        self.served.remove(at).map(|served| served.left)
    }

    /// Sets all that the waiting ticket at `at` has requested aside for it, and returns its waker.
    pub(crate) fn serve(&mut self, at: usize) -> Option<Waker> {
        let Waiting { number, requested, deadline, waker, .. } = self.waiting.remove(at)?;
        let place = self.served.partition_point(|served| served.number < number);
        self.served.insert(place, Served { number, left: requested, deadline });
        waker
    }

    /// Takes note of a ticket's deadline.
    pub(crate) fn note_deadline(&mut self, deadline: Option<Instant>) {
        self.first_deadline = self.first_deadline.into_iter().chain(deadline).min();
    }

    /// Whether a ticket may be out of time.
    pub(crate) fn may_expire(&self) -> bool {
        self.first_deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Serves the waiting tickets that are out of time with nothing, and adds their wakers to `wakers` while
    /// there is room. Returns the bytes that are no longer set aside for served ones.
    pub(crate) fn expire(&mut self, wakers: &mut Wakers) -> u64 {
        let now = Instant::now();
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let over = self.served.iter_mut().filter(|served| is_over(served.deadline));
        let left = over.map(|served| std::mem::take(&mut served.left)).sum();
        while !wakers.is_full()
            && let Some(at) = self.waiting.iter().position(|waiting| is_over(waiting.deadline))
        {
            self.waiting[at].requested = 0;
            wakers.add(self.serve(at));
        }
        let waiting = self.waiting.iter().filter_map(|waiting| waiting.deadline);
        let served = self.served.iter().filter(|served| served.left > 0).filter_map(|served| served.deadline);
        self.first_deadline = waiting.chain(served).min();
        left
    }

    /// Marks the waiting tickets from number `from` on as woken, but for `own`, and adds their wakers to
    /// `wakers`. Returns the number to go on from if there is no room for more.
    pub(crate) fn wake(&mut self, from: u64, own: Option<u64>, wakers: &mut Wakers) -> Option<u64> {
        let start = self.waiting.partition_point(|waiting| waiting.number < from);
        for waiting in self.waiting.range_mut(start..).filter(|waiting| Some(waiting.number) != own) {
            if wakers.is_full() {
                return Some(waiting.number);
            }
            wakers.add(waiting.wake());
        }
        None
    }
}

/// A waiting ticket.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) number: u64,
    /// Bytes, which are set aside all at once.
    pub(crate) requested: u64,
    /// When nothing is to be set aside for it any more.
    pub(crate) deadline: Option<Instant>,
    /// Memory came free since the last poll, or may have while the ticket was served.
    pub(crate) woken: bool,
    /// From the last poll that returned `Pending`.
    pub(crate) waker: Option<Waker>,
}

/// A served ticket.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) number: u64,
    /// Bytes that are still set aside for it.
    pub(crate) left: u64,
    /// When these are released, if it still has them.
    deadline: Option<Instant>,
}

impl Waiting {
    /// Marks the ticket as woken, and returns its waker, to be called once the queue is unlocked.
    pub(crate) fn wake(&mut self) -> Option<Waker> {
        self.woken = true;
        self.waker.take()
    }
}
