//! Do the readers of a frozen content see what a vector would show them?
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overspill_tests::drive_frozen(input));
