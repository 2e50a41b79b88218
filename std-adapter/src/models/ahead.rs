//! loom models of jobs, which look for room, and move pages while other buffers reclaim them.
//!
//! Held by: `.ci/weaken-pool`.

use crate::models::{PAGE, VecStore, content, explore, reclaim};
use crate::pager::state::Pager;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use loom::thread;
use overspill_core::Medium;

/// Guards I1: a page that a job moves out of memory is reclaimed by another buffer. In a file of the buffer's
/// own it has one place, which the job took before it came for the page; so it gave back, as unneeded, the
/// place that the page was in by then.
#[test]
fn a_page_that_a_job_moves_out_is_reclaimed() {
    explore(3, || {
        let pool = PoolState::new(4 * PAGE, 8 * PAGE as u64, PAGE, Box::new(VecStore::default()), None);
        let pool = Arc::new(pool);
        let (mut pager, mut other) = (Pager::new(&pool), Pager::new(&pool));
        pager.spill_to_own_file(&std::env::temp_dir());
        other.write_at(0, &[1; 3 * PAGE]).unwrap();
        let (begun, page) = (3 * PAGE as u64, PAGE as u64);
        pager.set_len(begun).unwrap();
        pager.write_at(begun, &[2; PAGE]).unwrap();
        let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], 1, false));
        pager.prepare_write(begun + page, PAGE).unwrap();
        reclaimer.join().unwrap();
        assert_eq!(content(&mut pager), [&[0; 3 * PAGE][..], &[2; PAGE]].concat());
        pager.check_invariants();
        drop((pager, other));
        pool.trim();
        pool.check_quiet();
    });
}

/// Guards: a job that looks for room takes none. It took some for the moment of the look, and a write of
/// another buffer, which does not wait, was refused though no slot was in use.
#[test]
fn a_look_for_room_refuses_no_write() {
    explore(3, || {
        let pool = PoolState::new(0, PAGE as u64, PAGE, Box::new(VecStore::default()), None);
        let pool = Arc::new(pool);
        let (mut pager, mut other) = (Pager::new(&pool), Pager::new(&pool));
        pager.try_table().unwrap();
        let looker = thread::spawn(move || {
            let room = pager.room_beside(0, PAGE, PAGE);
            assert!(room.is_err() || room.unwrap() == PAGE as u64);
        });
        assert_eq!(other.write_at(0, &[1; PAGE]).unwrap(), PAGE);
        looker.join().unwrap();
        assert_eq!(content(&mut other), [1; PAGE]);
        drop(other);
        pool.trim();
        pool.check_quiet();
    });
}
