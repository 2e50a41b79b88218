//! Which buffers of a pool are active: those that needed memory lately, while it was short.
//!
//! Each such need is a *miss*. An *epoch* ends when every buffer that missed in it did so four times on
//! average; their number is then the number of active buffers. So ten that work beside ten thousand that
//! are silent count as ten after forty misses, and a thousand that work in turn count as a thousand however
//! long one turn takes.
//!
//! Promises:
//!
//! - While memory is not short, nothing is counted.
//! - The number is an estimate: a hint for shares, and never what a limit is kept by.
//!
//! Held by: the tests below, `tests/tests/pool_limits.rs`, `cargo bench -p overspill-tests --bench streams`.

use crate::sync::{AtomicU64, Ordering};

/// Misses for each buffer that missed, on average, after which an epoch ends.
const MISSES_EACH: u64 = 4;

/// The number of the first epoch. A buffer that never missed counts as one that missed in it, since it may
/// have worked while memory was not short; so nobody is silent before two epochs have ended.
const FIRST: u64 = 2;

/// The epochs of a pool.
#[derive(Debug)]
pub(crate) struct Activity {
    /// The number of the current epoch.
    epoch: AtomicU64,
    /// Misses in this epoch.
    misses: AtomicU64,
    /// Buffers that missed in this epoch.
    distinct: AtomicU64,
    /// Of these, buffers that did not miss in the epoch before.
    joined: AtomicU64,
    /// Buffers that missed in the epoch before.
    before: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        let [misses, distinct, joined, before] = [0; 4].map(AtomicU64::new);
        Activity { epoch: AtomicU64::new(FIRST), misses, distinct, joined, before }
    }
}

/// The epoch in which a buffer missed last; 0 if it never did.
#[derive(Debug, Default)]
pub(crate) struct LastMiss(AtomicU64);

/// That a buffer was asked for memory, and had none to give.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    /// The epoch in which it was; 0 if it never was, or is over.
    epoch: AtomicU64,
    /// The returns before it, and one more, if the buffer had shared pages; else 0.
    returns: AtomicU64,
}

impl Refusal {
    /// For its buffer, once there is something again.
    pub(crate) fn forget(&self) {
        self.epoch.store(0, Ordering::Relaxed);
    }
}

impl Activity {
    /// Notes a refusal, after so many `returns` if the buffer has shared pages.
    pub(crate) fn note_refusal(&self, refusal: &Refusal, returns: Option<u64>) {
        refusal.returns.store(returns.map_or(0, |returns| returns + 1), Ordering::Relaxed);
        // Release: who reads the epoch (Acquire) reads what belongs to it.
        refusal.epoch.store(self.epoch.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Whether a buffer has refused in the current epoch, and if it had shared pages since the last of
    /// `returns`.
    pub(crate) fn has_refused(&self, refusal: &Refusal, returns: u64) -> bool {
        refusal.epoch.load(Ordering::Acquire) == self.epoch.load(Ordering::Relaxed)
            && [0, returns + 1].contains(&refusal.returns.load(Ordering::Relaxed))
    }

    /// Counts a miss of the buffer that `last_miss` belongs to.
    pub(crate) fn note_miss(&self, last_miss: &LastMiss) {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let last = last_miss.0.load(Ordering::Relaxed);
        if last != epoch {
            last_miss.0.store(epoch, Ordering::Relaxed);
            self.distinct.fetch_add(1, Ordering::Relaxed);
            if last + 1 != epoch {
                self.joined.fetch_add(1, Ordering::Relaxed);
            }
        }
        let misses = self.misses.fetch_add(1, Ordering::Relaxed) + 1;
        let distinct = self.distinct.load(Ordering::Relaxed);
        if misses >= MISSES_EACH * distinct.max(1) {
            self.end_epoch(epoch, distinct);
        }
    }

    #[cold]
    fn end_epoch(&self, epoch: u64, distinct: u64) {
        // One of the threads that see the end ends it.
        if self.epoch.compare_exchange(epoch, epoch + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.before.store(distinct, Ordering::Relaxed);
            self.distinct.store(0, Ordering::Relaxed);
            self.joined.store(0, Ordering::Relaxed);
            self.misses.store(0, Ordering::Relaxed);
        }
    }

    /// The number of buffers that missed in this epoch or in the one before, at least 1 and at most
    /// `holders`, which hold memory.
    pub(crate) fn active(&self, holders: u64) -> u64 {
        let active = self.before.load(Ordering::Relaxed) + self.joined.load(Ordering::Relaxed);
        active.min(holders).max(1)
    }

    /// Whether any buffer can be silent: false until two epochs have ended.
    pub(crate) fn may_know_silent(&self) -> bool {
        self.is_silent(&LastMiss::default())
    }

    /// Whether a buffer missed neither in this epoch nor in the one before.
    pub(crate) fn is_silent(&self, last_miss: &LastMiss) -> bool {
        last_miss.0.load(Ordering::Relaxed).max(FIRST) + 2 <= self.epoch.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    fn buffers(count: usize) -> Vec<LastMiss> {
        (0..count).map(|_| LastMiss::default()).collect()
    }

    #[test]
    fn ten_that_work_beside_many_count_as_ten_at_once() {
        let (activity, buffers) = (Activity::default(), buffers(10));
        assert_eq!(activity.active(10_000), 1, "nothing is known yet");
        (0..40).for_each(|miss| activity.note_miss(&buffers[miss % 10]));
        assert_eq!(activity.active(10_000), 10);
        assert_eq!(activity.active(3), 3);
    }

    #[test]
    fn a_thousand_in_turn_count_as_a_thousand_from_their_first_turn_on() {
        let (activity, few, many) = (Activity::default(), buffers(1), buffers(1000));
        (0..8).for_each(|_| activity.note_miss(&few[0]));
        assert_eq!(activity.active(2000), 1);
        for round in 0..10 {
            for (at, buffer) in many.iter().enumerate() {
                activity.note_miss(buffer);
                let known = if round == 0 { at as u64 + 2 } else { 1000 };
                let active = activity.active(2000);
                assert!((known..known + 2).contains(&active), "{active} at miss {at} of round {round}");
            }
        }
        assert_eq!(activity.active(2000), 1000);
    }

    #[test]
    fn who_missed_in_neither_of_two_epochs_is_silent() {
        let (activity, buffers) = (Activity::default(), buffers(2));
        assert!(!activity.is_silent(&buffers[0]), "nothing is known yet");
        activity.note_miss(&buffers[0]);
        assert!(!activity.is_silent(&buffers[0]));
        (0..7).for_each(|_| activity.note_miss(&buffers[1]));
        assert!(!activity.is_silent(&buffers[0]), "it missed in the epoch before");
        (0..4).for_each(|_| activity.note_miss(&buffers[1]));
        assert!(activity.is_silent(&buffers[0]) && !activity.is_silent(&buffers[1]));
    }
}
