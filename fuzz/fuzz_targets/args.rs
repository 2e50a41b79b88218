//! Does the command understand any line as a naive reading of it does?
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overspill_tests::drive_args(input));
