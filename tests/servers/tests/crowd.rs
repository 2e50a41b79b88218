//! Hundreds of slow clients and some bad ones, all at once: each gets the status that it has earned, the
//! others get what they asked for, and in the end nothing is charged, lent or on the disk.
#![allow(missing_docs)]

use overspill::MemoryStore;
use overspill::SpillPool;
use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore};
use overspill_servers::client::Client;
use overspill_servers::files::Config;
use overspill_servers::process::raise_open_files;
use overspill_servers::running::{Running, config};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Clients that read their downloads slowly. Both ends are in this process, so each takes two descriptors.
const SLOW: usize = 500;

const MEMORY: usize = 8 << 20;

/// What is downloaded slowly: more than the sockets hold, so that all of it is under way until it is read.
const FILE: usize = 8 << 20;

const LIMIT: u64 = 16 << 20;

/// Longer than a loaded machine stands still: the slow ones are in time, and only the one that pauses is not.
const IDLE: Duration = Duration::from_secs(10);

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 9)).to_le_bytes()[0]).collect()
}

/// Begins a download over a connection that receives little in advance.
async fn begin_slowly(address: SocketAddr) -> io::Result<Client> {
    let mut client = Client::connect_narrow(address, 4 << 10).await?;
    client.begin("GET", "/files/file", &[]).await?;
    Ok(client)
}

/// Reads a download with pauses, until `may_end`, and returns the client in the middle of it. One that stood
/// still would be dropped by the server after a while.
async fn read_slowly(mut client: Client, content: &[u8], may_end: Arc<AtomicBool>) -> Client {
    assert_eq!(client.head().await.unwrap().status, 200);
    for expected in content.chunks(4 << 10) {
        assert!(client.receive(expected.len()).await.unwrap() == expected, "a slow client reads other bytes");
        if may_end.load(Ordering::Relaxed) {
            return client;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("the others took minutes");
}

/// Sends half of an upload and then nothing.
async fn pause(address: SocketAddr) -> u16 {
    let mut client = Client::connect(address).await.unwrap();
    client.begin("PUT", "/files/paused", &["content-length: 200000"]).await.unwrap();
    client.send(&[1; 100_000]).await.unwrap();
    client.reply("PUT").await.unwrap().status
}

/// Sends more than the limit, without saying so before.
async fn exceed(address: SocketAddr) -> u16 {
    let mut client = Client::connect(address).await.unwrap();
    client.begin("PUT", "/files/long", &["transfer-encoding: chunked"]).await.unwrap();
    for _ in 0..LIMIT >> 20 {
        client.send_chunk(&[1; 1 << 20]).await.unwrap();
    }
    client.send_chunk(&[1]).await.unwrap();
    client.reply("PUT").await.unwrap().status
}

/// Uploads a file until it is answered, which may be in the middle of it. A server that has answered so may
/// have closed by the next piece, which fails then; that was taken for a failure of the server.
async fn upload(address: SocketAddr, content: &[u8]) -> u16 {
    let mut client = Client::connect(address).await.unwrap();
    client.begin("PUT", "/files/full", &[&format!("content-length: {}", content.len())]).await.unwrap();
    for piece in content.chunks(64 << 10) {
        if client.send(piece).await.is_err() {
            break; // the answer says why
        }
        if let Ok(answer) = timeout(Duration::from_millis(5), client.head()).await {
            return answer.unwrap().status;
        }
    }
    client.head().await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_slow_clients_and_bad_ones_disturb_nobody() {
    raise_open_files();
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(MEMORY).store(store).build().unwrap();
    let server = Running::in_pool(pool, Config { limit: LIMIT, idle: IDLE, ..config() }).await;
    let content: &[u8] = content(FILE).leak(); // one file of a test, for all its tasks
    assert_eq!(server.request("PUT", "/files/file", &[], content).await.status, 201);

    let (address, stats) = (server.address, || server.files.pool.stats());
    let mut begun = Vec::new();
    for _ in 0..SLOW {
        begun.push(begin_slowly(address).await.unwrap());
    }
    let may_end = Arc::new(AtomicBool::new(false));
    let mut slow: JoinSet<Client> = JoinSet::new();
    for client in begun.drain(..) {
        slow.spawn(read_slowly(client, content, Arc::clone(&may_end)));
    }
    let paused = tokio::spawn(pause(address));
    let exceeding = tokio::spawn(exceed(address));
    let mut vanishing = server.client().await;
    vanishing.begin("PUT", "/files/gone", &["content-length: 1000000"]).await.unwrap();
    vanishing.send(&content[..500_000]).await.unwrap();

    assert_eq!(server.request("PUT", "/files/other", &[], content).await.status, 201);
    assert!(server.request("GET", "/files/other", &[], b"").await.body == content);
    drop(vanishing);
    assert_eq!((paused.await.unwrap(), exceeding.await.unwrap()), (408, 413));
    assert!(stats().memory_lent > 0, "the slow ones are under way: {:?}", stats());
    assert!(stats().memory_high_water <= MEMORY as u64, "{:?}", stats());

    // The disk is full for a while: who uploads is told so, who downloads does not notice.
    faults.set(Fault::lasting(0, Failure::full()).on(Call::Write));
    assert_eq!(upload(address, content).await, 507);
    assert!(server.request("GET", "/files/other", &[], b"").await.body == content);
    faults.lift();
    assert_eq!(upload(address, content).await, 201);

    assert!(stats().memory_lent > 0, "they still are: {:?}", stats());
    may_end.store(true, Ordering::Relaxed);
    let slow = slow.join_all().await;
    assert_eq!(slow.len(), SLOW);
    drop(slow); // in the middle of their downloads
    for name in ["gone", "paused", "long"] {
        assert_eq!(server.request("GET", &format!("/files/{name}"), &[], b"").await.status, 404, "{name}");
    }
    for name in ["file", "other", "full"] {
        assert_eq!(server.request("DELETE", &format!("/files/{name}"), &[], b"").await.status, 204, "{name}");
    }
    server.until_empty().await;
    assert!(server.stop().await);
}
