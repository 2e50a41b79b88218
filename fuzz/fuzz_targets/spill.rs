//! Do the `SpillBuffer`s of a pool, under any budget, do what the naive model does?
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| overspill_tests::drive_spill(input));
