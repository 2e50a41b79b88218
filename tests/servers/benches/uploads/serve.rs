//! The servers, each in a process of its own: it says where it listens, serves until its standard input ends,
//! and says how much memory it had resident, in KiB, what it had of the processors' time, in ms, and how late
//! a ticker of 1 ms was, in µs: 99.9 % of its ticks, and the latest.

use crate::Args;
use crate::sum::{self, Xxh3};
use axum::extract::{Path as Name, Request, State};
use axum::http::StatusCode;
use axum::routing::put;
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use http_body_util::BodyExt;
use overspill::{Frozen, SpillPool};
use overspill_servers::files::{Config, Files};
use overspill_servers::hashed::{Hashed, Sum};
use overspill_servers::process::{peak_resident_kib, processor_ms};
use overspill_servers::server::{listen, serve, serve_routes};
use serde_json::{Value, json};
use sha2::Sha256;
use std::error::Error;
use std::future::Future;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::{SpooledTempFile, spooled_tempfile_in};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Ours.
    Pool,
    /// A spooled file each, written by a blocking thread as soon as it is a file, a frame at a time.
    Spooled,
    /// The same, with frames gathered to 64 KiB.
    Gathered,
}

/// The longest upload that ours takes.
pub(crate) const LIMIT: u64 = 1 << 40;

/// The longest pause of a client.
const IDLE: Duration = Duration::from_secs(60);

pub(crate) const KINDS: [Kind; 3] = [Kind::Pool, Kind::Spooled, Kind::Gathered];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Pool => "pool",
            Kind::Spooled => "spooled",
            Kind::Gathered => "gathered",
        }
    }
}

/// Be the server.
pub(crate) fn run(kind: Kind, args: &Args) -> Result<(), Box<dyn Error>> {
    let workers = args.workers.first().copied().unwrap_or(0);
    let mut builder = match workers {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(workers.max(1)).enable_all().build()?;
    let lateness = runtime.block_on(async {
        let listener = listen("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let ticker = tokio::spawn(tick());
        let ended = async { drop(spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await) };
        serve_kind(kind, listener, args, ended).await?;
        ticker.abort();
        Ok::<_, Box<dyn Error>>(LATENESS.lock().map(|late| late.clone()).unwrap_or_default())
    })?;
    let mut late = lateness;
    late.sort_unstable();
    let at = |permille: usize| late.get(late.len().saturating_sub(1) * permille / 1000).copied().unwrap_or(0);
    let (resident, processor) = (peak_resident_kib().unwrap_or(0), processor_ms().unwrap_or(0));
    println!("{resident} {processor} {} {}", at(999), at(1000));
    Ok(())
}

/// How late each tick was, in µs.
static LATENESS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

async fn tick() {
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = ticks.tick().await;
        let late = Instant::now().saturating_duration_since(due).as_micros();
        if let Ok(mut all) = LATENESS.lock() {
            all.push(u64::try_from(late).unwrap_or(u64::MAX));
        }
    }
}

async fn serve_kind(
    kind: Kind,
    listener: TcpListener,
    args: &Args,
    ended: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let grace = Duration::from_secs(10);
    if kind == Kind::Pool {
        let dir = Some(args.dir.clone());
        let config =
            Config { memory: args.memory, disk: 1 << 40, dir, limit: LIMIT, idle: IDLE, resume: IDLE };
        let files = Arc::new(Files::new(config)?);
        if args.sum == sum::Kind::Sha256 {
            serve(listener, files, ended, grace).await;
        } else {
            let ours = Ours { pool: files.pool.clone(), files: Mutex::default() };
            let routes =
                Router::new().route("/files/{name}", put(receive::<Xxh3>)).with_state(Arc::new(ours));
            serve_routes(listener, routes, IDLE, ended, grace).await;
        }
        return Ok(());
    }
    let gather = if kind == Kind::Gathered { 64 << 10 } else { 0 };
    let memory = args.memory / args.uploads;
    let spooled = Spooled { dir: args.dir.clone(), memory, gather, files: Mutex::default() };
    let receive = match args.sum {
        sum::Kind::Xxh3 => put(receive_spooled::<Xxh3>),
        sum::Kind::Sha256 => put(receive_spooled::<Sha256>),
    };
    let routes = Router::new().route("/files/{name}", receive).with_state(Arc::new(spooled));
    serve_routes(listener, routes, IDLE, ended, grace).await;
    Ok(())
}

struct Spooled {
    dir: PathBuf,
    /// Bytes of memory for each file.
    memory: usize,
    /// Bytes that are gathered for one write of a blocking thread.
    gather: usize,
    files: Mutex<Vec<SpooledTempFile>>,
}

type Answer = Result<(StatusCode, Json<Value>), (StatusCode, String)>;

/// Says why an upload has failed. A client that still sends may not see the answer.
fn failed(name: &str, error: &dyn Error) -> (StatusCode, String) {
    eprintln!("upload {name}: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn received(name: &str, len: u64, sum: impl Sum) -> Answer {
    Ok((StatusCode::CREATED, Json(json!({ "name": name, "len": len, "sum": sum.finish() }))))
}

/// What the upload server does, with another sum.
struct Ours {
    pool: SpillPool,
    files: Mutex<Vec<Frozen>>,
}

async fn receive<S: Sum>(
    State(ours): State<Arc<Ours>>,
    Name(name): Name<String>,
    request: Request,
) -> Answer {
    let mut body = Hashed::<_, S>::with_sum(request.into_body());
    let collected = ours.pool.collect(&mut body).limit(LIMIT).idle_timeout(IDLE).await;
    let file = collected.map_err(|error| failed(&name, &error))?.into_frozen();
    let len = file.len();
    ours.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(file);
    received(&name, len, body.into_sum())
}

async fn receive_spooled<S: Sum>(
    State(spooled): State<Arc<Spooled>>,
    Name(name): Name<String>,
    request: Request,
) -> Answer {
    let failed = |error: &dyn Error| failed(&name, error);
    let mut file = spooled_tempfile_in(spooled.memory, &spooled.dir);
    let (mut body, mut sum, mut len, mut gathered) = (request.into_body(), S::default(), 0, BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| failed(&error))?.into_data() else { continue };
        sum.add(&data);
        len += data.len();
        if len <= spooled.memory {
            file.write_all(&data).map_err(|error| failed(&error))?; // it is in memory
            continue;
        }
        gathered.extend_from_slice(&data);
        if gathered.len() >= spooled.gather {
            file = write_off(file, gathered.split().freeze()).await.map_err(|error| failed(&error))?;
        }
    }
    let file = write_off(file, gathered.freeze()).await.map_err(|error| failed(&error))?;
    spooled.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(file);
    received(&name, len as u64, sum)
}

/// Writes by a blocking thread, and returns the file.
async fn write_off(mut file: SpooledTempFile, data: Bytes) -> io::Result<SpooledTempFile> {
    if data.is_empty() {
        return Ok(file);
    }
    spawn_blocking(move || file.write_all(&data).map(|()| file)).await.map_err(io::Error::other)?
}
