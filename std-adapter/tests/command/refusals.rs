//! What cannot work is refused early, in words that help.

use super::*;
#[cfg(unix)]
use std::os::unix::process::CommandExt;

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
        (&["-o", ""], &["--output"]),
        (&["--dir", "nowhere"], &["nowhere", missing, "--dir"]),
        (&["--dir", "file"], &["file", no_directory]),
        (&["-o", "\n\u{1b}[31m/x"], &["??[31m/x"]),
    ];
    for (args, words) in table {
        let mut child = overspill(dir.path(), args).spawn().unwrap();
        // The input stays open: a command that reads it first would wait here for ever.
        let stdin = child.stdin.take();
        assert_refused(&child.wait_with_output().unwrap(), words);
        drop(stdin);
    }
    assert_eq!(names_in(dir.path()), ["file"]);
}

/// A file without write permission stays, though a rename could replace it.
#[test]
#[cfg(unix)]
fn what_may_not_be_written_is_not_replaced() {
    let dir = TempDir::new().unwrap();
    let (file, locked) = (dir.path().join("file"), dir.path().join("locked"));
    fs::create_dir(&locked).unwrap();
    for (path, mode) in [(&file, 0o444), (&locked.join("file"), 0o666)] {
        fs::write(path, "old").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    for (name, words) in [("file", "make it writable"), ("locked/file", "make the directory writable")] {
        let mut command = overspill(dir.path(), &["-o", name]);
        if is_root() {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
            command.uid(23456).gid(23456);
        }
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
    let mut child = overspill(dir.path(), &["-o", "file"]).spawn().unwrap();
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
    let mut command = overspill(dir.path(), &["-o", "sticky/file"]);
    command.uid(23456).gid(23456);
    assert_refused(&run(command, b"new"), &["sticky/file", "somebody else"]);
}

/// A size that could be misread is refused.
#[test]
fn a_wrong_size_is_named() {
    let dir = TempDir::new().unwrap();
    for size in ["16E", "18446744073709551616", "-1", "", "64X", "1.5", "1e3", "64M ", "lots"] {
        for option in ["--memory", "--disk"] {
            let output = soak(dir.path(), &[&format!("{option}={size}")], b"");
            assert_refused(&output, &[option]);
        }
    }
    for size in ["0", "1E", "15.9E", "18446744073709551615"] {
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
