//! Any script on any ring, beside the model.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| overspill_tests::drive_ring(script));
