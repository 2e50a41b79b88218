//! What `--append` adds is added whole, and nothing that others add is lost.

use super::*;
#[cfg(unix)]
use std::os::unix::fs::MetadataExt;

/// `--append` puts old and new content in one file and keeps its mode. A missing file is created.
#[test]
fn append_puts_the_input_behind_the_old_content() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("log");
    let (old, new) = (noise(200_001), noise(300_007));
    fs::write(&file, &old).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    #[cfg(unix)]
    let inode = fs::metadata(&file).unwrap().ino();
    assert_quiet_success(&soak(dir.path(), &["--append", "-o", "log", "-m", "32K"], &new));
    assert!(fs::read(&file).unwrap() == [old, new].concat());
    #[cfg(unix)]
    {
        assert_eq!(mode(&file), 0o604);
        assert_ne!(fs::metadata(&file).unwrap().ino(), inode, "it was replaced, in one step");
    }
    assert_quiet_success(&soak(dir.path(), &["-a", "-o", "new"], b"first"));
    assert_eq!(fs::read(dir.path().join("new")).unwrap(), b"first");
}

/// What other programs write to the file while the input comes in is kept.
#[test]
fn append_keeps_what_others_write_meanwhile() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("log"), "one\n").unwrap();
    let mut child = start(&mut overspill(dir.path(), &["-a", "-o", "log"]));
    let mut stdin = child.stdin.take().unwrap();
    sleep(Duration::from_millis(100));
    let mut log = fs::File::options().append(true).open(dir.path().join("log")).unwrap();
    log.write_all(b"two\n").unwrap();
    drop(log);
    sleep(Duration::from_millis(100));
    stdin.write_all(b"three\n").unwrap();
    drop(stdin);
    assert_quiet_success(&child.wait_with_output().unwrap());
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "one\ntwo\nthree\n");
}

/// A name that is taken by something else while the input comes in: the command tried for ever to make the
/// file where a link led nowhere, and waited for ever for the end of a FIFO that it had open itself.
#[test]
#[cfg(unix)]
fn a_name_that_something_else_has_taken_is_an_error() {
    for taken_by in ["ln -s nowhere log", "mkfifo log"] {
        let dir = TempDir::new().unwrap();
        let mut child = start(&mut overspill(dir.path(), &["-a", "-o", "log"]));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&noise(1 << 20)).unwrap(); // more than the pipe holds: it has looked at the name
        assert!(shell(dir.path(), taken_by).status.success());
        drop(stdin);
        for _ in 0..1000 {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            sleep(Duration::from_millis(10));
        }
        let _ = child.kill(); // it may have ended
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("cannot lock"), "{taken_by}: {said}");
        assert!(dir.path().join("log").symlink_metadata().is_ok_and(|taken| !taken.is_file()));
    }
}

/// The lock had a longer name than a file may have, on Windows, which was met after all input.
#[test]
fn what_has_a_long_name_can_be_appended_to() {
    let dir = TempDir::new().unwrap();
    let name = "x".repeat(250);
    for line in ["one\n", "two\n"] {
        assert_quiet_success(&soak(dir.path(), &["-a", "-o", &name], line.as_bytes()));
    }
    assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "one\ntwo\n");
    assert_eq!(names_in(dir.path()).len(), 1, "a lock leaves no file");
}

/// A lock that could never be had was waited for, after all input and for ever.
#[test]
#[cfg(windows)]
fn what_can_never_be_locked_is_refused_before_any_input() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("log"), "one\n").unwrap();
    fs::create_dir(dir.path().join(".overspill-lock-log")).unwrap();
    let output = before_input_ends(overspill(dir.path(), &["-a", "-o", "log"]));
    assert_refused(&output, &["cannot lock log"]);
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "one\n");
}

/// Without a file, there is nothing to append to.
#[test]
fn append_needs_a_file() {
    let dir = TempDir::new().unwrap();
    assert_refused(&soak(dir.path(), &["--append"], b""), &["--output"]);
    assert_refused(&soak(dir.path(), &["--append", "-o", "-"], b""), &["--append needs a file"]);
}

/// Starts `count` commands that append a line each to `log` at once, and returns the lines that
/// are in it then, sorted.
fn append_at_once(dir: &Path, count: usize) -> Vec<String> {
    let start = |_| start(&mut overspill(dir, &["-a", "-o", "log"]));
    let mut children: Vec<_> = (0..count).map(start).collect();
    for (n, child) in children.iter_mut().enumerate() {
        child.stdin.take().unwrap().write_all(format!("line {n:02}\n").as_bytes()).unwrap();
    }
    for child in children {
        assert_quiet_success(&child.wait_with_output().unwrap());
    }
    let log = fs::read_to_string(dir.join("log")).unwrap();
    let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Each command checked that the file was still what it had copied, and then replaced it: of twenty at once,
/// most did so with the same copy, and two to five lines were left. All of them reported success.
#[test]
fn commands_that_append_at_once_lose_nothing() {
    let dir = TempDir::new().unwrap();
    let wanted: Vec<String> = (0..20).map(|n| format!("line {n:02}")).collect();
    fs::write(dir.path().join("log"), "a first line\n").unwrap();
    let lines = append_at_once(dir.path(), 20);
    assert_eq!((&*lines[0], &lines[1..]), ("a first line", &wanted[..]));
    // The file that does not exist yet cannot be locked, and must be made by one of them.
    fs::remove_file(dir.path().join("log")).unwrap();
    assert_eq!(append_at_once(dir.path(), 20), wanted);
    assert_eq!(names_in(dir.path()), ["log"], "a lock leaves no file");
}

/// What a plain `>>` wrote between the check and the rename, which is as long as syncing takes, was
/// lost without a word.
#[test]
#[cfg(target_os = "linux")]
fn append_keeps_what_is_written_while_it_replaces() {
    if !may_trace("append_keeps_what_is_written_while_it_replaces") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    fs::write(&log, "one\n").unwrap();
    // Each fsync waits for a second; the plain writer comes in the first one.
    let script = "echo two | strace -qq -o trace -e trace=fsync -e inject=fsync:delay_enter=1000000 $OVERSPILL -a -o log &
        until grep -q fsync trace 2>/dev/null; do sleep 0.01; done; echo three >> log; wait $!";
    assert_quiet_success(&shell(dir.path(), script));
    assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\nthree\n");

    // A change that is no addition cannot be carried over, and is an error. One that made the file longer was
    // taken for an addition, and its end was added.
    for change in ["printf - 1<>", "echo no longer what it was >"] {
        fs::remove_file(dir.path().join("trace")).unwrap();
        fs::write(&log, "one\n").unwrap();
        let output = shell(dir.path(), &script.replace("echo three >>", change));
        assert_refused(&output, &["another program made in log", "old content and the input"]);
        assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n");
    }
}

/// A log that was rotated while it was replaced came back under its old name, with its content in both files
/// and what another program had put there instead gone; and the status was 0.
#[test]
#[cfg(target_os = "linux")]
fn a_file_that_is_moved_while_it_is_replaced_is_an_error() {
    if !may_trace("a_file_that_is_moved_while_it_is_replaced_is_an_error") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    for (change, is_told) in
        [("mv log log.1", true), ("mv log log.1; echo new > log", true), ("rm log", false)]
    {
        fs::write(&log, "one\n").unwrap();
        let script = "case $(stat -f -c %T .) in ext*|xfs|btrfs|tmpfs) ;; *) exit 77;; esac; rm -f trace log.1
            echo two | strace -qq -o trace -e trace=fsync -e inject=fsync:delay_enter=1000000:when=1 $OVERSPILL -a -o log &
            until grep -q fsync trace 2>/dev/null; do sleep 0.01; done; CHANGE; wait $!";
        let output = shell(dir.path(), &script.replace("CHANGE", change));
        if output.status.code() == Some(77) {
            return skip("a_file_that_is_moved_while_it_is_replaced_is_an_error", "an unknown file system");
        }
        if is_told {
            assert_refused(&output, &["another program moved log", "old content and the input"]);
        } else {
            assert_quiet_success(&output);
        }
        assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n", "{change}");
    }
}

/// What could not be added whole stayed in part, and the advice took the place of what had happened: after
/// it, a second run added the input again.
#[test]
#[cfg(target_os = "linux")]
fn what_comes_late_and_does_not_fit_leaves_no_piece() {
    if !may_trace("what_comes_late_and_does_not_fit_leaves_no_piece") {
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("log"), "one\n").unwrap();
    let script = "(ulimit -f 1; head -c 1000 /dev/zero | tr '\\0' i |
            exec strace -qq -o /dev/null -e trace=renameat,renameat2,rename \
            -e inject=renameat,renameat2,rename:delay_enter=1000000 $OVERSPILL -a -o log) &
        sleep 0.5; head -c 100 /dev/zero | tr '\\0' L >> log; wait $!";
    let output = shell(dir.path(), script);
    assert_refused(&output, &["cannot add", "old content and the input", "ulimit -f"]);
    assert_eq!(fs::read(dir.path().join("log")).unwrap().len(), 4 + 1000);
}

/// Of several that made a file at once, one found no file when it opened it, and then one with its name: that
/// was taken for a link that leads nowhere.
#[test]
#[cfg(target_os = "linux")]
fn a_file_that_another_program_has_just_made_is_no_link() {
    if !may_trace("a_file_that_another_program_has_just_made_is_no_link") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    // The first time it is opened to be copied, and has to be there.
    for nth in 2..=4 {
        fs::write(&log, "one\n").unwrap();
        let script = format!(
            "echo two | strace -qq -o trace -P {} -e trace=openat -e inject=openat:error=ENOENT:when={nth} $OVERSPILL -a -o log",
            log.display()
        );
        assert_quiet_success(&shell(dir.path(), &script));
        assert_eq!(fs::read_to_string(&log).unwrap(), "one\ntwo\n", "the opening that found no file: {nth}");
    }
}

/// Scripts that had no `--append` to rely on hold `flock`'s lock around the pipeline. The command must not
/// wait for it: it would wait for its own caller.
#[test]
#[cfg(target_os = "linux")]
fn a_script_may_hold_its_own_lock_on_the_file() {
    let dir = TempDir::new().unwrap();
    let output = shell(
        dir.path(),
        "echo 1 > log; flock log timeout 20 sh -c 'echo 2 | $OVERSPILL -a -o log'; cat log",
    );
    assert_quiet_success(&output);
    assert_eq!(output.stdout, b"1\n2\n");
}
