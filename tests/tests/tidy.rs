//! Rules that the compiler does not hold. Each has its reason beside it; each is shown to bite.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of a package, highest first: a name, and the files and folders in it. A file imports from its
/// own layer or lower ones, and no file reaches itself through its imports.
type Layers = [(&'static str, &'static [&'static str])];

const ADAPTER: &str = "std-adapter/src/";

const ADAPTER_LAYERS: &Layers = &[
    ("the crate and its models", &["lib.rs", "auto_traits.rs", "models.rs", "models/"]),
    ("faults for tests", &["testing/"]),
    ("layers of servers", &["tower/"]),
    ("bodies of messages", &["http/"]),
    ("faces of runtimes", &["tokio/"]),
    ("faces of event loops", &["polled/"]),
    ("faces", &["api/"]),
    ("moving", &["pager/"]),
    ("sharing", &["pool/"]),
    ("bookkeeping", &["pages/"]),
    ("storage", &["disk/"]),
    ("memory", &["memory/"]),
    ("counting and telling", &["observe/"]),
    ("errors", &["error.rs", "error/"]),
    ("ground", &["sync/", "foreign.rs", "try_box.rs"]),
];

const CORE: &str = "core/src/";

const CORE_LAYERS: &Layers = &[
    ("the crate", &["lib.rs", "ring/mod.rs", "ring/raw/mod.rs"]),
    ("faces of the ring", &["ring/io.rs", "ring/io_async.rs", "ring/bytes.rs", "ring/raw/dma.rs"]),
    ("rings", &["ring/ring.rs", "ring/records.rs", "ring/log.rs"]),
    ("handles", &["ring/grant.rs", "ring/producer.rs", "ring/consumer.rs", "ring/owned_grant.rs"]),
    ("ends", &["ring/raw/write_end.rs", "ring/raw/read_end.rs", "ring/raw/ends.rs", "ring/raw/buf.rs"]),
    ("what the ends share", &["ring/shared.rs", "ring/layout.rs", "ring/any_ring.rs"]),
    ("memory of the ring", &["ring/raw/memory.rs", "ring/raw/waker_cell.rs", "ring/wake.rs"]),
    ("ground of the ring", &["ring/index.rs", "ring/errors.rs"]),
    ("the cursor's interfaces", &["io.rs"]),
    ("the cursor and its media", &["cursor.rs", "fixed.rs", "heapless_vec.rs", "alloc_vec.rs"]),
    ("ground", &["medium.rs", "copy.rs", "sync.rs", "sync/"]),
];

const COMMAND: &str = "std-adapter/src/bin/overspill/";

const COMMAND_LAYERS: &Layers = &[
    ("the program", &["main.rs"]),
    ("adding to a file", &["append.rs"]),
    ("its halves", &["soak.rs", "pour.rs"]),
    ("what they work on", &["lock.rs", "target.rs", "progress.rs", "report.rs", "block.rs"]),
    ("what is there", &["checks.rs", "links.rs"]),
    ("the standard streams", &["standard.rs"]),
    ("words", &["args.rs", "failure.rs", "size.rs"]),
    ("ground", &["blocking.rs", "quote.rs"]),
];

/// What must not be reached, through any number of imports: from where, what, and why. Both are files or
/// folders, and what is reached may be an item of std.
const OUT_OF_REACH: &[(&str, &str, &[&str], &str)] = &[
    (ADAPTER, "pages/", &["disk/store.rs", "std::fs", "std::io"], "bookkeeping can be tested alone"),
    (ADAPTER, "disk/slots.rs", &["disk/store.rs", "std::fs", "std::io"], "so can the slot allocator"),
    (ADAPTER, "memory/budget.rs", &["std::fs", "std::io"], "so can a budget"),
    (ADAPTER, "disk/store.rs", &["memory/", "error.rs", "observe/"], "a store never knows who is spilling"),
    (ADAPTER, "disk/temp_file.rs", &["memory/", "error.rs", "observe/"], "nor does the temp file"),
];

/// Words that only some files may have: the package, the words, where they may stand, and why.
const WORDS: &[(&str, &[&str], &[&str], &str)] = &[
    (
        ADAPTER,
        &["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"],
        &["sync/biased.rs", "sync/fork.rs", "memory/"],
        "two locks and one folder to audit",
    ),
    (
        CORE,
        &["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"],
        &["ring/raw/"],
        "one folder to audit",
    ),
    (
        ADAPTER,
        &["std::sync", "core::sync", "std::thread", "loom::"],
        &["sync/", "models.rs", "models/"],
        "the models see only what goes through the shim",
    ),
    (CORE, &["core::sync"], &["sync.rs", "sync/"], "the models see only what goes through the shim"),
    (CORE, &["std::", "extern crate std"], &["sync/modelled.rs"], "core runs where there is no std"),
    (CORE, &["alloc::"], &["alloc_vec.rs", "lib.rs"], "alloc is for its feature"),
    (
        ADAPTER,
        &["std::fs", "tempfile::"],
        &[
            "disk/",
            "pager/base.rs",
            "pager/export.rs",
            "pager/import.rs",
            "pager/shared.rs",
            "pager/slot_io.rs",
            "api/frozen.rs",
            "api/persist.rs",
            "api/persisted.rs",
            "api/transfers.rs",
            "testing/store.rs",
            "memory/machine.rs",
        ],
        "one layer decides where bytes land",
    ),
    (ADAPTER, &["tokio::"], &["tokio/", "http/", "lib.rs"], "what is polled knows no runtime"),
    (ADAPTER, &["sendfile", "splice"], &[], "a slot is used again before what they lend is read"),
];

/// The files of a package, by their path in it, and their code without comments and tests.
type Code = BTreeMap<String, String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "artifacts", "corpus"].contains(&&*name) {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// The Rust files under `package`, by their path from there.
fn texts(package: &str) -> BTreeMap<String, String> {
    let mut paths = Vec::new();
    files(&root().join(package), &mut paths);
    let texts: BTreeMap<_, _> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let name = path.strip_prefix(root().join(package)).unwrap().to_string_lossy().replace('\\', "/");
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(!texts.is_empty(), "nothing under {package}");
    texts
}

/// Without the programs in it, which are packages of their own here, and without files of tests.
fn sources(package: &str) -> Code {
    let is_other = |file: &str| file.starts_with("bin/") || file.ends_with("/tests.rs");
    let texts = texts(package).into_iter().filter(|(file, _)| !is_other(file));
    texts.map(|(file, text)| (file, code(&text))).collect()
}

/// The code of a file: no comments, nothing behind its tests' beginning.
fn code(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let tests = [
        "#[cfg(test)]\nmod tests",
        "#[cfg(all(test, not(overspill_loom)))]\nmod tests",
        "#[cfg(test)]\n#[cfg(not(overspill_loom))]\nmod tests",
    ];
    let before_tests = tests.iter().filter_map(|tests| text.find(tests)).min().unwrap_or(text.len());
    let lines = text[..before_tests].lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

// ---- imports

/// Every path in `code` that begins with `crate`, `super`, `self` or `std`. Takes groups in braces apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::", "std::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| is_word(c) || c == ':' || c == '$') {
                tree(&code[at..], &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Reads one tree of a path, as in `a::b::{c, d::e}`, and returns what stands behind it.
fn tree<'a>(mut code: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let depth = prefix.len();
    loop {
        code = code.trim_start();
        if let Some(mut group) = code.strip_prefix('{') {
            loop {
                group = tree(group, prefix, found).trim_start();
                match group.strip_prefix(',') {
                    Some(rest) if !rest.trim_start().starts_with('}') => group = rest,
                    Some(rest) => group = rest.trim_start(),
                    None => break,
                }
            }
            code = group.strip_prefix('}').unwrap_or(group);
            break;
        }
        let len = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(code.len());
        prefix.push(code[..len].to_owned());
        code = &code[len..];
        let Some(rest) = code.strip_prefix("::") else {
            found.push(prefix.clone());
            break;
        };
        code = rest;
    }
    prefix.truncate(depth);
    code
}

/// The path of the module that a file is.
fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let mut path: Vec<String> = path.split('/').map(str::to_owned).collect();
    path.pop_if(|last| ["mod", "lib", "main"].contains(&&**last));
    path
}

/// What each file imports: other files, and items of std by their path.
fn imports(sources: &Code) -> BTreeMap<&str, BTreeSet<String>> {
    let by_module: BTreeMap<_, _> = sources.keys().map(|file| (module(file), &**file)).collect();
    let mut imports = BTreeMap::new();
    for (file, code) in sources {
        let mut targets = BTreeSet::new();
        for path in paths(code) {
            if path[0] == "std" {
                targets.insert(path.iter().take(2).cloned().collect::<Vec<_>>().join("::"));
                continue;
            }
            let mut absolute = if path[0] == "crate" { Vec::new() } else { module(file) };
            for part in &path {
                match &**part {
                    "crate" | "self" => {}
                    "super" => drop(absolute.pop()),
                    part => absolute.push(part.to_owned()),
                }
            }
            // The longest beginning that is a file: the rest is what it defines.
            while !by_module.contains_key(&absolute) && absolute.pop().is_some() {}
            if let Some(target) = by_module.get(&absolute)
                && target != file
            {
                targets.insert((*target).to_owned());
            }
        }
        imports.insert(&**file, targets);
    }
    imports
}

/// The files and items of std that each file reaches, through any number of imports.
fn reach<'a>(imports: &BTreeMap<&'a str, BTreeSet<String>>) -> BTreeMap<&'a str, BTreeSet<String>> {
    let of = |file: &&'a str| {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&str> = vec![file];
        while let Some(next) = open.pop() {
            for target in imports.get(next).into_iter().flatten() {
                if reached.insert(target.clone()) {
                    open.push(target);
                }
            }
        }
        (*file, reached)
    };
    imports.keys().map(of).collect()
}

/// Whether `file` is `place`, or lies in it if that is a folder.
fn is_in(file: &str, place: &str) -> bool {
    if place.ends_with('/') { file.starts_with(place) } else { file == place }
}

fn layer(layers: &Layers, file: &str) -> Option<usize> {
    layers.iter().position(|(_, places)| places.iter().any(|place| is_in(file, place)))
}

/// Every import that goes up, every circle, and every file in no layer.
fn broken_layers(sources: &Code, layers: &Layers) -> Vec<String> {
    let imports = imports(sources);
    let mut broken = Vec::new();
    for (file, targets) in &imports {
        let Some(own) = layer(layers, file) else {
            broken.push(format!("{file} is in no layer"));
            continue;
        };
        for target in targets.iter().filter(|target| layer(layers, target).is_some_and(|other| other < own)) {
            broken.push(format!("{file} ({}) imports {target}, which is above it", layers[own].0));
        }
    }
    for (file, reached) in reach(&imports) {
        if reached.contains(file) {
            broken.push(format!("{file} reaches itself through its imports"));
        }
    }
    broken
}

/// Every file under `from` that reaches one of `forbidden`.
fn out_of_reach(sources: &Code, from: &str, forbidden: &[&str]) -> Vec<String> {
    let reached = reach(&imports(sources));
    let starts = reached.iter().filter(|(file, _)| is_in(file, from));
    let hits = |(file, reached): (&&str, &BTreeSet<String>)| {
        let hit = reached.iter().find(|target| forbidden.iter().any(|place| is_in(target, place)))?;
        Some(format!("{file} reaches {hit}"))
    };
    starts.filter_map(hits).collect()
}

/// The files that have one of `words` where none may stand, as a text or as a path, in whatever form.
fn misplaced<'a>(sources: &'a Code, words: &[&str], may: &[&str]) -> Vec<&'a str> {
    let is_in_path = |path: &String, word: &str| path.starts_with(word) && word.contains("::");
    let has = |code: &str| {
        let paths: Vec<String> = paths(code).iter().map(|path| path.join("::") + "::").collect();
        words.iter().any(|word| code.contains(word) || paths.iter().any(|path| is_in_path(path, word)))
    };
    let bad = sources.iter().filter(|(file, code)| !may.iter().any(|place| is_in(file, place)) && has(code));
    bad.map(|(file, _)| &**file).collect()
}

fn none(offenders: &[impl std::fmt::Debug], reason: &str) {
    assert!(offenders.is_empty(), "{reason}; but: {offenders:#?}");
}

fn planted(files: &[(&str, &str)]) -> Code {
    files.iter().map(|(file, text)| ((*file).to_owned(), code(text))).collect()
}

// ---- that the rules bite

#[test]
fn a_path_is_read_whatever_its_form() {
    let found =
        paths("use crate::{a::B, c::{self, d as e,},};\nlet x = crate::f::g(super::h::I, std::fs::read());");
    let found: BTreeSet<String> = found.iter().map(|path| path.join("::")).collect();
    let wanted =
        ["crate::a::B", "crate::c::self", "crate::c::d", "crate::f::g", "super::h::I", "std::fs::read"];
    assert_eq!(found, wanted.map(str::to_owned).into());
    assert!(paths("macrate::a $crate::b x::self::c").is_empty());
}

#[test]
fn an_import_that_goes_up_is_found_and_so_is_a_circle() {
    const TWO: &Layers = &[("high", &["high/"]), ("low", &["low/"])];
    let good = planted(&[
        ("high/a.rs", "use crate::low::b::B;"),
        ("low/b.rs", "use super::c::C;"),
        (
            "low/c.rs",
            "use crate::low::nothing; // use crate::high::a::A;\n#[cfg(test)]\nmod tests { use crate::high::a; }",
        ),
        ("low/mod.rs", "pub mod b;"),
    ]);
    assert!(broken_layers(&good, TWO).is_empty(), "{:?}", broken_layers(&good, TWO));
    let up = planted(&[("high/a.rs", ""), ("low/b.rs", "fn f() { crate::high::a::g() }")]);
    assert_eq!(broken_layers(&up, TWO), ["low/b.rs (low) imports high/a.rs, which is above it"]);
    let around = planted(&[
        ("low/a.rs", "use super::{x::Y, b::B};"),
        ("low/b.rs", "use crate::low::c::C;"),
        ("low/c.rs", "use crate::low::a::A;"),
    ]);
    assert_eq!(broken_layers(&around, TWO).len(), 3, "each of the three reaches itself");
    // A re-export is no way around: the module that re-exports is a file as well.
    let behind = planted(&[("low/mod.rs", "pub use self::a::A;"), ("low/a.rs", "use crate::low::B;")]);
    assert_eq!(broken_layers(&behind, TWO).len(), 2);
    assert_eq!(broken_layers(&planted(&[("new.rs", "")]), TWO), ["new.rs is in no layer"]);
}

#[test]
fn what_is_reached_by_a_detour_is_found() {
    let sources = planted(&[
        ("pages/table.rs", "use crate::pages::page::Page;"),
        ("pages/page.rs", "use crate::memory::frame::Frame;"),
        ("memory/frame.rs", "use std::fs::File;"),
    ]);
    assert_eq!(out_of_reach(&sources, "pages/", &["std::fs"]).len(), 2);
    assert!(out_of_reach(&sources, "pages/", &["std::io"]).is_empty());
}

#[test]
fn words_are_found_in_code_alone() {
    let sources =
        planted(&[("pages/table.rs", "use std::fs::File; // fine\n#[cfg(test)]\nmod tests { unsafe {} }")]);
    assert_eq!(misplaced(&sources, &["std::fs"], &["pager/"]), ["pages/table.rs"]);
    let grouped = planted(&[("pages/table.rs", "use std::{fmt, fs::File};")]);
    assert_eq!(misplaced(&grouped, &["std::fs"], &[]), ["pages/table.rs"]);
    assert!(misplaced(&sources, &["std::fs"], &["pages/"]).is_empty());
    assert!(misplaced(&sources, &["unsafe", "fine"], &[]).is_empty(), "tests and comments are not code");
}

// ---- the rules

#[test]
fn nothing_imports_from_above_and_nothing_goes_around() {
    none(&broken_layers(&sources(ADAPTER), ADAPTER_LAYERS), "the layers of the adapter");
    none(&broken_layers(&sources(CORE), CORE_LAYERS), "the layers of core");
    none(&broken_layers(&sources(COMMAND), COMMAND_LAYERS), "the layers of the command");
}

#[test]
fn what_is_out_of_reach_is_not_reached() {
    for (package, from, forbidden, reason) in OUT_OF_REACH {
        let sources = sources(package);
        assert!(sources.keys().any(|file| is_in(file, from)), "{package}{from} is not there");
        none(&out_of_reach(&sources, from, forbidden), reason);
    }
}

#[test]
fn words_stand_where_they_may() {
    for (package, words, may, reason) in WORDS {
        none(&misplaced(&sources(package), words, may), reason);
    }
    let command: Code = texts(ADAPTER)
        .into_iter()
        .filter(|(file, _)| file.starts_with("bin/"))
        .map(|(file, text)| (file, code(&text)))
        .collect();
    assert!(command.len() > 10);
    none(
        &misplaced(&command, &["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"], &[]),
        "nor in the command",
    );
    // The line of the fences that goes around the shim: a compiler fence.
    let sources = sources(ADAPTER);
    let around =
        |file: &str| sources[file].matches("std::sync").count() + sources[file].matches("core::sync").count();
    assert_eq!(["sync/biased.rs", "sync/fences.rs"].map(around), [0, 1]);
}

/// A plain user pays for no runtime; one bench must not compile the world.
#[test]
fn the_libraries_stay_light() {
    let heavy = ["tokio", "tower", "hyper", "http", "tracing", "metrics", "zstd", "lz4", "aes", "chacha"];
    let rivals = ["rtrb", "ringbuf", "bbqueue", "embassy", "criterion", "proptest"];
    let begins = |line: &str, names: &[&str]| names.iter().any(|name| line.starts_with(name));
    // A feature may bring what is heavy, and its examples may need it.
    let is_for_all = |line: &&str| !line.contains("optional = true") && !line.contains("\"dep:");
    for (manifest, features) in
        [("core/Cargo.toml", "default = [\"heapless\"]"), ("std-adapter/Cargo.toml", "default = []")]
    {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        assert!(text.contains(features), "{manifest}: no other default features");
        assert!(!text.lines().any(|line| begins(line, &rivals)), "{manifest}: a rival");
        let always = text.split("[dev-dependencies]").next().unwrap().lines().filter(is_for_all);
        none(&always.filter(|line| begins(line, &heavy)).collect::<Vec<_>>(), manifest);
    }
}

/// Past this, a file is seldom one thing.
#[test]
fn files_are_of_a_size_to_be_read() {
    const LINES_MAX: usize = 500;
    for package in ["core/", "std-adapter/", "tests/"] {
        for (file, text) in texts(package) {
            assert!(text.lines().count() <= LINES_MAX, "{package}{file} has more lines");
        }
    }
}

/// The lines of each function in `text`, with its name. rustfmt closes a function where it opened it.
fn function_lines(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words: Vec<&str> =
            code.split_whitespace().take_while(|word| !word.contains('(') || *word == "pub(crate)").collect();
        let is_function = code.starts_with("fn ") || words.contains(&"fn") && !code.starts_with("//");
        if !is_function || code.contains("fn $") || code.ends_with(['}', ';']) {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let len = lines[at..].iter().position(|line| **line == end).map_or(1, |len| len + 1);
        let name = code.split("fn ").nth(1).unwrap_or_default().split(['(', '<']).next().unwrap_or_default();
        found.push((name.to_owned(), len));
    }
    found
}

#[test]
fn functions_fit_a_screen() {
    const LINES_MAX: usize = 70;
    let planted = "impl A {\n    pub(crate) fn long(\n        a: B,\n    ) {\n        c();\n    }\n    fn short() {}\n}\n";
    assert_eq!(function_lines(planted), [("long".to_owned(), 5)]);
    for package in ["core/", "std-adapter/", "tests/"] {
        for (file, text) in texts(package) {
            for (name, lines) in function_lines(&text) {
                assert!(lines <= LINES_MAX, "{package}{file}: {name} has {lines} lines");
            }
        }
    }
}
