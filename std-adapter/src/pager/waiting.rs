//! What is done when the disk limit is reached: to fail, or to wait for room.
//!
//! Promises:
//!
//! - Who waits has let go of everything: no lock, no pin, no loan, no frame beyond those of its pages.
//!   Others may take its pages back meanwhile.
//! - Waiting ends in the call again from its beginning, or in the error that it would have had without.
//! - Only room below the pool's limit is waited for. That below a buffer's own could only come from
//!   the buffer itself, which waits.

use crate::disk::quota::Place;
use crate::error::{LimitScope, SpillError};
use crate::observe::events::Event;
use crate::pager::state::Pager;
use crate::pager::wait_state::Patience;
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
        self.patience().when_full = Some(when_full);
    }

    fn patience(&mut self) -> &mut Patience {
        self.rare().patience.get_or_insert_default()
    }

    fn patience_if_any(&mut self) -> Option<&mut Patience> {
        self.rare_if_any()?.patience.as_deref_mut()
    }

    /// Runs `attempt`, and again after each wait for room that the policy allows.
    ///
    /// An attempt that fails has let go of all that it held.
    pub(crate) fn with_patience<R>(
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
            self.core.tally.count_wait(wait.began.elapsed(), in_vain);
        }
    }

    #[cold]
    fn note_refused(&self, error: &SpillError) {
        match error {
            SpillError::DiskLimit { .. } => self.core.tally.count_refused_by_limit(),
            SpillError::StoreFull { .. } => self.core.tally.count_refused_by_store(),
            _ => return,
        }
        if let Some(event) = Event::of_refusal(error) {
            self.core.listeners.tell(&event);
        }
    }

    /// Returns when it is worth trying again, or else `error`.
    #[cold]
    fn await_room(&mut self, error: SpillError, wait: &mut Option<Wait>) -> Result<(), SpillError> {
        let SpillError::DiskLimit { limit, used, asked, scope: LimitScope::Pool, .. } = error else {
            return Err(error);
        };
        let WhenFull::Wait { at_most } = self.when_full() else {
            self.note_asked(asked);
            return Err(error);
        };
        let wait = *wait.get_or_insert_with(|| Wait::of_at_most(at_most));
        if self.line_up(asked) {
            return Ok(()); // what came free before anybody knew of us is found at once
        }
        // Who is stirred again and again meets its deadline too.
        if !wait.is_over() && self.block_until(wait.deadline) {
            return Ok(());
        }
        self.leave_queue();
        let waited = wait.began.elapsed();
        Err(SpillError::DiskLimit { limit, used, asked, scope: LimitScope::Pool, waited })
    }

    fn when_full(&mut self) -> WhenFull {
        let own = self.patience_if_any().and_then(|patience| patience.when_full);
        own.unwrap_or(self.core.when_full)
    }

    /// Asks for `bytes` in the queue; says whether the place in it is a new one.
    fn line_up(&mut self, bytes: u64) -> bool {
        if let Some(place) = self.place() {
            place.ask(bytes);
            return false;
        }
        let place = self.core.disk.quota().enter(bytes);
        self.patience().place = Some(place);
        true
    }

    /// For [`poll_room`](Pager::poll_room), if there is going to be one.
    fn note_asked(&mut self, asked: u64) {
        self.patience().asked = Some(asked);
        if let Some(place) = self.place() {
            place.ask(asked);
        }
    }

    /// What the next slots come from first.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.rare_ref()?.patience.as_ref()?.place.as_ref()
    }

    /// Gives up the place in the queue, and what is left of what was granted there.
    pub(crate) fn leave_queue(&mut self) {
        if let Some(patience) = self.patience_if_any() {
            patience.asked = None;
            patience.place = None;
        }
    }

    /// Whether it was served or stirred before the deadline.
    fn block_until(&self, deadline: Option<Instant>) -> bool {
        let Some(place) = self.place() else { return true };
        let waker = ThreadWaker::waker();
        let context = Context::from_waker(&waker);
        while place.poll(&context).is_pending() {
            if !park_until(deadline) {
                return false;
            }
        }
        true
    }

    /// See [`SpillBuffer::poll_room`](crate::SpillBuffer::poll_room).
    pub(crate) fn poll_room(&mut self, context: &Context<'_>) -> Poll<()> {
        let Some(asked) = self.patience_if_any().and_then(|patience| patience.asked) else {
            return Poll::Ready(());
        };
        match self.place() {
            Some(place) => place.poll(context),
            None => {
                self.line_up(asked);
                Poll::Ready(())
            }
        }
    }
}
