//! What is done when the disk limit is reached: to fail, or to wait for room.
//!
//! Promises:
//!
//! - Who waits has let go of everything: no lock, no pin, no loan, no frame beyond those of its pages.
//!   Others may take its pages back meanwhile.
//! - Waiting ends in the call again from its beginning, or in the error that it would have had without.
//! - Only room below the pool's limit is waited for. That below a buffer's own could only come from
//!   the buffer itself, which waits.

use crate::disk::quota::Ticket;
use crate::error::{DiskLimitScope, SpillError};
use crate::observe::events::Event;
use crate::pager::state::Pager;
use crate::pager::wait_state::WaitState;
use crate::pool::when_full::WhenFull;
use crate::sync::{ThreadWaker, park_until};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// One call's wait: when it began, and when it has to end, if ever.
#[derive(Clone, Copy)]
struct Wait {
    began: Instant,
    deadline: Option<Instant>,
}

impl Wait {
    fn of_at_most(at_most: Duration) -> Self {
        let began = Instant::now();
        Wait { began, deadline: began.checked_add(at_most) }
    }

    fn is_over(self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl Pager {
    pub(crate) fn set_when_full(&mut self, when_full: WhenFull) {
        self.wait_state().when_full = Some(when_full);
    }

    fn wait_state(&mut self) -> &mut WaitState {
        self.cold().wait_state.get_or_insert_default()
    }

    fn wait_state_if_any(&mut self) -> Option<&mut WaitState> {
        self.cold_if_any()?.wait_state.as_deref_mut()
    }

    /// Runs `attempt`, and again after each wait for room that the policy allows.
    ///
    /// An attempt that fails has let go of all that it held.
    pub(crate) fn retry_after_waits<R>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<R, SpillError>,
    ) -> Result<R, SpillError> {
        let mut wait = None;
        loop {
            match attempt(self) {
                Ok(done) => {
                    self.leave_queue();
                    self.note_end(wait, false);
                    return Ok(done);
                }
                Err(error) => {
                    if let Err(error) = self.await_room(error, &mut wait) {
                        self.note_end(wait, true);
                        self.note_refused(&error);
                        return Err(error);
                    }
                }
            }
        }
    }

    fn note_end(&self, wait: Option<Wait>, in_vain: bool) {
        if let Some(wait) = wait {
            self.pool.counters.count_wait(wait.began.elapsed(), in_vain);
        }
    }

    #[cold]
    fn note_refused(&self, error: &SpillError) {
        match error {
            SpillError::DiskLimit { .. } => self.pool.counters.count_refused_by_limit(),
            SpillError::StoreFull { .. } => self.pool.counters.count_refused_by_store(),
            _ => return,
        }
        if let Some(event) = Event::of_refusal(error) {
            self.pool.listeners.notify(&event);
        }
    }

    /// Returns when it is worth trying again, or else `error`.
    #[cold]
    fn await_room(&mut self, error: SpillError, wait: &mut Option<Wait>) -> Result<(), SpillError> {
        let SpillError::DiskLimit { limit, used, requested, scope: DiskLimitScope::Pool, .. } = error else {
            return Err(error);
        };
        let WhenFull::Wait { at_most } = self.when_full() else {
            self.note_requested(requested);
            return Err(error);
        };
        let wait = *wait.get_or_insert_with(|| Wait::of_at_most(at_most));
        if self.enqueue(requested) {
            return Ok(()); // what came free before anybody knew of us is found at once
        }
        // Who is woken again and again meets its deadline too.
        if !wait.is_over() && self.block_until(wait.deadline) {
            return Ok(());
        }
        self.leave_queue();
        let waited = wait.began.elapsed();
        Err(SpillError::DiskLimit { limit, used, requested, scope: DiskLimitScope::Pool, waited })
    }

    fn when_full(&mut self) -> WhenFull {
        let own = self.wait_state_if_any().and_then(|wait_state| wait_state.when_full);
        own.unwrap_or(self.pool.when_full)
    }

    /// Asks for `bytes` in the queue; says whether the ticket in it is a new one.
    fn enqueue(&mut self, bytes: u64) -> bool {
        if let Some(ticket) = self.ticket() {
            ticket.ask(bytes);
            return false;
        }
        let ticket = self.pool.disk.quota().enter(bytes);
        self.wait_state().ticket = Some(ticket);
        true
    }

    /// For [`poll_writable`](Pager::poll_writable), if there is going to be one.
    fn note_requested(&mut self, requested: u64) {
        self.wait_state().requested = Some(requested);
        if let Some(ticket) = self.ticket() {
            ticket.ask(requested);
        }
    }

    /// What the next slots come from first.
    pub(crate) fn ticket(&self) -> Option<&Ticket> {
        self.cold_ref()?.wait_state.as_ref()?.ticket.as_ref()
    }

    /// Gives up the ticket in the queue, and what is left of what was granted there.
    pub(crate) fn leave_queue(&mut self) {
        if let Some(wait_state) = self.wait_state_if_any() {
            wait_state.requested = None;
            wait_state.ticket = None;
        }
    }

    /// Whether it was served or woken before the deadline.
    fn block_until(&self, deadline: Option<Instant>) -> bool {
        let Some(ticket) = self.ticket() else { return true };
        let waker = ThreadWaker::waker();
        let context = Context::from_waker(&waker);
        while ticket.poll(&context).is_pending() {
            if !park_until(deadline) {
                return false;
            }
        }
        true
    }

    /// See [`SpillBuffer::poll_writable`](crate::SpillBuffer::poll_writable).
    pub(crate) fn poll_writable(&mut self, context: &Context<'_>) -> Poll<()> {
        let Some(requested) = self.wait_state_if_any().and_then(|wait_state| wait_state.requested) else {
            return Poll::Ready(());
        };
        match self.ticket() {
            Some(ticket) => ticket.poll(context),
            None => {
                self.enqueue(requested);
                Poll::Ready(())
            }
        }
    }
}
