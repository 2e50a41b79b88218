//! A cache of things that were used and can be used again, each with the memory that it holds.
//!
//! Promises:
//!
//! - At most so many things, and so many bytes of their memory, are cached as the cache was made for, beside
//!   the last one.
//! - Caching and taking out never wait: a thread that finds the cache locked does without it, and so does a
//!   process that was forked meanwhile.
//!
//! The last thing has a place of its own behind a [`TryLock`], where one atomic exchange gets it instead of
//! the two of a mutex.
//!
//! Held by: the tests below, `tests/tests/pool_limits.rs`, `tests/tests/pool_stress.rs`.

use crate::sync::biased::TryLock;
use crate::sync::const_fn;
use crate::sync::fork::Lock;

/// What can be cached.
pub(crate) trait Reusable {
    /// Bytes of the frames that it holds. May become less at any moment.
    fn frame_bytes(&self) -> u64;
}

#[derive(Debug)]
pub(crate) struct Cache<T> {
    /// One that was cached while this place was empty.
    last: TryLock<Option<T>>,
    others: Lock<Others<T>>,
    count_max: usize,
    bytes_max: u64,
}

#[derive(Debug)]
struct Others<T> {
    /// Each with the bytes of its frames at the time when it was cached.
    things: Vec<(T, u64)>,
    /// The sum of these bytes.
    bytes: u64,
}

impl<T> Default for Others<T> {
    fn default() -> Self {
        Others { things: Vec::new(), bytes: 0 }
    }
}

impl<T> Cache<T> {
    const_fn! {
        /// A cache for `count_max` things with `bytes_max` bytes of frames together, beside the last one.
        pub(crate) fn new(count_max: usize, bytes_max: u64) -> Self {
            let others = Others { things: Vec::new(), bytes: 0 };
            Cache { last: TryLock::new(None), others: Lock::of_program(others), count_max, bytes_max }
        }
    }
}

impl<T: Reusable> Cache<T> {
    #[inline]
    pub(crate) fn pop(&self) -> Option<T> {
        self.last.try_with(Option::take).flatten().or_else(|| self.pop_other())
    }

    fn pop_other(&self) -> Option<T> {
        let mut others = self.others.try_lock()?;
        let (thing, bytes) = others.things.pop()?;
        others.bytes -= bytes;
        Some(thing)
    }

    /// Caches a thing. Returns it if the cache is full or locked.
    #[inline]
    pub(crate) fn push(&self, thing: T) -> Option<T> {
        let mut thing = Some(thing);
        self.last.try_with(|last| {
            if last.is_none() {
                *last = thing.take();
            }
        });
        thing.and_then(|thing| self.push_other(thing))
    }

    fn push_other(&self, thing: T) -> Option<T> {
        let bytes = thing.frame_bytes();
        let Some(mut others) = self.others.try_lock() else { return Some(thing) };
        let sum = others.bytes + bytes;
        if others.things.len() >= self.count_max
            || sum > self.bytes_max
            || others.things.try_reserve(1).is_err()
        {
            return Some(thing);
        }
        others.bytes = sum;
        others.things.push((thing, bytes));
        None
    }

    /// Takes all out, but for one that another thread is caching or taking at this moment.
    pub(crate) fn drain(&self) -> impl Iterator<Item = T> + use<T> {
        let others = self.others.lock().map(|mut others| std::mem::take(&mut *others)).unwrap_or_default();
        let last = self.last.try_with(Option::take).flatten();
        last.into_iter().chain(others.things.into_iter().map(|(thing, _)| thing))
    }

    /// The number of cached things, without one that another thread is caching or taking at this moment.
    pub(crate) fn len(&self) -> usize {
        let last = self.last.try_with(|last| last.is_some()).unwrap_or_default();
        self.others.lock().map_or(0, |others| others.things.len()) + usize::from(last)
    }

    /// Bytes of the frames of cached things.
    pub(crate) fn bytes(&self) -> u64 {
        let last = self.last.try_with(|last| last.as_ref().map(Reusable::frame_bytes)).flatten();
        let sum = |others: &Others<T>| others.things.iter().map(|(thing, _)| thing.frame_bytes()).sum();
        last.unwrap_or_default() + self.others.lock().map_or(0, |others| sum(&others))
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    impl Reusable for u64 {
        fn frame_bytes(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn the_bounds_hold_beside_the_last_one() {
        let cache = Cache::new(2, 10);
        assert_eq!([99, 4, 7, 6, 0].map(|bytes| cache.push(bytes)), [None, None, Some(7), None, Some(0)]);
        assert_eq!((cache.len(), cache.bytes()), (3, 109));
        assert_eq!([(); 4].map(|()| cache.pop()), [Some(99), Some(6), Some(4), None]);
        assert_eq!(cache.push(10), None, "what was taken out leaves room");
        assert_eq!(cache.drain().collect::<Vec<_>>(), [10]);
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }

    #[test]
    fn a_locked_cache_is_done_without() {
        let cache = Cache::new(2, 10);
        cache.push(1);
        cache.push(2);
        let guard = cache.others.lock();
        assert_eq!([cache.pop(), cache.pop()], [Some(1), None]);
        assert_eq!([cache.push(3), cache.push(4)], [None, Some(4)]);
        drop(guard);
        assert_eq!([cache.pop(), cache.pop()], [Some(3), Some(2)]);
    }
}
