//! Waiting for room without blocking, as a future.

use crate::pager::state::Pager;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits for room for what a buffer was refused; see [`SpillBuffer::writable`](crate::SpillBuffer::writable).
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

/// Tells nothing of the buffer, and never reads its data.
impl fmt::Debug for Writable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").field("is_done", &self.is_done).finish_non_exhaustive()
    }
}

/// Who does not wait any more leaves the queue.
impl Drop for Writable<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.pager.leave_queue();
        }
    }
}
