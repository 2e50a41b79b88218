//! What the tests of the real machine need of Linux: mounts of their own, open files, the program of
//! `src/bin/ordeal.rs`.

use crate::skip;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program of `src/bin/ordeal.rs`, built at `program`, with its arguments.
pub fn ordeal(program: &str, scenario: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(scenario).arg(dir);
    command
}

/// Runs `line` in a shell in a mount namespace of its own, with `dir` as `$DIR` and `program` as `$PROGRAM`,
/// and ends it at the first command that fails.
///
/// `None`, and `test` is reported as skipped, where mounting is not allowed.
///
/// # Panics
/// If the shell cannot be started.
pub fn in_own_mounts(test: &str, dir: &Path, program: impl AsRef<OsStr>, line: &str) -> Option<Output> {
    let tried = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none"]).arg(dir).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        skip(test, "mounting takes root, or CAP_SYS_ADMIN");
        return None;
    }
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-e", "-c", line]).env("DIR", dir).env("PROGRAM", program);
    Some(shell.output().expect("unshare was there a moment ago"))
}

/// Checks that the program succeeded, and returns what it printed.
///
/// # Panics
/// If it failed; `how` it was run is in the message.
pub fn survived(output: &Output, how: &str) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{how}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Runs the program of `src/bin/ordeal.rs`, built at `program`, under strace, with `expressions` that say
/// what becomes of its calls, and returns the log, in which each line begins with a thread. With `in_dir`,
/// only calls that name the directory count.
///
/// # Panics
/// If the program fails.
pub fn ordeal_traced(
    program: &str,
    scenario: &str,
    dir: &Path,
    expressions: &[&str],
    in_dir: bool,
) -> String {
    let log = tempfile::NamedTempFile::new().expect("a log can be made");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(log.path());
    if in_dir {
        strace.arg("-P").arg(dir);
    }
    strace.args(expressions.iter().flat_map(|expression| ["-e", expression]));
    let output = strace.arg(program).arg(scenario).arg(dir).output().expect("strace was there a moment ago");
    survived(&output, &format!("{scenario} with {}", expressions.join(" ")));
    fs::read_to_string(log.path()).expect("strace has written it")
}

/// Whether there is a tracer that makes system calls fail; otherwise `test` is reported as skipped.
pub fn may_trace(test: &str) -> bool {
    let tried = Command::new("strace").args(["-qq", "-e", "inject=getppid:error=EIO", "true"]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        skip(test, "strace is not installed, or may not trace");
    }
    may
}

/// The descriptors of this process, as paths in `/proc`, whose files fit: `fits` takes what the link there
/// shows, which for a file without a name is its former path and ` (deleted)`.
///
/// # Panics
/// If `/proc` cannot be read.
pub fn open_files(fits: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let descriptors = entries.filter_map(|entry| Some(entry.ok()?.path()));
    descriptors.filter(|path| fs::read_link(path).is_ok_and(|file| fits(&file))).collect()
}

/// The bytes of disk that the files behind `descriptors` take, in whole blocks.
pub fn disk_bytes(descriptors: &[PathBuf]) -> u64 {
    use std::os::unix::fs::MetadataExt;
    descriptors.iter().map(|path| fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)).sum()
}
