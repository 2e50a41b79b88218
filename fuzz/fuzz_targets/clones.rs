//! Are buffers that were cloned, and cloned again, each what a vector of its own would be?
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overspill_tests::drive_clones(input));
