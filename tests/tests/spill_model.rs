//! Does a `SpillBuffer` do what a binary file does, wherever its bytes are? (I4) Any sequence of operations
//! is done to buffers and to their models, under each memory limit and page size, over stores that work, are
//! full, or fail.

use overspill::Checksums;
use overspill::testing::{Failure, Fault};
use overspill_tests::driver::Watch;
use overspill_tests::ops::{Op, sequences};
use overspill_tests::proptest_config;
use overspill_tests::spills::{Below, SpillSetup, run_spill};
use proptest::prelude::*;
use proptest::sample::select;

type Case = (SpillSetup, Vec<Op>);

/// Runs with the `nth` of [`SpillSetup::budgets`] and every page size. `change` makes the rest of the setup
/// from any byte.
fn cases(nth: usize, change: fn(SpillSetup, u8) -> SpillSetup) -> impl Strategy<Value = Case> {
    let watch = select(vec![Watch::AtEnd, Watch::Every(1), Watch::Every(7)]);
    let checksums = select(vec![Checksums::Off, Checksums::On]);
    let setup = (select(&SpillSetup::PAGES), 1..=3usize, watch, checksums, any::<u8>());
    setup.prop_flat_map(move |(page, buffers, watch, checksums, any)| {
        let memory = SpillSetup::budgets(page)[nth];
        let below = Below::Memory;
        let setup = SpillSetup { page, memory, disk: u64::MAX, below, base: 0, checksums, buffers, watch };
        (Just(change(setup, any)), sequences(page, false, 64))
    })
}

fn check((setup, ops): Case) -> Result<(), TestCaseError> {
    run_spill(setup, &ops).map(drop).map_err(|mismatch| TestCaseError::fail(mismatch.to_string()))
}

/// One module for each memory limit, so that the name of a failed test names it.
macro_rules! buffers_within {
    ($($module:ident: $nth:expr;)*) => {$(
        mod $module {
            use super::*;

            proptest! {
                #![proptest_config(proptest_config(40))]

                #[test]
                fn over_memory(case in cases($nth, |setup, _| setup)) {
                    check(case)?;
                }

                #[test]
                fn over_a_temp_file(case in cases($nth, |setup, _| SpillSetup {
                    below: Below::TempFile,
                    ..setup
                })) {
                    check(case)?;
                }

                #[test]
                fn with_little_disk(case in cases($nth, |setup, any| SpillSetup {
                    disk: u64::from(any % 16) * setup.page as u64,
                    ..setup
                })) {
                    check(case)?;
                }

                #[test]
                fn over_a_store_that_fills_up(case in cases($nth, |setup, any| SpillSetup {
                    below: Below::FullAt(u64::from(any % 16)),
                    ..setup
                })) {
                    check(case)?;
                }

                #[test]
                fn over_a_store_that_fails(case in cases($nth, |setup, any| SpillSetup {
                    below: Below::Failing(match any % 2 {
                        0 => Fault::once(u64::from(any / 2), Failure::io()),
                        _ => Fault::lasting(u64::from(any / 2), Failure::io()),
                    }),
                    ..setup
                })) {
                    check(case)?;
                }

                #[test]
                fn far_from_the_beginning(case in cases($nth, |setup, any| SpillSetup {
                    base: SpillSetup::bases(setup.page)[usize::from(any) % 4],
                    ..setup
                })) {
                    check(case)?;
                }
            }
        }
    )*};
}

buffers_within! {
    no_memory: 0;
    one_byte: 1;
    one_page: 2;
    one_page_and_a_half: 3;
    two_pages: 4;
    five_pages: 5;
    all_the_memory: 6;
}
