//! `Cursor` against the model of a binary file, over every medium, by random operations.

use overspill_tests::cursors::{CursorSetup, Under, run_cursor};
use overspill_tests::ops::{Op, sequences};
use overspill_tests::proptest_config;
use proptest::prelude::*;

fn setups(under: Under) -> impl Strategy<Value = CursorSetup> {
    (prop::sample::select(&CursorSetup::CAPACITIES), 0..=64usize)
        .prop_map(move |(capacity, held)| CursorSetup { under, capacity, held })
}

/// Sizes of a few bytes, so that operations reach the ends of the content and of the medium.
fn operations() -> impl Strategy<Value = Vec<Op>> {
    (1..=16usize).prop_flat_map(|page| sequences(page, true, 48))
}

/// One test for each medium, so that a failure names it.
macro_rules! cursor_over {
    ($($name:ident: $under:expr;)*) => {
        proptest! {
            #![proptest_config(proptest_config(512))]
            $(
                #[test]
                fn $name(setup in setups($under), ops in operations()) {
                    run_cursor(setup, &ops).map_err(|mismatch| TestCaseError::fail(mismatch.to_string()))?;
                }
            )*
        }
    };
}

cursor_over! {
    an_array: Under::Array;
    borrowed_memory: Under::Borrowed;
    a_heapless_vec: Under::HeaplessVec;
    a_heapless_view: Under::View;
    a_vec: Under::Vec;
}
