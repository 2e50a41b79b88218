//! The atomics, locks and cells this crate uses: std's, or loom's under `cfg(overspill_loom)`.
//!
//! Nothing else in the crate names an atomic or a lock, so that the models in `tests/` see every
//! one of them.

pub(crate) mod biased;

use std::task::{Wake, Waker};
use std::time::Instant;

#[cfg(overspill_loom)]
use loom::thread;
#[cfg(not(overspill_loom))]
use std::thread;

#[cfg(not(overspill_loom))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
};

#[cfg(overspill_loom)]
pub(crate) use loom::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
};

/// Not for models: they have no time.
#[cfg(feature = "testing")]
pub(crate) use std::thread::sleep;

/// Never tracked by loom: it synchronises nothing but a value's end.
pub(crate) use std::sync::{Arc, OnceLock};

/// Locks `mutex`, whatever a thread that panicked while it held it has done.
///
/// No critical section of this crate runs foreign code, so none can be left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A number that is this thread's own, or nearly: threads that run at the same time differ in it, until there were very
/// many.
#[cfg(not(overspill_loom))]
pub(crate) fn thread_number() -> usize {
    use std::sync::atomic::AtomicUsize;

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    // A buffer may be dropped while its thread ends.
    NUMBER.try_with(|number| *number).unwrap_or_default()
}

/// loom's own number of the thread, which is the same in each run of a model; it tells that to those who print it alone.
#[cfg(overspill_loom)]
pub(crate) fn thread_number() -> usize {
    let printed = format!("{:?}", thread::current().id());
    printed.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number in parentheses")
}

/// A thread, as a waker that unparks it.
pub(crate) struct ThreadWaker(thread::Thread);

impl ThreadWaker {
    /// Wakes the current thread out of [`park_until`].
    pub(crate) fn waker() -> Waker {
        Waker::from(Arc::new(ThreadWaker(thread::current())))
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits until somebody wakes this thread, or for no reason; false, and no wait, past the deadline. In
/// the models no time passes.
pub(crate) fn park_until(deadline: Option<Instant>) -> bool {
    #[cfg(not(overspill_loom))]
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        thread::park_timeout(left);
        return !left.is_zero();
    }
    let _ = deadline;
    thread::park();
    true
}

/// A cell whose every access is a closure, as loom wants it.
#[derive(Debug)]
pub(crate) struct Cell<T>(
    #[cfg(not(overspill_loom))] std::cell::UnsafeCell<T>,
    #[cfg(overspill_loom)] loom::cell::UnsafeCell<T>,
);

impl<T: Default> Default for Cell<T> {
    fn default() -> Self {
        Cell::new(T::default())
    }
}

impl<T> Cell<T> {
    pub(crate) fn new(value: T) -> Self {
        #[cfg(not(overspill_loom))]
        return Cell(std::cell::UnsafeCell::new(value));
        #[cfg(overspill_loom)]
        return Cell(loom::cell::UnsafeCell::new(value));
    }

    /// Calls `f` with the address of the value. loom takes the call for an exclusive access.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(not(overspill_loom))]
        return f(self.0.get());
        #[cfg(overspill_loom)]
        return self.0.with_mut(f);
    }
}
