//! Do the fuzzer's inputs still pass? Every seed, and every finding in its artifacts, is replayed without a
//! fuzzer.

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

/// A test for each target, and a list of all of them.
macro_rules! targets {
    ($($(#[$only:meta])? $target:ident: $drive:ident;)*) => {
        $(
            $(#[$only])?
            #[test]
            fn $target() {
                replay(stringify!($target), overspill_tests::$drive);
            }
        )*

        const TARGETS: &[(&str, fn(&[u8]))] = &[$($(#[$only])? (stringify!($target), overspill_tests::$drive)),*];
    };
}

targets! {
    cursor: drive_cursor;
    ring: drive_ring;
    spill: drive_spill;
    pool: drive_pool;
    clones: drive_clones;
    frozen: drive_frozen;
    spool: drive_spool;
    #[cfg(unix)] args: drive_args; // where a command line is bytes
    #[cfg(unix)] size: drive_size;
    example_format: drive_example;
}

/// Nothing else runs a target's seeds on every change.
#[test]
fn every_target_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let target = path.file_stem().unwrap().to_str().unwrap();
        if cfg!(not(unix)) && ["args", "size"].contains(&target) {
            continue;
        }
        assert!(TARGETS.iter().any(|(name, _)| *name == target), "{target} is not replayed");
    }
}

/// A decoder must not panic, or the fuzzer would report that as a bug of what the decoder drives.
#[test]
fn any_bytes_are_a_run() {
    for byte in [0, 1, 0x55, 0xFF] {
        for len in 0..40 {
            TARGETS.iter().for_each(|(_, drive)| drive(&vec![byte; len]));
        }
    }
}
