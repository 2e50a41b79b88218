//! Do buffers of one pool on different threads leave each other's bytes alone?
//!
//! Each thread drives buffers of its own and compares them with models of its own. The threads share only the
//! pool's frames, slots and memory limit, and there is too little memory for all buffers.

use overspill::Checksums;
use overspill::testing::{Failure, Fault};
use overspill_tests::driver::Watch;
use overspill_tests::ops::{Op, sequences};
use overspill_tests::proptest_config;
use overspill_tests::spills::{Below, SpillSetup, run_spill_threads};
use proptest::prelude::*;

/// A setup, and what each of four threads does in it.
fn cases(page: usize, pages: usize, below: Below) -> impl Strategy<Value = (SpillSetup, Vec<Vec<Op>>)> {
    let setup = SpillSetup {
        page,
        memory: page * pages,
        disk: u64::MAX,
        below,
        base: 0,
        checksums: Checksums::On,
        buffers: 2,
        watch: Watch::Every(7),
    };
    (Just(setup), prop::collection::vec(sequences(page, false, 120), 4))
}

fn check(setup: SpillSetup, sequences: &[Vec<Op>]) -> Result<(), TestCaseError> {
    run_spill_threads(setup, sequences).map_err(|mismatch| TestCaseError::fail(mismatch.to_string()))
}

proptest! {
    #![proptest_config(proptest_config(32))]

    #[test]
    fn four_threads_share_a_few_small_pages((setup, sequences) in cases(8, 5, Below::Memory)) {
        check(setup, &sequences)?;
    }

    #[test]
    fn four_threads_share_a_temp_file((setup, sequences) in cases(4096, 3, Below::TempFile)) {
        check(setup, &sequences)?;
    }

    #[test]
    fn four_threads_share_slots_of_many_sizes((setup, sequences) in cases(16384, 2, Below::Memory)) {
        check(setup, &sequences)?;
    }

    /// The store fails on any thread, also while it writes a page reclaimed from another thread's buffer.
    #[test]
    fn four_threads_share_a_store_that_fails(
        (setup, sequences) in (0..200_u64, any::<bool>()).prop_flat_map(|(n, lasting)| {
            let fault = if lasting { Fault::lasting } else { Fault::once };
            cases(8, 5, Below::Failing(fault(n, Failure::io())))
        })
    ) {
        check(setup, &sequences)?;
    }
}
