//! Is the kernel's fence an improvement and no requirement? The program of `src/bin/ordeal.rs` runs
//! under a tracer that refuses the call from the beginning or from some time on, and that tells
//! which thread makes it.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

use overspill_tests::linux::{may_trace, ordeal_traced};

const ORDEAL: &str = env!("CARGO_BIN_EXE_ordeal");

/// The lines of the log, each with the thread that made the call.
fn calls(scenario: &str, expressions: &[&str]) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let expressions = [&["trace=membarrier,getppid"], expressions].concat();
    let log = ordeal_traced(ORDEAL, scenario, dir.path(), &expressions, false);
    let line =
        |line: &str| line.split_once(' ').map(|(thread, call)| (thread.to_owned(), call.trim().to_owned()));
    log.lines().filter_map(line).collect()
}

fn fences(calls: &[(String, String)]) -> Vec<&(String, String)> {
    calls.iter().filter(|(_, call)| call.starts_with("membarrier(")).collect()
}

/// A program that entered a sandbox after its first write got a panic out of a later one, and its memory was
/// charged for ever: the call had succeeded once, and so it was believed that it cannot fail. The scenario
/// checks content and charges.
#[test]
fn a_fence_that_is_refused_loses_nothing() {
    if !may_trace("a_fence_that_is_refused_loses_nothing") {
        return;
    }
    let untouched = calls("spill", &[]);
    assert!(fences(&untouched).len() >= 2, "registered, and then used: {untouched:?}");
    for first in 1..=fences(&untouched).len() {
        let refused = calls("spill", &[&format!("inject=membarrier:error=EPERM:when={first}+")]);
        assert!(fences(&refused).iter().any(|(_, call)| call.contains("(INJECTED)")), "{refused:?}");
    }
    // From the beginning: nothing is called again and again that has been refused.
    assert_eq!(fences(&calls("spill", &["inject=membarrier:error=ENOSYS"])).len(), 1);
}

/// The first write of a process that has threads took 23 ms: the kernel waits for all of them before it
/// registers a process. A thread of its own waits for that now.
#[test]
fn the_first_write_does_not_wait_for_the_kernel() {
    if !may_trace("the_first_write_does_not_wait_for_the_kernel") {
        return;
    }
    let calls = calls("first-write", &[]);
    let (main, _) = calls.iter().find(|(_, call)| call.starts_with("getppid(")).expect("the mark");
    let fences = fences(&calls);
    assert!(fences.len() <= 1 && fences.iter().all(|(thread, _)| thread != main), "{calls:?}");
}

/// A buffer without a pool, whose pages no other buffer can get, paid for the registration too.
#[test]
fn a_buffer_without_a_pool_needs_no_fence() {
    if !may_trace("a_buffer_without_a_pool_needs_no_fence") {
        return;
    }
    let calls = calls("alone", &[]);
    assert!(fences(&calls).is_empty() && !calls.is_empty(), "{calls:?}");
}
