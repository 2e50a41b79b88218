//! Does an async buffer do what a file does, without the store on its event loop, and without a loss when
//! futures are dropped? (I4, I12)
//!
//! Futures are dropped by number, as faults are counted: at await point 0 of a run, at 1, and so on until
//! a run has none there.
#![allow(missing_docs)]

mod along;
mod cleared;
#[cfg(target_os = "linux")]
mod closing;
mod compat;
mod disk;
mod dropped;
mod ends;
mod finish;
mod gated;
mod jumps;
mod last_wakers;
mod left;
mod passes;
mod persist;
mod readers;
mod room;
mod runtimes;
mod servers;
mod spools;
mod subject;
mod turning;
mod turns;
mod whole;

use overspill::Checksums;
use overspill::testing::Failure;
use overspill_tests::driver::Watch;
use overspill_tests::ops::{Op, sequences};
use overspill_tests::proptest_config;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use subject::{Cuts, Met, Setup, faults_and_cuts, run_async};

const PAGE: usize = 8;

fn setup(memory: usize) -> Setup {
    Setup {
        page: PAGE,
        memory,
        disk: u64::MAX,
        checksums: Checksums::Off,
        buffers: 1,
        fault: None,
        threads: 1,
    }
}

/// Random sequences, the same in every run.
fn random_runs(runs: usize, most: usize) -> impl Iterator<Item = (Setup, Watch, Vec<Op>)> {
    let mut runner = TestRunner::deterministic();
    (0..runs).map(move |n| {
        let page = [1, 8, 64, 4096][n % 4];
        // In the most but one a pass has pages moved along.
        let memory = [0, 1, page / 2, page, 3 * page, 9 * page, 24 * page, usize::MAX][n % 8];
        let checksums = [Checksums::Off, Checksums::On][n % 2];
        let setup = Setup { page, checksums, buffers: 1 + n % 3, threads: 1 + n / 2 % 2, ..setup(memory) };
        let watch = [Watch::AtEnd, Watch::Every(1), Watch::Every(7)][n % 3];
        (setup, watch, sequences(page, false, most).new_tree(&mut runner).expect("no filters").current())
    })
}

#[test]
fn an_async_buffer_is_a_file() {
    for (setup, watch, ops) in random_runs(proptest_config(140).cases as usize, 64) {
        let met = run_async(setup, &Cuts::none(), watch, &ops);
        assert_eq!(met, Met { faults: 0, cuts: 0, refusals: 0 }, "{setup:?} {ops:?}");
    }
}

#[test]
fn with_little_disk_it_refuses_and_loses_nothing() {
    let mut refusals = 0;
    for (n, (setup, watch, ops)) in random_runs(proptest_config(70).cases as usize, 64).enumerate() {
        let setup = Setup { disk: (n % 16 * setup.page) as u64, ..setup };
        refusals += run_async(setup, &Cuts::none(), watch, &ops).refusals;
    }
    assert!(refusals > 20, "{refusals} refusals are too few to prove anything");
}

/// Drops the future at each await point of `ops` in turn, in both ways, and returns how many points that
/// were.
fn cut_everywhere(setup: Setup, watch: Watch, ops: &[Op]) -> u64 {
    let mut points = 0;
    for is_lasting in [false, true] {
        for point in 0.. {
            let met = run_async(setup, &Cuts::at(point, is_lasting), watch, ops);
            assert_eq!(met.refusals, 0, "a dropped future makes no error");
            if met.cuts == 0 {
                break;
            }
            points += 1;
        }
    }
    points
}

#[test]
fn a_future_that_is_dropped_at_any_point_has_done_nothing() {
    let runs = proptest_config(40).cases as usize;
    let points: u64 =
        random_runs(runs, 40).map(|(setup, watch, ops)| cut_everywhere(setup, watch, &ops)).sum();
    assert!(points > 300, "{points} points are too few to prove anything");
}

/// Each call of the store fails in turn, and with each of them each future is dropped in turn.
#[test]
fn faults_and_dropped_futures_together_lose_nothing() {
    let (mut places, mut points) = (0, 0);
    for (n, (setup, watch, ops)) in random_runs(proptest_config(14).cases as usize, 24).enumerate() {
        let failure = [Failure::full(), Failure::io(), Failure::Short(3)][n % 3];
        let met = faults_and_cuts(failure, |fault, point| {
            let setup = Setup { fault: Some(fault), ..setup };
            run_async(setup, &Cuts::at(point * 3, point % 2 == 1), watch, &ops)
        });
        (places, points) = (places + met.0, points + met.1);
    }
    assert!(places > 50 && points > 200, "{places} places and {points} points are too few to prove anything");
}
