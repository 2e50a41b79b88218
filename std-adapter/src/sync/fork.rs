//! Locks that hang no forked process.
//!
//! A fork copies the memory and the one thread that forks. A lock that another thread held stays locked in
//! the child for ever, and what it protects may be half changed. So such a lock is *lost* there: it is
//! neither waited for nor looked behind, and what it protects is never dropped. Each lock can be lost, so
//! each caller says what it does without.
//!
//! Promises:
//!
//! - A thread waits for a lock only if another thread of its own process holds it.
//! - What a lost lock protects is not touched again. A lock that no thread held during the fork is
//!   the child's as well.
//! - A fork costs the parent nothing. The C library tells the child of it, by a function that adds one to a
//!   counter: so a process that was made by the bare system call, or by `_Fork`, is not noticed, and may hang
//!   as any such process does.
//! - Taking a lock costs two loads more than std's.
//!
//! Of the kind: what another thread had begun without a lock. A page in transit, a load, blocks on
//! their way back, a place in the queue for room and the writer of a spool are looked at where they are
//! waited for, by [`Lock::is_inherited`] or when the child first takes the lock beside them. Not
//! modelled: loom has no processes.
//!
//! Held by: the tests below, `tests/tests/forks_of_threads.rs`, `tests/tests/forks.rs`.

#![allow(unsafe_code)]

use crate::sync::{Mutex, MutexGuard, const_fn, lock};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, Ordering};

/// This process: its number, and the forks that it comes from. Costs two loads where the kernel clears a
/// noted word in each fork. A number may come back, in a namespace or once a process has ended; a process
/// made without the C library has its parent's count.
#[inline]
pub(crate) fn current_process() -> u64 {
    noted::process().unwrap_or_else(ask_for_process)
}

/// The same, by a call of the system, which takes a virtual machine 100 ns: each write to a store asks.
#[cold]
fn ask_for_process() -> u64 {
    let number = if cfg!(unix) { std::process::id() } else { 0 };
    let process = u64::from(FORKS.load(Ordering::Relaxed)) << 32 | u64::from(number);
    noted::note(process);
    process
}

/// A word that the kernel clears in each process that is forked, by whichever way.
#[cfg(all(target_os = "linux", not(any(overspill_loom, miri))))]
mod noted {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

    /// More than a word, since the kernel does this for whole pages of the machine.
    const LEN: usize = 4096;

    /// Null until the word is there, and for good where the kernel does not do this.
    static WORD: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());

    #[inline]
    fn word() -> Option<&'static AtomicU64> {
        // SAFETY: it is null, or the beginning of a mapping of zeros that is never unmapped
        // and used as this alone.
        unsafe { WORD.load(Ordering::Acquire).as_ref() }
    }

    /// The process that was noted, if it is this one.
    #[inline]
    pub(super) fn process() -> Option<u64> {
        word().map(|word| word.load(Ordering::Relaxed)).filter(|process| *process != 0)
    }

    pub(super) fn note(process: u64) {
        if let Some(word) = word() {
            word.store(process, Ordering::Relaxed);
        }
    }

    /// No advice of any kernel's.
    const NO_ADVICE: std::ffi::c_int = -1;

    /// Makes the word. To be called once.
    pub(super) fn prepare() {
        // SAFETY: a new mapping, wherever the kernel has room.
        let made =
            unsafe { mmap_anonymous(null_mut(), LEN, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
        let Ok(page) = made else { return };
        // QEMU, which stands for a kernel, takes each advice, and older ones follow none.
        // SAFETY: it is the mapping just made, which nothing uses yet.
        let takes_each = unsafe { libc::madvise(page, LEN, NO_ADVICE) } == 0;
        // SAFETY: the same.
        if !takes_each && unsafe { madvise(page, LEN, Advice::LinuxWipeOnFork) }.is_ok() {
            WORD.store(page.cast(), Ordering::Release);
        } else {
            // SAFETY: as before, and nothing will use it.
            let _ = unsafe { munmap(page, LEN) };
        }
    }
}

#[cfg(not(all(target_os = "linux", not(any(overspill_loom, miri)))))]
mod noted {
    pub(super) fn process() -> Option<u64> {
        None
    }

    pub(super) fn note(_: u64) {}

    #[cfg(all(unix, not(any(overspill_loom, miri))))]
    pub(super) fn prepare() {}
}

/// What cannot be used in this process: it was forked from one in which another thread was just using that.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this process was forked while another thread was using the same pool; make a pool of its own here")]
pub(crate) struct Forked;

/// Forks between the process that began the program and this one, since [`count_forks`].
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The low bits of a lock's state, below the number of forks. The lock is this process's.
const OURS: u32 = 0;
/// A thread looks whether the lock was held during the fork.
const LOOKING: u32 = 1;
/// It was held.
const LOST: u32 = 2;
const BITS: u32 = 2;

#[inline(always)]
fn here() -> u32 {
    if cfg!(overspill_loom) { 0 } else { FORKS.load(Ordering::Relaxed) << BITS }
}

/// Has forks counted from now on. To be called before anything is shared between threads.
#[cfg(all(unix, not(any(overspill_loom, miri))))]
pub(crate) fn count_forks() {
    use std::ffi::c_int;
    use std::sync::atomic::AtomicBool;

    type Handler = Option<unsafe extern "C" fn()>;

    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }

    unsafe extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
        noted::note(0); // the kernel may not have cleared it
    }

    static IS_COUNTED: AtomicBool = AtomicBool::new(false);
    if !IS_COUNTED.load(Ordering::Relaxed) && !IS_COUNTED.swap(true, Ordering::Relaxed) {
        // SAFETY: the declaration is POSIX's. The handler may run in any child: it stores to two atomics and
        // calls nothing of the system. If there is no memory for it, forks are not counted.
        let _ = unsafe { pthread_atfork(None, None, Some(in_child)) };
        noted::prepare();
    }
}

/// Nothing forks here.
#[cfg(not(all(unix, not(any(overspill_loom, miri)))))]
pub(crate) fn count_forks() {}

/// A mutex that is lost in a process that was forked while another thread held it.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    /// The process that made it, as [`here`] was then.
    born: u32,
    /// The process that last looked whether it is lost, and what it saw.
    seen: AtomicU32,
    inner: ManuallyDrop<Mutex<T>>,
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Lock::new(T::default())
    }
}

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        let here = here();
        Lock { born: here, seen: AtomicU32::new(here), inner: ManuallyDrop::new(Mutex::new(value)) }
    }

    const_fn! {
        /// A lock that is there when the program begins.
        pub(crate) fn of_program(value: T) -> Self {
            Lock { born: 0, seen: AtomicU32::new(0), inner: ManuallyDrop::new(Mutex::new(value)) }
        }
    }

    /// Waits for the lock. An error if it is lost.
    #[inline]
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>, Forked> {
        self.lock_or_adopt(|_| ())
    }

    /// Waits for the lock. The first time in a forked process, `adopt` changes what threads of its
    /// parent have left behind.
    #[inline]
    pub(crate) fn lock_or_adopt(&self, adopt: impl FnOnce(&mut T)) -> Result<MutexGuard<'_, T>, Forked> {
        self.look(adopt)?;
        Ok(lock(&self.inner))
    }

    /// Takes the lock if no thread holds it and it is not lost.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.try_lock_or_adopt(|_| ())
    }

    /// The same, with what [`lock_or_adopt`](Lock::lock_or_adopt) does the first time. A lock with something
    /// to adopt is taken by these two alone.
    #[inline]
    pub(crate) fn try_lock_or_adopt(&self, adopt: impl FnOnce(&mut T)) -> Option<MutexGuard<'_, T>> {
        self.look(adopt).ok()?;
        self.take()
    }

    fn take(&self) -> Option<MutexGuard<'_, T>> {
        match self.inner.try_lock() {
            Ok(guard) => Some(guard),
            #[cfg(not(overspill_loom))]
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(_) => None,
        }
    }

    /// An error if the lock is lost.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Forked> {
        self.look(|_| ())
    }

    /// Whether an earlier process made it, from which this one was forked: what its threads had
    /// begun, nobody ends here.
    pub(crate) fn is_inherited(&self) -> bool {
        self.born != here()
    }

    #[inline]
    fn look(&self, adopt: impl FnOnce(&mut T)) -> Result<(), Forked> {
        // Acquire: this thread sees what was adopted.
        if self.seen.load(Ordering::Acquire) == here() | OURS {
            return Ok(());
        }
        self.look_again(adopt)
    }

    /// In a forked process, whether the lock is lost. One thread decides that, and before it has,
    /// none takes the lock.
    #[cold]
    fn look_again(&self, adopt: impl FnOnce(&mut T)) -> Result<(), Forked> {
        let here = here();
        loop {
            let seen = self.seen.load(Ordering::Acquire);
            if seen == here | OURS {
                return Ok(());
            }
            if seen & LOST != 0 {
                return Err(Forked);
            }
            if seen == here | LOOKING {
                std::thread::yield_now();
                continue;
            }
            // Not seen yet; or a thread of the parent was just looking, and may have the lock.
            let claim =
                self.seen.compare_exchange(seen, here | LOOKING, Ordering::Acquire, Ordering::Relaxed);
            if claim.is_ok() {
                let adopted = self.take().map(|mut value| adopt(&mut value));
                let state = if adopted.is_some() { OURS } else { LOST };
                self.seen.store(here | state, Ordering::Release);
                return adopted.ok_or(Forked);
            }
        }
    }

    /// The value. An error if the lock is lost.
    pub(crate) fn into_inner(self) -> Result<T, Forked> {
        self.check()?;
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, nor dropped.
        let inner = unsafe { ManuallyDrop::take(&mut this.inner) };
        Ok(inner.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

impl<T> Drop for Lock<T> {
    fn drop(&mut self) {
        if self.check().is_ok() {
            // SAFETY: this is the drop, so it happens once, and nothing uses the value after it.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}

/// As in a process that was forked once more than the one that made the lock.
#[cfg(test)]
#[cfg(not(overspill_loom))]
impl<T> Lock<T> {
    pub(crate) fn inherited(value: T) -> Self {
        let older = here().wrapping_sub(1 << BITS);
        Lock { born: older, seen: AtomicU32::new(older), inner: ManuallyDrop::new(Mutex::new(value)) }
    }

    /// One that another thread held.
    pub(crate) fn lost(value: T) -> Self {
        let lock = Lock::inherited(value);
        std::mem::forget(lock.take());
        lock
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_lock_that_nobody_held_is_adopted_once() {
        let lock = Lock::inherited(1);
        assert!(lock.is_inherited());
        assert_eq!(lock.lock_or_adopt(|value| *value += 1).map(|value| *value).ok(), Some(2));
        assert_eq!(lock.lock_or_adopt(|value| *value += 1).map(|value| *value).ok(), Some(2));
        assert_eq!(lock.into_inner().ok(), Some(2));
    }

    /// One that was only tried counted as adopted, with all that the parent's threads had left: a
    /// load that nobody ends.
    #[test]
    fn a_lock_that_is_tried_is_adopted_too() {
        let lock = Lock::inherited(1);
        drop(lock.try_lock_or_adopt(|value| *value += 1));
        assert_eq!(lock.lock_or_adopt(|value| *value += 1).map(|value| *value).ok(), Some(2));
    }

    #[test]
    fn a_lock_that_was_held_is_lost_and_its_value_stays() {
        let value = Arc::new(());
        let lost = Lock::lost(Arc::clone(&value));
        assert!(lost.lock().is_err() && lost.check().is_err() && lost.try_lock().is_none());
        drop(lost);
        assert_eq!(Arc::strong_count(&value), 2, "it may be half changed");
        let found = Lock::inherited(Arc::clone(&value));
        drop(found);
        assert_eq!(Arc::strong_count(&value), 2, "it is dropped");
    }

    /// A thread of the parent may have been looking itself.
    #[test]
    fn what_the_parent_had_just_begun_to_look_at_is_looked_at_again() {
        for is_held in [false, true] {
            let lock = Lock::inherited(());
            let seen = here().wrapping_sub(1 << BITS) | LOOKING;
            lock.seen.store(seen, Ordering::Relaxed);
            if is_held {
                std::mem::forget(lock.take());
            }
            assert_eq!(lock.lock().is_err(), is_held);
        }
    }
}
