//! Waits for room below the disk limit.

use overspill::{MemoryStore, SpillBuffer, SpillError, SpillPool, WhenFull};
use overspill_tests::support::{in_time, stream};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PAGE: usize = 64 << 10;

/// A pool of four pages of disk, and a buffer that has taken three of them, less some blocks.
fn crowded(at_most: Duration) -> (SpillPool, SpillBuffer) {
    let builder = SpillPool::builder().memory(0).disk(4 * PAGE as u64).page_size(PAGE);
    let pool = builder.store(MemoryStore::new()).when_full(WhenFull::Wait { at_most }).build().unwrap();
    let holder = stream(&pool, 180 << 10, 1);
    (pool, holder)
}

fn is_disk_limit(error: &io::Error) -> bool {
    matches!(SpillError::of(error), Some(SpillError::DiskLimit { .. }))
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
