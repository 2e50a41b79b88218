//! loom models of a pool: each runs every interleaving of a few threads, within a bound on preemptions.
//!
//! `RUSTFLAGS="--cfg overspill_loom" cargo test -p overspill --release models` runs them.
//!
//! Those of the lock are in `models/lock.rs`, those of the queue for room in `models/waiting.rs`, those of
//! files in `models/files.rs`, those of given memory in `models/given.rs`, those of shared content in
//! `models/content.rs`, `models/clones.rs` and `models/spool.rs`, those of jobs in `models/offload.rs` and,
//! with the feature `tokio`, `models/ahead.rs`, those of the places of threads in `models/places.rs`, and
//! those of the chunks at the end of `memory/chunks.rs`.
//!
//! Held by: `.ci/weaken-pool`, which weakens one ordering, lock or rule at a time, and expects a model to
//! fail.

#[cfg(feature = "tokio")]
mod ahead;
mod clones;
mod content;
mod files;
mod given;
mod lock;
mod offload;
mod places;
mod spool;
mod waiting;

use crate::disk::store::Store;
use crate::memory::budget::Budget;
use crate::memory::frame_pool::FramePool;
use crate::observe::stats::SpillReason;
use crate::pager::state::Pager;
use crate::pool::member::PeerTable;
use crate::pool::reclaim::{Reclaimed, Take};
use crate::pool::registry::{Demand, Effort};
use crate::pool::state::PoolState;
use crate::sync::Arc;
use loom::thread;
use overspill_core::{Medium, ReadMedium};
use std::io;

/// Bytes of a page. No model has more than two pages of content.
const PAGE: usize = 8;

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

// ---- the budget and the free lists

/// Guards I2: reservations at the same moment never take the used bytes past the limit.
#[test]
fn a_limit_is_never_passed() {
    explore(4, || {
        let budget = Arc::new(Budget::new(10));
        let others = [6, 4].map(|bytes| {
            let budget = Arc::clone(&budget);
            thread::spawn(move || {
                let reserved = budget.reserve(bytes);
                assert!(reserved.is_err() || reserved.unwrap() <= 10);
                assert!(budget.used() <= 10);
                if reserved.is_ok() {
                    budget.release(bytes);
                }
            })
        });
        let is_reserved = budget.reserve(5).is_ok();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(budget.used(), if is_reserved { 5 } else { 0 });
    });
}

/// Guards: a recycled frame is handed out once, and stays charged throughout.
/// Guards: a frame that is recycled while the limit is lowered is freed by one of the two threads.
///
/// It stayed in its list, charged above the limit, if it was recycled between the look at the limit and that
/// at the lists.
#[test]
fn a_frame_is_freed_if_the_limit_is_lowered_while_it_is_recycled() {
    explore(3, || {
        let frames = Arc::new(FramePool::new(PAGE as u64, PAGE));
        let frame = frames.acquire(PAGE).unwrap();
        let others = Arc::clone(&frames);
        let lowering = thread::spawn(move || {
            others.set_limit(0);
            if others.is_over() {
                others.trim();
            }
        });
        frames.recycle(frame);
        lowering.join().unwrap();
        assert_eq!((frames.recycled_bytes(), frames.over()), (0, 0));
    });
}

#[test]
fn a_recycled_frame_is_handed_out_once() {
    explore(3, || {
        let frames = Arc::new(FramePool::new(PAGE as u64, PAGE));
        frames.recycle(frames.acquire(PAGE).unwrap());
        let theirs = Arc::clone(&frames);
        let other = thread::spawn(move || {
            let frame = theirs.acquire(PAGE);
            let is_acquired = frame.is_some();
            frame.into_iter().for_each(|frame| theirs.recycle(frame));
            is_acquired
        });
        let frame = frames.acquire(PAGE);
        let is_acquired = other.join().unwrap();
        assert!(frame.is_some() || is_acquired, "one of the two threads gets it");
        frame.into_iter().for_each(|frame| frames.recycle(frame));
        assert_eq!(frames.recycled_bytes(), frames.budget().used());
        assert!(frames.high_water() <= PAGE as u64);
    });
}

// ---- reclaim

/// A store that loom does not model: slots never overlap, so there is nothing to order.
#[derive(Debug, Default)]
struct VecStore {
    bytes: std::sync::Mutex<Vec<u8>>,
    /// Every write fails.
    refuses: bool,
}

impl Store for VecStore {
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

/// Guards: a search passes over no memory, though the last page of a table leaves while its owner adds one.
#[test]
fn a_table_that_gets_memory_is_found_by_searches() {
    explore(2, || {
        let pool = PoolState::new(4 * PAGE, 8 * PAGE as u64, PAGE, Box::new(VecStore::default()), None);
        let pool = Arc::new(pool);
        let mut pager = Pager::new(&pool);
        pager.write_at(0, &[1; PAGE]).unwrap();
        let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
        let searcher = thread::spawn(move || {
            reclaim(&theirs, &[peer], 1, false);
            let requester = theirs.open_table().unwrap();
            let (share, share_of_all) = (0, 0);
            let demand = Demand {
                held: 0,
                requested: 8,
                share,
                share_of_all,
                limit: 32,
                page: 8,
                effort: Effort::Idle,
                returns: 0,
                is_awaited: false,
            };
            theirs.registry.iter().for_each(|registry| drop(registry.find_donors(&demand, &requester)));
        });
        pager.write_at(PAGE as u64, &[2; PAGE]).unwrap();
        searcher.join().unwrap();
        pool.check_quiet();
    });
}

/// Guards: a buffer that needs memory finds the one that holds it, and takes it from there or does without,
/// while that one is read, or dropped with its table and frame kept for the next.
#[test]
fn a_donor_is_chosen_while_it_is_read_or_dropped() {
    for is_dropped in [false, true] {
        explore(2, move || {
            let store = Box::new(VecStore::default());
            let pool = Arc::new(PoolState::new(PAGE, 8 * PAGE as u64, PAGE, store, None));
            let mut donor = Pager::new(&pool);
            donor.write_at(0, &[1; PAGE]).unwrap();
            let mut pager = Pager::new(&pool);
            let requester = thread::spawn(move || {
                assert_eq!(pager.write_at(0, &[2; 2]).unwrap(), 2);
                assert_eq!(pager.write_at(2, &[3; 2]).unwrap(), 2); // the donor is idle now, if it has done nothing since
                assert_eq!(content(&mut pager), [2, 2, 3, 3]);
                pager.check_invariants();
            });
            if !is_dropped {
                assert_eq!(content(&mut donor), [1; PAGE]);
                donor.check_invariants();
            }
            drop(donor);
            requester.join().unwrap();
            pool.trim();
            pool.check_quiet();
            assert_eq!((pool.frames.budget().used(), pool.disk.quota().used()), (0, 0));
        });
    }
}

/// Runs `owner` with a buffer of two pages, `[1; 8]` and `[2; 8]`, of which the second is the window.
/// Meanwhile another thread reclaims one page: the first, unless that is in use. `owner` returns the buffer
/// if its invariants are to be checked.
fn during_a_reclaim(refuses: bool, owner: impl Fn(Pager) -> Option<Pager> + Sync + Send + 'static) {
    during_a_reclaim_of(1, refuses, owner);
}

/// The same, but the other thread reclaims up to `pages_max` pages at once.
fn during_a_reclaim_of(
    pages_max: usize,
    refuses: bool,
    owner: impl Fn(Pager) -> Option<Pager> + Sync + Send + 'static,
) {
    explore(2, move || {
        let store = Box::new(VecStore { refuses, ..VecStore::default() });
        let pool = Arc::new(PoolState::new(4 * PAGE, 8 * PAGE as u64, PAGE, store, None));
        let mut pager = Pager::new(&pool);
        pager.write_at(0, &[1; PAGE]).unwrap();
        pager.write_at(PAGE as u64, &[2; PAGE]).unwrap();
        let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], pages_max, refuses));
        let to_check = owner(pager);
        reclaimer.join().unwrap();
        if let Some(mut pager) = to_check {
            pager.check_invariants();
        }
        pool.trim();
        pool.check_quiet();
        assert_eq!((pool.frames.budget().used(), pool.disk.quota().used()), (0, 0));
    });
}

/// Reclaims up to `pages_max` pages of each buffer, and recycles their frames.
fn reclaim(pool: &PoolState, peers: &[PeerTable], pages_max: usize, refuses: bool) {
    match pool.reclaim(peers, SpillReason::Reclaimed, Take::pages(pages_max)) {
        Reclaimed::Frames(frames) => {
            assert!((1..=pages_max * peers.len()).contains(&frames.len()));
            for frame in frames {
                // A store that refuses still yields a frame if the owner abandoned the page, or if
                // the page had no bytes.
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

/// Runs `owner` with a buffer whose only page is a segment: 256 bytes of 1 in the slot, and 100 of 2 in the
/// frame. Meanwhile another thread reclaims it.
fn during_a_reclaim_of_a_segment(owner: impl Fn(&mut Pager) + Sync + Send + 'static) {
    explore(2, move || {
        let store = Box::new(VecStore::default());
        let pool = Arc::new(PoolState::new(400, 1 << 20, 1024, store, None));
        let mut pager = Pager::new(&pool);
        pager.write_at(0, &[1; 256]).unwrap();
        pager.write_at(256, &[2; 100]).unwrap();
        assert_eq!(pool.disk.quota().used(), 1024, "the first 256 bytes are in the slot");
        let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], 1, false));
        owner(&mut pager);
        reclaimer.join().unwrap();
        pager.check_invariants();
        drop(pager);
        pool.trim();
        pool.check_quiet();
        assert_eq!((pool.frames.budget().used(), pool.disk.quota().used()), (0, 0));
    });
}

/// Guards I1: what the frame of a segment has and what its slot has are one page, while another thread writes
/// the one to the other and the owner appends.
#[test]
fn a_segment_is_reclaimed_while_its_owner_appends() {
    during_a_reclaim_of_a_segment(|pager| {
        pager.write_at(356, &[3; 200]).unwrap();
        assert_eq!(content(pager), [vec![1; 256], vec![2; 100], vec![3; 200]].concat());
    });
}

/// The same, and the owner cuts the page below what the frame has, and writes there again.
#[test]
fn a_segment_is_reclaimed_while_its_owner_cuts_it() {
    during_a_reclaim_of_a_segment(|pager| {
        pager.set_len(200).unwrap();
        pager.write_at(200, &[3; 60]).unwrap();
        assert_eq!(content(pager), [vec![1; 200], vec![3; 60]].concat());
    });
}

/// Guards I4: a read returns the same bytes whether or not the page is in transit.
#[test]
fn a_page_is_reclaimed_while_its_owner_reads() {
    during_a_reclaim(false, |mut pager| {
        assert_eq!(content(&mut pager), two_pages(1, 2));
        Some(pager)
    });
}

/// Guards I1: bytes that are written while the page is in transit are not lost with the frame.
#[test]
fn a_page_is_reclaimed_while_its_owner_writes() {
    during_a_reclaim(false, |mut pager| {
        assert_eq!(pager.write_at(2, &[7; 3]).unwrap(), 3);
        assert_eq!(content(&mut pager), [[1, 1, 7, 7, 7, 1, 1, 1], [2; PAGE]].concat());
        None
    });
}

/// Guards: the window can be reclaimed too, and the owner's fast path notices.
#[test]
fn the_window_is_reclaimed_while_its_owner_writes() {
    during_a_reclaim(false, |mut pager| {
        pager.set_len(PAGE as u64).unwrap();
        let mut position = 3;
        if !pager.write_window(&mut position, &[7]) {
            pager.write_at(position, &[7]).unwrap();
        }
        assert_eq!(content(&mut pager), [1, 1, 1, 7, 1, 1, 1, 1]);
        None
    });
}

/// Guards: a page in transit that is cut off, or cut in two. Bytes past the cut read as zeros.
#[test]
fn a_page_is_reclaimed_while_its_owner_truncates() {
    during_a_reclaim(false, |mut pager| {
        pager.set_len(3).unwrap();
        pager.set_len(5).unwrap();
        assert_eq!(content(&mut pager), [1, 1, 1, 0, 0]);
        None
    });
}

/// Guards: a page in transit that its owner does not need any more leaves the buffer's usage at once.
#[test]
fn a_page_is_reclaimed_while_its_owner_clears() {
    during_a_reclaim(false, |mut pager| {
        pager.set_len(0).unwrap();
        Some(pager)
    });
}

/// Guards: a buffer is dropped while its page is in transit. The reclaiming thread frees the slot.
#[test]
fn a_page_is_reclaimed_while_its_owner_is_dropped() {
    during_a_reclaim(false, |_| None);
}

/// Guards I3: a page that cannot be written returns, and its owner finds it.
#[test]
fn a_page_that_cannot_be_written_returns() {
    during_a_reclaim(true, |mut pager| {
        assert_eq!(content(&mut pager), two_pages(1, 2));
        Some(pager)
    });
}

/// Guards: a page cannot be written, and its buffer is dropped meanwhile.
#[test]
fn a_page_that_cannot_be_written_while_its_owner_is_dropped() {
    during_a_reclaim(true, |_| None);
}

/// Guards I1: two pages that leave in one write, and whose transits end one after the other.
#[test]
fn both_pages_are_reclaimed_while_their_owner_writes() {
    during_a_reclaim_of(2, false, |mut pager| {
        let mut at = 6;
        while at < 9 {
            at += pager.write_at(at as u64, &[7; 3][at - 6..]).unwrap();
        }
        assert_eq!(content(&mut pager), [[1, 1, 1, 1, 1, 1, 7, 7], [7, 2, 2, 2, 2, 2, 2, 2]].concat());
        None
    });
}

/// Guards I3: two pages that the store refuses together, one of which its owner abandons.
#[test]
fn both_pages_are_refused_while_their_owner_truncates() {
    during_a_reclaim_of(2, true, |mut pager| {
        pager.set_len(PAGE as u64).unwrap();
        assert_eq!(content(&mut pager), [1; PAGE]);
        Some(pager)
    });
}

/// Runs `owner` with two buffers of one page each, `[1; 8]` and `[2; 8]`. Meanwhile another thread reclaims
/// both pages at once.
fn during_a_reclaim_from_two(refuses: bool, owner: impl Fn([Pager; 2]) + Sync + Send + 'static) {
    explore(2, move || {
        let store = Box::new(VecStore { refuses, ..VecStore::default() });
        let pool = Arc::new(PoolState::new(4 * PAGE, 8 * PAGE as u64, PAGE, store, None));
        let mut pagers = [Pager::new(&pool), Pager::new(&pool)];
        pagers[0].write_at(0, &[1; PAGE]).unwrap();
        pagers[1].write_at(0, &[2; PAGE]).unwrap();
        let (peers, theirs) = (pagers.each_ref().map(|pager| pager.own_table().peer()), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &peers, 1, refuses));
        owner(pagers);
        reclaimer.join().unwrap();
        pool.trim();
        pool.check_quiet();
        assert_eq!((pool.frames.budget().used(), pool.disk.quota().used()), (0, 0));
    });
}

/// Guards I1: pages of two buffers that leave in one write, while one buffer is written and the other read.
#[test]
fn pages_of_two_buffers_are_reclaimed_while_their_owners_use_them() {
    during_a_reclaim_from_two(false, |[mut first, mut second]| {
        assert_eq!(first.write_at(2, &[7; 3]).unwrap(), 3);
        assert_eq!(content(&mut second), [2; PAGE]);
        assert_eq!(content(&mut first), [1, 1, 7, 7, 7, 1, 1, 1]);
    });
}

/// Guards I3: pages of two buffers that the store refuses together, while one of the buffers is dropped.
#[test]
fn pages_of_two_buffers_are_refused_while_one_is_dropped() {
    during_a_reclaim_from_two(true, |[first, mut second]| {
        drop(first);
        assert_eq!(content(&mut second), [2; PAGE]);
    });
}
