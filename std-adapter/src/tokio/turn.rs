//! Turns of a task: what is in memory is ready at every poll, and a task that moves much of it has to let others run.
//!
//! Held by: `tests/tests/async_buffer/turns.rs`.

use std::task::{Context, Poll, ready};
use tokio::task::coop::{has_budget_remaining, poll_proceed};

/// Bytes that take as long as what tokio counts as one: some microseconds.
const BYTES_OF_ONE: usize = 64 << 10;

/// Bytes that one poll moves at most: a tenth of a millisecond's.
const AT_ONCE_MAX: usize = 1 << 20;

/// How many of `len` bytes the task may move now. Without any it is woken after the others. What a window serves need not ask: it costs
/// less than asking does.
pub(crate) fn poll_turn(context: &mut Context<'_>, len: usize) -> Poll<usize> {
    let len = len.min(AT_ONCE_MAX);
    ready!(poll_proceed(context)).made_progress();
    for _ in 0..len / BYTES_OF_ONE {
        if !has_budget_remaining() {
            break;
        }
        ready!(poll_proceed(context)).made_progress();
    }
    Poll::Ready(len)
}
