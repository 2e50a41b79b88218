//! What if the allocator has no memory: for a page's entry, a list, a buffer's table? Each allocation
//! that a thread makes in a library call is refused in turn, once and for good. The call succeeds
//! without it, or its error is of kind `OutOfMemory`; nothing that was accepted is lost; and in the end
//! nothing is charged or used.
//!
//! The rounds run in a child, since a refusal that nobody asks about ends the process. The parent then
//! has its place printed.
//!
//! Not refused here are those of a fixed length that `ARCHITECTURE.md` names: a pool, a buffer's own
//! settings, files and their names. So no content is persisted here: the names of the target allocate.
#![allow(missing_docs)]

mod refusing;
mod scenario;

use std::process::{Command, Output};

/// The rounds, in a child: all of them, or the one in the variable alone, with its refusals printed. A part
/// of the scenario ends with the first round in which nothing was left to be refused.
#[test]
fn child() {
    let Ok(round) = std::env::var("OVERSPILL_ROUND") else { return };
    let mut words = round.split(' ');
    let for_good = words.next() == Some("for-good");
    if let (Some(part), Some(n)) = (words.next(), words.next()) {
        refusing::trace_refusals(true);
        scenario::PARTS[part.parse::<usize>().unwrap()](n.parse().unwrap(), for_good);
        return;
    }
    for (number, part) in scenario::PARTS.iter().enumerate() {
        for n in 0.. {
            println!("round {number} {n}");
            if part(n, for_good) == 0 {
                break;
            }
        }
    }
    println!("no more");
}

/// Runs all rounds of `mode`, or `mode` names one.
fn rounds(mode: &str) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    child.env("OVERSPILL_ROUND", mode).env("RUST_BACKTRACE", "0");
    child.output().unwrap()
}

/// Tables, lists, slots, sums and what gathers pages were allocated without asking: a process at the limit
/// of its memory was ended by the first of them that was refused, though frames were not, and all bytes
/// could have gone to disk.
#[test]
fn a_refused_allocation_costs_no_byte() {
    for mode in ["once", "for-good"] {
        let output = rounds(mode);
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.rsplit("round ").next().and_then(|rest| rest.lines().next()).unwrap_or_default();
        if !output.status.success() || !said.contains("no more") {
            let place = rounds(&format!("{mode} {last}"));
            let said = [&output, &place].map(|output| String::from_utf8_lossy(&output.stderr));
            panic!("{mode}, round {last}: {}{}", said[0], said[1]);
        }
        let count = said.matches("round ").count();
        assert!(count > 500, "{count} rounds {mode} are too few to prove anything");
    }
}
