//! Passes downwards, as where a log is read from its end on, or a file is filled from there: each moves its
//! bytes once, in calls as long as those of a pass upwards.
#![allow(missing_docs)]

use overspill::{Checksums, IoCounts, MemoryStore, SpillBuffer, SpillPool};
use std::io::{Read, Seek, SeekFrom, Write};

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
