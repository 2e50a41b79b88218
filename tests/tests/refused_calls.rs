//! Which system calls does the library make, and what comes of each that is refused for good: by a sandbox,
//! or by a file system that does not have it? What a call refines has to work without it; what needs it is a
//! typed error that names the thing, and no byte is lost.
//!
//! [`TABLE`] lists every call that the scenario `once` of `src/bin/ordeal.rs` makes; one that is not listed
//! fails the test. The command's table is in `std-adapter/tests/command/refused_calls.rs`.
//!
//! Looked for besides: every call of the library and of std below it, in all parts of the scenario, by a run
//! without refusals whose calls are compared with the table. Fatal by decision are those that move bytes,
//! name a file or promise durability, the length and the position of a file that is handed over. That
//! `fsync` of a directory is refused is no error where the file system says that it has none; that of the
//! content is, since `persist` promises it. A mode is set after the fact in two more places: on a temp file
//! without `O_TMPFILE`, where it is fatal only if others could open the file, and by `commit` for set-ID
//! bits, which are lost instead.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

#[path = "../../std-adapter/tests/command/calls.rs"]
mod calls;

use calls::Outcome::{Error, Harmless, NotRefused};
use calls::{Calls, Entry, FORBIDDEN, assert_listed, said, traced};
use overspill_tests::linux::may_trace;
use overspill_tests::ops::pattern;
use overspill_tests::support::names_in;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Output;

/// What the scenario saves.
const LEN: usize = 6 * 4096 - 100;

const TABLE: &[Entry] = &[
    (
        &["pwrite64"],
        &["EPERM", "ENOSYS", "EIO"],
        Error(&["Store {", "Target {", "stay in memory"]),
        "bytes leave by it",
    ),
    (&["pread64"], &["EPERM", "ENOSYS", "EIO"], Error(&["Store {", "the source:"]), "and come back by it"),
    (
        &["copy_file_range"],
        &["EPERM", "ENOSYS", "EIO", "EXDEV", "EBADF", "EINVAL", "EOPNOTSUPP", "ENOSPC"],
        Harmless,
        "the same bytes are read and written",
    ),
    (&["pwritev"], FORBIDDEN, Harmless, "pages leave one by one"),
    (
        &["openat", "open"],
        &["EACCES", "EMFILE", "EPERM"],
        Error(&["Directory {", "Target {", "stay in memory"]),
        "there is no file without it",
    ),
    (&["fallocate"], FORBIDDEN, Harmless, "freed blocks stay, and a file of a buffer's own is copied"),
    (&["fchmod"], FORBIDDEN, Harmless, "a new file gives nobody more than the old one did"),
    (&["fchown"], FORBIDDEN, Harmless, "the owner is taken over as far as the system allows"),
    (
        &["lgetxattr", "fgetxattr", "fsetxattr", "fremovexattr"],
        FORBIDDEN,
        Harmless,
        "nobody may then do more than before",
    ),
    (&["ftruncate"], FORBIDDEN, Error(&["Target {"]), "a file has to get its length; a store's stays long"),
    (&["fsync"], FORBIDDEN, Error(&["Target {", "NotDurable {"]), "`persist` promises it"),
    (&["lseek"], FORBIDDEN, Error(&["Target {", "the source:"]), "`persist` promises the position"),
    (
        &["linkat"],
        &["EPERM", "ENOSYS", "EOPNOTSUPP", "EACCES"],
        Harmless,
        "the file has a hidden name meanwhile",
    ),
    (&["rename", "renameat", "renameat2"], FORBIDDEN, Error(&["Target {"]), "nothing else replaces a name"),
    (&["flock"], FORBIDDEN, Harmless, "the hidden name is a random one"),
    (&["statx"], &["EPERM", "ENOSYS"], Harmless, "std has an older call"),
    (
        &["newfstatat", "fstat", "stat", "lstat"],
        &["EPERM", "ENOSYS"],
        Harmless,
        "whether the process has threads",
    ),
    (&["statfs"], FORBIDDEN, Harmless, "a directory in RAM is not told from one on a disk"),
    (
        &["fcntl"],
        &["EPERM", "ENOSYS"],
        Error(&["Target {"]),
        "a file that is handed over is a second descriptor",
    ),
    (&["membarrier"], &["EPERM", "ENOSYS", "EINVAL"], Harmless, "owners pass full fences"),
    (&["madvise"], &["EPERM", "ENOSYS", "EINVAL"], Harmless, "memory stays resident"),
    (&["mmap"], &["ENOMEM", "EPERM"], Harmless, "there is no frame, and the bytes go to disk"),
    (&["munmap"], &["ENOMEM", "EPERM"], Harmless, "addresses leak"),
    (&["unlink", "unlinkat"], FORBIDDEN, Error(&["Directory {", "Target {"]), "without O_TMPFILE"),
    // Of the runtime, and of the scenario itself.
    (
        &["getpid", "getppid", "gettid", "geteuid", "getuid"],
        &[],
        NotRefused,
        "the kernel has no error for them",
    ),
    (&["close"], &[], NotRefused, "nothing that it returns is used"),
    (&["brk", "futex", "exit", "exit_group", "sched_yield"], &[], NotRefused, "the runtime has no other way"),
    (&["clock_gettime", "gettimeofday", "getrandom"], &[], NotRefused, "the runtime's, on some machines"),
    (&["sigaltstack", "mprotect", "rt_sigprocmask"], &[], NotRefused, "the runtime's, for its threads"),
    (&["write"], &[], NotRefused, "the scenario prints"),
];

/// Runs the scenario in `dir`, in which two files are to be replaced.
fn once(dir: &Path, log: &Path, expressions: &[String]) -> Output {
    for name in ["old", "old-beside"] {
        fs::write(dir.join(name), "old content").unwrap();
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o640)).unwrap();
    }
    let mut command = traced(env!("CARGO_BIN_EXE_ordeal").as_ref(), log, expressions);
    command.arg("once").arg(dir).env("TMPDIR", dir).output().unwrap()
}

/// A file is what was saved, or as it was; and nobody has more rights than before.
fn assert_whole(dir: &Path, how: &str) {
    for name in names_in(dir) {
        let path = dir.join(&name);
        let content = fs::read(&path).unwrap();
        let is_old = name.starts_with("old") && content == b"old content";
        assert!(is_old || content == pattern(6 * 4096, LEN), "{how}: {name}");
        assert!(["new", "beside", "old", "old-beside"].contains(&&*name), "{how}: {name} is left over");
        if name.starts_with("old") {
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o7777 & !0o640,
                0,
                "{how}: {name}"
            );
        }
    }
}

/// A refinement was a requirement: where a file system or a sandbox refused `fchmod`, `linkat` or `pwritev`,
/// nothing could be persisted over a file, nothing persisted at all, or the memory limit not be lowered;
/// each has another way.
#[test]
fn what_a_refused_call_refines_works_without_it() {
    if !may_trace("what_a_refused_call_refines_works_without_it") {
        return;
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = once(dir.path(), log.path(), &[]);
    assert!(output.status.success() && said(&output).ends_with("\n0 failures\n"), "{}", said(&output));
    let calls = Calls::read(log.path(), "getppid(");
    assert_listed(&calls.names(), TABLE);

    let (mut refused, mut wrong) = (0, Vec::new());
    for (names, errors, outcome, _) in TABLE {
        for error in *errors {
            let expressions = calls.refusing(names, error);
            if expressions.is_empty() {
                continue;
            }
            refused += 1;
            let how = expressions.join(" ");
            let dir = tempfile::tempdir().unwrap();
            let output = once(dir.path(), log.path(), &expressions);
            assert!(fs::read_to_string(log.path()).unwrap().contains("(INJECTED)"), "{how}");
            assert_whole(dir.path(), &how);
            let said = said(&output);
            let failed =
                said.lines().filter(|line| !line.ends_with(": done") && !line.ends_with(" failures"));
            let is_as_listed = match outcome {
                Harmless => failed.clone().count() == 0,
                Error(words) => {
                    let is_named = |line: &str| words.iter().any(|word| line.contains(word));
                    failed.clone().count() > 0 && failed.clone().all(is_named)
                }
                NotRefused => unreachable!("it has no errors"),
            };
            if !is_as_listed || !output.status.success() {
                wrong.push(format!("{how}, not {outcome:?}: {:#?}", failed.collect::<Vec<_>>()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(refused > 40, "{refused} refusals are too few to prove anything");
}

/// A call that a signal had interrupted, as some network file systems let it, counted as refused: a file was
/// for its owner alone, or had another owner, for no other reason.
#[test]
fn a_call_that_was_interrupted_is_made_again() {
    if !may_trace("a_call_that_was_interrupted_is_made_again") {
        return;
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    for calls in ["fchown", "lgetxattr,fgetxattr,fsetxattr,fremovexattr"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old");
        fs::write(&path, "").unwrap();
        let _ = chown(&path, Some(12345), Some(12345)); // it takes root
        let before = fs::metadata(&path).unwrap().uid();
        let inject = format!("inject={calls}:error=EINTR:when=1+2");
        let output = once(dir.path(), log.path(), &[format!("trace={calls}"), inject]);
        assert!(said(&output).ends_with("\n0 failures\n"), "{}", said(&output));
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o640, before), "{calls}");
    }
}
