//! Do the fuzzer's inputs still pass? Every seed, and every finding that still lies in its
//! artifacts, is replayed without a fuzzer.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// The inputs in `fuzz/KIND/TARGET`; none if there is no such folder.
fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind).join(target);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(target: &str, drive: fn(&[u8])) {
    let seeds = inputs("seeds", target);
    assert!(seeds.len() >= 10, "only {} seeds for {target}: are they in the checkout?", seeds.len());
    for path in seeds.into_iter().chain(inputs("artifacts", target)) {
        let input = fs::read(&path).unwrap();
        assert!(catch_unwind(|| drive(&input)).is_ok(), "{} fails", path.display());
    }
}

#[test]
fn cursor() {
    replay("cursor", overspill_tests::drive_cursor);
}

#[test]
fn ring() {
    replay("ring", overspill_tests::drive_ring);
}

#[test]
fn spill() {
    replay("spill", overspill_tests::drive_spill);
}

/// A decoder that panics on short or odd input would be found as a bug of what it drives.
#[test]
fn any_bytes_are_a_run() {
    for byte in [0, 1, 0x55, 0xFF] {
        for len in 0..40 {
            overspill_tests::drive_cursor(&vec![byte; len]);
            overspill_tests::drive_ring(&vec![byte; len]);
            overspill_tests::drive_spill(&vec![byte; len]);
        }
    }
}
