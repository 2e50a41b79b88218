//! Does a process survive what its forked child does to the buffers that it has inherited? The child runs on
//! with one thread, and ends by `_exit`. With threads beside it: `forks_of_threads.rs`.
#![cfg(target_os = "linux")]

use overspill::{SpillBuffer, SpillError, SpillPool};
use overspill_tests::linux::{may_trace, open_files, survived};
use overspill_tests::support::content_of;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Command;
use std::sync::Mutex;

/// One test forks at a time: the others' threads would hold locks that a child waits for.
static ALONE: Mutex<()> = Mutex::new(());

const LEN: usize = 200_000;

/// Runs `child` in a forked process, and asserts that it returns true.
fn in_a_child(child: impl FnOnce() -> bool) {
    assert!(overspill_tests::children::in_a_child(child));
}

fn spilled(mut buffer: SpillBuffer, byte: u8) -> SpillBuffer {
    buffer.write_all(&[byte; LEN]).unwrap();
    buffer.spill().unwrap();
    assert!(buffer.is_spilled());
    buffer
}

fn is_refused(result: std::io::Result<()>) -> bool {
    let error = result.unwrap_err();
    matches!(SpillError::of(&error), Some(SpillError::Store { .. }))
        && overspill_tests::support::chain(&error).iter().any(|line| line.contains("forked"))
}

/// A child that dropped a buffer, or ended by `exit`, punched holes into the file that its parent reads, and
/// cut it: the parent read zeros without an error.
#[test]
fn what_a_child_drops_stays_with_its_parent() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let pool = SpillPool::builder().memory(64 << 10).build().unwrap();
    let mut buffers: Vec<_> = (1..9).map(|byte| spilled(pool.buffer(), byte)).collect();
    buffers.push(spilled(SpillBuffer::with_budget(64 << 10), 9));
    buffers.push(spilled(pool.buffer_for(dir.path().join("target")), 10));
    in_a_child(|| {
        let theirs = std::mem::take(&mut buffers);
        theirs.into_iter().enumerate().for_each(|(i, mut buffer)| {
            if i % 2 == 0 {
                buffer.set_len(10).unwrap();
            }
        });
        pool.trim();
        true
    });
    for (buffer, byte) in buffers.iter_mut().zip(1..) {
        assert!(content_of(buffer) == [byte; LEN], "buffer {byte}");
    }
}

/// The blocks of a large buffer are given back by the calls that follow. A child makes such calls too, and
/// must change nothing.
#[test]
fn what_a_child_does_after_a_large_drop_stays_with_its_parent() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let pool = SpillPool::builder().memory(64 << 10).build().unwrap();
    let mut large: Vec<_> = (0..40).map(|byte| spilled(pool.buffer(), byte)).collect();
    let mut kept = spilled(pool.buffer(), 99);
    let mut first = pool.buffer();
    first.write_all(&vec![7; 40 * LEN]).unwrap();
    drop(first);
    let queued = pool.stats().disk_recycled;
    assert!(queued > 5 << 20, "{queued} bytes are still to be given back");
    in_a_child(|| {
        let refused = is_refused(pool.buffer().write_all(&[1; LEN]));
        large.drain(..).for_each(drop);
        pool.trim();
        refused
    });
    assert_eq!(pool.stats().disk_recycled, queued);
    for (buffer, byte) in large.iter_mut().zip(0..) {
        assert!(content_of(buffer) == [byte; LEN], "buffer {byte}");
    }
    pool.trim();
    assert_eq!(pool.stats().disk_recycled, 0);
    assert!(content_of(&mut kept) == [99; LEN]);
}

/// A large file is closed by another thread of the runtime. A child has none: it would have left the file
/// open, or waited for a lock of the runtime's.
#[test]
fn a_child_closes_a_large_file_itself() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let open = || open_files(|file| file.starts_with(dir.path())).len();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let pool = SpillPool::builder().memory(0).dir(dir.path()).build().unwrap();
        let mut buffer = pool.buffer().into_async();
        drop(pool);
        buffer.write_all(&[1; 20 * LEN]).await.unwrap();
        let mut theirs = Some(buffer);
        in_a_child(|| {
            let was_open = open();
            drop(theirs.take());
            (was_open, open()) == (1, 0)
        });
    });
}

/// A child that wrote used slots that its parent took to be free: each read the other's bytes.
#[test]
fn what_a_child_writes_never_reaches_its_parents_file() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let pool = SpillPool::builder().memory(0).build().unwrap();
    let (mut read, mut written) = (spilled(pool.buffer(), 1), spilled(pool.buffer(), 2));
    let mut own = Some(spilled(pool.buffer_for(&target), 3));
    in_a_child(|| {
        let reads = content_of(&mut read) == [1; LEN];
        written.seek(SeekFrom::Start(5)).unwrap();
        let refuses =
            is_refused(written.write_all(&[9; 1000])) && is_refused(pool.buffer().write_all(&[9; 1000]));
        let keeps = content_of(&mut written) == [2; LEN];
        // Of its own, it can have all: a pool, and a copy of what is to be persisted.
        let fresh = SpillPool::builder().memory(0).build().unwrap();
        let spills = content_of(&mut spilled(fresh.buffer(), 8)) == [8; LEN];
        let persisted = own.take().unwrap().persist(&target).map(|file| file.into_file());
        let persists = persisted.is_ok() && std::fs::read(&target).unwrap() == [3; LEN];
        // The kernel copies from the parent's file, and to none of it.
        let (copy, mut file) = (dir.path().join("copy"), tempfile::tempfile().unwrap());
        let copies =
            std::mem::take(&mut read).persist(&copy).is_ok() && std::fs::read(&copy).unwrap() == [1; LEN];
        file.write_all(&[9; LEN]).unwrap();
        file.rewind().unwrap();
        written.rewind().unwrap();
        let refuses = refuses && is_refused(written.extend_from_file(&file).map(drop));
        reads && refuses && keeps && spills && persists && copies
    });
    let mut own = own.unwrap();
    for (buffer, byte) in [(&mut read, 1), (&mut written, 2), (&mut own, 3)] {
        assert!(content_of(buffer) == [byte; LEN], "buffer {byte}");
        buffer.seek(SeekFrom::End(0)).unwrap();
        buffer.write_all(&[byte; 10]).unwrap();
        assert_eq!(content_of(buffer).len(), LEN + 10);
    }
    let mut file = own.persist(&target).unwrap().into_file();
    let mut content = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    assert!(content == [3; LEN + 10]);
}

/// A pool that has not spilled before the fork is the child's as well: each process makes a file.
#[test]
fn a_pool_without_a_file_works_in_both_processes() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let pool = SpillPool::builder().memory(0).build().unwrap();
    in_a_child(|| content_of(&mut spilled(pool.buffer(), 5)) == [5; LEN]);
    let mut ours = spilled(pool.buffer(), 6);
    in_a_child(|| content_of(&mut ours) == [6; LEN]);
    assert!(content_of(&mut ours) == [6; LEN]);
}

/// A process that the C library knows nothing of. Asking the kernel at each write who one is cost a tenth of
/// the write; so the answer is noted where the kernel clears it.
#[test]
fn a_child_that_the_kernel_made_alone_is_another_process() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut buffer = spilled(SpillBuffer::with_budget(0), 7);
    buffer.write_all(&[7; LEN]).unwrap(); // which has noted who it is
    assert!(overspill_tests::children::in_a_child_of_the_kernel(|| is_refused(buffer.write_all(&[8; LEN]))));
    assert!(content_of(&mut buffer) == [7; 2 * LEN]);
    buffer.write_all(&[7; LEN]).unwrap();
}

/// A kernel that takes each advice and follows none, as one that older QEMU emulates, did not clear the noted
/// word: a child took itself for its parent, and changed that one's file.
#[test]
fn a_kernel_that_follows_no_advice_hides_no_child() {
    if !may_trace("a_kernel_that_follows_no_advice_hides_no_child") {
        return;
    }
    for test in [
        "what_a_child_drops_stays_with_its_parent",
        "what_a_child_writes_never_reaches_its_parents_file",
        "a_child_that_the_kernel_made_alone_is_another_process",
    ] {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=madvise", "-e", "inject=madvise:retval=0"]);
        let output = strace.arg(std::env::current_exe().unwrap()).args(["--exact", test]).output().unwrap();
        assert!(survived(&output, test).contains("1 passed"));
    }
}
