//! What the server writes to its log, seen by the process that has started it: each test runs once more, in
//! a process of its own.
#![allow(missing_docs)]

use overspill::testing::{Call, Failure, Fault, FaultStore};
use overspill::{MemoryStore, SpillPool};
use overspill_servers::running::{Running, config};
use std::process::{Command, Stdio};

/// Set in the process whose log is looked at.
const WITHIN: &str = "OVERSPILL_LOG_WITHIN";

fn is_within() -> bool {
    std::env::var_os(WITHIN).is_some()
}

/// The test of that name, to be run in a process of its own.
fn within(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(WITHIN, "1").stdout(Stdio::null());
    command
}

/// A server in a pool without memory, whose store fails as is said.
async fn failing(call: Call) -> Running {
    let fault = Fault::lasting(0, Failure::full()).on(call);
    let (store, _) = FaultStore::new(MemoryStore::new(), fault);
    Running::in_pool(SpillPool::builder().memory(0).store(store).build().unwrap(), config()).await
}

/// `upload_server 2>&1 | head -1` left a pipe that nobody reads. The request that was to be logged
/// panicked, and got no answer.
#[tokio::test]
async fn a_log_that_nobody_reads_breaks_off_no_request() {
    if is_within() {
        let server = failing(Call::Write).await;
        assert_eq!(server.request("PUT", "/files/a", &[], &[1; 100_000]).await.status, 507);
        return;
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut server = within("a_log_that_nobody_reads_breaks_off_no_request");
    assert!(server.stderr(writer).status().unwrap().success());
}

/// A download whose disk failed broke off, as the client saw, and the operator was told nothing. A client
/// that goes is not worth a line.
#[tokio::test]
async fn a_download_whose_disk_fails_is_in_the_log() {
    if is_within() {
        let server = failing(Call::Read).await;
        assert_eq!(server.request("PUT", "/files/a", &[], &[1; 100_000]).await.status, 201);
        let mut client = server.client().await;
        client.begin("GET", "/files/a", &[]).await.unwrap();
        assert!(client.head().await.is_err() || client.receive(100_000).await.is_err());
        server.client().await.begin("GET", "/files/a", &[]).await.unwrap();
        let mut gone = server.client().await;
        gone.begin("PUT", "/files/b", &["content-length: 10"]).await.unwrap();
        drop(gone);
        assert!(server.stop().await);
        return;
    }
    let output = within("a_download_whose_disk_fails_is_in_the_log").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("broke off")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("read")), "{log}");
}
