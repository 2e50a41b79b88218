//! Passes that turn back while jobs that move pages for them have not begun.

use super::servers::{PAGE, pattern};
use super::subject::as_loop;
use overspill::{AsyncSpillBuffer, MemoryStore, SpillPool};
use std::io::SeekFrom;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

fn pool() -> SpillPool {
    SpillPool::builder().memory(32 * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// A buffer of `pages` pages, all of them spilled, of which the first is read.
async fn spilled(pool: &SpillPool, pages: usize) -> AsyncSpillBuffer {
    let mut buffer = pool.buffer().into_async();
    buffer.write_all(&pattern(1, 0, pages * PAGE)).await.unwrap();
    buffer.run(|buffer| buffer.spill()).await.unwrap().unwrap();
    buffer.rewind().await.unwrap();
    buffer.read_exact(&mut vec![0; PAGE]).await.unwrap();
    buffer
}

/// Calls of buffers of a pool that have all its tasks. They end when this is dropped.
struct Busy {
    ends: Vec<mpsc::Sender<()>>,
    calls: tokio::task::JoinSet<()>,
}

impl Busy {
    async fn begin(pool: &SpillPool) -> Self {
        let (mut ends, mut calls) = (Vec::new(), tokio::task::JoinSet::new());
        for _ in 0..4 {
            let mut other = pool.buffer().into_async();
            let ((end, is_end), (begun, has_begun)) = (mpsc::channel(), tokio::sync::oneshot::channel());
            calls.spawn(async move {
                let call = other.run(move |_| {
                    let _ = begun.send(());
                    let _ = is_end.recv_timeout(Duration::from_secs(20));
                });
                call.await.unwrap();
            });
            has_begun.await.unwrap();
            ends.push(end);
        }
        Busy { ends, calls }
    }

    async fn end(self) {
        drop(self.ends);
        self.calls.join_all().await;
    }
}

/// A page that was to leave waited for a task, and the tasks waited for this buffer: which waited for the
/// page, though that was still in memory.
///
/// It took all tasks, and found no room for a page to write, where the jobs of the writes before were late.
#[test]
fn a_page_that_has_not_begun_to_leave_is_read_and_written_without_a_job() {
    let (pool, runtime) = (pool(), runtime());
    runtime.block_on(async {
        let mut buffer = pool.buffer().into_async();
        for at in (0..48 * PAGE).step_by(PAGE) {
            buffer.write_all(&pattern(1, at, PAGE)).await.unwrap();
        }
        buffer.run(|_| ()).await.unwrap();
        let mut position = 48 * PAGE;
        let busy = loop {
            let (busy, from) = (Busy::begin(&pool).await, position);
            loop {
                let page = pattern(1, position, PAGE);
                let mut context = Context::from_waker(Waker::noop());
                if !as_loop(|| pin!(buffer.write(&page)).poll(&mut context)).is_ready() {
                    break;
                }
                position += PAGE;
            }
            if position > from {
                break busy;
            }
            // The pages had not left yet when the last task was taken.
            busy.end().await;
            buffer.run(|_| ()).await.unwrap();
        };
        let patience = Duration::from_secs(15);
        // Two jobs of four pages.
        for page in 1..=8 {
            let at = position - page * PAGE;
            buffer.seek(SeekFrom::Start(at as u64)).await.unwrap();
            let mut read = vec![0; 100];
            tokio::time::timeout(patience, buffer.read_exact(&mut read))
                .await
                .expect("a read waits")
                .unwrap();
            assert!(read == pattern(1, at, 100));
            tokio::time::timeout(patience, buffer.write_all(b"x")).await.expect("a write waits").unwrap();
        }
        busy.end().await;
        let mut buffer = buffer.into_inner().await.unwrap();
        buffer.check_invariants();
    });
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One half of a split buffer waited for pages that came. The other took the job back, to write, and dropped
/// the waker of the first with it.
#[test]
fn what_waits_for_a_job_that_is_taken_back_is_woken() {
    let (pool, runtime) = (pool(), runtime());
    runtime.block_on(async {
        let mut buffer = spilled(&pool, 96).await;
        let busy = Busy::begin(&pool).await;
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&flag));
        let mut page = vec![0; PAGE];
        while as_loop(|| pin!(buffer.read(&mut page)).poll(&mut Context::from_waker(&waker))).is_ready() {}
        assert!(!flag.0.load(Ordering::Relaxed));
        let polled = as_loop(|| pin!(buffer.write(b"x")).poll(&mut Context::from_waker(Waker::noop())));
        assert!(polled.is_ready() || flag.0.load(Ordering::Relaxed), "nobody wakes the reader");
        assert!(flag.0.load(Ordering::Relaxed), "nobody wakes the reader");
        busy.end().await;
    });
}

/// They were to be had by a job alone, which took the thread of one that moves bytes.
#[test]
fn statistics_need_no_job_and_wait_for_none() {
    let (pool, runtime) = (pool(), runtime());
    runtime.block_on(async {
        let mut buffer = spilled(&pool, 96).await;
        let stats = buffer.stats().unwrap();
        assert_eq!((stats.requested.written, stats.disk_used), (96 * PAGE as u64, 96 * PAGE as u64));
        let busy = Busy::begin(&pool).await;
        let mut run = Box::pin(buffer.run(|_| ()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(as_loop(|| run.as_mut().poll(&mut context)).is_pending());
        std::mem::forget(run); // which takes the call back
        assert_eq!(buffer.stats().map(|stats| stats.disk_used), None);
        busy.end().await;
        buffer.run(|_| ()).await.unwrap();
        assert_eq!(buffer.stats().map(|stats| stats.disk_used), Some(96 * PAGE as u64));
    });
}
