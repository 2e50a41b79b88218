//! What is left, and what is held, when things end: in good order, by SIGKILL, or not at all.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill::{SpillBuffer, SpillError, SpillPool};
use overspill_tests::{ordeal, skip};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// Descriptors of this process that are files in `dir`, deleted ones included.
fn descriptors_in(dir: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    links.filter(|link| link.starts_with(dir)).count()
}

fn spilling_pool(dir: &Path) -> SpillPool {
    SpillPool::builder().memory(8 << 10).page_size(4 << 10).dir(dir).build().unwrap()
}

/// Ten thousand spilled `SpooledTempFile`s are ten thousand descriptors; a pool has one.
#[test]
fn a_thousand_spilled_buffers_share_one_descriptor_and_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let pool = spilling_pool(dir.path());
    let mut buffers: Vec<SpillBuffer> = (0..1000).map(|_| pool.buffer()).collect();
    assert_eq!(descriptors_in(dir.path()), 0, "nothing is opened before it is needed");
    for (i, buffer) in buffers.iter_mut().enumerate() {
        buffer.write_all(&[i as u8; 20_000]).unwrap();
    }
    assert!(buffers.iter().filter(|buffer| buffer.is_spilled()).count() >= 998);
    assert_eq!(descriptors_in(dir.path()), 1);
    assert_eq!(count(dir.path()), 0);
    drop(buffers);
    assert_eq!(pool.stats().disk_used, 0);
    drop(pool);
    assert_eq!(descriptors_in(dir.path()), 0);
}

/// Blocks that the temp file of this process in `dir` takes, in units of 512 bytes.
fn blocks_in(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let fds = fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().path());
    let ours = fds.filter(|fd| fs::read_link(fd).is_ok_and(|link| link.starts_with(dir)));
    ours.map(|fd| fs::metadata(fd).map_or(0, |meta| meta.blocks())).sum()
}

/// I6: what truncating and dropping free goes back to the file system, from the middle too.
#[test]
fn freed_space_goes_back_to_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let pool = spilling_pool(dir.path());
    let (mut first, mut last) = (pool.buffer(), pool.buffer());
    first.write_all(&vec![1; 8 << 20]).unwrap();
    last.write_all(&vec![2; 8 << 20]).unwrap();
    assert!(blocks_in(dir.path()) >= 15 << 11, "16 MiB less what is in memory");
    drop(first);
    let warm = 2 << 11; // up to a mebibyte is kept to be used again, rounded up
    assert!(blocks_in(dir.path()) <= (8 << 11) + warm, "{} blocks", blocks_in(dir.path()));
    last.set_len(1 << 20).unwrap();
    assert!(blocks_in(dir.path()) <= (1 << 11) + warm, "{} blocks", blocks_in(dir.path()));
    last.clear();
    pool.trim();
    assert_eq!(blocks_in(dir.path()), 0);
}

/// Blocks of the file system of `dir` that nobody has.
fn blocks_free(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).unwrap().f_bfree
}

/// Kills a process in the middle of it, `rounds` times, and looks at what is left in `dir`.
fn kill(dir: &Path, rounds: u64) {
    let mut state = 1_u64;
    for round in 0..rounds {
        let mut command = ordeal(env!("CARGO_BIN_EXE_ordeal"), "for-ever", dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("spilled")), "the child spilled");
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        std::thread::sleep(Duration::from_micros((state >> 33) % 8000));
        child.kill().unwrap();
        child.wait().unwrap();
        // A file that was put under a free name just then is there, whole.
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            assert!(path.file_name().unwrap().to_str().unwrap().starts_with("whole-"), "{path:?} is left");
            assert!(fs::read(&path).unwrap() == [7; 100_000], "round {round}: {path:?} is not whole");
            fs::remove_file(path).unwrap();
        }
    }
}

/// I7: a process that is killed in the middle of it leaves no file, and no blocks without a name.
#[test]
fn nothing_is_left_after_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    kill(dir.path(), 50);
}

/// The same on a file system that nobody else writes to, so that its free blocks can be counted.
#[test]
fn no_block_is_held_after_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let may = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none"]).arg(dir.path()).output();
    if !may.is_ok_and(|output| output.status.success()) {
        return skip("no_block_is_held_after_sigkill", "mounting takes root, or CAP_SYS_ADMIN");
    }
    let line = "mount -t tmpfs -o size=64M none \"$DIR\"; exec \"$TEST\" --exact kill_and_count --ignored";
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-e", "-c", line]).env("DIR", dir.path());
    let output = shell.env("TEST", std::env::current_exe().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the child of the test above, with a file system of its own"]
fn kill_and_count() {
    let Some(dir) = std::env::var_os("DIR") else { return };
    let dir = Path::new(&dir);
    let before = blocks_free(dir);
    for _ in 0..10 {
        kill(dir, 5);
        assert_eq!(blocks_free(dir), before, "blocks that nobody can reach are held");
    }
}

/// A temp directory that vanished made a server fail until it was restarted (ASP.NET Core's, for one).
#[test]
fn a_directory_that_is_not_there_is_named_and_works_once_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("not").join("yet");
    let pool = SpillPool::builder().memory(4096).page_size(4096).dir(&missing).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 4096]).unwrap(); // fits
    for _ in 0..2 {
        let refused = buffer.write_all(&[2; 4096]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        assert!(refused.to_string().contains("not/yet"), "{refused}");
        let SpillError::Directory { dir, .. } = refused.downcast().unwrap() else { panic!("another error") };
        assert_eq!(dir, missing);
        assert_eq!((buffer.len(), buffer.position()), (4096, 4096));
    }
    fs::create_dir_all(&missing).unwrap();
    buffer.write_all(&[2; 4096]).unwrap();
    // The file is ours by now: that the directory goes does not matter any more.
    fs::remove_dir_all(dir.path().join("not")).unwrap();
    buffer.write_all(&[3; 4096]).unwrap();
    buffer.rewind().unwrap();
    let mut content = Vec::new();
    buffer.read_to_end(&mut content).unwrap();
    assert!(content == [[1; 4096], [2; 4096], [3; 4096]].concat());
}

#[test]
fn a_directory_that_is_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let mut buffer = SpillPool::builder().memory(0).dir(&file).build().unwrap().buffer();
    let refused = buffer.write(b"x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotADirectory);
    assert!(refused.to_string().contains("file"), "{refused}");
    assert!(buffer.is_empty());
}
