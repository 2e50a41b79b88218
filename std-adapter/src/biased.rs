//! A lock that costs its owner next to nothing, and everybody else a system call.
//!
//! A [`SpillBuffer`](crate::SpillBuffer) is used by one thread at a time, millions of times a
//! second; once in a while the pool takes a page back from it. An ordinary mutex would double the
//! cost of a 16-byte write for the sake of that rare moment. So the owner only stores a flag and
//! looks at another, and whoever comes from outside pays for both with `membarrier(2)`.
//!
//! This is the one file of the crate with `unsafe` in it.
//!
//! # Protocol
//!
//! It is Dekker's: each side raises its own flag, and then looks at the other's.
//!
//! | side | step | what it does |
//! |---|---|---|
//! | owner | enter | make `turn` odd; light fence; if `claimed`: leave, and take `lock` instead |
//! | owner | leave | make `turn` even (Release) |
//! | peer | enter | take `lock`; raise `claimed`; heavy fence; if `turn` is odd: give up |
//! | peer | leave | lower `claimed` (Release); give `lock` back |
//!
//! On Linux the light fence is a compiler fence, and the heavy one is `membarrier`, which runs a full
//! fence on every processor that runs a thread of this process; where a sandbox forbids it, `claimed`
//! is never lowered, so that the owner always takes the lock. Elsewhere both are full fences. Either
//! way they forbid that the owner reads `claimed` as lowered *and* the peer reads `turn` as
//! even: at most one of them goes in. Neither waits for the other outside `lock`, which the owner
//! only meets while a peer is inside.
//!
//! `turn` counts the owner's visits, so a peer can tell an idle owner from a busy one at no cost
//! to either.

#![allow(unsafe_code)]

use crate::sync::{Arc, AtomicBool, AtomicU32, Cell, Mutex, MutexGuard, Ordering, lock};

#[derive(Debug)]
struct Shared<T> {
    value: Cell<T>,
    /// Odd while the owner is inside without the lock. Written by the owner alone.
    turn: AtomicU32,
    /// True while a peer that holds `lock` is inside, or is about to look whether it may be.
    claimed: AtomicBool,
    /// Held by every peer inside, and by an owner that found `claimed` raised.
    lock: Mutex<()>,
}

// SAFETY: `value` is reached only between enter and leave of the protocol above, which lets one
// thread in at a time and orders each visit before the next; so sharing is sending `T` around.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Makes `turn` odd if it was even, and even if it was odd. For the owner alone: nobody else
    /// writes it, so no read-modify-write is needed. Released on the way out, so that the peer that
    /// reads the new value (Acquire) sees what was done inside.
    #[inline(always)]
    fn step(&self, ordering: Ordering) {
        self.turn.store(self.turn.load(Ordering::Relaxed).wrapping_add(1), ordering);
    }
}

/// The owner's handle: there is one, and it cannot be cloned.
#[derive(Debug)]
pub(crate) struct Owner<T> {
    shared: Arc<Shared<T>>,
}

/// A handle for everybody else.
#[derive(Debug)]
pub(crate) struct Peer<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Peer<T> {
    fn clone(&self) -> Self {
        Peer { shared: Arc::clone(&self.shared) }
    }
}

/// Leaves on drop, so that a panic inside leaves too.
struct Inside<'a, T> {
    shared: &'a Shared<T>,
}

impl<T> Drop for Inside<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.shared.step(Ordering::Release);
    }
}

impl<T> Owner<T> {
    pub(crate) fn new(value: T) -> Self {
        let shared = Shared {
            value: Cell::new(value),
            turn: AtomicU32::new(0),
            claimed: AtomicBool::new(!fences::work()),
            lock: Mutex::new(()),
        };
        Owner { shared: Arc::new(shared) }
    }

    /// A handle for others to visit with.
    pub(crate) fn peer(&self) -> Peer<T> {
        Peer { shared: Arc::clone(&self.shared) }
    }

    /// Runs `f` on the value, alone with it; if a peer is inside, waits for it to leave.
    #[inline]
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> R {
        let Some(inside) = self.enter() else { return self.with_locked(f) };
        // SAFETY: `enter` has let us in, and `inside` keeps peers out until it is dropped, after
        // `f` has returned. `&mut self` keeps the owner from entering twice.
        let result = inside.shared.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(inside);
        result
    }

    /// Runs `f` on the value, alone with it, unless a peer is inside: then returns `None` at once.
    /// Costs two stores and two loads.
    #[inline(always)]
    pub(crate) fn try_with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let inside = self.enter()?;
        // SAFETY: as in `with`.
        let result = inside.shared.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(inside);
        Some(result)
    }

    /// Makes `turn` odd, and looks whether that was in time.
    #[inline(always)]
    fn enter(&mut self) -> Option<Inside<'_, T>> {
        let shared = &*self.shared;
        shared.step(Ordering::Relaxed);
        fences::light();
        let inside = Inside { shared };
        // Acquire: what the last peer did is seen, since it lowered `claimed` after it.
        if shared.claimed.load(Ordering::Acquire) { None } else { Some(inside) }
    }

    /// The owner's way in while a peer is inside or at the door: behind it, through the lock.
    #[cold]
    fn with_locked<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> R {
        let shared = &*self.shared;
        let guard = lock(&shared.lock);
        // SAFETY: peers go in with the lock only, and we hold it until `f` has returned.
        let result = shared.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(guard);
        result
    }
}

impl<T> Peer<T> {
    /// Runs `f` on the value, alone with it, unless the owner or another peer is there just now:
    /// then returns `None` at once. Costs a heavy fence, some microseconds.
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let shared = &*self.shared;
        let claim = Claim::new(shared)?;
        fences::heavy();
        // Acquire: what the owner did inside is seen, since it left after it.
        if shared.turn.load(Ordering::Acquire) & 1 == 1 {
            return None;
        }
        // SAFETY: `claimed` was raised before the heavy fence and `turn` was even after it, so an
        // owner that enters from now on reads `claimed` as raised and turns to the lock, which the
        // claim holds until it is dropped, after `f` has returned. Other peers need the lock too.
        let result = shared.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(claim);
        Some(result)
    }

    /// A number that changes with each of the owner's visits. Equal numbers now and later: the
    /// owner has not been here meanwhile (or 2³¹ times).
    pub(crate) fn turn(&self) -> u32 {
        self.shared.turn.load(Ordering::Relaxed)
    }

    /// Whether both handles are of the same value.
    pub(crate) fn is_of(&self, owner: &Owner<T>) -> bool {
        Arc::ptr_eq(&self.shared, &owner.shared)
    }
}

/// A peer's raised flag and the lock behind it, taken back in the opposite order.
struct Claim<'a> {
    claimed: &'a AtomicBool,
    _guard: MutexGuard<'a, ()>,
}

impl<'a> Claim<'a> {
    fn new<T>(shared: &'a Shared<T>) -> Option<Self> {
        let guard = match shared.lock.try_lock() {
            Ok(guard) => guard,
            #[cfg(not(overspill_loom))]
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(_) => return None,
        };
        shared.claimed.store(true, Ordering::Relaxed);
        Some(Claim { claimed: &shared.claimed, _guard: guard })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // Release: an owner that reads this (Acquire) sees all that was done inside.
        self.claimed.store(!fences::work(), Ordering::Release);
    }
}

/// Full fences on both sides: right everywhere, and the only kind that loom knows.
#[cfg(any(overspill_loom, not(target_os = "linux")))]
mod fences {
    use crate::sync::{Ordering, fence};

    /// Whether `heavy` can be relied on.
    pub(super) fn work() -> bool {
        true
    }

    #[inline(always)]
    pub(super) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(super) fn heavy() {
        fence(Ordering::SeqCst);
    }
}

/// A compiler fence for the owner, `membarrier(2)` for the peer.
#[cfg(all(target_os = "linux", not(overspill_loom)))]
mod fences {
    use crate::sync::{OnceLock, Ordering, fence};

    /// From linux/membarrier.h; libc has no names for them on every target.
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the call takes two integers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0) == 0 }
    }

    /// Whether `heavy` can be relied on: Linux 4.14 and no sandbox that forbids the call.
    pub(super) fn work() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| membarrier(REGISTER_PRIVATE_EXPEDITED))
    }

    #[inline(always)]
    pub(super) fn light() {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    pub(super) fn heavy() {
        fence(Ordering::SeqCst);
        // It cannot fail once registered; if it could, going on would be a data race.
        assert!(!work() || membarrier(PRIVATE_EXPEDITED), "membarrier failed after it was registered");
    }
}
