//! The upload server, as a program: `cargo run --release --example upload_server -- --help`.

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use overspill_servers::files::{Config, Files};
use overspill_servers::log::{chain, flush, log};
use overspill_servers::server::{listen, serve};
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the process waits until its log is written, which may not be read any more.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// Receives uploads within one limit of memory and one of disk, and shows at / how it does that.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Memory for the bytes of all uploads together
    #[arg(long, default_value = "64M", value_parser = size)]
    memory: u64,
    /// Disk for them
    #[arg(long, default_value = "10G", value_parser = size)]
    disk: u64,
    /// Where files are persisted, and where the pool spills; without it, nothing can be persisted
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The longest file; at most what memory and disk have
    #[arg(long, default_value = "1G", value_parser = size)]
    limit: u64,
    /// The longest pause of a client within its body, in seconds
    #[arg(long, default_value = "30", value_parser = seconds(1))]
    idle: u64,
    /// How long an upload that broke off can be resumed, in seconds
    #[arg(long, default_value = "600", value_parser = seconds(0))]
    resume: u64,
    /// How long requests may go on after SIGTERM, in seconds; a second signal ends them at once
    #[arg(long, default_value = "30", value_parser = seconds(0))]
    grace: u64,
}

/// Bytes, with K, M, G or T behind them for powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let unit = text.chars().next_back().and_then(|last| "KMGT".find(last.to_ascii_uppercase()));
    let (digits, shift) = match unit {
        Some(power) => (&text[..text.len() - 1], 10 * (power + 1)),
        None => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "a size is a number of bytes, or of K, M, G or T: 64M".to_owned())
}

/// Seconds from `least` up to a year: the clock has an end, and a time beyond it none.
fn seconds(least: u64) -> RangedU64ValueParser {
    clap::value_parser!(u64).range(least..=365 * 24 * 60 * 60)
}

#[tokio::main]
async fn main() {
    let failed = run(Args::parse()).await.err();
    failed.iter().for_each(|error| log(chain(&**error)));
    flush(LOG_TIMEOUT);
    std::process::exit(i32::from(failed.is_some())) // and not by way of the runtime, which waits for calls of the disk
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let room = args.memory.saturating_add(args.disk);
    if args.limit > room {
        let limit = args.limit;
        log(format_args!(
            "no file of --limit {limit} bytes has room in memory and disk: the limit is {room}"
        ));
        flush(LOG_TIMEOUT); // before it is said that the server listens
    }
    let files = Arc::new(Files::new(Config {
        memory: usize::try_from(args.memory)?,
        disk: args.disk,
        dir: args.dir,
        limit: args.limit.min(room),
        idle: Duration::from_secs(args.idle),
        resume: Duration::from_secs(args.resume),
    })?);
    let listener =
        listen(&args.listen).await.map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    let mut asked_to_end = signals()?;
    let _ = writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?); // which nobody may read
    let (end, ended) = oneshot::channel::<()>();
    let serving = serve(listener, files, async { drop(ended.await) }, Duration::from_secs(args.grace));
    let asked_twice = async {
        asked_to_end().await;
        drop(end);
        asked_to_end().await;
    };
    let unfinished = tokio::select! {
        is_done = serving => (!is_done).then_some("some requests were not carried out in time"),
        () = asked_twice => Some("asked to end a second time: requests are broken off"),
    };
    unfinished.map_or(Ok(()), |text| Err(text.into()))
}

/// From here on a signal to end does not end the process by itself: each call of what is
/// returned waits for one.
fn signals() -> io::Result<impl AsyncFnMut()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }
    #[cfg(windows)]
    {
        let mut interrupt = tokio::signal::windows::ctrl_c()?;
        Ok(async move || drop(interrupt.recv().await))
    }
}
