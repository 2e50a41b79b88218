//! A biased lock: nearly free for its owner, a system call for every other thread.
//!
//! One thread at a time uses a [`SpillBuffer`](crate::SpillBuffer), millions of times a second; now and
//! then the pool reclaims a page from it. An ordinary mutex would double the cost of a 16-byte write for
//! the sake of that rare moment. So the owner only stores one flag and loads another, and a *peer*, any
//! thread but the owner, pays for both sides with `membarrier(2)`. A *private* value has no peers, and its
//! owner needs not even a fence.
//!
//! [`TryLock`] is here too: for a value that several threads use, none of which has to.
//!
//! Promises:
//!
//! - One thread at a time reaches the value, and it sees everything that earlier ones did there.
//! - A peer waits for nobody, unless it insists: it skips a value that the owner or another peer is using. If
//!   its fence is refused, it skips each value whose owner cannot know that yet.
//! - A peer that [insists](Looks::Twice) gives an owner that is inside some microseconds to leave, and some
//!   turns of the processor. If it skips the value all the same, the owner learns of it
//!   ([`Owner::take_missed`]).
//! - The owner waits only for a peer that is inside or on its way through several values.
//! - A panic inside leaves the lock.
//! - Where a fork left a peer inside, [`Owner::check`] says so in the child, and nobody goes in again.
//!
//! Held by: `std-adapter/src/models.rs` (loom) with `.ci/weaken-pool`, `tests/tests/pool_stress.rs`,
//! `tests/tests/tidy.rs` (`unsafe`), the test at the end of this file.
//!
//! # Protocol
//!
//! It is Dekker's: each side raises its own flag, and then reads the other's.
//!
//! | side | step | what it does |
//! |---|---|---|
//! | owner | enter | set `presence` to [`INSIDE`]; its fence; if `claimed`: leave, and take `lock` instead |
//! | owner | leave | set `presence` to [`VISITED`] (Release) |
//! | peer | enter | try to take `lock`; raise `claimed`; heavy fence; if `presence` is [`INSIDE`]: give up |
//! | peer | leave | lower `claimed` (Release); release `lock` |
//! | peer that insists | instead of giving up | raise `missed`; heavy fence; look for a while; give up |
//! | owner | look for what was missed | after leaving: its fence; lower `missed` |
//! | any | check for idleness | change `presence` from [`VISITED`] to [`AWAY`], in one step |
//!
//! Which fences those are is a matter of [`fences`]. In each case they exclude that the owner reads `claimed`
//! as lowered *and* the peer reads `presence` as something else than [`INSIDE`]. So at most one of them goes
//! in. Neither waits for the other except for `lock`, and a peer only tries that. In the same way a peer that
//! insists sees that the owner has left, or the owner sees `missed`.
//!
//! The owner stores to `presence` and never loads it. A counter of visits would make each visit wait for the
//! store of the one before, at a third of the cost of a 16-byte write.

#![allow(unsafe_code)]

use crate::sync::fences::{self, Reach};
use crate::sync::fork::{Forked, Lock};
use crate::sync::{Arc, AtomicBool, AtomicU8, Cell, MutexGuard, Ordering, const_fn, try_arc, yield_until};
use std::mem::ManuallyDrop;

/// The owner is not inside, and has not been since the last check for idleness.
const AWAY: u8 = 0;
/// The owner is inside without the lock, or is about to check whether it may be.
const INSIDE: u8 = 1;
/// The owner has been inside since the last check for idleness.
const VISITED: u8 = 2;

/// The allocator may put those of different threads one after another. So what each visit stores to lies in
/// the middle, a cache line from both ends, if the first of `B` and the last of `T` are seldom stored to:
/// cores that share no cache took half as long again for buffers that lay side by side.
#[derive(Debug)]
#[repr(C)]
struct Shared<T, B> {
    /// Shared data beside the value, readable without the lock.
    unlocked: B,
    /// Held by a peer inside, and by an owner inside that found `claimed` raised.
    lock: Lock<()>,
    /// [`AWAY`], [`INSIDE`] or [`VISITED`]. Stored by the owner; other threads only change [`VISITED`] to
    /// [`AWAY`].
    presence: AtomicU8,
    /// True while a peer that holds `lock` is inside, or is about to check whether it may be.
    claimed: AtomicBool,
    /// The owner knows that a peer's fence was refused, and passes full fences itself. Only raised.
    aware: AtomicBool,
    /// A peer that insists has given up, and the owner has not learned of it yet.
    missed: AtomicBool,
    /// No peer ever enters.
    is_private: bool,
    /// Not dropped if `lock` is lost: the peer that held it may have been inside.
    value: Cell<ManuallyDrop<T>>,
}

// SAFETY: `value` is reached only between enter and leave of the protocol above, which lets one
// thread in at a time and orders each visit before the next; so sharing is sending `T` around.
unsafe impl<T: Send, B: Sync> Sync for Shared<T, B> {}

impl<T, B> Drop for Shared<T, B> {
    fn drop(&mut self) {
        if self.lock.check().is_ok() {
            self.value.with_mut(|value| {
                // SAFETY: `&mut self`, so no thread is inside.
                let value = unsafe { &mut *value };
                // SAFETY: this is the drop, so it happens once, and nothing uses the value after it.
                unsafe { ManuallyDrop::drop(value) };
            });
        }
    }
}

/// The owner's handle: there is one, and it cannot be cloned.
#[derive(Debug)]
pub(crate) struct Owner<T, B> {
    shared: Arc<Shared<T, B>>,
}

/// A handle for all other threads.
#[derive(Debug)]
pub(crate) struct Peer<T, B> {
    shared: Arc<Shared<T, B>>,
}

impl<T, B> Clone for Peer<T, B> {
    fn clone(&self) -> Self {
        Peer { shared: Arc::clone(&self.shared) }
    }
}

/// How a peer looks for an owner that is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    Once,
    /// And then for a while: what the owner does there is a copy in most cases.
    Twice,
}

/// An owner that is inside. Leaves on drop, so that a panic inside leaves too.
pub(crate) struct Inside<'a, T, B> {
    shared: &'a Shared<T, B>,
}

impl<T, B> Drop for Inside<'_, T, B> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: a peer that reads this (Acquire) sees all that was done inside.
        self.shared.presence.store(VISITED, Ordering::Release);
    }
}

impl<T, B> Owner<T, B> {
    /// A locked value, and beside it data that is readable without the lock. `None` if there is no memory.
    pub(crate) fn new(value: T, unlocked: B) -> Option<Self> {
        Owner::make(value, unlocked, false)
    }

    /// As [`new`](Owner::new), but no peer ever enters, though there may be handles for them.
    pub(crate) fn private(value: T, unlocked: B) -> Option<Self> {
        Owner::make(value, unlocked, true)
    }

    fn make(value: T, unlocked: B, is_private: bool) -> Option<Self> {
        let shared = Shared {
            unlocked,
            lock: Lock::new(()),
            presence: AtomicU8::new(AWAY),
            claimed: AtomicBool::new(false),
            aware: AtomicBool::new(fences::are_refused()),
            missed: AtomicBool::new(false),
            is_private,
            value: Cell::new(ManuallyDrop::new(value)),
        };
        Some(Owner { shared: try_arc(shared)? })
    }

    /// A handle of the same value for other threads.
    pub(crate) fn peer(&self) -> Peer<T, B> {
        Peer { shared: Arc::clone(&self.shared) }
    }

    #[inline]
    pub(crate) fn unlocked(&self) -> &B {
        &self.shared.unlocked
    }

    /// An error if the value cannot be entered any more: this process was forked while a peer, which it has
    /// not got, was inside or on its way there. Costs two loads.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Forked> {
        let is_refused = fences::are_refused();
        if is_refused || self.shared.claimed.load(Ordering::Relaxed) {
            self.shared.check_if(is_refused)
        } else {
            Ok(())
        }
    }

    /// Runs `f` on the value, with exclusive access. If a peer is inside, waits for it to leave.
    ///
    /// # Panics
    /// If [`check`](Owner::check) fails.
    #[inline]
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with_both(|value, _| f(value))
    }

    /// As [`with`](Owner::with), and with what is beside the value.
    #[inline]
    pub(crate) fn with_both<R>(&mut self, f: impl FnOnce(&mut T, &B) -> R) -> R {
        let shared = &*self.shared;
        let inside = shared.enter();
        let guard = if inside.is_none() { Some(shared.lock_after_peer()) } else { None };
        // SAFETY: `enter` succeeded, and `inside` keeps peers out until it is dropped, after `f` has
        // returned; of a private value there are none inside. Or peers are kept out by the guard, without
        // which none enters. `&mut self` keeps the owner from entering twice.
        let result = shared.value.with_mut(|value| f(unsafe { &mut *value }, &shared.unlocked));
        drop(inside);
        drop(guard);
        result
    }

    /// Runs `f` on the value, with exclusive access. If a peer is inside, returns `None` at once. Costs two
    /// stores and two loads.
    #[inline(always)]
    pub(crate) fn try_with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        Some(self.try_enter()?.visit(|value, _| f(value)))
    }

    /// Whether a peer that insists has given up because of this owner, since the last call. To be called
    /// after a visit that has left something for peers. Costs a load, and without the kernel's help a full
    /// fence.
    pub(crate) fn take_missed(&self) -> bool {
        if !fences::of_owner() {
            fences::full();
        }
        self.shared.missed.load(Ordering::Relaxed) && self.shared.missed.swap(false, Ordering::Relaxed)
    }

    /// Enters for a visit. If a peer is inside, returns `None` at once.
    #[inline(always)]
    pub(crate) fn try_enter(&mut self) -> Option<Inside<'_, T, B>> {
        self.shared.enter()
    }
}

impl<T, B> Inside<'_, T, B> {
    /// Runs `f` on the value, with exclusive access, and with what is beside it. Leaves.
    #[inline(always)]
    pub(crate) fn visit<R>(self, f: impl FnOnce(&mut T, &B) -> R) -> R {
        let shared = self.shared;
        // SAFETY: `enter` succeeded, and `self` keeps peers out until it is dropped, after `f` has
        // returned; of a private value there are none inside. `self` borrows the owner, which keeps
        // it from entering twice.
        let result = shared.value.with_mut(|value| f(unsafe { &mut *value }, &shared.unlocked));
        drop(self);
        result
    }
}

impl<T, B> Shared<T, B> {
    /// As [`check`](Owner::check), if a peer's fence `is_refused` or not. A call, so that what checks is
    /// inlined.
    #[cold]
    fn check_if(&self, is_refused: bool) -> Result<(), Forked> {
        let has_to_say = is_refused && !self.is_private && !self.aware.load(Ordering::Relaxed);
        // What `enter` takes the lock for.
        if has_to_say || self.claimed.load(Ordering::Relaxed) { self.lock.check() } else { Ok(()) }
    }

    /// Raises the owner's flag, and then checks that no peer has claimed the value. `None` if one has, or if
    /// the owner has to say first that it knows of a refusal.
    #[inline(always)]
    fn enter(&self) -> Option<Inside<'_, T, B>> {
        self.presence.store(INSIDE, Ordering::Relaxed);
        let inside = Inside { shared: self };
        if !fences::of_owner() && !self.is_private {
            if fences::are_refused() && !self.aware.load(Ordering::Relaxed) {
                return None;
            }
            fences::full();
        }
        // Acquire: the owner sees what the last peer did inside, before it lowered `claimed`.
        if self.claimed.load(Ordering::Acquire) { None } else { Some(inside) }
    }

    /// The owner's way in after a peer has claimed the value: through the lock, after the peer. And its first
    /// one after a refusal.
    #[cold]
    fn lock_after_peer(&self) -> MutexGuard<'_, ()> {
        if fences::are_refused() {
            // Release: a peer that reads this (Acquire) sees that all earlier visits have ended.
            self.aware.store(true, Ordering::Release);
        }
        self.lock.lock().expect("the owner has checked that it can enter")
    }
}

impl<T, B> Peer<T, B> {
    /// Runs `f` on one value after another, with exclusive access, and with the key that comes with each.
    /// Skips values that their owner or another peer is using. Returns the results of the others. Visits
    /// none, and returns nothing, if there is no memory for as many claims.
    ///
    /// Costs one heavy fence for all values: some microseconds; and another, and the time to look, if it
    /// insists and an owner is inside. Meanwhile an owner may have to wait until the values before its own
    /// are visited. Those whose owners are inside are visited last.
    pub(crate) fn try_with_each<'a, K, R>(
        peers: impl Iterator<Item = (K, &'a Self)>,
        looks: Looks,
        mut f: impl FnMut(K, &mut T) -> R,
    ) -> Vec<R>
    where
        Self: 'a,
    {
        let (mut claims, mut taken, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for (key, peer) in peers {
            if claims.try_reserve(1).is_err() {
                return results;
            }
            match Claim::new(&peer.shared) {
                Some(claim) => claims.push((key, claim)),
                None if looks == Looks::Twice => {
                    peer.shared.missed.store(true, Ordering::Relaxed);
                    if taken.try_reserve(1).is_ok() {
                        taken.push((key, peer));
                    }
                }
                None => {}
            }
        }
        let all = claims.len() + taken.len();
        if all == 0 || results.try_reserve_exact(all).is_err() || claims.try_reserve(taken.len()).is_err() {
            return results;
        }
        let reach = fences::heavy();
        claims.iter_mut().for_each(|(_, claim)| claim.look(reach));
        claims.extend(taken.into_iter().filter_map(|(key, peer)| Some((key, Claim::new(&peer.shared)?))));
        let mut visit = |(key, claim): (K, Claim<'a, T, B>)| claim.visit(|value| f(key, value));
        results.extend(claims.extract_if(.., |(_, claim)| claim.is_open).filter_map(&mut visit));
        if looks == Looks::Twice && !claims.is_empty() {
            let again = say_missed(&claims);
            yield_until(|| {
                claims.iter_mut().for_each(|(_, claim)| claim.look(again));
                results.extend(claims.extract_if(.., |(_, claim)| claim.is_open).filter_map(&mut visit));
                claims.is_empty()
            });
        }
        results
    }

    /// Whether the owner is inside now, or has been since the last call.
    pub(crate) fn was_visited(&self) -> bool {
        // Relaxed: an atomic read-modify-write continues the owner's release sequence, so a peer that reads
        // AWAY (Acquire) still sees what the owner did.
        let change =
            self.shared.presence.compare_exchange(VISITED, AWAY, Ordering::Relaxed, Ordering::Relaxed);
        change != Err(AWAY)
    }

    /// Whether both handles are of the same value.
    pub(crate) fn is_of(&self, owner: &Owner<T, B>) -> bool {
        Arc::ptr_eq(&self.shared, &owner.shared)
    }

    pub(crate) fn unlocked(&self) -> &B {
        &self.shared.unlocked
    }
}

/// A lock that no thread waits for. A thread that finds it taken does without the value.
///
/// It costs one atomic exchange, where a mutex costs two.
#[derive(Debug)]
pub(crate) struct TryLock<T> {
    /// A thread is inside.
    taken: AtomicBool,
    /// Not dropped if the flag is raised: then a thread was inside from whose process this one was forked.
    value: Cell<ManuallyDrop<T>>,
}

// SAFETY: `value` is reached only by a thread that has raised `taken`, one at a time, each visit ordered
// before the next; so sharing is sending `T` around.
unsafe impl<T: Send> Sync for TryLock<T> {}

impl<T> TryLock<T> {
    const_fn! {
        pub(crate) fn new(value: T) -> Self {
            TryLock { taken: AtomicBool::new(false), value: Cell::new(ManuallyDrop::new(value)) }
        }
    }

    /// Runs `f` on the value, with exclusive access. If another thread is inside, returns `None` at once.
    #[inline]
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        // Acquire: this thread sees what the last one did inside, before it lowered the flag.
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let raised = Raised(&self.taken);
        // SAFETY: this thread has raised the flag, which was lowered. So no other thread is inside, or gets
        // in before `raised` is dropped, after `f` has returned.
        let result = self.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(raised);
        Some(result)
    }
}

impl<T> Drop for TryLock<T> {
    fn drop(&mut self) {
        // `&mut self`, so no thread of this process is inside.
        if !self.taken.load(Ordering::Relaxed) {
            self.value.with_mut(|value| {
                // SAFETY: nobody is inside.
                let value = unsafe { &mut *value };
                // SAFETY: this is the drop, so it happens once, and nothing uses the value after it.
                unsafe { ManuallyDrop::drop(value) };
            });
        }
    }
}

/// A raised flag. Lowers it on drop, so that a panic inside leaves too.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A peer's hold of `lock`, and its raised flag. Dropping it lowers the flag first, and then releases the
/// lock.
struct Claim<'a, T, B> {
    shared: &'a Shared<T, B>,
    _guard: MutexGuard<'a, ()>,
    /// A look has found that the owner was not inside.
    is_open: bool,
}

impl<'a, T, B> Claim<'a, T, B> {
    /// Claims a value, unless it is private, or another peer or a waiting owner holds the lock. The caller
    /// must pass a heavy fence before it [looks](Claim::look).
    fn new(shared: &'a Shared<T, B>) -> Option<Self> {
        if shared.is_private {
            return None;
        }
        let guard = shared.lock.try_lock()?;
        shared.claimed.store(true, Ordering::Relaxed);
        Some(Claim { shared, _guard: guard, is_open: false })
    }

    /// Looks whether the owner is inside, or out of `reach` of the heavy fence that was passed.
    fn look(&mut self, reach: Reach) {
        // Acquire: the owner's visits from before it knew have ended.
        let is_reached = reach == Reach::All || self.shared.aware.load(Ordering::Acquire);
        // Acquire: the peer sees what the owner did inside, before it left.
        self.is_open = is_reached && self.shared.presence.load(Ordering::Acquire) != INSIDE;
    }

    /// Runs `f` on the value, with exclusive access, if a look has found it open.
    fn visit<R>(self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.is_open {
            return None;
        }
        // SAFETY: `claimed` was raised before the heavy fence, which has ordered this owner, and the owner
        // was not inside after it: `look` has seen that. So an owner that enters from then on reads `claimed`
        // as raised and turns to the lock, which the claim holds until it is dropped, after `f` has returned.
        // Other peers need the lock too. The value is not private: those have no claims.
        let result = self.shared.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(self);
        Some(result)
    }
}

/// Says to the owners that are inside that they were in the way, and passes another heavy fence. They do not
/// come in a second time, since their values are claimed.
#[cold]
fn say_missed<K, T, B>(claims: &[(K, Claim<'_, T, B>)]) -> Reach {
    for (_, claim) in claims {
        claim.shared.missed.store(true, Ordering::Relaxed);
    }
    fences::heavy()
}

impl<T, B> Drop for Claim<'_, T, B> {
    fn drop(&mut self) {
        // Release: an owner that reads this (Acquire) sees all that was done inside.
        self.shared.claimed.store(false, Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    /// A process that was forked while a peer had the lock and had claimed nothing yet: after a refusal the
    /// owner looks at no claim and takes the lock, so that the call which had checked before panicked.
    #[test]
    fn a_lost_lock_is_an_error_for_an_owner_that_is_to_take_it() {
        let mut owner = Owner::new(7, ()).unwrap();
        Arc::get_mut(&mut owner.shared).unwrap().lock = Lock::lost(());
        assert!(owner.shared.check_if(true).is_err());
        owner.shared.aware.store(true, Ordering::Relaxed);
        assert!(owner.shared.check_if(true).is_ok() && owner.shared.check_if(false).is_ok());
        assert_eq!(owner.with(|value| *value), 7, "no peer was inside");
        owner.shared.claimed.store(true, Ordering::Relaxed);
        assert!(owner.shared.check_if(true).is_err() && owner.shared.check_if(false).is_err());
    }
}
