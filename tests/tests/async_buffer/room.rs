//! What a wait for room below the disk limit leaves, and what may not wait.

use super::servers::wait_in_queue;
use super::subject::runtime;
use overspill::{AsyncSpillBuffer, MemoryStore, SpillBuffer, SpillError, SpillPool, WhenFull};
use overspill_tests::support::{in_time, stream};
use std::io::{self, Write};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

const PAGE: usize = 64 << 10;

/// What a dropped write would have waited for.
const SHORT: Duration = Duration::from_millis(300);

/// A pool of four pages of disk, and a buffer that has taken three of them, less some blocks.
fn crowded(at_most: Duration) -> (SpillPool, SpillBuffer) {
    let builder = SpillPool::builder().memory(0).disk(4 * PAGE as u64).page_size(PAGE);
    let pool = builder.store(MemoryStore::new()).when_full(WhenFull::Wait { at_most }).build().unwrap();
    let holder = stream(&pool, 180 << 10, 1);
    (pool, holder)
}

/// A buffer of which a write was dropped that waited for more room than there is.
async fn left_in_queue(pool: &SpillPool) -> AsyncSpillBuffer {
    let mut buffer = pool.buffer().into_async();
    wait_in_queue(pin!(buffer.write_all(&vec![2; 1 << 20])), pool, 1).await;
    buffer
}

fn is_disk_limit(error: &io::Error) -> bool {
    matches!(SpillError::of(error), Some(SpillError::DiskLimit { .. }))
}

/// A write was dropped while it waited, and its buffer kept. Once its time was up, nothing looked at that but
/// the next write of that buffer: whatever else asked for room waited behind it and was refused, though there
/// was enough, and those that do not wait were refused at once.
#[test]
fn a_dropped_write_is_in_nobodys_way_once_its_time_is_up() {
    in_time(|| {
        runtime(1).block_on(async {
            let (pool, _holder) = crowded(SHORT);
            let _left = left_in_queue(&pool).await;
            let hasty = pool.buffer_builder().when_full(WhenFull::Fail).build();
            let mut hasty = hasty.into_async();
            assert!(is_disk_limit(
                &hasty.run(|hasty| hasty.write_all(&[3; 4096])).await.unwrap().unwrap_err()
            ));
            tokio::time::sleep(SHORT).await;
            hasty.run(|hasty| hasty.write_all(&[3; 4096])).await.unwrap().unwrap();
            assert_eq!(pool.stats().waiters, 0);

            let (pool, _holder) = crowded(SHORT);
            let (writer, _reader) = pool.spool();
            let mut writer = writer.into_async();
            wait_in_queue(pin!(writer.write_all(&vec![2; 1 << 20])), &pool, 1).await;
            tokio::time::sleep(SHORT).await;
            let began = Instant::now();
            let mut other = pool.buffer().into_async();
            other.write_all(&[3; 4096]).await.unwrap();
            other.run(|_| ()).await.unwrap();
            assert!(began.elapsed() < SHORT, "{:?}", began.elapsed());
        });
    });
}

/// What was set aside for a write that was dropped stayed so for as long as its buffer was kept.
#[test]
fn what_is_set_aside_for_a_dropped_write_is_released_once_its_time_is_up() {
    in_time(|| {
        runtime(1).block_on(async {
            let (pool, holder) = crowded(SHORT);
            let left = left_in_queue(&pool).await;
            drop(holder);
            assert_eq!(pool.stats().waiters, 0, "it is served");
            tokio::time::sleep(SHORT).await;
            let rest = 4 * PAGE - usize::try_from(left.len()).unwrap() - 2 * 4096;
            let mut other = pool.buffer_builder().when_full(WhenFull::Fail).build();
            tokio::task::spawn_blocking(move || other.write_all(&vec![3; rest])).await.unwrap().unwrap();
            drop(left);
            pool.check_invariants();
        });
    });
}

/// Those that waited behind it for longer were not told when its time was up, and were refused at the end of
/// their own, without another look.
#[test]
fn those_that_wait_behind_a_dropped_write_look_once_more() {
    in_time(|| {
        runtime(1).block_on(async {
            let (pool, _holder) = crowded(SHORT);
            let _left = left_in_queue(&pool).await;
            let mut thread = pool.buffer();
            let thread = tokio::task::spawn_blocking(move || thread.write_all(&[3; 4096]));
            let mut task = pool.buffer().into_async();
            task.write_all(&[4; 4096]).await.unwrap();
            task.run(|_| ()).await.unwrap();
            thread.await.unwrap().unwrap();
        });
    });
}

/// A call before which nothing had to be stored left the write of before in the queue, for as long as the
/// buffer was put aside.
#[test]
fn a_call_leaves_the_queue_of_a_dropped_write() {
    in_time(|| {
        runtime(1).block_on(async {
            let (pool, holder) = crowded(Duration::MAX);
            let _rest = stream(&pool, 76 << 10, 3);
            let mut left = pool.buffer().into_async();
            wait_in_queue(pin!(left.write_all(&[2])), &pool, 1).await;
            left.run(|_| ()).await.unwrap();
            assert_eq!(pool.stats().waiters, 0);
            drop(holder);
            left.write_all(&[2]).await.unwrap();
        });
    });
}

/// Calls that waited for room took all tasks of the pool with them. What would have freed the room, a buffer
/// that was to be read and dropped, found none to read in, until the waits were over.
#[test]
fn a_call_waits_for_no_room() {
    in_time(|| {
        runtime(1).block_on(async {
            let builder = SpillPool::builder().memory(16 * 4096).disk(64 * 4096).page_size(4096);
            let wait = WhenFull::Wait { at_most: Duration::MAX };
            let pool = builder.store(MemoryStore::new()).when_full(wait).build().unwrap();
            let mut holder = pool.buffer().into_async();
            holder.write_all(&[1; 72 * 4096]).await.unwrap();
            let spill = |number: u8| {
                let mut buffer = pool.buffer().into_async();
                let call = move |buffer: &mut SpillBuffer| {
                    buffer.write_all(&[number; 10 * 4096]).and_then(|()| buffer.spill().map_err(Into::into))
                };
                tokio::spawn(async move { buffer.run(call).await.unwrap() })
            };
            let calls: Vec<_> = (0..8).map(spill).collect();
            let mut read = Vec::new();
            holder.rewind().await.unwrap();
            holder.read_to_end(&mut read).await.unwrap();
            assert_eq!(read.len(), 72 * 4096);
            for call in calls {
                assert!(is_disk_limit(&call.await.unwrap().unwrap_err()));
            }
        });
    });
}

/// A deadline was a moment of the system's clock, and the timer for it one of the runtime's: where the two
/// differ, as in a test that lets time stand still and jump, waits failed at once.
#[test]
fn a_runtime_whose_clock_jumps_waits_all_the_same() {
    in_time(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            let at_most = Duration::from_secs(30);
            let (pool, _holder) = crowded(at_most);
            let mut buffer = pool.buffer().into_async();
            let began = tokio::time::Instant::now();
            assert!(is_disk_limit(&buffer.write_all(&vec![2; 1 << 20]).await.unwrap_err()));
            assert!(began.elapsed() > at_most / 2, "{:?}", began.elapsed());

            let (_writer, mut reader) = pool.spool();
            reader.set_timeout(Some(at_most));
            let began = tokio::time::Instant::now();
            reader.into_async().read_u8().await.unwrap_err();
            assert!(began.elapsed() > at_most / 2, "{:?}", began.elapsed());
        });
    });
}
