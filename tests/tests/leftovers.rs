//! Is anything left on the disk, or held without a name, when a buffer, a pool or the process ends? (I7)
//! However it ends: in good order, or by SIGKILL. And: freed blocks go back to the file system while the pool
//! lives (I6), and a pool has one descriptor for any number of buffers.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill::{SpillBuffer, SpillError, SpillPool};
use overspill_tests::linux::{disk_bytes, in_own_mounts, open_files, ordeal};
use overspill_tests::support::{Random, content_of, names_in, spill_error};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Seek, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How many descriptors of this process are files in `dir`, deleted ones included.
fn descriptors_in(dir: &Path) -> usize {
    open_files(|file| file.starts_with(dir)).len()
}

/// The bytes of disk that the files in `dir` take that this process has open.
fn disk_bytes_in(dir: &Path) -> u64 {
    disk_bytes(&open_files(|file| file.starts_with(dir)))
}

fn spilling_pool(dir: &Path) -> SpillPool {
    SpillPool::builder().memory(8 << 10).page_size(4 << 10).dir(dir).build().unwrap()
}

/// A `SpooledTempFile` takes a descriptor as soon as it spills, and a process may have a thousand. A pool
/// takes one.
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
    assert_eq!(names_in(dir.path()), [""; 0]);
    drop(buffers);
    assert_eq!(pool.stats().disk_used, 0);
    drop(pool);
    assert_eq!(descriptors_in(dir.path()), 0);
}

/// How many descriptors of this process are unnamed files in one of the usual temp directories itself.
fn descriptors_in_the_usual_place() -> usize {
    let usual = [&std::env::temp_dir(), Path::new("/var/tmp"), Path::new("/usr/tmp"), Path::new(".")];
    let usual = usual.map(|dir| dir.canonicalize().unwrap_or_default());
    let is_there = |file: &Path| file.parent().is_some_and(|dir| usual.iter().any(|usual| usual == dir));
    open_files(|file| is_there(file) && file.to_string_lossy().ends_with("(deleted)")).len()
}

/// A buffer without a pool kept the descriptor of its file when it was emptied, and up to 1 MiB of blocks:
/// for as long as it lived, though nothing of it was spilled, and no call could give them back.
#[test]
fn an_emptied_buffer_without_a_pool_closes_its_file() {
    const LIMIT: usize = 64 << 10;
    let before = descriptors_in_the_usual_place();
    let mut buffer = SpillBuffer::with_budget(LIMIT);
    for (len, clears) in [(2 * LIMIT, true), (40 * LIMIT, true), (2 * LIMIT, false), (40 * LIMIT, false)] {
        let body = Random::new(len as u64).bytes(len);
        buffer.write_all(&body).unwrap();
        assert!(content_of(&mut buffer) == body && buffer.is_spilled());
        assert_eq!(descriptors_in_the_usual_place(), before + 1);
        let spills = buffer.stats().spills;
        if clears {
            buffer.clear();
        } else {
            buffer.set_len(0).unwrap();
            buffer.rewind().unwrap();
        }
        assert_eq!(descriptors_in_the_usual_place(), before);
        assert_eq!(
            (buffer.stats().spills, buffer.stats().memory_used),
            (spills, 0),
            "the buffer is the same"
        );
        buffer.check_invariants();
    }
    buffer.spill().unwrap();
    buffer.write_all(&[1; 100]).unwrap();
    assert!(content_of(&mut buffer) == [1; 100] && !buffer.is_spilled());
    assert_eq!(descriptors_in_the_usual_place(), before);
}

/// I6: what is freed by cutting and dropping goes back to the file system, from the middle of the file, too.
#[test]
fn freed_space_goes_back_to_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let pool = spilling_pool(dir.path());
    let (mut first, mut last) = (pool.buffer(), pool.buffer());
    first.write_all(&vec![1; 8 << 20]).unwrap();
    last.write_all(&vec![2; 8 << 20]).unwrap();
    assert!(disk_bytes_in(dir.path()) >= 15 << 20, "16 MiB less what is in memory");
    drop(first);
    // Much at once goes back with the calls that follow.
    assert!(pool.stats().disk_recycled >= 7 << 20, "{:?}", pool.stats());
    for _ in 0..4 {
        pool.buffer().write_all(&[3; 20_000]).unwrap();
    }
    let warm = 2 << 20; // the pool keeps up to 1 MiB of freed blocks for later writes; rounded up
    assert!(disk_bytes_in(dir.path()) <= (8 << 20) + warm, "{} bytes", disk_bytes_in(dir.path()));
    last.set_len(1 << 20).unwrap();
    pool.trim();
    assert!(disk_bytes_in(dir.path()) <= (1 << 20) + warm, "{} bytes", disk_bytes_in(dir.path()));
    last.clear();
    pool.trim();
    assert_eq!(disk_bytes_in(dir.path()), 0);
}

/// The free blocks of the file system of `dir`.
fn blocks_free(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).unwrap().f_bfree
}

/// Kills a process while it spills and persists, `rounds` times, and checks what is left in `dir`.
fn kill(dir: &Path, rounds: u64) {
    let mut random = Random::new(1);
    for round in 0..rounds {
        let mut command = ordeal(env!("CARGO_BIN_EXE_ordeal"), "for-ever", dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("spilled")), "the child spilled");
        std::thread::sleep(Duration::from_micros(random.below(8000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // A file that got its name just before the kill is whole.
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            assert!(path.file_name().unwrap().to_str().unwrap().starts_with("whole-"), "{path:?} is left");
            assert!(fs::read(&path).unwrap() == [7; 100_000], "round {round}: {path:?} is not whole");
            fs::remove_file(path).unwrap();
        }
    }
}

/// I7: a process that is killed while it spills leaves no file behind.
#[test]
fn nothing_is_left_after_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    kill(dir.path(), 50);
}

/// I7: nor does it leave blocks that no name leads to. On a file system of its own, so that free blocks can
/// be counted.
#[test]
fn no_block_is_held_after_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let line = "mount -t tmpfs -o size=64M none \"$DIR\"; exec \"$PROGRAM\" --exact kill_and_count --ignored";
    let test = std::env::current_exe().unwrap();
    let Some(output) = in_own_mounts("no_block_is_held_after_sigkill", dir.path(), test, line) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the test above runs it, with a file system of its own"]
fn kill_and_count() {
    let Some(dir) = std::env::var_os("DIR") else { return };
    let dir = Path::new(&dir);
    let before = blocks_free(dir);
    for _ in 0..10 {
        kill(dir, 5);
        assert_eq!(blocks_free(dir), before, "blocks without a name are held");
    }
}

/// A server whose temp directory had vanished failed until it was restarted (ASP.NET Core, for one). A pool
/// names the directory, and works again once it is there.
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
        let SpillError::Directory { dir, .. } = spill_error(refused) else { panic!("another error") };
        assert_eq!(dir, missing);
        assert_eq!((buffer.len(), buffer.position()), (4096, 4096));
    }
    fs::create_dir_all(&missing).unwrap();
    buffer.write_all(&[2; 4096]).unwrap();
    // From here on the file is open, and the pool no longer needs the directory.
    fs::remove_dir_all(dir.path().join("not")).unwrap();
    buffer.write_all(&[3; 4096]).unwrap();
    assert!(content_of(&mut buffer) == [[1; 4096], [2; 4096], [3; 4096]].concat());
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
