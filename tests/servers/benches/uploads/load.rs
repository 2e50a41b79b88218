//! Many uploads at once: the clients, and what came of them.

use crate::process::{Figures, Server};
use crate::serve::{KINDS, Kind};
use crate::{Args, Failure};
use overspill_servers::client::{Client, Reply};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::time::{sleep_until, timeout};

/// How long an idle server ticks: three thousand times.
const IDLE: Duration = Duration::from_secs(3);

/// A run that takes longer hangs: on two cores it takes ten seconds at most.
const TOO_LONG: Duration = Duration::from_secs(180);

/// What all clients send, and its sums.
struct Load {
    /// Upload `number` is the `bytes` bytes that begin at `number` pieces.
    source: Arc<Vec<u8>>,
    sums: Arc<Vec<String>>,
    bytes: usize,
    piece: usize,
    /// The time that a client lets pass from one piece to the next.
    pause: Duration,
}

/// What came of a run.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    mib_per_second: f64,
    server: Figures,
    /// Of an idle server in a process of its own beside the loaded one: what the machine adds to any ticker.
    beside: Figures,
}

fn median(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> f64 {
    let mut all: Vec<f64> = outcomes.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

impl Outcome {
    fn median(outcomes: &[Outcome]) -> Outcome {
        let figures = |of: fn(&Outcome) -> Figures| Figures {
            resident_mib: median(outcomes, |outcome| of(outcome).resident_mib),
            processor_ms: median(outcomes, |outcome| of(outcome).processor_ms),
            stall_ms: median(outcomes, |outcome| of(outcome).stall_ms),
            longest_ms: median(outcomes, |outcome| of(outcome).longest_ms),
        };
        Outcome {
            mib_per_second: median(outcomes, |outcome| outcome.mib_per_second),
            server: figures(|outcome| outcome.server),
            beside: figures(|outcome| outcome.beside),
        }
    }
}

/// Pseudo-random bytes.
pub(crate) fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut source = Vec::with_capacity(len + 8);
    while source.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        source.extend(state.to_le_bytes());
    }
    source.truncate(len);
    source
}

impl Load {
    fn new(args: &Args) -> Load {
        let Args { uploads, bytes, piece, rate, .. } = *args;
        let source = content(bytes + uploads * piece);
        let sum = |number: usize| args.sum.of(&source[number * piece..][..bytes]);
        let sums = (0..uploads).map(sum).collect();
        let pause = match rate {
            0 => Duration::ZERO,
            _ => Duration::from_secs_f64((uploads * piece) as f64 / (rate << 20) as f64),
        };
        Load { sums: Arc::new(sums), source: Arc::new(source), bytes, piece, pause }
    }

    /// Starts a server, uploads all at once, and ends it.
    fn run(&self, kind: Kind, args: &Args, workers: usize, dir: &Path) -> Result<Outcome, Failure> {
        let beside = Server::start(Kind::Pool, args, workers, dir)?;
        let server = Server::start(kind, args, workers, dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let began = Instant::now();
        let uploaded =
            runtime.block_on(async { timeout(TOO_LONG, self.upload_all(server.address)).await })?;
        uploaded.map_err(|error| format!("{}: {error}", kind.name()))?;
        let mib = (self.sums.len() * self.bytes) as f64 / f64::from(1 << 20);
        let mib_per_second = mib / began.elapsed().as_secs_f64();
        Ok(Outcome { mib_per_second, server: server.end()?, beside: beside.end()? })
    }

    async fn upload_all(&self, address: SocketAddr) -> Result<(), Failure> {
        let uploads: Vec<_> = (0..self.sums.len())
            .map(|number| {
                let (source, sums) = (Arc::clone(&self.source), Arc::clone(&self.sums));
                let (bytes, piece, pause) = (self.bytes, self.piece, self.pause);
                tokio::spawn(async move {
                    let content = &source[number * piece..][..bytes];
                    let reply = upload(address, &number.to_string(), content, piece, pause).await?;
                    let is_right = reply.status == 201 && reply.text().contains(&sums[number]);
                    Ok::<_, std::io::Error>(is_right.then_some(()).ok_or_else(|| reply.text()))
                })
            })
            .collect();
        for (number, upload) in uploads.into_iter().enumerate() {
            let uploaded = upload.await?.map_err(|error| format!("upload {number}: {error}"))?;
            uploaded.map_err(|text| format!("upload {number}: {text}"))?;
        }
        Ok(())
    }
}

/// Uploads a file over a connection of its own, in pieces that are due one `pause` after another.
pub(crate) async fn upload(
    address: SocketAddr,
    name: &str,
    content: &[u8],
    piece: usize,
    pause: Duration,
) -> std::io::Result<Reply> {
    let mut client = Client::connect(address).await?;
    let length = format!("content-length: {}", content.len());
    client.begin("PUT", &format!("/files/{name}"), &[&length]).await?;
    let (mut sent, mut due) = (Ok(()), tokio::time::Instant::now());
    for piece in content.chunks(piece) {
        if pause > Duration::ZERO {
            sleep_until(due).await;
            due += pause;
        }
        sent = client.send(piece).await;
        if sent.is_err() {
            break; // the answer says why, if it came
        }
    }
    client.reply("PUT").await.map_err(|error| sent.err().unwrap_or(error))
}

/// A server that nobody asks for anything.
fn idle(args: &Args, workers: usize, dir: &Path) -> Result<Outcome, Failure> {
    let server = Server::start(Kind::Pool, args, workers, dir)?;
    thread::sleep(IDLE);
    Ok(Outcome { mib_per_second: f64::NAN, server: server.end()?, beside: Figures::default() })
}

/// Lets the servers take turns, and prints the medians. Returns what is not within what is promised.
pub(crate) fn compare(args: &Args) -> Result<Vec<String>, Failure> {
    let load = Load::new(args);
    let mut missed = Vec::new();
    for workers in &args.workers {
        let (outcomes, idle) = take_turns(&load, args, *workers)?;
        missed.extend(print(&outcomes, idle, args, *workers));
    }
    Ok(missed)
}

fn take_turns(load: &Load, args: &Args, workers: usize) -> Result<(Vec<Outcome>, Outcome), Failure> {
    let contenders: Vec<Option<Kind>> = KINDS.iter().copied().map(Some).chain([None]).collect();
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); contenders.len()];
    for round in 0..=args.rounds {
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            let dir = tempfile::tempdir_in(&args.dir)?;
            let began = Instant::now();
            let outcome = match contenders[at] {
                Some(kind) => load.run(kind, args, workers, dir.path())?,
                None => idle(args, workers, dir.path())?,
            };
            let name = contenders[at].map_or("idle", Kind::name);
            eprintln!("round {round} of {}: {name}, {:.1?}", args.rounds, began.elapsed());
            if round > 0 {
                outcomes[at].push(outcome);
            }
        }
    }
    let mut medians: Vec<_> = outcomes.iter().map(|outcomes| Outcome::median(outcomes)).collect();
    let idle = medians.pop().ok_or("no contender")?;
    Ok((medians, idle))
}

/// Prints a table, and returns what misses its target.
fn print(medians: &[Outcome], idle: Outcome, args: &Args, workers: usize) -> Vec<String> {
    let runtime = crate::runtime_name(workers);
    println!(
        "{runtime}; stalls of a ticker of 1 ms: 99.9 % of its ticks, the longest, and those of an idle server beside it"
    );
    println!(
        "{:<10} {:>7} {:>8} {:>11} {:>12} {:>11} {:>11} {:>11} {:>11}",
        "server",
        "MiB/s",
        "of ours",
        "CPU, ms/MiB",
        "resident MiB",
        "p99.9, ms",
        "above idle",
        "longest",
        "beside"
    );
    let mib = (args.uploads * args.bytes) as f64 / f64::from(1 << 20);
    for (kind, median) in KINDS.iter().zip(medians) {
        println!(
            "{:<10} {:>7.0} {:>8.2} {:>11.2} {:>12.0} {:>11.2} {:>11.2} {:>11.2} {:>11.2}",
            kind.name(),
            median.mib_per_second,
            median.mib_per_second / medians[0].mib_per_second,
            median.server.processor_ms / mib,
            median.server.resident_mib,
            median.server.stall_ms,
            median.server.stall_ms - idle.server.stall_ms,
            median.server.longest_ms,
            median.beside.stall_ms,
        );
    }
    let Figures { resident_mib, stall_ms, longest_ms, .. } = idle.server;
    println!(
        "{:<10} {:>7} {:>8} {:>11} {resident_mib:>12.0} {stall_ms:>11.2} {:>11} {longest_ms:>11.2}",
        "idle", "", "", "", ""
    );
    let best = medians[1..].iter().map(|other| other.mib_per_second).fold(0.0, f64::max);
    let ours = &medians[0];
    let targets = [
        ("throughput by the best other, at least", ours.mib_per_second / best, 1.5, true),
        ("resident MiB over the limit, at most", ours.server.resident_mib - args.memory_mib(), 64.0, false),
        ("p99.9 above idle, ms, at most", ours.server.stall_ms - stall_ms, 2.0, false),
    ];
    let mut missed = Vec::new();
    // Below what the servers can take, all are as fast as their clients.
    let of_speed = usize::from(args.rate > 0);
    for (name, figure, target, is_least) in targets.into_iter().skip(of_speed) {
        let is_met = if is_least { figure >= target } else { figure <= target };
        println!("{name:<40} {figure:>8.2} {target:>8.2}{}", if is_met { "" } else { "  MISSED" });
        if !is_met {
            missed.push(format!("{runtime}: {name}: {figure:.2}, not {target}"));
        }
    }
    missed
}
