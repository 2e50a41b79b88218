//! What is done while allocations are refused: everything that a buffer and a pool do with
//! content, in few allocations.

use crate::refusing::{arm, disarm, paused};
use overspill::{Checksums, MemoryStore, SpillBuffer, SpillPool, Store, WhenFull};
use overspill_tests::ops::pattern;
use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom, Write};
use std::task::{Context, Waker};
use std::time::Duration;

const PAGE: usize = 1 << 8;

/// A store that has memory: it stands for a disk.
#[derive(Debug)]
struct Disk(MemoryStore);

impl Store for Disk {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        paused(|| self.0.read_at(offset, buf))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        paused(|| self.0.write_at(offset, data))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        paused(|| self.0.set_len(len))
    }
}

/// A buffer and what it must hold.
struct Kept {
    buffer: SpillBuffer,
    model: Vec<u8>,
}

#[track_caller]
fn no_memory(error: &io::Error) {
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error:?}");
}

impl Kept {
    fn new(buffer: SpillBuffer) -> Self {
        Kept { buffer, model: paused(|| Vec::with_capacity(1 << 17)) }
    }

    fn write(&mut self, at: usize, len: usize) {
        let data = paused(|| pattern(at + len, len));
        let mut done = 0;
        while done < len {
            self.buffer.seek(SeekFrom::Start((at + done) as u64)).unwrap();
            match self.buffer.write(&data[done..]) {
                Ok(n) => {
                    paused(|| self.model.resize(self.model.len().max(at + done + n), 0));
                    self.model[at + done..][..n].copy_from_slice(&data[done..][..n]);
                    done += n;
                }
                Err(error) => {
                    no_memory(&error);
                    break;
                }
            }
        }
        paused(|| drop(data));
    }

    /// Appends as much of `len` bytes as there is room for.
    fn try_write(&mut self, len: usize) {
        let data = paused(|| pattern(self.model.len(), len));
        self.buffer.seek(SeekFrom::End(0)).unwrap();
        match self.buffer.write(&data) {
            Ok(n) => paused(|| self.model.extend_from_slice(&data[..n])),
            Err(error) => paused(|| {
                assert!(
                    matches!(error.kind(), ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory),
                    "{error:?}"
                );
            }),
        }
        paused(|| drop(data));
    }

    fn spill(&mut self) {
        if let Err(error) = self.buffer.spill() {
            no_memory(&error.into());
        }
    }

    fn cut(&mut self, len: usize) {
        match self.buffer.set_len(len as u64) {
            Ok(()) => paused(|| self.model.resize(len, 0)),
            Err(error) => no_memory(&error.into()),
        }
    }

    fn read(&mut self) {
        self.buffer.rewind().unwrap();
        let mut small = [0; 2000];
        let mut at = 0;
        loop {
            match self.buffer.read(&mut small) {
                Ok(0) => break,
                Ok(n) => {
                    assert!(small[..n] == self.model[at..at + n], "at {at}");
                    at += n;
                }
                Err(error) => return no_memory(&error),
            }
        }
        assert_eq!(at, self.model.len());
        self.buffer.seek(SeekFrom::Start(PAGE as u64 + 3)).unwrap();
        match self.buffer.fill_buf() {
            Ok(lent) => assert!(lent.is_empty() || lent[0] == self.model[PAGE + 3]),
            Err(error) => return no_memory(&error),
        }
        self.buffer.rewind().unwrap();
        let mut all = Vec::new();
        if let Err(error) = self.buffer.read_to_end(&mut all) {
            no_memory(&error);
        }
        assert!(all == self.model[..all.len()]);
        paused(|| drop(all));
    }

    fn check(&mut self) {
        paused(|| {
            let mut all = Vec::new();
            self.buffer.rewind().unwrap();
            self.buffer.read_to_end(&mut all).unwrap();
            assert!(all == self.model, "{} bytes in place of {}", all.len(), self.model.len());
            self.buffer.check_invariants();
        });
    }
}

fn pool(checksums: Checksums) -> SpillPool {
    let builder = SpillPool::builder().memory(6 * PAGE).page_size(PAGE).checksums(checksums);
    builder.store(Disk(MemoryStore::new())).build().unwrap()
}

fn use_buffers(pool: &SpillPool, kept: &mut [Kept]) {
    for round in 0..2 {
        for kept in &mut *kept {
            kept.write(0, 100);
            kept.write(50, 3 * PAGE);
            kept.write(260 * PAGE, 20);
        }
        kept[0].spill();
        kept[1].write(2 * PAGE + 7, 5 * PAGE);
        kept[0].write(PAGE, 10);
        for kept in &mut *kept {
            kept.read();
        }
        pool.set_memory_limit(2 * PAGE);
        kept[round].cut(3 * PAGE - 5);
        pool.set_memory_limit(6 * PAGE);
        kept[round].write(4 * PAGE, PAGE);
        pool.trim();
        for kept in &mut *kept {
            kept.check();
        }
    }
}

/// Text that cannot be returned is there for the next call.
fn read_text(pool: &SpillPool) {
    let mut kept = Kept::new(pool.buffer());
    let text = [b'x'; 5 * PAGE];
    let taken = kept.buffer.write(&text).inspect_err(no_memory).unwrap_or(0);
    kept.buffer.rewind().unwrap();
    let mut read = String::new();
    if let Err(error) = kept.buffer.read_to_string(&mut read) {
        no_memory(&error);
        paused(|| kept.buffer.read_to_string(&mut read)).unwrap();
    }
    assert_eq!(read.len(), taken);
}

/// A page of which a frame has a segment.
const LONG_PAGE: usize = 16 << 10;

/// Uploads that have a fourth of a page each: what their frames have goes to the slots piece by
/// piece, and comes back so.
fn use_segments(n: u64, for_good: bool, checksums: Checksums) -> u64 {
    let builder = SpillPool::builder().memory(2 * LONG_PAGE).page_size(LONG_PAGE).checksums(checksums);
    let pool = builder.store(Disk(MemoryStore::new())).build().unwrap();
    arm(n, for_good);
    let mut kept = [(); 8].map(|()| Kept::new(pool.buffer()));
    // Each takes up what it could not write before, so all of them pass the end of a page.
    for end in (1500..LONG_PAGE + 6000).step_by(1500) {
        for kept in &mut kept {
            kept.write(kept.model.len(), end - kept.model.len());
        }
    }
    let is_segment = |kept: &Kept| (1..LONG_PAGE as u64).contains(&kept.buffer.stats().memory_used);
    let segments = kept.iter().filter(|kept| is_segment(kept)).count();
    for (at, kept) in kept.iter_mut().enumerate() {
        kept.read();
        kept.cut(LONG_PAGE - 100 * at);
        kept.write(LONG_PAGE - 100 * at, 700);
        kept.write(9000, 2000);
        kept.cut(10_500);
    }
    let mut refused = disarm();
    kept.iter_mut().for_each(Kept::check);
    pool.check_invariants();
    arm(n, for_good);
    kept.into_iter().for_each(|kept| drop(kept.buffer));
    refused += disarm();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
    assert!(refused > 0 || segments == 8, "without refusals all have segments, and {segments} have");
    refused
}

/// Writes for which the disk has no room, and of which some wait for it.
fn wait(n: u64, for_good: bool) -> u64 {
    let builder = SpillPool::builder().memory(PAGE).page_size(PAGE).disk(3 * PAGE as u64);
    let policy = WhenFull::Wait { at_most: Duration::from_micros(300) };
    let pool = builder.when_full(policy).store(Disk(MemoryStore::new())).build().unwrap();
    let when_full = |policy| pool.buffer_builder().when_full(policy).build();
    // A policy of its own is kept from the beginning.
    let mut hurried = Kept::new(when_full(WhenFull::Fail));
    arm(n, for_good);
    let [mut filling, mut waiting] = [pool.buffer(), pool.buffer()].map(Kept::new);
    filling.write(0, 2 * PAGE);
    filling.write(2 * PAGE, 2 * PAGE);
    waiting.try_write(2 * PAGE);
    hurried.try_write(2 * PAGE);
    // Once for a ticket, and once to be polled in the queue.
    for _ in 0..2 {
        let _ = hurried.buffer.poll_writable(&mut Context::from_waker(Waker::noop()));
    }
    filling.cut(0);
    waiting.try_write(PAGE);
    hurried.try_write(PAGE);
    let refused = disarm();
    for mut kept in [filling, waiting, hurried] {
        kept.check();
        drop(kept.buffer);
    }
    pool.check_invariants();
    assert_eq!((pool.stats().waiters, pool.stats().memory_used, pool.stats().disk_used), (0, 0, 0));
    refused
}

/// Buffers that write, read, spill and are cut, in memory for a few of their pages.
fn use_pool(n: u64, for_good: bool, checksums: Checksums) -> u64 {
    let pool = pool(checksums);
    arm(n, for_good);
    let mut kept = [pool.buffer(), pool.buffer(), pool.buffer()].map(Kept::new);
    use_buffers(&pool, &mut kept);
    read_text(&pool);
    let mut refused = disarm();
    kept.iter_mut().for_each(Kept::check);
    pool.check_invariants();
    arm(n, for_good);
    let [first, rest @ ..] = kept;
    drop(first.buffer);
    rest.into_iter().for_each(|kept| drop(kept.buffer));
    pool.trim();
    refused += disarm();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
    refused
}

/// Content that several handles read at once, and a spool with a writer and two that follow it.
fn share(n: u64, for_good: bool, checksums: Checksums) -> u64 {
    let pool = pool(checksums);
    let mut kept = Kept::new(pool.buffer());
    kept.write(0, 12 * PAGE);
    let (frozen, model) = (kept.buffer.freeze(), kept.model);
    let mut readers = [frozen.reader(), frozen.reader()];
    let (mut writer, follower) = pool.spool();
    let mut followers = [follower.clone(), follower].map(|follower| (follower.once(), 0));
    let mut written = 0;
    arm(n, for_good);
    for at in (0..model.len() - 40).step_by(100) {
        let mut small = [0; 40];
        match frozen.read_at(&mut small, at as u64) {
            Ok(read) => assert!(small[..read] == model[at..at + read], "at {at}"),
            Err(error) => no_memory(&error),
        }
        for reader in &mut readers {
            let at = usize::try_from(reader.position()).unwrap();
            match reader.read(&mut small) {
                Ok(read) => assert!(small[..read] == model[at..at + read], "at {at}"),
                Err(error) => no_memory(&error),
            }
            let at = usize::try_from(reader.position()).unwrap();
            match reader.fill_buf() {
                Ok(lent) => assert!(lent.is_empty() || lent[0] == model[at], "at {at}"),
                Err(error) => no_memory(&error),
            }
        }
        match writer.write(&model[written..(written + 150).min(model.len())]) {
            Ok(taken) => written += taken,
            Err(error) => no_memory(&error),
        }
        for (follower, read) in &mut followers {
            let left = (written - *read).min(110);
            match follower.read(&mut [0; 110][..left]) {
                Ok(done) => *read += done,
                Err(error) => no_memory(&error),
            }
            let _ = follower.poll_readable(&mut Context::from_waker(Waker::noop()));
        }
    }
    let mut refused = disarm();
    assert!(frozen.to_vec().unwrap() == model);
    writer.write_all(&model[written..]).unwrap();
    for (follower, read) in &mut followers {
        let mut rest = vec![0; model.len() - *read];
        follower.read_exact(&mut rest).unwrap();
        assert!(rest == model[*read..], "from {read}");
    }
    frozen.check_invariants();
    pool.check_invariants();
    arm(n, for_good);
    drop((frozen, readers, followers, writer));
    refused += disarm();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
    refused
}

/// Buffers that are cloned and written to, and clones of clones.
fn use_clones(n: u64, for_good: bool, checksums: Checksums) -> u64 {
    let pool = pool(checksums);
    let mut kept = paused(|| Vec::with_capacity(8));
    kept.push(Kept::new(pool.buffer()));
    kept[0].write(0, 9 * PAGE + 5);
    arm(n, for_good);
    for round in 0..5 {
        let from = round % kept.len();
        match kept[from].buffer.try_clone() {
            Ok(buffer) => {
                let mut clone = Kept::new(buffer);
                paused(|| clone.model.extend_from_slice(&kept[from].model));
                kept.push(clone);
            }
            Err(error) => no_memory(&error.into()),
        }
        for (number, kept) in kept.iter_mut().enumerate() {
            kept.write((round + number) * PAGE + 9, 30);
            kept.write(round * PAGE, 2 * PAGE);
        }
        kept[from].read();
        kept[from].cut(8 * PAGE - 7);
    }
    let mut refused = disarm();
    kept.iter_mut().for_each(Kept::check);
    pool.check_invariants();
    arm(n, for_good);
    kept.drain(..).for_each(|kept| drop(kept.buffer));
    refused += disarm();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
    refused
}

/// A new buffer that takes the bytes of a file. For want of a table it ended the process.
fn take_a_file(n: u64, for_good: bool) -> u64 {
    let pool = pool(Checksums::Off);
    let content = paused(|| pattern(3, 9 * PAGE));
    let file = paused(|| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).and_then(|()| file.rewind()).unwrap();
        file
    });
    arm(n, for_good);
    let mut kept = Kept::new(pool.buffer());
    match kept.buffer.extend_from_file(&file) {
        Ok(taken) => assert_eq!(taken, content.len() as u64),
        Err(error) => no_memory(&error),
    }
    let mut refused = disarm();
    let taken = usize::try_from(kept.buffer.len()).unwrap();
    paused(|| kept.model.extend_from_slice(&content[..taken]));
    kept.check();
    pool.check_invariants();
    arm(n, for_good);
    drop(kept.buffer);
    refused += disarm();
    refused
}

/// What is done with allocation number `n` refused, and all later ones if that is for good. Returns
/// how many were refused.
pub(crate) type Part = fn(n: u64, for_good: bool) -> u64;

pub(crate) const PARTS: [Part; 10] = [
    wait,
    take_a_file,
    |n, for_good| use_pool(n, for_good, Checksums::Off),
    |n, for_good| use_pool(n, for_good, Checksums::On),
    |n, for_good| share(n, for_good, Checksums::Off),
    |n, for_good| share(n, for_good, Checksums::On),
    |n, for_good| use_clones(n, for_good, Checksums::Off),
    |n, for_good| use_clones(n, for_good, Checksums::On),
    |n, for_good| use_segments(n, for_good, Checksums::Off),
    |n, for_good| use_segments(n, for_good, Checksums::On),
];
