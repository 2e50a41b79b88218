//! Does a failing store cost a `SpillBuffer` anything that it had accepted? (I3)
//!
//! Faults are counted, not sampled: call 0 of the store fails, then call 1, and so on until a run
//! has none; each time once for that call alone, and once for all calls from it on.

use overspill_tests::driver::Watch;
use overspill_tests::faulty::Faults;
use overspill_tests::ops::{Op, sequences};
use overspill_tests::spills::{Below, SpillSetup, run_spill};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// The same few sequences each time: the faults are what varies.
fn fixed_sequences(page: usize) -> Vec<Vec<Op>> {
    let mut runner = TestRunner::deterministic();
    (0..5).map(|_| sequences(page, false, 150).new_tree(&mut runner).unwrap().current()).collect()
}

/// Lets each call of the store fail in turn; returns how many there were.
fn fail_everywhere(setup: SpillSetup, ops: &[Op], faults: fn(usize) -> Faults) -> usize {
    for n in 0.. {
        let failed = run_spill(SpillSetup { below: Below::Failing(faults(n)), ..setup }, ops);
        if failed.unwrap_or_else(|mismatch| panic!("{mismatch}")) == 0 {
            return n;
        }
    }
    unreachable!("a run has fewer calls than there are numbers")
}

/// Fails each call of `faults` with a memory budget of so many pages.
fn nothing_is_lost(pages: usize, faults: fn(usize) -> Faults) {
    let mut places = 0;
    for page in [1, 8, 512] {
        let setup = SpillSetup {
            page,
            memory: pages * page,
            disk: u64::MAX,
            below: Below::Memory,
            base: 0,
            buffers: 2,
            watch: Watch::AtEnd,
        };
        for ops in fixed_sequences(page) {
            places += fail_everywhere(setup, &ops, faults);
        }
    }
    assert!(places > 400, "{places} calls of the store are too few to prove anything");
}

#[test]
fn a_store_that_fails_once_costs_nothing_when_there_is_no_memory() {
    nothing_is_lost(0, Faults::Once);
}

#[test]
fn a_store_that_fails_for_good_costs_nothing_when_there_is_no_memory() {
    nothing_is_lost(0, Faults::From);
}

#[test]
fn a_store_that_fails_once_costs_nothing_when_pages_are_evicted() {
    nothing_is_lost(2, Faults::Once);
}

#[test]
fn a_store_that_fails_for_good_costs_nothing_when_pages_are_evicted() {
    nothing_is_lost(2, Faults::From);
}
