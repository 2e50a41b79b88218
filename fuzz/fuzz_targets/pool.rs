//! Do the buffers of a pool, used in turn, keep what they were given while its limits move and its store
//! fails?
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| overspill_tests::drive_pool(input));
