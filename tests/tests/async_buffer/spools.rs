//! What the handlers of a server do with readers and spools: they follow, wait, give up, and
//! outlive their runtime.

use super::gated::Gated;
use super::servers::{PAGE, block_on, pattern, waiting_pool};
use super::subject::{as_loop, runtime};
use overspill::testing::{Call, FaultPlan, FaultStore};
use overspill::{
    AsyncFrozenReader, AsyncSpoolReader, AsyncSpoolWriter, Checksums, MemoryStore, SpillError, SpillPool,
};
use overspill_tests::support::in_time;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::Builder;

pub(crate) fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

pub(crate) fn spool(pool: &SpillPool) -> (AsyncSpoolWriter, AsyncSpoolReader) {
    let (writer, reader) = pool.spool();
    (writer.into_async(), reader.into_async())
}

/// Polls `future` once, as a loop does.
pub(crate) fn once<F: Future>(future: F) -> Poll<F::Output> {
    as_loop(|| pin!(future).poll(&mut Context::from_waker(Waker::noop())))
}

fn is_unfinished(error: &io::Error) -> bool {
    matches!(SpillError::of(error), Some(SpillError::Unfinished { .. }))
}

#[test]
fn handles_go_to_other_threads_and_are_shared() {
    const fn is_sent<T: Send + Sync + Unpin + 'static>() {}
    const { is_sent::<AsyncFrozenReader>() };
    const { is_sent::<AsyncSpoolReader>() };
    const { is_sent::<AsyncSpoolWriter>() };
    fn futures_are_sent(writer: AsyncSpoolWriter, reader: &mut AsyncSpoolReader) -> impl Send {
        (writer.finish(), reader.read_u8())
    }
    let (writer, mut reader) = spool(&pool(PAGE));
    drop(futures_are_sent(writer, &mut reader));
}

/// Tasks and threads side by side, through a disk that has room for a small part. Without memory the readers
/// passed pages of which some lay in the tail: these were written when they were passed, and nobody freed
/// them, until the disk was full.
#[test]
fn a_spool_of_any_length_passes_a_small_disk() {
    const LEN: usize = 300 * PAGE + 77;
    for (memory, threads) in [(0, 1), (2 * PAGE, 2), (PAGE / 2, 2), (2 * PAGE, 1), (0, 2)] {
        let pool = waiting_pool(Duration::from_secs(60));
        pool.set_memory_limit(memory);
        let runtime = runtime(threads);
        let (mut writer, first) = spool(&pool);
        let first = first.once();
        let mut blocking = first.clone().into_inner();
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            blocking.read_to_end(&mut all).map(|_| all)
        });
        runtime.block_on(async {
            let follow = |mut reader: AsyncSpoolReader, piece: usize| async move {
                let (mut all, mut room) = (Vec::new(), vec![0; piece]);
                loop {
                    match reader.read(&mut room).await.unwrap() {
                        0 => return all,
                        n => all.extend_from_slice(&room[..n]),
                    }
                }
            };
            let second = tokio::spawn(follow(first.clone(), 1000));
            let first = tokio::spawn(follow(first, 5 * PAGE));
            let written = tokio::spawn(async move {
                for at in (0..LEN).step_by(1234) {
                    writer.write_all(&pattern(7, at, 1234.min(LEN - at))).await.unwrap();
                }
                writer.finish().await.unwrap()
            });
            for task in [first, second] {
                assert!(task.await.unwrap() == pattern(7, 0, LEN), "{memory} bytes of memory");
            }
            assert!(thread.join().unwrap().unwrap() == pattern(7, 0, LEN));
            assert_eq!(written.await.unwrap().len(), LEN as u64);
        });
        drop(runtime);
        pool.check_invariants();
        let stats = pool.stats();
        assert!(stats.disk_high_water <= 8 * PAGE as u64);
        assert_eq!((stats.memory_used, stats.disk_used, stats.waiters), (0, 0, 0));
    }
}

/// A future that waits for more is woken by bytes, and by each end.
#[test]
fn a_read_that_waits_is_woken_by_bytes_and_by_every_end() {
    let ends: [fn(AsyncSpoolWriter); 3] =
        [|writer| drop(block_on(writer.finish()).unwrap()), |writer| writer.fail("the client is gone"), drop];
    for (n, end) in ends.into_iter().enumerate() {
        let (mut writer, mut reader) = spool(&pool(1 << 20));
        let (told, tells) = mpsc::channel();
        let follower = thread::spawn(move || {
            block_on(async {
                told.send(reader.fill_buf().await.map(<[u8]>::to_vec)).unwrap();
                reader.consume(4);
                told.send(reader.read(&mut [0; 9]).await.map(|n| vec![0; n])).unwrap();
                reader.seek(SeekFrom::End(-1)).await
            })
        });
        block_on(writer.write_all(b"some")).unwrap();
        assert_eq!(tells.recv().unwrap().unwrap(), b"some");
        end(writer);
        let (last, sought) = (tells.recv().unwrap(), follower.join().unwrap());
        if n == 0 {
            assert_eq!((last.unwrap().len(), sought.unwrap()), (0, 3));
        } else {
            assert!(is_unfinished(&last.unwrap_err()) && is_unfinished(&sought.unwrap_err()));
        }
    }
}

#[test]
fn a_timeout_ends_one_read_and_needs_a_timer() {
    let (mut writer, reader) = pool(1 << 20).spool();
    let mut reader = reader;
    reader.set_timeout(Some(Duration::from_millis(20)));
    let mut reader = reader.into_async();
    let [with_timer, without] = [runtime(1), Builder::new_current_thread().build().unwrap()];
    for (runtime, least) in [(&with_timer, 20), (&without, 0), (&with_timer, 20)] {
        let error = runtime.block_on(reader.read(&mut [0; 10])).unwrap_err();
        let Some(SpillError::NothingWritten { waited, .. }) = SpillError::of(&error) else {
            panic!("{error}")
        };
        assert!(error.kind() == ErrorKind::TimedOut && *waited >= Duration::from_millis(least));
    }
    writer.write_all(b"late").unwrap();
    assert_eq!(with_timer.block_on(reader.read(&mut [0; 10])).unwrap(), 4);
}

/// It waited for ever. Each write begins the wait anew, as in the blocking form.
#[test]
fn a_timeout_ends_a_seek_from_the_end_too() {
    const TIMEOUT: Duration = Duration::from_millis(600);
    in_time(|| {
        let (mut writer, mut reader) = pool(1 << 20).spool();
        reader.set_timeout(Some(TIMEOUT));
        let mut reader = reader.into_async();
        let runtime = runtime(1);
        let mut written = Instant::now();
        let error = runtime.block_on(async {
            let mut seek = pin!(reader.seek(SeekFrom::End(-1)));
            for _ in 0..4 {
                written = Instant::now();
                writer.write_all(b"more").unwrap();
                assert!(
                    tokio::time::timeout(TIMEOUT / 6, seek.as_mut()).await.is_err(),
                    "something was written"
                );
            }
            seek.await.unwrap_err()
        });
        assert!(matches!(SpillError::of(&error), Some(SpillError::NothingWritten { .. })), "{error}");
        assert!(written.elapsed() >= TIMEOUT && reader.position() == 0);
        writer.write_all(b"last").unwrap();
        assert_eq!(runtime.block_on(reader.read(&mut [0; 100])).unwrap(), 20, "it goes on where it was");
        drop(writer.finish().unwrap());
        assert_eq!(runtime.block_on(reader.seek(SeekFrom::End(-1))).unwrap(), 19);
    });
}

/// Neither is an end, and a reader is not told that it is one.
#[test]
fn a_shutdown_is_no_end() {
    let (mut writer, mut reader) = spool(&pool(1 << 20));
    block_on(async {
        let slices = [&b"one "[..], b"", b"two"].map(IoSlice::new);
        assert_eq!(writer.write_vectored(&slices).await.unwrap(), 7);
        writer.flush().await.unwrap();
        writer.shutdown().await.unwrap();
        assert_eq!((writer.len(), writer.is_empty()), (7, false));
        let mut both = [0; 7];
        reader.read_exact(&mut both).await.unwrap();
        assert_eq!(&both, b"one two");
        assert!(once(reader.read(&mut [0])).is_pending());
        drop(writer);
        assert!(is_unfinished(&reader.read(&mut [0]).await.unwrap_err()));
    });
}

/// What was accepted beside the pages is read by all, and is not whole if the future that was to
/// finish it is dropped.
#[test]
fn a_finish_that_is_dropped_has_failed() {
    for is_dropped in [true, false] {
        let pool = pool(0);
        let (mut writer, mut reader) = spool(&pool);
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (release, wait) = mpsc::channel::<()>();
        runtime.block_on(async {
            writer.write_all(&pattern(3, 0, PAGE + 100)).await.unwrap();
            let mut all = vec![0; PAGE + 100];
            reader.read_exact(&mut all).await.unwrap();
            assert!(all == pattern(3, 0, PAGE + 100));
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            let mut finish = pin!(writer.finish());
            let first =
                poll_fn(|context| Poll::Ready(as_loop(|| finish.as_mut().poll(context).is_pending())));
            assert!(first.await, "without memory the last bytes are written by a job, which has no thread");
            if !is_dropped {
                release.send(()).unwrap();
                let frozen = poll_fn(|context| as_loop(|| finish.as_mut().poll(context))).await.unwrap();
                assert!(frozen.to_vec().unwrap() == pattern(3, 0, PAGE + 100));
            }
            drop(release);
            let _ = busy.await;
        });
        let end = block_on(reader.read(&mut [0]));
        match is_dropped {
            true => assert!(is_unfinished(&end.unwrap_err())),
            false => assert_eq!(end.unwrap(), 0),
        }
        as_loop(|| drop(reader));
        pool.trim();
    }
}

/// Error or wait, as the pool says. Nothing that was written is lost, and a writer that is
/// gone is in no queue.
#[test]
fn at_the_disk_limit_a_writer_fails_at_its_deadline_and_leaves_the_queue() {
    let soon = Duration::from_millis(40);
    let runtime = runtime(1);
    let pool = waiting_pool(soon);
    let (mut writer, mut reader) = spool(&pool);
    runtime.block_on(async {
        let error = writer.write_all(&pattern(1, 0, 20 * PAGE)).await.unwrap_err();
        let Some(SpillError::DiskLimit { waited, .. }) = SpillError::of(&error) else { panic!("{error}") };
        assert!(*waited >= soon && pool.stats().waiters == 0);
        let written = usize::try_from(writer.len()).unwrap();
        assert!((8 * PAGE..11 * PAGE).contains(&written), "{written}");
        let mut all = vec![0; written];
        reader.read_exact(&mut all).await.unwrap();
        assert!(all == pattern(1, 0, written));
        // Passing it all makes room.
        let mut reader = reader.once();
        writer.write_all(&pattern(1, written, 20)).await.unwrap();
        assert_eq!(reader.read(&mut [0; 100]).await.unwrap(), 20);
    });
    let pool = waiting_pool(Duration::MAX);
    let (mut writer, reader) = spool(&pool);
    runtime.block_on(async {
        let mut write = pin!(writer.write_all(&[1; 20 * PAGE]));
        poll_fn(|context| {
            assert!(as_loop(|| write.as_mut().poll(context)).is_pending(), "there is no room");
            if pool.stats().waiters == 1 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    });
    as_loop(|| drop(writer));
    drop(runtime);
    assert_eq!(pool.stats().waiters, 0, "though a reader keeps the content");
    drop(reader);
    pool.check_invariants();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
}

/// The job that was to be run is dropped with its runtime, and neither the content nor the writer is in it.
#[test]
fn both_ends_outlive_a_runtime() {
    let plan = FaultPlan::new()
        .slow(Call::Write, Duration::from_millis(20))
        .slow(Call::Read, Duration::from_millis(20));
    let (store, _) = FaultStore::new(MemoryStore::new(), plan);
    let pool = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(store).build().unwrap();
    let (mut writer, mut reader) = spool(&pool);
    let first = runtime(1);
    let mut read = 0;
    first.block_on(async {
        while let Poll::Ready(written) =
            poll_fn(|context| Poll::Ready(pin!(writer.write(&[7; 1000])).poll(context))).await
        {
            written.unwrap();
        }
        writer.write_all(&[7; 10 * PAGE]).await.unwrap();
        // As far as the beginning is in memory.
        while let Poll::Ready(bytes) =
            poll_fn(|context| Poll::Ready(pin!(reader.read(&mut [0; 10])).poll(context))).await
        {
            read += bytes.unwrap();
        }
        assert!(read < 10 * PAGE, "some of it is spilled");
        let _ = once(writer.write(&[7; 3 * PAGE]));
    });
    first.shutdown_background();
    let error = block_on(async {
        loop {
            if let Err(error) = writer.write_all(&[7; PAGE]).await {
                return error;
            }
        }
    });
    assert!(error.to_string().contains("runtime"), "{error}");
    let second = runtime(2);
    let len = writer.len();
    let (all, frozen) = second.block_on(async {
        writer.write_all(&[7; 10 * PAGE]).await.unwrap();
        let frozen = writer.finish().await.unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.map(|_| (all, frozen)).unwrap()
    });
    assert_eq!(((read + all.len()) as u64, frozen.len()), (len + 10 * PAGE as u64, len + 10 * PAGE as u64));
    assert!(all.iter().all(|byte| *byte == 7));
}

/// One thread reads the page that is written to, and has the lock for as long as the store takes. On the loop
/// a reader waited for it to say what it has passed; and one that did not wait forgot that, and the writer
/// waited for the room for ever.
#[test]
fn a_pass_that_finds_the_lock_taken_is_made_by_the_thread_that_has_it() {
    let (gate, stands) = Gated::new();
    let builder = SpillPool::builder().memory(2 * PAGE).page_size(PAGE).checksums(Checksums::On);
    let pool = builder.store(gate.clone()).build().unwrap();
    let (mut writer, reader) = pool.spool();
    let (mut slow, mut passing) = (reader.clone().once(), reader.once().into_async());
    writer.write_all(&pattern(1, 0, 6 * PAGE)).unwrap();
    pool.set_memory_limit(0);
    slow.seek(SeekFrom::Start(5 * PAGE as u64)).unwrap();
    let slow = thread::spawn(move || {
        let mut bytes = [0; 10];
        slow.read_exact(&mut bytes).unwrap();
        (bytes, slow) // it passes nothing itself
    });
    stands.recv().unwrap();
    let disk = pool.stats().disk_used;
    let on_loop = thread::spawn(move || {
        let mut writer = writer.into_async();
        let moved = once(passing.seek(SeekFrom::Start(5 * PAGE as u64))).is_ready();
        assert!(moved && passing.position() == 5 * PAGE as u64);
        // A write waits too, but as a future. Without a runtime it says so.
        let error = match once(writer.write(&[1; 3 * PAGE])) {
            Poll::Ready(written) => written.unwrap_err(),
            Poll::Pending => panic!("there is no runtime to wait for"),
        };
        assert!(error.to_string().contains("runtime"), "{error}");
        (writer, passing)
    });
    let (writer, passing) = on_loop.join().unwrap();
    gate.open(true);
    let (bytes, slow) = slow.join().unwrap();
    assert_eq!(bytes[..], pattern(1, 5 * PAGE, 10));
    assert!(pool.stats().disk_used + 5 * PAGE as u64 <= disk, "{disk}: {:?}", pool.stats());
    as_loop(|| drop((writer, passing, slow)));
    pool.check_invariants();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
}

/// A reader on the loop waited for a page that another thread was loading.
#[test]
fn a_reader_waits_for_no_other_on_the_loop() {
    let (gate, stands) = Gated::new();
    let pool = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(gate.clone()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&pattern(1, 0, 8 * PAGE)).unwrap();
    buffer.spill().unwrap();
    let frozen = buffer.freeze();
    let mut other = frozen.reader();
    let mut reader = frozen.reader().into_async();
    let other = thread::spawn(move || other.read(&mut [0; 10]).unwrap());
    stands.recv().unwrap();
    let runtime = runtime(2);
    let (done, polled) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _entered = runtime.enter();
            done.send(once(reader.read(&mut [0; 10])).is_pending()).unwrap();
        });
        let polled = polled.recv_timeout(Duration::from_secs(20));
        gate.open(true);
        assert!(polled.expect("the loop waits for another thread"));
    });
    let mut all = Vec::new();
    runtime.block_on(reader.read_to_end(&mut all)).unwrap();
    assert!(all == pattern(1, 0, 8 * PAGE) && other.join().unwrap() > 0);
}

/// What is read ahead is lent, and of that there is a bound for all: past it each reader has a copy, and
/// memory is left to others.
#[test]
fn readers_that_stand_still_leave_memory_to_others() {
    let pool = pool(64 * PAGE);
    let mut buffer = pool.buffer();
    buffer.write_all(&pattern(1, 0, 2000 * PAGE)).unwrap();
    buffer.spill().unwrap();
    let frozen = buffer.freeze();
    runtime(1).block_on(async {
        let mut standing = Vec::new();
        for at in 0..40_u32 {
            let mut reader = frozen.reader().into_async();
            reader.seek(SeekFrom::Start(u64::from(at) * 50 * PAGE as u64)).await.unwrap();
            assert_eq!(reader.fill_buf().await.unwrap()[..1], pattern(1, at as usize * 50 * PAGE, 1));
            standing.push(reader);
        }
        let lent = pool.stats().memory_lent;
        assert!((1..=16 * PAGE as u64).contains(&lent), "{lent} bytes are lent");
        let mut another = pool.buffer().into_async();
        another.write_all(&pattern(2, 0, 40 * PAGE)).await.unwrap();
        assert!(
            pool.stats().memory_used <= 64 * PAGE as u64
                && another.into_inner().await.unwrap().stats().memory_used > 0
        );
        for (at, reader) in standing.iter_mut().enumerate() {
            let mut piece = vec![0; 20 * PAGE];
            reader.read_exact(&mut piece).await.unwrap();
            assert!(piece == pattern(1, at * 50 * PAGE, 20 * PAGE), "reader {at}");
        }
        as_loop(|| drop(standing));
    });
    drop(frozen);
    assert_eq!((pool.stats().memory_lent, pool.stats().memory_used), (0, 0));
}

/// A job does the writer's part of keeping a lowered limit, since the loop may not.
#[test]
fn a_lowered_limit_is_kept_by_a_writer() {
    let pool = pool(64 * PAGE);
    let (mut writer, mut reader) = spool(&pool);
    runtime(1).block_on(async {
        let mut end = 0;
        for limit in [64, 3, 1, 0, 10, 0, 2] {
            pool.set_memory_limit(limit * PAGE);
            for _ in 0..20 {
                writer.write_all(&pattern(0, end, 5000)).await.unwrap();
                end += 5000;
            }
            assert!(pool.stats().memory_used <= (limit * PAGE) as u64, "{limit} pages: {:?}", pool.stats());
        }
        let frozen = writer.finish().await.unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert!(read == pattern(0, 0, end) && frozen.len() == end as u64);
    });
}

/// A switch of tasks costs what reading 64 KiB does. So a pass must not have one for each page.
#[test]
fn a_pass_has_few_jobs() {
    const LEN: usize = 32 << 20;
    let pool = SpillPool::builder().memory(8 << 20).store(MemoryStore::new()).build().unwrap();
    let (mut writer, mut reader) = spool(&pool);
    let piece = vec![7; 64 << 10];
    let mut waits = [0; 2];
    runtime(1).block_on(async {
        for _ in 0..LEN / piece.len() {
            let mut write = pin!(writer.write_all(&piece));
            poll_fn(|context| {
                let polled = write.as_mut().poll(context);
                waits[0] += usize::from(polled.is_pending());
                polled
            })
            .await
            .unwrap();
        }
        let mut read = vec![0; piece.len()];
        for _ in 0..LEN / piece.len() {
            let mut read = pin!(reader.read_exact(&mut read));
            poll_fn(|context| {
                let polled = read.as_mut().poll(context);
                waits[1] += usize::from(polled.is_pending());
                polled
            })
            .await
            .unwrap();
        }
    });
    let spilled = LEN - (8 << 20);
    assert!(waits[0] <= 2 * spilled / (1 << 20) + 16, "{waits:?}");
    assert!(waits[1] <= 2 * spilled / (256 << 10) + 16, "{waits:?}");
    // What is in memory is read by few polls too.
    let memory = SpillPool::builder().memory(64 << 20).build().unwrap();
    let mut buffer = memory.buffer();
    buffer.write_all(&vec![7; 16 << 20]).unwrap();
    let mut reader = buffer.freeze().reader().into_async();
    let mut all = vec![0; 20 << 20];
    assert!(matches!(once(reader.read(&mut all)), Poll::Ready(Ok(n)) if n == 1 << 20));
}
