//! What of a file stays when its content is replaced.

use super::*;
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, symlink};
#[cfg(unix)]
use std::process::Child;

/// A replaced file keeps its mode. A new one gets the mode that the umask says.
#[test]
#[cfg(unix)]
fn a_file_keeps_its_mode_and_a_new_one_gets_the_usual() {
    let dir = TempDir::new().unwrap();
    for wanted in [0o600, 0o640, 0o755, 0o666, 0o4755, 0o2711] {
        let file = dir.path().join("file");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(wanted)).unwrap();
        assert_quiet_success(&soak(dir.path(), &["-o", "file"], b"new"));
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (wanted, b"new".to_vec()), "{wanted:o}");
    }
    assert_quiet_success(&shell(dir.path(), "umask 027; echo new | $OVERSPILL -o made"));
    assert_eq!(mode(&dir.path().join("made")), 0o640);
}

/// Root can replace a user's file without becoming its owner. The content is root's, though, so the file must
/// not become a program that runs as that user.
#[test]
#[cfg(unix)]
fn a_file_that_root_replaces_keeps_its_owner() {
    if !is_root() {
        return skip("a_file_that_root_replaces_keeps_its_owner", "it takes root to give a file away");
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::chown(&file, Some(12345), Some(54321)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "file"], b"new"));
    let found = fs::metadata(&file).unwrap();
    assert_eq!((found.uid(), found.gid(), mode(&file)), (12345, 54321, 0o751));
}

/// A user may write a setuid program of another owner, but not pass ownership of a file on, so the new file
/// is the user's. It must not be a program that runs as that user for everybody.
#[test]
#[cfg(unix)]
fn set_id_bits_do_not_pass_to_another_owner() {
    if !is_root() {
        return skip("set_id_bits_do_not_pass_to_another_owner", "it takes root to become two users");
    }
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::chown(&file, Some(12345), Some(12345)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6777)).unwrap();
    let program = ForAnyUser::new();
    let command = program.overspill(23456, dir.path(), &["-o", "file"]);
    assert_quiet_success(&run(command, b"new"));
    let found = fs::metadata(&file).unwrap();
    assert_eq!((found.uid(), mode(&file)), (23456, 0o777));
}

/// The new file got its mode before its content if that was copied to it, and after if its pages had
/// spilled beside it. A write by anybody but root clears the set-ID bits, so they stayed or went with the
/// way that the bytes took.
#[test]
#[cfg(unix)]
fn the_mode_does_not_depend_on_the_way_of_the_bytes() {
    if !is_root() {
        return skip(
            "the_mode_does_not_depend_on_the_way_of_the_bytes",
            "it takes root to become another user",
        );
    }
    const USER: u32 = 23456;
    let program = ForAnyUser::new();
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    for name in [".", "other"] {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let file = dir.path().join("file");
    let ways = [
        "-o file",
        "-m 0 -o file",
        "-T other -o file",
        "-m 0 -T other -o file",
        "-a -o file",
        "-m 0 -T other -a -o file",
    ];
    // Of the user's own file, of another user's, and of another group's: owner, group and bits stay or go
    // alike.
    for (owner, group, wanted) in
        [(USER, USER, 0o6777), (12345, USER, 0o777), (USER, 12345, 0o777), (12345, 12345, 0o777)]
    {
        for user in [USER, 0] {
            let mut found = Vec::new();
            for way in ways {
                let _ = fs::remove_file(&file);
                fs::write(&file, "old").unwrap();
                std::os::unix::fs::chown(&file, Some(owner), Some(group)).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o6777)).unwrap();
                let command = program.overspill(user, dir.path(), &way.split(' ').collect::<Vec<_>>());
                assert_quiet_success(&run(command, &noise(100_000)));
                let now = fs::metadata(&file).unwrap();
                found.push((now.uid(), now.gid(), mode(&file)));
            }
            let first = if user == 0 { (owner, group, 0o777) } else { (USER, USER, wanted) };
            assert_eq!(found, vec![first; ways.len()], "{owner}:{group}, by {user}");
        }
    }
}

/// The new file had the mode of the old one, and the group of the process where that could not be changed: so
/// another group might read it. On the way, before it had its group, so might the process's in any case.
#[test]
#[cfg(unix)]
fn another_group_gets_no_rights() {
    if !is_root() {
        return skip("another_group_gets_no_rights", "it takes root to become another user");
    }
    const USER: u32 = 23456;
    let program = ForAnyUser::new();
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let file = dir.path().join("file");
    for (user, before, group, after) in [
        (USER, 0o640, USER, 0o600),
        (USER, 0o664, USER, 0o644),
        (USER, 0o604, USER, 0o600), // those of the old group are among all others now
        (0, 0o604, 12345, 0o604),
        (0, 0o640, 12345, 0o640),
    ] {
        for way in ["-o file", "-m 0 -o file", "-a -o file"] {
            let _ = fs::remove_file(&file);
            fs::write(&file, "old").unwrap();
            std::os::unix::fs::chown(&file, Some(USER), Some(12345)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(before)).unwrap();
            let command = program.overspill(user, dir.path(), &way.split(' ').collect::<Vec<_>>());
            assert_quiet_success(&run(command, &noise(100_000)));
            let now = fs::metadata(&file).unwrap();
            assert_eq!((now.gid(), mode(&file)), (group, after), "{before:o} by {user}, {way}");
        }
    }
}

/// The file that a link leads to is replaced, in its own directory, and the link stays.
#[test]
#[cfg(unix)] // Windows lets an administrator alone make one
fn a_symbolic_link_is_followed() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("real/deep")).unwrap();
    fs::write(path("real/deep/file"), "old").unwrap();
    symlink("deep/file", path("real/one")).unwrap();
    symlink("real/one", path("two")).unwrap();
    symlink("real/not-yet", path("dangling")).unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "two"], b"new"));
    assert_quiet_success(&soak(dir.path(), &["-o", "dangling"], b"made"));
    assert_eq!(fs::read(path("real/deep/file")).unwrap(), b"new");
    assert_eq!(fs::read(path("real/not-yet")).unwrap(), b"made");
    // A file was made with the name of a directory that is not there.
    symlink("real/no-directory/", path("open")).unwrap();
    let refused = soak(dir.path(), &["-o", "open"], b"lost");
    assert!(!refused.status.success() && fs::symlink_metadata(path("real/no-directory")).is_err());
    for link in ["two", "real/one", "dangling"] {
        assert!(fs::symlink_metadata(path(link)).unwrap().is_symlink(), "{link}");
    }
    // As many as the system follows; the last but one was the last.
    symlink("file", path("real/deep/link1")).unwrap();
    for n in 2..=40 {
        symlink(format!("link{}", n - 1), path(&format!("real/deep/link{n}"))).unwrap();
    }
    assert_quiet_success(&soak(dir.path(), &["-o", "real/deep/link40"], b"far"));
    assert_eq!(fs::read(path("real/deep/file")).unwrap(), b"far");
    symlink("circle", path("circle")).unwrap();
    assert_refused(&soak(dir.path(), &["-o", "circle"], b""), &["circle"]);
}

/// As the manual says: other hard links keep the old content.
#[test]
fn other_hard_links_keep_the_old_content() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("one"), "old").unwrap();
    fs::hard_link(dir.path().join("one"), dir.path().join("two")).unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "one"], b"new"));
    assert_eq!(fs::read(dir.path().join("two")).unwrap(), b"old");
}

/// A reader that opens the file while it is replaced sees all of the old content or all of the new.
#[test]
#[cfg(unix)] // for Windows, see `an_open_file_is_not_replaced`
fn a_reader_sees_the_old_file_or_the_new() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    let contents = [vec![b'a'; 300_000], vec![b'b'; 500_000]];
    fs::write(&file, &contents[0]).unwrap();
    let mut writers = Vec::new();
    for _ in 0..4 {
        for content in &contents {
            let mut child = start(&mut overspill(dir.path(), &["-o", "file", "-m", "64K"]));
            child.stdin.take().unwrap().write_all(content).unwrap();
            writers.push(child);
        }
    }
    while !writers.is_empty() {
        let seen = fs::read(&file).unwrap();
        assert!(contents.contains(&seen), "{} bytes that are neither content", seen.len());
        writers.retain_mut(|child: &mut Child| child.try_wait().unwrap().is_none());
    }
    assert_eq!(names_in(dir.path()), ["file"]);
}

/// Windows replaces no file that any process has open. All input has been read by then, so the message must
/// say what to do.
#[test]
#[cfg(windows)]
fn an_open_file_is_not_replaced() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    let open = fs::File::open(&file).unwrap();
    assert_refused(&soak(dir.path(), &["-o", "file"], b"new"), &["file", "as it was", "close it"]);
    drop(open);
    assert_eq!(fs::read(&file).unwrap(), b"old");
    assert_quiet_success(&soak(dir.path(), &["-o", "file"], b"new"));
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(names_in(dir.path()), ["file"]);
}
