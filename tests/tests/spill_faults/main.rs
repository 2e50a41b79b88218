//! Does a failing store cost anything that was accepted before? (I3)
//!
//! Faults are counted, not sampled: call 0 of the store fails, then call 1, and so on until a run has no
//! failing call. After the operation in which it failed, each byte of each buffer is compared, the position,
//! and what is charged for memory and disk. Then the fault is lifted, the operation is done again, and the
//! sequence goes on to its end.
//!
//! Each position is tried twice: the call fails once, and it fails together with all calls after it. A third
//! and a fourth run compare at the end only and lift nothing, since reading the content moves pages.
//!
//! A test that a failure prints goes to `spill_edges.rs`, with its story.

mod sequences;

use overspill::Checksums;
use overspill::testing::{Failure, Fault};
use overspill_tests::driver::Watch;
use overspill_tests::ops::{Op, sequences};
use overspill_tests::pools::{After, PoolOp, PoolSetup, pool_sequences, run_pool};
use overspill_tests::proptest_config;
use overspill_tests::spills::{Below, SpillSetup, run_spill};
use overspill_tests::support::hush_planned_panics;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sequences::named_sequences;
use std::io::ErrorKind;

const PAGE: usize = 8;

/// One call fails, or one and all after it.
const FAULTS: [fn(u64, Failure) -> Fault; 2] = [Fault::once, Fault::lasting];

/// A pool with memory for so many half pages, over a store that does not fail.
fn setup(page: usize, half_pages: usize, buffers: usize) -> PoolSetup {
    PoolSetup {
        page,
        memory: half_pages * page / 2,
        disk: u64::MAX,
        checksums: Checksums::Off,
        buffers,
        fault: None,
        after: After::Lifted,
        watch: Watch::AtEnd,
    }
}

/// Lets each call of the store fail in turn, in both ways, and returns how many calls that were.
fn fail_everywhere(setup: PoolSetup, ops: &[PoolOp], failure: Failure) -> u64 {
    let mut places = 0;
    for fault in FAULTS {
        for n in 0.. {
            let setup = PoolSetup { fault: Some(fault(n, failure)), ..setup };
            let failed = run_pool(setup, ops).unwrap_or_else(|mismatch| panic!("{mismatch}"));
            if failed == 0 {
                break;
            }
            places += 1;
        }
    }
    places
}

/// Each operation that can reach the store must be in a sequence. A new one must be added to the list here,
/// too.
#[test]
fn each_operation_of_a_pool_is_in_a_sequence() {
    let mut seen: Vec<String> = Vec::new();
    for (_, _, ops) in named_sequences() {
        let name = |op: &PoolOp| format!("{op:?}").replace("Do(", "");
        seen.extend(ops.iter().map(|op| name(op).split(['(', ')']).next().unwrap_or_default().to_owned()));
    }
    let all = "Write WriteAll WriteVectored Read ReadExact ReadVectored ReadToEnd FillBuf Seek SetLen Truncate \
               Clear Spill Renew Turn ReadAt WriteAt ToVec CopyTo Push MemoryLimit DiskLimit Trim IntoFile Persist Limited";
    let missing: Vec<&str> = all.split_whitespace().filter(|op| !seen.iter().any(|s| s == op)).collect();
    assert_eq!(missing, [""; 0], "(Flush and SetPosition do not reach the store)");
}

/// Transfers of every length below a page, 0 included.
#[test]
fn every_short_transfer_is_continued_or_refused() {
    let places: u64 = named_sequences()
        .into_iter()
        .filter(|(_, setup, _)| setup.page == PAGE)
        .flat_map(|(_, setup, ops)| (0..PAGE).map(move |bytes| (setup, ops.clone(), bytes)))
        .map(|(setup, ops, bytes)| fail_everywhere(setup, &ops, Failure::Short(bytes)))
        .sum();
    assert!(places >= 3500, "{places} places are too few to prove anything");
}

/// Lets every call of every sequence fail with `failure`: of those written by hand, and of random ones.
fn nothing_is_lost(failure: Failure) {
    hush_planned_panics();
    let mut places = 0;
    for (name, setup, ops) in named_sequences() {
        let tried = fail_everywhere(setup, &ops, failure);
        assert!(tried > 2, "{name}: only {tried} places");
        places += tried;
    }
    let mut runner = TestRunner::deterministic();
    for n in 0..proptest_config(100).cases as usize {
        let (page, half_pages, buffers) = ([1, 8, 64][n % 3], [0, 2, 5, 9][n % 4], 1 + n % 4);
        let checksums = if n % 2 == 0 { Checksums::Off } else { Checksums::On };
        let setup = PoolSetup { checksums, ..setup(page, half_pages, buffers) };
        let ops = pool_sequences(setup, 60).new_tree(&mut runner).expect("no filters").current();
        places += fail_everywhere(setup, &ops, failure);
    }
    assert!(places >= 2500, "{places} places are too few to prove anything");
}

/// One test for each failure, so that the name of a failed test names it.
macro_rules! nothing_is_lost_when_every_call {
    ($($name:ident: $failure:expr;)*) => {$(
        #[test]
        fn $name() {
            nothing_is_lost($failure);
        }
    )*};
}

nothing_is_lost_when_every_call! {
    finds_the_disk_full: Failure::full();
    fails_with_an_i_o_error: Failure::io();
    is_interrupted: Failure::Error(ErrorKind::Interrupted);
    would_block: Failure::Error(ErrorKind::WouldBlock);
    is_not_permitted: Failure::Error(ErrorKind::PermissionDenied);
    is_not_supported: Failure::Error(ErrorKind::Unsupported);
    panics: Failure::Panic;
}

/// The same few sequences in each run: only the faults vary.
fn fixed_sequences(page: usize, ops: usize) -> Vec<Vec<Op>> {
    let mut runner = TestRunner::deterministic();
    (0..5).map(|_| sequences(page, false, ops).new_tree(&mut runner).unwrap().current()).collect()
}

/// Compares at the end only, and lifts nothing: reading the content moves pages, and so may hide a bug.
fn nothing_is_lost_unwatched(pages: usize, fault: fn(u64, Failure) -> Fault) {
    let mut places = 0;
    let runs = [(1, Checksums::Off, 150), (8, Checksums::On, 150), (512, Checksums::Off, 150)];
    // A page of two blocks has many places where a small write reads first, of all kinds: a short run is
    // enough.
    for (page, checksums, ops) in runs.into_iter().chain([(8192, Checksums::On, 20)]) {
        let setup = SpillSetup {
            page,
            memory: pages * page,
            disk: u64::MAX,
            below: Below::Memory,
            base: 0,
            checksums,
            buffers: 2,
            watch: Watch::AtEnd,
        };
        for ops in fixed_sequences(page, ops) {
            for n in 0.. {
                let below = Below::Failing(fault(n, Failure::io()));
                let failed = run_spill(SpillSetup { below, ..setup }, &ops);
                if failed.unwrap_or_else(|mismatch| panic!("{mismatch}")) == 0 {
                    break;
                }
                places += 1;
            }
        }
    }
    assert!(places > 400, "{places} places are too few to prove anything");
}

#[test]
fn a_store_that_fails_once_costs_nothing_when_there_is_no_memory() {
    nothing_is_lost_unwatched(0, Fault::once);
}

#[test]
fn a_store_that_fails_for_good_costs_nothing_when_there_is_no_memory() {
    nothing_is_lost_unwatched(0, Fault::lasting);
}

#[test]
fn a_store_that_fails_once_costs_nothing_when_pages_are_evicted() {
    nothing_is_lost_unwatched(2, Fault::once);
}

#[test]
fn a_store_that_fails_for_good_costs_nothing_when_pages_are_evicted() {
    nothing_is_lost_unwatched(2, Fault::lasting);
}
