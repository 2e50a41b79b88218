//! What is left, and what is held, when things end: in good order, by SIGKILL, or not at all.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill::{SpillBuffer, SpillError, SpillPool};
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

/// Runs as a child only: spills for ever, and says when it has begun.
#[test]
#[ignore = "the child of the test below"]
fn spill_for_ever() {
    let Some(dir) = std::env::var_os("OVERSPILL_KILL_DIR") else { return };
    let pool = spilling_pool(Path::new(&dir));
    let target = Path::new(&dir).join("target");
    for round in 0.. {
        let mut buffer = if round % 2 == 0 { pool.buffer() } else { pool.buffer_beside(&target) };
        for _ in 0..16 {
            buffer.write_all(&[7; 50_000]).unwrap();
        }
        assert!(buffer.is_spilled());
        println!("spilled");
    }
}

/// I7: a process that is killed in the middle of it leaves no file, and no blocks without a name.
#[test]
fn nothing_is_left_after_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..10u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "spill_for_ever", "--ignored", "--nocapture"])
            .env("OVERSPILL_KILL_DIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("spilled")), "the child spilled");
        std::thread::sleep(Duration::from_micros(137 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(count(dir.path()), 0, "round {round}");
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
