//! One client that downloads and uploads a large file: alone, and beside a crowd.
//!
//! The crowd is [`SLOW`] clients that read their downloads slowly, one that uploads slowly, one that vanishes
//! in the middle of an upload over and over, and one whose upload is over the limit.

use crate::load::{content, upload};
use crate::process::Server;
use crate::serve::{Kind, LIMIT};
use crate::{Args, Failure};
use overspill_servers::client::Client;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Clients that read their downloads slowly.
const SLOW: usize = 500;

/// What each of them reads in a second, and what the system receives of it in advance.
const SLOW_BYTES: u32 = 16 << 10;

/// The file that all download; it fits in no socket's buffer.
const FILE: usize = 128 << 20;

/// What one that uploads slowly sends at a time.
const PIECE: usize = 1400;

/// The pause of one that behaves badly.
const PAUSE: Duration = Duration::from_millis(100);

const TARGET: f64 = 0.9;

const TOO_LONG: Duration = Duration::from_secs(120);

/// Medians of one client, alone and beside the crowd. Returns what misses its target.
pub(crate) fn compare(args: &Args) -> Result<Vec<String>, Failure> {
    let source = Arc::new(content(FILE));
    let mut missed = Vec::new();
    for workers in &args.workers {
        let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
        for round in 0..=args.rounds {
            for turn in 0..2 {
                let crowd = (round + turn) % 2;
                let dir = tempfile::tempdir_in(&args.dir)?;
                let began = Instant::now();
                let parts = run(args, *workers, dir.path(), &source, crowd == 1)?;
                let name = ["alone", "beside the crowd"][crowd];
                eprintln!("round {round} of {}: {name}, {:.1?}", args.rounds, began.elapsed());
                if round > 0 {
                    times[crowd].iter_mut().zip(parts).for_each(|(times, part)| times.push(part));
                }
            }
        }
        let [alone, beside] = times.map(|parts| parts.map(median));
        let runtime = crate::runtime_name(*workers);
        for (part, name) in ["download", "upload"].into_iter().enumerate() {
            let ratio = alone[part].as_secs_f64() / beside[part].as_secs_f64();
            let case = format!("{runtime}: {name} of {} MiB beside {SLOW} slow", FILE >> 20);
            println!(
                "{case:<52} {:>8.0} ms, alone {:>8.0} ms {ratio:>6.2} {TARGET:>6.2}{}",
                beside[part].as_secs_f64() * 1e3,
                alone[part].as_secs_f64() * 1e3,
                if ratio >= TARGET { "" } else { "  MISSED" }
            );
            if ratio < TARGET {
                missed.push(format!("{case}: {ratio:.2}, not {TARGET}"));
            }
        }
    }
    Ok(missed)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// Starts a server with a file, lets the crowd come, and times one client's download and upload.
fn run(
    args: &Args,
    workers: usize,
    dir: &Path,
    source: &Arc<Vec<u8>>,
    beside_crowd: bool,
) -> Result<[Duration; 2], Failure> {
    let server = Server::start(Kind::Pool, args, workers, dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let times = runtime.block_on(async {
        let crowd = if beside_crowd { SLOW } else { 0 };
        timeout(TOO_LONG, one_client(server.address, source, crowd)).await
    })??;
    drop(runtime); // and with it the crowd
    server.end()?;
    Ok(times)
}

async fn one_client(
    address: SocketAddr,
    source: &Arc<Vec<u8>>,
    crowd: usize,
) -> Result<[Duration; 2], Failure> {
    let stored = upload(address, "file", source, 64 << 10, Duration::ZERO).await?;
    if stored.status != 201 {
        return Err(stored.text().into());
    }
    let failed = Arc::new(AtomicU64::new(0));
    if crowd > 0 {
        gather(address, crowd, &failed).await?;
    }
    let began = Instant::now();
    let mut client = Client::connect(address).await?;
    client.begin("GET", "/files/file", &[]).await?;
    let reply = client.reply("GET").await?;
    let downloaded = began.elapsed();
    if reply.status != 200 || reply.body != **source {
        return Err("another file was downloaded".into());
    }
    let began = Instant::now();
    let stored = upload(address, "other", source, 64 << 10, Duration::ZERO).await?;
    let uploaded = began.elapsed();
    let failed = failed.load(Ordering::Relaxed);
    if stored.status != 201 || failed > 0 {
        return Err(format!("status {}, and {failed} of the crowd failed", stored.status).into());
    }
    Ok([downloaded, uploaded])
}

/// Lets the crowd come. Each of it goes on until the runtime ends; `failed` counts those that could not.
async fn gather(address: SocketAddr, crowd: usize, failed: &Arc<AtomicU64>) -> io::Result<()> {
    for _ in 0..crowd {
        let mut client = Client::connect_narrow(address, SLOW_BYTES).await?;
        client.begin("GET", "/files/file", &[]).await?;
        spawn(failed, async move {
            loop {
                client.receive(SLOW_BYTES as usize).await?;
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
    spawn(failed, upload_slowly(address));
    spawn(failed, vanish(address));
    spawn(failed, exceed(address));
    sleep(Duration::from_millis(500)).await;
    Ok(())
}

fn spawn(failed: &Arc<AtomicU64>, client: impl Future<Output = io::Result<()>> + Send + 'static) {
    let failed = Arc::clone(failed);
    tokio::spawn(async move {
        if let Err(error) = client.await {
            eprintln!("one of the crowd: {error}");
            failed.fetch_add(1, Ordering::Relaxed);
        }
    });
}

async fn upload_slowly(address: SocketAddr) -> io::Result<()> {
    let mut client = Client::connect(address).await?;
    client.begin("PUT", "/files/slow", &[&format!("content-length: {FILE}")]).await?;
    loop {
        client.send(&[1; PIECE]).await?;
        sleep(PAUSE).await;
    }
}

async fn vanish(address: SocketAddr) -> io::Result<()> {
    loop {
        let mut client = Client::connect(address).await?;
        client.begin("PUT", "/files/gone", &["content-length: 1000000"]).await?;
        client.send(&[1; 200_000]).await?;
        drop(client);
        sleep(PAUSE).await;
    }
}

async fn exceed(address: SocketAddr) -> io::Result<()> {
    loop {
        let mut client = Client::connect(address).await?;
        client.begin("PUT", "/files/long", &[&format!("content-length: {}", LIMIT + 1)]).await?;
        let status = client.reply("PUT").await?.status;
        if status != 413 {
            return Err(io::Error::other(format!("over the limit: {status}")));
        }
        sleep(PAUSE).await;
    }
}
