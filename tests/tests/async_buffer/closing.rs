//! Where large files are closed.

use overspill::{SpillBuffer, SpillPool};
use overspill_tests::linux::open_files;
use std::path::Path;
use std::sync::mpsc;
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

const LARGE: usize = 4 << 20;

fn open_in(dir: &Path) -> usize {
    open_files(|file| file.starts_with(dir)).len()
}

/// A buffer that is dropped with its pool, and with the file in `dir`, as one is that never had a pool.
fn last_of_pool(dir: &Path) -> SpillBuffer {
    SpillPool::builder().memory(0).dir(dir).build().unwrap().buffer()
}

/// A buffer without a pool has a file of its own, and a gigabyte of it stopped the loop for 100 to 140 ms
/// where the buffer was dropped.
#[test]
fn a_large_file_is_closed_off_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let pool = SpillPool::builder().memory(0).build().unwrap();
    let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    for buffer in [last_of_pool(dir.path()), pool.buffer_for(dir.path().join("target"))] {
        runtime.block_on(async {
            let mut buffer = buffer.into_async();
            buffer.write_all(&[1; LARGE]).await.unwrap();
            assert_eq!(open_in(dir.path()), 1);

            let (go_on, wait) = mpsc::channel::<()>();
            let busy = spawn_blocking(move || wait.recv().unwrap());
            drop(buffer);
            assert_eq!(open_in(dir.path()), 1, "the only thread that may close it is busy");
            go_on.send(()).unwrap();
            busy.await.unwrap();
            spawn_blocking(|| {}).await.unwrap(); // that thread has done what came before
            assert_eq!(open_in(dir.path()), 0);
        });
    }
}

/// What was closed where it lay: what is small, and what no runtime is there for.
#[test]
fn other_files_are_closed_where_they_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let spilled = |len: usize| {
        runtime.block_on(async {
            let mut buffer = last_of_pool(dir.path()).into_async();
            buffer.write_all(&vec![1; len]).await.unwrap();
            buffer
        })
    };
    let buffer = spilled(LARGE);
    drop(buffer);
    assert_eq!(open_in(dir.path()), 0, "outside the runtime");
    let buffer = spilled(1 << 20);
    runtime.block_on(async {
        drop(buffer);
        assert_eq!(open_in(dir.path()), 0, "small");
    });
    let buffer = spilled(LARGE);
    runtime.block_on(async { drop(buffer) });
    drop(runtime);
    assert_eq!(open_in(dir.path()), 0, "the runtime has ended");
}
