//! loom models of the queue for disk room, and of calls that wait in it.
//!
//! Held by: `.ci/weaken-pool`.

use crate::disk::quota::{Quota, Ticket};
use crate::memory::budget::Budget;
use crate::memory::frame::Frame;
use crate::models::{PAGE, VecStore, content, explore, reclaim};
use crate::pager::state::Pager;
use crate::pool::registry::Effort;
use crate::pool::state::PoolState;
use crate::pool::when_full::WhenFull;
use crate::sync::{Arc, ThreadWaker, fences, park_until};
use loom::thread;
use overspill_core::{Medium, ReadMedium};
use std::task::Context;
use std::time::Duration;

/// Blocks as [`Pager::retry_after_waits`] does. If a wake-up is lost, no thread can run, and loom reports a
/// deadlock.
fn await_turn(ticket: &Ticket) {
    let waker = ThreadWaker::waker().unwrap();
    while ticket.poll(&Context::from_waker(&waker)).is_pending() {
        park_until(None);
    }
}

fn full_quota() -> Arc<Quota> {
    let quota = Arc::new(Quota::new(10));
    quota.reserve(10, None).unwrap();
    quota
}

/// Guards: bytes that come free piece by piece wake the waiter, and are set aside for it.
#[test]
fn bytes_that_come_free_wake_the_waiter() {
    explore(3, || {
        let quota = full_quota();
        let theirs = Arc::clone(&quota);
        let releaser = thread::spawn(move || {
            theirs.release(4);
            theirs.release(3);
        });
        let ticket = quota.enter(6, None).unwrap();
        await_turn(&ticket);
        quota.reserve(6, Some(&ticket)).unwrap();
        drop(ticket);
        releaser.join().unwrap();
        assert_eq!((quota.used(), quota.set_aside(), quota.high_water()), (9, 0, 10));
    });
}

/// Guards: bytes that come free while a waiter that needs more tries to use what was set aside for it. They
/// were set aside as if nothing had been before, and what it had taken and could not use came on top: more
/// than it had requested, and the next sum went below 0.
#[test]
fn a_waiter_is_set_aside_no_more_than_it_requests() {
    explore(3, || {
        let quota = full_quota();
        let ticket = quota.enter(6, None).unwrap();
        quota.release(4);
        let theirs = Arc::clone(&quota);
        let releaser = thread::spawn(move || {
            theirs.release(4);
            theirs.release(1);
        });
        let is_reserved = quota.reserve(9, Some(&ticket)).is_ok();
        releaser.join().unwrap();
        assert!(quota.set_aside() <= 6 && quota.used() <= 10);
        drop(ticket);
        assert_eq!((quota.used(), quota.set_aside()), (if is_reserved { 10 } else { 1 }, 0));
    });
}

/// Guards: a request that comes later takes none of the room that a waiter waits for, and so cannot starve
/// it.
#[test]
fn a_late_request_does_not_pass_the_waiter() {
    explore(3, || {
        let quota = full_quota();
        let ticket = quota.enter(6, None).unwrap();
        let theirs = Arc::clone(&quota);
        let releaser = thread::spawn(move || {
            theirs.release(4);
            theirs.release(3);
        });
        let is_taken = quota.reserve(2, None).is_ok();
        await_turn(&ticket);
        assert!(!is_taken);
        quota.reserve(6, Some(&ticket)).unwrap();
        releaser.join().unwrap();
    });
}

/// Guards: raising the limit wakes the waiter.
#[test]
fn a_raised_limit_wakes_the_waiter() {
    explore(3, || {
        let quota = full_quota();
        let theirs = Arc::clone(&quota);
        let raiser = thread::spawn(move || theirs.set_limit(16));
        let ticket = quota.enter(6, None).unwrap();
        await_turn(&ticket);
        quota.reserve(6, Some(&ticket)).unwrap();
        raiser.join().unwrap();
    });
}

/// Guards: a ticket that leaves the queue passes its turn, and the bytes set aside for it, to the next.
#[test]
fn a_ticket_that_leaves_the_queue_passes_its_turn_on() {
    explore(2, || {
        let quota = full_quota();
        let first = quota.enter(6, None).unwrap();
        let second = quota.enter(5, None).unwrap();
        let theirs = Arc::clone(&quota);
        let releaser = thread::spawn(move || theirs.release(5));
        let leaver = thread::spawn(move || drop(first));
        await_turn(&second);
        quota.reserve(5, Some(&second)).unwrap();
        releaser.join().unwrap();
        leaver.join().unwrap();
        drop(second);
        assert_eq!((quota.used(), quota.set_aside()), (10, 0));
    });
}

/// Guards: a waiter that goes back to waiting releases what was set aside for it. A request that found this
/// free did not find the waiter yet, and passed it.
#[test]
fn what_a_waiter_releases_is_not_taken_past_it() {
    explore(3, || {
        let quota = full_quota();
        let ticket = quota.enter(6, None).unwrap();
        quota.release(6);
        let theirs = Arc::clone(&quota);
        let late = thread::spawn(move || {
            if has_free_bytes(&theirs) {
                assert!(theirs.reserve(2, None).is_err());
            }
        });
        ticket.ask(7, None);
        late.join().unwrap();
        assert_eq!((quota.used(), quota.waiting()), (4, 1));
    });
}

fn has_free_bytes(quota: &Quota) -> bool {
    let is_free = quota.used() < 10;
    fences::full();
    is_free
}

/// Guards: memory that comes free wakes the waiter for disk, since it may use that instead.
#[test]
fn memory_that_comes_free_wakes_the_waiter() {
    explore(3, || {
        let (quota, memory) = (full_quota(), Arc::new(Budget::new(PAGE as u64)));
        memory.reserve(PAGE as u64).unwrap();
        let (theirs, freed) = (Arc::clone(&quota), Arc::clone(&memory));
        let releaser = thread::spawn(move || {
            freed.release(PAGE as u64);
            theirs.wake_waiters();
        });
        let ticket = quota.enter(6, None).unwrap();
        while memory.reserve(PAGE as u64).is_err() {
            await_turn(&ticket);
        }
        releaser.join().unwrap();
    });
}

/// Runs a waiter for memory, while one thread frees a frame by `free`, and two look whether some came free.
fn during_a_wait_for_memory(free: impl Fn(&PoolState, Frame) + Copy + Send + Sync + 'static) {
    explore(2, move || {
        let pool = Arc::new(PoolState::new(PAGE, 0, PAGE, Box::new(VecStore::default()), None));
        let frame = pool.frames.acquire(PAGE).unwrap();
        let theirs = Arc::clone(&pool);
        let freer = thread::spawn(move || {
            free(&theirs, frame);
            theirs.tell_waiters();
        });
        let theirs = Arc::clone(&pool);
        let teller = thread::spawn(move || theirs.tell_waiters());
        let ticket = pool.disk.quota().enter(6, None).unwrap();
        while pool.frames.acquire(PAGE).is_none() {
            await_turn(&ticket);
        }
        freer.join().unwrap();
        teller.join().unwrap();
    });
}

/// Guards: a frame that is dropped wakes the waiter, though another thread may be the one that says so.
#[test]
fn a_frame_that_is_dropped_wakes_the_waiter() {
    during_a_wait_for_memory(|_, frame| drop(frame));
}

/// Guards: so does one that is recycled, and stays charged.
#[test]
fn a_frame_that_is_recycled_wakes_the_waiter() {
    during_a_wait_for_memory(|pool, frame| pool.frames.recycle(frame));
}

/// Guards: a waiter that was woken for memory, and found that another had taken it, is woken again.
#[test]
fn a_waiter_that_finds_nothing_waits_again() {
    explore(2, || {
        let pool = Arc::new(PoolState::new(PAGE, 0, PAGE, Box::new(VecStore::default()), None));
        let frame = pool.frames.acquire(PAGE).unwrap();
        let use_one = |pool: &PoolState| {
            let ticket = pool.disk.quota().enter(6, None).unwrap();
            let frame = loop {
                match pool.frames.acquire(PAGE) {
                    Some(frame) => break frame,
                    None => await_turn(&ticket),
                }
            };
            drop(frame);
            pool.tell_waiters();
        };
        let theirs = Arc::clone(&pool);
        let other = thread::spawn(move || use_one(&theirs));
        drop(frame);
        pool.tell_waiters();
        use_one(&pool);
        other.join().unwrap();
        assert_eq!((pool.disk.quota().waiting(), pool.frames.budget().used()), (0, 0));
    });
}

/// Guards: memory that comes free while a waiter is served, and after it has looked there for the last time.
/// It then went back to waiting, for more disk than it had been served, and slept beside the memory.
#[test]
fn memory_that_comes_free_beside_a_served_waiter_is_found() {
    explore(3, || {
        let pool = PoolState::new(PAGE, PAGE as u64, PAGE, Box::new(VecStore::default()), None);
        let pool = Arc::new(pool);
        let frame = pool.frames.acquire(PAGE).unwrap();
        let ticket = pool.disk.quota().enter(PAGE as u64, None).unwrap();
        assert_eq!(pool.disk.quota().waiting(), 0);
        let theirs = Arc::clone(&pool);
        let freer = thread::spawn(move || {
            theirs.frames.recycle(frame);
            theirs.tell_waiters();
        });
        while pool.frames.acquire(PAGE).is_none() {
            ticket.ask(2 * PAGE as u64, None);
            await_turn(&ticket);
        }
        freer.join().unwrap();
    });
}

/// Guards: a shared page that is let go while a waiter searches. Either the search finds it, or what lets it
/// go finds that there was a search.
#[test]
fn a_shared_page_that_is_let_go_wakes_the_waiter() {
    explore(3, || {
        let (pool, mut pager) = one_clean_page();
        let page = pager.table(|table| table.share(0)).unwrap();
        let theirs = Arc::clone(&pool);
        let reader = thread::spawn(move || {
            drop(page);
            theirs.tell_let_go();
        });
        await_memory_of_others(&pool);
        reader.join().unwrap();
        drop(pager);
    });
}

/// Guards: a window that was lent comes back while a waiter searches: it came free to leave, and no memory
/// did.
#[test]
fn a_lent_window_that_comes_back_wakes_the_waiter() {
    explore(3, || {
        let (pool, mut pager) = one_clean_page();
        assert_eq!(pager.lend_chunk(0).unwrap().len(), LARGE_PAGE);
        let owner = thread::spawn(move || {
            pager.end_loan();
            pager
        });
        await_memory_of_others(&pool);
        drop(owner.join().unwrap());
    });
}

/// A page of which others may have a part.
const LARGE_PAGE: usize = 1 << 10;

/// A buffer that has all memory, in one page that could leave without the store.
fn one_clean_page() -> (Arc<PoolState>, Pager) {
    let disk = LARGE_PAGE as u64;
    let pool = PoolState::new(LARGE_PAGE, disk, LARGE_PAGE, Box::new(VecStore::default()), None);
    let pool = Arc::new(pool);
    let mut pager = Pager::new(&pool);
    pager.write_at(0, &[1; LARGE_PAGE]).unwrap();
    pager.spill().unwrap();
    pager.read_at(0, &mut [0; 2]).unwrap();
    assert_eq!(pool.frames.budget().used(), disk);
    (pool, pager)
}

/// Searches for memory, enters the queue, searches again, and then after each wake-up.
fn await_memory_of_others(pool: &PoolState) {
    let requester = pool.open_table().unwrap();
    let search = || pool.acquire_frame(LARGE_PAGE / 16, 0, Effort::Idle, &requester);
    let frame = search().unwrap_or_else(|| {
        let ticket = pool.disk.quota().enter(2 * LARGE_PAGE as u64, None).unwrap();
        loop {
            match search() {
                Some(frame) => break frame,
                None => await_turn(&ticket),
            }
        }
    });
    pool.frames.recycle(frame);
    pool.close_reader(&requester);
}

/// Guards: a waiter that was served tries again, needs more by then, and is served with that, in its turn.
#[test]
fn a_waiter_that_requests_more_is_served_with_more() {
    explore(3, || {
        let quota = full_quota();
        let theirs = Arc::clone(&quota);
        let releaser = thread::spawn(move || {
            theirs.release(4);
            theirs.release(4);
        });
        let ticket = quota.enter(4, None).unwrap();
        await_turn(&ticket);
        assert!(quota.reserve(3, None).is_err() || quota.used() <= 10);
        while quota.reserve(5, Some(&ticket)).is_err() {
            ticket.ask(5, None);
            await_turn(&ticket);
        }
        drop(ticket);
        releaser.join().unwrap();
        assert_eq!(quota.set_aside(), 0);
        assert!(quota.used() <= 10);
    });
}

/// Guards: a whole buffer that waits for room while another buffer is dropped.
#[test]
fn a_buffer_waits_until_another_is_dropped() {
    explore(2, || {
        let store = Box::new(VecStore::default());
        let pool = PoolState::new(0, PAGE as u64, PAGE, store, None);
        let when_full = WhenFull::Wait { at_most: Duration::MAX };
        let pool = Arc::new(PoolState { when_full, ..pool });
        let mut first = Pager::new(&pool);
        first.write_at(0, &[1; PAGE]).unwrap();
        let mut pager = Pager::new(&pool);
        let dropper = thread::spawn(move || drop(first));
        assert_eq!(pager.write_at(0, &[2; PAGE]).unwrap(), PAGE);
        dropper.join().unwrap();
        assert_eq!(content(&mut pager), [2; PAGE]);
        pool.check_quiet();
    });
}

/// Guards: a buffer that waits for the slot of a page that is reclaimed, while that page's buffer is dropped.
/// The slot is freed in the middle of the reclaim, which serves the queue at its end.
#[test]
fn a_buffer_waits_until_a_reclaim_has_freed_a_slot() {
    explore(2, || {
        let pool = PoolState::new(PAGE, PAGE as u64, PAGE, Box::new(VecStore::default()), None);
        let when_full = WhenFull::Wait { at_most: Duration::MAX };
        let pool = Arc::new(PoolState { when_full, ..pool });
        let mut donor = Pager::new(&pool);
        donor.write_at(0, &[1; PAGE]).unwrap();
        let mut pager = Pager::new(&pool);
        pager.limit(0, u64::MAX);
        let (peer, theirs) = (donor.own_table().peer(), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], 1, false));
        drop(donor);
        assert_eq!(pager.write_at(0, &[2; PAGE]).unwrap(), PAGE);
        reclaimer.join().unwrap();
        assert_eq!(content(&mut pager), [2; PAGE]);
        drop(pager);
        pool.trim();
        pool.check_quiet();
    });
}
