//! Which system calls does the command make, and what comes of each that is refused for good, by a
//! sandbox or a file system?
//!
//! [`TABLE`] lists every call that [`MODES`] make; one that is not listed fails the test. What a call refines
//! is done without it; what needs it is refused in one line that helps, with the file as it was.
//!
//! Looked for besides: the opposite, a refusal that is taken for an answer. `readlink`'s was ("it is no
//! link"), `fcntl`'s ("it is closed") and `faccessat2`'s ("it may not be written"). Left so by decision are
//! `statx`'s ("it has no such attribute") and `ioctl`'s ("it is no terminal"): the advice that they are for
//! is then not given, and nothing is lost.

use crate::calls::Outcome::{Error, Harmless, NotRefused};
use crate::calls::{Calls, Entry, FORBIDDEN, assert_listed, said, traced};
use crate::{OVERSPILL, may_trace, noise};
use rustix::fs::{OFlags, fcntl_setfl};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

/// The first call of the command's own.
const MARK: &str = "rt_sigaction(SIGXFSZ";

const INPUT: usize = 700_000;

/// The file that the input goes to, and the content that it goes behind.
type Goal = Option<(&'static str, &'static [u8])>;

/// Arguments, and the file that the input goes to, behind what content; without one, it goes to standard
/// output. `link` leads to `old`.
const MODES: [(&str, Goal); 5] = [
    ("--memory 64K", None),
    ("--memory 64K --output new --stats", Some(("new", b""))),
    ("--memory 64K --output link", Some(("old", b""))),
    ("--memory 64K --append --output old", Some(("old", OLD))),
    ("--memory 64K --dir spilled --progress --output old", Some(("old", b""))),
];

const OLD: &[u8] = b"old content\n";

const TABLE: &[Entry] = &[
    (&["read"], &["EIO", "EPERM"], Error(&["cannot read"]), "bytes come by it"),
    (&["write"], &["EIO", "EPERM"], Error(&[]), "and leave by it, and so do messages"),
    (
        &["pwrite64"],
        &["EIO", "ENOSYS"],
        Error(&["temporary file", "cannot write"]),
        "bytes are spilled by it",
    ),
    (&["pread64"], &["EIO", "ENOSYS"], Error(&["temporary file"]), "and come back by it"),
    (&["copy_file_range"], FORBIDDEN, Harmless, "what is spilled is read and written instead"),
    (&["pwritev"], FORBIDDEN, Harmless, "pages leave one by one"),
    (
        &["openat", "open"],
        &["EACCES", "EMFILE"],
        Error(&["old", "new", "spilled", "no file can be made"]),
        "no file without it",
    ),
    (
        &["fcntl"],
        &["EPERM", "ENOSYS", "EINVAL"],
        Error(&["standard input", "standard output", "lock"]),
        "it duplicates descriptors",
    ),
    (
        &["readlink", "readlinkat"],
        &["EACCES", "ENOSYS"],
        Error(&["link", "old", "new"]),
        "what is behind a link is replaced, not the link",
    ),
    (
        &["getcwd"],
        &["EACCES", "ENOSYS"],
        Error(&["link", "old", "new"]),
        "a relative path has to be resolved",
    ),
    (
        &["faccessat2"],
        &["EPERM", "ENOSYS", "EINVAL"],
        Harmless,
        "there is an older call, and the rest is advice",
    ),
    (&["faccessat", "access"], &["ENOSYS", "EINVAL"], Harmless, "advice"),
    (&["statx"], &["EPERM", "ENOSYS"], Harmless, "std has an older call; attributes are advice"),
    (
        &["newfstatat", "fstat", "stat", "lstat"],
        &["EPERM", "ENOSYS"],
        Harmless,
        "whether the process has threads",
    ),
    (&["statfs"], FORBIDDEN, Harmless, "a directory in RAM is not told from one on a disk"),
    (&["fstatfs"], FORBIDDEN, Harmless, "a file that was moved while it was replaced is not told of"),
    (&["ioctl"], &["EPERM", "ENOSYS", "EINVAL"], Harmless, "a terminal is taken for none"),
    (&["poll", "ppoll"], &["EPERM", "ENOSYS", "EINVAL"], Harmless, "a stream is tried again after a pause"),
    (&["fallocate"], FORBIDDEN, Harmless, "freed blocks stay, and a file of a buffer's own is copied"),
    (&["fchmod"], FORBIDDEN, Harmless, "a new file gives nobody more than the old one did"),
    (&["fchown"], FORBIDDEN, Harmless, "the owner is taken over as far as the system allows"),
    (
        &["lgetxattr", "fgetxattr", "fsetxattr", "fremovexattr"],
        FORBIDDEN,
        Harmless,
        "nobody may then do more than before",
    ),
    (&["ftruncate"], FORBIDDEN, Error(&["cannot write"]), "a file has to get its length"),
    (&["fsync"], FORBIDDEN, Error(&["cannot write"]), "the file is to be whole after a crash"),
    (&["lseek"], &["EPERM", "ENOSYS"], Error(&["cannot write"]), "the library promises the position"),
    (&["linkat"], &["EPERM", "ENOSYS", "EACCES"], Harmless, "the file has a hidden name meanwhile"),
    (
        &["rename", "renameat", "renameat2"],
        FORBIDDEN,
        Error(&["cannot write"]),
        "nothing else replaces a name",
    ),
    (&["unlink", "unlinkat"], FORBIDDEN, Error(&["cannot write"]), "without O_TMPFILE"),
    (&["flock"], FORBIDDEN, Harmless, "the hidden name is a random one"),
    (&["membarrier"], &["EPERM", "ENOSYS", "EINVAL"], Harmless, "full fences do as well"),
    (&["madvise"], &["EPERM", "ENOSYS", "EINVAL"], Harmless, "memory stays resident"),
    (&["munmap"], &["ENOMEM", "EPERM"], Harmless, "addresses leak"),
    (&["mmap"], &["ENOMEM"], Harmless, "the allocator has other memory, and progress needs no thread"),
    (&["clone3"], &["ENOSYS", "EAGAIN"], Harmless, "progress needs no thread"),
    (&["rt_sigaction"], &["EINVAL"], Harmless, "SIGXFSZ then ends the command, as before"),
    (
        &["prctl", "sched_getaffinity", "sigaltstack", "rt_sigprocmask"],
        &["EPERM", "ENOSYS"],
        Harmless,
        "the runtime does without",
    ),
    // What is not refused.
    (
        &["getpid", "getppid", "gettid", "geteuid", "getuid"],
        &[],
        NotRefused,
        "the kernel has no error for them",
    ),
    (&["close"], &[], NotRefused, "what it returns of the output is used: see `failures.rs`"),
    (
        &["brk", "futex", "exit", "exit_group", "mprotect", "rseq", "set_robust_list"],
        &[],
        NotRefused,
        "the runtime's",
    ),
    (
        &["clone", "sched_yield", "clock_gettime", "clock_nanosleep", "getrandom"],
        &[],
        NotRefused,
        "the runtime's",
    ),
];

/// Runs the command with `args` in `dir`, where a file and a link to it are. Its input is a
/// pipe that does not wait.
fn run(dir: &Path, args: &str, log: &Path, expressions: &[String], bytes: &[u8]) -> Output {
    fs::write(dir.join("old"), OLD).unwrap();
    fs::set_permissions(dir.join("old"), Permissions::from_mode(0o640)).unwrap();
    symlink("old", dir.join("link")).unwrap();
    fs::create_dir(dir.join("spilled")).unwrap();
    let (input, mut to_command) = std::io::pipe().unwrap();
    fcntl_setfl(&input, OFlags::NONBLOCK).unwrap();
    let mut command = traced(OVERSPILL.as_ref(), log, expressions);
    command.args(args.split(' ')).current_dir(dir).env("TMPDIR", dir.join("spilled"));
    let child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(command); // it holds the command's end open
    std::thread::scope(|scope| {
        scope.spawn(move || {
            sleep(Duration::from_millis(20));
            let _ = to_command.write_all(bytes);
        });
        child.wait_with_output().unwrap()
    })
}

/// What is wrong with what is in `dir` after a run that has ended well, or not.
fn damage(dir: &Path, target: Goal, output: &Output, bytes: &[u8]) -> Option<String> {
    let is_done = output.status.success();
    let old = fs::read(dir.join("old")).unwrap();
    let wanted = target.map(|(_, before)| [before, bytes].concat());
    let found = match target {
        None => output.stdout.clone(),
        Some((name, _)) => fs::read(dir.join(name)).unwrap_or_default(),
    };
    let is_complete = found == wanted.as_deref().unwrap_or(bytes);
    let is_as_before = target.is_none() || found == OLD || found.is_empty();
    let is_old_right = old == OLD || target.is_some_and(|(name, _)| name == "old") && is_complete;
    let is_target_right = is_complete || is_as_before && !is_done;
    if !is_target_right || !is_old_right {
        return Some(format!("{} bytes in the target, {} in `old`", found.len(), old.len()));
    }
    let more = crate::mode(&dir.join("old")) & !0o640;
    let left: Vec<String> = crate::names_in(dir).into_iter().filter(|name| name.starts_with('.')).collect();
    let is_link = fs::symlink_metadata(dir.join("link")).unwrap().is_symlink();
    (more != 0 || !left.is_empty() || !is_link)
        .then(|| format!("mode {more:o} too much, left {left:?}, the link is there: {is_link}"))
}

/// Where an old sandbox refused `faccessat2`, every existing file was taken for one that may not be written;
/// where `poll` was refused, a stream that was empty for a moment was an error; and a link that could not be
/// read was replaced by the file.
///
/// Beside the message it passed over one line of progress; when a second had gone by, another one was there.
#[test]
fn what_a_refused_call_refines_works_without_it() {
    if !may_trace("what_a_refused_call_refines_works_without_it") {
        return;
    }
    let bytes = noise(INPUT);
    let log = tempfile::NamedTempFile::new().unwrap();
    let survey = MODES.map(|(args, target)| {
        let dir = TempDir::new().unwrap();
        let output = run(dir.path(), args, log.path(), &[], &bytes);
        assert!(output.status.success(), "{args}: {}", said(&output));
        assert_eq!(damage(dir.path(), target, &output, &bytes), None, "{args}");
        Calls::read(log.path(), MARK)
    });
    assert_listed(&survey.iter().flat_map(Calls::names).collect(), TABLE);

    let (mut refused, mut wrong) = (0, Vec::new());
    for (names, errors, outcome, _) in TABLE {
        for error in *errors {
            let (mut runs, mut failures) = (0, 0);
            for ((args, target), calls) in MODES.into_iter().zip(&survey) {
                let expressions = calls.refusing(names, error);
                if expressions.is_empty() {
                    continue;
                }
                let dir = TempDir::new().unwrap();
                let output = run(dir.path(), args, log.path(), &expressions, &bytes);
                runs += 1;
                failures += usize::from(!output.status.success());
                let line = String::from_utf8_lossy(&output.stderr);
                let is_as_listed = match outcome {
                    _ if output.status.success() => true,
                    Error([]) => output.status.code() == Some(1),
                    Error(words) => {
                        let is_progress =
                            |line: &&str| line.contains("writing") || line.contains("soaked up");
                        let mut lines = line.lines().filter(|line| !is_progress(line));
                        let is_one = lines.clone().count() == 1;
                        let line = lines.next().unwrap_or_default();
                        let is_one = is_one && line.starts_with("overspill: ");
                        is_one
                            && output.status.code() == Some(1)
                            && words.iter().any(|word| line.contains(word))
                    }
                    Harmless | NotRefused => false,
                };
                let damage = damage(dir.path(), target, &output, &bytes);
                if !is_as_listed || damage.is_some() {
                    wrong.push(format!("{args}, {expressions:?}: {} {line} {damage:?}", output.status));
                }
            }
            refused += runs;
            if matches!(outcome, Error(_)) && runs > 0 && failures == 0 {
                wrong.push(format!("{names:?} {error} is harmless"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(refused > 150, "{refused} refusals are too few to prove anything");
}
