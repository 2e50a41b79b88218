//! Rules that the compiler does not hold. Each has its reason beside it; each is shown to bite.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path from the root, and its lines without comments and without its tests.
struct Source {
    path: String,
    code: String,
    lines: usize,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == ".git" {
            continue; // a file in a linked work tree, and that names a path
        }
        if path.is_dir() && !name.starts_with('.') && !["target", "artifacts", "corpus"].contains(&&*name) {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn sources(under: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    files(&root().join(under), &mut paths);
    let sources: Vec<_> =
        paths.iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).map(read).collect();
    assert!(!sources.is_empty(), "nothing under {under}");
    sources
}

fn read(path: &PathBuf) -> Source {
    let text = fs::read_to_string(path).unwrap();
    let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
    Source { path, code: code(&text), lines: text.lines().count() }
}

/// The code of a file: no comments, nothing behind its tests' beginning.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let before_tests =
        before_tests.split("#[cfg(test)]\n#[cfg(not(overspill_loom))]\nmod tests").next().unwrap();
    let lines = before_tests.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The files in `sources` that have one of `words`, but for those whose path ends in one of `except`.
fn offenders<'a>(sources: &'a [Source], words: &[&str], except: &[&str]) -> Vec<&'a str> {
    let allowed =
        |path: &str| except.iter().any(|end| path.ends_with(end) || path.contains(&format!("{end}/")));
    let bad =
        |source: &&Source| !allowed(&source.path) && words.iter().any(|word| source.code.contains(word));
    sources.iter().filter(bad).map(|source| &*source.path).collect()
}

fn none(offenders: &[&str], reason: &str) {
    assert!(offenders.is_empty(), "{reason}; but: {offenders:?}");
}

#[test]
fn the_rules_bite() {
    let planted = [Source {
        path: "std-adapter/src/table.rs".into(),
        code: code("use std::fs::File; // fine\n#[cfg(test)]\nmod tests { unsafe {} }"),
        lines: 3,
    }];
    assert_eq!(offenders(&planted, &["std::fs"], &["pager.rs"]), ["std-adapter/src/table.rs"]);
    assert!(offenders(&planted, &["std::fs"], &["table.rs"]).is_empty());
    assert!(offenders(&planted, &["unsafe", "fine"], &[]).is_empty(), "tests and comments are not code");
}

/// One file or folder a crate to audit.
#[test]
fn unsafe_stands_where_it_may() {
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"];
    none(&offenders(&sources("core/src"), &words, &["ring/raw"]), "unsafe in core is for ring/raw/");
    none(
        &offenders(&sources("std-adapter/src"), &words, &["biased.rs"]),
        "unsafe in std-adapter is for biased.rs",
    );
}

/// What goes around the shim is not seen by the models.
#[test]
fn atomics_and_locks_come_from_the_shim() {
    let words = ["std::sync", "core::sync", "std::thread", "loom::"];
    none(
        &offenders(&sources("std-adapter/src"), &words, &["sync.rs", "biased.rs", "models.rs", "src/bin"]),
        "use crate::sync",
    );
    none(&offenders(&sources("core/src"), &words, &["sync.rs", "sync/modelled.rs"]), "use crate::sync");
    // The two lines of biased.rs that may: a compiler fence, and the error of a lock that is taken.
    let biased = read(&root().join("std-adapter/src/biased.rs"));
    assert_eq!(biased.code.matches("std::sync").count() + biased.code.matches("core::sync").count(), 2);
}

/// One place decides where bytes land.
#[test]
fn files_are_opened_where_they_may_be() {
    let may = ["temp_file.rs", "hand_over.rs", "in_place.rs", "own_file.rs", "machine.rs", "src/bin"];
    none(&offenders(&sources("std-adapter/src"), &["std::fs", "tempfile::"], &may), "go through a Store");
}

/// A store never knows who is spilling; the table can be tested without a disk.
#[test]
fn what_is_below_does_not_look_up() {
    let all = sources("std-adapter/src");
    let only = |names: &[&str]| -> Vec<&Source> {
        let picked: Vec<_> = all.iter().filter(|s| names.iter().any(|name| s.path.ends_with(name))).collect();
        assert_eq!(picked.len(), names.len(), "{names:?} are not all there");
        picked
    };
    for source in only(&["src/store.rs", "src/temp_file.rs"]) {
        for word in
            ["crate::table", "crate::pager", "crate::budget", "crate::buffer", "crate::frame", "crate::pool"]
        {
            assert!(!source.code.contains(word), "{} knows of {word}", source.path);
        }
    }
    for source in only(&["src/table.rs", "src/slots.rs", "src/budget.rs", "src/sums.rs"]) {
        for word in ["crate::disk", "crate::store", "crate::pager", "std::io", "std::fs"] {
            assert!(!source.code.contains(word), "{} knows of {word}", source.path);
        }
    }
}

/// `core` runs where there is nothing.
#[test]
fn core_has_no_std_and_no_alloc_of_its_own() {
    // loom's side of the shim is for the models, which have a machine below them.
    let models = ["sync/modelled.rs"];
    none(&offenders(&sources("core/src"), &["std::", "extern crate std"], &models), "core is no_std");
    none(
        &offenders(&sources("core/src"), &["alloc::"], &["alloc_vec.rs", "lib.rs"]),
        "alloc is for its feature",
    );
}

/// A plain user pays for no runtime; one bench must not compile the world.
#[test]
fn the_libraries_stay_light() {
    let heavy = ["tokio", "hyper", "http", "async-std", "smol", "zstd", "lz4", "aes", "chacha"];
    let rivals = ["rtrb", "ringbuf", "bbqueue", "embassy", "criterion", "proptest"];
    for (manifest, features) in
        [("core/Cargo.toml", "default = [\"heapless\"]"), ("std-adapter/Cargo.toml", "default = []")]
    {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        assert!(text.contains(features), "{manifest}: no other default features");
        for name in heavy.iter().chain(&rivals) {
            assert!(!text.lines().any(|line| line.starts_with(name)), "{manifest} depends on {name}");
        }
        for line in
            text.lines().filter(|line| ["tracing =", "metrics ="].iter().any(|name| line.starts_with(name)))
        {
            assert!(line.contains("optional = true") || line.contains("[\"dep:"), "{manifest}: {line}");
        }
    }
}

/// Past this, a file is seldom one thing.
#[test]
fn files_are_of_a_size_to_be_read() {
    const LINES_MAX: usize = 700;
    for under in ["core/src", "std-adapter/src", "tests/src"] {
        for source in sources(under) {
            assert!(source.lines <= LINES_MAX, "{} has {} lines", source.path, source.lines);
        }
    }
}

/// The project speaks of itself alone: no paths of a machine, no hosts of a registry mirror.
#[test]
fn nothing_names_a_machine() {
    let mut paths = Vec::new();
    files(&root(), &mut paths);
    let words = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/ho", "me/"].concat()];
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for word in &words {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
}
