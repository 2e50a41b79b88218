//! Is what is saved off the loop whole, or nothing; and is the buffer still there when it is not?

use super::gated::Gated;
use super::servers::{PAGE, pattern};
use super::spools::{once, pool};
use super::subject::{Watched, as_loop, runtime};
use overspill::{AsyncPersistError, AsyncSpillBuffer, MemoryStore, SpillBuffer, SpillError, SpillPool};
use overspill_tests::support::in_time;
use std::fs;
use std::future::poll_fn;
use std::io::{ErrorKind, Seek, SeekFrom};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::runtime::Builder;

const LEN: usize = 10 * PAGE + 77;

/// A buffer of `LEN` bytes, at position 5.
async fn filled(buffer: SpillBuffer) -> AsyncSpillBuffer {
    let mut buffer = buffer.into_async();
    buffer.write_all(&pattern(1, 0, LEN)).await.unwrap();
    buffer.seek(SeekFrom::Start(5)).await.unwrap();
    buffer
}

/// The buffers that can be saved as `path`: of a pool's store, with a file beside `path`, and without a pool;
/// with and without memory.
fn buffers(path: &Path) -> Vec<SpillBuffer> {
    let pools = [0, 3 * PAGE, 1 << 20].map(pool);
    let lone = [0, 1 << 20].map(SpillBuffer::with_budget);
    pools.iter().flat_map(|pool| [pool.buffer(), pool.buffer_for(path)]).chain(lone).collect()
}

fn is_empty(pool: &SpillPool) -> bool {
    let stats = pool.stats();
    (stats.memory_used, stats.disk_used, stats.buffers) == (0, 0, 0)
}

#[test]
fn what_is_saved_is_whole_and_no_poll_calls_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    let (store, on_loop) = Watched::new(MemoryStore::new());
    let watched = SpillPool::builder().memory(2 * PAGE).page_size(PAGE).store(store).build().unwrap();
    runtime(1).block_on(async {
        for buffer in buffers(&path).into_iter().chain([watched.buffer()]) {
            let buffer = filled(buffer).await;
            let mut persist = pin!(buffer.persist(&path));
            let persisted = poll_fn(|context| as_loop(|| persist.as_mut().poll(context))).await;
            let mut file = persisted.unwrap().durable().unwrap();
            assert_eq!(file.stream_position().unwrap(), 5);
            assert!(fs::read(&path).unwrap() == pattern(1, 0, LEN));
        }
    });
    assert_eq!(on_loop.load(Ordering::Relaxed), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no other name is left");
}

#[test]
fn what_is_refused_is_still_there() {
    let dir = tempfile::tempdir().unwrap();
    let (taken, free) = (dir.path().join("taken"), dir.path().join("free"));
    fs::write(&taken, "first").unwrap();
    for buffer in buffers(&taken) {
        let buffer = runtime(1).block_on(filled(buffer)); // and no thread of a runtime is left
        let Poll::Ready(Err(refused)) = once(buffer.persist(&free)) else {
            panic!("there is no runtime to do it")
        };
        assert!(matches!(SpillError::of(refused.error()), Some(SpillError::NoRuntime)), "{refused:?}");
        assert!(!free.exists() && refused.buffer().position() == 5);
        runtime(1).block_on(async {
            let refused = refused.into_buffer().persist_noclobber(&taken).await.unwrap_err();
            assert_eq!(refused.error().kind(), ErrorKind::AlreadyExists);
            assert!(format!("{refused:#}").len() > refused.to_string().len(), "with its sources");
            let (error, mut buffer) = refused.into_parts();
            assert_eq!((error.kind(), buffer.position()), (ErrorKind::AlreadyExists, 5));
            buffer.rewind().await.unwrap();
            let mut all = Vec::new();
            buffer.read_to_end(&mut all).await.unwrap();
            assert!(all == pattern(1, 0, LEN));
            buffer.write_all(b"more").await.unwrap();
            drop(buffer.persist_noclobber(&free).await.unwrap());
        });
        assert!(fs::read(&free).unwrap() == [pattern(1, 0, LEN), b"more".to_vec()].concat());
        assert_eq!(fs::read(&taken).unwrap(), b"first");
        fs::remove_file(&free).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no other name is left");
}

/// Its error goes on to where it is reported, and its future to another thread.
#[test]
fn the_future_and_the_error_are_sent() {
    const fn is_sent<T: Send + Sync + 'static>() {}
    const { is_sent::<AsyncPersistError>() };
    fn future_is_sent(buffer: AsyncSpillBuffer) -> impl Send {
        buffer.persist("path")
    }
    drop(future_is_sent(pool(0).buffer().into_async()));
}

#[test]
fn a_future_that_is_dropped_before_its_job_has_begun_names_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        for buffer in buffers(&path) {
            let buffer = filled(buffer).await;
            let (release, released) = mpsc::channel();
            let occupied = tokio::task::spawn_blocking(move || released.recv());
            {
                let mut persist = pin!(buffer.persist(&path));
                assert!(persist.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            release.send(()).unwrap();
            occupied.await.unwrap().unwrap();
            tokio::task::spawn_blocking(|| ()).await.unwrap(); // behind all that was in the queue
            assert!(!path.exists());
        }
    });
    drop(runtime);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_future_that_is_dropped_while_its_job_runs_may_name_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    in_time(move || {
        let (gate, stands) = Gated::new();
        let pool = SpillPool::builder().memory(2 * PAGE).page_size(PAGE).store(gate.clone()).build().unwrap();
        let runtime = runtime(1);
        let _entered = runtime.enter();
        let buffer = runtime.block_on(filled(pool.buffer()));
        {
            let mut persist = pin!(buffer.persist(&path));
            assert!(persist.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            stands.recv().unwrap(); // half of the copy is made
        }
        assert!(!path.exists());
        gate.open(true);
        while !is_empty(&pool) {
            std::thread::yield_now();
        }
        assert!(fs::read(&path).unwrap() == pattern(1, 0, LEN));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        drop(dir);
    });
}

/// Polls `future` when it is woken, at most `most` times, and then drops it. Returns whether it was ready.
async fn is_ready_within<F: Future>(future: F, most: usize) -> bool {
    let (mut future, mut polls) = (pin!(future), 0);
    poll_fn(|context| {
        if polls == most {
            return Poll::Ready(false);
        }
        polls += 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}

#[test]
fn at_each_point_a_dropped_future_leaves_the_old_file_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    let mut points = 0;
    for replaces in [false, true] {
        for number in 0..buffers(&path).len() {
            for most in 0.. {
                let _ = fs::remove_file(&path);
                if replaces {
                    fs::write(&path, "old").unwrap();
                }
                let buffer = buffers(&path).swap_remove(number);
                let runtime = runtime(2);
                let is_ready = runtime.block_on(async {
                    let buffer = filled(buffer).await;
                    is_ready_within(buffer.persist(&path), most).await
                });
                drop(runtime); // waits for the job
                match fs::read(&path) {
                    Ok(content) => assert!(content == pattern(1, 0, LEN) || replaces && content == b"old"),
                    Err(error) => assert!(error.kind() == ErrorKind::NotFound && !replaces && !is_ready),
                }
                assert!(fs::read_dir(dir.path()).unwrap().count() <= 1, "a hidden name is left");
                if is_ready {
                    break;
                }
                points += 1;
            }
        }
    }
    assert!(points >= 2 * 2 * 6, "{points} points are too few to prove anything");
}
