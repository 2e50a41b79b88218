//! What do threads that give blocks back to the file system at the same time do to each other, and to a
//! write that finds no room?
#![allow(missing_docs)]

use overspill::{MemoryStore, SpillBuffer, SpillPool, Store};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

const PAGE: usize = 64 << 10;

/// More than a pool keeps of freed blocks, and less than one call leaves to the next.
const BODY: usize = 30 * PAGE;

/// A test fails after that, instead of hanging.
const LONG: Duration = Duration::from_secs(20);

/// A store in which the threads that give blocks back are let through one after another.
#[derive(Debug, Default)]
struct Gate {
    bytes: MemoryStore,
    /// The next write finds no room.
    is_full: AtomicBool,
    turns: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Turns {
    /// By arrival.
    threads: HashMap<ThreadId, usize>,
    /// These are let through.
    let_through: Range<usize>,
}

impl Gate {
    fn arrive(&self) {
        let mut turns = self.turns.lock().unwrap();
        let next = turns.threads.len();
        let own = *turns.threads.entry(thread::current().id()).or_insert(next);
        self.changed.notify_all();
        while !turns.let_through.contains(&own) {
            turns = self.changed.wait(turns).unwrap();
        }
    }

    /// Waits until so many threads have come.
    fn await_arrivals(&self, threads: usize) {
        let turns = self.turns.lock().unwrap();
        let (turns, late) =
            self.changed.wait_timeout_while(turns, LONG, |turns| turns.threads.len() < threads).unwrap();
        drop(turns); // it is not poisoned by what follows
        assert!(!late.timed_out(), "fewer than {threads} threads have given blocks back");
    }

    fn let_through(&self, threads: Range<usize>) {
        self.turns.lock().unwrap().let_through = threads;
        self.changed.notify_all();
    }
}

/// Lets all through when the test ends, however it ends: else it would wait for its threads.
struct Opened<'a>(&'a Gate);

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.let_through(0..usize::MAX);
    }
}

impl Store for Gate {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.bytes.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        if self.is_full.swap(false, Ordering::SeqCst) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.bytes.write_at(offset, data)
    }

    /// The bytes stay. A store that cannot discard is asked once.
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        self.arrive();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.arrive();
        self.bytes.set_len(len)
    }
}

fn pool_on(store: &Arc<Gate>) -> SpillPool {
    SpillPool::builder().memory(0).page_size(PAGE).store(Arc::clone(store)).build().unwrap()
}

fn filled(pool: &SpillPool, len: usize) -> SpillBuffer {
    let mut buffer = pool.buffer();
    buffer.write_all(&vec![1; len]).unwrap();
    buffer
}

/// A write that found the store full waited until no thread was giving blocks back. On a server that drops
/// buffers on several threads one always is: the write stood for seconds, and for as long as they went on.
#[test]
fn a_write_that_finds_no_room_waits_for_those_that_had_begun_and_no_others() {
    let store = Arc::new(Gate::default());
    let pool = pool_on(&store);
    let mut bodies: Vec<_> = (0..20).map(|_| filled(&pool, BODY)).collect();
    let _last = filled(&pool, PAGE); // so none of them is cut off the end
    let mut buffer = pool.buffer(); // until all have ended: it frees nothing meanwhile
    let (written, is_written) = mpsc::channel();
    thread::scope(|scope| {
        let opened = Opened(&store);
        let first = bodies.pop();
        scope.spawn(move || drop(first));
        store.await_arrivals(1);
        store.is_full.store(true, Ordering::SeqCst);
        scope.spawn(|| written.send(buffer.write_all(&[2; PAGE])).unwrap());
        let mut result = None;
        // Taken one by one: the rest is dropped after the threads have ended.
        for (gone, body) in std::iter::from_fn(|| bodies.pop()).enumerate() {
            scope.spawn(move || drop(body));
            store.await_arrivals(gone + 2);
            store.let_through(0..gone + 1); // all but this one
            result = is_written.recv_timeout(Duration::from_millis(100)).ok();
            if result.is_some() {
                break;
            }
        }
        drop(opened);
        result.expect("it waits while any is under way").unwrap();
    });
}

/// It waited for as many steps to end as it had found, whichever they were: one that had begun later ended,
/// and the write failed though a gigabyte was on its way.
#[test]
fn a_write_that_finds_no_room_waits_for_those_that_had_begun() {
    let store = Arc::new(Gate::default());
    let pool = pool_on(&store);
    let (first, second) = (filled(&pool, BODY), filled(&pool, BODY));
    let _last = filled(&pool, PAGE);
    let mut buffer = pool.buffer(); // until all have ended: it frees nothing meanwhile
    let (written, is_written) = mpsc::channel();
    thread::scope(|scope| {
        let opened = Opened(&store);
        scope.spawn(|| drop(first));
        store.await_arrivals(1);
        store.is_full.store(true, Ordering::SeqCst);
        scope.spawn(|| written.send(buffer.write_all(&[2; PAGE])).unwrap());
        while store.is_full.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let second = scope.spawn(|| drop(second));
        store.await_arrivals(2);
        store.let_through(1..2);
        second.join().unwrap();
        assert!(is_written.recv_timeout(Duration::from_millis(200)).is_err(), "the first has not ended");
        drop(opened);
        is_written.recv_timeout(LONG).unwrap().unwrap();
    });
}

/// Nothing looked again when the end of the file had been cut off: what another thread had freed meanwhile,
/// up to 2 MiB, stayed for as long as the pool was idle.
#[test]
fn what_is_freed_while_the_file_is_cut_goes_back_as_well() {
    let store = Arc::new(Gate::default());
    let pool = pool_on(&store);
    let (early, late) = (filled(&pool, BODY), filled(&pool, BODY));
    thread::scope(|scope| {
        let opened = Opened(&store);
        scope.spawn(|| drop(late));
        store.await_arrivals(1);
        drop(early);
        assert_eq!(pool.stats().disk_recycled, BODY as u64, "it waits for the cut");
        drop(opened);
    });
    assert_eq!((pool.stats().disk_used, pool.stats().disk_recycled), (0, 0));
}
