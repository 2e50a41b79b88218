//! loom models of shared content: two that read, and one that takes their memory.
//!
//! Held by: `.ci/weaken-pool`.

use crate::disk::store::Store;
use crate::memory::lent::LentBytes;
use crate::models::{PAGE, VecStore, explore, reclaim, two_pages};
use crate::pager::content::Content;
use crate::pager::reader::Reader;
use crate::pager::shared::Shared;
use crate::pager::state::Pager;
use crate::pool::state::PoolState;
use crate::sync::{Arc, AtomicUsize, Ordering};
use loom::thread;
use overspill_core::Medium;
use std::io;

/// A store that counts its reads, the first `failures` of which fail. So loom tries each order of them.
#[derive(Debug, Default)]
struct ReadStore {
    inner: VecStore,
    reads: Arc<AtomicUsize>,
    failures: usize,
}

impl Store for ReadStore {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.reads.fetch_add(1, Ordering::Relaxed) < self.failures {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.inner.write_at(offset, data)
    }
}

/// Two spilled pages, whose bytes are 1 and 2, for two readers; and the count of the store's reads.
fn two_spilled_pages(memory: usize, failures: usize) -> (Arc<Content>, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let store = ReadStore { inner: VecStore::default(), reads: Arc::clone(&reads), failures };
    let pool = PoolState::new(memory, 8 * PAGE as u64, PAGE, Box::new(store), None);
    let mut pager = Pager::new(&Arc::new(pool));
    pager.write_at(0, &two_pages(1, 2)).unwrap();
    pager.spill().unwrap();
    let content = Content::new(pager, false);
    content.add_readers(2);
    (Arc::new(content), reads)
}

fn end(content: Arc<Content>) {
    let pool = Arc::clone(&content.pool);
    drop(content);
    pool.trim();
    pool.check_quiet();
}

/// Guards: a page that two miss at once is read from the store once, and both have all of its bytes.
#[test]
fn a_page_that_two_miss_is_loaded_once() {
    explore(3, || {
        let (content, reads) = two_spilled_pages(4 * PAGE, 0);
        let theirs = Arc::clone(&content);
        let other = thread::spawn(move || {
            let mut bytes = [0; 3];
            assert_eq!((theirs.read_at(0, &mut bytes).unwrap(), bytes), (3, [1; 3]));
        });
        let mut bytes = [0; 5];
        assert_eq!((content.read_at(3, &mut bytes).unwrap(), bytes), (5, [1; 5]));
        other.join().unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        end(content);
    });
}

/// Guards: a load that fails is an error of the one that made it. The other tries again, and
/// does not wait for ever.
#[test]
fn a_load_that_fails_is_tried_again_by_who_waits_for_it() {
    explore(3, || {
        let (content, _) = two_spilled_pages(4 * PAGE, 1);
        let theirs = Arc::clone(&content);
        let other = thread::spawn(move || {
            let mut bytes = [0; 3];
            theirs.read_at(0, &mut bytes).map(|_| assert_eq!(bytes, [1; 3])).is_err()
        });
        let mut bytes = [0; 3];
        let has_failed = content.read_at(4, &mut bytes).map(|_| assert_eq!(bytes, [1; 3])).is_err();
        assert!(other.join().unwrap() != has_failed, "one of the two has failed");
        assert_eq!(content.read_at(0, &mut bytes).unwrap(), 3);
        end(content);
    });
}

/// Guards I3, I4: pages that are read while a reclaiming thread takes their frames, from memory
/// that has room for one.
#[test]
fn pages_are_read_while_their_frames_are_taken() {
    explore(2, || {
        let (content, _) = two_spilled_pages(PAGE, 0);
        let mut bytes = [0; 3];
        assert_eq!(content.read_at(0, &mut bytes).unwrap(), 3); // in memory now
        let peer = content.with_pager(|pager| pager.own_table().peer()).unwrap();
        let (pool, theirs) = (Arc::clone(&content.pool), Arc::clone(&content));
        let reclaimer = thread::spawn(move || reclaim(&pool, &[peer], 1, false));
        let other = thread::spawn(move || {
            let mut bytes = [0; 3];
            assert_eq!((theirs.read_at(0, &mut bytes).unwrap(), bytes), (3, [1; 3]));
        });
        assert_eq!((content.read_at(9, &mut bytes).unwrap(), bytes), (3, [2; 3]));
        reclaimer.join().unwrap();
        other.join().unwrap();
        end(content);
    });
}

/// Guards I4: the window of a reader is taken while it is read. A frame that is taken is no longer seen.
#[test]
fn a_readers_window_is_taken_while_it_reads() {
    explore(3, || {
        let (content, _) = two_spilled_pages(4 * PAGE, 0);
        let mut reader = Reader::new(Arc::clone(&content.pool), u64::MAX);
        let mut bytes = [0; 3];
        assert_eq!(reader.read(&*content, 0, &mut bytes).unwrap(), 3);
        let (peer, pool) = (reader.peer().unwrap(), Arc::clone(&content.pool));
        let reclaimer = thread::spawn(move || {
            reclaim(&pool, &[peer], 1, false);
            // Another's bytes go where the window was.
            let mut other = Pager::new(&pool);
            other.write_at(0, &two_pages(8, 9)).unwrap();
        });
        let mut position = 3;
        if !reader.read_window(&mut position, &mut bytes) {
            assert_eq!(reader.read(&*content, 3, &mut bytes).unwrap(), 3);
        }
        assert_eq!(bytes, [1; 3]);
        let lent = reader.lend(&*content, 6).unwrap();
        assert!(lent.iter().take(2).all(|byte| *byte == 1) && lent.len() >= 2);
        reclaimer.join().unwrap();
        drop(reader);
        end(content);
    });
}

/// Content that its last handle made a buffer of again while another handle, which then was gone, had lent a
/// page of it: a write to that page panicked, and a read lost it. The other frees a page too, or loom sees
/// nothing in which the two could meet.
#[test]
fn content_is_a_buffer_again_only_while_none_of_it_is_lent() {
    explore(3, || {
        let (content, _) = two_spilled_pages(4 * PAGE, 0);
        let shared = Arc::new(Shared::new(Arc::into_inner(content).unwrap()));
        let (pool, theirs) = (Arc::clone(&shared.content.pool), Arc::clone(&shared));
        for page in [0, 1] {
            shared.content.read_at(page * PAGE as u64, &mut [0]).unwrap(); // in memory now
        }
        let other = thread::spawn(move || {
            let page = theirs.content.with_pager(|pager| {
                pager.discard_pages(1..2);
                pager.table(|table| table.share(0))
            });
            drop(theirs);
            page.unwrap().unwrap()
        });
        let refused = Shared::into_pager(shared).err().expect("another has the content, or a page of it");
        let page = other.join().unwrap();
        assert_eq!(page.content_from(0), [1; PAGE]);
        drop(page);
        let mut pager = Shared::into_pager(refused).unwrap();
        pager.check_invariants();
        pager.write_at(0, &[3]).unwrap();
        drop(pager);
        pool.trim();
        pool.check_quiet();
    });
}

/// Two threads lend at once what the limit has room for once.
#[test]
fn what_two_lend_at_once_keeps_to_the_limit() {
    explore(3, || {
        let lent = Arc::new(LentBytes::default());
        let theirs = Arc::clone(&lent);
        let other = thread::spawn(move || theirs.add(2, 3));
        let mine = lent.add(2, 3);
        assert!(mine != other.join().unwrap(), "one of the two");
        assert_eq!(lent.get(), 2);
        lent.subtract(2);
        assert!(lent.add(3, 3));
    });
}
