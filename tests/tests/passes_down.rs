//! Passes downwards, as where a log is read from its end on, or a file is filled from there: each moves its
//! bytes once, in calls as long as those of a pass upwards.
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "small sizes")]

use overspill::{Checksums, IoCounts, MemoryStore, SpillBuffer, SpillPool, Store};
use overspill_tests::support::Random;
use std::io::{self, Read, Seek, SeekFrom, Write};

const LEN: u64 = 8 << 20;

fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

fn content(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(byte_at).collect()
}

/// A pool, whose pages have a sixteenth of its memory, 64 KiB at most.
#[derive(Clone, Copy, Debug)]
struct Config {
    memory: usize,
    checksums: Checksums,
    piece: usize,
}

impl Config {
    fn pool(self) -> SpillPool {
        let builder = SpillPool::builder().memory(self.memory).checksums(self.checksums);
        builder.store(MemoryStore::new()).build().unwrap()
    }

    /// A buffer with content far over budget.
    fn filled(self, pool: &SpillPool) -> SpillBuffer {
        let mut buffer = pool.buffer();
        (0..LEN).step_by(1 << 16).for_each(|at| buffer.write_all(&content(at, 1 << 16)).unwrap());
        buffer
    }

    /// Where the pieces begin, from the last whole one down.
    fn offsets(self) -> impl Iterator<Item = u64> {
        let piece = self.piece as u64;
        (0..LEN / piece).rev().map(move |number| number * piece)
    }

    /// `without` checksums, or as much as that and the content once more: a block that two pieces, or two
    /// pages' windows, have a part of is read for both.
    fn hundredths(self, without: u64) -> u64 {
        if self.checksums == Checksums::On { without + 100 } else { without }
    }

    /// Checks what was moved to and from the store: at most so many hundredths of the content, in at most so
    /// many calls for each page.
    fn check(self, what: &str, pool: &SpillPool, before: &IoCounts, hundredths: u64, calls: u64) {
        let io = pool.stats().io.since(before);
        let (moved, made) = (io.read_bytes + io.written_bytes, io.reads + io.writes);
        assert!(moved <= LEN / 100 * hundredths, "{what}, {self:?}: {moved} bytes for {LEN}");
        let pages = LEN / (self.memory as u64 / 16);
        assert!(made <= calls * pages + 100, "{what}, {self:?}: {made} calls for {pages} pages");
    }
}

fn all() -> impl Iterator<Item = Config> {
    let memories = [64 << 10, 256 << 10, 1 << 20].into_iter();
    memories.flat_map(|memory| {
        [Checksums::Off, Checksums::On].into_iter().flat_map(move |checksums| {
            // Two pieces at least in half a page.
            let pieces = [100, 1000, 1024, 4096, 8192].into_iter().filter(move |piece| piece * 64 <= memory);
            pieces.map(move |piece| Config { memory, checksums, piece })
        })
    })
}

/// By pieces that a reader's window serves, in a pass upwards as well.
fn windowed() -> impl Iterator<Item = Config> {
    all().filter(|config| config.piece <= 4096)
}

/// Each piece was a call of the store: 8,400 by 1,000 bytes. With checksums it read blocks of 4 KiB, 4.5
/// bytes for one.
#[test]
fn a_pass_down_reads_each_byte_once() {
    for config in all() {
        let (pool, mut piece) = (config.pool(), vec![0; config.piece]);
        let mut buffer = config.filled(&pool);
        let before = pool.stats().io;
        for at in config.offsets() {
            buffer.read_exact_at(&mut piece, at).unwrap();
            assert_eq!(piece, content(at, config.piece), "{config:?} at {at}");
        }
        let calls = if config.checksums == Checksums::On { 2 } else { 1 };
        config.check("a buffer", &pool, &before, config.hundredths(104), calls);
        buffer.check_invariants();
    }
}

/// What a pass comes through was taken for what it leaves: it went through all the memory, and found nothing
/// there the next time.
#[test]
fn a_pass_down_leaves_the_other_pages_in_memory() {
    for piece in [100, 1000, 4096] {
        let config = Config { memory: 4 << 20, checksums: Checksums::Off, piece };
        let (pool, mut found) = (config.pool(), vec![0; piece]);
        let mut buffer = config.filled(&pool);
        for pass in 0..2 {
            let before = pool.stats().io;
            for at in config.offsets() {
                buffer.read_exact_at(&mut found, at).unwrap();
                assert_eq!(found, content(at, piece), "{at}");
            }
            let read = pool.stats().io.since(&before).read_bytes;
            assert!(
                read <= LEN / 100 * 55,
                "pass {pass} by {piece}: {read} bytes, though half was in memory"
            );
        }
    }
}

/// A reader's window went up from each piece, or was none: 4 bytes for one with checksums.
#[test]
fn a_reader_goes_down_as_it_goes_up() {
    for config in windowed() {
        let (pool, mut piece) = (config.pool(), vec![0; config.piece]);
        let frozen = config.filled(&pool).freeze();
        let mut reader = frozen.reader();
        let before = pool.stats().io;
        for at in config.offsets() {
            reader.seek(SeekFrom::Start(at)).unwrap();
            reader.read_exact(&mut piece).unwrap();
            assert_eq!(piece, content(at, config.piece), "{config:?} at {at}");
        }
        config.check("a reader", &pool, &before, config.hundredths(115), 5);
        frozen.check_invariants();
    }
}

/// What clones share was read by 16 KiB for each piece, or by the piece.
#[test]
fn a_clone_goes_down_as_it_goes_up() {
    for config in windowed() {
        let (pool, mut piece) = (config.pool(), vec![0; config.piece]);
        let mut buffer = config.filled(&pool);
        let mut clone = buffer.try_clone().unwrap();
        let before = pool.stats().io;
        for at in config.offsets() {
            clone.read_exact_at(&mut piece, at).unwrap();
            assert_eq!(piece, content(at, config.piece), "{config:?} at {at}");
        }
        config.check("a clone", &pool, &before, config.hundredths(115), 10);
        clone.check_invariants();
        buffer.check_invariants();
    }
}

/// The first piece of each page went to the store with zeros around it, the next few went there by
/// themselves, and then the page was loaded, to be written once more: 3.8 bytes for one.
#[test]
fn what_is_filled_from_its_end_is_written_once() {
    for config in all() {
        let pool = config.pool();
        let mut buffer = pool.buffer();
        buffer.set_len(LEN).unwrap();
        let before = pool.stats().io;
        for at in config.offsets() {
            buffer.write_all_at(&content(at, config.piece), at).unwrap();
        }
        config.check("a new buffer", &pool, &before, 101, 1);
        buffer.check_invariants();
        let end = LEN / config.piece as u64 * config.piece as u64;
        let mut read = Vec::new();
        buffer.rewind().unwrap();
        buffer.read_to_end(&mut read).unwrap();
        assert!(read.iter().zip(0..).all(|(byte, at)| *byte == if at < end { byte_at(at) } else { 0 }));
    }
}

/// Each page is read and written.
#[test]
fn what_is_overwritten_downwards_is_moved_twice() {
    for config in all() {
        let (pool, new) = (config.pool(), vec![255; config.piece]);
        let mut buffer = config.filled(&pool);
        let before = pool.stats().io;
        config.offsets().for_each(|at| buffer.write_all_at(&new, at).unwrap());
        config.check("an old buffer", &pool, &before, config.hundredths(201), 3);
        buffer.check_invariants();
        let mut read = Vec::new();
        buffer.rewind().unwrap();
        buffer.read_to_end(&mut read).unwrap();
        let end = LEN / config.piece as u64 * config.piece as u64;
        assert!((0..).zip(&read).all(|(at, byte)| *byte == if at < end { 255 } else { byte_at(at) }));
    }
}

/// Three of them loaded a page, as they do upwards: 166 bytes for one, and 330 in writes.
#[test]
fn a_record_of_a_few_pieces_is_no_pass_down() {
    for memory in [256 << 10, 1 << 20] {
        let config = Config { memory, checksums: Checksums::Off, piece: 100 };
        let pool = config.pool();
        let mut buffer = config.filled(&pool);
        let frozen = config.filled(&pool).freeze();
        let mut reader = frozen.reader();
        let mut piece = vec![0; config.piece];
        let check = |what: &str, run: &mut dyn FnMut(u64)| {
            let (mut random, before) = (Random::new(3), pool.stats().io);
            for _ in 0..1000 {
                let at = random.below(LEN - 300);
                [200, 100, 0].into_iter().for_each(|part| run(at + part));
            }
            let io = pool.stats().io.since(&before);
            let moved = io.read_bytes + io.written_bytes;
            assert!(moved <= 8 * 300_000, "{what} in {memory}: {moved} bytes for 300,000");
        };
        check("a reader", &mut |at| {
            reader.seek(SeekFrom::Start(at)).unwrap();
            reader.read_exact(&mut piece).unwrap();
            assert_eq!(piece, content(at, 100), "{at}");
        });
        check("a buffer", &mut |at| {
            buffer.read_exact_at(&mut piece, at).unwrap();
            assert_eq!(piece, content(at, 100), "{at}");
        });
        check("writes", &mut |at| buffer.write_all_at(&content(at, 100), at).unwrap());
        buffer.check_invariants();
    }
}

/// A store of which the byte at this offset is another each time that it is read.
#[derive(Debug)]
struct Flipped(MemoryStore, u64);

impl Store for Flipped {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(offset, buf)?;
        if let Some(byte) = self.1.checked_sub(offset).and_then(|at| buf[..read].get_mut(at as usize)) {
            *byte ^= 1;
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.0.write_at(offset, data)
    }
}

/// A window that began in it, for what lay behind it, failed the read of that.
#[test]
fn a_bad_block_below_is_no_error_of_what_is_read() {
    (0..16).for_each(|block| look_beside_a_bad_block((64 << 10) + block * 4096));
}

fn look_beside_a_bad_block(bad: u64) {
    // Each page where it is in the content.
    let filled = || {
        let builder = SpillPool::builder().memory(0).page_size(64 << 10).checksums(Checksums::On);
        let pool = builder.store(Flipped(MemoryStore::new(), bad + 5)).build().unwrap();
        let mut buffer = pool.buffer();
        (0..LEN / 16).step_by(1 << 16).for_each(|at| buffer.write_all(&content(at, 1 << 16)).unwrap());
        pool.set_memory_limit(1 << 20);
        buffer
    };
    let check = |what: &str, read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>| {
        let mut piece = [0; 1000];
        for at in (64..129).rev().map(|piece| piece * 1000 + 1536) {
            let is_bad = at < bad + 4096 && at + 1000 > bad;
            let done = read(at, &mut piece);
            assert_eq!(done.is_err(), is_bad, "{what} at {at}, {bad} is bad: {done:?}");
            assert!(is_bad || piece[..] == content(at, 1000), "{what} at {at}, {bad} is bad");
        }
    };
    let frozen = filled().freeze();
    let mut reader = frozen.reader();
    check("a reader", &mut |at, piece| {
        reader.seek(SeekFrom::Start(at))?;
        reader.read_exact(piece)
    });
    let mut buffer = filled();
    let mut clone = buffer.try_clone().unwrap();
    check("a clone", &mut |at, piece| clone.read_exact_at(piece, at));
    let mut buffer = filled();
    check("a buffer", &mut |at, piece| buffer.read_exact_at(piece, at));
}

/// One step down is no pass: the page below, or the window, was loaded for each pair, 6.8 bytes for one.
#[test]
fn swapped_neighbours_are_no_pass_down() {
    for config in windowed() {
        let (pool, mut piece) = (config.pool(), vec![0; config.piece]);
        let frozen = config.filled(&pool).freeze();
        let mut reader = frozen.reader();
        let before = pool.stats().io;
        for pair in 0..LEN / (2 * config.piece as u64) {
            for number in [2 * pair + 1, 2 * pair] {
                reader.seek(SeekFrom::Start(number * config.piece as u64)).unwrap();
                reader.read_exact(&mut piece).unwrap();
                assert_eq!(piece, content(number * config.piece as u64, config.piece), "{config:?} {number}");
            }
        }
        config.check("pairs", &pool, &before, config.hundredths(130), 5);
    }
}
