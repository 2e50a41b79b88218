//! loom models: every interleaving, within a bound on preemptions, of what threads do to a pool.
//!
//! `RUSTFLAGS="--cfg overspill_loom" cargo test -p overspill --release models` runs them;
//! `.ci/weaken-pool` weakens an ordering or a lock at a time, and expects one of them to fail.

use crate::disk::quota::{Quota, Ticket};
use crate::disk::store::Store;
use crate::memory::budget::Budget;
use crate::memory::frame_pool::FramePool;
use crate::observe::stats::SpillReason;
use crate::pager::state::Pager;
use crate::pool::member::PeerTable;
use crate::pool::reclaim::Reclaimed;
use crate::pool::state::PoolState;
use crate::pool::when_full::WhenFull;
use crate::sync::biased::{Owner, Peer, TryLock};
use crate::sync::{Arc, ThreadWaker, park_until};
use loom::thread;
use overspill_core::{Medium, ReadMedium};
use std::io;
use std::task::Context;
use std::time::Duration;

/// Bytes of a page: the content of all models fits in two.
const PAGE: usize = 8;

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

// ---- the lock biased to its owner

/// Adds one to each value where nobody else is, and says to how many.
fn visit(peers: &[Peer<usize, ()>]) -> usize {
    Peer::try_with_each(peers.iter().map(|peer| ((), peer)), |(), n| *n += 1).len()
}

/// Guards: the owner and a peer are never inside together, and each sees what the other did there.
#[test]
fn owner_and_peer_take_turns() {
    explore(4, || {
        let mut owner = Owner::new(0, ());
        let peer = owner.peer();
        let visitor = thread::spawn(move || visit(&[peer]));
        let quick = owner.try_with(|n| *n += 1).map_or(0, |()| 1);
        owner.with(|n| *n += 1);
        let visits = visitor.join().unwrap();
        assert_eq!(owner.with(|n| *n), quick + 1 + visits);
    });
}

/// Guards: a lock that nobody waits for lets one in at a time, and shows it what the last one did.
#[test]
fn one_at_a_time_tries_and_gets_in() {
    explore(4, || {
        let lock = Arc::new(TryLock::<u32>::default());
        let visit = |lock: &TryLock<u32>| lock.try_with(|n| *n += 1).map_or(0, |()| 1);
        let visitors = [0, 1].map(|_| {
            let lock = Arc::clone(&lock);
            thread::spawn(move || visit(&lock))
        });
        let visits = visit(&lock) + visitors.into_iter().map(|visitor| visitor.join().unwrap()).sum::<u32>();
        assert_eq!(lock.try_with(|n| *n), Some(visits));
    });
}

/// Guards: two peers at the same door go in one after the other.
#[test]
fn peers_take_turns() {
    explore(3, || {
        let mut owner = Owner::new(0, ());
        let visitors = [owner.peer(), owner.peer()].map(|peer| thread::spawn(move || visit(&[peer])));
        owner.with(|n| *n += 1);
        let visits: usize = visitors.into_iter().map(|visitor| visitor.join().unwrap()).sum();
        assert_eq!(owner.with(|n| *n), 1 + visits);
    });
}

/// Guards: who goes to several for one fence is alone with each of them as well.
#[test]
fn a_peer_of_two_takes_turns_with_both_owners() {
    explore(3, || {
        let mut owners = [Owner::new(0, ()), Owner::new(0, ())];
        let peers = [owners[1].peer(), owners[0].peer()];
        let visitor = thread::spawn(move || visit(&peers));
        let quick = owners.iter_mut().filter_map(|owner| owner.try_with(|n| *n += 1)).count();
        let visits = visitor.join().unwrap();
        assert_eq!(owners.map(|mut owner| owner.with(|n| *n)).iter().sum::<usize>(), quick + visits);
    });
}

// ---- the budget and the free list

/// Guards I2: whoever asks at the same moment, what is granted never passes the limit.
#[test]
fn a_budget_is_never_passed() {
    explore(4, || {
        let budget = Arc::new(Budget::new(10));
        let takers = [6, 4].map(|bytes| {
            let budget = Arc::clone(&budget);
            thread::spawn(move || {
                let granted = budget.reserve(bytes);
                assert!(granted.is_err() || granted.unwrap() <= 10);
                assert!(budget.used() <= 10);
                if granted.is_ok() {
                    budget.release(bytes);
                }
            })
        });
        let granted = budget.reserve(5).is_ok();
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(budget.used(), if granted { 5 } else { 0 });
    });
}

/// Guards: a recycled frame is handed out once, and stays charged all the way.
#[test]
fn a_recycled_frame_has_one_taker() {
    explore(3, || {
        let frames = Arc::new(FramePool::new(PAGE as u64, PAGE));
        frames.recycle(frames.acquire(PAGE).unwrap());
        let other = Arc::clone(&frames);
        let taker = thread::spawn(move || {
            let frame = other.acquire(PAGE);
            let got = frame.is_some();
            frame.into_iter().for_each(|frame| other.recycle(frame));
            got
        });
        let frame = frames.acquire(PAGE);
        let got = taker.join().unwrap();
        assert!(frame.is_some() || got, "one of two gets it");
        frame.into_iter().for_each(|frame| frames.recycle(frame));
        assert_eq!(frames.recycled_bytes(), frames.budget().used());
        assert!(frames.high_water() <= PAGE as u64);
    });
}

// ---- waiting for room

/// Blocks as [`Pager::retry_after_waits`] does. If a wake-up is lost, nobody is left to run, and loom says so.
fn await_turn(ticket: &Ticket) {
    let waker = ThreadWaker::waker();
    while ticket.poll(&Context::from_waker(&waker)).is_pending() {
        park_until(None);
    }
}

fn full_quota() -> Arc<Quota> {
    let quota = Arc::new(Quota::new(10));
    quota.reserve(10, None).unwrap();
    quota
}

/// Guards: who waits is told of what others give back, piece by piece, and has it for itself.
#[test]
fn what_comes_free_wakes_who_waits() {
    explore(3, || {
        let quota = full_quota();
        let theirs = Arc::clone(&quota);
        let freer = thread::spawn(move || {
            theirs.release(4);
            theirs.release(3);
        });
        let ticket = quota.enter(6);
        await_turn(&ticket);
        quota.reserve(6, Some(&ticket)).unwrap();
        drop(ticket);
        freer.join().unwrap();
        assert_eq!((quota.used(), quota.set_aside(), quota.high_water()), (9, 0, 10));
    });
}

/// Guards: a limit that is raised wakes who waits.
#[test]
fn a_raised_limit_wakes_who_waits() {
    explore(3, || {
        let quota = full_quota();
        let theirs = Arc::clone(&quota);
        let raiser = thread::spawn(move || theirs.set_limit(16));
        let ticket = quota.enter(6);
        await_turn(&ticket);
        quota.reserve(6, Some(&ticket)).unwrap();
        raiser.join().unwrap();
    });
}

/// Guards: who leaves the queue passes its turn, and what it was granted, to the next.
#[test]
fn who_leaves_the_queue_passes_its_turn_on() {
    explore(2, || {
        let quota = full_quota();
        let first = quota.enter(6);
        let second = quota.enter(5);
        let theirs = Arc::clone(&quota);
        let freer = thread::spawn(move || theirs.release(5));
        let leaver = thread::spawn(move || drop(first));
        await_turn(&second);
        quota.reserve(5, Some(&second)).unwrap();
        freer.join().unwrap();
        leaver.join().unwrap();
        drop(second);
        assert_eq!((quota.used(), quota.set_aside()), (10, 0));
    });
}

/// Guards: memory that comes free wakes who waits for disk, since it may do instead.
#[test]
fn memory_that_comes_free_wakes_who_waits() {
    explore(3, || {
        let (quota, memory) = (full_quota(), Arc::new(Budget::new(PAGE as u64)));
        memory.reserve(PAGE as u64).unwrap();
        let (theirs, freed) = (Arc::clone(&quota), Arc::clone(&memory));
        let freer = thread::spawn(move || {
            freed.release(PAGE as u64);
            theirs.wake_waiters();
        });
        let ticket = quota.enter(6);
        while memory.reserve(PAGE as u64).is_err() {
            await_turn(&ticket);
        }
        freer.join().unwrap();
    });
}

/// Guards: a buffer that waits for room while another goes, as a whole.
#[test]
fn a_buffer_waits_for_another_to_go() {
    explore(2, || {
        let store = Box::new(Shelf::default());
        let pool = PoolState::new(0, PAGE as u64, PAGE, store, None);
        let patient = WhenFull::Wait { at_most: Duration::MAX };
        let pool = Arc::new(PoolState { when_full: patient, ..pool });
        let mut before = Pager::new(Arc::clone(&pool));
        before.write_at(0, &[1; PAGE]).unwrap();
        let mut pager = Pager::new(Arc::clone(&pool));
        let goer = thread::spawn(move || drop(before));
        assert_eq!(pager.write_at(0, &[2; PAGE]).unwrap(), PAGE);
        goer.join().unwrap();
        assert_eq!(content(&mut pager), [2; PAGE]);
        pool.check_quiet();
    });
}

// ---- taking a page back

/// A store that loom does not look into: slots never overlap, so there is nothing to order.
#[derive(Debug, Default)]
struct Shelf {
    bytes: std::sync::Mutex<Vec<u8>>,
    refuses: bool,
}

impl Store for Shelf {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.bytes.lock().unwrap()[at..at + buf.len()]);
        Ok(buf.len())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        if self.refuses {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (at, mut bytes) = (usize::try_from(offset).unwrap(), self.bytes.lock().unwrap());
        if bytes.len() < at + data.len() {
            bytes.resize(at + data.len(), 0);
        }
        bytes[at..at + data.len()].copy_from_slice(data);
        Ok(data.len())
    }
}

/// A buffer of two pages, `[1; 8]` and `[2; 8]`, the second of which is the window; and somebody who
/// takes one page back meanwhile, the first unless that is in use.
fn against_a_taker(refuses: bool, owner: impl Fn(Pager) -> Option<Pager> + Sync + Send + 'static) {
    against_a_taker_of(1, refuses, owner);
}

/// The same, but for up to `most` pages that are taken in one go.
fn against_a_taker_of(
    most: usize,
    refuses: bool,
    owner: impl Fn(Pager) -> Option<Pager> + Sync + Send + 'static,
) {
    explore(2, move || {
        let store = Box::new(Shelf { refuses, ..Shelf::default() });
        let pool = Arc::new(PoolState::new(4 * PAGE, 8 * PAGE as u64, PAGE, store, None));
        let mut pager = Pager::new(Arc::clone(&pool));
        pager.write_at(0, &[1; PAGE]).unwrap();
        pager.write_at(PAGE as u64, &[2; PAGE]).unwrap();
        let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
        let taker = thread::spawn(move || reclaim(&theirs, &[peer], most, refuses));
        let left = owner(pager);
        taker.join().unwrap();
        if let Some(mut pager) = left {
            pager.check_invariants();
        }
        pool.trim();
        pool.check_quiet();
        assert_eq!((pool.frames.budget().used(), pool.disk.quota().used()), (0, 0));
    });
}

fn reclaim(pool: &PoolState, peers: &[PeerTable], most: usize, refuses: bool) {
    match pool.reclaim(peers, SpillReason::Reclaimed, most) {
        Reclaimed::FramePool(frames) => {
            assert!((1..=most * peers.len()).contains(&frames.len()));
            for frame in frames {
                // The owner has abandoned a page that could not be written, or nothing was to be written.
                assert!(!refuses || frame.capacity() == PAGE);
                pool.frames.recycle(frame);
            }
        }
        Reclaimed::Nothing => {}
        Reclaimed::StoreRefused => assert!(refuses),
    }
}

fn content(pager: &mut Pager) -> Vec<u8> {
    let mut bytes = vec![9; usize::try_from(pager.len()).unwrap()];
    let (mut at, len) = (0, bytes.len());
    while at < len {
        at += pager.read_at(at as u64, &mut bytes[at..]).unwrap();
    }
    bytes
}

fn two_pages(first: u8, second: u8) -> Vec<u8> {
    [[first; PAGE], [second; PAGE]].concat()
}

/// Guards I4: what is read does not depend on a page being on its way.
#[test]
fn a_page_is_taken_while_its_owner_reads() {
    against_a_taker(false, |mut pager| {
        assert_eq!(content(&mut pager), two_pages(1, 2));
        Some(pager)
    });
}

/// Guards I1: what is written while the page leaves is not lost with the frame.
#[test]
fn a_page_is_taken_while_its_owner_writes() {
    against_a_taker(false, |mut pager| {
        assert_eq!(pager.write_at(2, &[7; 3]).unwrap(), 3);
        let mut wanted = two_pages(1, 2);
        wanted[2..5].fill(7);
        assert_eq!(content(&mut pager), wanted);
        None
    });
}

/// Guards: the window is taken as well, and the owner's shortest way in notices.
#[test]
fn the_window_is_taken_while_its_owner_writes() {
    against_a_taker(false, |mut pager| {
        pager.set_len(PAGE as u64).unwrap();
        let mut position = 3;
        if !pager.write_window(&mut position, &[7]) {
            pager.write_at(position, &[7]).unwrap();
        }
        let mut wanted = vec![1; PAGE];
        wanted[3] = 7;
        assert_eq!(content(&mut pager), wanted);
        None
    });
}

/// Guards: a page that is cut off, or cut in two, while it leaves. What is past the cut reads as zeros.
#[test]
fn a_page_is_taken_while_its_owner_truncates() {
    against_a_taker(false, |mut pager| {
        pager.set_len(3).unwrap();
        pager.set_len(5).unwrap();
        assert_eq!(content(&mut pager), [1, 1, 1, 0, 0]);
        None
    });
}

/// Guards: a page that is not needed any more leaves the account at once, whoever has its frame.
#[test]
fn a_page_is_taken_while_its_owner_clears() {
    against_a_taker(false, |mut pager| {
        pager.set_len(0).unwrap();
        Some(pager)
    });
}

/// Guards: a buffer dropped while its page leaves. The taker frees the slot that nobody needs.
#[test]
fn a_page_is_taken_while_its_owner_is_dropped() {
    against_a_taker(false, |_| None);
}

/// Guards I3: a page that the store refuses comes back, and the owner finds it.
#[test]
fn a_page_that_cannot_be_written_comes_back() {
    against_a_taker(true, |mut pager| {
        assert_eq!(content(&mut pager), two_pages(1, 2));
        Some(pager)
    });
}

/// Guards: a page that the store refuses, of a buffer that is gone by then.
#[test]
fn a_page_that_cannot_be_written_of_a_buffer_that_is_dropped() {
    against_a_taker(true, |_| None);
}

/// Guards I1: two pages that leave together, in one write, and arrive one after the other.
#[test]
fn both_pages_are_taken_while_their_owner_writes() {
    against_a_taker_of(2, false, |mut pager| {
        let mut at = 6;
        while at < 9 {
            at += pager.write_at(at as u64, &[7; 3][at - 6..]).unwrap();
        }
        let mut wanted = two_pages(1, 2);
        wanted[6..9].fill(7);
        assert_eq!(content(&mut pager), wanted);
        None
    });
}

/// Guards I3: two pages that the store refuses together, one of which its owner does not need any more.
#[test]
fn both_pages_are_refused_while_their_owner_truncates() {
    against_a_taker_of(2, true, |mut pager| {
        pager.set_len(PAGE as u64).unwrap();
        assert_eq!(content(&mut pager), [1; PAGE]);
        Some(pager)
    });
}

/// A buffer of one page, `[1; 8]`, another, `[2; 8]`, and somebody who takes back both in one go.
fn two_against_a_taker(refuses: bool, owner: impl Fn([Pager; 2]) + Sync + Send + 'static) {
    explore(2, move || {
        let store = Box::new(Shelf { refuses, ..Shelf::default() });
        let pool = Arc::new(PoolState::new(4 * PAGE, 8 * PAGE as u64, PAGE, store, None));
        let mut pagers = [Pager::new(Arc::clone(&pool)), Pager::new(Arc::clone(&pool))];
        pagers[0].write_at(0, &[1; PAGE]).unwrap();
        pagers[1].write_at(0, &[2; PAGE]).unwrap();
        let (peers, theirs) = (pagers.each_ref().map(|pager| pager.own_table().peer()), Arc::clone(&pool));
        let taker = thread::spawn(move || reclaim(&theirs, &peers, 1, refuses));
        owner(pagers);
        taker.join().unwrap();
        pool.trim();
        pool.check_quiet();
        assert_eq!((pool.frames.budget().used(), pool.disk.quota().used()), (0, 0));
    });
}

/// Guards I1: pages of two buffers that leave together, in one write, while one is written to and the other read.
#[test]
fn pages_of_two_are_taken_while_their_owners_go_on() {
    two_against_a_taker(false, |[mut first, mut second]| {
        assert_eq!(first.write_at(2, &[7; 3]).unwrap(), 3);
        assert_eq!(content(&mut second), [2; PAGE]);
        assert_eq!(content(&mut first), [1, 1, 7, 7, 7, 1, 1, 1]);
    });
}

/// Guards I3: pages of two buffers that the store refuses together, when one of the buffers is gone.
#[test]
fn pages_of_two_are_refused_while_one_of_them_is_dropped() {
    two_against_a_taker(true, |[first, mut second]| {
        drop(first);
        assert_eq!(content(&mut second), [2; PAGE]);
    });
}
