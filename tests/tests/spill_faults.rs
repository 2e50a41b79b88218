//! Does a failing store cost anything that was accepted? (I3)
//!
//! Faults are counted, not sampled: call 0 of the store fails, then call 1, and so on until a run has
//! none. After the operation in which it failed everything is looked at: each byte of each buffer, the
//! position, what is charged for memory and disk. Then the fault is lifted, the operation is done again,
//! and the sequence goes on to its end.
//!
//! Each position is tried twice: the call fails once, and it fails with all after it. And in a third
//! and fourth run nobody looks in between and nothing is lifted, since looking moves pages.
//!
//! Pasted from a failure, a test goes to `spill_edges.rs`, with its story.

use overspill::Checksums;
use overspill::testing::{Failure, Fault};
use overspill_tests::driver::Watch;
use overspill_tests::ops::{Op, sequences};
use overspill_tests::pools::{After, PoolOp, PoolSetup, pool_sequences, run_pool};
use overspill_tests::proptest_config;
use overspill_tests::spills::{Below, SpillSetup, run_spill};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::io::ErrorKind;
use std::io::SeekFrom::{End, Start};

const PAGE: usize = 8;

/// One call fails, or one and all after it.
const FAULTS: [fn(u64, Failure) -> Fault; 2] = [Fault::once, Fault::lasting];

/// A pool of so many pages of memory.
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

/// Lets each call of the store fail in turn, in both ways; returns how many places that were.
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

// Sequences by hand: each public operation at least once where it meets the store.

/// Turns to buffer `n`.
fn turn(n: usize) -> PoolOp {
    PoolOp::Do(Op::Turn(n))
}

fn named_sequences() -> Vec<(&'static str, PoolSetup, Vec<PoolOp>)> {
    use Op::{Clear, FillBuf, Read, ReadExact, ReadToEnd, ReadVectored, Renew, Seek, SetLen};
    use Op::{Spill, Truncate, Write, WriteAll, WriteVectored};
    use PoolOp::{DiskLimit, Do, IntoFile, Limited, MemoryLimit, Persist, Trim};
    let at = |place| Do(Seek(Start(place)));
    let (none, one, few) = (setup(PAGE, 0, 1), setup(PAGE, 2, 1), setup(PAGE, 6, 1));
    // A small write reads first where it is checked.
    let checked = |setup| PoolSetup { checksums: Checksums::On, ..setup };
    let (none, few, slots) = (checked(none), checked(few), checked(setup(16 << 10, 1, 1)));
    let shared = checked(setup(PAGE, 8, 4));
    let small = |n| (0..n).map(|_| Do(Write(3))).collect::<Vec<_>>();
    vec![
        (
            "writes past all memory",
            none,
            vec![Do(Write(100)), Do(WriteAll(61)), Do(WriteVectored([9, 0, 30]))],
        ),
        ("small writes over one page", one, small(20)),
        (
            "reads in all ways",
            one,
            vec![
                Do(WriteAll(70)),
                at(1),
                Do(Read(30)),
                Do(ReadExact(8)),
                Do(ReadVectored([3, 9, 5])),
                at(5),
                Do(FillBuf(3)),
                Do(FillBuf(100)),
                Do(ReadToEnd),
                at(2),
                Do(ReadToEnd),
                Do(ReadExact(1)),
            ],
        ),
        (
            "writing over, in the middle and over gaps",
            few,
            vec![
                Do(WriteAll(50)),
                at(12),
                Do(Write(20)),
                at(90),
                Do(Write(5)),
                at(70),
                Do(WriteAll(3)),
                at(0),
                Do(WriteAll(33)),
            ],
        ),
        (
            "visits back and forth until pages are hot",
            few,
            [0, 40, 8, 40, 16, 40, 24, 40]
                .repeat(6)
                .into_iter()
                .flat_map(|place| [at(place), Do(Write(2)), at(place), Do(Read(3))])
                .collect(),
        ),
        (
            "length both ways",
            one,
            vec![
                Do(WriteAll(60)),
                Do(SetLen(37)),
                Do(SetLen(80)),
                at(20),
                Do(Truncate),
                Do(SetLen(64)),
                at(0),
                Do(ReadToEnd),
            ],
        ),
        (
            "spilled, brought back, cleared and trimmed",
            few,
            vec![
                Do(WriteAll(30)),
                Do(Spill),
                at(3),
                Do(Write(4)),
                Do(Spill),
                Do(Clear),
                Trim,
                Do(WriteAll(40)),
                Do(Renew),
                Trim,
            ],
        ),
        (
            "a disk limit that makes freed blocks go at once",
            PoolSetup { disk: 64, ..one },
            vec![
                Do(WriteAll(60)),
                Do(SetLen(16)),
                DiskLimit(40),
                Do(WriteAll(20)),
                DiskLimit(0),
                Do(Clear),
                DiskLimit(64),
                Do(Write(60)),
            ],
        ),
        (
            "to a file without a name",
            few,
            vec![Do(WriteAll(50)), at(7), IntoFile, Do(WriteAll(20)), IntoFile, IntoFile],
        ),
        (
            "to a file with a name",
            few,
            vec![
                Do(WriteAll(50)),
                at(30),
                Do(Write(9)),
                Persist,
                Do(WriteAll(64)),
                Do(Spill),
                Persist,
                Persist,
            ],
        ),
        (
            "memory taken away and given back",
            few,
            vec![
                Do(WriteAll(40)),
                MemoryLimit(8),
                at(0),
                Do(Read(20)),
                MemoryLimit(0),
                Do(Write(9)),
                MemoryLimit(64),
                at(4),
                Do(Read(4)),
                Do(Read(4)),
                Do(Read(4)),
                Do(Write(4)),
                MemoryLimit(3),
            ],
        ),
        (
            "frames taken back from idle buffers",
            shared,
            (0..12).flat_map(|n| [vec![turn(n)], small(4), vec![at(1), Do(Read(5))]].concat()).collect(),
        ),
        (
            "one large buffer, and small ones that take from it",
            shared,
            [
                vec![Do(WriteAll(200))],
                (0..9).flat_map(|n| [vec![turn(1 + n % 3)], small(3)].concat()).collect(),
                vec![turn(0), at(0), Do(ReadToEnd)],
            ]
            .concat(),
        ),
        (
            "limits of one buffer",
            shared,
            vec![
                Limited(8, u64::MAX),
                Do(WriteAll(60)),
                turn(1),
                Limited(0, 24),
                Do(Write(60)),
                at(3),
                Do(Write(9)),
                turn(0),
                at(3),
                Do(ReadToEnd),
            ],
        ),
        (
            "a page that outgrows its slot",
            slots,
            vec![
                Do(WriteAll(3000)),
                Do(Spill),
                Do(WriteAll(3000)),
                Do(Spill),
                Do(WriteAll(9000)),
                Do(Spill),
                at(3),
                Do(Write(5)),
                Do(Seek(End(0))),
                Do(WriteAll(20_000)),
                MemoryLimit(0),
                at(0),
                Do(SetLen(5000)),
                at(5000),
                Do(WriteAll(9000)),
                at(10),
                Do(ReadToEnd),
            ],
        ),
    ]
}

/// A list that is meant to be whole has to say so when an operation is added.
#[test]
fn each_operation_of_a_pool_is_in_a_sequence() {
    let mut seen: Vec<String> = Vec::new();
    for (_, _, ops) in named_sequences() {
        let name = |op: &PoolOp| format!("{op:?}").replace("Do(", "");
        seen.extend(ops.iter().map(|op| name(op).split(['(', ')']).next().unwrap_or_default().to_owned()));
    }
    let all = "Write WriteAll WriteVectored Read ReadExact ReadVectored ReadToEnd FillBuf Seek SetLen Truncate \
               Clear Spill Renew Turn MemoryLimit DiskLimit Trim IntoFile Persist Limited";
    let missing: Vec<&str> = all.split_whitespace().filter(|op| !seen.iter().any(|s| s == op)).collect();
    assert_eq!(missing, [""; 0], "(Flush and SetPosition do not reach the store)");
}

/// Transfers of every length that is shorter than a page, nothing at all included.
#[test]
fn every_short_transfer_is_continued_or_refused() {
    let places: u64 = named_sequences()
        .into_iter()
        .filter(|(_, setup, _)| setup.page == PAGE)
        .flat_map(|(_, setup, ops)| (0..PAGE).map(move |bytes| (setup, ops.clone(), bytes)))
        .map(|(setup, ops, bytes)| fail_everywhere(setup, &ops, Failure::Short(bytes)))
        .sum();
    assert!(places >= 1400, "{places} places are too few to prove anything");
}

/// Keeps the panics that are planned from filling the screen.
fn hush_planned_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref() != Some(&"a panic was planned here") {
                usual(info);
            }
        }));
    });
}

/// Lets every call of every sequence fail with `failure`: those by hand, and made ones.
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

/// One test for each failure, so that one names it.
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
    meets_an_i_o_error: Failure::io();
    is_interrupted: Failure::Error(ErrorKind::Interrupted);
    would_block: Failure::Error(ErrorKind::WouldBlock);
    is_not_permitted: Failure::Error(ErrorKind::PermissionDenied);
    is_not_supported: Failure::Error(ErrorKind::Unsupported);
    panics: Failure::Panic;
}

/// The same few sequences each time: the faults are what varies.
fn fixed_sequences(page: usize, ops: usize) -> Vec<Vec<Op>> {
    let mut runner = TestRunner::deterministic();
    (0..5).map(|_| sequences(page, false, ops).new_tree(&mut runner).unwrap().current()).collect()
}

/// Nobody looks, nothing is lifted: looking moves pages, and so may hide what is wrong.
fn nothing_is_lost_unwatched(pages: usize, fault: fn(u64, Failure) -> Fault) {
    let mut places = 0;
    let runs = [(1, Checksums::Off, 150), (8, Checksums::On, 150), (512, Checksums::Off, 150)];
    // Two blocks to a page have all kinds of places where a small write reads first, and many: a short run.
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
