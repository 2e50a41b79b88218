//! Does a buffer keep what it has accepted when the machine fails: a full file system, the size limit of
//! files, a directory that is read-only, no descriptors left, each system call in turn? (I3) And does
//! `persist` name the right file in a thread that has descriptors of its own?
//!
//! The program that runs there is `src/bin/ordeal.rs`; it fails if a byte is lost. Tests that this machine
//! does not allow are skipped, and say so on standard error.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

use overspill::{Checksums, SpillPool};
use overspill_tests::linux::{in_own_mounts, may_trace, ordeal, ordeal_traced, survived};
use overspill_tests::skip;
use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;

const ORDEAL: &str = env!("CARGO_BIN_EXE_ordeal");

#[test]
fn a_full_file_system_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let line = "mount -t tmpfs -o size=1M none $DIR; exec $PROGRAM fill $DIR";
    let name = "a_full_file_system_loses_nothing";
    let Some(output) = in_own_mounts(name, dir.path(), ORDEAL, line) else { return };
    let said = survived(&output, name);
    assert!(said.contains("store is full"), "{said}");
}

/// The environment variable that is set in the process that has a small file system.
const INSIDE: &str = "OVERSPILL_IN_A_SMALL_FILE_SYSTEM";

/// A copy that needed fresh blocks failed on a full file system, though the pool there had freed ones that
/// it had not given back.
#[test]
fn a_full_file_system_refuses_no_copy_while_the_pool_has_free_blocks() {
    let name = "a_full_file_system_refuses_no_copy_while_the_pool_has_free_blocks";
    if let Some(dir) = std::env::var_os(INSIDE) {
        return [false, true].into_iter().for_each(|checked| copy_to_what_is_left(Path::new(&dir), checked));
    }
    let dir = tempfile::tempdir().unwrap();
    let line = format!("mount -t tmpfs -o size=2M none $DIR; {INSIDE}=$DIR exec $PROGRAM --exact {name}");
    let program = std::env::current_exe().unwrap();
    let Some(output) = in_own_mounts(name, dir.path(), program, &line) else { return };
    survived(&output, name);
}

/// Copies 700 KiB on a file system that has 2 MiB, of which the pool has all but 300 KiB, and
/// uses no more than 700.
fn copy_to_what_is_left(dir: &Path, checked: bool) {
    let checksums = if checked { Checksums::On } else { Checksums::Off };
    let pool = SpillPool::builder().memory(0).dir(dir).checksums(checksums).build().unwrap();
    let filled = |kib: usize, byte| {
        let mut buffer = pool.buffer();
        buffer.write_all(&vec![byte; kib << 10]).unwrap();
        buffer
    };
    for way in 0..4 {
        let early = filled(1000, 1);
        let mut content = filled(700, 2); // behind it in the file
        drop(early);
        let path = dir.join("target");
        let mut copied = match way {
            0 => content.persist(&path).unwrap().into_file(),
            1 => content.into_file().unwrap(),
            2 => content.freeze().persist(&path).unwrap().into_file(),
            _ => {
                let cloned = content.try_clone().unwrap();
                drop(content);
                cloned.into_file().unwrap()
            }
        };
        let mut bytes = Vec::new();
        copied.rewind().unwrap();
        copied.read_to_end(&mut bytes).unwrap();
        assert!(bytes == vec![2; 700 << 10], "{way}");
        let _ = fs::remove_file(path);
        pool.trim();
    }
}

#[test]
fn a_directory_that_is_read_only_for_a_while_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let line = "mount -t tmpfs -o ro none $DIR; exec $PROGRAM read-only $DIR";
    let name = "a_directory_that_is_read_only_for_a_while_loses_nothing";
    let Some(output) = in_own_mounts(name, dir.path(), ORDEAL, line) else { return };
    let said = survived(&output, name);
    assert!(said.contains("Read-only file system"), "{said}");
}

/// A write past the limit raises a signal, which is ignored here, and fails with `EFBIG`. A write that only
/// ends past it stops short.
#[test]
fn a_file_that_may_not_get_longer_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // In units of 512 bytes, so that only a part of the last page fits.
    let line = "trap '' XFSZ; ulimit -f 1500; exec \"$PROGRAM\" fill \"$DIR\"";
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", line]).env("DIR", dir.path()).env("PROGRAM", ORDEAL);
    let said = survived(&shell.output().unwrap(), "ulimit -f");
    assert!(said.contains("File too large"), "{said}");
}

#[test]
fn no_descriptor_left_for_a_while_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = ordeal(ORDEAL, "descriptors", dir.path()).output().unwrap();
    let said = survived(&output, "descriptors");
    assert!(said.contains("Too many open files"), "{said}");
}

/// `persist` gave the name to another file of the process, and said that all was well, in a thread that has
/// descriptors of its own: the links in `/proc/self/fd` are the main thread's descriptors.
#[test]
#[allow(unsafe_code)]
fn a_thread_with_descriptors_of_its_own_names_its_own_file() {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("old"), "old").unwrap();
    let turn = Barrier::new(2);
    let persist_each = || {
        let pool = SpillPool::builder().memory(0).dir(dir.path()).build().unwrap();
        for name in ["new", "old", "beside"] {
            let mut buffer = if name == "beside" { pool.buffer_for(path(name)) } else { pool.buffer() };
            buffer.write_all(&[7; 10_000]).unwrap();
            buffer.persist(path(name)).unwrap().durable().unwrap();
            assert!(fs::read(path(name)).unwrap() == [7; 10_000], "{name}");
        }
    };
    let others: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: this thread makes its files afterwards, and no other thread uses them.
            let unshared = unsafe { unshare_unsafe(UnshareFlags::FILES) };
            turn.wait();
            turn.wait();
            if unshared.is_ok() {
                return persist_each();
            }
            skip("a_thread_with_descriptors_of_its_own_names_its_own_file", "`unshare` is forbidden");
        });
        turn.wait();
        // They get the numbers that the thread's files get, too.
        let others = (0..20).map(|_| tempfile::NamedTempFile::new_in(dir.path()).unwrap()).collect();
        turn.wait();
        others
    });
    drop(others);
}

/// As [`ordeal_traced`], in a directory of its own. Nothing may be left there but what the scenario persists.
fn traced(scenario: &str, expressions: &[&str], in_dir: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    let log = ordeal_traced(ORDEAL, scenario, dir.path(), expressions, in_dir);
    assert!(fs::read_dir(dir.path()).unwrap().all(|entry| entry.unwrap().file_name() == "target"));
    log
}

/// How often the loader makes `call`, before the mark of `scenario`.
fn calls_of_loader(scenario: &str, call: &str, in_dir: bool) -> usize {
    let log = traced(scenario, &[&format!("trace={call},getppid")], in_dir);
    if in_dir { 0 } else { log.lines().take_while(|line| !line.contains("getppid(")).count() }
}

/// Lets each `call` of `scenario` fail in turn in each of `ways`, alone and together with the four after it.
/// Returns how many places that were.
fn fail_each(scenario: &str, call: &str, ways: &[&str]) -> usize {
    // The calls of the loader come before the mark, and must not fail: that would end the program.
    let in_dir = call == "openat";
    let loader = calls_of_loader(scenario, call, in_dir);
    let mut places = 0;
    for way in ways {
        for more in [0, 4] {
            for n in loader + 1.. {
                let inject = format!("inject={call}:{way}:when={n}..{}", n + more);
                if !traced(scenario, &[&format!("trace={call}"), &inject], in_dir).contains("(INJECTED)") {
                    break;
                }
                places += 1;
            }
        }
    }
    assert!(places > 0, "{scenario} never calls {call}");
    places
}

/// A directory that could not be synced was an error of the whole call, with the new file in place: a program
/// that tried again, or told its user that nothing was written, was wrong. And the buffer that came back, if
/// it had had a file of its own, was that file, and could not grow. The scenario checks both at each failure;
/// here the directory's syncs fail.
#[test]
fn a_directory_that_cannot_be_synced_is_no_error_of_the_content() {
    if !may_trace("a_directory_that_cannot_be_synced_is_no_error_of_the_content") {
        return;
    }
    let log = traced("persist", &["trace=fsync", "inject=fsync:error=EIO:when=2+2"], false);
    assert_eq!(
        log.lines().filter(|line| line.contains("(INJECTED)")).count(),
        2,
        "one for each of two files: {log}"
    );
}

/// A directory that may be written and not read, as that of a drop box, cannot be opened to be synced. The
/// name was said to be durable all the same, and nothing had synced it.
#[test]
fn a_name_is_durable_where_its_directory_cannot_be_read() {
    if !may_trace("a_name_is_durable_where_its_directory_cannot_be_read") {
        return;
    }
    let log = traced("persist", &["trace=openat"], false);
    let is_directory = |line: &str| line.contains("/.tmp") && !line.contains("/target\", O_RDONLY");
    let is_read = |line: &str| line.contains("\", O_RDONLY|") && !line.contains("O_CREAT");
    let mut opened = log.lines().filter(|line| line.contains("openat("));
    let nth = opened.position(|line| is_directory(line) && is_read(line)).expect("it is opened to be synced");
    let inject = format!("inject=openat:error=EACCES:when={}", nth + 1);
    let log = traced("persist", &["trace=openat,linkat,syncfs", &inject], false);
    let (_, after) = log.split_once("(INJECTED)").expect("the directory is opened");
    let (_, linked) = after.split_once("linkat(").expect("the file gets its name");
    assert!(linked.lines().next().is_some_and(|line| line.ends_with(" = 0")), "{log}");
    let synced = linked.lines().nth(1).expect("and more follows");
    assert!(synced.contains("syncfs(") && synced.ends_with(" = 0"), "{log}");
}

/// A refused rename was taken for a refused link, which another way may help: everything was written and
/// synced once or twice more, to fail again.
#[test]
fn a_name_that_cannot_be_replaced_is_refused_once() {
    if !may_trace("a_name_that_cannot_be_replaced_is_refused_once") {
        return;
    }
    let renames = "?rename,?renameat,?renameat2";
    let inject = format!("inject={renames}:error=EPERM:when=1");
    let log = traced("persist", &[&format!("trace=fsync,linkat,{renames}"), &inject], false);
    // The second file of the scenario replaces the first.
    let (before, after) = log.split_once("(INJECTED)").expect("a file is replaced");
    let calls = |log: &str, name: &str| log.matches(name).count();
    assert_eq!((calls(before, "fsync("), calls(before, "rename")), (3, 1), "{log}");
    // The next attempt is the caller's.
    assert_eq!((calls(after, "fsync("), calls(after, "rename")), (2, 1), "{log}");
}

/// A system tells once that it could not write a file's pages, and then takes them for written. The next
/// attempt synced the same file again, and said that it was durable.
#[test]
fn a_file_that_could_not_be_synced_is_not_synced_again() {
    if !may_trace("a_file_that_could_not_be_synced_is_not_synced_again") {
        return;
    }
    let log = traced("persist", &["trace=fsync,linkat", "inject=fsync:error=EIO:when=1"], false);
    let synced: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("fsync(")?.1.split(')').next()).collect();
    assert!(log.lines().next().unwrap().contains("(INJECTED)"), "{log}");
    assert_ne!(synced[0], synced[1], "by another descriptor, of a copy: {log}");
}

/// Where the mode of a file cannot be changed, nothing could be spilled at all, though the file had
/// the right mode already.
#[test]
fn a_mode_that_is_right_need_not_be_set() {
    if !may_trace("a_mode_that_is_right_need_not_be_set") {
        return;
    }
    // Without O_TMPFILE, which takes a mode, the file is made with one and perhaps changed.
    let loader = calls_of_loader("spill-privately", "openat", false);
    let unnamed = format!("inject=openat:error=EOPNOTSUPP:when={}..{}", loader + 1, loader + 2);
    for error in ["EPERM", "EOPNOTSUPP", "ENOSYS"] {
        let inject = format!("inject=fchmod:error={error}");
        let log = traced("spill-privately", &["trace=openat,fchmod", &unnamed, &inject], false);
        assert_eq!(log.lines().filter(|line| line.contains("(INJECTED)")).count(), 3, "{log}");
    }
}

/// A scenario, the name of a system call, and the ways in which it may fail.
type Case = (&'static str, &'static str, &'static [&'static str]);

const CALLS: [Case; 14] = [
    ("spill", "pwrite64", &["error=ENOSPC", "error=EIO", "error=EINTR", "retval=0"]),
    ("spill", "pread64", &["error=EIO", "error=EINTR", "retval=0"]),
    ("spill", "fallocate", &["error=EOPNOTSUPP", "error=EIO", "error=EINTR"]),
    ("spill", "ftruncate", &["error=EIO", "error=EINTR"]),
    ("spill", "openat", &["error=EMFILE", "error=EACCES", "error=EOPNOTSUPP"]),
    ("persist", "fchmod", &["error=EIO"]),
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
fn each_system_call_that_fails_loses_nothing() {
    if !may_trace("each_system_call_that_fails_loses_nothing") {
        return;
    }
    // On two threads: most of the time, each waits for a process to start.
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
