//! What requests leave behind that no limit of the pool counts: memory beside the pages.
#![allow(missing_docs)]

use overspill_servers::files::{Config, Files};
use overspill_servers::precondition::Precondition;
use overspill_servers::running::{Running, config};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(30);

/// What an upload brought last stayed beside the pages of its buffer, in memory that no limit counts, until its next request: up to 16 KiB
/// of each. With 1 MiB of memory, 25,000 of them had 154 MiB resident.
#[tokio::test]
async fn a_part_is_in_the_pool_once_it_is_answered() {
    for (idle, len, status) in [(LONG, 15_000, 204), (Duration::from_millis(30), 15_001, 408)] {
        let server = Running::start(Config { memory: 0, idle, ..config() }).await;
        let mut client = server.client().await;
        let length = format!("content-length: {len}");
        client
            .begin("PATCH", "/files/a", &["upload-offset: 0", "upload-complete: ?0", &length])
            .await
            .unwrap();
        client.send(&[7; 15_000]).await.unwrap();
        assert_eq!(client.reply("PATCH").await.unwrap().status, status);
        assert!(server.files.pool.stats().disk_used >= 15_000, "{:?}", server.files.pool.stats());
        let last = server.request("PATCH", "/files/a", &["upload-offset: 15000"], &[7]).await;
        assert_eq!(last.status, 201);
        assert!(server.request("GET", "/files/a", &[], b"").await.body == [7; 15_001]);
    }
}

/// The same of one whose client vanished: it is settled with the next look for what is to go.
#[tokio::test(start_paused = true)]
async fn a_part_that_broke_off_is_in_the_pool_before_long() {
    let files = Files::new(Config { memory: 0, resume: LONG, ..config() }).unwrap();
    let removing = async { match files.keep_removing_stale().await {} };
    let checked = async {
        let write = async |name| {
            let partial = files.find_partial(name, 0, &Precondition::default()).unwrap();
            partial.lock().await.buffer.as_mut().unwrap().write_all(&[7; 3000]).await.unwrap();
            partial
        };
        drop(write("broken off").await);
        let busy = write("busy").await;
        assert_eq!(files.pool.stats().disk_used, 0, "both are beside the pages");
        sleep(LONG / 2).await;
        let used = files.pool.stats().disk_used;
        assert!((3000..6000).contains(&used), "{used}: the one, and not the one that a request has");
        drop(busy);
    };
    tokio::select! { () = removing => {}, () = checked => {} }
}
