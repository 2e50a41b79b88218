//! The `overspill` command against `sponge`, as whole processes: time and peak memory.
//!
//! `cargo bench -p overspill-tests --bench command` takes 2 GiB of input, and three times as much disk in the
//! temp directory; `-- 256M` takes less. Without `sponge` (moreutils) it says that it is skipped.
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill_tests::bench::{Contender, Row, alternate, arguments};
use overspill_tests::support::Random;
use std::cell::Cell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wait4::Wait4;

const MIB: u64 = 1 << 20;
const ROUNDS: usize = 3;

fn main() {
    let args = arguments();
    let mib: u64 =
        args.first().map_or(2048, |arg| arg.trim_end_matches('M').parse().expect("a size like 256M"));
    if Command::new("sponge").stdin(Stdio::null()).stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no sponge here (Debian: moreutils)");
        return;
    }
    let overspill = build();
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    fill(&input, mib * MIB);

    Row::print_header();
    for (case, piped) in [("to a file", false), ("to a pipe", true)] {
        let (our_kib, their_kib) = (Cell::new(0), Cell::new(0));
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        let medians = alternate(
            ROUNDS,
            &mut [
                Contender::new("overspill", || {
                    let mut command = Command::new(&overspill);
                    command.args(["--memory", "64M", "--dir"]).arg(dir.path());
                    if !piped {
                        command.arg("-o").arg(&ours);
                    }
                    [run(&mut command, &input, piped, &our_kib)]
                }),
                Contender::new("sponge", || {
                    let mut command = Command::new("sponge");
                    command.env("TMPDIR", dir.path());
                    if !piped {
                        command.arg(&theirs);
                    }
                    [run(&mut command, &input, piped, &their_kib)]
                }),
            ],
        );
        let case = format!("{mib} MiB {case}");
        Row::times(&case, "sponge", medians[0][0], medians[1][0], 2.0).print();
        let peak = |rival: &str, theirs| Row {
            case: format!("{case}, peak KiB"),
            rival: rival.into(),
            ours: our_kib.get() as f64,
            theirs,
            target: 1.0,
        };
        peak("64 + 8 MiB", (72 * 1024) as f64).print();
        peak("sponge", their_kib.get() as f64).print();
    }
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "overspill", "--features", "cli"])
        .current_dir(root)
        .status();
    assert!(built.expect("cargo runs").success());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("release/overspill")
}

/// Writes bytes that no file system can compress.
fn fill(path: &Path, len: u64) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut random = Random::new(1);
    for _ in 0..len / 8 {
        file.write_all(&random.bits().to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
}

/// Runs `command` on `input`, with `cat` reading its output if it is `piped`. Raises `peak_kib` to its peak
/// memory.
fn run(command: &mut Command, input: &Path, piped: bool, peak_kib: &Cell<u64>) -> Duration {
    command.stdin(File::open(input).unwrap());
    if piped {
        command.stdout(Stdio::piped());
    }
    let started = Instant::now();
    let mut child = command.spawn().unwrap();
    let reader = child
        .stdout
        .take()
        .map(|out| Command::new("cat").stdin(Stdio::from(out)).stdout(Stdio::null()).spawn().unwrap());
    let ended = child.wait4().unwrap();
    if let Some(mut reader) = reader {
        reader.wait().unwrap();
    }
    let took = started.elapsed();
    assert!(ended.status.success(), "{command:?}");
    peak_kib.set(peak_kib.get().max(ended.rusage.maxrss / 1024));
    took
}
