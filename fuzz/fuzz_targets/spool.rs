//! Do readers that follow a writer see what it wrote?
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overspill_tests::drive_spool(input));
