//! What the server writes to its log, seen by the process that has started it: each test runs once more, in
//! a process of its own.
#![allow(missing_docs)]

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore};
use overspill::{MemoryStore, SpillPool};
use overspill_servers::files::Config;
use overspill_servers::log::{flush, log};
use overspill_servers::running::{Running, config, until};
use overspill_servers::time_limit::FOREVER;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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
        flush(FOREVER);
        return;
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut server = within("a_log_that_nobody_reads_breaks_off_no_request");
    assert!(server.stderr(writer).status().unwrap().success());
}

/// `upload_server 2>&1 | less` left a pipe that was full as soon as its pager stood still. Each line that was
/// logged then blocked a thread of the runtime, and as many requests as there are threads blocked the server.
#[tokio::test]
async fn a_log_that_is_full_blocks_no_request() {
    const LINES: usize = 10_000;
    if is_within() {
        (0..LINES).for_each(|number| log(format_args!("{number:0>100}")));
        let server = failing(Call::Write).await;
        assert_eq!(server.request("PUT", "/files/a", &[], &[1; 100_000]).await.status, 507);
        println!("answered");
        flush(FOREVER); // it is read now
        log("the last line");
        flush(FOREVER);
        return;
    }
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut server = within("a_log_that_is_full_blocks_no_request");
    let mut running = server.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    drop(server); // and its end of the pipe
    let said = BufReader::new(running.stdout.take().unwrap()).lines();
    let (sender, answered) = mpsc::channel();
    thread::spawn(move || said.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let is_answered = loop {
        match answered.recv_timeout(FOREVER) {
            Ok(line) if line.contains("answered") => break true,
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    if !is_answered {
        running.kill().unwrap();
    }
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    assert!(is_answered && running.wait().unwrap().success());
    let (told, lines): (Vec<_>, Vec<_>) = log.lines().partition(|line| line.contains("were dropped"));
    let dropped: usize =
        told.iter().map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert!(dropped > 0 && lines.last() == Some(&"the last line"), "{told:?}");
    assert_eq!(lines.len() + dropped, LINES + 2, "each is there or counted, and so is that of the request");
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
        flush(FOREVER);
        return;
    }
    let output = within("a_download_whose_disk_fails_is_in_the_log").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("broke off")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("read")), "{log}");
}

/// How a save ended was known to its request alone. The operator was told nothing of one that failed after
/// its client had gone.
#[tokio::test]
async fn a_save_that_fails_is_in_the_log_though_its_client_has_gone() {
    if is_within() {
        let fault = Fault::lasting(0, Failure::io()).on(Call::Read);
        let plan = FaultPlan::new().with(fault).slow(Call::Read, Duration::from_secs(1));
        let (store, faults) = FaultStore::new(MemoryStore::new(), plan);
        let pool = SpillPool::builder().memory(0).store(store).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = Config { dir: Some(dir.path().to_owned()), ..config() };
        let server = Running::in_pool(pool, config).await;
        assert_eq!(server.request("PUT", "/files/a", &[], &[1; 100_000]).await.status, 201);
        let mut gone = server.client().await;
        gone.begin("POST", "/files/a/persist", &[]).await.unwrap();
        until("it is being saved", || faults.calls_of(Call::Read) > 0).await;
        drop(gone);
        assert_eq!(server.request("DELETE", "/files/a", &[], b"").await.status, 204);
        server.until_empty().await; // so the save has ended
        flush(FOREVER);
        return;
    }
    let output = within("a_save_that_fails_is_in_the_log_though_its_client_has_gone").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("read"), "{log}");
}
