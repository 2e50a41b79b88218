//! Wake-ups at a threshold, without a lost one.
//!
//! The end that waits *arms* and then looks again; the end that moves an index stores it and then looks whether
//! the other is armed. Between the store and the look stands a sequentially consistent fence on either side, so
//! at least one of the two sees what the other stored: either the waiting end finds the bytes, or the
//! moving end finds it armed (Dekker's pattern).

use core::task::Waker;

use super::raw::waker_cell::WakerCell;
use crate::sync::Ordering::{Relaxed, SeqCst};
use crate::sync::{AtomicUsize, const_fn, fence};

/// Who waits at either end.
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

/// One end's wait.
pub(crate) struct Waiter {
    /// How many bytes are waited for; 0: nobody waits. Stored by the waiting end only.
    threshold: AtomicUsize,
    waker: WakerCell,
}

impl Waiter {
    const_fn! {
        fn new() -> Self {
            Waiter { threshold: AtomicUsize::new(0), waker: WakerCell::new() }
        }
    }

    /// To be woken once there are `threshold` bytes (at least 1). The caller must look again after this.
    pub(crate) fn arm(&self, threshold: usize, waker: &Waker) {
        self.waker.register(waker);
        // Relaxed: if the other end's fence comes after this one, it sees the threshold, and its `wake` comes after
        // `register` in the order of the cell's changes; if before, the caller's look sees what it stored.
        self.threshold.store(threshold, Relaxed);
        fence(SeqCst);
    }

    /// No more wake-ups wanted. One may still be under way.
    pub(crate) fn disarm(&self) {
        if self.threshold.load(Relaxed) != 0 {
            self.threshold.store(0, Relaxed);
        }
    }

    /// To be called after the index is stored, with a count that is never too low.
    pub(crate) fn notify(&self, count: impl Fn() -> usize) {
        fence(SeqCst);
        // Relaxed: see `arm`. A threshold that is seen early wakes nobody, and who armed it looks again.
        let threshold = self.threshold.load(Relaxed);
        if threshold != 0 && count() >= threshold {
            self.waker.wake();
        }
    }
}
