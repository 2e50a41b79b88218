//! What a call that was dropped has left, and what comes after it.

use super::gated::Gated;
use super::servers::{pattern, wait_in_queue};
use super::subject::runtime;
use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore};
use overspill::{
    AsyncSpillBuffer, AsyncSpoolReader, MemoryStore, SpillBuffer, SpillError, SpillPool, WhenFull,
};
use overspill_tests::support::{content_of, in_time, stream};
use std::future::poll_fn;
use std::io::{Read, Seek, SeekFrom, Write};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::time::timeout;

const PAGE: usize = 4096;

/// Long enough for whatever does not wait for others.
const LONG: Duration = Duration::from_secs(20);

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

/// Begins `call` off the loop, drops its future while it runs, and lets it end.
async fn run_and_drop(buffer: &mut AsyncSpillBuffer, call: impl FnOnce(&mut SpillBuffer) + Send + 'static) {
    let ((begun, has_begun), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
    {
        let mut run = pin!(buffer.run(move |buffer| {
            begun.send(()).unwrap();
            goes_on.recv().unwrap();
            call(buffer);
        }));
        assert!(poll_fn(|context| Poll::Ready(run.as_mut().poll(context))).await.is_pending());
        has_begun.recv().unwrap();
    }
    go_on.send(()).unwrap();
}

/// The position came back with the buffer, after the seek, which also took the old length.
#[test]
fn a_seek_after_a_dropped_call_stays() {
    runtime(1).block_on(async {
        let mut buffer = pool(1 << 20).buffer().into_async();
        buffer.write_all(&(0..100).collect::<Vec<u8>>()).await.unwrap();
        run_and_drop(&mut buffer, |_| ()).await;
        assert_eq!(buffer.seek(SeekFrom::Start(5)).await.unwrap(), 5);
        assert_eq!(buffer.read_u8().await.unwrap(), 5);
        run_and_drop(&mut buffer, |buffer| buffer.set_len(10).unwrap()).await;
        assert_eq!(buffer.seek(SeekFrom::End(-1)).await.unwrap(), 9);
        assert_eq!(buffer.read_u8().await.unwrap(), 9);
    });
}

/// A job makes room for what was accepted before it makes the call. A call that was dropped meanwhile
/// was made all the same.
#[test]
fn a_call_that_was_dropped_before_it_began_is_not_made() {
    let (gate, stands) = Gated::of(Call::Write);
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(gate.clone()).build().unwrap();
    runtime(2).block_on(async {
        let mut buffer = pool.buffer().into_async();
        buffer.write_all(b"some").await.unwrap();
        let (called, calls) = mpsc::channel();
        {
            let mut run = pin!(buffer.run(move |_| called.send(()).unwrap()));
            assert!(poll_fn(|context| Poll::Ready(run.as_mut().poll(context))).await.is_pending());
            stands.recv_timeout(LONG).unwrap();
        }
        gate.open(true);
        let mut buffer = buffer.into_inner().await.unwrap();
        calls.recv().unwrap_err();
        assert_eq!(content_of(&mut buffer), b"some");
    });
}

/// What is read beside the pages was not counted, nor zeros past their end.
#[test]
fn what_is_read_without_memory_is_counted() {
    let pool = pool(0);
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 3 * PAGE]).unwrap();
    buffer.set_len(5 * PAGE as u64).unwrap();
    buffer.rewind().unwrap();
    runtime(1).block_on(async {
        let mut buffer = buffer.into_async();
        let mut all = Vec::new();
        buffer.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 5 * PAGE);
        buffer.write_all(b"accepted, and not in the store yet").await.unwrap();
        buffer.seek(SeekFrom::Current(-3)).await.unwrap();
        buffer.read_exact(&mut [0; 3]).await.unwrap();
    });
    assert_eq!(pool.stats().requested.read, 5 * PAGE as u64 + 3);
}

/// Bytes that were read beside the pages lay below others that were accepted there. A job moved some of these
/// to the store, and failed: the old bytes were read.
#[test]
fn what_was_accepted_is_read_after_a_job_that_has_failed_half_way() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(store).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[b'A'; 2 * PAGE]).unwrap();
    runtime(1).block_on(async {
        let mut buffer = buffer.into_async();
        buffer.seek(SeekFrom::Start(1000)).await.unwrap();
        buffer.write_all(&[b'B'; 100]).await.unwrap();
        buffer.rewind().await.unwrap();
        buffer.read_exact(&mut [0; 10]).await.unwrap();
        let short = Fault::once(0, Failure::Short(50)).on(Call::Write);
        faults.set(FaultPlan::new().with(short).with(Fault::lasting(1, Failure::io()).on(Call::Write)));
        buffer.run(|_| ()).await.unwrap_err();
        faults.lift();
        let mut read = [0; 100];
        buffer.seek(SeekFrom::Start(1000)).await.unwrap();
        buffer.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [b'B'; 100]);
        let content = content_of(&mut buffer.into_inner().await.unwrap());
        assert!(content[..1000] == [b'A'; 1000] && content[1000..1100] == [b'B'; 100]);
    });
}

/// A pool that waits for room below a full disk limit, a buffer of it, and one that has taken all of the
/// room.
fn full(at_most: Duration) -> (SpillPool, AsyncSpillBuffer, SpillBuffer) {
    let builder = SpillPool::builder().memory(0).disk(4 * PAGE as u64).page_size(PAGE);
    let pool = builder.store(MemoryStore::new()).when_full(WhenFull::Wait { at_most }).build().unwrap();
    let mut holder = pool.buffer();
    holder.write_all(&[1; 4 * PAGE]).unwrap();
    let buffer = pool.buffer().into_async();
    (pool, buffer, holder)
}

/// Begins to write and drops that once it waits for room. One whose time is up before, on a late
/// thread, is begun again.
async fn begin_to_wait(pool: &SpillPool, buffer: &mut AsyncSpillBuffer) {
    let mut waits = false;
    while !waits {
        let mut write = pin!(buffer.write_all(&[2]));
        waits = poll_fn(|context| {
            let is_in_queue = pool.stats().waiters > 0; // before the poll, which then has the runtime's timer
            match write.as_mut().poll(context) {
                Poll::Ready(refused) => refused.map_or(Poll::Ready(false), |()| panic!("there is no room")),
                Poll::Pending if is_in_queue => Poll::Ready(true),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }
}

/// The timer of a wait was that of the runtime that had polled first: after its end, the next poll panicked;
/// and while nobody ran it, the deadline never came.
///
/// It gave a call 20 ms to come to where it waits, of the 300 after which the wait ends; a late
/// thread found it ended.
#[test]
fn a_wait_goes_on_in_another_runtime() {
    in_time(|| {
        let (crowded, mut buffer, holder) = full(Duration::from_millis(300));
        let first = runtime(1);
        first.block_on(begin_to_wait(&crowded, &mut buffer));
        let second = runtime(1);
        let error = second.block_on(buffer.write_all(&[2])).unwrap_err();
        assert!(matches!(SpillError::of(&error), Some(SpillError::DiskLimit { .. })), "{error}");
        second.block_on(begin_to_wait(&crowded, &mut buffer));
        drop(second);
        first.block_on(buffer.write_all(&[2])).unwrap_err();
        drop(holder);
        first.block_on(buffer.write_all(&[2])).unwrap();

        let (writer, mut reader) = pool(1 << 20).spool();
        reader.set_timeout(Some(Duration::from_millis(300)));
        let mut reader = reader.into_async();
        let second = runtime(1);
        second.block_on(async {
            let mut read = pin!(reader.read_u8());
            assert!(poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await.is_pending());
        });
        drop(second);
        let error = first.block_on(reader.read_u8()).unwrap_err();
        assert!(matches!(SpillError::of(&error), Some(SpillError::NothingWritten { .. })), "{error}");
        drop(writer);
    });
}

/// A write was dropped while it waited, and the buffer cleared by a call. The next write that waited was
/// believed to have begun with the first, and failed at once.
#[test]
fn a_wait_after_a_call_that_cleared_the_buffer_begins_anew() {
    in_time(|| {
        let at_most = Duration::from_millis(300);
        runtime(1).block_on(async {
            let (pool, mut buffer, _holder) = full(at_most);
            begin_to_wait(&pool, &mut buffer).await;
            tokio::time::sleep(at_most).await;
            buffer.run(SpillBuffer::clear).await.unwrap();
            assert_eq!(pool.stats().waiters, 0);
            let began = Instant::now();
            let error = buffer.write_all(&[2]).await.unwrap_err();
            assert!(matches!(SpillError::of(&error), Some(SpillError::DiskLimit { .. })), "{error}");
            assert!(began.elapsed() >= at_most, "{:?}", began.elapsed());
        });
    });
}

/// A write that was dropped waited for room. What needs none waited with it, and failed at its deadline.
#[test]
fn what_needs_no_room_does_not_wait_for_that_of_a_dropped_write() {
    in_time(|| {
        let runtime = runtime(1);
        runtime.block_on(async {
            let (pool, mut buffer, holder) = full(Duration::MAX);
            wait_in_queue(pin!(buffer.write_all(&[2])), &pool, 1).await;
            assert_eq!(timeout(LONG, buffer.run(|buffer| buffer.len())).await.unwrap().unwrap(), 0);
            drop(holder);
            timeout(LONG, buffer.write_all(&[2])).await.unwrap().unwrap();

            let at_most = Duration::MAX;
            let builder = SpillPool::builder().memory(0).disk(PAGE as u64).page_size(PAGE);
            let builder = builder.store(MemoryStore::new()).when_full(WhenFull::Wait { at_most });
            let pool = builder.build().unwrap();
            let (writer, _reader) = pool.spool();
            let mut writer = writer.into_async();
            wait_in_queue(pin!(writer.write_all(&[3; 3 * PAGE])), &pool, 1).await;
            let held = writer.len();
            let frozen = timeout(LONG, writer.finish()).await.unwrap().unwrap();
            assert_eq!((frozen.len(), frozen.to_vec().unwrap().len() as u64), (held, held));
        });
    });
}

/// The end of the last page is 2^64: the sum overflowed, a job panicked or was begun again for ever.
#[test]
fn the_last_positions_are_written_and_read_on_a_loop() {
    const LAST: u64 = u64::MAX - 100;
    in_time(|| {
        runtime(1).block_on(async {
            let pool = pool(0);
            let mut buffer = pool.buffer().into_async();
            buffer.seek(SeekFrom::Start(LAST)).await.unwrap();
            buffer.write_all(&[7; 50]).await.unwrap();
            buffer.write_all(&[8; 50]).await.unwrap();
            buffer.write_u8(9).await.unwrap_err();
            let mut frozen = buffer.into_inner().await.unwrap();
            frozen.seek(SeekFrom::Start(0)).unwrap();
            let mut reader = frozen.freeze().reader().into_async();
            reader.seek(SeekFrom::Start(LAST)).await.unwrap();
            let mut read = Vec::new();
            reader.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, [[7; 50], [8; 50]].concat());
        });
    });
}

/// How much of a write is within the last position was asked before a call that was dropped came home, which
/// moved there: the sum overflowed on the loop.
#[test]
fn a_write_after_a_dropped_call_that_moved_to_the_last_position_is_cut() {
    in_time(|| {
        runtime(1).block_on(async {
            let mut buffer = pool(1 << 20).buffer().into_async();
            let last = u64::MAX - 1;
            run_and_drop(&mut buffer, move |buffer| drop(buffer.seek(SeekFrom::Start(last)))).await;
            assert_eq!(buffer.write(&[7; 10]).await.unwrap(), 1);
            assert_eq!((buffer.position(), buffer.len()), (u64::MAX, u64::MAX));
            let error = buffer.write(&[7; 10]).await.unwrap_err();
            assert!(matches!(SpillError::of(&error), Some(SpillError::TooLarge { .. })), "{error}");
        });
    });
}

/// A dropped write left its deadline too, once a cut had made room and left the queue: the next write
/// was refused at once.
#[test]
fn a_wait_after_a_cut_begins_anew() {
    let at_most = Duration::from_millis(40);
    let builder = SpillPool::builder().memory(2 * PAGE).disk(8 * PAGE as u64).page_size(PAGE);
    let policy = WhenFull::Wait { at_most };
    let pool = builder.when_full(policy).store(MemoryStore::new()).build().unwrap();
    let mut full = pool.buffer();
    full.write_all(&[1; 9 * PAGE]).unwrap();
    runtime(1).block_on(async {
        let mut late = pool.buffer().into_async();
        late.write_all(&[2; PAGE]).await.unwrap();
        wait_in_queue(pin!(late.write_all(&[3; PAGE])), &pool, 1).await;
        // The time of that write passes.
        let mut other = pool.buffer().into_async();
        other.write_all(&[2; PAGE]).await.unwrap_err();
        late.set_len(0).await.unwrap();
        full.write_all(&[1; PAGE]).unwrap(); // what was freed
        let began = Instant::now();
        late.write_all(&[4; PAGE]).await.unwrap_err();
        assert!(began.elapsed() >= at_most, "{:?}", began.elapsed());
    });
}

/// A page was being loaded for a reader that was dropped, or sought on, meanwhile. When all had passed it,
/// its slot was freed; and then the page came back with that slot, which was freed once more, while
/// another buffer had it.
#[test]
fn a_page_that_all_have_passed_does_not_come_back() {
    const PAGES: usize = 16;
    let leave: [fn(AsyncSpoolReader) -> Option<AsyncSpoolReader>; 2] = [
        |reader| {
            drop(reader);
            None
        },
        |mut reader| {
            runtime(1).block_on(reader.seek(SeekFrom::Start(8 * PAGE as u64))).unwrap();
            Some(reader)
        },
    ];
    for leave in leave {
        let (gate, stands) = Gated::new();
        let pool = SpillPool::builder().memory(0).page_size(PAGE).store(gate.clone()).build().unwrap();
        let (mut writer, reader) = pool.spool();
        writer.write_all(&pattern(3, 0, PAGES * PAGE)).unwrap();
        pool.set_memory_limit(64 * PAGE); // so that a page that is read gets memory
        let runtime = runtime(2);
        let mut slow = reader.once().into_async();
        let mut fast = slow.clone().into_inner();
        fast.seek(SeekFrom::Start(8 * PAGE as u64)).unwrap();
        runtime.block_on(async {
            let (mut buf, context) = ([0; 10], Waker::noop());
            let mut read = pin!(slow.read(&mut buf));
            assert!(read.as_mut().poll(&mut Context::from_waker(context)).is_pending());
        });
        stands.recv_timeout(Duration::from_secs(20)).unwrap();
        let before = pool.stats().disk_used;
        let left = leave(slow);
        let kept = pool.stats().disk_used;
        gate.open(true);
        assert_eq!(kept, before, "a job reads it");
        drop(runtime); // its job has ended
        assert!(pool.stats().disk_used < before, "what all have passed is freed");
        pool.check_invariants();
        // Others get what was freed.
        let mut others: Vec<_> = (0..8).map(|n| stream(&pool, PAGE, n)).collect();
        others.iter_mut().for_each(|other| other.spill().unwrap());
        drop((fast, left, writer));
        pool.check_invariants();
        let mut more: Vec<_> = (8..16).map(|n| stream(&pool, PAGE, n)).collect();
        more.iter_mut().for_each(|other| other.spill().unwrap());
        pool.check_invariants();
        for (n, other) in (0..).zip(others.iter_mut().chain(&mut more)) {
            assert!(content_of(other) == [n; PAGE], "{n}");
        }
    }
}

/// What was taken out of the async form kept the place in the queue of a write that was dropped, and with it
/// what was set aside for that.
#[test]
fn a_buffer_that_is_taken_out_waits_for_no_room() {
    let wait = WhenFull::Wait { at_most: Duration::MAX };
    let builder = SpillPool::builder().memory(0).disk(PAGE as u64).page_size(PAGE).when_full(wait);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let _holder = stream(&pool, PAGE, 1);
    runtime(1).block_on(async {
        let mut buffer = pool.buffer().into_async();
        wait_in_queue(pin!(buffer.write_all(&[2; 100])), &pool, 1).await;
        let _buffer = buffer.into_inner().await.unwrap();
        assert_eq!(pool.stats().waiters, 0);
    });
}

/// A reader that read once was dropped, or went on, while a job read from the store for it. What it had not
/// passed, or no more, was freed at once: written to by others, or cut off the store, under that read.
#[test]
fn what_a_job_reads_is_kept_until_it_has() {
    for (is_dropped, is_once_first) in [(true, true), (true, false), (false, true), (false, false)] {
        runtime(2).block_on(async {
            let (store, stands) = Gated::new();
            let pool = SpillPool::builder().memory(0).page_size(PAGE).store(store.clone()).build().unwrap();
            let (mut writer, reader) = pool.spool();
            writer.write_all(&[1; 8 * PAGE]).unwrap();
            store.open(true);
            let mut other = reader.clone().once();
            other.read_exact(&mut [0; 8 * PAGE]).unwrap();
            store.open(false);
            let mut reader = if is_once_first { reader.once() } else { reader }.into_async();
            assert!(timeout(Duration::from_millis(1), reader.read(&mut [0; PAGE])).await.is_err());
            stands.recv_timeout(LONG).unwrap();
            let mut reader = if is_once_first { reader } else { reader.once() };
            if is_dropped {
                drop(reader);
            } else {
                reader.seek(SeekFrom::Start(8 * PAGE as u64)).await.unwrap();
                tokio::spawn(async move { reader.read_u8().await });
                tokio::task::yield_now().await;
            }
            let kept = pool.stats().disk_used;
            store.open(true);
            assert_eq!(kept, 8 * PAGE as u64, "dropped: {is_dropped}");
            let began = Instant::now();
            while pool.stats().disk_used > 0 && began.elapsed() < LONG {
                tokio::task::yield_now().await;
            }
            assert_eq!(pool.stats().disk_used, 0, "dropped: {is_dropped}");
            drop((writer, other));
        });
    }
}

/// The job that read ahead of the last reader counted as one when that was dropped, and stood a page ahead of
/// it: the page between the two was freed, which nobody had read. And the writer seemed to have a reader.
#[test]
fn a_job_is_no_reader() {
    runtime(2).block_on(async {
        let (store, stands) = Gated::new();
        let pool = SpillPool::builder().memory(0).page_size(PAGE).store(store.clone()).build().unwrap();
        let (mut writer, reader) = pool.spool();
        writer.write_all(&pattern(5, 0, 40 * PAGE)).unwrap();
        store.let_pass(40);
        let mut reader = reader.once().into_async();
        let mut read = vec![0; 8 * PAGE + 100];
        reader.read_exact(&mut read).await.unwrap();
        store.open(false);
        store.let_pass(0);
        let reading = async { while reader.read(&mut read[..1000]).await.is_ok() {} };
        assert!(timeout(Duration::from_millis(1), reading).await.is_err());
        stands.recv_timeout(LONG).unwrap();
        let (at, used) = (reader.position(), pool.stats().disk_used);
        drop(reader);
        let (has_readers, kept) = (writer.has_readers(), pool.stats().disk_used);
        store.open(true);
        assert_eq!((has_readers, kept), (false, used));
        let mut late = writer.reader();
        late.seek(SeekFrom::Start(at)).unwrap();
        let mut rest = vec![0; 100];
        late.read_exact(&mut rest).unwrap();
        assert!(rest == pattern(5, usize::try_from(at).unwrap(), 100), "at {at}");
    });
}
