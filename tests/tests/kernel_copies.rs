//! Do spilled bytes become a file, and the bytes of a file become content, without a way through memory where
//! the kernel can copy them? And are they the right ones where it cannot, stops half-way, or must not?
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill::{Checksums, SpillBuffer, SpillError, SpillPool, Store, TempFileStore, WhenFull};
use overspill_tests::ops::pattern;
use overspill_tests::support::{content_of, spill_error};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KIB: usize = 1 << 10;
const PAGE: usize = 4 * KIB;

/// Whether the store of a pool has the way that this is about.
const HAS_WAY: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// What a store does that is to copy to or from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Well,
    /// Up to so many bytes in each call.
    Short(usize),
    /// That once, then 0, which is what old kernels say of some files.
    ShortThenNone(usize),
    None,
    Error(ErrorKind),
    /// Each second call.
    Interrupted,
    Panic,
}

const HOWS: [How; 11] = [
    How::Well,
    How::Short(1000),
    How::Short(PAGE),
    How::ShortThenNone(1),
    How::ShortThenNone(3 * PAGE + 7),
    How::None,
    How::Error(ErrorKind::CrossesDevices),
    How::Error(ErrorKind::Unsupported),
    How::Error(ErrorKind::StorageFull),
    How::Interrupted,
    How::Panic,
];

/// Whether that leaves no hope of another call.
fn refuses(how: How) -> bool {
    matches!(how, How::None | How::Error(_) | How::Panic)
}

/// A temp file that copies to and from files as it is told, and counts its calls.
#[derive(Debug)]
struct Told {
    file: TempFileStore,
    how: Mutex<How>,
    copies: AtomicUsize,
    /// Bytes that went through memory.
    moved: AtomicUsize,
}

impl Told {
    fn new(dir: &Path) -> Arc<Self> {
        let (copies, moved) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Told { file: TempFileStore::in_dir(dir), how: Mutex::new(How::Well), copies, moved })
    }

    fn set(&self, how: How) {
        *self.how.lock().unwrap() = how;
        self.copies.store(0, Ordering::Relaxed);
        self.moved.store(0, Ordering::Relaxed);
    }

    /// The number of calls to copy, and of bytes that went through memory.
    fn counts(&self) -> (usize, usize) {
        (self.copies.load(Ordering::Relaxed), self.moved.load(Ordering::Relaxed))
    }

    fn copy(&self, len: usize, copy: impl FnOnce(usize) -> io::Result<usize>) -> io::Result<usize> {
        let calls = self.copies.fetch_add(1, Ordering::Relaxed);
        let mut how = self.how.lock().unwrap();
        match *how {
            How::Well => copy(len),
            How::Short(most) => copy(len.min(most)),
            How::ShortThenNone(most) => {
                *how = How::None;
                copy(len.min(most))
            }
            How::None => Ok(0),
            How::Error(kind) => Err(kind.into()),
            How::Interrupted if calls.is_multiple_of(2) => Err(ErrorKind::Interrupted.into()),
            How::Interrupted => copy(len.min(PAGE)),
            How::Panic => {
                drop(how);
                panic!("while copying")
            }
        }
    }
}

impl Store for Told {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.moved.fetch_add(buf.len(), Ordering::Relaxed);
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.moved.fetch_add(data.len(), Ordering::Relaxed);
        self.file.write_at(offset, data)
    }

    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.file.write_vectored_at(offset, parts)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.discard(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        self.copy(len, |len| self.file.copy_to_file(offset, len, file, at))
    }

    fn copy_from_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        self.copy(len, |len| self.file.copy_from_file(offset, len, file, at))
    }
}

fn pool(store: &Arc<Told>, memory: usize, checksums: Checksums) -> SpillPool {
    let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(checksums);
    builder.store(Arc::clone(store)).build().unwrap()
}

/// Content with pages of all sorts: in runs of slots, cut, behind a hole, in slots that lie apart, in memory;
/// and at last a segment, whose frame is newer than its slot. Returns it.
fn fill(pool: &SpillPool, buffer: &mut SpillBuffer) -> Vec<u8> {
    let mut model = pattern(1, 20 * PAGE + 300);
    buffer.write_all(&model).unwrap();
    let mut other = pool.buffer();
    for part in 0..8 {
        let data = pattern(part, PAGE);
        buffer.write_all(&data).unwrap();
        model.extend(&data);
        other.write_all(&data).unwrap(); // takes the slot between
    }
    buffer.set_len(26 * PAGE as u64 + 11).unwrap();
    model.truncate(26 * PAGE + 11);
    buffer.seek(SeekFrom::Start(31 * PAGE as u64 + 5)).unwrap();
    model.resize(31 * PAGE + 5, 0);
    for small in 0..40 {
        let data = pattern(small, 100);
        buffer.write_all(&data).unwrap();
        model.extend(&data);
    }
    buffer.seek(SeekFrom::Start(2 * PAGE as u64 + 10)).unwrap();
    buffer.write_all(&[7; 99]).unwrap();
    model[2 * PAGE + 10..][..99].fill(7);
    model
}

/// `persist` read each spilled byte into memory and wrote it from there.
#[test]
fn what_is_spilled_becomes_a_file_whatever_the_kernel_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = Told::new(dir.path());
    for memory in [0, PAGE, 8 * PAGE, 1 << 20] {
        for how in HOWS {
            let case = format!("{how:?} with {memory} bytes of memory");
            let pool = pool(&store, memory, Checksums::Off);
            let mut buffer = pool.buffer();
            let model = fill(&pool, &mut buffer);
            store.set(how);
            let before = pool.stats().direct_io;
            let path = dir.path().join("target");
            let file = buffer.persist(&path).unwrap().durable().unwrap();
            let (copies, moved) = store.counts();
            drop(file);
            assert!(std::fs::read(&path).unwrap() == model, "{case}");
            if how == How::Well && memory < 1 << 20 && HAS_WAY {
                assert!(copies > 0 && moved <= 2 * PAGE, "{case}: {copies} copies, {moved} bytes moved");
                assert!(copies <= 14, "{case}: {copies} copies, though most slots lie side by side");
            }
            assert!(copies <= 200, "{case}: {copies} calls");
            assert!(copies <= 1 || !refuses(how), "{case}: {copies} calls after a refusal");
            let read = pool.stats().direct_io.since(&before).read_bytes as usize;
            assert!(memory > PAGE || read >= model.len() - 8 * PAGE, "{case}: {read} bytes counted as read");
            pool.check_invariants();
            assert_eq!(pool.stats().disk_used, 0, "{case}");
        }
    }
}

/// Bytes that pass the process by cannot be compared with their sums: a file could get what
/// the disk made of them.
#[test]
fn what_has_checksums_is_read_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let store = Told::new(dir.path());
    let pool = pool(&store, 0, Checksums::On);
    let mut buffer = pool.buffer();
    let mut model = fill(&pool, &mut buffer);
    let mut file = tempfile::tempfile().unwrap();
    let more = pattern(3, 9 * PAGE);
    file.write_all(&more).unwrap();
    file.rewind().unwrap();
    buffer.seek(SeekFrom::End(0)).unwrap();
    buffer.extend_from_file(&file).unwrap();
    model.extend(more);
    let path = dir.path().join("target");
    buffer.persist(&path).unwrap().durable().unwrap();
    assert_eq!(store.counts().0, 0);
    assert!(std::fs::read(&path).unwrap() == model);
}

/// A hole that was copied would take room, and be longer than the disk.
#[test]
fn holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let pool = SpillPool::builder().memory(0).dir(dir.path()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 100]).unwrap();
    buffer.seek(SeekFrom::Start(1 << 40)).unwrap();
    buffer.write_all(&[2; 100]).unwrap();
    let file = buffer.persist(dir.path().join("target")).unwrap().durable().unwrap();
    let found = file.metadata().unwrap();
    assert_eq!(found.len(), (1 << 40) + 100);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        assert!(found.blocks() * 512 <= 1 << 20, "{} blocks", found.blocks());
    }
}

/// Another file system is none that the kernel copies to in any case.
#[test]
#[cfg(target_os = "linux")]
fn a_file_on_another_file_system_gets_the_content_and_gives_it() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let pool = SpillPool::builder().memory(8 * PAGE).page_size(PAGE).dir(here.path()).build().unwrap();
    let mut buffer = pool.buffer();
    let model = fill(&pool, &mut buffer);
    let mut file = buffer.persist(there.path().join("target")).unwrap().durable().unwrap();
    assert!(content_of(&mut file) == model);
    file.rewind().unwrap();
    let mut back = pool.buffer();
    assert_eq!(back.extend_from_file(&file).unwrap(), model.len() as u64);
    assert!(content_of(&mut back) == model);
}

/// A file with `len` bytes before its position, and `content` behind it.
fn file_of(before: usize, content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![0xEE; before]).unwrap();
    file.write_all(content).unwrap();
    file.seek(SeekFrom::Start(before as u64)).unwrap();
    file
}

/// Places to write at: the beginning, the end of a page, inside one, the end, past it.
const PLACES: [usize; 7] = [0, PAGE, 2 * PAGE - 1, 5 * PAGE + 1000, 12 * PAGE, 12 * PAGE + 17, 15 * PAGE + 3];

const LENGTHS: [usize; 6] = [0, 1, PAGE, 3 * PAGE + 700, 40 * PAGE, 40 * PAGE + 1];

#[test]
fn a_file_is_taken_in_from_its_position_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Told::new(dir.path());
    for memory in [0, PAGE, 6 * PAGE, 1 << 20] {
        for (place, len) in PLACES.iter().flat_map(|place| LENGTHS.map(|len| (*place, len))) {
            for (how, checksums) in [
                (How::Well, Checksums::Off),
                (How::Short(1000), Checksums::Off),
                (How::ShortThenNone(PAGE + 9), Checksums::Off),
                (How::Error(ErrorKind::Unsupported), Checksums::Off),
                (How::Interrupted, Checksums::Off),
                (How::Well, Checksums::On),
            ] {
                let case = format!("{len} bytes at {place}, {how:?}, {checksums:?}, memory {memory}");
                let pool = pool(&store, memory, checksums);
                let (mut buffer, mut model) = (pool.buffer(), pattern(2, 12 * PAGE));
                buffer.write_all(&model).unwrap();
                let content = pattern(5, len);
                let mut file = file_of(123, &content);
                store.set(how);
                buffer.seek(SeekFrom::Start(place as u64)).unwrap();
                let requested = buffer.stats().requested.written;
                assert_eq!(buffer.extend_from_file(&file).unwrap(), len as u64, "{case}");
                assert_eq!(buffer.position(), (place + len) as u64, "{case}");
                assert_eq!(file.stream_position().unwrap(), 123 + len as u64, "{case}");
                assert_eq!(buffer.stats().requested.written - requested, len as u64, "{case}");
                if len > 0 {
                    model.resize(model.len().max(place + len), 0);
                    model[place..][..len].copy_from_slice(&content);
                }
                buffer.check_invariants();
                assert!(content_of(&mut buffer) == model, "{case}");
                drop(buffer);
                pool.check_invariants();
                assert_eq!(pool.stats().disk_used, 0, "{case}");
            }
        }
    }
}

#[test]
fn every_answer_of_the_kernel_gives_the_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Told::new(dir.path());
    for how in HOWS {
        let pool = pool(&store, 2 * PAGE, Checksums::Off);
        let mut buffer = pool.buffer();
        let model = pattern(9, 300 * PAGE + 5);
        let file = file_of(0, &model);
        store.set(how);
        buffer.extend_from_file(&file).unwrap();
        let (copies, moved) = store.counts();
        if how == How::Well && HAS_WAY {
            assert!((1..10).contains(&copies) && moved <= 66 * KIB, "{copies} copies, {moved} bytes moved");
        }
        assert!(copies <= 1 || !refuses(how), "{how:?}: {copies} calls after a refusal");
        assert!(content_of(&mut buffer) == model, "{how:?}");
    }
}

/// A file that is to become one keeps each page in its place: so does what is taken in.
#[test]
fn a_buffer_with_a_file_of_its_own_takes_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, model) = (dir.path().join("target"), pattern(7, 50 * PAGE + 700));
    let pool = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).dir(dir.path()).build().unwrap();
    for target in [path.clone(), dir.path().join("another")] {
        let mut buffer = pool.buffer_for(&path);
        buffer.write_all(&[9; PAGE + 5]).unwrap();
        buffer.extend_from_file(&file_of(11, &model)).unwrap();
        buffer.check_invariants();
        let mut file = buffer.persist(&target).unwrap().durable().unwrap();
        assert!(content_of(&mut file) == [&[9; PAGE + 5][..], &model].concat());
    }
}

/// What fits in memory goes there, and nothing to the disk.
#[test]
fn a_file_that_fits_in_memory_is_read_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Told::new(dir.path());
    let pool = pool(&store, 1 << 20, Checksums::Off);
    for len in [1, 100, PAGE, 50 * PAGE + 1] {
        let (mut buffer, model) = (pool.buffer(), pattern(4, len));
        buffer.extend_from_file(&file_of(5, &model)).unwrap();
        assert_eq!((buffer.is_spilled(), store.counts()), (false, (0, 0)));
        let used = buffer.stats().memory_used as usize;
        assert!(used <= (len + len / 4).next_multiple_of(PAGE), "{used} bytes of memory for {len}");
        assert!(content_of(&mut buffer) == model);
    }
}

/// What the disk limit has let in stays, both positions say how much that is, and the call can be made again.
#[test]
fn a_refused_file_is_taken_in_as_far_as_there_was_room() {
    let dir = tempfile::tempdir().unwrap();
    for how in [How::Well, How::None] {
        let store = Told::new(dir.path());
        store.set(how);
        let builder = SpillPool::builder().memory(2 * PAGE).page_size(PAGE).disk(10 * PAGE as u64);
        let pool = builder.store(Arc::clone(&store)).build().unwrap();
        let (mut buffer, model) = (pool.buffer(), pattern(6, 30 * PAGE + 9));
        let mut file = file_of(77, &model);
        let refused = spill_error(buffer.extend_from_file(&file).unwrap_err());
        assert!(matches!(refused, SpillError::DiskLimit { .. }), "{refused}");
        let taken = buffer.position() as usize;
        assert_eq!((buffer.len(), file.stream_position().unwrap()), (taken as u64, 77 + taken as u64));
        assert!((10 * PAGE..=12 * PAGE).contains(&taken), "{taken} bytes, {how:?}");
        buffer.check_invariants();

        pool.set_disk_limit(1 << 20);
        assert_eq!(buffer.extend_from_file(&file).unwrap(), (model.len() - taken) as u64);
        assert!(content_of(&mut buffer) == model);
    }
}

/// As a write does, it waits where the pool says so, and goes on where it was.
#[test]
fn a_file_waits_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let builder = SpillPool::builder().memory(0).page_size(PAGE).disk(20 * PAGE as u64).dir(dir.path());
    let pool = builder.when_full(WhenFull::Wait { at_most: Duration::from_secs(60) }).build().unwrap();
    let mut other = pool.buffer();
    other.write_all(&[1; 12 * PAGE]).unwrap();
    let model = pattern(8, 18 * PAGE + 9);
    let file = file_of(0, &model);
    let (mut buffer, waiters) = (pool.buffer(), || pool.stats().waiters);
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| buffer.extend_from_file(&file).unwrap());
        while waiters() == 0 {
            std::thread::yield_now();
        }
        drop(other);
        assert_eq!(taking.join().unwrap(), model.len() as u64);
    });
    assert!(content_of(&mut buffer) == model);
    assert_eq!(pool.stats().waiters, 0);
}

/// A file that cannot be read is an error of its own, and neither position moves.
#[test]
fn a_file_that_cannot_be_read_says_so() {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, pattern(1, 5 * PAGE)).unwrap();
    let mut file = File::options().append(true).open(&path).unwrap();
    for memory in [0, 1 << 20] {
        let mut buffer = SpillBuffer::with_budget(memory);
        buffer.write_all(b"before").unwrap();
        let error = buffer.extend_from_file(&file).unwrap_err();
        assert!(SpillError::of(&error).is_none(), "{error}");
        assert_eq!((buffer.position(), buffer.len(), file.stream_position().unwrap()), (6, 6, 0));
        assert_eq!(content_of(&mut buffer), b"before");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    /// Files of the kernel have no length, and other ways to say so: it copies nothing of them.
    #[test]
    fn a_file_of_the_kernel_is_read_to_its_end() {
        let wanted = std::fs::read("/proc/self/auxv").unwrap();
        assert!(!wanted.is_empty());
        for memory in [0, 1 << 20] {
            let mut buffer = SpillBuffer::with_budget(memory);
            let file = File::open("/proc/self/auxv").unwrap();
            assert_eq!(buffer.extend_from_file(&file).unwrap(), wanted.len() as u64);
            assert_eq!(content_of(&mut buffer), wanted);
        }
    }

    /// Of a pipe, bytes that were read and then refused would be lost.
    #[test]
    fn a_pipe_has_no_position() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"unread").unwrap();
        drop(writer);
        let mut file = File::from(OwnedFd::from(reader));
        let error = SpillBuffer::new().extend_from_file(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSeekable);
        let mut left = String::new();
        file.read_to_string(&mut left).unwrap();
        assert_eq!(left, "unread");
    }

    /// Why no byte of a store leaves by `sendfile`, `splice` or `vmsplice`: what lies in a socket then is
    /// the page of the file itself. A slot that is free is used again, and the peer would read what
    /// another buffer wrote there.
    #[test]
    fn what_sendfile_has_sent_changes_with_the_file() {
        use std::os::unix::fs::FileExt;
        let file = file_of(0, &[b'a'; PAGE]);
        let (sending, mut receiving) = UnixStream::pair().unwrap();
        assert_eq!(rustix::fs::sendfile(&sending, &file, Some(&mut 0), PAGE).unwrap(), PAGE);
        file.write_all_at(&[b'b'; PAGE], 0).unwrap();
        let mut received = vec![0; PAGE];
        receiving.read_exact(&mut received).unwrap();
        assert!(received == [b'b'; PAGE], "if the kernel copies by now, the rule has lost its reason");
    }

    /// What the kernel has copied to a file does not change with the slot.
    #[test]
    fn what_was_persisted_stays_when_its_slots_are_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let pool = SpillPool::builder().memory(0).page_size(PAGE).dir(dir.path()).build().unwrap();
        let (mut buffer, model) = (pool.buffer(), pattern(3, 20 * PAGE));
        buffer.write_all(&model).unwrap();
        let mut file = buffer.persist(dir.path().join("target")).unwrap().durable().unwrap();
        let mut other = pool.buffer();
        other.write_all(&[0xEE; 40 * PAGE]).unwrap();
        assert!(content_of(&mut file) == model);
        file.rewind().unwrap();
        let mut back = pool.buffer();
        back.extend_from_file(&file).unwrap();
        file.set_len(0).unwrap();
        assert!(content_of(&mut back) == model);
    }
}
