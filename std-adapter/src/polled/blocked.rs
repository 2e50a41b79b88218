//! A wait for room on the disk, as a part of a future.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::disk::quota::Ticket;
use crate::pager::waiting::Blockage;
use crate::polled::runtime::{Alarm, Poller};
use std::task::Poll;
use std::time::Instant;

/// A call that a job has found no room for, where the policy is to wait.
pub(crate) struct Blocked {
    blockage: Blockage,
    alarm: Alarm,
}

impl Blocked {
    pub(crate) fn new(blockage: Blockage) -> Self {
        Blocked { blockage, alarm: Alarm::default() }
    }

    /// Ready with true if the call is to be tried again, and with false if its time is up by the runtime's
    /// clock alone: at once if there is a deadline and the runtime has no timer.
    pub(crate) fn poll(&mut self, poller: Poller<'_>, ticket: Option<&Ticket>) -> Poll<bool> {
        if ticket.is_none_or(|ticket| ticket.poll(&poller.context()).is_ready()) {
            return Poll::Ready(true);
        }
        let Some(deadline) = self.blockage.deadline() else { return Poll::Pending };
        if !self.alarm.is_over(deadline, poller) {
            return Poll::Pending;
        }
        // The last attempt, as in the blocking form: it fails, if it has to, with the time waited.
        Poll::Ready(Instant::now() >= deadline)
    }

    pub(crate) fn into_blockage(self) -> Blockage {
        self.blockage
    }
}
