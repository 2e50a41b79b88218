//! An example for targets of your own: does a small file format survive a store that fails? What is
//! done to it, line by line, is in `tests/src/example.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overspill_tests::drive_example(input));
