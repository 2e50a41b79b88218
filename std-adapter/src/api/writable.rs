//! Waiting for room without blocking, as a future.

use crate::pager::state::Pager;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits for room for what a buffer was refused; see [`SpillBuffer::room`](crate::SpillBuffer::room).
#[must_use = "a future does nothing unless it is polled"]
pub struct Room<'a> {
    pub(crate) pager: &'a mut Pager,
    pub(crate) is_done: bool,
}

impl Future for Room<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polled = self.pager.poll_room(context);
        self.is_done = polled.is_ready();
        polled
    }
}

/// Tells nothing of the buffer, and never reads its data.
impl fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("is_done", &self.is_done).finish_non_exhaustive()
    }
}

/// Who does not wait any more leaves the queue.
impl Drop for Room<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.pager.leave_queue();
        }
    }
}
