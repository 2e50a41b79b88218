//! Wake-ups at a threshold, none of which is lost.
//!
//! The waiting end arms its waiter and then loads the other's index again; the moving end stores its index
//! and then loads the threshold of the other's waiter. Each has a sequentially consistent fence between its
//! store and its load, so at least one of the two sees what the other stored: the waiting end finds the
//! bytes, or the moving end finds the waiter armed (Dekker's pattern).
//!
//! Neither end waits for the other or wakes itself on its account, so either may interrupt the other at any
//! point. The waiting end sleeps until the interrupted end goes on, and wakes it.
//!
//! Held by: `core/tests/loom_ring.rs` (`waiting_*`), `core/tests/ring_wakes.rs`.

use core::task::{Context, Poll, Waker};

use super::raw::waker_cell::WakerCell;
use crate::sync::Ordering::{Relaxed, SeqCst};
use crate::sync::{AtomicUsize, const_fn, fence};

/// The waiters of both ends.
pub struct Waiters {
    pub(crate) reader: Waiter,
    pub(crate) writer: Waiter,
}

impl Waiters {
    const_fn! {
        pub(crate) fn new() -> Self {
            Waiters { reader: Waiter::new(), writer: Waiter::new() }
        }
    }
}

/// One end's waiter: its waker, and how many bytes it waits for.
pub(crate) struct Waiter {
    /// The number of bytes that this end waits for, or 0 if it does not wait. Stored by the waiting end only.
    threshold: AtomicUsize,
    waker: WakerCell,
}

impl Waiter {
    const_fn! {
        fn new() -> Self {
            Waiter { threshold: AtomicUsize::new(0), waker: WakerCell::new() }
        }
    }

    /// Has `waker` woken once there are `threshold` bytes, at least 1. The caller must load the
    /// other's index after this.
    pub(crate) fn arm(&self, threshold: usize, waker: &Waker) {
        self.waker.register(waker);
        // Relaxed: if the other end's fence comes after this one, it sees the threshold, and its `wake` sees
        // the waker; if before, the caller's next load sees what it stored. So a `wake` that comes too early
        // for this waker, or meets `register`, was about something that the caller is about to see.
        self.threshold.store(threshold, Relaxed);
        fence(SeqCst);
    }

    /// Ready with the number of bytes once that is `least`, or the other end is closed. `look` says
    /// whether it is closed, and the number, loaded in this order: so the number has what was written or
    /// read before the close.
    pub(crate) fn poll(
        &self,
        context: &Context<'_>,
        least: usize,
        mut look: impl FnMut() -> (bool, usize),
    ) -> Poll<usize> {
        for armed in [false, true] {
            if armed {
                self.arm(least.max(1), context.waker());
            }
            let (closed, count) = look();
            if count >= least || closed {
                self.disarm();
                return Poll::Ready(count);
            }
        }
        Poll::Pending
    }

    /// Requests no further wake-up. One may still be under way.
    pub(crate) fn disarm(&self) {
        if self.threshold.load(Relaxed) != 0 {
            self.threshold.store(0, Relaxed);
        }
    }

    /// Ends this end's waiting, as it goes, and wakes `other` if that waits at all. Its waker does not stay
    /// in the ring, which may live for ever.
    pub(crate) fn leave(&self, other: &Waiter) {
        self.disarm();
        let own = self.waker.withdraw();
        other.notify(|| usize::MAX);
        // Foreign code: last, when all else is done.
        drop(own);
    }

    /// Wakes this end if it waits for `count` bytes or fewer. Called by the other end after it has stored its
    /// index, with a count that is never too low.
    pub(crate) fn notify(&self, count: impl Fn() -> usize) {
        fence(SeqCst);
        // Relaxed: see `arm`. If the threshold is seen before the waker is, no task is woken, but the end
        // that armed it loads the index after that.
        let threshold = self.threshold.load(Relaxed);
        if threshold != 0 && count() >= threshold {
            self.waker.wake();
        }
    }
}
