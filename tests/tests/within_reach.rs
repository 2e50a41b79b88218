//! Is a waiter told when memory can be taken that could not be before, though none comes free? A page that is
//! read from the store, lent or copied is out of reach of those that search for memory, and then is not.
//!
//! The waiter is a buffer that was refused, and whose waker counts. What is on its way from the store is so
//! for the time of a call of the store, in which the waiter tries.

use overspill::{DiskLimitScope, MemoryStore, SpillBuffer, SpillError, SpillPool, Store, WhenFull};
use overspill_tests::support::{Bell, spill_error};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

const PAGE: usize = 16 << 10;

/// Does what was planned in the next read.
#[derive(Clone, Default)]
struct Reading {
    inner: Arc<MemoryStore>,
    planned: Arc<Mutex<Option<Deed>>>,
}

type Deed = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

impl Store for Reading {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let planned = self.planned.lock().unwrap().take();
        planned.into_iter().for_each(|deed| deed());
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.inner.write_at(offset, data)
    }
}

/// A pool with one page of memory and one of disk, which is full with a page of a buffer.
fn full_pool() -> (SpillPool, Reading, SpillBuffer) {
    let store = Reading::default();
    let builder = SpillPool::builder().memory(PAGE).disk(PAGE as u64).page_size(PAGE).lend(u64::MAX);
    let pool = builder.store(store.clone()).build().unwrap();
    let mut donor = pool.buffer();
    donor.write_all(&[1; PAGE]).unwrap();
    donor.spill().unwrap();
    donor.rewind().unwrap();
    (pool, store, donor)
}

/// Is refused, as often as its waker has to be called next.
fn wait(waiter: &mut SpillBuffer, bell: &Arc<Bell>) {
    let waker = Waker::from(Arc::clone(bell));
    let mut context = Context::from_waker(&waker);
    loop {
        waiter.write_all(&[2; 100]).unwrap_err();
        if waiter.poll_writable(&mut context).is_pending() {
            break;
        }
    }
}

/// A waiter that finds nothing while bytes are lent, and all it needs once `end_loan` has run.
fn until_the_end_of(pool: &SpillPool, end_loan: impl FnOnce()) {
    let (mut waiter, bell) = (pool.buffer(), Arc::default());
    wait(&mut waiter, &bell);
    assert_eq!(bell.rung(), 0);
    end_loan();
    assert_eq!(bell.rung(), 1);
    waiter.write_all(&[2; 100]).unwrap();
}

/// As `until_the_end_of`, while `read` reads from the store.
fn until_the_end_of_a_read(pool: &SpillPool, store: &Reading, read: impl FnOnce()) {
    let (waiter, bell) = (Arc::new(Mutex::new(pool.buffer())), Arc::default());
    let (theirs, their_bell) = (Arc::clone(&waiter), Arc::clone(&bell));
    *store.planned.lock().unwrap() = Some(Box::new(move || {
        wait(&mut theirs.lock().unwrap(), &their_bell);
        assert_eq!(their_bell.rung(), 0);
    }));
    read();
    assert!(store.planned.lock().unwrap().is_none(), "the store was read");
    assert_eq!(bell.rung(), 1);
    waiter.lock().unwrap().write_all(&[2; 100]).unwrap();
}

/// A page on its way from the store was in no table, and so was not met as one that is pinned: a waiter slept
/// on beside it.
#[test]
fn a_page_that_a_buffer_loads() {
    let (pool, store, mut donor) = full_pool();
    until_the_end_of_a_read(&pool, &store, || donor.read_exact(&mut [0; 10]).unwrap());
}

/// Nothing is pinned then. Besides, the content was taken for one that has nothing to give, for an epoch, and
/// so the waiter was refused at its deadline too.
#[test]
fn a_page_that_is_loaded_for_all_readers() {
    let (pool, store, donor) = full_pool();
    let frozen = donor.freeze();
    until_the_end_of_a_read(&pool, &store, || assert_eq!(frozen.read_at(&mut [0; 100], 0).unwrap(), 100));
}

#[test]
fn a_window_that_a_reader_fills() {
    let (pool, store, donor) = full_pool();
    let mut reader = donor.freeze().reader();
    until_the_end_of_a_read(&pool, &store, || reader.read_exact(&mut [0; 100]).unwrap());
}

/// The window that `fill_buf` has lent is out of its table, and came back with no memory free.
#[test]
fn a_window_that_a_buffer_has_lent() {
    let (pool, _, mut donor) = full_pool();
    assert_eq!(donor.fill_buf().unwrap().len(), PAGE);
    until_the_end_of(&pool, || donor.consume(PAGE));
}

#[test]
fn a_window_that_a_reader_has_lent() {
    let (pool, _, donor) = full_pool();
    let mut reader = donor.freeze().reader();
    assert_eq!(reader.fill_buf().unwrap().len(), PAGE);
    until_the_end_of(&pool, || reader.consume(PAGE));
}

/// Who lets go of a lent page looks at no table, and told nobody unless memory came free with it.
#[test]
fn a_page_that_is_lent_outside_the_pool() {
    let (pool, _, donor) = full_pool();
    let frozen = donor.freeze();
    let lent = frozen.bytes_at(0, PAGE).unwrap();
    assert_eq!(pool.stats().memory_lent, PAGE as u64);
    until_the_end_of(&pool, || drop(lent));
}

/// The coldest page of a donor was to be written, and the disk was full. So the donor counted as one that has
/// nothing to give, though the pages beside it are in the store, and need no more room there; those that were
/// changed since as well.
#[test]
fn a_page_that_needs_no_room_beside_one_that_has_none_on_the_disk() {
    for (is_changed, is_own_limit) in [(false, false), (true, false), (false, true), (true, true)] {
        let disk = if is_own_limit { 8 } else { 2 } * PAGE as u64;
        let builder = SpillPool::builder().memory(3 * PAGE).disk(disk).page_size(PAGE);
        let pool = builder.store(MemoryStore::new()).build().unwrap();
        let mut other = pool.buffer();
        other.write_all(&vec![1; usize::try_from(disk).unwrap() - 2 * PAGE]).unwrap();
        other.spill().unwrap();
        let own_disk = if is_own_limit { 2 * PAGE as u64 } else { u64::MAX };
        let mut donor = pool.buffer_builder().disk(own_disk).build();
        donor.write_all(&[1; 2 * PAGE]).unwrap();
        donor.spill().unwrap();
        donor.write_all(&[1; PAGE]).unwrap(); // the disk is full, and memory has this page
        for page in [1, 0].repeat(4) {
            donor.seek(SeekFrom::Start(page * PAGE as u64)).unwrap();
            donor.read_exact(&mut [0; 10]).unwrap();
            if is_changed {
                donor.write_all(&[3; 10]).unwrap();
            }
        }
        assert_eq!(pool.stats().memory_used, 3 * PAGE as u64);
        let mut waiter = pool.buffer();
        waiter.write_all(&[2; 100]).unwrap();
        donor.check_invariants();
    }
}

/// A thread that copies from its window was inside at each of a search's few looks. It could stop right then,
/// for ever, and told nobody. A thread that loses its processor inside may still be missed, until its next
/// operation outside the window.
#[test]
fn a_window_that_is_read_over_and_over() {
    const LARGE: usize = 512 << 10;
    let is_found = |_: &u32| {
        let builder = SpillPool::builder().memory(LARGE).disk(LARGE as u64).page_size(LARGE);
        let pool = builder.store(MemoryStore::new()).build().unwrap();
        let mut donor = pool.buffer();
        donor.write_all(&[1; LARGE]).unwrap();
        donor.spill().unwrap();
        donor.rewind().unwrap();
        donor.read_exact(&mut [0; 10]).unwrap(); // in its window now
        let mut copy = vec![0; LARGE - 1];
        let (rounds, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    donor.rewind().unwrap();
                    donor.read_exact(&mut copy).unwrap();
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
            while rounds.load(Ordering::Relaxed) < 100 {
                thread::yield_now();
            }
            let mut waiter = pool.buffer();
            let mut context = Context::from_waker(Waker::noop());
            let found = (0..2).any(|_| {
                let written = waiter.write_all(&[2; 100]);
                written.is_ok() || waiter.poll_writable(&mut context).is_pending()
            });
            is_over.store(true, Ordering::Relaxed);
            found && !waiter.is_empty()
        })
    };
    let found = (0..20).filter(is_found).count();
    assert!(found > 12, "{found} of 20");
}

/// Two that wait beside lent pages try again and again, and so does each search look at these. That is no
/// news for the other.
#[test]
fn two_waiters_do_not_keep_each_other_awake() {
    let builder = SpillPool::builder().memory(5 * PAGE).disk(3 * PAGE as u64).page_size(PAGE).lend(u64::MAX);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let mut lender = pool.buffer();
    lender.write_all(&[1; 3 * PAGE]).unwrap();
    lender.spill().unwrap();
    let frozen = lender.freeze();
    let lent = [0, 1, 2].map(|page| frozen.bytes_at(page * PAGE as u64, PAGE).unwrap());
    let mut waiters = [(); 2].map(|()| pool.buffer());
    waiters.iter_mut().for_each(|waiter| waiter.write_all(&[2; PAGE]).unwrap());
    let bells = [(); 2].map(|()| Arc::new(Bell::default()));
    for attempt in 0..20 {
        for (waiter, bell) in waiters.iter_mut().zip(&bells) {
            waiter.write_all(&[2; 100]).unwrap_err();
            let waker = Waker::from(Arc::clone(bell));
            let is_ready = waiter.poll_writable(&mut Context::from_waker(&waker)) == Poll::Ready(());
            assert_eq!(is_ready, attempt == 0, "{attempt}");
        }
    }
    assert_eq!(bells.each_ref().map(|bell| bell.rung()), [0, 0]);
    drop(lent);
    assert_eq!(bells.map(|bell| bell.rung()), [1, 1]);
}

/// A buffer that had all the memory that its own limit allows waited, in a pool without a disk, for room that
/// only it could have made: for ever, if it might.
#[test]
fn what_a_buffers_own_memory_limit_refuses_is_not_waited_for() {
    const LIMIT: usize = 1_000_000;
    let wait = WhenFull::Wait { at_most: Duration::MAX };
    let pool = SpillPool::builder().memory(64 << 20).disk(0).when_full(wait).build().unwrap();
    let (done, is_done) = mpsc::channel();
    let writing = pool.clone();
    thread::spawn(move || {
        let mut buffer = writing.buffer_builder().memory(LIMIT).build();
        let refused = buffer.write_all(&[1; 2 * LIMIT]).unwrap_err();
        let mut context = Context::from_waker(Waker::noop());
        let polled = [(); 2].map(|()| buffer.poll_writable(&mut context).is_ready());
        buffer.set_len(10).unwrap();
        buffer.seek(SeekFrom::End(0)).unwrap();
        buffer.write_all(&[2; LIMIT / 2]).unwrap();
        done.send((spill_error(refused), polled)).unwrap();
    });
    let (refused, polled) = is_done.recv_timeout(Duration::from_secs(60)).expect("it waits");
    let SpillError::DiskLimit { scope, waited, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((scope, waited), (DiskLimitScope::Buffer, Duration::ZERO));
    assert_eq!((polled, pool.stats().waits), ([true; 2], 0));
    // Others that have the rest of the pool change nothing.
    pool.set_memory_limit(2 * LIMIT);
    let wait = WhenFull::Wait { at_most: Duration::from_secs(20) };
    let mut first = pool.buffer_builder().memory(LIMIT).when_full(wait).build();
    first.write_all(&[1; 2 * LIMIT]).unwrap_err();
    let mut others = pool.buffer_builder().when_full(WhenFull::Fail).build();
    others.write_all(&[2; 2 * LIMIT]).unwrap_err();
    let refused = first.write_all(&[1; LIMIT]).unwrap_err();
    assert!(matches!(spill_error(refused), SpillError::DiskLimit { scope: DiskLimitScope::Buffer, .. }));
}

/// A spool in a pool without a disk failed at its own memory limit, though a reader was making room there.
#[test]
fn a_spool_waits_at_its_own_memory_limit_for_its_readers() {
    const LEN: usize = 2_000_000;
    let wait = WhenFull::Wait { at_most: Duration::from_secs(60) };
    let pool = SpillPool::builder().memory(64 << 20).disk(0).when_full(wait).build().unwrap();
    let (mut writer, reader) = pool.buffer_builder().memory(256 << 10).spool();
    let mut reader = reader.once();
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    });
    let written = writer.write_all(&[7; LEN]);
    drop(written.is_ok().then(|| writer.finish()));
    written.unwrap();
    assert!(reading.join().unwrap().unwrap() == [7; LEN]);
}
