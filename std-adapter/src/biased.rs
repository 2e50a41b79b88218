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
//! The light fence is a compiler fence where the heavy one is `membarrier`, which runs a full fence
//! on every processor that runs a thread of this process; elsewhere both are full fences. Either
//! way the fences forbid that the owner reads `claimed` as lowered *and* the peer reads `turn` as
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

/// The owner's handle: there is one, and it cannot be cloned.
#[derive(Debug)]
pub(crate) struct Owner<T> {
    shared: Arc<Shared<T>>,
    /// The owner has entered without the lock and not left, see [`Owner::pin`].
    pinned: bool,
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
    /// The value of `turn` outside, once we are back there.
    even: u32,
}

impl<T> Drop for Inside<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: what was done inside is seen by the peer that reads this value (Acquire).
        self.shared.turn.store(self.even, Ordering::Release);
    }
}

impl<T> Owner<T> {
    pub(crate) fn new(value: T) -> Self {
        fences::prepare();
        let shared = Shared {
            value: Cell::new(value),
            turn: AtomicU32::new(0),
            claimed: AtomicBool::new(false),
            lock: Mutex::new(()),
        };
        Owner { shared: Arc::new(shared), pinned: false }
    }

    /// A handle for others to visit with.
    pub(crate) fn peer(&self) -> Peer<T> {
        Peer { shared: Arc::clone(&self.shared) }
    }

    /// Runs `f` on the value, alone with it. Costs two stores and a load, unless a peer is inside:
    /// then it waits for that peer to leave. Ends a [`pin`](Owner::pin).
    #[inline(always)]
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> R {
        let Some(inside) = self.enter() else { return self.with_locked(f) };
        // SAFETY: `enter` has let us in, and `inside` keeps peers out until it is dropped, after
        // `f` has returned. `&mut self` keeps the owner from entering twice.
        let result = inside.shared.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(inside);
        result
    }

    /// Enters and stays inside until the next call of [`with`](Owner::with) or
    /// [`unpin`](Owner::unpin), so that a part of the value can be lent out meanwhile.
    #[inline]
    pub(crate) fn pin(&mut self) -> &mut T {
        loop {
            // Forgotten, so that we do not leave.
            if self.enter().map(core::mem::forget).is_some() {
                self.pinned = true;
                // SAFETY: we are inside, and stay there: `turn` is odd until `with` or `unpin` makes
                // it even, which take `&mut self` and so come after the last use of this borrow.
                return self.shared.value.with_mut(|value| unsafe { &mut *value });
            }
            // A peer is inside. It holds the lock, and it leaves before it lets it go.
            drop(lock(&self.shared.lock));
        }
    }

    /// Ends a [`pin`](Owner::pin), if there is one.
    #[inline]
    pub(crate) fn unpin(&mut self) {
        if self.pinned {
            self.with(|_| ());
        }
    }

    #[inline(always)]
    fn enter(&mut self) -> Option<Inside<'_, T>> {
        let shared = &*self.shared;
        // Nobody else writes `turn`, so reading it back is reading our own last store.
        let turn = shared.turn.load(Ordering::Relaxed);
        if self.pinned {
            self.pinned = false;
            return Some(Inside { shared, even: turn.wrapping_add(1) });
        }
        shared.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        fences::light();
        let inside = Inside { shared, even: turn.wrapping_add(2) };
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
        self.claimed.store(false, Ordering::Release);
    }
}

/// Full fences on both sides: right everywhere, and the only kind that loom knows.
#[cfg(any(overspill_loom, not(target_os = "linux")))]
mod fences {
    use crate::sync::{Ordering, fence};

    pub(super) fn prepare() {}

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
    use crate::sync::{AtomicU32, Ordering, fence};

    /// From linux/membarrier.h; libc has no names for them on every target.
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    const UNKNOWN: u32 = 0;
    const ASYMMETRIC: u32 = 1;
    /// The kernel is older than 4.14, or a sandbox forbids the call: full fences on both sides.
    const SYMMETRIC: u32 = 2;

    /// Decided once, before the first owner exists; so both sides always agree.
    static MODE: AtomicU32 = AtomicU32::new(UNKNOWN);

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the call takes two integers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0) == 0 }
    }

    pub(super) fn prepare() {
        if MODE.load(Ordering::Relaxed) == UNKNOWN {
            // Registering twice does no harm, so two threads may race here: both find the same.
            let mode = if membarrier(REGISTER_PRIVATE_EXPEDITED) { ASYMMETRIC } else { SYMMETRIC };
            MODE.store(mode, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(super) fn light() {
        if MODE.load(Ordering::Relaxed) == ASYMMETRIC {
            core::sync::atomic::compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    pub(super) fn heavy() {
        fence(Ordering::SeqCst);
        if MODE.load(Ordering::Relaxed) == ASYMMETRIC {
            // It cannot fail once registered; if it could, going on would be a data race.
            assert!(membarrier(PRIVATE_EXPEDITED), "membarrier failed after it was registered");
        }
    }
}
