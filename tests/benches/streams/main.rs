//! Streams far over the limit: many at once, against the plainest program that could do it; and one, against
//! a file; and what it costs to drop much.
//!
//! `cargo bench -p overspill-tests --bench streams` runs all cases; `cargo bench -p overspill-tests
//! --bench streams -- turns-1m` the case `turns-1m`. Each case runs in a process of its own, which
//! may open many files.
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "small sizes")]

#[cfg(unix)]
mod counted;
#[cfg(unix)]
mod dropped;
#[cfg(unix)]
mod one;
#[cfg(unix)]
mod plain;
#[cfg(unix)]
mod turns;

#[cfg(unix)]
const KIB: usize = 1 << 10;
#[cfg(unix)]
const MIB: usize = 1 << 20;

#[cfg(not(unix))]
fn main() {
    eprintln!("for Unix only: the rival writes at offsets of a file");
}

#[cfg(unix)]
fn main() {
    use overspill_tests::bench::{Row, arguments};
    use std::process::Command;

    let cases: [(&str, fn()); 9] = [
        ("turns-1m", || turns::in_turn(&turns::MEGABYTES)),
        ("turns-300k", || turns::in_turn(&turns::UPLOADS)),
        ("turns-60k", || turns::in_turn(&turns::BODIES)),
        ("turns-3k", || turns::in_turn(&turns::MESSAGES)),
        ("mixed", turns::mixed),
        ("one", one::one_stream),
        ("random", one::random),
        ("drop-1g", dropped::gigabyte),
        ("drop-4m", dropped::pages),
    ];
    let args = arguments();
    if let [child, name] = &args[..]
        && child == "child"
    {
        return cases.iter().find(|(case, _)| case == name).expect("a case").1();
    }
    Row::print_header();
    for (name, _) in cases {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            let program = std::env::current_exe().unwrap();
            let mut command = Command::new("sh");
            command.args(["-c", "ulimit -n 20000; exec \"$0\" child \"$1\""]).arg(program).arg(name);
            assert!(command.status().unwrap().success(), "{name} failed");
        }
    }
}
