//! Runtimes that have no thread to spare.

use super::PAGE;
use super::subject::runtime;
use overspill::{MemoryStore, SpillError, SpillPool};
use std::io::{Seek, Write};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

fn pool() -> SpillPool {
    SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

/// A runtime of one blocking thread, which is taken until the sender is dropped.
pub(crate) fn busy() -> (Runtime, mpsc::Sender<()>) {
    let runtime = Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    let (release, wait) = mpsc::channel::<()>();
    let (tell, begun) = mpsc::channel();
    runtime.spawn_blocking(move || {
        tell.send(()).unwrap();
        wait.recv().unwrap_or_default();
    });
    begun.recv().unwrap();
    (runtime, release)
}

fn within<T>(runtime: &Runtime, time: Duration, future: impl Future<Output = T>) -> Option<T> {
    runtime.block_on(async { timeout(time, future).await.ok() })
}

/// The task that the busy runtime was to begin did all jobs of the pool, it was believed; so the other
/// runtime began none, and its buffers waited for the threads of the first.
#[test]
fn a_buffer_waits_for_no_thread_of_another_runtime() {
    let pool = pool();
    let (busy, release) = busy();
    let (mut theirs, mut ours) = (pool.buffer().into_async(), pool.buffer().into_async());
    let late = within(&busy, Duration::from_millis(10), theirs.write_all(&[1; 100_000]));
    assert!(late.is_none(), "its thread is taken");
    let second = runtime(1);
    for _ in 0..3 {
        within(&second, LONG, ours.write_all(&[2; 100_000])).expect("it has threads").unwrap();
    }
    drop(release);
    let written = within(&busy, LONG, theirs.write_all(&[1; 100_000]));
    written.expect("now this one has, too").unwrap();
    drop((theirs, ours, busy, second));
    pool.check_invariants();
}

/// A runtime queues a task before it finds that it can start no thread for it. The task was believed to be
/// dropped then; it counted as about to begin, and no further one was started.
#[test]
fn a_task_that_gets_no_thread_is_told_of() {
    let pool = pool();
    let mut builder = Builder::new_current_thread();
    let without_threads = builder.enable_time().thread_stack_size(1 << (usize::BITS - 2)).build().unwrap();
    let mut buffer = pool.buffer().into_async();
    for _ in 0..2 {
        let refused = within(&without_threads, LONG, buffer.write_all(&[1; 100_000])).expect("it is told");
        let refused = refused.unwrap_err();
        assert!(matches!(SpillError::of(&refused), Some(SpillError::NoRuntime)), "{refused}");
    }
    let second = runtime(1);
    within(&second, LONG, buffer.write_all(&[1; 100_000])).expect("there is a thread").unwrap();
    drop((buffer, second, without_threads));
    pool.check_invariants();
}

/// Polls `future` once.
fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A job that evicts what a lowered limit has no room for finds no runtime. That was the error of a read
/// which needed no job, and the next one had none.
#[test]
fn what_is_in_memory_is_read_without_a_runtime_whatever_else_is_due() {
    let builder = SpillPool::builder().memory(1 << 20).disk(0).store(MemoryStore::new());
    let pool = builder.build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[7; 900_000]).unwrap();
    buffer.rewind().unwrap();
    pool.set_memory_limit(100_000);
    let mut buffer = buffer.into_async();
    let mut byte = [0];
    let Poll::Ready(read) = poll_once(buffer.read(&mut byte)) else { panic!("it is in memory") };
    assert_eq!((read.unwrap(), byte), (1, [7]));
}

/// A write was dropped, and its job found no runtime any more. That was the error of `finish`,
/// which needs no room.
#[test]
fn a_spool_is_finished_without_a_runtime_whatever_a_dropped_write_needed() {
    let pool = pool();
    let (writer, _reader) = pool.spool();
    let mut writer = writer.into_async();
    let mut taken = 0;
    let (busy, release) = busy();
    {
        let _inside = busy.enter();
        while let Poll::Ready(written) = poll_once(writer.write(&[1; PAGE])) {
            taken += written.unwrap();
        }
    }
    let Poll::Ready(finished) = poll_once(writer.finish()) else { panic!("there is nothing to wait for") };
    assert_eq!(finished.unwrap().to_vec().unwrap(), vec![1; taken]);
    drop(release);
}

/// The same of a seek, after a cut that was dropped.
#[test]
fn a_seek_needs_no_runtime_whatever_a_dropped_cut_needed() {
    use tokio::io::AsyncSeekExt;

    let mut buffer = pool().buffer();
    buffer.write_all(&[1; 10 * PAGE]).unwrap();
    let mut buffer = buffer.into_async();
    let (busy, release) = busy();
    {
        let _inside = busy.enter();
        assert!(poll_once(buffer.set_len(PAGE as u64)).is_pending());
    }
    let Poll::Ready(moved) = poll_once(buffer.rewind()) else { panic!("there is nothing to wait for") };
    assert_eq!((moved.unwrap(), buffer.position()), (0, 0));
    drop(release);
}

/// A timer says by a panic that its runtime was shut down, and so did the read that had made it.
#[test]
fn a_read_with_a_timeout_ends_if_its_runtime_was_shut_down() {
    let (_writer, mut reader) = pool().spool();
    reader.set_timeout(Some(LONG));
    let mut reader = reader.into_async();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let handle = runtime.handle().clone();
    let mut buf = [0; 10];
    let mut read = pin!(reader.read(&mut buf));
    let mut context = Context::from_waker(Waker::noop());
    let _entered = handle.enter();
    assert!(read.as_mut().poll(&mut context).is_pending());
    runtime.shutdown_background();
    let polled = std::iter::repeat_with(|| read.as_mut().poll(&mut context)).find(Poll::is_ready);
    let Some(Poll::Ready(Err(error))) = polled else { panic!("{polled:?}") };
    assert!(matches!(SpillError::of(&error), Some(SpillError::NothingWritten { .. })), "{error}");
}
