//! One waker between two threads, without a lock.

use core::task::Waker;

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU8, Cell, const_fn};

const FREE: u8 = 0;
const REGISTERING: u8 = 1;
const WAKING: u8 = 2;

/// One waker, put in by the end that waits and taken out by the other, neither ever waiting for the other.
///
/// The protocol is that of `futures`' `AtomicWaker` (Carl Lerche), for one end on either side:
///
/// | state | from | by | the cell belongs to |
/// |---|---|---|---|
/// | free | any | who had it | nobody |
/// | registering | free | `register` | the waiting end |
/// | waking | free | `wake` | the waking end |
/// | registering and waking | registering | `wake` | the waiting end, which then wakes itself |
pub(crate) struct WakerCell {
    state: AtomicU8,
    waker: Cell<Option<Waker>>,
}

// SAFETY: the waker is reached only by the side that the state gives it to.
unsafe impl Sync for WakerCell {}
// SAFETY: a `Waker` is `Send`.
unsafe impl Send for WakerCell {}

impl WakerCell {
    const_fn! {
        pub(crate) fn new() -> Self {
            WakerCell { state: AtomicU8::new(FREE), waker: Cell::new(None) }
        }
    }

    /// Puts `waker` in, in place of the one before. For the waiting end only.
    pub(crate) fn register(&self, waker: &Waker) {
        if self.state.compare_exchange(FREE, REGISTERING, Acquire, Relaxed).is_err() {
            // The other end is waking whom it finds at this moment: be woken as well, and ask again.
            waker.wake_by_ref();
            return;
        }
        self.waker.with_mut(|slot| {
            // SAFETY: the state was free and is now registering: the cell is the waiting end's.
            let slot = unsafe { &mut *slot };
            match slot {
                Some(old) => old.clone_from(waker),
                None => *slot = Some(waker.clone()),
            }
        });
        if self.state.compare_exchange(REGISTERING, FREE, Release, Relaxed).is_err() {
            // A wake-up came meanwhile and left it to us.
            let waker = self.take();
            self.state.store(FREE, Release);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Takes the waker out and wakes it. For the waking end only.
    pub(crate) fn wake(&self) {
        if self.state.fetch_or(WAKING, Acquire) == FREE {
            let waker = self.take();
            self.state.fetch_and(!WAKING, Release);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Only for who has the cell: in `register` before it is freed, in `wake` while waking.
    fn take(&self) -> Option<Waker> {
        self.waker.with_mut(|slot| {
            // SAFETY: the caller has moved the state from free to its own, and has not freed it yet.
            unsafe { &mut *slot }.take()
        })
    }
}
