//! What if code that is not ours panics, or comes back, in the middle of our work? Wakers and stores' errors
//! do here what they should not; subscribers of `tracing` do in `panicking_subscriber.rs`.

use overspill::{Checksums, Event, MemoryStore, SpillBuffer, SpillPool, Store};
use overspill_tests::support::{content_of, in_time};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

const PAGE: usize = 16 << 10;
const BLOCK: usize = 4 << 10;

/// A pool with so many bytes of disk and no memory, and a buffer that holds all of that.
fn full_pool(disk: usize) -> (SpillPool, SpillBuffer) {
    let builder = SpillPool::builder().memory(0).disk(disk as u64).page_size(PAGE);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let mut holder = pool.buffer();
    holder.write_all(&vec![1; disk]).unwrap();
    (pool, holder)
}

/// A buffer that was refused, and whose waker is in the queue.
fn waiting(pool: &SpillPool, waker: &Waker) -> SpillBuffer {
    let mut buffer = pool.buffer();
    buffer.write_all(&[2; 100]).unwrap_err();
    let mut context = Context::from_waker(waker);
    assert_eq!(buffer.poll_writable(&mut context), Poll::Ready(()), "the first time");
    buffer.write_all(&[2; 100]).unwrap_err();
    assert_eq!(buffer.poll_writable(&mut context), Poll::Pending);
    buffer
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker");
    }
}

#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that panicked unwound through the call of another buffer: that lost accepted bytes, the wake-ups
/// of all behind it, and part of the disk limit.
#[test]
fn a_waker_that_panics_reaches_nobody_else() {
    let (pool, mut holder) = full_pool(4 * PAGE);
    let woken = Arc::new(Counting::default());
    let first = waiting(&pool, &Arc::new(Panicking).into());
    let mut second = waiting(&pool, &Arc::clone(&woken).into());
    holder.set_len(PAGE as u64 + 100).unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1, "there is room for both");
    second.write_all(&[2; 100]).unwrap();
    assert_eq!(content_of(&mut holder), [1; PAGE + 100]);
    assert_eq!(content_of(&mut second), [2; 100]);
    drop(first);
    drop(holder);
    pool.check_invariants();
    drop(second);
    assert_eq!(pool.stats().disk_used, 0);
}

/// Reads a buffer when it is called, or only drops it.
struct Reading {
    buffer: Mutex<Option<SpillBuffer>>,
    found: Mutex<Vec<u8>>,
    only_drops: bool,
}

impl Wake for Reading {
    fn wake(self: Arc<Self>) {
        if let Some(mut buffer) = self.buffer.lock().unwrap().take()
            && !self.only_drops
        {
            *self.found.lock().unwrap() = content_of(&mut buffer);
        }
    }
}

/// A waker ran while pages were on their way to the store, in the thread that writes them. One that used such
/// a buffer, or only dropped it, waited for itself.
#[test]
fn a_waker_may_use_a_buffer_whose_pages_leave() {
    for only_drops in [false, true] {
        in_time(move || use_from_a_waker(only_drops));
    }
}

fn use_from_a_waker(only_drops: bool) {
    let builder = SpillPool::builder().memory(4 * PAGE).disk(2 * PAGE as u64).page_size(PAGE);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    // A page in memory that has outgrown its slot: reclaiming it frees that one.
    let mut donor = pool.buffer();
    donor.write_all(&[3; BLOCK]).unwrap();
    donor.spill().unwrap();
    donor.write_all(&[3; BLOCK]).unwrap();
    assert_eq!((donor.stats().memory_used, donor.stats().disk_used), (PAGE as u64 / 2, BLOCK as u64));
    let mut holder = pool.buffer();
    holder.write_all(&[4; PAGE]).unwrap();
    holder.spill().unwrap();
    let reading = Arc::new(Reading { buffer: Mutex::new(None), found: Mutex::default(), only_drops });
    let mut waiter = pool.buffer_builder().memory(0).build();
    let refused = waiting_for(&mut waiter, 3 * BLOCK + 1, &reading);
    *reading.buffer.lock().unwrap() = Some(donor);
    pool.set_memory_limit(0);
    assert!(reading.buffer.lock().unwrap().is_none(), "the waker ran");
    let found: &[u8] = if only_drops { &[] } else { &[3; 2 * BLOCK] };
    assert_eq!(*reading.found.lock().unwrap(), found);
    pool.check_invariants();
    drop((waiter, refused));
}

/// Lets `buffer` wait for room for `len` bytes. Returns what it could not write.
fn waiting_for(buffer: &mut SpillBuffer, len: usize, waker: &Arc<Reading>) -> Vec<u8> {
    let data = vec![5; len];
    let waker = Arc::clone(waker).into();
    let mut context = Context::from_waker(&waker);
    for expected in [Poll::Ready(()), Poll::Pending] {
        buffer.write_all(&data).unwrap_err();
        assert_eq!(buffer.poll_writable(&mut context), expected);
    }
    data
}

/// A store that cuts nothing, and of whose reads and writes one fails; it says so by errors whose drop
/// panics.
#[derive(Clone, Debug)]
struct Grudging(Arc<Calls>);

#[derive(Debug)]
struct Calls {
    store: MemoryStore,
    /// Reads and writes before the one that fails.
    left: AtomicUsize,
    kind: ErrorKind,
}

impl Grudging {
    fn new(left: usize, kind: ErrorKind) -> Self {
        Grudging(Arc::new(Calls { store: MemoryStore::new(), left: AtomicUsize::new(left), kind }))
    }

    fn count(&self) -> io::Result<()> {
        match self.0.left.fetch_sub(1, Ordering::SeqCst) {
            0 => Err(io::Error::new(self.0.kind, Angry)),
            _ => Ok(()),
        }
    }

    /// Whether the call has come that fails.
    fn has_failed(&self) -> bool {
        self.0.left.load(Ordering::SeqCst) > usize::MAX / 2
    }
}

#[derive(Debug)]
struct Angry;

impl std::fmt::Display for Angry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not now")
    }
}

impl std::error::Error for Angry {}

impl Drop for Angry {
    fn drop(&mut self) {
        panic!("an error is dropped");
    }
}

impl Store for Grudging {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.count()?;
        self.0.store.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.count()?;
        self.0.store.write_at(offset, data)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::Error::other(Angry))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.store.discard(offset, len)
    }
}

/// The store was marked as being cut, for ever: each later spill waited for the end of that.
#[test]
fn an_error_whose_drop_panics_leaves_nothing_under_way() {
    in_time(|| {
        let builder = SpillPool::builder().memory(0).page_size(PAGE);
        let pool = builder.store(Grudging::new(usize::MAX / 2, ErrorKind::Other)).build().unwrap();
        for byte in [1, 2] {
            let mut buffer = pool.buffer();
            buffer.write_all(&[byte; 3 * PAGE]).unwrap();
            buffer.rewind().unwrap();
            assert_eq!(content_of(&mut buffer), [byte; 3 * PAGE]);
            drop(buffer);
            pool.trim();
        }
        pool.check_invariants();
    });
}

/// Pages were in no table when the error of a transfer was dropped that is tried again, or whose page stays
/// in memory: accepted bytes were lost, room on the disk with them, and a reader waited for a load that had
/// ended.
#[test]
fn an_error_whose_drop_panics_loses_no_accepted_byte() {
    for scenario in [take_turns, write_off_the_loop] {
        fail_each_call(scenario);
    }
}

/// A vectored call returns what it has done before an error. The error was dropped as it was: a panic came
/// out in place of the number, though the position had moved on.
#[test]
fn an_error_whose_drop_panics_takes_no_number_from_a_vectored_call() {
    fail_each_call(move_by_vectors);
}

/// With checksums, a write that ends within a block reads that block first. If it cannot, it writes what lies
/// before the block; the error was dropped ahead of that, and the call panicked.
#[test]
fn an_error_whose_drop_panics_ends_no_write() {
    fail_each_call(overwrite);
}

/// The job of a call that was dropped had failed, and the next call, of another kind, dropped its error: it
/// panicked, and was neither done nor refused.
#[test]
fn an_error_whose_drop_panics_leaves_the_next_call_alone() {
    for scenario in [write_behind_a_read, finish_behind_a_write] {
        fail_each_call(scenario);
    }
}

/// Runs `scenario` again and again, until no call of the store is left that has not failed once.
fn fail_each_call(scenario: fn(&SpillPool)) {
    for checksums in [Checksums::Off, Checksums::On] {
        for kind in [ErrorKind::Interrupted, ErrorKind::StorageFull, ErrorKind::Other] {
            in_time(move || {
                let fails = |at: &usize| {
                    let store = Grudging::new(*at, kind);
                    let builder = SpillPool::builder().memory(8 * PAGE).page_size(PAGE).checksums(checksums);
                    let pool = builder.store(store.clone()).build().unwrap();
                    drop((pool.buffer(), spilled(&pool))); // its slot is free, so room can be made
                    scenario(&pool);
                    pool.check_invariants();
                    assert_eq!(pool.stats().disk_used, 0, "{kind:?} at {at}");
                    store.has_failed()
                };
                assert!((0..).take_while(fails).count() > 8);
            });
        }
    }
}

/// Calls until that succeeds. What a caller gets is its own to drop.
fn insist<R, E>(mut call: impl FnMut() -> Result<R, E>) -> R {
    loop {
        match call() {
            Ok(done) => return done,
            Err(error) => std::mem::forget(error),
        }
    }
}

fn spilled(pool: &SpillPool) -> SpillBuffer {
    let mut buffer = pool.buffer();
    write(&mut buffer, &[1; PAGE]);
    insist(|| buffer.spill());
    buffer
}

fn write(buffer: &mut SpillBuffer, mut data: &[u8]) {
    while !data.is_empty() {
        let taken = insist(|| buffer.write(data));
        data = &data[taken..];
    }
}

/// Buffers that take memory from each other, are spilled, appended to by segments, and read by many.
fn take_turns(pool: &SpillPool) {
    let mut buffers: Vec<_> = (0..4).map(|_| pool.buffer()).collect();
    for piece in 0..8 {
        buffers.iter_mut().for_each(|buffer| write(buffer, &[7; PAGE / 2 + 100][piece..]));
    }
    for mut buffer in buffers {
        insist(|| buffer.spill());
        buffer.rewind().unwrap();
        let mut all = vec![0; usize::try_from(buffer.len()).unwrap()];
        read(&mut all, |rest| insist(|| buffer.read(rest)));
        assert!(all.iter().all(|byte| *byte == 7));
        insist(|| buffer.spill());
        let frozen = buffer.freeze();
        let mut reader = frozen.reader();
        read(&mut all, |rest| insist(|| reader.read(rest)));
        assert!(all.iter().all(|byte| *byte == 7));
        assert_eq!(insist(|| frozen.clone().read_at(&mut [0; 10], PAGE as u64)), 10);
    }
}

fn read(mut rest: &mut [u8], mut read: impl FnMut(&mut [u8]) -> usize) {
    while !rest.is_empty() {
        rest.fill(0);
        let done = read(rest);
        rest = &mut rest[done..];
    }
}

/// Slices of which each fourth begins a page, to the store and back.
fn move_by_vectors(pool: &SpillPool) {
    let mut buffer = pool.buffer();
    let pieces: Vec<_> = (0..20).map(|byte| [byte; PAGE / 2 + 100]).collect();
    let all = pieces.concat();
    let mut written = 0;
    while written < all.len() {
        let slices: Vec<_> = all[written..].chunks(PAGE / 4).map(IoSlice::new).collect();
        written += insist(|| buffer.write_vectored(&slices));
    }
    insist(|| buffer.spill());
    buffer.rewind().unwrap();
    let mut found = vec![0; all.len()];
    let mut read = 0;
    while read < found.len() {
        let mut slices: Vec<_> = found[read..].chunks_mut(PAGE / 4).map(IoSliceMut::new).collect();
        read += insist(|| buffer.read_vectored(&mut slices));
    }
    assert!(found == all);
}

/// Pages that are in the store alone, written to from within a block to within another.
fn overwrite(pool: &SpillPool) {
    pool.set_memory_limit(0);
    let mut buffer = pool.buffer();
    let mut model = vec![1; 12 * PAGE];
    model.chunks(PAGE).for_each(|page| write(&mut buffer, page));
    for (at, len) in [(100, 3 * BLOCK), (PAGE - BLOCK, 2 * PAGE + 7), (5 * PAGE + BLOCK, BLOCK + 1)] {
        buffer.seek(SeekFrom::Start(at as u64)).unwrap();
        model[at..at + len].fill(2);
        write(&mut buffer, &model[at..at + len]);
    }
    buffer.rewind().unwrap();
    let mut found = vec![0; model.len()];
    read(&mut found, |rest| insist(|| buffer.read(rest)));
    assert!(found == model);
}

fn on_a_loop<F: Future<Output = ()>>(future: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(future);
}

/// As [`insist`].
async fn insist_off_the_loop<R>(mut call: impl AsyncFnMut() -> io::Result<R>) -> R {
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => std::mem::forget(error),
        }
    }
}

/// A pass of an async handle, whose pages leave and come by jobs.
fn write_off_the_loop(pool: &SpillPool) {
    on_a_loop(async {
        let mut handle = pool.buffer().into_async();
        let mut accepted = 0;
        while accepted < 24 * PAGE {
            accepted += insist_off_the_loop(async || handle.write(&[7; 5000]).await).await;
        }
        insist_off_the_loop(async || handle.rewind().await).await;
        let mut found = Vec::new();
        insist_off_the_loop(async || handle.read_to_end(&mut found).await).await;
        assert!(found.len() == accepted && found.iter().all(|byte| *byte == 7));
    });
}

/// A call of an async handle that is polled once, and dropped.
async fn begin(call: impl Future<Output = io::Result<usize>>) {
    let mut call = std::pin::pin!(call);
    let polled = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
    std::mem::forget(polled);
}

/// Reads that nobody waits for, each before a write.
fn write_behind_a_read(pool: &SpillPool) {
    pool.set_memory_limit(0);
    on_a_loop(async {
        let mut model = vec![1; 6 * PAGE];
        let mut buffer = pool.buffer();
        write(&mut buffer, &model);
        let mut handle = buffer.into_async();
        for page in 0..5 {
            let at = page * PAGE;
            insist_off_the_loop(async || handle.seek(SeekFrom::Start(at as u64)).await).await;
            begin(handle.read(&mut [0; PAGE])).await;
            let at = usize::try_from(handle.position()).unwrap(); // the job may have been fast
            model[at..at + 5].fill(2);
            let mut taken = 0;
            while taken < 5 {
                taken += insist_off_the_loop(async || handle.write(&[2; 5][taken..]).await).await;
            }
        }
        insist_off_the_loop(async || handle.rewind().await).await;
        let mut found = Vec::new();
        insist_off_the_loop(async || handle.read_to_end(&mut found).await).await;
        assert!(found == model);
    });
}

/// A write that nobody waits for, before the end of the content.
fn finish_behind_a_write(pool: &SpillPool) {
    pool.set_memory_limit(0);
    on_a_loop(async {
        for _ in 0..6 {
            let (writer, reader) = pool.spool();
            let mut writer = writer.into_async();
            let mut accepted = 0;
            while accepted < 3 * PAGE {
                accepted += insist_off_the_loop(async || writer.write(&[7; 5000]).await).await;
            }
            begin(writer.write(&[7; 5000])).await;
            let frozen = loop {
                match writer.finish().await {
                    Ok(frozen) => break frozen,
                    Err(failed) => {
                        let (error, back) = failed.into_parts();
                        std::mem::forget(error);
                        writer = back;
                    }
                }
            };
            drop(reader);
            let mut found = vec![0; usize::try_from(frozen.len()).unwrap()];
            let mut reader = frozen.reader();
            read(&mut found, |rest| insist(|| reader.read(rest)));
            assert!(found.len() >= accepted && found.iter().all(|byte| *byte == 7));
        }
    });
}

/// A frame for a page of shared content was another buffer's, whose first spill was told before the page was
/// loaded: a listener that read that page waited for its own thread.
#[test]
fn a_listener_may_read_the_page_that_its_thread_is_about_to_load() {
    type Look = Box<dyn FnOnce() + Send>;
    for way in 0..3 {
        in_time(move || {
            let look: Arc<Mutex<Option<Look>>> = Arc::default();
            let of_listener = Arc::clone(&look);
            let on_event = move |_: &Event| {
                let look = of_listener.lock().unwrap().take();
                look.into_iter().for_each(|look| look());
            };
            let builder = SpillPool::builder().memory(8 * PAGE).page_size(PAGE).lend(u64::MAX);
            let pool = builder.store(MemoryStore::new()).on_event(on_event).build().unwrap();
            let (mut body, mut other) = (pool.buffer(), pool.buffer());
            let (mut writer, reader) = pool.spool();
            body.write_all(&[1; 4 * PAGE]).unwrap();
            writer.write_all(&[1; 4 * PAGE]).unwrap();
            pool.set_memory_limit(0); // all leave
            pool.set_memory_limit(8 * PAGE);
            other.write_all(&[2; 8 * PAGE]).unwrap(); // all of the memory
            let frozen = body.freeze();
            let mut all = [0; 4 * PAGE];
            if way < 2 {
                let seen = frozen.clone();
                *look.lock().unwrap() = Some(Box::new(move || seen.read_exact_at(&mut [0; 10], 0).unwrap()));
            } else {
                let mut seen = reader.clone();
                *look.lock().unwrap() = Some(Box::new(move || seen.read_exact(&mut [0; 10]).unwrap()));
            }
            match way {
                0 => all[..PAGE].copy_from_slice(&frozen.bytes_at(0, PAGE).unwrap()),
                // By pieces that are too large for a window.
                1 => (0..8).for_each(|_| frozen.reader().read_exact(&mut all[..PAGE / 4 * 3]).unwrap()),
                _ => (0..8).for_each(|_| reader.clone().read_exact(&mut all[..PAGE / 4 * 3]).unwrap()),
            }
            assert!(look.lock().unwrap().is_none(), "it was told, {way}");
            assert_eq!(all[..PAGE / 4 * 3], [1; PAGE / 4 * 3]);
        });
    }
}
