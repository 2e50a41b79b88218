//! Is a waiter told of whatever comes free? Each path on which memory or disk comes free, with a waiter that
//! would wait for ever if that path told nobody: memory that an operation gives back before its end, and
//! slots that a failure frees.
//!
//! The waiter is a buffer that was refused, and whose waker counts. Where room is short only during an
//! operation, a call of the store in its middle makes the waiter try. Rooms that come by dropping, cutting
//! and limits are in `when_full.rs`.

use overspill::{Checksums, MemoryStore, SpillBuffer, SpillError, SpillPool, Store, WhenFull};
use overspill_tests::support::{Bell, content_of, spill_error};
use std::fmt;
use std::io::{self, BufRead, IoSlice, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const PAGE: usize = 16 << 10;
const BLOCK: usize = 4 << 10;

// ---- a store with something to do in the middle of a call

#[derive(Clone, Copy, PartialEq)]
enum Call {
    Read,
    Write,
}

type Deed = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Does what was planned in the next call of the kind, before that reaches the store below. If the deed
/// fails, so does the call.
#[derive(Clone, Default)]
struct Interruptible {
    inner: Arc<MemoryStore>,
    planned: Arc<Mutex<Option<(Call, Deed)>>>,
}

impl fmt::Debug for Interruptible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interruptible")
    }
}

impl Interruptible {
    fn at_next(&self, call: Call, deed: impl FnOnce() -> io::Result<()> + Send + 'static) {
        *self.planned.lock().unwrap() = Some((call, Box::new(deed)));
    }

    fn enter(&self, call: Call) -> io::Result<()> {
        let planned = self.planned.lock().unwrap().take_if(|(of, _)| *of == call);
        planned.map_or(Ok(()), |(_, deed)| deed())
    }
}

impl Store for Interruptible {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.enter(Call::Read)?;
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.enter(Call::Write)?;
        self.inner.write_at(offset, data)
    }

    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.enter(Call::Write)?;
        self.inner.write_vectored_at(offset, parts)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.discard(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
}

fn broken() -> io::Result<()> {
    Err(io::Error::other("broken"))
}

// ---- a waiter

/// A buffer that waits to write [`DATA`] at [`AT`]. It would take 256 bytes of memory or a page of disk,
/// since it has a file of its own, and reclaims nothing from other buffers, since no write continues
/// where the last one ended.
#[derive(Clone)]
struct Waiter {
    buffer: Arc<Mutex<SpillBuffer>>,
    bell: Arc<Bell>,
}

const AT: u64 = PAGE as u64 + 100;
const DATA: [u8; 50] = [9; 50];

impl Waiter {
    fn of(pool: &SpillPool) -> Self {
        let buffer = pool.buffer_for(std::env::temp_dir().join("overspill-told"));
        Waiter { buffer: Arc::new(Mutex::new(buffer)), bell: Arc::default() }
    }

    /// Tries, is refused, and waits.
    fn wait(&self) {
        let mut buffer = self.buffer.lock().unwrap();
        let waker = Waker::from(Arc::clone(&self.bell));
        for expected in [Poll::Ready(()), Poll::Pending] {
            let refused = spill_error(buffer.write_at(&DATA, AT).expect_err("there is room already"));
            assert!(matches!(refused, SpillError::DiskLimit { requested, .. } if requested == PAGE as u64));
            assert_eq!(buffer.poll_writable(&mut Context::from_waker(&waker)), expected);
        }
    }

    /// The same in the middle of the store's next such call, which then ends as `how` says.
    fn wait_during(&self, call: Call, store: &Interruptible, how: fn() -> io::Result<()>) {
        let waiter = self.clone();
        store.at_next(call, move || {
            waiter.wait();
            how()
        });
    }

    fn is_told(&self) -> bool {
        self.bell.rung() > 0
    }

    /// Asserts that the waiter was told, and finds room.
    #[track_caller]
    fn assert_told(self, pool: &SpillPool) {
        assert!(self.is_told(), "it waits for ever, beside {:?}", pool.stats());
        let mut buffer = self.buffer.lock().unwrap();
        assert_eq!(buffer.write_at(&DATA, AT).expect("what came free is there"), DATA.len());
        assert_eq!(content_of(&mut *buffer)[PAGE + 100..], DATA);
        pool.check_invariants();
    }
}

/// A pool of so many bytes of memory and disk, and its store.
fn pool(memory: usize, disk: usize) -> (SpillPool, Interruptible) {
    let store = Interruptible::default();
    let builder = SpillPool::builder().memory(memory).disk(disk as u64).page_size(PAGE);
    (builder.store(store.clone()).build().unwrap(), store)
}

/// A buffer with `len` bytes, all in the store.
fn spilled(pool: &SpillPool, len: usize) -> SpillBuffer {
    let mut buffer = pool.buffer();
    buffer.write_all(&vec![1; len]).unwrap();
    buffer.spill().unwrap();
    buffer
}

fn append(buffer: &mut SpillBuffer, len: usize) -> io::Result<()> {
    buffer.seek(SeekFrom::End(0)).unwrap();
    buffer.write_all(&vec![2; len])
}

// ---- memory

/// A page that grew got a frame from its buffer's coldest page. The frame that it had outgrown was then free,
/// and the waiter, which it was enough for, was not told.
#[test]
fn an_outgrown_frame() {
    let (pool, _) = pool(PAGE + BLOCK, PAGE);
    let mut buffer = pool.buffer();
    buffer.write_at(&[1; PAGE], PAGE as u64).unwrap();
    buffer.spill().unwrap();
    buffer.read_at(&mut [0; 10], PAGE as u64).unwrap(); // in memory, and clean
    buffer.write_at(&[1; BLOCK - 10], 0).unwrap();
    assert_eq!(pool.stats().memory_used, (PAGE + BLOCK) as u64);
    let waiter = Waiter::of(&pool);
    waiter.wait();
    buffer.write_at(&[2; 100], BLOCK as u64 - 10).unwrap();
    assert_eq!((buffer.stats().memory_used, buffer.stats().disk_used), (PAGE as u64, PAGE as u64));
    waiter.assert_told(&pool);
}

/// A page that could not grow left memory, and its write failed at the disk limit. The page's frame was free,
/// and the waiter was not told.
#[test]
fn the_frame_of_a_page_that_cannot_grow() {
    let (pool, _) = pool(BLOCK, BLOCK);
    let mut buffer = spilled(&pool, BLOCK - 10);
    buffer.read_at(&mut [0; 10], 0).unwrap();
    assert_eq!(buffer.stats().memory_used, BLOCK as u64);
    let waiter = Waiter::of(&pool);
    waiter.wait();
    append(&mut buffer, 100).unwrap_err();
    assert_eq!(buffer.stats().memory_used, 0);
    waiter.assert_told(&pool);
    assert_eq!(
        content_of(&mut buffer),
        [&[1; BLOCK - 10][..], &[2; 10]].concat(),
        "as far as its slot reaches"
    );
}

/// A page was to be loaded, and the store could not read it. Its frame was free again, and the waiter that
/// had not found it meanwhile was not told.
#[test]
fn the_frame_of_a_load_that_fails() {
    let (pool, store) = pool(PAGE, PAGE);
    let mut buffer = spilled(&pool, PAGE);
    let waiter = Waiter::of(&pool);
    waiter.wait_during(Call::Read, &store, broken);
    buffer.read_at(&mut [0; 10], 0).unwrap_err();
    waiter.assert_told(&pool);
}

/// The same for a load that `fill_buf` begins.
#[test]
fn the_frame_of_a_refill_that_fails() {
    let (pool, store) = pool(PAGE, PAGE);
    let mut buffer = spilled(&pool, PAGE);
    let waiter = Waiter::of(&pool);
    waiter.wait_during(Call::Read, &store, broken);
    buffer.rewind().unwrap();
    buffer.fill_buf().unwrap_err();
    waiter.assert_told(&pool);
}

/// A page moved to a longer slot, through a spare frame of the pool. The waiter that had not found it
/// meanwhile was not told. It is first in the queue by then, so the page does not get the room to grow.
#[test]
fn the_frame_that_a_page_is_copied_through() {
    let (pool, store) = pool(BLOCK, PAGE);
    let mut buffer = spilled(&pool, BLOCK - 10);
    let waiter = Waiter::of(&pool);
    waiter.wait_during(Call::Read, &store, || Ok(()));
    append(&mut buffer, 2 * BLOCK).unwrap_err();
    assert!(buffer.stats().disk_used > 0, "what is left of the disk is too little for the waiter");
    waiter.assert_told(&pool);
}

/// A hand-over read pages through a spare frame of the pool. When it failed, the frame was free again, and
/// the waiter that had not found it meanwhile was not told. Now it takes none, and so nobody waits for that.
#[test]
fn a_hand_over_takes_no_frame() {
    for (how, to_a_name) in [(broken as fn() -> io::Result<()>, true), (broken, false), (|| Ok(()), true)] {
        let (pool, store) = pool(PAGE, PAGE);
        let buffer = spilled(&pool, PAGE);
        let waiter = Waiter::of(&pool);
        let meanwhile = waiter.clone();
        store.at_next(Call::Read, move || {
            assert_eq!(meanwhile.buffer.lock().unwrap().write_at(&DATA, AT).unwrap(), DATA.len());
            how()
        });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let done = if to_a_name { buffer.persist(path).map(drop) } else { buffer.into_file().map(drop) };
        assert_eq!(waiter.buffer.lock().unwrap().len(), AT + DATA.len() as u64);
        if let Err(failed) = done {
            assert_eq!(content_of(&mut failed.into_buffer()), [1; PAGE]);
        }
    }
}

/// The limit was lowered while a page was lent. The page left when the loan ended, at the end of the content
/// or with `consume`, and the waiter was not told that there is memory below the limit again.
#[test]
fn a_page_that_was_lent_while_the_limit_was_lowered() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum End {
        Consume,
        EmptyRead,
        Read,
    }
    for end in [End::Consume, End::EmptyRead, End::Read] {
        let (pool, _) = pool(PAGE, PAGE);
        let mut buffer = spilled(&pool, PAGE);
        buffer.rewind().unwrap();
        assert_eq!(buffer.fill_buf().unwrap().len(), PAGE);
        pool.set_memory_limit(BLOCK);
        assert_eq!(pool.stats().memory_used, PAGE as u64, "it is lent");
        let waiter = Waiter::of(&pool);
        waiter.wait();
        match end {
            End::Consume => buffer.consume(PAGE),
            End::EmptyRead => {
                buffer.consume(PAGE);
                assert!(buffer.fill_buf().unwrap().is_empty());
            }
            End::Read => assert_eq!(buffer.read_at(&mut [0; PAGE], 0).unwrap(), PAGE),
        }
        assert_eq!(buffer.stats().memory_used, 0, "{end:?}");
        waiter.assert_told(&pool);
    }
}

/// Spilling on request failed half-way. What had left by then is free.
#[test]
fn the_pages_that_a_refused_spill_has_moved() {
    let (pool, _) = pool(2 * PAGE, PAGE);
    let mut buffer = spilled(&pool, PAGE);
    buffer.read_at(&mut [0; 10], 0).unwrap();
    buffer.write_at(&[2; PAGE], PAGE as u64).unwrap();
    assert_eq!(buffer.stats().memory_used, 2 * PAGE as u64);
    let waiter = Waiter::of(&pool);
    waiter.wait();
    buffer.spill().unwrap_err();
    assert_eq!(buffer.stats().memory_used, PAGE as u64);
    waiter.assert_told(&pool);
}

/// A requester needs a small frame, and reclaims a page to get it. What is left of the page's frame is free.
#[test]
fn the_rest_of_a_reclaimed_frame() {
    let (pool, _) = pool(PAGE, PAGE);
    let mut donor = spilled(&pool, PAGE);
    donor.read_at(&mut [0; 10], 0).unwrap();
    let waiter = Waiter::of(&pool);
    waiter.wait();
    let mut requester = pool.buffer();
    while requester.write(&[3; 10]).is_err() {} // the second time, the donor is idle
    assert_eq!(donor.stats().memory_used, 0);
    waiter.assert_told(&pool);
}

/// The table of a dropped buffer keeps its frame, which is spare.
#[test]
fn the_frame_of_a_dropped_buffers_table() {
    let (pool, _) = pool(BLOCK, 0);
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; BLOCK]).unwrap();
    let waiter = Waiter::of(&pool);
    pool.set_disk_limit(1); // a waiter waits for no less than a page, which is never set aside
    waiter.wait();
    drop(buffer);
    waiter.assert_told(&pool);
}

/// A page with a bad block cannot be loaded, and the frame for it is free again. A call that waits
/// for disk takes and returns it at each attempt; had that woken the call itself, it would have read
/// the page over and over.
#[test]
fn a_waiter_does_not_keep_itself_awake() {
    let store = Interruptible::default();
    let builder =
        SpillPool::builder().memory(PAGE).disk(PAGE as u64).page_size(PAGE).checksums(Checksums::On);
    let wait = WhenFull::Wait { at_most: Duration::from_millis(50) };
    let pool = builder.store(store.clone()).when_full(wait).build().unwrap();
    let mut buffer = spilled(&pool, BLOCK);
    let _full = [(); 3].map(|()| spilled(&pool, BLOCK));
    store.inner.write_at(0, &[7]).unwrap();
    let reads = pool.stats().io.reads;
    append(&mut buffer, 10).unwrap_err();
    assert_eq!(pool.stats().waits, 1);
    assert!(pool.stats().io.reads - reads < 10, "{:?}", pool.stats());
}

/// An append to a page in a full slot took a frame for it, found no longer slot, and gave the frame back. A
/// call that waits for disk would do so at each attempt; had that woken the call itself, or another of its
/// kind, none of them would rest.
#[test]
fn an_append_that_cannot_move_its_page_does_not_keep_itself_awake() {
    let (pool, _) = pool(PAGE, 2 * BLOCK);
    let mut buffers = [(); 2].map(|()| spilled(&pool, BLOCK));
    pool.set_memory_limit(BLOCK / 2); // too little for a page
    let bells = [(); 2].map(|()| Arc::new(Bell::default()));
    for attempt in 0..20 {
        let expected = if attempt == 0 { Poll::Ready(()) } else { Poll::Pending };
        for (buffer, bell) in buffers.iter_mut().zip(&bells) {
            append(buffer, 10).unwrap_err();
            let waker = Waker::from(Arc::clone(bell));
            assert_eq!(buffer.poll_writable(&mut Context::from_waker(&waker)), expected);
        }
    }
    assert_eq!(bells.map(|bell| bell.rung()), [0, 0]);
}

// ---- disk

/// A page that was spilled again, longer, frees the slot that it has outgrown.
#[test]
fn an_outgrown_slot() {
    let (pool, store) = pool(PAGE, 2 * BLOCK + PAGE);
    let mut buffer = spilled(&pool, BLOCK);
    buffer.read_at(&mut [0; 10], 0).unwrap();
    append(&mut buffer, BLOCK).unwrap();
    pool.set_memory_limit(2 * BLOCK);
    assert_eq!(buffer.stats().memory_used, 2 * BLOCK as u64);
    let waiter = Waiter::of(&pool);
    waiter.wait_during(Call::Write, &store, || Ok(()));
    buffer.spill().unwrap();
    waiter.assert_told(&pool);
}

/// The store refuses a page, and the slot that was meant for it is free again.
#[test]
fn the_slot_of_a_spill_that_fails() {
    let (pool, store) = pool(PAGE, PAGE);
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; PAGE]).unwrap();
    let waiter = Waiter::of(&pool);
    waiter.wait_during(Call::Write, &store, broken);
    buffer.spill().unwrap_err();
    waiter.assert_told(&pool);
    assert_eq!(content_of(&mut buffer), [1; PAGE]);
}

/// The same for a write that goes to the store directly.
#[test]
fn the_slots_of_a_write_that_fails() {
    let (pool, store) = pool(0, 2 * PAGE);
    let waiter = Waiter::of(&pool);
    waiter.wait_during(Call::Write, &store, broken);
    pool.buffer().write_all(&[1; 2 * PAGE]).unwrap_err();
    waiter.assert_told(&pool);
}

/// The same for a page that is reclaimed.
#[test]
fn the_slot_of_a_reclaim_that_fails() {
    let (pool, store) = pool(PAGE, PAGE);
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; PAGE]).unwrap();
    let waiter = Waiter::of(&pool);
    waiter.wait_during(Call::Write, &store, broken);
    pool.set_memory_limit(0);
    assert_eq!(buffer.stats().memory_used, PAGE as u64);
    waiter.assert_told(&pool);
    assert_eq!(content_of(&mut buffer), [1; PAGE]);
}

/// A file of a buffer's own counts no longer once it is handed over.
#[test]
fn the_slots_of_a_file_that_is_handed_over() {
    let (pool, _) = pool(0, PAGE);
    let dir = tempfile::tempdir().unwrap();
    let mut buffer = pool.buffer_for(dir.path().join("file"));
    buffer.write_all(&[1; PAGE]).unwrap();
    let waiter = Waiter::of(&pool);
    waiter.wait();
    drop(buffer.persist(dir.path().join("file")).unwrap());
    waiter.assert_told(&pool);
}

/// A lowered limit passes over the first in the queue, which now requests more than all of it:
/// the next has its turn.
#[test]
fn a_limit_lowered_below_the_first_request() {
    let (pool, _) = pool(PAGE, PAGE + BLOCK);
    let _used = [(); 2].map(|()| spilled(&pool, BLOCK));
    let first = Waiter::of(&pool);
    let mut second = pool.buffer();
    second.write_all(&[2; BLOCK]).unwrap();
    pool.set_memory_limit(BLOCK); // all of it is used
    first.wait();
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    for expected in [Poll::Ready(()), Poll::Pending] {
        second.spill().unwrap_err(); // it is behind the first
        assert_eq!(second.poll_writable(&mut Context::from_waker(&waker)), expected);
    }
    pool.set_disk_limit(PAGE as u64 - 1);
    assert_eq!(bell.rung(), 1);
    second.spill().unwrap();
    first.assert_told(&pool); // of the memory that the second has left
}
