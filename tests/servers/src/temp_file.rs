//! The pool's temp file, beside requests.
//!
//! Promise: what was deleted or refused has its blocks in the file for some seconds at most, whether or not
//! anything is spilled after it.

use overspill::SpillPool;
use std::convert::Infallible;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// The time between two looks at what the file has for reuse.
const PAUSE: Duration = Duration::from_secs(1);

/// So many bytes stay in the file for reuse; a pool that spills keeps as many by itself.
pub const RECYCLED_MAX: u64 = 1 << 20;

/// Gives the blocks of what was dropped back to the file system, for ever. An event loop drops bodies without
/// a call of the store, and a pool that spills nothing more would keep their blocks.
pub async fn keep_trimmed(pool: &SpillPool) -> Infallible {
    loop {
        sleep(PAUSE).await;
        if pool.stats().disk_recycled > RECYCLED_MAX {
            let pool = pool.clone();
            // One that fails is tried again.
            drop(spawn_blocking(move || pool.trim()).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Config;
    use crate::running::{Running, config, until};

    /// A file system was full though every file was deleted, or refused: the blocks stayed in the pool's file
    /// until something else was spilled. Others that shared the disk had no room, persisted files included.
    #[tokio::test]
    async fn what_was_deleted_or_refused_gives_its_blocks_back() {
        let server = Running::start(Config { memory: 1 << 20, disk: 32 << 20, ..config() }).await;
        let stats = || server.files.pool.stats();
        assert_eq!(server.request("PUT", "/files/a", &[], &vec![7; 20 << 20]).await.status, 201);
        assert!(stats().disk_used > 16 << 20);
        assert_eq!(server.request("DELETE", "/files/a", &[], b"").await.status, 204);
        until("a deleted file's", || stats().disk_recycled <= RECYCLED_MAX).await;
        let mut client = server.client().await;
        client.begin("PUT", "/files/a", &["transfer-encoding: chunked"]).await.unwrap();
        while client.send_chunk(&[7; 1 << 20]).await.is_ok() {} // until it is refused
        until("it has spilled, and is gone", || stats().disk_high_water > 24 << 20 && stats().buffers == 0)
            .await;
        until("a refused file's", || stats().disk_recycled <= RECYCLED_MAX).await;
    }
}
