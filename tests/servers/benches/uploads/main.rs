//! Uploads to a server in a process of its own.
//!
//! | option | what is measured |
//! |---|---|
//! | none | many uploads at once: our server, and the same over spooled temp files; and how late a ticker of 1 ms comes in each, and in an idle one |
//! | `--rate 32` | the same below what the server can take, where a late tick is no queue of ready connections |
//! | `--sum sha256` | the same with the sum of the upload server. Without instructions for it in the processor, three quarters of the time go there |
//! | `--crowd` | one client beside 500 that read their downloads slowly, and three that behave badly, against the same client alone |
//! | `--check` | the sizes of the targets, 1,000 uploads and 64 MiB of memory; what misses a target is an error |
//!
//! Each server has one memory limit for all uploads, or as much for each of them as that makes. Contenders
//! take turns, each in a fresh directory. Every sum that a server answers is checked. A line on standard
//! error tells of each run.
//!
//! `cargo bench -p overspill-servers --bench uploads -- --help` lists what can be changed.

mod crowd;
mod load;
mod process;
mod serve;
mod sum;

use clap::Parser;
use overspill_servers::process::raise_open_files;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

pub(crate) type Failure = Box<dyn Error>;

/// What the targets are about.
const TARGET_UPLOADS: usize = 1000;
const TARGET_BYTES: usize = 1 << 20;
const TARGET_PIECE: usize = 1400;
const TARGET_MEMORY: usize = 64 << 20;

/// Compares upload servers under the same load
#[derive(Parser)]
struct Args {
    /// Uploads at once
    #[arg(long, default_value_t = TARGET_UPLOADS / 4)]
    uploads: usize,
    /// Bytes of each
    #[arg(long, default_value_t = TARGET_BYTES)]
    bytes: usize,
    /// Bytes that a client sends at a time
    #[arg(long, default_value_t = TARGET_PIECE)]
    piece: usize,
    /// Memory of the pool, in bytes; a spooled file has this much divided by the uploads
    #[arg(long, default_value_t = TARGET_MEMORY / 4)]
    memory: usize,
    /// MiB that all clients together send in a second; 0 is as many as the server takes
    #[arg(long, default_value_t = 0)]
    rate: usize,
    /// The sum by which uploads are checked
    #[arg(long, default_value = "xxh3")]
    sum: sum::Kind,
    /// Turns that count, after one that does not
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads of a server's runtime, or several of them to be measured one after another; 0 is a
    /// runtime on one thread
    #[arg(long, value_delimiter = ',', default_value = "0,2")]
    workers: Vec<usize>,
    /// Where fresh directories are made
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Measure one client beside many that are slow or behave badly
    #[arg(long)]
    crowd: bool,
    /// Measure the sizes of the targets, and fail if one is missed
    #[arg(long, conflicts_with_all = ["uploads", "bytes", "piece", "memory"])]
    check: bool,
    /// Be a server
    #[arg(long, hide = true)]
    serve: Option<serve::Kind>,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn memory_mib(&self) -> f64 {
        self.memory as f64 / f64::from(1 << 20)
    }
}

fn runtime_name(workers: usize) -> String {
    match workers {
        0 => "current_thread".to_owned(),
        _ => format!("{workers} workers"),
    }
}

fn main() -> Result<(), Failure> {
    let mut args = Args::parse();
    if let Some(kind) = args.serve {
        return serve::run(kind, &args);
    }
    if args.check {
        (args.uploads, args.bytes, args.piece) = (TARGET_UPLOADS, TARGET_BYTES, TARGET_PIECE);
        args.memory = TARGET_MEMORY;
    }
    raise_open_files();
    println!("file system {} at {}", file_system(&args), args.dir.display());
    let missed = if args.crowd {
        crowd::compare(&args)?
    } else {
        println!(
            "{} uploads of {} bytes, in pieces of {}; {} MiB of memory; checked by {}",
            args.uploads,
            args.bytes,
            args.piece,
            args.memory >> 20,
            args.sum.name()
        );
        load::compare(&args)?
    };
    if args.check && !missed.is_empty() {
        return Err(missed.join("; ").into());
    }
    Ok(())
}

fn file_system(args: &Args) -> String {
    let df = Command::new("df").arg("--output=fstype").arg(&args.dir).output();
    let text = df.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().nth(1).unwrap_or("unknown").to_owned()
}
