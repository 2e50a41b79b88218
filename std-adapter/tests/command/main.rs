//! Does the `overspill` command do what a user expects of it? It is used as a user uses it: with pipes, files
//! in place, full disks, closed readers and signals.
//!
//! | module | question |
//! |---|---|
//! | `content` | is the output the input, and memory within its limit? |
//! | `replace` | what of a file stays when its content is replaced? |
//! | `append` | is what is appended added whole, beside others that append? |
//! | `streams` | are outputs that are not regular files written as they are? |
//! | `refusals` | is what cannot work refused early, in words that help? |
//! | `failures` | is the file as it was after a full disk, a closed reader, a signal? |
//! | `refused_calls` | which system calls may be refused, and what comes of each? |
//! | `progress` | is it shown when it is due, and true? |
//! | `reports` | are statistics and the manual right, and apart from the output? |
//!
//! A test that needs root, or a device, says on standard error that it is skipped. A test that needs a shell,
//! modes, links, terminals or devices runs on Unix only; where Windows keeps a promise in another way, it has
//! a test of its own.

mod append;
#[cfg(target_os = "linux")]
mod calls;
mod content;
mod failures;
mod progress;
mod refusals;
#[cfg(target_os = "linux")]
mod refused_calls;
mod replace;
mod reports;
#[cfg(unix)]
mod streams;

use std::fs;
use std::io::Write;
#[cfg(unix)]
use std::os::unix::{fs::PermissionsExt, process::CommandExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

const OVERSPILL: &str = env!("CARGO_BIN_EXE_overspill");

/// `overspill` with `args`, to be run in `dir`.
fn overspill(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(OVERSPILL);
    command.current_dir(dir).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A copy of the command that any user may run. Three tests failed in a clone below root's home, which
/// others may not enter.
#[cfg(unix)]
struct ForAnyUser(TempDir);

#[cfg(unix)]
impl ForAnyUser {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // By another process: a program that is open for writing, as in the child that another test forks
        // meanwhile, cannot be run.
        let copied = Command::new("cp").arg(OVERSPILL).arg(dir.path().join("overspill")).status();
        assert!(copied.unwrap().success());
        ForAnyUser(dir)
    }

    /// `overspill` with `args`, to be run in `dir` by `user`, which is also its group.
    fn overspill(&self, user: u32, dir: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(self.0.path().join("overspill"));
        command.current_dir(dir).args(args).uid(user).gid(user);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Starts `command`.
///
/// Under wine that failed once with `ERROR_INTERNAL_ERROR`. That is what wine says when the new process ended
/// before it had run anything of the program's, so nothing has happened yet and it may be tried again.
#[track_caller]
fn start(command: &mut Command) -> Child {
    const ERROR_INTERNAL_ERROR: i32 = 1359;
    let started = (0..3).find_map(|_| match command.spawn() {
        Err(error) if cfg!(windows) && error.raw_os_error() == Some(ERROR_INTERNAL_ERROR) => None,
        other => Some(other),
    });
    started.expect("it starts within three times").unwrap()
}

/// Runs `command` to its end with `input`. It need not read all of that.
///
/// Under wine a process may also be started and end without a word, of which one test failed once in some ten
/// thousand runs of the command. Its status is then one of the system's own, which are negative, and it may
/// be tried again.
fn run(mut command: Command, input: &[u8]) -> Output {
    let is_silent = |output: &Output| output.stdout.is_empty() && output.stderr.is_empty();
    for _ in 0..2 {
        let output = run_once(&mut command, input);
        if !(cfg!(windows) && output.status.code().is_some_and(|code| code < 0) && is_silent(&output)) {
            return output;
        }
        let _ = writeln!(std::io::stderr(), "{:?} of {command:?}, which is tried again", output.status);
    }
    run_once(&mut command, input)
}

fn run_once(command: &mut Command, input: &[u8]) -> Output {
    let mut child = start(command);
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

fn soak(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    run(overspill(dir, args), input)
}

/// Runs `overspill` with `args`. Its input is `parts`, with a pause of so many milliseconds before each but
/// the first.
fn soak_slowly(dir: &Path, args: &[&str], pause: u64, parts: &[&str]) -> Output {
    let mut child = start(&mut overspill(dir, args));
    let mut stdin = child.stdin.take().unwrap();
    for (n, part) in parts.iter().enumerate() {
        sleep(Duration::from_millis(if n == 0 { 0 } else { pause }));
        stdin.write_all(part.as_bytes()).unwrap();
    }
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Runs a shell's `script` in `dir`, with the command in `$OVERSPILL`.
#[cfg(unix)]
fn shell(dir: &Path, script: &str) -> Output {
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).current_dir(dir).env("OVERSPILL", OVERSPILL).stdin(Stdio::null());
    command.output().unwrap()
}

/// Runs `command` to its end with an input that has some bytes and does not end. A command that reads it
/// first would wait for ever, so that is a failure.
#[track_caller]
fn before_input_ends(mut command: Command) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(piped);
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(b"some");
    for _ in 0..1000 {
        if child.try_wait().unwrap().is_some() {
            return child.wait_with_output().unwrap();
        }
        sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    panic!("it waits for its input");
}

#[track_caller]
fn assert_quiet_success(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{:?}: {said}", output.status);
}

/// Asserts that the command failed with status 1 and one line, which holds all of `words`.
#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("overspill: ") && said.ends_with('\n'), "{said:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("os error"), "{said}");
}

/// `len` bytes of which no two pages are alike.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 8).to_le_bytes()[..7]);
    }
    bytes.truncate(len);
    bytes
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// Reports a skipped test on the real standard error: `cargo test` holds back what a passing test prints.
#[cfg(unix)]
fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped {test}: {why}");
}

/// Runs a shell's `script` in `dir` with mounts of its own.
#[cfg(target_os = "linux")]
fn in_own_mounts(dir: &Path, script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", script]).current_dir(dir).env("OVERSPILL", OVERSPILL);
    command.stdin(Stdio::null()).output().unwrap()
}

/// Whether `strace` can slow calls down. If not, reports that `test` is skipped.
#[cfg(target_os = "linux")]
fn may_trace(test: &str) -> bool {
    let tried = Command::new("strace").args(["-qq", "-e", "inject=getppid:error=EIO", "true"]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        skip(test, "strace is not installed, or may not trace");
    }
    may
}
