//! Does a `Cursor`, over any medium, do what the naive model does?
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| overspill_tests::drive_cursor(input));
