//! What the last buffer of each thread left, for the next one that the thread makes.
//!
//! What all threads share costs an atomic exchange to take and another to return, and as much for each
//! reference to the pool. Those four were two thirds of what a body of 100 bytes costs. A thread's own
//! [`ThreadPlace`] needs none.
//!
//! What is kept keeps its pool alive, in a place outside of it. So a pool ends with its last handle: see
//! [`thread_place`].
//!
//! Promises:
//!
//! - A thread has a place for what is of a shared pool, and one for what is of a pool for one buffer. At most
//!   [`THREADS_MAX`] threads have some at a time; the others do without. A thread that ends leaves its places
//!   to another, which may do without until then, with what is in them.
//! - A pool whose last handle is dropped has nothing in any place. But if there is no memory to look,
//!   or the kernel has begun to refuse the fence, something may stay until the thread of the place
//!   makes or drops a buffer.
//! - In a forked process, what another thread's place had is found, or lost with that thread. If the list of
//!   places is lost, nothing is kept.
//!
//! Held by: the tests below, `tests/tests/pool_stress.rs`, `tests/tests/pool_memory.rs`.

use crate::pool::leftover::Leftover;
use crate::pool::state::PoolState;
use crate::pool::thread_place::{self, OtherPlace, Recalls, ThreadPlace};
use crate::sync::fork::Lock;
use crate::sync::{AtomicUsize, Ordering, thread_local};
use std::cell::RefCell;
use std::mem::ManuallyDrop;

/// Each may keep a frame of 64 KiB in each of its two places.
const THREADS_MAX: usize = 16;

/// How often what is kept of some pool was recalled.
static RECALLS: Recalls = Recalls::new();

/// How many places are left by threads that have ended, a moment ago: there may be some for a
/// thread that does without.
static LEFT: AtomicUsize = AtomicUsize::new(0);

static ALL: Lock<All> = Lock::of_program(All { shared: Vec::new(), private: Vec::new(), left: Vec::new() });

/// All places, as others see them, and those whose threads have ended.
struct All {
    shared: Vec<OtherPlace<Leftover>>,
    private: Vec<OtherPlace<Leftover>>,
    left: Vec<Places>,
}

/// The places of one thread.
struct Places {
    shared: ThreadPlace<Leftover>,
    private: ThreadPlace<Leftover>,
}

/// What a thread has of them.
enum Mine {
    /// It has not needed any.
    Unasked,
    Some(Places),
    /// There were enough, when it looked last.
    Without,
}

/// Leaves the places to another thread.
struct Leaving(RefCell<Mine>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Mine::Some(places) = self.0.replace(Mine::Without) {
            match ALL.lock() {
                Ok(mut all) => {
                    all.left.push(places); // reserved when they were made
                    LEFT.store(all.left.len(), Ordering::Relaxed);
                }
                Err(_) => std::mem::forget(places),
            }
        }
    }
}

thread_local!(static MINE: Leaving = const { Leaving(RefCell::new(Mine::Unasked)) });

impl Mine {
    /// The places, found at first use; or later, if there were none.
    fn places(&mut self) -> Option<&mut Places> {
        let looks = match self {
            Mine::Unasked => true,
            Mine::Some(_) => false,
            Mine::Without => LEFT.load(Ordering::Relaxed) > 0,
        };
        if looks {
            *self = Places::find();
        }
        if let Mine::Some(places) = self { Some(places) } else { None }
    }
}

impl Places {
    /// Places that a thread has left, or new ones.
    #[cold]
    fn find() -> Mine {
        let Ok(mut all) = ALL.lock() else { return Mine::Without };
        if let Some(places) = all.left.pop() {
            LEFT.store(all.left.len(), Ordering::Relaxed);
            return Mine::Some(places);
        }
        if all.shared.len() == THREADS_MAX {
            return Mine::Without;
        }
        let made = ThreadPlace::new().zip(ThreadPlace::new()).filter(|_| all.reserve());
        let Some((shared, private)) = made else { return Mine::Without };
        all.shared.push(shared.for_others());
        all.private.push(private.for_others());
        Mine::Some(Places { shared, private })
    }
}

impl All {
    /// Makes room for the places of one more thread. False if there is no memory.
    fn reserve(&mut self) -> bool {
        let count = self.shared.len() + 1;
        self.left.try_reserve(count).is_ok()
            && self.shared.try_reserve(1).is_ok()
            && self.private.try_reserve(1).is_ok()
    }
}

fn key_of(pool: &PoolState) -> usize {
    std::ptr::from_ref(pool).addr()
}

/// Takes what this thread's last buffer of `pool` has left.
#[inline]
pub(crate) fn take(pool: &PoolState) -> Option<Leftover> {
    let key = key_of(pool);
    with_mine(|mine| if let Mine::Some(places) = mine { places.shared.take(key) } else { None }).flatten()
}

/// Takes what this thread's last buffer with a pool of its own has left, if that was of the
/// `kind`, which is not 0.
#[inline]
pub(crate) fn take_private(kind: usize) -> Option<Leftover> {
    with_mine(|mine| if let Mine::Some(places) = mine { places.private.take(kind) } else { None }).flatten()
}

/// The number of recalls so far. To be read before asking whether a pool has handles, and may spare what is
/// kept of it.
#[inline]
pub(crate) fn recalls() -> usize {
    RECALLS.seen()
}

/// Recalls what threads are just putting in their places, if the reason was noted.
pub(crate) fn recall() {
    RECALLS.count();
}

/// Keeps what a buffer of a shared pool leaves. Returns it if it cannot be kept, which may be for want
/// of [room](make_room), or if something was recalled since the number of [`recalls`] was `seen`.
#[inline]
pub(crate) fn put(leftover: Leftover, seen: usize) -> Option<Leftover> {
    let key = key_of(&leftover.pool);
    put_with(leftover, move |places, leftover| places.shared.put(key, leftover, &RECALLS, seen))
}

/// Keeps what a buffer leaves that had a pool of its own, of the `kind`. Returns it if it cannot be kept,
/// which may be for want of [room](make_private_room).
#[inline]
pub(crate) fn put_private(kind: usize, leftover: Leftover) -> Option<Leftover> {
    // Nothing but the place refers to such a pool, so it does not end.
    put_with(leftover, move |places, leftover| places.private.put_for_good(kind, leftover))
}

#[inline]
fn put_with(
    leftover: Leftover,
    put: impl FnOnce(&mut Places, Leftover) -> Option<Leftover>,
) -> Option<Leftover> {
    // So it stays in registers, since nothing has to drop it if anything here panics, which nothing does.
    let leftover = ManuallyDrop::new(leftover);
    // If the list is lost, nobody would find it here. And what `with_mine` does not run is lost.
    if ALL.check().is_err() || with_mine(|_| ()).is_none() {
        return Some(ManuallyDrop::into_inner(leftover));
    }
    with_mine(move |mine| {
        let leftover = ManuallyDrop::into_inner(leftover);
        if let Mine::Some(places) = mine { put(places, leftover) } else { Some(leftover) }
    })
    .flatten()
}

/// Returns what this thread keeps of a shared pool, so that it can keep something else. The first
/// time, finds it a place.
#[cold]
pub(crate) fn make_room() -> Option<Leftover> {
    with_mine(|mine| mine.places()?.shared.clear()).flatten()
}

/// Returns what this thread keeps of a pool for one buffer, so that it can keep something else. The first
/// time, finds it a place.
#[cold]
pub(crate) fn make_private_room() -> Option<Leftover> {
    with_mine(|mine| mine.places()?.private.clear()).flatten()
}

/// What this thread has; `None` if the thread is ending. Inlined, since a table goes through it by value: a
/// small body took a tenth more instructions with a call here.
#[inline(always)]
fn with_mine<R>(f: impl FnOnce(&mut Mine) -> R) -> Option<R> {
    MINE.try_with(|mine| mine.0.try_borrow_mut().ok().map(|mut mine| f(&mut mine))).ok().flatten()
}

/// Recalls what all threads keep of `pool`, and returns it: with nothing locked.
pub(crate) fn take_all(pool: &PoolState) -> impl Iterator<Item = Leftover> + use<> {
    recall();
    let found = ALL.lock().map(|all| thread_place::take_all(&all.shared, key_of(pool)));
    found.into_iter().flatten()
}

/// Takes out what all threads keep of pools for one buffer, of the `kind`, and then returns it: with nothing
/// locked.
pub(crate) fn take_all_private(kind: usize) -> impl Iterator<Item = Leftover> {
    let found = ALL.lock().map(|all| thread_place::take_all(&all.private, kind));
    found.into_iter().flatten()
}

/// The number of tables of `pool` that threads keep, and the bytes of their frames.
pub(crate) fn count(pool: &PoolState) -> (usize, u64) {
    let held = ALL.lock().map(|all| thread_place::look(&all.shared, key_of(pool), Leftover::frame_bytes));
    held.into_iter().flatten().fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pool::SpillPool;
    use crate::pool::private;
    use crate::sync::{Arc, Mutex, lock};
    use std::io::Write;
    use std::sync::mpsc::channel;
    use std::thread;

    const PAGE: usize = 64 << 10;

    /// Held by each test: one of them takes all places.
    static ALONE: Mutex<()> = Mutex::new(());

    fn small_pool() -> SpillPool {
        SpillPool::builder().memory(16 * PAGE).build().unwrap()
    }

    /// Makes a body of a page and drops it.
    fn make_body(pool: &SpillPool) {
        pool.buffer().write_all(&vec![7; PAGE]).unwrap();
    }

    /// Runs `f` while another thread has made a body of `pool` and lives on.
    fn beside_a_thread_that_keeps(pool: &SpillPool, f: impl FnOnce()) {
        let (made, is_made) = channel();
        let (done, is_done) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                make_body(pool);
                made.send(()).unwrap();
                is_done.recv().unwrap_err();
            });
            is_made.recv().unwrap();
            f();
            drop(done);
        });
    }

    #[test]
    fn what_threads_keep_counts_as_recycled_and_as_no_buffer() {
        let _alone = lock(&ALONE);
        let _kept = lock(&private::ALONE); // `trim` drops the kept pools of the whole process
        let pool = small_pool();
        make_body(&pool);
        beside_a_thread_that_keeps(&pool, || {
            assert_eq!(count(&pool.state).0, 2, "each keeps one");
            let stats = pool.stats();
            assert_eq!((stats.buffers, stats.memory_used, stats.memory_recycled), (0, 0, 2 * PAGE as u64));
            pool.trim();
            let stats = pool.stats();
            assert_eq!((stats.buffers, stats.memory_used, stats.memory_recycled), (0, 0, 0));
            assert_eq!(count(&pool.state), (0, 0));
            pool.check_invariants();
        });
    }

    /// A thread keeps a frame of a pool that another thread then fills.
    #[test]
    fn the_last_page_of_the_limit_is_not_kept_from_others() {
        let _alone = lock(&ALONE);
        let pool = small_pool();
        beside_a_thread_that_keeps(&pool, || {
            let mut buffer = pool.buffer();
            buffer.write_all(&vec![8; 16 * PAGE]).unwrap();
            assert!(!buffer.is_spilled());
        });
    }

    /// What a thread keeps has a reference to its pool.
    #[test]
    fn a_pool_ends_with_its_last_handle_though_threads_keep_something_of_it() {
        let _alone = lock(&ALONE);
        let pool = small_pool();
        let state = Arc::downgrade(&pool.state);
        make_body(&pool);
        let (other, mut buffer) = (pool.clone(), pool.buffer());
        let mut pool = Some(pool);
        beside_a_thread_that_keeps(&other, || {
            drop(pool.take());
            buffer.write_all(&[1; 100]).unwrap();
        });
        assert!(count(&other.state).0 >= 1, "there is a handle");
        drop(other);
        assert_eq!(count(&state.upgrade().unwrap()).0, 0);
        drop(buffer);
        assert!(state.upgrade().is_none(), "the thread that dropped the buffer keeps it");
    }

    #[test]
    fn pools_take_turns_in_a_place() {
        let _alone = lock(&ALONE);
        let pools = [small_pool(), small_pool()];
        for pool in [&pools[0], &pools[1], &pools[0]] {
            make_body(pool);
            assert_eq!(count(&pool.state), (1, PAGE as u64));
            assert_eq!(pool.stats().buffers, 0);
        }
        assert_eq!(count(&pools[1].state).0, 0);
        assert_eq!(pools[1].stats().memory_recycled, PAGE as u64, "all threads keep it now");
        pools.iter().for_each(SpillPool::check_invariants);
    }

    /// Frames that are recycled are charged, so memory looked short for good once a pool had been full.
    #[test]
    fn a_pool_that_was_full_has_memory_again() {
        let _alone = lock(&ALONE);
        let pool = small_pool();
        let mut large = pool.buffer();
        large.write_all(&vec![8; 16 * PAGE]).unwrap();
        make_body(&pool);
        assert_eq!(count(&pool.state).0, 0, "there is none to spare");
        drop(large);
        assert_eq!(pool.state.frames.budget().used(), 16 * PAGE as u64);
        make_body(&pool);
        assert_eq!(count(&pool.state).0, 1);
    }

    /// A buffer that outlived its pool's handles took the place of what could be used.
    #[test]
    fn what_has_ended_takes_no_place_of_another() {
        let _alone = lock(&ALONE);
        let (pool, ended) = (small_pool(), small_pool());
        let mut buffer = ended.buffer();
        buffer.write_all(&[1; 100]).unwrap();
        drop(ended);
        make_body(&pool);
        drop(buffer);
        assert_eq!(count(&pool.state).0, 1);
    }

    /// Sixteen threads that a program began with could keep all others without a place for good.
    #[test]
    fn a_thread_that_does_without_gets_what_another_leaves() {
        let _alone = lock(&ALONE);
        let pool = SpillPool::builder().memory(4 * THREADS_MAX * PAGE).build().unwrap();
        let (gate, (ended, have_ended)) = (std::sync::Barrier::new(THREADS_MAX + 1), channel::<()>());
        thread::scope(|scope| {
            let others: Vec<_> = (0..THREADS_MAX)
                .map(|_| {
                    scope.spawn(|| {
                        make_body(&pool);
                        gate.wait(); // all have asked
                        gate.wait(); // and so has the late one
                    })
                })
                .collect();
            let late = scope.spawn(|| {
                gate.wait();
                make_body(&pool);
                gate.wait();
                have_ended.into_iter().for_each(drop);
                // Threads of other tests may have taken what was left.
                let has_one = || with_mine(|mine| matches!(mine, Mine::Some(_))) == Some(true);
                (0..1000).any(|_| {
                    (0..2).for_each(|_| make_body(&pool));
                    has_one() || {
                        thread::sleep(std::time::Duration::from_millis(1));
                        false
                    }
                })
            });
            others.into_iter().for_each(|other| other.join().unwrap());
            drop(ended);
            assert!(late.join().unwrap());
        });
    }

    /// There are places for fewer threads than a process may have made.
    #[test]
    fn a_thread_that_ends_leaves_its_places_to_the_next() {
        let _alone = lock(&ALONE);
        let pool = small_pool();
        for _ in 0..4 * THREADS_MAX {
            let has_one = || {
                make_body(&pool);
                with_mine(|mine| matches!(mine, Mine::Some(_))) == Some(true)
            };
            assert!(thread::scope(|scope| scope.spawn(has_one).join()).unwrap());
        }
    }

    /// More threads than have places: the others do without, and nothing is lost.
    #[test]
    fn more_threads_than_places() {
        let _alone = lock(&ALONE);
        let pool = small_pool();
        let state = Arc::downgrade(&pool.state);
        let barrier = std::sync::Barrier::new(2 * THREADS_MAX);
        thread::scope(|scope| {
            for _ in 0..2 * THREADS_MAX {
                scope.spawn(|| {
                    make_body(&pool);
                    make_body(&pool);
                    barrier.wait();
                });
            }
        });
        assert_eq!((pool.stats().buffers, pool.stats().memory_used), (0, 0));
        pool.check_invariants();
        drop(pool);
        assert!(state.upgrade().is_none());
    }
}
