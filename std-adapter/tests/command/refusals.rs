//! What cannot work is refused early, in words that help.

use super::*;

/// A target that cannot work is refused before any input is read.
#[test]
fn a_hopeless_target_is_refused_before_any_input() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "old").unwrap();
    // Windows prints other messages.
    let [missing, no_directory] =
        if cfg!(unix) { ["No such file", "Not a directory"] } else { ["cannot"; 2] };
    let table: &[(&[&str], &[&str])] = &[
        (&["-o", "."], &["directory"]),
        (&["-o", "no/such/file"], &["no/such/file", "mkdir -p no/such"]),
        (&["-o", "new/"], &["new/", "directory"]),
        (&["-o", "file/x"], &["file/x", no_directory]),
        (&["-o", ""], &["--output", "the name is empty"]),
        (&["--dir", "nowhere"], &["nowhere", missing, "--dir"]),
        (&["--dir", "file"], &["file", no_directory]),
        (&["-o", "\n\u{1b}[31m/x"], &["??[31m/x"]),
    ];
    for (args, words) in table {
        assert_refused(&before_input_ends(overspill(dir.path(), args)), words);
    }
    assert_eq!(names_in(dir.path()), ["file"]);
}

/// A file or a directory that may only grow looks writable. All of the input was read, the rename was
/// refused, and so was the removal of the hidden names: two whole copies were left in the directory.
#[test]
#[cfg(target_os = "linux")]
fn what_may_only_grow_is_refused_before_any_input() {
    let dir = TempDir::new().unwrap();
    shell(dir.path(), "mkdir grows; echo old > file; echo old > grows/file; chattr +a file grows");
    if !String::from_utf8_lossy(&shell(dir.path(), "lsattr -d grows").stdout).starts_with("-----a") {
        return skip("what_may_only_grow_is_refused_before_any_input", "chattr +a does not work here");
    }
    let mut outputs = Vec::new();
    for args in [
        ["-o", "file", "-m0"],
        ["-ao", "file", "-m1M"],
        ["-o", "grows/file", "-m0"],
        ["-ao", "grows/file", "-m1M"],
    ] {
        outputs.push((args, before_input_ends(overspill(dir.path(), &args))));
    }
    // A new name is no replacement.
    let made = soak(dir.path(), &["-o", "grows/new"], b"new");
    let names = names_in(&dir.path().join("grows"));
    shell(dir.path(), "chattr -a file grows"); // or the directory stays for ever
    for (args, output) in &outputs {
        assert_refused(
            output,
            &["cannot replace", args[1], if args[1] == "file" { ">>" } else { "append-only" }],
        );
    }
    assert_quiet_success(&made);
    assert_eq!(
        (names_in(dir.path()), names),
        (vec!["file".into(), "grows".into()], vec!["file".into(), "new".into()])
    );
}

/// Sockets are not opened by a name, and that was found out after the input had ended.
#[test]
#[cfg(target_os = "linux")]
fn a_socket_is_refused_before_any_input() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    let dir = TempDir::new().unwrap();
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    assert_refused(
        &before_input_ends(overspill(dir.path(), &["-o", "socket"])),
        &["it is a socket", "program"],
    );
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let connected = |script| {
        let mut child = Command::new("bash");
        child.args(["-c", script]).current_dir(dir.path()).env("OVERSPILL", OVERSPILL);
        child.stdin(Stdio::null()).stdout(OwnedFd::from(theirs.try_clone().unwrap())).stderr(Stdio::piped());
        child.spawn().unwrap().wait_with_output().unwrap()
    };
    // The input is a FIFO that the command itself has open for writing: it does not end.
    let output = connected("mkfifo in; exec 3>&1 >/dev/null; timeout 10 $OVERSPILL -o /proc/$$/fd/3 <>in");
    assert_refused(&output, &["/fd/3", "it is a socket", "program"]);
    // One of its own descriptors need not be opened.
    assert_quiet_success(&connected("echo through | $OVERSPILL -o /dev/fd/3 3>&1 >/dev/null"));
    let mut through = [0; 8];
    std::io::Read::read_exact(&mut ours, &mut through).unwrap();
    assert_eq!(&through, b"through\n");
}

/// With few descriptors left, input was read before one was missing; and a directory was blamed, which was
/// told to be made writable.
///
/// A descriptor that the test had inherited, as below `flock` or make, left the loader none for its
/// libraries: the command ended with 127 and not by itself.
#[test]
#[cfg(unix)]
fn too_few_descriptors_are_noticed_before_any_input() {
    use std::io::{Seek, SeekFrom};
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    fs::write(dir.path().join("input"), noise(1 << 20)).unwrap();
    let mut input = fs::File::open(dir.path().join("input")).unwrap();
    for args in ["-o file", "-a -o file", "--dir other -a -o file", "", "-o /dev/fd/1"] {
        let (mut refused, mut succeeded) = (0, 0);
        for limit in 4..30 {
            let stdout = fs::File::create(dir.path().join("file")).unwrap();
            input.seek(SeekFrom::Start(0)).unwrap();
            let mut command = Command::new("bash");
            let run = format!("ulimit -n {limit}; exec $OVERSPILL -m 64K {args}");
            command.arg("-c").arg(format!("for fd in {{3..99}}; do eval \"exec $fd>&-\"; done; {run}"));
            command.current_dir(dir.path()).env("OVERSPILL", OVERSPILL).stdin(input.try_clone().unwrap());
            let output =
                command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
            if output.status.success() {
                succeeded += 1;
                assert!(fs::read(dir.path().join("file")).unwrap() == noise(1 << 20), "{args} with {limit}");
            } else {
                refused += 1;
                assert_refused(&output, &["Too many open files", "ulimit -n"]);
                assert!(!String::from_utf8_lossy(&output.stderr).contains("directory"), "{output:?}");
                assert_eq!(input.stream_position().unwrap(), 0, "{args} with {limit}: it has read");
            }
        }
        assert!(refused > 0 && succeeded > 0, "{args}: {refused} refused, {succeeded} succeeded");
    }
}

/// A file without write permission stays, though a rename could replace it.
#[test]
#[cfg(unix)]
fn what_may_not_be_written_is_not_replaced() {
    let program = ForAnyUser::new();
    let dir = TempDir::new().unwrap();
    let (file, locked) = (dir.path().join("file"), dir.path().join("locked"));
    fs::create_dir(&locked).unwrap();
    for (path, mode) in [(&file, 0o444), (&locked.join("file"), 0o666)] {
        fs::write(path, "old").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    for (name, words) in [("file", "make it writable"), ("locked/file", "make the directory writable")] {
        let command = if is_root() {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
            program.overspill(23456, dir.path(), &["-o", name])
        } else {
            overspill(dir.path(), &["-o", name])
        };
        assert_refused(&run(command, b"new"), &[name, words]);
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"old");
    }
}

/// Windows has one permission of this kind: a file may be read-only.
#[test]
#[cfg(windows)]
fn a_read_only_file_is_refused_before_any_input() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file, permissions.clone()).unwrap();
    let mut child = start(&mut overspill(dir.path(), &["-o", "file"]));
    let stdin = child.stdin.take();
    assert_refused(&child.wait_with_output().unwrap(), &["file", "make it writable"]);
    drop(stdin);
    #[expect(
        clippy::permissions_set_readonly_false,
        reason = "on Windows it lets nobody in but who was in before"
    )]
    permissions.set_readonly(false);
    fs::set_permissions(&file, permissions).unwrap();
    assert_eq!((names_in(dir.path()), fs::read(&file).unwrap()), (vec!["file".to_owned()], b"old".to_vec()));
}

/// Where the system will refuse the rename, the command refuses before it reads gigabytes of input.
#[test]
#[cfg(target_os = "linux")]
fn what_cannot_be_replaced_is_refused_before_any_input() {
    if !is_root() {
        return skip("what_cannot_be_replaced_is_refused_before_any_input", "it takes root to mount");
    }
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("mounted"), "old").unwrap();
    let script = "touch other && mount --bind other mounted && { echo new | $OVERSPILL -o mounted; }";
    assert_refused(&in_own_mounts(dir.path(), script), &["mounted", "mount point"]);

    fs::create_dir(dir.path().join("sticky")).unwrap();
    fs::write(dir.path().join("sticky/file"), "old").unwrap();
    for (name, mode) in [(".", 0o777), ("sticky", 0o1777), ("sticky/file", 0o666)] {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let program = ForAnyUser::new();
    let command = program.overspill(23456, dir.path(), &["-o", "sticky/file"]);
    assert_refused(&run(command, b"new"), &["sticky/file", "somebody else"]);
}

/// A size that could be misread is refused. `-m -5` was taken for an option that there is not.
#[test]
fn a_wrong_size_is_named() {
    let dir = TempDir::new().unwrap();
    for size in ["16E", "18446744073709551616", "-1", "", "64X", "1.5", "1e3", "64M ", "lots"] {
        for option in ["--memory", "--disk"] {
            let output = soak(dir.path(), &[&format!("{option}={size}")], b"");
            assert_refused(&output, &[option]);
        }
    }
    for size in [["-m", "-5"], ["-m", "-.5G"], ["-d", "-5G"]] {
        assert_refused(&soak(dir.path(), &size, b""), &["'-", "a size has no sign"]);
    }
    for size in ["0", ".5G", "1E", "15.9E", "18446744073709551615"] {
        let output = soak(dir.path(), &["--memory", size, "--disk", size], b"");
        assert_quiet_success(&output);
    }
}

/// The messages help users of `sponge`, where the file is an operand, and those who mistype an option.
#[test]
fn usage_errors_say_what_to_do() {
    let dir = TempDir::new().unwrap();
    assert_refused(&soak(dir.path(), &["file"], b""), &["-o file"]);
    assert_refused(&soak(dir.path(), &["--memroy", "1M"], b""), &["--memory"]);
    assert_refused(&soak(dir.path(), &["--memory"], b""), &["--memory"]);
}

/// What the user typed was put on one line by joining its words: `'64 M'` was refused as `'64 M'`, which is a
/// size. Line breaks in it broke the message off.
#[test]
fn what_was_typed_is_quoted_as_it_was_typed() {
    let dir = TempDir::new().unwrap();
    assert_refused(&soak(dir.path(), &["-m", "64  M"], b""), &["'64  M'", "unknown unit"]);
    assert_refused(&soak(dir.path(), &["-m", "64\n\nM"], b""), &["'64??M'", "unknown unit"]);
    assert_refused(&soak(dir.path(), &["a  b"], b""), &["operand 'a  b'"]);
    assert_refused(&soak(dir.path(), &["--no\n\n  tip: such"], b""), &["--no??  tip: such", "--help"]);
}

/// Advice that is to be typed was the bare name, which a shell takes apart. To one that appends to a log, it
/// was to replace that.
#[test]
fn advice_can_be_typed_as_it_stands() {
    let dir = TempDir::new().unwrap();
    let table: &[(&[&str], &str)] = &[
        (&["a  b"], "say -o 'a  b'"),
        (&["$(reboot)"], "say -o '$(reboot)'"),
        (&["-a", "log"], "say -a -o log"),
        (&["log", "-m5M", "--append"], "say -a -o log"),
        (&["-d", "-o", "log"], "--disk <SIZE>"),
        (&["-o", "it's/x"], r"(mkdir -p 'it'\''s')"),
        (&["-o", "./-p/x"], "(mkdir -p ./-p)"),
        (&["-o", "a\u{202e}\n/x"], r"(mkdir -p $'a\xe2\x80\xae\x0a')"),
    ];
    // Windows has no names with a line break.
    for (args, advice) in &table[..if cfg!(unix) { 8 } else { 7 }] {
        assert_refused(&soak(dir.path(), args, b""), &[advice]);
    }
}

/// Of names, control characters alone were replaced: a separator broke the line, and bidirectional controls
/// turned it around. In progress, nothing was.
///
/// It asked for one line of progress; a command that took longer than a second had printed another.
#[test]
#[cfg(unix)] // Windows has no such names
fn names_are_harmless_to_a_terminal() {
    let dir = TempDir::new().unwrap();
    let name = "a\u{202e}b\u{2066}c\u{2028}d\u{85}e\u{1b}[31m\nf\u{61c}";
    assert_refused(&soak(dir.path(), &["-o", &format!("{name}/x")], b""), &["write a?b?c?d?e?[31m?f?/x: "]);
    let output = soak(dir.path(), &["--progress", "-o", name], b"x");
    let said = String::from_utf8(output.stderr).unwrap();
    let (writing, soaked) = ("overspill: writing 1 B to a?b?c?d?e?[31m?f?", ["0 B", "1 B"]);
    let is_due = |line: &str| {
        line == writing || soaked.iter().any(|len| line == format!("overspill: {len} soaked up"))
    };
    assert!(said.contains(writing) && said.lines().all(is_due), "{said:?}");
    assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"x");
}

/// The directory that is missing may be another than that of the path as it was given: advice was to make
/// `.`.
#[test]
#[cfg(unix)]
fn advice_names_the_directory_that_is_missing() {
    let dir = TempDir::new().unwrap();
    std::os::unix::fs::symlink("nodir/file", dir.path().join("link")).unwrap();
    let path = dir.path().canonicalize().unwrap().join("nodir");
    assert_refused(
        &soak(dir.path(), &["-o", "link"], b""),
        &["link: ", &format!("(mkdir -p {})", path.display())],
    );
    // A path that only a directory can have made a file of the name before it.
    for name in ["nodir/", "nodir/."] {
        assert_refused(&soak(dir.path(), &["-o", name], b""), &[name, "as a directory does"]);
    }
    assert_eq!(names_in(dir.path()), ["link"]);
}

/// A file that nobody may change was to be made writable or removed, and so was one on a file system that is
/// mounted for reading; a directory was to be read again; and in one that is gone, `.` was to be made.
#[test]
#[cfg(target_os = "linux")]
fn advice_can_work() {
    let dir = TempDir::new().unwrap();
    assert_refused(&shell(dir.path(), "$OVERSPILL </"), &["Is a directory; read a file in it"]);
    for name in ["x", "./x", "y/x"] {
        let script = format!("mkdir gone; cd gone; rmdir ../gone; $OVERSPILL -o {name}");
        assert_refused(&shell(dir.path(), &script), &[name, "the current directory is not there"]);
    }
    if !is_root() {
        return skip("advice_can_work", "it takes root to mount");
    }
    let script = "mount -t tmpfs none . && cd $PWD && touch file && mount -o remount,ro . && $OVERSPILL ";
    for args in ["-o file", "-o new", "-T ."] {
        let output = in_own_mounts(dir.path(), &format!("{script} {args}"));
        assert_refused(&output, &["Read-only file system; mount it for writing"]);
    }
    let set = shell(dir.path(), "touch file; chattr +i file").status;
    let output = shell(dir.path(), "$OVERSPILL -o file");
    shell(dir.path(), "chattr -i file"); // or the directory stays for ever
    if !set.success() {
        return skip("advice_can_work", "chattr +i does not work here");
    }
    assert_refused(&output, &["Operation not permitted; make it mutable (chattr -i)"]);
}

/// An alias with an option could not be used with another value of it.
#[test]
fn the_last_of_a_repeated_option_counts() {
    let dir = TempDir::new().unwrap();
    let output =
        soak(dir.path(), &["-m", "1M", "--json", "--json", "-m", "2M", "-o", "a", "-o", "b"], b"content");
    assert!(output.status.success(), "{output:?}");
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(report.contains("\"memory_limit_bytes\":2097152,"), "{report}");
    assert_eq!(names_in(dir.path()), ["b"]);
}

/// What follows an option that takes a value is its value, whatever it begins with, as in all utilities.
#[test]
fn a_name_may_begin_with_a_hyphen() {
    let dir = TempDir::new().unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "-x"], b"content"));
    assert_quiet_success(&soak(dir.path(), &["--output", "--stats"], b"content"));
    assert_eq!(names_in(dir.path()), ["--stats", "-x"]);
}
