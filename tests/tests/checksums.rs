//! Is what was changed in the store below us noticed, wherever and however it is read? An error then names
//! the place, nothing wrong is ever read, and everything beside it is as well as before.
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill::{Checksums, SpillBuffer, SpillError, SpillPool, Store};
use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

const KIB: usize = 1 << 10;
const BLOCK: usize = 4 * KIB;
const PAGE: usize = 16 * KIB;

/// A store in memory that others can get at.
#[derive(Clone, Debug, Default)]
struct Open {
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    bytes: Vec<u8>,
    /// Writes are taken, and forgotten.
    forgets: bool,
    /// Bytes that are still written; then it fails.
    room: Option<usize>,
    /// Where a byte was changed that nobody has written since.
    changed: Option<usize>,
}

impl Open {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    fn flip(&self, at: usize, bit: usize) {
        self.inside().bytes[at] ^= 1 << bit;
    }

    /// Where in the store byte `position` of `content` is, which was written in pages of `page` bytes.
    fn find(&self, content: &[u8], page: usize, position: usize) -> usize {
        let start = position / page * page;
        let content = &content[start..content.len().min(start + page)];
        let bytes = &self.inside().bytes;
        let slot = bytes.chunks(page).position(|slot| slot.starts_with(content)).expect("it was spilled");
        slot * page + (position - start)
    }
}

impl Store for Open {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = &self.inside().bytes;
        let from = (offset as usize).min(bytes.len());
        let n = buf.len().min(bytes.len() - from);
        buf[..n].copy_from_slice(&bytes[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        let (mut inside, at) = (self.inside(), offset as usize);
        let n = inside.room.map_or(data.len(), |room| room.min(data.len()));
        if n == 0 {
            return Err(io::Error::other("planned"));
        }
        inside.room = inside.room.map(|room| room - n);
        if inside.bytes.len() < at + n {
            inside.bytes.resize(at + n, 0);
        }
        inside.changed = inside.changed.filter(|changed| !(at..at + n).contains(changed));
        if !inside.forgets {
            inside.bytes[at..at + n].copy_from_slice(&data[..n]);
        }
        Ok(n)
    }
}

fn pool(memory: usize, page: usize, store: &Open) -> SpillPool {
    let builder = SpillPool::builder().memory(memory).page_size(page).store(store.clone());
    builder.checksums(Checksums::On).build().unwrap()
}

/// Bytes of which no two pages are alike.
fn content(len: usize) -> Vec<u8> {
    let mut random = Random(7);
    (0..len).map(|_| random.below(256) as u8).collect()
}

/// A buffer with all of `content` in its slots.
fn spilled(pool: &SpillPool, content: &[u8]) -> SpillBuffer {
    let mut buffer = pool.buffer();
    buffer.write_all(content).unwrap();
    buffer.spill().unwrap();
    buffer
}

/// The place of the bytes that are not what they were: in the content, and in the store.
fn place(error: io::Error) -> (Range<usize>, usize) {
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let error = error.downcast().expect("an error of a buffer holds a SpillError");
    let SpillError::Corrupted { position, offset, len, .. } = error else { panic!("{error}") };
    (position as usize..(position + len) as usize, offset as usize)
}

type ReadPath = fn(&mut SpillBuffer, usize) -> (Vec<u8>, io::Result<()>);

/// Reads with `read` until it gives nothing, or an error.
fn drain(mut read: impl FnMut(&mut Vec<u8>) -> io::Result<usize>) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    loop {
        match read(&mut all) {
            Ok(0) => return (all, Ok(())),
            Ok(_) => {}
            Err(error) => return (all, Err(error)),
        }
    }
}

fn read_pieces(buffer: &mut SpillBuffer, size: usize) -> (Vec<u8>, io::Result<()>) {
    let mut piece = vec![0; size];
    drain(|all| {
        let n = buffer.read(&mut piece)?;
        all.extend_from_slice(&piece[..n]);
        Ok(n)
    })
}

/// Everything there is from the position on, by all ways there are.
const READ_PATHS: [(&str, ReadPath); 6] = [
    ("in one piece", |buffer, len| read_pieces(buffer, len.max(1))),
    ("in small pieces", |buffer, len| read_pieces(buffer, 1 + len / 50)),
    ("in pieces that fit nothing", |buffer, len| read_pieces(buffer, 1 + len / 3)),
    ("to the end", |buffer, _| drain(|all| buffer.read_to_end(all))),
    ("lent", |buffer, _| {
        drain(|all| {
            let lent = buffer.fill_buf()?;
            all.extend_from_slice(lent);
            let n = lent.len();
            buffer.consume(n);
            Ok(n)
        })
    }),
    ("backwards", |buffer, _| {
        let mut all = vec![0; (buffer.len() - buffer.position()) as usize];
        let from = buffer.position();
        let mut at = all.len();
        while at > 0 {
            let n = at.min(1 + all.len() / 40);
            at -= n;
            buffer.seek(SeekFrom::Start(from + at as u64)).unwrap();
            if let Err(error) = buffer.read_exact(&mut all[at..at + n]) {
                return (Vec::new(), Err(error));
            }
        }
        (all, Ok(()))
    }),
];

/// Reads `buffer`, which should be `content`, by all ways, while byte `at` of the store is not what it was
/// and belongs to byte `position`. What is read must be right, and must not reach that byte.
fn notices(buffer: &mut SpillBuffer, content: &[u8], position: usize, at: usize) {
    for (name, read) in READ_PATHS {
        for start in [0, position / 2, position] {
            buffer.seek(SeekFrom::Start(start as u64)).unwrap();
            let (read, result) = read(buffer, content.len());
            assert!(content[start..].starts_with(&read), "{name} from {start}: wrong bytes");
            assert!(start + read.len() <= position, "{name} from {start}: the bytes themselves");
            let (found, offset) = place(result.expect_err(name));
            assert!(found.contains(&position), "{name}: {found:?} has not {position}");
            assert_eq!(offset + (position - found.start), at, "{name}: its place in the store");
        }
    }
}

fn is_well(buffer: &mut SpillBuffer, content: &[u8]) {
    for (name, read) in READ_PATHS {
        buffer.rewind().unwrap();
        let (read, result) = read(buffer, content.len());
        assert!(result.is_ok() && read == content, "{name}");
    }
    buffer.check_invariants();
}

// ---- what is noticed

#[test]
fn every_bit_of_a_small_page() {
    for memory in [0, 8] {
        let store = Open::default();
        let content = content(21); // the last page is short
        let mut buffer = spilled(&pool(memory, 8, &store), &content);
        for position in 0..content.len() {
            for bit in 0..8 {
                buffer.spill().unwrap();
                let at = store.find(&content, 8, position);
                store.flip(at, bit);
                notices(&mut buffer, &content, position, at);
                store.flip(at, bit);
            }
        }
        is_well(&mut buffer, &content);
    }
}

#[test]
fn a_byte_of_any_block_of_a_large_page() {
    for memory in [0, PAGE, 2 * PAGE] {
        let store = Open::default();
        let content = content(2 * PAGE + BLOCK + 77);
        let mut buffer = spilled(&pool(memory, PAGE, &store), &content);
        for position in (0..content.len()).step_by(1111).chain([content.len() - 1, PAGE - 1, PAGE, BLOCK]) {
            buffer.spill().unwrap();
            let at = store.find(&content, PAGE, position);
            store.flip(at, 3);
            notices(&mut buffer, &content, position, at);
            store.flip(at, 3);
        }
        is_well(&mut buffer, &content);
    }
}

#[test]
fn a_block_of_zeros_in_place_of_what_was_there() {
    let store = Open::default();
    let content = content(PAGE);
    let mut buffer = spilled(&pool(0, PAGE, &store), &content);
    store.inside().bytes[2 * BLOCK..3 * BLOCK].fill(0);
    buffer.seek(SeekFrom::Start(2 * BLOCK as u64 + 100)).unwrap();
    let (found, _) = place(buffer.read(&mut [0; 8]).unwrap_err());
    assert_eq!(found, 2 * BLOCK..3 * BLOCK);
}

#[test]
fn two_slots_that_changed_places() {
    let store = Open::default();
    let content = content(2 * PAGE);
    let mut buffer = spilled(&pool(0, PAGE, &store), &content);
    store.inside().bytes.rotate_left(PAGE);
    for page in [0, 1] {
        buffer.seek(SeekFrom::Start((page * PAGE) as u64)).unwrap();
        let (found, offset) = place(buffer.read(&mut [0; PAGE]).unwrap_err());
        assert_eq!((found.start, offset), (page * PAGE, page * PAGE));
    }
}

/// With a sum in the slot, the old one would be there beside the old bytes.
#[test]
fn a_write_that_the_store_forgot() {
    for memory in [0, PAGE] {
        let store = Open::default();
        let mut content = content(PAGE);
        let mut buffer = spilled(&pool(memory, PAGE, &store), &content);
        store.inside().forgets = true;
        buffer.seek(SeekFrom::Start(5000)).unwrap();
        buffer.write_all(&[9; 100]).unwrap();
        buffer.spill().unwrap();
        store.inside().forgets = false;
        content[5000..5100].fill(9);
        notices(&mut buffer, &content, 5000, 5000);
    }
}

#[test]
fn a_page_that_another_buffer_sent_away() {
    let store = Open::default();
    let pool = pool(4 * PAGE, PAGE, &store);
    let content = content(4 * PAGE);
    let mut idle = pool.buffer();
    idle.write_all(&content).unwrap();
    let mut busy = pool.buffer();
    for _ in 0..8 * PAGE / 64 {
        busy.write_all(&[5; 64]).unwrap();
    }
    assert!(idle.stats().spills > 0, "nobody took anything");
    idle.spill().unwrap();
    for page in 0..4 {
        let position = page * PAGE + BLOCK;
        let at = store.find(&content, PAGE, position);
        store.flip(at, 0);
        idle.seek(SeekFrom::Start(position as u64)).unwrap();
        assert_eq!(place(idle.read(&mut [0; 9]).unwrap_err()), (position..position + BLOCK, at));
        store.flip(at, 0);
    }
    is_well(&mut idle, &content);
}

#[test]
fn nothing_that_is_not_asked_for() {
    let store = Open::default();
    let content = content(PAGE);
    let builder = SpillPool::builder().memory(0).page_size(PAGE).store(store.clone());
    let mut buffer = spilled(&builder.build().unwrap(), &content);
    store.flip(0, 0);
    buffer.rewind().unwrap();
    let mut byte = [0];
    buffer.read_exact(&mut byte).unwrap();
    assert_eq!(byte[0], content[0] ^ 1, "without checksums, what the store gives is believed");
}

// ---- what comes after

#[test]
fn the_error_says_what_and_where_and_what_to_do() {
    let store = Open::default();
    let mut buffer = spilled(&pool(0, PAGE, &store), &content(3 * PAGE));
    store.flip(PAGE + 2 * BLOCK, 0);
    buffer.seek(SeekFrom::Start((PAGE + 2 * BLOCK) as u64 + 5)).unwrap();
    let error = buffer.read(&mut [0; 5]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "4096 bytes at position 24576 were changed in the store, at its offset 24576: \
         they do not have their checksum; overwrite or cut off all of them"
    );
    assert_eq!(buffer.position(), (PAGE + 2 * BLOCK) as u64 + 5, "nothing has moved");
}

#[test]
fn everything_beside_it_is_as_well_as_before() {
    for (memory, block) in [(0, 0), (PAGE, 0), (4 * PAGE, 0), (0, 1), (PAGE, 1), (4 * PAGE, 1)] {
        let store = Open::default();
        let mut content = content(3 * PAGE);
        let mut buffer = spilled(&pool(memory, PAGE, &store), &content);
        let bad = PAGE + block * BLOCK..PAGE + (block + 1) * BLOCK;
        store.flip(store.find(&content, PAGE, bad.start + 9), 7);
        for round in 0..20u8 {
            for at in (0..3 * PAGE - 50).step_by(777).filter(|at| at + 50 <= bad.start || *at >= bad.end) {
                let mut part = [0; 50];
                buffer.seek(SeekFrom::Start(at as u64)).unwrap();
                buffer.read_exact(&mut part).unwrap();
                assert_eq!(part[..], content[at..at + 50]);
                buffer.seek(SeekFrom::Start(at as u64)).unwrap();
                buffer.write_all(&[round; 50]).unwrap();
                content[at..at + 50].fill(round);
            }
        }
        buffer.check_invariants();
        buffer.seek(SeekFrom::Start(bad.start as u64)).unwrap();
        assert_eq!(place(buffer.read(&mut [0; 1]).unwrap_err()).0, bad);
    }
}

/// The new sum would vouch for bytes that nobody has looked at.
#[test]
fn a_write_of_a_part_is_refused_and_one_of_the_whole_heals() {
    for memory in [0, PAGE] {
        let store = Open::default();
        let mut content = content(2 * PAGE);
        let mut buffer = spilled(&pool(memory, PAGE, &store), &content);
        store.flip(store.find(&content, PAGE, BLOCK + 10), 0);
        for (at, len) in [(BLOCK, 100), (BLOCK + 10, 1), (2 * BLOCK - 1, 1), (BLOCK + 1, BLOCK)] {
            buffer.seek(SeekFrom::Start(at as u64)).unwrap();
            assert_eq!(place(buffer.write(&vec![1; len]).unwrap_err()).0, BLOCK..2 * BLOCK);
            assert_eq!(buffer.position(), at as u64);
        }
        // What lies before it is taken.
        buffer.seek(SeekFrom::Start(100)).unwrap();
        assert_eq!(buffer.write(&[1; BLOCK]).unwrap(), BLOCK - 100);
        content[100..BLOCK].fill(1);

        buffer.seek(SeekFrom::Start(BLOCK as u64)).unwrap();
        buffer.write_all(&[2; BLOCK]).unwrap();
        content[BLOCK..2 * BLOCK].fill(2);
        is_well(&mut buffer, &content);
        buffer.spill().unwrap();
        is_well(&mut buffer, &content);
    }
}

#[test]
fn cutting_it_off_heals() {
    let store = Open::default();
    let mut content = content(2 * PAGE);
    let mut buffer = spilled(&pool(0, PAGE, &store), &content);
    store.flip(PAGE + BLOCK + 10, 0);
    buffer.set_len((PAGE + BLOCK) as u64).unwrap();
    content.truncate(PAGE + BLOCK);
    is_well(&mut buffer, &content);
    buffer.set_len(2 * PAGE as u64).unwrap();
    content.resize(2 * PAGE, 0);
    is_well(&mut buffer, &content);
    buffer.seek(SeekFrom::Start(PAGE as u64 + 9000)).unwrap();
    buffer.write_all(b"behind a gap").unwrap();
    content[PAGE + 9000..PAGE + 9012].copy_from_slice(b"behind a gap");
    is_well(&mut buffer, &content);
    buffer.clear();
    is_well(&mut buffer, b"");
}

/// Sums are noted a few at a time. What is noted together was believed to end where a block does; a write that
/// began within a block shifted all that came after it.
#[test]
fn a_long_write_into_a_page_with_many_blocks() {
    const LARGE: usize = 256 * KIB;
    for range in [100..LARGE - 100, 0..LARGE - 1, BLOCK - 1..40 * BLOCK + 1, 5..LARGE] {
        let store = Open::default();
        let mut content = content(LARGE);
        let mut buffer = spilled(&pool(0, LARGE, &store), &content);
        buffer.seek(SeekFrom::Start(range.start as u64)).unwrap();
        buffer.write_all(&content[..range.len()]).unwrap();
        content.copy_within(..range.len(), range.start);
        is_well(&mut buffer, &content);
    }
}

/// A page that is cut within a block keeps that block's sum, which covers what was cut off.
#[test]
fn a_page_that_was_cut_is_still_checked() {
    for cut in [1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
        for grow in [0, 1, 300, 2 * BLOCK] {
            let store = Open::default();
            let mut content = content(PAGE);
            let mut buffer = spilled(&pool(0, PAGE, &store), &content);
            buffer.set_len(cut as u64).unwrap();
            content.truncate(cut);
            is_well(&mut buffer, &content);
            let end = (cut + grow).min(PAGE - 1);
            buffer.seek(SeekFrom::Start(end as u64)).unwrap();
            buffer.write_all(b"x").unwrap();
            content.resize(end, 0);
            content.push(b'x');
            is_well(&mut buffer, &content);
            for position in [0, cut - 1, end] {
                store.flip(position, 1);
                notices(&mut buffer, &content, position, position);
                store.flip(position, 1);
            }
        }
    }
}

/// A small page outgrows its slot, and is copied to a larger one: what was bad stays bad, and is not in the
/// way of the write.
#[test]
fn what_was_bad_does_not_become_good_by_being_moved() {
    for bad in [7, BLOCK + 7] {
        let store = Open::default();
        let mut content = content(2 * BLOCK);
        let pool = pool(PAGE, PAGE, &store);
        let mut buffer = spilled(&pool, &content);
        assert_eq!(buffer.stats().disk_used, 2 * BLOCK as u64);
        pool.set_memory_limit(0);
        store.flip(bad, 0);
        buffer.seek(SeekFrom::Start(3 * BLOCK as u64)).unwrap();
        buffer.write_all(b"far").unwrap();
        assert_eq!(buffer.stats().disk_used, PAGE as u64, "it was moved");
        content.resize(3 * BLOCK, 0);
        content.extend(b"far");
        let at = buffer_place(&mut buffer, bad);
        notices(&mut buffer, &content, bad, at);
        store.flip(at, 0);
        is_well(&mut buffer, &content);
    }
}

/// What was cut off moves too: a sum covers it.
#[test]
fn a_page_that_was_cut_can_be_moved() {
    let store = Open::default();
    let mut content = content(2 * BLOCK);
    let pool = pool(PAGE, PAGE, &store);
    let mut buffer = spilled(&pool, &content);
    pool.set_memory_limit(0);
    buffer.set_len(BLOCK as u64 + 100).unwrap();
    content.truncate(BLOCK + 100);
    buffer.seek(SeekFrom::Start(3 * BLOCK as u64)).unwrap();
    buffer.write_all(b"far").unwrap();
    assert_eq!(buffer.stats().disk_used, PAGE as u64, "it was moved");
    content.resize(3 * BLOCK, 0);
    content.extend(b"far");
    is_well(&mut buffer, &content);
}

/// Where in the store byte `position` is, which is bad.
fn buffer_place(buffer: &mut SpillBuffer, position: usize) -> usize {
    buffer.seek(SeekFrom::Start(position as u64)).unwrap();
    let (found, offset) = place(buffer.read(&mut [0; 1]).unwrap_err());
    offset + (position - found.start)
}

/// Store and buffer agree on what was written, wherever a write stops: what was there before is still read,
/// and what can be checked still is.
#[test]
fn a_write_that_stops_half_way_loses_nothing() {
    let ranges =
        [0..PAGE, 10..2 * PAGE, 100..200, 5000..PAGE, BLOCK..2 * BLOCK, 3000..9000, PAGE - 1..PAGE + 1];
    for old in [0, 300, PAGE - 7, 2 * PAGE] {
        for range in ranges.clone() {
            for room in [0, 1, 99, 1000, BLOCK - 100, BLOCK, BLOCK + 1, 7000, PAGE, PAGE + 50] {
                let store = Open::default();
                let mut content = content(old);
                let mut buffer = spilled(&pool(0, PAGE, &store), &content);
                store.inside().room = Some(room);
                buffer.seek(SeekFrom::Start(range.start as u64)).unwrap();
                let written = buffer.write(&vec![1; range.len()]).unwrap_or(0);
                store.inside().room = None;
                if written > 0 {
                    content.resize(content.len().max(range.start + written), 0);
                    content[range.start..range.start + written].fill(1);
                }
                is_well(&mut buffer, &content);
                // And then all of it.
                buffer.seek(SeekFrom::Start(range.start as u64)).unwrap();
                buffer.write_all(&vec![2; range.len()]).unwrap();
                content.resize(content.len().max(range.end), 0);
                content[range.clone()].fill(2);
                is_well(&mut buffer, &content);
                for position in [range.start, range.end - 1, content.len() - 1] {
                    store.flip(position, 1);
                    notices(&mut buffer, &content, position, position);
                    store.flip(position, 1);
                }
            }
        }
    }
}

// ---- handing over

#[test]
fn what_is_bad_is_not_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    let store = Open::default();
    let content = content(3 * PAGE);
    let mut buffer = spilled(&pool(PAGE, PAGE, &store), &content);
    let at = store.find(&content, PAGE, PAGE + 1);
    store.flip(at, 0);
    let failed = buffer.into_file().unwrap_err();
    assert!(matches!(failed.error(), SpillError::Corrupted { position, .. } if *position == PAGE as u64));
    let failed = failed.into_buffer().persist(&path).unwrap_err();
    assert!(matches!(failed.error(), SpillError::Corrupted { position, .. } if *position == PAGE as u64));
    assert!(!path.exists());
    buffer = failed.into_buffer();
    store.flip(at, 0);
    is_well(&mut buffer, &content);
    buffer.persist(&path).unwrap();
    assert!(std::fs::read(&path).unwrap() == content);
}

/// The file is given a name as it lies there: nothing is copied, and so nothing would be read.
#[cfg(target_os = "linux")]
mod beside {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    /// The one unnamed file in `dir` that this process has open, for another hand to write to.
    fn unnamed_in(dir: &Path) -> File {
        let ours = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(dir))
        };
        let mut found = std::fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap).filter(ours);
        let path = found.next().expect("the buffer's file is open").path();
        File::options().read(true).write(true).open(path).unwrap()
    }

    fn flip(file: &File, at: u64) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    fn beside(path: &Path, memory: usize) -> SpillBuffer {
        let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(Checksums::On);
        builder.build().unwrap().buffer_for(path)
    }

    #[test]
    fn a_file_that_was_changed_is_not_given_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("content");
        for memory in [0, PAGE] {
            let content = content(3 * PAGE + 100);
            let mut buffer = beside(&path, memory);
            buffer.write_all(&content).unwrap();
            buffer.spill().unwrap();
            let file = unnamed_in(dir.path());
            for position in [0, PAGE + BLOCK, 3 * PAGE + 99] {
                flip(&file, position as u64);
                notices(&mut buffer, &content, position, position);
                let failed = buffer.persist(&path).unwrap_err();
                let SpillError::Corrupted { position: found, len, .. } = *failed.error() else {
                    panic!("{}", failed.error())
                };
                assert!((found..found + len).contains(&(position as u64)));
                assert!(!path.exists());
                buffer = failed.into_buffer();
                flip(&file, position as u64);
            }
            is_well(&mut buffer, &content);
            buffer.persist(&path).unwrap();
            assert!(std::fs::read(&path).unwrap() == content);
            std::fs::remove_file(&path).unwrap();
        }
    }

    /// On the way to a name, what the file has behind the content of its pages is cleared; the sum of a page
    /// that was cut covers some of that.
    #[test]
    fn a_buffer_that_comes_back_from_its_target_is_well() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("folder");
        std::fs::create_dir(&target).unwrap();
        let mut content = content(2 * PAGE);
        let mut buffer = beside(&target, 0);
        buffer.write_all(&content).unwrap();
        buffer.set_len(PAGE as u64 + 5000).unwrap();
        content.truncate(PAGE + 5000);
        let failed = buffer.persist(&target).unwrap_err();
        assert!(matches!(failed.error(), SpillError::Target { .. }));
        buffer = failed.into_buffer();
        is_well(&mut buffer, &content);
        let path = dir.path().join("content");
        buffer.persist(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == content);
    }
}

// ---- anything, in any order

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}

/// Writes and cuts anywhere, with a byte of the store changed during each read: whatever is read is right.
#[test]
fn nothing_wrong_is_read_whatever_was_done_before() {
    for seed in 1..40 {
        let mut random = Random(seed);
        let store = Open::default();
        let page = [8, BLOCK, PAGE][random.below(3)];
        let memory = [0, 1, 3][random.below(3)] * page;
        let mut buffer = pool(memory, page, &store).buffer();
        let mut content = Vec::new();
        for _ in 0..120 {
            let at = random.below(4 * page);
            let most = [20, page, 3 * page][random.below(3)];
            let len = 1 + random.below(most);
            match random.below(8) {
                0..4 => {
                    buffer.seek(SeekFrom::Start(at as u64)).unwrap();
                    buffer.write_all(&vec![seed as u8 ^ len as u8; len]).unwrap();
                    content.resize(content.len().max(at + len), 0);
                    content[at..at + len].fill(seed as u8 ^ len as u8);
                }
                4 => {
                    buffer.set_len(at as u64).unwrap();
                    content.resize(at, 0);
                }
                5 => buffer.spill().unwrap(),
                _ => {
                    let held = store.inside().bytes.len();
                    let flipped = (held > 0).then(|| random.below(held));
                    flipped.inspect(|&at| store.flip(at, 5));
                    store.inside().changed = flipped;
                    let start = at.min(content.len());
                    buffer.seek(SeekFrom::Start(start as u64)).unwrap();
                    let (read, result) = READ_PATHS[random.below(READ_PATHS.len())].1(&mut buffer, len);
                    assert!(content[start..].starts_with(&read), "seed {seed}: wrong bytes");
                    match result {
                        Ok(()) => assert_eq!(start + read.len(), content.len(), "seed {seed}"),
                        Err(error) => drop(place(error)),
                    }
                    // A read may send another page to that place.
                    let left = store.inside().changed.take();
                    left.inspect(|&at| store.flip(at, 5));
                }
            }
            buffer.check_invariants();
        }
        is_well(&mut buffer, &content);
    }
}
