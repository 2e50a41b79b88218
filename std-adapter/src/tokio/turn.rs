//! Turns of a task: what is in memory is ready at every poll, and a task that moves much of it
//! has to let others run.
//!
//! Promises:
//!
//! - Bytes that were moved count, as tokio's own operations do: one for 64 KiB. What was only
//!   waited for does not.
//! - Bytes that were lent and not consumed can be had again at once.
//!
//! Held by: `tests/tests/async_buffer/turns.rs`.

use crate::polled::runtime::Poller;
use crate::tokio::runtime::poller;
use std::io;
use std::task::{Context, Poll, ready};
use tokio::task::coop::{has_budget_remaining, poll_proceed};

/// Bytes that take as long as what tokio counts as one: some microseconds.
const BYTES_OF_ONE: usize = 64 << 10;

/// Bytes that one poll moves at most: a tenth of a millisecond's.
const AT_ONCE_MAX: usize = 1 << 20;

/// What one handle has moved.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Bytes that a window has served, which were not counted yet: asking for each would cost more
    /// than most of them do.
    uncounted: usize,
    /// Lent bytes were consumed since the last loan.
    has_consumed: bool,
}

impl Turns {
    /// Whether a window may serve `len` bytes before they are counted.
    #[inline(always)]
    pub(crate) fn may_serve(&self, len: usize) -> bool {
        self.uncounted + len <= BYTES_OF_ONE
    }

    /// Notes that it has.
    #[inline(always)]
    pub(crate) fn served(&mut self, len: usize) {
        self.uncounted += len;
    }

    /// Polls an operation for `len` bytes, which is told how many it may move, and says how many it has
    /// moved. Pending, and the task is woken after the others, if it is not its turn.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        len: usize,
        operation: impl FnOnce(Poller<'_>, usize) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(poll_proceed(context)); // given back if the operation is pending
        let moved = ready!(operation(poller(context), len.min(AT_ONCE_MAX)));
        turn.made_progress();
        count_further(context, std::mem::take(&mut self.uncounted) + *moved.as_ref().unwrap_or(&0));
        Poll::Ready(moved)
    }

    /// Polls a loan. What was lent and not consumed is lent again in the same turn: some readers ask twice,
    /// and rely on the second answer.
    pub(crate) fn poll_loan<T>(
        &mut self,
        context: &mut Context<'_>,
        lend: impl FnOnce(Poller<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let turn = if self.has_consumed { Some(ready!(poll_proceed(context))) } else { None };
        let lent = ready!(lend(poller(context)));
        turn.into_iter().for_each(|turn| turn.made_progress());
        self.has_consumed = false;
        Poll::Ready(lent)
    }

    /// Notes that `n` lent bytes were consumed.
    pub(crate) fn consumed(&mut self, n: usize) {
        self.has_consumed |= n > 0;
    }
}

/// Counts what an operation has moved, of which one has been counted.
fn count_further(context: &mut Context<'_>, bytes: usize) {
    for _ in 1..bytes / BYTES_OF_ONE {
        if has_budget_remaining()
            && let Poll::Ready(turn) = poll_proceed(context)
        {
            turn.made_progress();
        }
    }
}

/// Polls an operation that hands out bytes, and counts them.
#[cfg(feature = "http-body")]
pub(crate) fn poll_bytes<B: AsRef<[u8]>>(
    context: &mut Context<'_>,
    operation: impl FnOnce(Poller<'_>) -> Poll<io::Result<B>>,
) -> Poll<io::Result<B>> {
    let turn = ready!(poll_proceed(context));
    let bytes = ready!(operation(poller(context)));
    turn.made_progress();
    count_further(context, bytes.as_ref().map_or(0, |bytes| bytes.as_ref().len()));
    Poll::Ready(bytes)
}
