//! loom models of clones: the pool takes the pages that they share while one is written to, and one is cut
//! while another is read. Two that read and write at once are modelled as the readers of one content,
//! since a source is that.
//!
//! Held by: `.ci/weaken-pool`.

use crate::models::{PAGE, VecStore, content, explore, reclaim, two_pages};
use crate::pager::state::Pager;
use crate::pool::member::PeerTable;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use loom::thread;
use overspill_core::{Medium, ReadMedium};

/// A pool with memory for so many pages, a buffer of two pages, whose bytes are 1 and 2, its clone, and the
/// table that they share.
fn two_clones(pages: usize) -> (Arc<PoolState>, Pager, Pager, PeerTable) {
    let store = Box::new(VecStore::default());
    let pool = Arc::new(PoolState::new(pages * PAGE, 1 << 20, PAGE, store, None));
    let mut first = Pager::new(&pool);
    first.write_at(0, &two_pages(1, 2)).unwrap();
    let shared = first.own_table().peer();
    let second = first.try_clone().unwrap();
    (pool, first, second, shared)
}

fn end(pool: &PoolState) {
    pool.trim();
    pool.check_quiet();
    assert_eq!((pool.frames.budget().used(), pool.disk.quota().used(), pool.buffers()), (0, 0, 0));
}

/// Guards I4, I11: the pool takes a page that clones share while one of them is written to.
#[test]
fn a_page_that_clones_share_is_taken_while_one_is_written_to() {
    explore(1, || {
        let (pool, mut first, mut second, shared) = two_clones(4);
        let theirs = Arc::clone(&pool);
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[shared], 1, false));
        first.write_at(3, &[7; 2]).unwrap();
        reclaimer.join().unwrap();
        assert_eq!(content(&mut first)[..8], [1, 1, 1, 7, 7, 1, 1, 1]);
        assert_eq!(content(&mut second), two_pages(1, 2));
        drop((first, second));
        end(&pool);
    });
}

/// Guards I4: what one clone does not see any more stays for the other, which may be dropped meanwhile; and
/// what neither sees is freed.
#[test]
fn what_one_clone_cuts_off_stays_for_the_other() {
    explore(1, || {
        let (pool, mut first, mut second, _) = two_clones(4);
        // With layers of its own, over a source that the two share.
        first.write_at(0, &[7; PAGE]).unwrap();
        drop(first.try_clone().unwrap());
        let reader = thread::spawn(move || {
            let mut byte = [0; 1];
            assert_eq!((second.read_at(9, &mut byte).unwrap(), byte), (1, [2]));
        });
        first.set_len(PAGE as u64).unwrap();
        reader.join().unwrap();
        drop(first.try_clone().unwrap());
        first.set_len(2 * PAGE as u64).unwrap();
        let kept = pool.frames.recycled_bytes() + pool.table_cache.bytes();
        assert_eq!(pool.frames.budget().used() - kept, PAGE as u64, "one page is seen");
        let mut bytes = [1; 2];
        assert_eq!((first.read_at(PAGE as u64 - 1, &mut bytes).unwrap(), bytes), (2, [7, 0]));
        drop(first);
        end(&pool);
    });
}

/// Guards I4: a copy of a page of the base is taken while it is read, and does not become a hole of zeros;
/// nor does one that was written to.
#[test]
fn a_copy_is_taken_while_it_is_read_and_written_to() {
    explore(3, || {
        let (pool, mut first, second, _) = two_clones(4);
        let mut byte = [0; 1];
        assert_eq!((first.read_at(0, &mut byte).unwrap(), byte), (1, [1]));
        let (peer, theirs) = (first.own_table().peer(), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], 1, false));
        assert_eq!((first.read_at(1, &mut byte).unwrap(), byte), (1, [1]));
        first.write_at(2, &[7]).unwrap();
        assert_eq!(content(&mut first)[..4], [1, 1, 7, 1]);
        reclaimer.join().unwrap();
        first.check_invariants();
        drop((first, second));
        end(&pool);
    });
}
