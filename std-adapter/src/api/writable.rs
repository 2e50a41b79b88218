//! Waiting for room below the disk limit without blocking, as a future.
//!
//! Promises: needs no runtime and no timer; dropping it before it is ready leaves the queue.
//!
//! Held by: `tests/tests/when_full.rs`.

use crate::pager::state::Pager;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits for room on the disk after a refusal; see [`SpillBuffer::writable`](crate::SpillBuffer::writable).
#[must_use = "a future does nothing unless it is polled"]
pub struct Writable<'a> {
    pub(crate) pager: &'a mut Pager,
    pub(crate) is_done: bool,
}

impl Future for Writable<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polled = self.pager.poll_writable(context);
        self.is_done = polled.is_ready();
        polled
    }
}

/// Shows nothing of the buffer's content.
impl fmt::Debug for Writable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").field("is_done", &self.is_done).finish_non_exhaustive()
    }
}

/// Leaves the queue if the future was not ready, so that bytes set aside for it go to the next waiter.
impl Drop for Writable<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.pager.leave_queue();
        }
    }
}
