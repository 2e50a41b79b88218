//! loom models of given memory: the pool takes its pages while their buffer is written to and cut,
//! and while it is given.
//!
//! Held by: `.ci/weaken-pool`.

use crate::memory::given::Owner;
use crate::models::{PAGE, VecStore, content, explore, reclaim, two_pages};
use crate::pager::state::Pager;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use loom::thread;
use overspill_core::Medium;

/// A pool with memory for 16 pages, and a buffer with two given pages, whose bytes are 1 and 2.
fn two_given_pages() -> (Arc<PoolState>, Pager) {
    let store = Box::new(VecStore::default());
    let pool = Arc::new(PoolState::new(16 * PAGE, 1 << 20, PAGE, store, None));
    let mut pager = Pager::new(&pool);
    give(&mut pager);
    (pool, pager)
}

/// Gives two pages to an empty buffer. Some of them may be gone at once, if another thread takes them.
fn give(pager: &mut Pager) {
    let owner = Owner::of_vec(two_pages(1, 2).to_vec());
    let kept = pager.keep(0, owner, 0, 2 * PAGE).ok().expect("there is room");
    assert_eq!((kept.len, kept.given.bytes()), (2 * PAGE, &two_pages(1, 2)[..]));
}

fn end(pool: &PoolState) {
    pool.trim();
    pool.check_quiet();
    assert_eq!((pool.frames.budget().used(), pool.disk.quota().used(), pool.buffers()), (0, 0, 0));
}

/// Guards I2, I3: given pages are taken while one of them is written to, and so is copied. What they
/// release, they release once.
#[test]
fn given_pages_are_taken_while_one_is_written_to() {
    explore(2, || {
        let (pool, mut pager) = two_given_pages();
        let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], 2, false));
        pager.write_at(3, &[7; 2]).unwrap();
        reclaimer.join().unwrap();
        let mut expected = two_pages(1, 2);
        expected[3..5].fill(7);
        assert_eq!(content(&mut pager), expected);
        pager.check_invariants();
        drop(pager);
        end(&pool);
    });
}

/// Guards I2: given pages are taken while they are cut, in transit or not.
#[test]
fn given_pages_are_taken_while_they_are_cut() {
    explore(2, || {
        let (pool, mut pager) = two_given_pages();
        let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], 2, false));
        pager.set_len(PAGE as u64).unwrap();
        reclaimer.join().unwrap();
        pager.check_invariants();
        assert_eq!(content(&mut pager)[..PAGE], [1; PAGE]);
        drop(pager);
        end(&pool);
    });
}

/// Guards I2: the first page leaves before the last is there.
#[test]
fn given_pages_are_taken_while_they_are_given() {
    explore(2, || {
        let store = Box::new(VecStore::default());
        let pool = Arc::new(PoolState::new(16 * PAGE, 1 << 20, PAGE, store, None));
        let mut pager = Pager::new(&pool);
        pager.try_table().unwrap();
        let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], 1, false));
        give(&mut pager);
        reclaimer.join().unwrap();
        assert_eq!(content(&mut pager), two_pages(1, 2));
        pager.check_invariants();
        drop(pager);
        end(&pool);
    });
}
