//! What do async handles take of the disk limit?

use super::subject::runtime;
use overspill::{MemoryStore, SpillPool};
use tokio::io::AsyncWriteExt;

/// A job that looks for room on the disk takes a slot and frees it. The slot counted as written: its blocks
/// were to go back to the file system, and the next body was charged all of it.
#[test]
fn a_look_for_room_leaves_nothing_on_the_disk() {
    const LIMIT: u64 = 1 << 20;
    const LEN: usize = 1000;
    runtime(1).block_on(async {
        for disk in [LIMIT, u64::MAX] {
            let pool = SpillPool::builder().memory(0).disk(disk).store(MemoryStore::new()).build().unwrap();
            let mut buffer = pool.buffer().into_async();
            buffer.write_all(&[1; LEN]).await.unwrap();
            let stats = pool.stats();
            assert_eq!((stats.io.writes, stats.disk_used, stats.disk_recycled), (0, 0, 0), "{stats:?}");
        }
        let pool = SpillPool::builder().memory(0).disk(LIMIT).store(MemoryStore::new()).build().unwrap();
        let mut kept = Vec::new();
        loop {
            let mut writer = pool.spool().0.into_async();
            if writer.write_all(&[1; LEN]).await.is_err() {
                break;
            }
            match writer.finish().await {
                Ok(body) => kept.push(body),
                Err(_) => break,
            }
        }
        assert_eq!(kept.len() as u64, LIMIT / 4096, "a block for each");
    });
}
