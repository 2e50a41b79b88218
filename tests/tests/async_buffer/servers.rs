//! What a server meets: many buffers at once, a runtime that ends, a disk that is full for a while, a
//! limit that is lowered.

use super::gated::Gated;
use super::subject::{as_loop, runtime};
use overspill::testing::{Call, FaultPlan, FaultStore};
use overspill::{AsyncSpillBuffer, MemoryStore, SpillBuffer, SpillError, SpillPool, Store, WhenFull};
use std::future::poll_fn;
use std::io::{self, Read, Seek, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

pub(crate) const PAGE: usize = 4096;

/// What buffer `number` holds from `at` on.
pub(crate) fn pattern(number: usize, at: usize, len: usize) -> Vec<u8> {
    (at..at + len).map(|at| u8::try_from((at * 31 + number * 7) % 251).unwrap()).collect()
}

pub(crate) fn content(mut buffer: SpillBuffer) -> Vec<u8> {
    let mut content = Vec::new();
    buffer.rewind().unwrap();
    buffer.read_to_end(&mut content).unwrap();
    content
}

/// A store that counts the threads that are in it.
#[derive(Debug)]
struct Crowded {
    inner: MemoryStore,
    inside: AtomicUsize,
    most: Arc<AtomicUsize>,
}

impl Crowded {
    fn enter<R>(&self, call: impl FnOnce(&MemoryStore) -> R) -> R {
        self.most.fetch_max(self.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        let result = call(&self.inner);
        self.inside.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

impl Store for Crowded {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.enter(|inner| inner.read_at(offset, buf))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.enter(|inner| inner.write_at(offset, data))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.enter(|inner| inner.discard(offset, len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.enter(|inner| inner.set_len(len))
    }
}

/// A task of the runtime for each buffer would be a thousand threads.
#[test]
fn a_thousand_buffers_use_four_threads() {
    const BUFFERS: usize = 1000;
    const PIECES: usize = 20;
    const PIECE: usize = 1400;
    let most = Arc::new(AtomicUsize::new(0));
    let store = Crowded { inner: MemoryStore::new(), inside: AtomicUsize::new(0), most: Arc::clone(&most) };
    let pool = SpillPool::builder().memory(1 << 20).store(store).build().unwrap();
    let runtime = runtime(2);
    let body = |number: usize, mut upload: AsyncSpillBuffer| async move {
        for piece in 0..PIECES {
            upload.write_all(&pattern(number, piece * PIECE, PIECE)).await.unwrap();
            tokio::task::yield_now().await;
        }
        upload.rewind().await.unwrap();
        let mut read = Vec::new();
        upload.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, pattern(number, 0, PIECES * PIECE), "buffer {number}");
    };
    runtime.block_on(async {
        let tasks: Vec<_> =
            (0..BUFFERS).map(|number| tokio::spawn(body(number, pool.buffer().into_async()))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    drop(runtime);
    assert!((1..=4).contains(&most.load(Ordering::SeqCst)), "{most:?} threads in the store");
    pool.check_invariants();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
    assert!(pool.stats().memory_high_water <= 1 << 20);
}

/// Polls outside any runtime.
pub(crate) fn block_on<R>(future: impl Future<Output = R>) -> R {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return result;
        }
        std::thread::park();
    }
}

/// Writes until a write is pending, and returns what was taken.
fn fill(buffer: &mut AsyncSpillBuffer, context: &mut Context<'_>) -> Vec<u8> {
    let mut taken = Vec::new();
    loop {
        let piece = pattern(0, taken.len(), 1000);
        match as_loop(|| pin!(buffer.write(&piece)).poll(context)) {
            Poll::Ready(n) => taken.extend_from_slice(&piece[..n.unwrap()]),
            Poll::Pending => return taken,
        }
    }
}

/// A runtime that is shut down drops the tasks that it has not begun. The buffer is not in them.
///
/// Its only thread is taken to the end: tasks that lay in its queue counted as about to begin for all
/// runtimes, so others started none, and a poll outside any waited for them.
#[test]
fn a_buffer_outlives_the_runtime_that_was_to_make_room_for_it() {
    let pool =
        SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let mut builder = Builder::new_current_thread();
    let first = builder.max_blocking_threads(1).build().unwrap();
    let (release, wait) = mpsc::channel::<()>();
    let (tell, begun) = mpsc::channel();
    first.spawn_blocking(move || {
        tell.send(()).unwrap();
        wait.recv().unwrap_or_default();
    });
    begun.recv().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut buffers = [pool.buffer().into_async(), pool.buffer().into_async()];
    let mut taken = first.block_on(async { buffers.each_mut().map(|buffer| fill(buffer, &mut context)) });
    assert!(!taken[0].is_empty());
    first.shutdown_background();

    let [taken_out, mut goes_on] = buffers;
    // Without any runtime, and at once.
    let Poll::Ready(taken_out) = pin!(taken_out.into_inner()).poll(&mut context) else { panic!("it waits") };
    assert_eq!(content(taken_out.unwrap()), taken[0]);
    let end = taken[1].len();
    // A poll outside a runtime says so, to the call, and loses nothing.
    let more = pattern(0, end, 50_000);
    let error = block_on(goes_on.write_all(&more)).unwrap_err();
    assert!(matches!(SpillError::of(&error), Some(SpillError::NoRuntime)), "{error}");
    assert!(error.to_string().contains("runtime"), "{error}");
    let end = usize::try_from(goes_on.len()).unwrap();
    let second = runtime(1);
    second.block_on(goes_on.write_all(&pattern(0, end, 50_000))).unwrap();
    taken[1] = pattern(0, 0, end + 50_000);
    assert_eq!(content(second.block_on(goes_on.into_inner()).unwrap()), taken[1]);
    drop((second, release));
    pool.check_invariants();
}

/// A job that runs while the runtime ends is completed, and its buffer can be had afterwards.
#[test]
fn a_job_that_runs_while_its_runtime_ends_gives_the_buffer_back() {
    let plan = FaultPlan::new().slow(Call::Write, Duration::from_millis(50));
    let (store, _) = FaultStore::new(MemoryStore::new(), plan);
    let pool = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(store).build().unwrap();
    let mut buffer = pool.buffer().into_async();
    let first = runtime(1);
    let taken = first.block_on(async { fill(&mut buffer, &mut Context::from_waker(Waker::noop())) });
    first.shutdown_background();
    let buffer = runtime(1).block_on(buffer.into_inner()).unwrap();
    assert_eq!(content(buffer), taken);
}

pub(crate) fn waiting_pool(at_most: Duration) -> SpillPool {
    let builder = SpillPool::builder().memory(2 * PAGE).disk(8 * PAGE as u64).page_size(PAGE);
    let policy = WhenFull::Wait { at_most };
    builder.when_full(policy).store(MemoryStore::new()).build().unwrap()
}

/// It asked for the first to end first. The queue serves in turn, but their jobs run side by side, and now
/// and then the second's was done before the loop looked at the first's.
#[test]
fn at_the_disk_limit_writers_wait_until_there_is_room() {
    let pool = waiting_pool(Duration::MAX);
    let mut full = pool.buffer();
    full.write_all(&[1; 10 * PAGE]).unwrap();
    let [mut first, mut second] = [(); 2].map(|()| pool.buffer().into_async());
    let data = [2; 4 * PAGE];
    runtime(1).block_on(async {
        let [mut first, mut second] =
            [&mut first, &mut second].map(|buffer| Box::pin(buffer.write_all(&data)));
        wait_in_queue(first.as_mut(), &pool, 1).await;
        wait_in_queue(second.as_mut(), &pool, 2).await;
        full.set_len(6 * PAGE as u64).unwrap(); // room for the one
        drop(full);
        let (first, second) = tokio::join!(first, second);
        first.and(second).unwrap();
    });
    drop((first, second));
    assert_eq!((pool.stats().waiters, pool.stats().disk_used), (0, 0));
    pool.check_invariants();
}

/// Polls `write` until that many wait for room, it being one of them.
pub(crate) async fn wait_in_queue(
    mut write: Pin<&mut dyn Future<Output = io::Result<()>>>,
    pool: &SpillPool,
    waiters: u64,
) {
    poll_fn(|context| {
        assert!(as_loop(|| write.as_mut().poll(context)).is_pending(), "there is no room");
        if pool.stats().waiters == waiters { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Writes to a pool whose disk is full, and returns how long that waited.
fn time_until_refused(runtime: &Runtime, at_most: Duration) -> Duration {
    let pool = waiting_pool(at_most);
    pool.buffer().write_all(&[1; 10]).unwrap();
    let mut full = pool.buffer();
    full.write_all(&[1; 10 * PAGE]).unwrap();
    let mut late = pool.buffer().into_async();
    let error = runtime.block_on(late.write_all(&[2; 100])).unwrap_err();
    let Some(SpillError::DiskLimit { waited, .. }) = SpillError::of(&error) else { panic!("{error}") };
    assert_eq!((late.len(), pool.stats().waiters), (0, 0));
    *waited
}

#[test]
fn a_wait_ends_at_its_deadline_or_at_once_without_a_timer() {
    let soon = Duration::from_millis(40);
    assert!(time_until_refused(&runtime(1), soon) >= soon && time_until_refused(&runtime(2), soon) >= soon);
    let without_timer = Builder::new_current_thread().build().unwrap();
    let late = Duration::from_secs(100);
    assert!(time_until_refused(&without_timer, late) < late);
}

#[test]
fn a_write_that_is_dropped_keeps_its_place_in_the_queue() {
    let pool = waiting_pool(Duration::MAX);
    let mut full = pool.buffer();
    full.write_all(&[1; 10 * PAGE]).unwrap();
    let mut dropped = pool.buffer().into_async();
    let runtime = runtime(1);
    runtime.block_on(async {
        wait_in_queue(pin!(dropped.write_all(&[2; 100])), &pool, 1).await;
    });
    assert_eq!(pool.stats().waiters, 1);
    drop(full);
    runtime.block_on(dropped.write_all(&[3; 100])).unwrap();
    assert_eq!((dropped.len(), pool.stats().waiters), (100, 0));
}

/// A job does the owner's part of keeping a lowered limit, since the loop may not.
#[test]
fn a_lowered_limit_is_kept_by_a_buffer_in_use() {
    let pool =
        SpillPool::builder().memory(64 * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let runtime = runtime(1);
    let mut buffer = pool.buffer().into_async();
    runtime.block_on(async {
        let mut end = 0;
        for limit in [64, 3, 1, 0, 10, 0, 2] {
            pool.set_memory_limit(limit * PAGE);
            for _ in 0..20 {
                buffer.write_all(&pattern(0, end, 5000)).await.unwrap();
                end += 5000;
            }
            assert!(pool.stats().memory_used <= (limit * PAGE) as u64, "{limit} pages: {:?}", pool.stats());
        }
        buffer.rewind().await.unwrap();
        let mut read = Vec::new();
        buffer.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, pattern(0, 0, end));
    });
}

/// A switch of tasks costs what reading 64 KiB does. So a pass must not have one for each page: it writes a
/// megabyte with each job, and reads half as much, with the next half on its way.
#[test]
fn a_sequential_pass_moves_much_with_each_job() {
    const LEN: usize = 32 << 20;
    let pool = SpillPool::builder().memory(8 << 20).store(MemoryStore::new()).build().unwrap();
    let runtime = runtime(1);
    let mut buffer = pool.buffer().into_async();
    let piece = vec![7; 64 << 10];
    let mut waits = 0;
    let mut counted = async |mut operation: Pin<&mut dyn Future<Output = io::Result<()>>>| {
        poll_fn(|context| {
            let polled = operation.as_mut().poll(context);
            waits += usize::from(polled.is_pending());
            polled
        })
        .await
    };
    runtime.block_on(async {
        for _ in 0..LEN / piece.len() {
            counted(pin!(buffer.write_all(&piece))).await.unwrap();
        }
        buffer.rewind().await.unwrap();
        let mut read = vec![0; piece.len()];
        for _ in 0..LEN / piece.len() {
            counted(pin!(async { buffer.read_exact(&mut read).await.map(drop) })).await.unwrap();
        }
    });
    let spilled = LEN - (8 << 20);
    let most = 4 * spilled / (1 << 20) + 24;
    assert!(waits <= most, "{waits} waits, {most} at most");
    // Half a megabyte each, if a job comes at once: 130 have been seen beside other tests, and there are 384
    // pages. Those that make room for the first of the pages that are read go one by one.
    let writes = 3 * spilled / (1 << 20) + 120;
    assert!(pool.stats().io.writes <= writes as u64, "{:?}", pool.stats());
}

/// A buffer that has clones reads what they share through locks, and waited for a page that another of them
/// was loading: on the event loop, for as long as the store took.
#[test]
fn a_clone_waits_for_no_other_on_the_loop() {
    let (gate, stands) = Gated::new();
    let pool = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(gate.clone()).build().unwrap();
    let mut first = pool.buffer();
    first.write_all(&pattern(1, 0, 8 * PAGE)).unwrap();
    first.spill().unwrap();
    let second = first.try_clone().unwrap();
    let other = std::thread::spawn(move || content(first));
    stands.recv().unwrap();

    let runtime = runtime(2);
    let handle = runtime.handle().clone();
    let (done, polled) = mpsc::channel();
    let on_loop = std::thread::spawn(move || {
        let _entered = handle.enter();
        let mut second = second.into_async();
        let mut buf = [0; 10];
        let mut rewound = pin!(second.rewind());
        let mut context = Context::from_waker(Waker::noop());
        let _ = as_loop(|| rewound.as_mut().poll(&mut context));
        let is_pending = as_loop(|| pin!(second.read(&mut buf)).poll(&mut context)).is_pending();
        done.send(is_pending).unwrap();
        second
    });
    assert!(polled.recv_timeout(Duration::from_secs(20)).expect("the loop waits for another thread"));
    gate.open(true);
    let second = on_loop.join().unwrap();
    let second = runtime.block_on(second.into_inner()).unwrap();
    assert!(content(second) == pattern(1, 0, 8 * PAGE) && other.join().unwrap() == pattern(1, 0, 8 * PAGE));
}

/// What is written to a page that clones share needs room for all of the page. Room for the byte alone was
/// looked for: so it was accepted, and the error came to a later call.
#[test]
fn a_write_that_the_disk_has_no_room_for_is_not_accepted() {
    let builder = SpillPool::builder().memory(0).page_size(4 * PAGE).disk(9 * PAGE as u64);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let mut first = pool.buffer();
    first.write_all(&pattern(1, 0, 8 * PAGE)).unwrap();
    let mut clone = first.try_clone().unwrap().into_async();
    runtime(1).block_on(async {
        clone.seek(io::SeekFrom::Start(5)).await.unwrap();
        let refused = clone.write(b"x").await.unwrap_err();
        assert!(matches!(SpillError::of(&refused), Some(SpillError::DiskLimit { .. })), "{refused:?}");
        pool.set_disk_limit(12 * PAGE as u64);
        clone.write_all(b"x").await.unwrap();
        let mut expected = pattern(1, 0, 8 * PAGE);
        expected[5] = b'x';
        assert!(content(clone.into_inner().await.unwrap()) == expected);
    });
    assert!(content(first) == pattern(1, 0, 8 * PAGE));
}

/// A write without memory is accepted when the disk has room for it, and goes there with the next job.
/// Another buffer may take that room in between: the bytes are late then, and none of them is lost,
/// whatever is tried meanwhile.
#[test]
fn bytes_whose_room_another_has_taken_meanwhile_are_late_and_not_lost() {
    const ROOM: usize = 16 * PAGE;
    let pool = SpillPool::builder().memory(0).page_size(PAGE).disk(ROOM as u64).store(MemoryStore::new());
    let pool = pool.build().unwrap();
    for give_up in [false, true] {
        let mut first = pool.buffer().into_async();
        runtime(1).block_on(async {
            assert_eq!(first.write(b"accepted").await.unwrap(), 8);
            assert_eq!((first.len(), pool.stats().disk_used), (8, 0));
            let mut other = pool.buffer();
            other.write_all(&[2; ROOM]).unwrap();
            let is_refused =
                |error: &io::Error| matches!(SpillError::of(error), Some(SpillError::DiskLimit { .. }));
            for _ in 0..3 {
                // Beside what was accepted there is room in memory for a little more, and then for none.
                while let Ok(more) = first.write(&[1; PAGE]).await {
                    assert!(more > 0 && first.len() <= 8 + ROOM as u64);
                }
                assert!(is_refused(&first.write(b"x").await.unwrap_err()));
                assert!(is_refused(&first.run(|_| ()).await.unwrap_err()));
                first.rewind().await.unwrap();
                let mut start = [0; 8];
                first.read_exact(&mut start).await.unwrap();
                assert_eq!(&start, b"accepted");
                first.seek(io::SeekFrom::End(0)).await.unwrap();
            }
            let len = usize::try_from(first.len()).unwrap();
            let expected = [&b"accepted"[..], &vec![1; len - 8]].concat();
            let inner = if give_up {
                let (error, first) = first.into_inner().await.unwrap_err().into_parts();
                assert!(is_refused(&error));
                drop(other);
                first.into_inner().await
            } else {
                drop(other);
                first.into_inner().await
            };
            assert!(content(inner.unwrap()) == expected);
        });
        assert_eq!(pool.stats().disk_used, 0);
        pool.check_invariants();
    }
}

/// What a job was given has panicked: the call says so, and the buffer goes on.
#[test]
fn a_panic_of_a_job_is_an_error_of_its_call() {
    let pool = SpillPool::builder().memory(0).store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer().into_async();
    runtime(1).block_on(async {
        buffer.write_all(b"kept").await.unwrap();
        let error = buffer.run(|_| -> () { panic!("on purpose") }).await.unwrap_err();
        let Some(SpillError::JobPanicked { message, .. }) = SpillError::of(&error) else { panic!("{error}") };
        assert_eq!(message, "on purpose");
    });
    assert_eq!(content(runtime(1).block_on(buffer.into_inner()).unwrap()), b"kept");
}
