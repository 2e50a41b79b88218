//! Is any text the size that it is on paper, or none?
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overspill_tests::drive_size(input));
