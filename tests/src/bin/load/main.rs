//! The pool under load: each case prints figures and their targets.
//!
//! `cargo run --release -p overspill-tests --bin load` runs all cases; `cargo run --release -p
//! overspill-tests --bin load -- active lowered` those with these names. Each case runs in a process of its
//! own, so that its memory is counted alone. Linux only: the figures come from `/proc`.
#![allow(missing_docs, clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]

mod busy;
mod content;
mod idle;
mod resident;
mod table;

use overspill_tests::bench::{peak_resident_kib, process_status};
use std::process::{Command, Stdio};
use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

type Case = (&'static str, fn());

const CASES: [Case; 16] = [
    ("ten-thousand", busy::ten_thousand),
    ("small", busy::hundred_thousand_small),
    ("active", busy::idle_and_active),
    ("huge", busy::huge_beside_small),
    ("lowered", busy::limit_lowered),
    ("lowered-small", idle::limit_lowered_small),
    ("dropped", busy::all_dropped),
    ("threads", busy::two_threads),
    ("shared", busy::shared_against_private),
    ("resident", resident::bodies_in_turn),
    ("day", resident::day),
    ("million", resident::million_empty),
    ("beside", idle::stream_beside_idle),
    ("sparse", table::sparse),
    ("pages", table::pages),
    ("first", idle::first_write),
];

/// Parts of a case, in processes of their own. Each prints the seconds that it took.
const PARTS: [Case; 3] = [
    ("ours", || busy::ten_thousand_ours(false)),
    ("spooled", busy::ten_thousand_spooled),
    ("first-once", idle::first_write_once),
];

fn main() {
    if !cfg!(target_os = "linux") {
        eprintln!("for Linux only: the figures come from /proc");
        return;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [child, name] = &args[..]
        && child == "child"
    {
        let (_, case) = CASES.iter().chain(&PARTS).find(|(case, _)| case == name).expect("a case");
        return case();
    }
    println!("{:<66} {:>12} {:>16}", "case", "figure", "target");
    for (name, _) in CASES {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            print!("{}", run(name));
        }
    }
}

/// Runs a case in a process that may open many files, and returns what it prints.
fn run(name: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 20000; exec \"$0\" child \"$1\""]).arg(program).arg(name);
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{name} failed");
    String::from_utf8(output.stdout).unwrap()
}

fn at_most(what: &str, figure: f64, target: f64, unit: &str) {
    verdict(what, figure, &format!("<= {target} {unit}"), figure <= target);
}

fn at_least(what: &str, figure: f64, target: f64, unit: &str) {
    verdict(what, figure, &format!(">= {target:.2} {unit}"), figure >= target);
}

fn verdict(what: &str, figure: f64, target: &str, met: bool) {
    println!("{what:<66} {figure:>12.2} {target:>16}{}", if met { "" } else { "  MISSED" });
}

/// What a part prints.
fn seconds(part: &str) -> Duration {
    Duration::from_secs_f64(run(part).trim().parse().unwrap())
}

// ---- figures of this process

fn peak_mib() -> f64 {
    peak_resident_kib() as f64 / 1024.0
}

fn resident_mib() -> f64 {
    process_status("VmRSS").expect("Linux counts what is resident") as f64 / 1024.0
}

fn threads() -> f64 {
    process_status("Threads").expect("Linux counts threads") as f64
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
