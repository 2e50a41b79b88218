//! After a failure, the file is as it was, and nothing is left beside it.

use super::*;
use std::io::Read;
#[cfg(target_os = "linux")]
use std::os::unix::process::ExitStatusExt;

/// At the disk limit the command fails, and the file that it should have replaced is as it was.
#[test]
fn the_disk_limit_stops_it_and_leaves_the_file() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    let output = soak(dir.path(), &["-o", "file", "-m", "64K", "-d", "128K"], &noise(1 << 20));
    assert_refused(&output, &["disk limit of 128.00 KiB", "--disk"]);
    assert_eq!(fs::read(&file).unwrap(), b"old");
    assert_quiet_success(&soak(dir.path(), &["-o", "file", "-m", "64K", "-d", "0"], &noise(64 << 10)));
    assert!(fs::read(&file).unwrap() == noise(64 << 10));
}

/// Where the old content had filled the disk limit, the input was blamed for all of it.
#[test]
fn what_fills_the_disk_limit_is_named() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("log"), noise(96 << 10)).unwrap();
    for (limit, words) in [
        ("64K", "after 64.00 KiB of the file's old content;"),
        ("128K", "96.00 KiB of the file's old content and 32.00 KiB of input;"),
    ] {
        let output = soak(dir.path(), &["-a", "-o", "log", "-m0", "-d", limit], &noise(1 << 20));
        assert_refused(&output, &["the disk limit of ", words]);
    }
    assert!(fs::read(dir.path().join("log")).unwrap() == noise(96 << 10));
}

/// A full disk, below the spilled pages or below the target, is named, and the file is as it was.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named_and_the_file_untouched() {
    let dir = TempDir::new().unwrap();
    let mount = "mkdir full && mount -t tmpfs -o size=1M tmpfs full";
    if !is_root() || !in_own_mounts(dir.path(), mount).status.success() {
        return skip(
            "a_full_disk_is_named_and_the_file_untouched",
            "no tmpfs of a chosen size can be mounted",
        );
    }
    let mount = "mount -t tmpfs -o size=1M tmpfs full && echo old > full/file && cp full/file . &&";
    let below_pages = format!("{mount} head -c 3M /dev/zero | $OVERSPILL -m 64K --dir full -o file");
    assert_refused(&in_own_mounts(dir.path(), &below_pages), &["full", "No space left", "--dir"]);
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"old\n");
    let below_target = format!(
        "{mount} head -c 3M /dev/urandom | $OVERSPILL -m 64K -o full/file; status=$?; cat full/*; exit $status"
    );
    let output = in_own_mounts(dir.path(), &below_target);
    assert_refused(&output, &["full", "No space left", "--dir"]);
    assert_eq!(output.stdout, b"old\n");
    let only_target = below_target.replace("-m 64K", "-m 64K --dir .");
    let output = in_own_mounts(dir.path(), &only_target);
    assert_refused(&output, &["full/file", "No space left", "as it was"]);
    assert_eq!(output.stdout, b"old\n");
}

/// Output that cannot be written is an error.
#[test]
#[cfg(unix)]
fn a_full_standard_output_is_an_error() {
    if !Path::new("/dev/full").exists() {
        return skip("a_full_standard_output_is_an_error", "there is no /dev/full");
    }
    let dir = TempDir::new().unwrap();
    let output = shell(dir.path(), "echo lost | $OVERSPILL > /dev/full");
    assert_refused(&output, &["standard output", "No space left"]);
    assert_refused(&soak(dir.path(), &["-o", "/dev/full"], b"lost"), &["/dev/full", "No space left"]);
}

/// Output that a network file system kept until the file was closed, and could not write then, was lost
/// without a word and with status 0.
#[test]
#[cfg(target_os = "linux")]
fn output_that_fails_when_it_is_closed_is_an_error() {
    use crate::calls::{Calls, traced};

    if !may_trace("output_that_fails_when_it_is_closed_is_an_error") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    assert_quiet_success(&shell(dir.path(), "mkfifo fifo"));
    // Both ends, so that nobody waits for the other.
    let _ends = fs::OpenOptions::new().read(true).write(true).open(dir.path().join("fifo")).unwrap();
    for (args, name) in [(&[][..], "standard output"), (&["-o", "fifo"], "fifo")] {
        let run = |expressions: &[String]| {
            let mut command = traced(Path::new(OVERSPILL), &log, expressions);
            command.args(args).current_dir(dir.path());
            command.stdout(fs::File::create(dir.path().join("out")).unwrap()).output().unwrap()
        };
        assert_quiet_success(&run(&["trace=close".to_owned()]));
        let last = Calls::read(&log, "close(").count("close");
        let refused = run(&["trace=close".to_owned(), format!("inject=close:error=EDQUOT:when={last}")]);
        assert_refused(&refused, &[name, "quota", "free some room there"]);
    }
}

/// A write past `ulimit -f` ended the command by SIGXFSZ, without a word and with the status of a signal. It
/// is an error like a full disk, wherever the bytes went.
#[test]
#[cfg(target_os = "linux")]
fn the_limit_on_the_size_of_files_is_an_error() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    for command in
        ["-m 64K -o file", "-o file", "-m 64K --dir other -o file", "--dir other -o file", "> out", "-o out"]
    {
        for name in ["file", "out"] {
            fs::write(dir.path().join(name), "old").unwrap();
        }
        let output =
            shell(dir.path(), &format!("ulimit -f 500; head -c 3M /dev/zero | $OVERSPILL {command}"));
        assert_refused(&output, &["File too large", "ulimit -f"]);
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"old", "{command}");
        assert_eq!(names_in(dir.path()), ["file", "other", "out"], "{command}");
    }
}

/// Where only the directory could not be synced, the message said that the file is as it was, and to run it
/// again: with `--append`, the input is in it twice then.
#[test]
#[cfg(target_os = "linux")]
fn a_directory_that_cannot_be_synced_is_told_from_a_file() {
    if !may_trace("a_directory_that_cannot_be_synced_is_told_from_a_file") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    for args in ["-o file", "-a -o file", "--dir . -o file"] {
        for (nth, content, words) in [(1, "old", "as it was"), (2, "new", "is written, but its directory")] {
            fs::write(&file, if args.starts_with("-a") { "" } else { "old" }).unwrap();
            let inject = format!("trace=fsync -e inject=fsync:error=EIO:when={nth}");
            let output = shell(
                dir.path(),
                &format!(
                    "printf new | strace -qq -o trace -e {inject} $OVERSPILL {args}; status=$?; rm trace; exit $status"
                ),
            );
            assert_refused(&output, &["file", "Input/output error", words]);
            let content = if args.starts_with("-a") && nth == 1 { "" } else { content };
            assert_eq!(fs::read_to_string(&file).unwrap(), content, "{args}");
        }
    }
    assert_eq!(names_in(dir.path()), ["file"]);
}

/// With a closed reader, as in `| head`, the command ends quietly, and its status says that the output is not
/// complete.
#[test]
fn a_closed_reader_ends_it_quietly() {
    let dir = TempDir::new().unwrap();
    let mut child = start(&mut overspill(dir.path(), &["--stats"]));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![0; 3 << 20]).unwrap();
    drop(stdin);
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(141), String::new()));
}

/// A directory cannot be read as input.
#[test]
#[cfg(unix)]
fn a_directory_as_input_is_an_error() {
    let dir = TempDir::new().unwrap();
    assert_refused(&shell(dir.path(), "$OVERSPILL -o file < ."), &["standard input", "directory"]);
    assert_eq!(names_in(dir.path()), [""; 0]);
}

/// A signal at any moment leaves the file as it was or whole, and nothing else in the directories; but for
/// the new file under its hidden name, if the signal came in the few microseconds before the rename. The next
/// command removes that.
#[test]
#[cfg(target_os = "linux")]
fn a_signal_leaves_the_file_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let (file, spilled) = (dir.path().join("file"), dir.path().join("spilled"));
    fs::create_dir(&spilled).unwrap();
    let input = noise(8 << 20);
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("KILL", 9)] {
        // Some end while they read, some while they write, some before the signal.
        for (round, wait) in [0, 0, 2, 2, 5, 5, 10, 20, 40].into_iter().enumerate() {
            fs::write(&file, "old").unwrap();
            // Spilled in turn to a directory of its own and beside the file.
            let place: &[&str] = if round % 2 == 0 { &["--dir", "spilled"] } else { &[] };
            let args = [&["-o", "file", "-m", "64K"], place].concat();
            let mut child = start(&mut overspill(dir.path(), &args));
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(&input).unwrap();
            // Without a wait, the input has not ended when the signal comes.
            let stdin = (wait == 0).then_some(stdin);
            sleep(Duration::from_millis(wait));
            let killed = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
            assert!(killed.unwrap().success());
            drop(stdin); // a child that was started with the signal ignored would wait for ever
            let status = child.wait().unwrap();
            let content = fs::read(&file).unwrap();
            if status.success() {
                assert!(content == input);
            } else {
                assert_eq!(status.signal(), Some(number));
                assert!(content == b"old" || content == input, "{} bytes after {signal}", content.len());
            }
            let mut names = names_in(dir.path());
            let left = names.extract_if(.., |name| name.starts_with(".overspill-")).count();
            assert!(left == 0 || left == 1 && content == b"old", "{left} after {signal} after {wait} ms");
            assert_eq!(names, ["file", "spilled"], "{signal} after {wait} ms");
            assert_eq!(names_in(&spilled), [""; 0], "{signal} after {wait} ms");
        }
    }
    assert!(shell(dir.path(), "echo whole | $OVERSPILL -o file").status.success());
    assert_eq!(names_in(dir.path()), ["file", "spilled"]);
}

/// A kill between the hidden name and the rename left the whole new file behind for good, and each further
/// one left another. The next command for the same target removes what was left, and only that.
///
/// It held a living process up for a second before its rename, and asked another for all of its work
/// meanwhile; that was late. The test holds that process' lock itself.
#[test]
#[cfg(target_os = "linux")]
fn what_a_kill_has_left_is_removed_by_the_next_command() {
    if !may_trace("what_a_kill_has_left_is_removed_by_the_next_command") {
        return;
    }
    const RENAME: &str = "?rename,?renameat,?renameat2";
    let dir = TempDir::new().unwrap();
    for name in ["file", "other", ".overspill-mine"] {
        fs::write(dir.path().join(name), "old").unwrap();
    }
    let kill =
        format!("echo new | strace -qq -o trace -e trace={RENAME} -e inject={RENAME}:error=EIO:signal=KILL");
    for _ in 0..2 {
        shell(dir.path(), &format!("{kill} $OVERSPILL -o file; rm trace"));
        let names = names_in(dir.path());
        assert!(names.len() == 4 && names[0].starts_with(".overspill-"), "{names:?}");
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"old");
    }
    assert_quiet_success(&soak(dir.path(), &["-o", "other"], b"new"));
    assert_eq!(names_in(dir.path()).len(), 4, "it is not of that target");
    // What a living process is about to rename has its lock, and stays.
    let left = names_in(dir.path()).swap_remove(0);
    let in_use = fs::File::open(dir.path().join(&left)).unwrap();
    rustix::fs::flock(&in_use, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "file"], b"quick"));
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"quick");
    assert_eq!(names_in(dir.path()), [&*left, ".overspill-mine", "file", "other"]);
    rustix::fs::flock(&in_use, rustix::fs::FlockOperation::Unlock).unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "file"], b"new"));
    assert_eq!(names_in(dir.path()), [".overspill-mine", "file", "other"]);
}

/// On other systems the new file has a hidden name while it is written, and a kill may leave that. Everything
/// else is as above. Windows deletes the file with the spilled pages when its last handle is closed.
#[test]
#[cfg(not(target_os = "linux"))]
fn a_kill_leaves_the_file_and_no_spilled_pages() {
    let dir = TempDir::new().unwrap();
    let (file, spilled) = (dir.path().join("file"), dir.path().join("spilled"));
    fs::create_dir(&spilled).unwrap();
    let input = noise(8 << 20);
    for (round, wait) in [0, 0, 5, 20, 40, 80].into_iter().enumerate() {
        fs::write(&file, "old").unwrap();
        let mut child = start(&mut overspill(dir.path(), &["-o", "file", "-m", "64K", "--dir", "spilled"]));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&input).unwrap();
        let stdin = (wait == 0).then_some(stdin);
        if round == 0 {
            assert_eq!(
                names_in(&spilled).len(),
                usize::from(cfg!(windows)),
                "the file with the spilled pages has a name on Windows alone"
            );
        }
        sleep(Duration::from_millis(wait));
        let _ = child.kill(); // it may have ended
        drop(stdin);
        child.wait().unwrap();
        let content = fs::read(&file).unwrap();
        assert!(content == b"old" || content == input, "{} bytes after {wait} ms", content.len());
        let mut names = names_in(dir.path());
        names.retain(|name| !name.starts_with(".overspill-"));
        assert_eq!(names, ["file", "spilled"], "after {wait} ms");
        assert_eq!(names_in(&spilled), [""; 0], "after {wait} ms");
    }
}
