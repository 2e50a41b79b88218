//! One waker between two threads, without a lock.
//!
//! Held by: `core/tests/loom_ring.rs` (`another_waker_against_wake` and all `waiting_*`), `core/tests/ring_wakes.rs`.

use core::task::Waker;

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU8, Cell, const_fn};

const FREE: u8 = 0;
const REGISTERING: u8 = 1;
const WAKING: u8 = 2;

/// One waker, stored by the waiting end and taken by the waking end. Neither waits for the other.
///
/// The protocol is that of `futures`' `AtomicWaker` (Carl Lerche), for one end on either side:
///
/// | state | from | by | owner of the cell |
/// |---|---|---|---|
/// | free | any | the owner | none |
/// | registering | free | `register` | the waiting end |
/// | waking | free | `wake` | the waking end |
/// | registering and waking | registering | `wake` | the waiting end, which then wakes the waker itself |
pub(crate) struct WakerCell {
    state: AtomicU8,
    waker: Cell<Option<Waker>>,
}

// SAFETY: only the owner that the state names accesses the waker.
unsafe impl Sync for WakerCell {}
// SAFETY: a `Waker` is `Send`.
unsafe impl Send for WakerCell {}

impl WakerCell {
    const_fn! {
        pub(crate) fn new() -> Self {
            WakerCell { state: AtomicU8::new(FREE), waker: Cell::new(None) }
        }
    }

    /// Stores `waker` in place of the previous one. For the waiting end only.
    pub(crate) fn register(&self, waker: &Waker) {
        if self.state.compare_exchange(FREE, REGISTERING, Acquire, Relaxed).is_err() {
            // The other end is waking the previous waker at this moment: wake the new one too, so that its task polls
            // again.
            waker.wake_by_ref();
            return;
        }
        let registering = Registering(self);
        self.waker.with_mut(|slot| {
            // SAFETY: the state was free and is now registering: the waiting end owns the cell.
            let slot = unsafe { &mut *slot };
            match slot {
                Some(old) => old.clone_from(waker),
                None => *slot = Some(waker.clone()),
            }
        });
        drop(registering);
    }

    /// Takes the waker and wakes it. For the waking end only.
    pub(crate) fn wake(&self) {
        if self.state.fetch_or(WAKING, Acquire) == FREE {
            let waker = self.take();
            self.state.fetch_and(!WAKING, Release);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// For the owner of the cell: the waiting end before it frees the cell, `wake` while waking.
    fn take(&self) -> Option<Waker> {
        self.waker.with_mut(|slot| {
            // SAFETY: the caller has moved the state from free to its own, and has not freed the cell yet.
            unsafe { &mut *slot }.take()
        })
    }
}

/// The waiting end owns the cell, until this is dropped: also by a panic of the waker's clone.
struct Registering<'c>(&'c WakerCell);

impl Drop for Registering<'_> {
    fn drop(&mut self) {
        let cell = self.0;
        if cell.state.compare_exchange(REGISTERING, FREE, Release, Relaxed).is_err() {
            // `wake` was called meanwhile, and left the waking to this end.
            let waker = cell.take();
            cell.state.store(FREE, Release);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
