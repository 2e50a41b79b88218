//! The pool's temp file, beside requests.
//!
//! Promises: it is open before the first connection; what was deleted or refused has its blocks in the file
//! for some seconds at most, whether or not anything is spilled after it.

use crate::log::{chain, log};
use overspill::{SpillError, SpillPool};
use std::convert::Infallible;
use std::io::{self, Write};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// The time between two looks at what the file has for reuse.
const PAUSE: Duration = Duration::from_secs(1);

/// So many bytes stay in the file for reuse; a pool that spills keeps as many by itself.
pub const RECYCLED_MAX: u64 = 1 << 20;

/// Spills a byte, so that the pool opens its file, which it keeps, while there are file descriptors for it.
/// One that cannot be opened is a line of the log: the pool tries again with the next body that spills.
pub fn open_early(pool: &SpillPool) {
    let mut buffer = pool.buffer();
    let spilled = buffer.write_all(&[0]).and_then(|()| buffer.spill().map_err(io::Error::from));
    let Err(error) = spilled else { return };
    // A pool that has less disk than a page never opens a file, or needs it for little.
    if !matches!(SpillError::of(&error), Some(SpillError::DiskLimit { .. })) {
        log(chain(&error));
    }
}

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
    use crate::files::{Config, Files};
    use crate::running::{Running, config, until};

    /// The pool opened its file with the first body that spilled. Where connections had taken all descriptors
    /// by then, that body was 500, and its client was told that trying again would not help; a second later
    /// it was stored.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_is_open_before_the_first_connection() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let links = std::fs::read_dir("/proc/self/fd").unwrap();
            let links = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
            links.filter(|file| file.starts_with(dir.path())).count()
        };
        let config = Config { dir: Some(dir.path().to_owned()), ..config() };
        let files = Files::new(config.clone()).unwrap();
        assert_eq!(open(), 1);
        let stats = files.pool.stats();
        assert_eq!((stats.disk_used, stats.memory_used, stats.buffers), (0, 0, 0));
        drop(files);
        for disk in [0, 1, 4095, 4096] {
            Files::new(Config { disk, ..config.clone() }).unwrap();
        }
    }

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
