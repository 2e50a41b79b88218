//! A lock that costs its owner next to nothing, and everybody else a system call.
//!
//! A [`SpillBuffer`](crate::SpillBuffer) is used by one thread at a time, millions of times a
//! second; once in a while the pool takes a page back from it. An ordinary mutex would double the
//! cost of a 16-byte write for the sake of that rare moment. So the owner only stores a flag and
//! looks at another, and whoever comes from outside pays for both with `membarrier(2)`.
//!
//! Beside it stands [`TryLock`], for what several threads use and can do without. This is the one file of the
//! crate with `unsafe` in it.
//!
//! # Protocol
//!
//! It is Dekker's: each side raises its own flag, and then looks at the other's.
//!
//! | side | step | what it does |
//! |---|---|---|
//! | owner | enter | set `presence` to [`INSIDE`]; light fence; if `claimed`: leave, and take `lock` instead |
//! | owner | leave | set `presence` to [`VISITED`] (Release) |
//! | peer | enter | take `lock`; raise `claimed`; heavy fence; if `presence` is [`INSIDE`]: give up |
//! | peer | leave | lower `claimed` (Release); give `lock` back |
//! | anyone | ask whether it is idle | change `presence` from [`VISITED`] to [`AWAY`], in one step |
//!
//! On Linux the light fence is a compiler fence, and the heavy one is `membarrier`, which runs a full
//! fence on every processor that runs a thread of this process; where a sandbox forbids it, `claimed`
//! is never lowered, so that the owner always takes the lock. Elsewhere both are full fences. Either
//! way they forbid that the owner reads `claimed` as lowered *and* the peer finds nobody inside: at most one of
//! them goes in. Neither waits for the other outside `lock`, which the owner only meets while a peer is
//! inside, or on its way through several.
//!
//! The owner only ever stores to `presence`, and never reads it: two visits in a row then need not wait
//! for each other's stores, which a counter of visits would make them do, at a third of the cost of a
//! 16-byte write.

#![allow(unsafe_code)]

use crate::sync::{Arc, AtomicBool, AtomicU8, Cell, Mutex, MutexGuard, Ordering, lock};

/// The owner is not inside, and was not since somebody asked.
const AWAY: u8 = 0;
/// The owner is inside without the lock, or is about to look whether it may be.
const INSIDE: u8 = 1;
/// The owner was inside since somebody asked.
const VISITED: u8 = 2;

/// In this order: what each visit stores to lies neither at the end, nor in one cache line with what another
/// buffer stores to, as the allocator puts one of these behind another.
#[derive(Debug)]
#[repr(C)]
struct Shared<T, B> {
    /// [`AWAY`], [`INSIDE`] or [`VISITED`]. Stored by the owner; others only change [`VISITED`] to [`AWAY`].
    presence: AtomicU8,
    /// True while a peer that holds `lock` is inside, or is about to look whether it may be.
    claimed: AtomicBool,
    /// Held by every peer inside, and by an owner that found `claimed` raised.
    lock: Mutex<()>,
    value: Cell<T>,
    /// What lies beside the value, open to everybody at any time.
    unlocked: B,
}

// SAFETY: `value` is reached only between enter and leave of the protocol above, which lets one
// thread in at a time and orders each visit before the next; so sharing is sending `T` around.
unsafe impl<T: Send, B: Sync> Sync for Shared<T, B> {}

/// The owner's handle: there is one, and it cannot be cloned.
#[derive(Debug)]
pub(crate) struct Owner<T, B> {
    shared: Arc<Shared<T, B>>,
}

/// A handle for everybody else.
#[derive(Debug)]
pub(crate) struct Peer<T, B> {
    shared: Arc<Shared<T, B>>,
}

impl<T, B> Clone for Peer<T, B> {
    fn clone(&self) -> Self {
        Peer { shared: Arc::clone(&self.shared) }
    }
}

/// Leaves on drop, so that a panic inside leaves too.
struct Inside<'a, T, B> {
    shared: &'a Shared<T, B>,
}

impl<T, B> Drop for Inside<'_, T, B> {
    #[inline(always)]
    fn drop(&mut self) {
        // Released, so that the peer that finds nobody inside (Acquire) sees what was done.
        self.shared.presence.store(VISITED, Ordering::Release);
    }
}

impl<T, B> Owner<T, B> {
    /// A value, and beside it what can be looked at without going in.
    pub(crate) fn new(value: T, unlocked: B) -> Self {
        let shared = Shared {
            value: Cell::new(value),
            presence: AtomicU8::new(AWAY),
            claimed: AtomicBool::new(!fences::work()),
            lock: Mutex::new(()),
            unlocked,
        };
        Owner { shared: Arc::new(shared) }
    }

    /// A handle for others to visit with.
    pub(crate) fn peer(&self) -> Peer<T, B> {
        Peer { shared: Arc::clone(&self.shared) }
    }

    #[inline]
    pub(crate) fn unlocked(&self) -> &B {
        &self.shared.unlocked
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
    /// Costs two stores and a load.
    #[inline(always)]
    pub(crate) fn try_with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let inside = self.enter()?;
        // SAFETY: as in `with`.
        let result = inside.shared.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(inside);
        Some(result)
    }

    /// Says that the owner is inside, and looks whether that was in time.
    #[inline(always)]
    fn enter(&mut self) -> Option<Inside<'_, T, B>> {
        let shared = &*self.shared;
        shared.presence.store(INSIDE, Ordering::Relaxed);
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

impl<T, B> Peer<T, B> {
    /// Runs `f` on one value after the other, alone with it, each with the key that stands beside it; but for those
    /// where the owner or another peer is just now, which are passed by at once. What came of the others. Costs one
    /// heavy fence for all, some microseconds. An owner may have to wait until all before it are visited.
    pub(crate) fn try_with_each<'a, K, R>(
        peers: impl Iterator<Item = (K, &'a Self)>,
        mut f: impl FnMut(K, &mut T) -> R,
    ) -> Vec<R>
    where
        Self: 'a,
    {
        let claims: Vec<_> = peers.filter_map(|(key, peer)| Some((key, Claim::new(&peer.shared)?))).collect();
        if !claims.is_empty() {
            fences::heavy();
        }
        claims.into_iter().filter_map(|(key, claim)| claim.visit(|value| f(key, value))).collect()
    }

    /// Whether the owner has been inside since the last time this was asked, or is there now.
    pub(crate) fn was_visited(&self) -> bool {
        // Relaxed: a change in one step leaves what the owner released to be seen by who reads later.
        let requested =
            self.shared.presence.compare_exchange(VISITED, AWAY, Ordering::Relaxed, Ordering::Relaxed);
        requested != Err(AWAY)
    }

    /// Whether both handles are of the same value.
    pub(crate) fn is_of(&self, owner: &Owner<T, B>) -> bool {
        Arc::ptr_eq(&self.shared, &owner.shared)
    }

    pub(crate) fn unlocked(&self) -> &B {
        &self.shared.unlocked
    }
}

/// A lock that nobody waits for: whoever finds it taken does without what is inside.
///
/// It costs one exchange, where a mutex costs two.
#[derive(Debug, Default)]
pub(crate) struct TryLock<T> {
    /// Somebody is inside.
    taken: AtomicBool,
    value: Cell<T>,
}

// SAFETY: `value` is reached only by who has raised `taken`, one at a time, each visit ordered before the
// next; so sharing is sending `T` around.
unsafe impl<T: Send> Sync for TryLock<T> {}

impl<T> TryLock<T> {
    /// Runs `f` on the value, alone with it, unless somebody is there: then returns `None` at once.
    #[inline]
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        // Acquire: what the last one did inside is seen, since it lowered the flag after it.
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let raised = Raised(&self.taken);
        // SAFETY: the flag was lowered and we have raised it, so nobody is inside or gets in before
        // `raised` is dropped, after `f` has returned.
        let result = self.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(raised);
        Some(result)
    }
}

/// Lowers the flag on drop, so that a panic inside leaves too.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A peer's raised flag and the lock behind it, taken back in the opposite order.
struct Claim<'a, T, B> {
    shared: &'a Shared<T, B>,
    _guard: MutexGuard<'a, ()>,
}

impl<'a, T, B> Claim<'a, T, B> {
    /// To be followed by a heavy fence.
    fn new(shared: &'a Shared<T, B>) -> Option<Self> {
        let guard = match shared.lock.try_lock() {
            Ok(guard) => guard,
            #[cfg(not(overspill_loom))]
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(_) => return None,
        };
        shared.claimed.store(true, Ordering::Relaxed);
        Some(Claim { shared, _guard: guard })
    }

    /// Runs `f` on the value, unless the owner is inside. A heavy fence has gone before.
    fn visit<R>(self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        // Acquire: what the owner did inside is seen, since it left after it.
        if self.shared.presence.load(Ordering::Acquire) == INSIDE {
            return None;
        }
        // SAFETY: `claimed` was raised before the heavy fence and nobody was inside after it, so an
        // owner that enters from now on reads `claimed` as raised and turns to the lock, which the
        // claim holds until it is dropped, after `f` has returned. Other peers need the lock too.
        let result = self.shared.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(self);
        Some(result)
    }
}

impl<T, B> Drop for Claim<'_, T, B> {
    fn drop(&mut self) {
        // Release: an owner that reads this (Acquire) sees all that was done inside.
        self.shared.claimed.store(!fences::work(), Ordering::Release);
    }
}

/// Full fences on both sides: right everywhere, and the only kind that loom knows.
#[cfg(any(overspill_loom, not(target_os = "linux")))]
pub(crate) mod fences {
    use crate::sync::{Ordering, fence};

    /// Whether `heavy` can be relied on.
    pub(crate) fn work() -> bool {
        true
    }

    #[inline(always)]
    pub(crate) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy() {
        fence(Ordering::SeqCst);
    }
}

/// A compiler fence for the owner, `membarrier(2)` for the peer.
#[cfg(all(target_os = "linux", not(overspill_loom)))]
pub(crate) mod fences {
    use crate::sync::{OnceLock, Ordering, fence};

    /// From linux/membarrier.h; libc has no names for them on every target.
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the call takes two integers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0) == 0 }
    }

    /// Whether `heavy` can be relied on: Linux 4.14 and no sandbox that forbids the call.
    pub(crate) fn work() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| membarrier(REGISTER_PRIVATE_EXPEDITED))
    }

    #[inline(always)]
    pub(crate) fn light() {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy() {
        fence(Ordering::SeqCst);
        // It cannot fail once kept; if it could, going on would be a data race.
        assert!(!work() || membarrier(PRIVATE_EXPEDITED), "membarrier failed after it was registered");
    }
}
