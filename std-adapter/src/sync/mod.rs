//! The atomics, locks and cells of this crate: std's, or loom's under `cfg(overspill_loom)`.
//!
//! Promises:
//!
//! - Outside this folder only the models and the tests name an atomic, a lock or a thread of std or loom. So
//!   the models cover all of them.
//! - Under loom, no time passes.
//!
//! Held by: `tests/tests/tidy.rs`.

pub(crate) mod biased;
pub(crate) mod fences;
pub(crate) mod fork;

/// Defines a function that is `const`, except under loom, whose locks cannot be made in a constant.
///
/// What the whole process shares is a constant of such locks. Made at its first use, behind a lock, it would
/// hang a process that was forked during that moment.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        $(#[$attribute])*
        #[cfg(not(overspill_loom))]
        $visibility const fn $($rest)*

        $(#[$attribute])*
        #[cfg(overspill_loom)]
        $visibility fn $($rest)*
    };
}
pub(crate) use const_fn;

use std::task::{Wake, Waker};
use std::time::Instant;

#[cfg(overspill_loom)]
use loom::thread;
#[cfg(not(overspill_loom))]
use std::thread;

#[cfg(not(overspill_loom))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
};

#[cfg(not(overspill_loom))]
pub(crate) use std::thread_local;

#[cfg(overspill_loom)]
pub(crate) use loom::thread_local;

#[cfg(overspill_loom)]
pub(crate) use loom::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
};

/// Not for models: loom does not model time.
#[cfg(feature = "testing")]
pub(crate) use std::thread::sleep;

/// Not modelled: an `Arc` orders only the drop of its value, and a `OnceLock` is set once.
pub(crate) use std::sync::Weak;
pub(crate) use std::sync::{Arc, OnceLock};

/// A shared value; `None` if there is no memory for it.
///
/// std has no `Arc` whose allocation may be refused. So as many bytes are requested and given back
/// first, which tells whether there are some. Only where another thread takes the last of them in
/// between does the process end.
pub(crate) fn try_arc<T>(value: T) -> Option<Arc<T>> {
    can_make_arc::<T>().then(|| Arc::new(value))
}

/// Whether there is memory for a shared value. As in [`try_arc`], another thread may take it.
pub(crate) fn can_make_arc<T>() -> bool {
    let mut probe = Vec::<(T, [usize; 2])>::new();
    let is_there = probe.try_reserve_exact(1).is_ok();
    // Otherwise the compiler leaves the request out.
    std::hint::black_box(&probe);
    is_there
}

/// Locks `mutex`, and ignores poison. No critical section of this crate runs foreign code, so no panic leaves
/// one half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A number for this thread: the lowest from 0 that no other has, so threads that come and go find what those
/// before them have left. Where 64 threads have one, the others share further ones. A thread that is ending
/// may have 0.
#[cfg(not(overspill_loom))]
pub(crate) fn thread_number() -> usize {
    thread_local!(static NUMBER: ThreadNumber = ThreadNumber::take());
    // A buffer may be dropped while its thread ends, after the thread-local is gone.
    NUMBER.try_with(|number| number.0 as usize).unwrap_or_default()
}

#[cfg(not(overspill_loom))]
struct ThreadNumber(u32);

#[cfg(not(overspill_loom))]
impl ThreadNumber {
    fn take() -> Self {
        static NEXT_SHARED: AtomicU64 = AtomicU64::new(0);
        let add_lowest = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
        let before = THREAD_NUMBERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add_lowest);
        let shared = |_| u64::BITS + (NEXT_SHARED.fetch_add(1, Ordering::Relaxed) % 64) as u32;
        ThreadNumber(before.map_or_else(shared, u64::trailing_ones))
    }
}

#[cfg(not(overspill_loom))]
impl Drop for ThreadNumber {
    fn drop(&mut self) {
        let bit = 1_u64.checked_shl(self.0).unwrap_or(0);
        THREAD_NUMBERS.fetch_and(!bit, Ordering::Relaxed);
    }
}

/// A bit for each number that one thread has. In a forked process those of threads that it has not got stay.
#[cfg(not(overspill_loom))]
static THREAD_NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Runs `f` in another thread, one whose number is `wanted`.
#[cfg(test)]
#[cfg(not(overspill_loom))]
pub(crate) fn in_thread_with<R: Send>(
    wanted: &(impl Fn(usize) -> bool + Sync),
    f: impl FnOnce() -> R + Send,
) -> R {
    // Those that are not stay until it has ended, so the next has another number.
    let run = || if wanted(thread_number()) { f() } else { in_thread_with(wanted, f) };
    thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// loom's number of this thread, which is the same in each run of a model. loom shows it only in the `Debug`
/// form.
#[cfg(overspill_loom)]
pub(crate) fn thread_number() -> usize {
    let printed = format!("{:?}", thread::current().id());
    printed.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number in parentheses")
}

/// A waker that unparks a thread.
pub(crate) struct ThreadWaker(thread::Thread);

impl ThreadWaker {
    /// A waker that ends [`park_until`] in the current thread. `None` if there is no memory for it.
    pub(crate) fn waker() -> Option<Waker> {
        try_arc(ThreadWaker(thread::current())).map(Waker::from)
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Parks this thread until it is woken, the deadline passes, or for no reason. Past the deadline, does not
/// wait and returns false. Under loom the deadline is ignored.
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

/// Looks whether `is_done` for some microseconds, before a thread goes to sleep for what another is about to
/// do: to be woken takes longer. Under loom there is no time, so it looks once.
pub(crate) fn spin_until(mut is_done: impl FnMut() -> bool) -> bool {
    const LOOKS: u32 = if cfg!(overspill_loom) { 1 } else { 100 };
    for _ in 0..LOOKS {
        if is_done() {
            return true;
        }
        (0..20).for_each(|_| std::hint::spin_loop());
    }
    false
}

/// As [`spin_until`], for what a thread does that may have lost its processor: lets others run in between.
pub(crate) fn yield_until(mut is_done: impl FnMut() -> bool) {
    spin_until(|| {
        let is_done = is_done();
        #[cfg(not(overspill_loom))]
        if !is_done {
            std::thread::yield_now();
        }
        is_done
    });
}

/// Waits for `condvar`, and returns whether that ended before the deadline: woken, or for no reason. Under
/// loom the deadline is ignored.
pub(crate) fn wait_until<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> (MutexGuard<'a, T>, bool) {
    #[cfg(not(overspill_loom))]
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = condvar.wait_timeout(guard, left);
        let (guard, timeout) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        return (guard, !timeout.timed_out());
    }
    let _ = deadline;
    (condvar.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner()), true)
}

/// An `UnsafeCell` that is accessed by closures, as loom requires.
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
    #[cfg(not(overspill_loom))]
    pub(crate) const fn new(value: T) -> Self {
        Cell(std::cell::UnsafeCell::new(value))
    }

    #[cfg(overspill_loom)]
    pub(crate) fn new(value: T) -> Self {
        Cell(loom::cell::UnsafeCell::new(value))
    }

    /// Calls `f` with the address of the value. loom checks that no other access overlaps the call.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(not(overspill_loom))]
        return f(self.0.get());
        #[cfg(overspill_loom)]
        return self.0.with_mut(f);
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    /// Each new thread had a number of its own, and found nothing of what the one before had left.
    #[test]
    fn threads_that_come_and_go_have_few_numbers() {
        let in_turn = (0..500).map(|_| thread::spawn(thread_number).join().unwrap());
        assert!(in_turn.max() < Some(64));
    }

    #[test]
    fn threads_that_run_together_have_different_numbers() {
        let barrier = std::sync::Barrier::new(20);
        let together = thread::scope(|scope| {
            let threads = [(); 20].map(|()| {
                scope.spawn(|| {
                    barrier.wait();
                    let number = thread_number();
                    barrier.wait();
                    number
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(std::collections::BTreeSet::from(together).len(), 20, "{together:?}");
    }
}
