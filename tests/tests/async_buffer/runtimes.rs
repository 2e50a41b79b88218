//! Runtimes that have no thread to spare.

use super::PAGE;
use super::subject::runtime;
use overspill::{MemoryStore, SpillError, SpillPool};
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
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

/// The task that the busy runtime was to begin did all jobs of the pool, it was believed; so the other runtime began none, and its
/// buffers waited for the threads of the first.
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

/// A runtime queues a task before it finds that it can start no thread for it. The task was believed to be dropped then; it counted as about
/// to begin, and no further one was started.
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
