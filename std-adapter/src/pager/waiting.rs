//! The disk limit is reached: fail at once, or wait for room, as the policy says.
//!
//! Promises:
//!
//! - A waiter holds nothing: no lock, no pin, no loan, no frame beyond those of its pages. The pool may
//!   reclaim its pages meanwhile.
//! - After a wait the call is attempted again from its beginning, or fails with the error that it would have
//!   returned without waiting; or for want of memory, if there is none for its place in the queue.
//! - No call in [`without_waits`] waits for room, on its thread.
//! - A call that has moved bytes does not wait, and counts as no refusal: it returns what it has moved.
//! - A blocking call that fails leaves the queue. While a buffer is in it, or has been refused, its window is
//!   closed: so its next write passes here, even one that fits in memory, and takes it out of the queue.
//! - A call waits only for room below the pool's limit, never below the buffer's own: only the buffer itself
//!   could free room there, and it is blocked; or readers of a spool, for which nothing waits. Where the pool
//!   has no disk, that goes for a buffer's own memory limit too, but not for a spool's.
//!
//! Held by: `tests/tests/when_full.rs`, `tests/tests/pool_stress.rs`,
//! `std-adapter/src/models.rs` (loom).

use crate::disk::quota::Ticket;
use crate::error::{DiskLimitScope, SpillError};
use crate::observe::events::Event;
use crate::pager::state::Pager;
use crate::pager::wait_state::WaitState;
use crate::pool::thread_cache;
use crate::pool::when_full::WhenFull;
#[cfg(feature = "tokio")]
use crate::sync::thread_local;
use crate::sync::{ThreadWaker, park_until};
use crate::try_box::TryBox;
use std::alloc::{Layout, handle_alloc_error};
#[cfg(feature = "tokio")]
use std::cell::Cell;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The wait of one call, over all its attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    began: Instant,
    /// `None` if it is too far away for an [`Instant`]: the wait has no end then.
    deadline: Option<Instant>,
}

impl Wait {
    fn start(at_most: Duration) -> Self {
        let began = Instant::now();
        Wait { began, deadline: began.checked_add(at_most) }
    }

    fn is_over(self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// What came of attempts that do not wait.
pub(crate) enum Tried<R> {
    Done(R),
    /// Wait until the [ticket](Pager::ticket) is served or woken, or time is up.
    Blocked(Blockage),
}

/// The error to fail with when no room comes free in time, and that time.
#[derive(Debug)]
pub(crate) struct Blockage {
    error: SpillError,
    deadline: Option<Instant>,
}

impl Blockage {
    /// When to give up. `None` is never.
    #[cfg(feature = "tokio")]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The error, with the time waited.
    fn after(self, wait: Option<Wait>) -> SpillError {
        match self.error {
            SpillError::DiskLimit { limit, used, requested, scope, .. } => {
                let waited = wait.map_or(Duration::ZERO, |wait| wait.began.elapsed());
                SpillError::DiskLimit { limit, used, requested, scope, waited }
            }
            error => error,
        }
    }
}

impl Pager {
    /// Sets the buffer's own policy. Ends the process if there is no memory to keep it.
    pub(crate) fn set_when_full(&mut self, when_full: WhenFull) {
        let Some(wait_state) = self.wait_state() else { handle_alloc_error(Layout::new::<WaitState>()) };
        wait_state.when_full = Some(when_full);
    }

    /// The buffer's own policy, if it has one.
    pub(crate) fn own_when_full(&self) -> Option<WhenFull> {
        self.cold_ref()?.wait_state.as_ref()?.when_full
    }

    /// As [`set_when_full`](Pager::set_when_full); an error if there is no memory to keep it.
    pub(crate) fn try_set_when_full(&mut self, when_full: WhenFull) -> Result<(), SpillError> {
        self.wait_state().ok_or(SpillError::OutOfMemory)?.when_full = Some(when_full);
        Ok(())
    }

    /// `None` if there is no memory for it.
    fn wait_state(&mut self) -> Option<&mut WaitState> {
        let cold = self.cold()?;
        if cold.wait_state.is_none() {
            cold.wait_state = TryBox::new(WaitState::default());
        }
        cold.wait_state.as_deref_mut()
    }

    fn wait_state_if_any(&mut self) -> Option<&mut WaitState> {
        self.cold_if_any()?.wait_state.as_deref_mut()
    }

    /// Runs `attempt`, and repeats it after each wait for room that the policy allows.
    ///
    /// An attempt that fails must hold nothing when it returns: neither a pin nor a loan.
    pub(crate) fn retry_after_waits<R>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<R, SpillError>,
    ) -> Result<R, SpillError> {
        let mut wait = None;
        loop {
            match self.attempt(&mut wait, &mut attempt)? {
                Tried::Done(done) => return Ok(done),
                Tried::Blocked(blockage) => {
                    if let Err(blockage) = block_until(self.ticket(), blockage) {
                        return Err(self.give_up(wait, blockage));
                    }
                }
            }
        }
    }

    /// Runs `attempt` until it has succeeded or failed, or would wait. `wait` belongs to the call, and ends
    /// with it.
    pub(crate) fn attempt<R>(
        &mut self,
        wait: &mut Option<Wait>,
        mut attempt: impl FnMut(&mut Self) -> Result<R, SpillError>,
    ) -> Result<Tried<R>, SpillError> {
        loop {
            let error = match attempt(self) {
                Ok(done) => {
                    self.leave_queue();
                    self.count_wait(wait.take(), false);
                    return Ok(Tried::Done(done));
                }
                Err(error) => error,
            };
            match self.await_room(error, wait) {
                Ok(Some(blockage)) => return Ok(Tried::Blocked(blockage)),
                Ok(None) => {}
                Err(error) => return Err(self.fail(wait.take(), error)),
            }
        }
    }

    /// Ends a call that has waited for as long as it may.
    pub(crate) fn give_up(&mut self, wait: Option<Wait>, blockage: Blockage) -> SpillError {
        let error = blockage.after(wait);
        self.fail(wait, error)
    }

    /// Ends a call that has succeeded without the store, after its `wait` for what others have freed.
    #[cfg(feature = "tokio")]
    pub(crate) fn succeed(&mut self, wait: Option<Wait>) {
        if wait.is_some() || self.awaits_room() {
            self.leave_queue();
            self.count_wait(wait, false);
        }
    }

    /// Ends a call with `error`, counts its wait, and leaves the queue if it has waited.
    pub(crate) fn fail(&mut self, wait: Option<Wait>, error: SpillError) -> SpillError {
        // A call that has waited fails at the pool's limit only because its deadline has passed.
        let timed_out = matches!(&error, SpillError::DiskLimit { scope: DiskLimitScope::Pool, .. });
        self.count_wait(wait, timed_out);
        if wait.is_some() {
            self.leave_queue();
        }
        self.note_refused(&error);
        error
    }

    fn count_wait(&self, wait: Option<Wait>, timed_out: bool) {
        if let Some(wait) = wait {
            self.pool.counters.count_wait(wait.began.elapsed(), timed_out);
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
            self.pool.listeners.notify(event);
        }
    }

    /// The error of a write to a buffer. Where the pool has no disk and the buffer's own memory limit has no
    /// room, only the buffer could make some: that is no refusal of the pool's, to be waited for.
    pub(crate) fn refusal_of_buffer(&self, error: SpillError) -> SpillError {
        match error {
            SpillError::DiskLimit { limit: 0, requested, scope: DiskLimitScope::Pool, .. }
                if self.is_bound() =>
            {
                SpillError::disk_limit(0, 0, requested, DiskLimitScope::Buffer)
            }
            error => error,
        }
    }

    /// Takes a place in the queue, or says how long to wait there; or returns the error to fail with. `None`
    /// if room may have come free meanwhile: to be tried again at once.
    #[cold]
    fn await_room(
        &mut self,
        error: SpillError,
        wait: &mut Option<Wait>,
    ) -> Result<Option<Blockage>, SpillError> {
        let SpillError::DiskLimit { requested, scope: DiskLimitScope::Pool, .. } = error else {
            return Err(error);
        };
        if self.pool.disk.quota().expire() {
            return Ok(None);
        }
        let WhenFull::Wait { at_most } = self.when_full() else {
            self.note_requested(requested);
            return Err(error);
        };
        let this = wait.unwrap_or_else(|| Wait::start(at_most));
        let is_new = self.enqueue(requested, this.deadline)?;
        let wait = *wait.insert(this);
        if is_new {
            return Ok(None); // room that was freed before this ticket was in the queue did not wake it
        }
        let blockage = Blockage { error, deadline: wait.deadline };
        // Check the deadline on every wake-up, or repeated wake-ups could postpone it for ever.
        if wait.is_over() {
            return Err(blockage.after(Some(wait)));
        }
        Ok(Some(blockage))
    }

    /// The policy in force: the buffer's own, or else the pool's; in a forked process, and on a thread that
    /// must not wait, none waits.
    fn when_full(&mut self) -> WhenFull {
        // In a forked process there are none of the threads that would free the room.
        if self.pool.disk.quota().is_inherited() || must_not_wait() {
            return WhenFull::Fail;
        }
        let own = self.wait_state_if_any().and_then(|wait_state| wait_state.when_full);
        own.unwrap_or(self.pool.when_full)
    }

    /// Requests `bytes` in the queue until `deadline`, and returns whether this took a new ticket. A ticket
    /// that is already there keeps its place. An error if there is no memory for a new one.
    fn enqueue(&mut self, bytes: u64, deadline: Option<Instant>) -> Result<bool, SpillError> {
        if let Some(ticket) = self.ticket() {
            ticket.ask(bytes, deadline);
            return Ok(false);
        }
        self.wait_state().ok_or(SpillError::OutOfMemory)?;
        let ticket = self.pool.disk.quota().enter(bytes, deadline).ok_or(SpillError::OutOfMemory)?;
        if let Some(wait_state) = self.wait_state() {
            wait_state.ticket = Some(ticket);
        }
        thread_cache::recall(); // a thread that has not seen the ticket may just be keeping memory
        self.close_window();
        Ok(true)
    }

    /// Notes the request that was refused, for a later [`poll_writable`](Pager::poll_writable). Without
    /// memory for that, the next attempt is not put off.
    fn note_requested(&mut self, requested: u64) {
        if let Some(wait_state) = self.wait_state() {
            wait_state.requested = Some(requested);
        }
        self.close_window();
        if let Some(ticket) = self.ticket() {
            ticket.ask(requested, None);
        }
    }

    /// The buffer's ticket, if it is in the queue. New slots use what it was granted first.
    pub(crate) fn ticket(&self) -> Option<&Ticket> {
        self.cold_ref()?.wait_state.as_ref()?.ticket.as_ref()
    }

    /// Whether a request was refused or is in the queue, and no call has succeeded since.
    pub(crate) fn awaits_room(&self) -> bool {
        let wait_state = self.cold_ref().and_then(|cold| cold.wait_state.as_ref());
        wait_state.is_some_and(|wait_state| wait_state.requested.is_some() || wait_state.ticket.is_some())
    }

    /// Makes the window a page as any other, so that the next access misses it.
    pub(crate) fn close_window(&mut self) {
        self.forget_under_window(None);
        self.table(|table| {
            // Without memory it stays, and the next write does not wait behind others.
            if table.reserve_for_open() {
                table.close_window();
            }
        });
    }

    /// Leaves the queue, and releases what is left of the grant.
    pub(crate) fn leave_queue(&mut self) {
        if let Some(wait_state) = self.wait_state_if_any() {
            wait_state.requested = None;
            wait_state.ticket = None;
        }
    }

    /// Takes the ticket out, to wait for its turn without the pager.
    pub(crate) fn take_ticket(&mut self) -> Option<Ticket> {
        self.wait_state_if_any()?.ticket.take()
    }

    /// Puts it back.
    pub(crate) fn return_ticket(&mut self, ticket: Option<Ticket>) {
        // The state is there since the ticket was taken out of it. Without it the ticket leaves the queue.
        if let Some(wait_state) = self.wait_state_if_any() {
            wait_state.ticket = ticket;
        }
    }

    /// See [`SpillBuffer::poll_writable`](crate::SpillBuffer::poll_writable).
    pub(crate) fn poll_writable(&mut self, context: &Context<'_>) -> Poll<()> {
        let Some(requested) = self.wait_state_if_any().and_then(|wait_state| wait_state.requested) else {
            return Poll::Ready(());
        };
        if self.pool.disk.quota().is_inherited() {
            return Poll::Ready(());
        }
        match self.ticket() {
            Some(ticket) => ticket.poll(context),
            None => {
                // Without memory for a ticket as well: the next attempt says so, or succeeds.
                drop(self.enqueue(requested, None));
                Poll::Ready(())
            }
        }
    }
}

#[cfg(feature = "tokio")]
thread_local! {
    static MUST_NOT_WAIT: Cell<bool> = Cell::default();
}

/// Runs `call`, in which no buffer waits for room, whatever its policy: what others need to free it may need
/// this thread.
#[cfg(feature = "tokio")]
pub(crate) fn without_waits(call: impl FnOnce()) {
    struct Restored(bool);
    impl Drop for Restored {
        fn drop(&mut self) {
            let _ = MUST_NOT_WAIT.try_with(|must_not| must_not.set(self.0));
        }
    }
    let _restored = Restored(MUST_NOT_WAIT.try_with(|must_not| must_not.replace(true)).unwrap_or(false));
    call();
}

/// Whether this thread is in [`without_waits`].
fn must_not_wait() -> bool {
    #[cfg(feature = "tokio")]
    return MUST_NOT_WAIT.try_with(Cell::get).unwrap_or(false);
    #[cfg(not(feature = "tokio"))]
    false
}

/// Blocks until the ticket is served or woken, or the deadline passes. `Ok` after that too: the caller makes
/// one more attempt, since nothing wakes a waiter when one before it in the queue runs out of time. An error
/// if there is no memory for a waker.
pub(crate) fn block_until(ticket: Option<&Ticket>, blockage: Blockage) -> Result<(), Blockage> {
    let Some(ticket) = ticket else { return Ok(()) };
    let Some(waker) = ThreadWaker::waker() else {
        return Err(Blockage { error: SpillError::OutOfMemory, ..blockage });
    };
    let context = Context::from_waker(&waker);
    while ticket.poll(&context).is_pending() {
        if !park_until(blockage.deadline) {
            break;
        }
    }
    Ok(())
}
