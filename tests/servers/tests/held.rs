//! What requests leave behind, or keep busy, that no limit of the pool counts: memory beside
//! the pages, and threads.
#![allow(missing_docs)]

use overspill::{MemoryStore, SpillPool, Store};
use overspill_servers::files::{Config, Files};
use overspill_servers::precondition::Precondition;
use overspill_servers::running::{Running, config, until};
use overspill_servers::scripted::Watched;
use overspill_servers::server::{listen, serve};
use std::future::ready;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(30);

/// What an upload brought last stayed beside the pages of its buffer, in memory that no limit counts, until
/// its next request: up to 16 KiB of each. With 1 MiB of memory, 25,000 of them had 154 MiB resident.
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

/// A store whose reads wait until it is opened.
#[derive(Debug, Default)]
struct Gated {
    inner: MemoryStore,
    /// The reads that have begun, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gated {
    fn begun(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Store for Gated {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        drop(self.changed.wait_while(state, |(_, is_open)| !*is_open));
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.inner.write_at(offset, data)
    }
}

/// A file that was deleted, or replaced, gave its room back to the file system on the event loop.
#[tokio::test]
async fn a_file_that_goes_calls_no_store_on_the_loop() {
    let store = Watched::new();
    let pool = SpillPool::builder().memory(0).disk(1 << 30).store(store.clone()).build().unwrap();
    let server = Running::in_pool(pool, config()).await;
    let first = vec![7; 1_900_000];
    for (method, headers, status) in [
        ("PUT", None, 201),
        ("PUT", None, 200),
        ("DELETE", None, 204),
        ("PATCH", Some("upload-offset: 0"), 201),
    ] {
        let headers: Vec<_> = headers.into_iter().collect();
        assert_eq!(server.request(method, "/files/a", &headers, &first).await.status, status, "{method}");
    }
    assert!(server.request("GET", "/files/a", &[], b"").await.body == first);
    assert_eq!(server.request("DELETE", "/files/a", &[], b"").await.status, 204);
    until("it is gone", || server.files.pool.stats().disk_used == 0).await;
    assert_eq!(store.calls(), 0);
}

/// Opens it where it goes, so that a test that fails ends.
struct Opened<'a>(&'a Gated);

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.0.changed.notify_all();
    }
}

/// Each request to save a file took a thread that may block, and kept it when its client had gone: a client
/// that asked and went, over and over, took all 512, and no transfer that needs the store went on.
#[test]
fn files_that_are_saved_leave_threads_to_the_pool() {
    const AT_ONCE: usize = 4;
    let (store, dir) = (Arc::new(Gated::default()), tempfile::tempdir().unwrap());
    let runtime =
        Builder::new_current_thread().enable_all().max_blocking_threads(AT_ONCE + 1).build().unwrap();
    runtime.block_on(async {
        let opened = Opened(&store);
        let pool = SpillPool::builder().memory(0).store(Arc::clone(&store)).build().unwrap();
        let server = Running::in_pool(pool, Config { dir: Some(dir.path().to_owned()), ..config() }).await;
        assert_eq!(server.request("PUT", "/files/a", &[], &[7; 100_000]).await.status, 201);
        for round in 0..2 {
            let mut clients = Vec::new();
            for _ in 0..AT_ONCE {
                let mut client = server.client().await;
                client.begin("POST", "/files/a/persist", &[]).await.unwrap();
                clients.push(client);
            }
            if round == 0 {
                until("they have begun", || store.begun() == AT_ONCE).await;
            }
        }
        assert_eq!(
            server.request("PUT", "/files/b", &[], &[7; 100_000]).await.status,
            201,
            "a thread is left"
        );
        drop(opened);
        assert_eq!(server.request("POST", "/files/a/persist", &[], b"").await.status, 200);
    });
    assert!(std::fs::read(dir.path().join("a")).unwrap() == [7; 100_000]);
}

/// A shutdown waited for connections alone: a file whose client had gone while it was being saved was not
/// saved, and nothing said so.
#[tokio::test]
async fn a_shutdown_waits_for_what_is_saved_for_a_client_that_has_gone() {
    let (store, dir) = (Arc::new(Gated::default()), tempfile::tempdir().unwrap());
    let opened = Opened(&store);
    let pool = SpillPool::builder().memory(0).store(Arc::clone(&store)).build().unwrap();
    let server = Running::in_pool(pool, Config { dir: Some(dir.path().to_owned()), ..config() }).await;
    assert_eq!(server.request("PUT", "/files/a", &[], &[7; 100_000]).await.status, 201);
    let mut client = server.client().await;
    client.begin("POST", "/files/a/persist", &[]).await.unwrap();
    until("it has begun", || store.begun() == 1).await;
    drop(client);
    let (other, files) = (listen("127.0.0.1:0").await.unwrap(), Arc::clone(&server.files));
    assert!(
        !serve(other, files, ready(()), Duration::from_millis(20)).await,
        "and says what it has not done"
    );
    let stopping = tokio::spawn(server.stop());
    sleep(Duration::from_millis(50)).await;
    assert!(!stopping.is_finished());
    drop(opened);
    assert!(stopping.await.unwrap());
    assert!(std::fs::read(dir.path().join("a")).unwrap() == [7; 100_000]);
}
