//! loom models of files: one that is cut while pages are written to it, and one of a buffer's own, where a
//! page has one place only.
//!
//! Held by: `.ci/weaken-pool`.

use crate::disk::store::Store;
use crate::models::{PAGE, VecStore, content, explore, reclaim, two_pages};
use crate::pager::state::Pager;
use crate::pool::state::PoolState;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, lock};
use loom::thread;
use overspill_core::Medium;
use std::io;

/// A store that is cut. loom tries each order of its cuts and writes: it does so only for what threads share,
/// and it does not see `std`'s mutex.
#[derive(Debug, Default)]
struct CutStore {
    inner: VecStore,
    changes: AtomicUsize,
}

impl Store for CutStore {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.inner.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.inner.bytes.lock().unwrap().truncate(usize::try_from(len).unwrap());
        Ok(())
    }
}

/// Guards I1: two pages of one write, which get their slots one after the other, while the file is cut.
#[test]
fn pages_are_written_while_the_file_is_cut() {
    explore(3, || {
        let pool = PoolState::new(0, 8 * PAGE as u64, PAGE, Box::new(CutStore::default()), None);
        let pool = Arc::new(pool);
        let mut first = Pager::new(&pool);
        first.write_at(0, &two_pages(1, 1)).unwrap();
        drop(first); // its slots stay warm
        let mut pager = Pager::new(&pool);
        let theirs = Arc::clone(&pool);
        let cutter = thread::spawn(move || theirs.disk.trim());
        let data = two_pages(2, 3);
        let taken = pager.write_at(0, &data).unwrap();
        if taken < data.len() {
            assert_eq!(pager.write_at(taken as u64, &data[taken..]).unwrap(), data.len() - taken);
        }
        cutter.join().unwrap();
        assert_eq!(content(&mut pager), data);
        drop(pager);
        pool.trim();
        pool.check_quiet();
    });
}

/// A disk of so many pages: holes take none.
#[derive(Debug)]
struct SmallDisk {
    inner: VecStore,
    /// The pages that have blocks.
    held: Mutex<Vec<u64>>,
    pages: usize,
}

impl Store for SmallDisk {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        {
            let mut held = lock(&self.held);
            if !held.contains(&offset) {
                if held.len() == self.pages {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                held.push(offset);
            }
        }
        self.inner.write_at(offset, data)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        lock(&self.held).retain(|page| !(offset..offset + len).contains(page));
        Ok(())
    }
}

/// Guards: a write that finds the disk full waits for the blocks that another thread is giving
/// back, and then has room.
#[test]
fn a_full_disk_has_room_once_free_blocks_were_given_back() {
    explore(3, || {
        let disk = SmallDisk { inner: VecStore::default(), held: Mutex::default(), pages: 2 };
        let pool = Arc::new(PoolState::new(0, 8 * PAGE as u64, PAGE, Box::new(disk), None));
        let (mut first, mut kept) = (Pager::new(&pool), Pager::new(&pool));
        first.write_at(0, &[1; PAGE]).unwrap();
        kept.write_at(0, &[2; PAGE]).unwrap();
        drop(first); // its slot stays warm, in the middle
        let theirs = Arc::clone(&pool);
        let trimmer = thread::spawn(move || theirs.disk.trim());
        let mut pager = Pager::new(&pool);
        assert_eq!(pager.write_at(0, &[3; PAGE]).unwrap(), PAGE);
        trimmer.join().unwrap();
        assert_eq!((content(&mut kept), content(&mut pager)), (vec![2; PAGE], vec![3; PAGE]));
        drop((kept, pager));
        pool.check_quiet();
    });
}

/// Guards I1: a page in transit is cut off, and written anew in the same place. The write of the old bytes
/// must not end after that of the new ones.
#[test]
fn a_page_of_an_own_file_is_reclaimed_while_its_owner_writes_it_anew() {
    explore(2, || {
        let pool = PoolState::new(4 * PAGE, 8 * PAGE as u64, PAGE, Box::new(VecStore::default()), None);
        let pool = Arc::new(pool);
        let mut pager = Pager::new(&pool);
        pager.spill_to_own_file(&std::env::temp_dir());
        let second = PAGE as u64;
        pager.set_len(2 * second).unwrap();
        pager.write_at(second, &[1; PAGE]).unwrap();
        pager.write_at(0, &[1; PAGE]).unwrap(); // the window now, so that the second page is reclaimed
        let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
        let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], 1, false));
        pager.set_len(0).unwrap();
        pager.set_len(2 * second).unwrap();
        assert_eq!(pager.write_at(second, &[2; PAGE]).unwrap(), PAGE);
        pager.spill().unwrap();
        reclaimer.join().unwrap();
        assert_eq!(content(&mut pager), two_pages(0, 2));
        pager.check_invariants();
        drop(pager);
        pool.trim();
        pool.check_quiet();
        assert_eq!((pool.frames.budget().used(), pool.disk.quota().used()), (0, 0));
    });
}

/// Guards: what `spill` says is in the store is there. It waited for the pages that others were moving, and
/// looked for those in memory then; one that left in between was neither, and came back when the store
/// refused it. So a file of a buffer's own was handed over with a hole in place of it.
#[test]
fn a_page_that_others_reclaim_is_not_taken_for_spilled() {
    for refuses in [false, true] {
        explore(2, move || {
            let store = Box::new(VecStore { refuses, ..VecStore::default() });
            let pool = Arc::new(PoolState::new(4 * PAGE, 8 * PAGE as u64, PAGE, store, None));
            let mut pager = Pager::new(&pool);
            pager.write_at(0, &[1; PAGE]).unwrap();
            let (peer, theirs) = (pager.own_table().peer(), Arc::clone(&pool));
            let reclaimer = thread::spawn(move || reclaim(&theirs, &[peer], 1, refuses));
            assert_eq!(pager.spill().is_err(), refuses);
            if !refuses {
                let left = pager.table(|table| (table.next_in_memory(0), table.next_in_transit(0)));
                assert_eq!(left, (None, None));
            }
            reclaimer.join().unwrap();
            drop(pager);
            pool.trim();
            pool.check_quiet();
        });
    }
}
