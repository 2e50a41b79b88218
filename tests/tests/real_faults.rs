//! Does a buffer keep what it was given when the machine itself fails: a full file system, the size
//! limit of files, a read-only directory, no descriptors left, and each system call in turn?
//!
//! The program that goes through it is `src/bin/ordeal.rs`; it fails if a byte is lost. What this machine
//! does not allow is skipped, and said on standard error, where `cargo test` shows it.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

use overspill_tests::{ordeal, skip};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Checks that the program got through, and gives what it said.
fn survived(output: Output, how: &str) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{how}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Runs a shell's `line` in a mount namespace of its own, with the directory in `$DIR`, and the program
/// in `$ORDEAL`; `None` where that is not allowed.
fn in_own_mounts(test: &str, dir: &Path, line: &str) -> Option<String> {
    let may = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none"]).arg(dir).output();
    if !may.is_ok_and(|output| output.status.success()) {
        skip(test, "mounting takes root, or CAP_SYS_ADMIN");
        return None;
    }
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-e", "-c", line]).env("DIR", dir).env("ORDEAL", env!("CARGO_BIN_EXE_ordeal"));
    Some(survived(shell.output().unwrap(), test))
}

#[test]
fn a_file_system_that_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let line = "mount -t tmpfs -o size=1M none $DIR; exec $ORDEAL fill $DIR";
    let Some(said) = in_own_mounts("a_file_system_that_is_full", dir.path(), line) else { return };
    assert!(said.contains("store is full"), "{said}");
}

#[test]
fn a_directory_that_is_read_only_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let line = "mount -t tmpfs -o ro none $DIR; exec $ORDEAL read-only $DIR";
    let name = "a_directory_that_is_read_only_for_a_while";
    let Some(said) = in_own_mounts(name, dir.path(), line) else { return };
    assert!(said.contains("Read-only file system"), "{said}");
}

/// Past the limit the system sends a signal, which is ignored here, then says `EFBIG`; up to it, it writes.
#[test]
fn a_file_that_may_not_get_longer() {
    let dir = tempfile::tempdir().unwrap();
    // In units of 512 bytes; the last page does not fit whole.
    let line = "trap '' XFSZ; ulimit -f 1500; exec \"$ORDEAL\" fill \"$DIR\"";
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", line]).env("DIR", dir.path()).env("ORDEAL", env!("CARGO_BIN_EXE_ordeal"));
    let said = survived(shell.output().unwrap(), "ulimit -f");
    assert!(said.contains("File too large"), "{said}");
}

#[test]
fn no_descriptor_left_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let output = ordeal(env!("CARGO_BIN_EXE_ordeal"), "descriptors", dir.path()).output().unwrap();
    let said = survived(output, "descriptors");
    assert!(said.contains("Too many open files"), "{said}");
}

/// A run of `scenario` under strace, where `expressions` say what becomes of its calls; the log. A `path`
/// says that only calls that name it matter.
fn traced(scenario: &str, expressions: &[&str], path: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(log.path());
    if path {
        strace.arg("-P").arg(dir.path());
    }
    strace.args(expressions.iter().flat_map(|expression| ["-e", expression]));
    let output = strace.arg(env!("CARGO_BIN_EXE_ordeal")).arg(scenario).arg(dir.path()).output().unwrap();
    survived(output, &format!("{scenario} with {}", expressions.join(" ")));
    assert!(fs::read_dir(dir.path()).unwrap().all(|entry| entry.unwrap().file_name() == "target"));
    fs::read_to_string(log.path()).unwrap()
}

fn may_trace(test: &str) -> bool {
    let tried = Command::new("strace").args(["-qq", "-e", "inject=getppid:error=EIO", "true"]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        skip(test, "strace is not installed, or may not trace");
    }
    may
}

/// Lets each `call` of `scenario` fail in turn in each of `ways`, alone and with the four after it; says how
/// many places that were.
fn fail_each(scenario: &str, call: &str, ways: &[&str]) -> usize {
    // What the loader calls comes before the mark, and would end the program.
    let path = call == "openat";
    let log = traced(scenario, &[&format!("trace={call},getppid")], path);
    let loader = if path { 0 } else { log.lines().take_while(|line| !line.contains("getppid(")).count() };
    let mut places = 0;
    for way in ways {
        for more in [0, 4] {
            for n in loader + 1.. {
                let inject = format!("inject={call}:{way}:when={n}..{}", n + more);
                if !traced(scenario, &[&format!("trace={call}"), &inject], path).contains("(INJECTED)") {
                    break;
                }
                places += 1;
            }
        }
    }
    assert!(places > 0, "{scenario} never calls {call}");
    places
}

/// A scenario, a call by its name in the kernel, and the ways in which it may fail.
type Case = (&'static str, &'static str, &'static [&'static str]);

const CALLS: [Case; 14] = [
    ("spill", "pwrite64", &["error=ENOSPC", "error=EIO", "error=EINTR", "retval=0"]),
    ("spill", "pread64", &["error=EIO", "error=EINTR", "retval=0"]),
    ("spill", "fallocate", &["error=EOPNOTSUPP", "error=EIO", "error=EINTR"]),
    ("spill", "ftruncate", &["error=EIO", "error=EINTR"]),
    ("spill", "openat", &["error=EMFILE", "error=EACCES", "error=EOPNOTSUPP"]),
    ("spill", "fchmod", &["error=EIO"]),
    ("lower", "pwritev", &["error=ENOSPC", "error=EIO", "error=EINTR", "retval=0"]),
    ("persist", "pwrite64", &["error=ENOSPC", "error=EINTR"]),
    ("persist", "fallocate", &["error=EOPNOTSUPP", "error=EIO"]),
    ("persist", "ftruncate", &["error=EFBIG"]),
    ("persist", "fsync", &["error=EIO"]),
    ("persist", "linkat", &["error=EIO", "error=EPERM"]),
    ("persist", "?rename,?renameat,?renameat2", &["error=EIO"]),
    ("persist", "openat", &["error=EMFILE", "error=EOPNOTSUPP"]),
];

#[test]
fn each_system_call_that_fails() {
    if !may_trace("each_system_call_that_fails") {
        return;
    }
    // Two at a time: most of it is waiting for processes to start.
    let (some, others) = CALLS.split_at(CALLS.len() / 3);
    let run = |cases: &'static [Case]| {
        move || cases.iter().map(|(scenario, call, ways)| fail_each(scenario, call, ways)).sum::<usize>()
    };
    let places: usize = std::thread::scope(|scope| {
        let threads = [scope.spawn(run(some)), scope.spawn(run(others))];
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(places > 150, "{places} places are too few to prove anything");
}
