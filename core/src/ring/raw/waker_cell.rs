//! The waker of one end, for the other end to wake, without a lock.
//!
//! Promises: neither end waits for the other, or repeats anything on its account, so either may be
//! interrupted anywhere by the other. `register` wakes no one. No foreign code, such as a waker's clone or
//! drop, runs while a slot is being accessed. No waker stays when the waiting end has withdrawn its own.
//!
//! Held by: `core/tests/loom_ring.rs` (`another_waker_against_wake` and all `waiting_*`),
//! `core/tests/ring_wakes.rs`, the tests below.

use core::panic::RefUnwindSafe;
use core::task::Waker;

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{Cell, SwapU8, const_fn};

/// Says that a slot, the second one or the first, has the waker to be woken. At most one of the two is set.
const fn offered(second: bool) -> u8 {
    if second { 2 } else { 1 }
}

/// Says that the waking end is emptying this slot. At most one of the two is set.
const fn taken(second: bool) -> u8 {
    if second { 8 } else { 4 }
}

/// One waker, stored by the waiting end and taken by the waking end, in one of two slots: while one is being
/// emptied, the waiting end uses the other.
///
/// | state of a slot | from | by | owner of the slot |
/// |---|---|---|---|
/// | neither | offered | `register`, as it begins | the waiting end |
/// | neither | taken | `wake`, once the slot is empty | the waiting end |
/// | neither | offered | `withdraw`, as it begins | the waiting end |
/// | offered | neither | `register`, as it ends | none |
/// | taken | offered | `wake`, as it begins | the waking end |
///
/// A `wake` that meets a `register` finds nothing offered, or takes the previous waker. In both cases the
/// waiting end needs no wake-up: it loads the other's index after `register`, and finds what that `wake`
/// was about (`wake.rs`).
pub(crate) struct WakerCell {
    state: SwapU8,
    first: Cell<Option<Waker>>,
    second: Cell<Option<Waker>>,
}

/// No foreign code runs while a slot is accessed, so that no panic finds one half-way.
impl RefUnwindSafe for WakerCell {}

// SAFETY: only the owner that the state names accesses a slot.
unsafe impl Sync for WakerCell {}
// SAFETY: a `Waker` is `Send`.
unsafe impl Send for WakerCell {}

impl WakerCell {
    const_fn! {
        pub(crate) fn new() -> Self {
            WakerCell { state: SwapU8::new(0), first: Cell::new(None), second: Cell::new(None) }
        }
    }

    /// Stores `waker` in place of the previous one. For the waiting end only.
    pub(crate) fn register(&self, waker: &Waker) {
        // Acquire: a slot that was taken is empty. No `wake` takes one before the next is offered.
        let state = self.state.fetch_and(!(offered(false) | offered(true)), Acquire);
        let second = state & (offered(true) | taken(false)) != 0;
        let waker = match self.swap(second, None) {
            Some(old) if old.will_wake(waker) => old,
            _ => waker.clone(),
        };
        self.swap(second, Some(waker));
        self.state.fetch_or(offered(second), Release);
    }

    /// Takes the waker back. For the waiting end only, which goes.
    pub(crate) fn withdraw(&self) -> Option<Waker> {
        // Relaxed: what is offered here was stored by this end, and taken by none.
        let state = self.state.fetch_and(!(offered(false) | offered(true)), Relaxed);
        let second = state & offered(true) != 0;
        if second || state & offered(false) != 0 { self.swap(second, None) } else { None }
    }

    /// Takes the waker and wakes it. For the waking end only.
    pub(crate) fn wake(&self) {
        if let Some(second) = self.begin_taking()
            && let Some(waker) = self.end_taking(second)
        {
            waker.wake();
        }
    }

    /// Takes the slot that is offered, if one is, and says which.
    fn begin_taking(&self) -> Option<bool> {
        let state = self.state.load(Relaxed);
        let second = state == offered(true);
        if !second && state != offered(false) {
            return None;
        }
        // An error means that `register` has withdrawn the waker.
        self.state.compare_exchange(offered(second), taken(second), Acquire, Relaxed).ok()?;
        Some(second)
    }

    /// Empties the slot that was taken.
    fn end_taking(&self, second: bool) -> Option<Waker> {
        let waker = self.swap(second, None);
        self.state.fetch_and(!taken(second), Release);
        waker
    }

    /// Stores `waker` in a slot, and returns what was there. For the slot's owner.
    fn swap(&self, second: bool, waker: Option<Waker>) -> Option<Waker> {
        let slot = if second { &self.second } else { &self.first };
        slot.with_mut(|slot| {
            // SAFETY: the caller owns the slot: it is the waiting end and the slot was neither offered nor
            // being emptied when it looked, or the waking end, which has taken it.
            core::mem::replace(unsafe { &mut *slot }, waker)
        })
    }
}

#[cfg(all(test, not(overspill_loom)))]
mod tests {
    extern crate std;
    use self::std::sync::Arc;
    use self::std::sync::atomic::AtomicUsize;
    use self::std::task::Wake;
    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    /// A poll that came while the other end was waking woke its own task. If it had interrupted that end, its
    /// executor polled again at once, and for ever: the interrupted end never ran again.
    #[test]
    fn a_waker_that_interrupts_a_wake_up_sleeps_until_the_next() {
        let ((one, first), (two, second)) = (counted(), counted());
        let woken = || (one.0.load(Relaxed), two.0.load(Relaxed));
        let cell = WakerCell::new();
        for round in 1..=3 {
            cell.register(&first);
            let slot = cell.begin_taking().expect("the first is offered");
            cell.register(&first);
            cell.register(&second);
            cell.register(&second);
            assert_eq!(woken(), (round - 1, round - 1), "no task wakes itself");
            cell.end_taking(slot).expect("the slot was not touched").wake();
            assert_eq!(woken(), (round, round - 1));
            // From the other slot, which the next round takes first.
            cell.wake();
            assert_eq!(woken(), (round, round));
            cell.wake();
            assert_eq!(woken(), (round, round), "once");
            assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), (2, 2), "and neither is kept");
        }
    }

    /// The other way round: a wake-up that interrupts a poll takes the previous waker, or none.
    #[test]
    fn a_wake_up_that_interrupts_a_poll_wakes_no_waker_twice() {
        let ((one, first), (two, second)) = (counted(), counted());
        let cell = WakerCell::new();
        cell.register(&first);
        // As `register` begins.
        cell.state.fetch_and(!(offered(false) | offered(true)), Relaxed);
        cell.wake();
        assert_eq!(one.0.load(Relaxed), 0, "the poll goes on, and looks after this");
        cell.register(&second);
        assert_eq!(Arc::strong_count(&one), 2, "the previous waker is dropped");
        cell.wake();
        assert_eq!((one.0.load(Relaxed), two.0.load(Relaxed)), (0, 1));
    }

    /// From either slot, whether the other end is waking or not: what it has taken is its own to drop.
    #[test]
    fn a_waker_that_is_withdrawn_is_neither_woken_nor_kept() {
        let ((one, first), (two, second)) = (counted(), counted());
        let cell = WakerCell::new();
        assert!(cell.withdraw().is_none(), "nothing is offered");
        cell.register(&first);
        drop(cell.withdraw());
        cell.wake();
        cell.register(&first);
        let slot = cell.begin_taking().expect("the first is offered");
        assert!(cell.withdraw().is_none(), "it is taken");
        cell.register(&second);
        assert!(cell.withdraw().is_some_and(|waker| waker.will_wake(&second)));
        drop(cell.end_taking(slot));
        cell.wake();
        assert_eq!((one.0.load(Relaxed), two.0.load(Relaxed)), (0, 0));
        assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), (2, 2));
    }
}
