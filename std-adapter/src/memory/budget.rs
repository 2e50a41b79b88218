//! A budget: a limit, and the bytes used of it. It counts bytes of any kind.
//!
//! Promises:
//!
//! - I2 (memory), I6 (disk): a reservation never takes the used bytes past the limit, not for a moment.
//!   The sum is checked and reserved in one atomic step. One that has begun when the limit is lowered may
//!   go by the limit before.
//! - A limit that is lowered below the used bytes refuses every reservation until enough is released.
//! - No call waits.
//! - A [`WatchedBudget`] forgets no byte that came free before it has said so once.
//! - What frees memory apart from any operation of a pool [tells](WatchedBudget::tell) those that wait for
//!   it: the end of a loan, and foreign code that was held back.
//!
//! Held by: the tests below, `std-adapter/src/models.rs` (loom), `tests/tests/pool_memory.rs`.

use crate::sync::{Arc, AtomicBool, AtomicU64, OnceLock, Ordering, fences};
use std::fmt;

#[derive(Debug)]
pub(crate) struct Budget {
    /// Bytes. May change between any two calls.
    limit: AtomicU64,
    /// Bytes reserved and not released.
    used: AtomicU64,
}

/// The highest value that a sum ever had.
#[derive(Debug, Default)]
pub(crate) struct HighWater(AtomicU64);

impl HighWater {
    pub(crate) fn note(&self, sum: u64) {
        if sum > self.get() {
            self.0.fetch_max(sum, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Not enough is left of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) limit: u64,
    pub(crate) used: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Budget { limit: AtomicU64::new(limit), used: AtomicU64::new(0) }
    }

    /// Reserves `bytes`, all or nothing. Returns the used bytes afterwards.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<u64, Refused> {
        self.reserve_within(bytes, |limit| limit)
    }

    /// As [`reserve`](Budget::reserve), but takes the used bytes no further than what `most` says of the
    /// limit.
    pub(crate) fn reserve_within(&self, bytes: u64, most: impl Fn(u64) -> u64) -> Result<u64, Refused> {
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let limit = most(self.limit.load(Ordering::Relaxed));
            if bytes > limit.saturating_sub(used) {
                return Err(Refused { limit, used });
            }
            let sum = used + bytes;
            // Relaxed: the count orders no other memory. Locks order the hand-over of what is counted.
            match self.used.compare_exchange_weak(used, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(sum),
                Err(now) => used = now,
            }
        }
    }

    /// Whether `bytes` could be reserved now. Takes none.
    #[cfg(feature = "tokio")]
    pub(crate) fn check(&self, bytes: u64) -> Result<(), Refused> {
        let (limit, used) = (self.limit(), self.used());
        if bytes > limit.saturating_sub(used) { Err(Refused { limit, used }) } else { Ok(()) }
    }

    /// Releases `bytes`, which must have been reserved.
    pub(crate) fn release(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "I2: {bytes} released of {before} used");
    }

    /// Changes the limit. Used bytes above it stay used until they are released.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Those that wait until something comes free.
pub(crate) trait Waiters: fmt::Debug + Send + Sync {
    /// Wakes them, contained, unless this thread holds it back.
    fn wake(&self);
}

/// A budget that also remembers whether bytes came free. So what frees them may be in the middle of
/// something, and those that wait for them are woken at its end.
#[derive(Debug)]
pub(crate) struct WatchedBudget {
    budget: Budget,
    waiters: OnceLock<Arc<dyn Waiters>>,
    /// Bytes came free, and [`take_freed`](WatchedBudget::take_freed) has not said so yet. True for too long,
    /// it costs an attempt of each waiter.
    has_freed: AtomicBool,
    /// A search has looked at shared pages, and no reference to one was dropped since.
    shared_sought: AtomicBool,
    /// How often those that wait were told of memory that did not come free: only a search finds it.
    returns: AtomicU64,
}

impl WatchedBudget {
    pub(crate) fn new(limit: u64) -> Self {
        WatchedBudget {
            budget: Budget::new(limit),
            waiters: OnceLock::new(),
            has_freed: AtomicBool::new(false),
            shared_sought: AtomicBool::new(false),
            returns: AtomicU64::new(0),
        }
    }

    /// Says who waits for it.
    pub(crate) fn set_waiters(&self, waiters: Arc<dyn Waiters>) {
        self.waiters.get_or_init(|| waiters);
    }

    /// Wakes those that wait, if something came free. To be called with nothing locked but
    /// what is held back for.
    pub(crate) fn tell(&self) {
        if let Some(waiters) = self.waiters.get()
            && self.take_freed()
        {
            waiters.wake();
        }
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Releases `bytes`, which must have been reserved, and notes it.
    pub(crate) fn release(&self, bytes: u64) {
        self.budget.release(bytes);
        self.note_freed();
    }

    /// Notes that something came free, which the caller has made available already.
    pub(crate) fn note_freed(&self) {
        // Release: a thread that learns of it finds what came free. A swap, since a store would hide what
        // another thread has noted before: that one would learn of this one only.
        self.has_freed.swap(true, Ordering::Release);
    }

    /// For a search, before it looks at who has a reference to shared pages.
    pub(crate) fn seek_shared(&self) {
        self.shared_sought.store(true, Ordering::Relaxed);
        // With the fence below: the search sees that a page was let go, or is seen. No model shows this one,
        // since loom has but one value for the number of references.
        fences::full();
    }

    /// Wakes those that wait, if something came free or a search has looked at shared pages. To be called
    /// after a reference to one was dropped, with nothing locked but what is held back for.
    pub(crate) fn tell_let_go(&self) {
        let Some(waiters) = self.waiters.get() else { return };
        fences::full();
        let was_sought =
            self.shared_sought.load(Ordering::Relaxed) && self.shared_sought.swap(false, Ordering::Relaxed);
        if was_sought {
            self.note_return();
        }
        if self.take_freed() || was_sought {
            waiters.wake();
        }
    }

    /// Notes that memory came within reach of a search, though it did not come free. The caller wakes those
    /// that wait.
    pub(crate) fn note_return(&self) {
        self.returns.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was. To be read before a search, which may miss what comes later.
    pub(crate) fn returns(&self) -> u64 {
        self.returns.load(Ordering::Relaxed)
    }

    /// Whether something came free since the last call. The caller wakes those that wait for it, and passes a
    /// full fence before it looks for them.
    #[inline]
    pub(crate) fn take_freed(&self) -> bool {
        // Relaxed: the caller's fence also acquires what was noted.
        self.has_freed.load(Ordering::Relaxed) && self.has_freed.swap(false, Ordering::Relaxed)
    }
}

/// Tells, when it is dropped, those that wait for memory: a field behind a reference to a shared page.
#[cfg(any(feature = "bytes", feature = "tokio"))]
#[derive(Debug)]
pub(crate) struct TellsAtEnd(pub(crate) Arc<WatchedBudget>);

#[cfg(any(feature = "bytes", feature = "tokio"))]
impl Drop for TellsAtEnd {
    fn drop(&mut self) {
        self.0.tell_let_go();
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_reaches_the_limit_and_not_a_byte_more() {
        let budget = Budget::new(10);
        assert_eq!(budget.reserve(7), Ok(7));
        assert_eq!(budget.reserve(4), Err(Refused { limit: 10, used: 7 }));
        assert_eq!(budget.reserve_within(1, |limit| limit - 3), Err(Refused { limit: 7, used: 7 }));
        assert_eq!(budget.reserve(3), Ok(10));
        budget.release(10);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_limit_below_the_used_bytes_refuses_all_but_nothing() {
        let budget = Budget::new(10);
        budget.reserve(10).unwrap();
        budget.set_limit(4);
        assert_eq!(budget.reserve(1), Err(Refused { limit: 4, used: 10 }));
        assert_eq!(budget.reserve(0), Ok(10), "0 bytes are always available");
    }

    #[test]
    fn the_high_water_mark_never_falls() {
        let mark = HighWater::default();
        let marks = [3, 0, 5, 4, 5, 9].map(|sum| {
            mark.note(sum);
            mark.get()
        });
        assert_eq!(marks, [3, 3, 5, 5, 5, 9]);
    }

    #[test]
    fn a_request_that_would_wrap_is_refused() {
        let budget = Budget::new(u64::MAX);
        budget.reserve(1).unwrap();
        assert_eq!(budget.reserve(u64::MAX), Err(Refused { limit: u64::MAX, used: 1 }));
    }
}
