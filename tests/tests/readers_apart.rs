//! Readers of one content that are at different places of it: what each moves to and from the store, and in
//! how many calls. None of them finds what another has read.
#![allow(missing_docs)]

use overspill::{Frozen, IoCounts, MemoryStore, SpillPool};
use overspill_tests::support::Random;
use std::io::{Read, Seek, SeekFrom, Write};

const LEN: u64 = 8 << 20;

fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).store(MemoryStore::new()).build().unwrap()
}

/// Content of 8 MiB, in chunks of 64 KiB.
fn write(mut to: impl Write) {
    let chunk = |at: u64| (at..at + (64 << 10)).map(byte_at).collect::<Vec<u8>>();
    (0..LEN).step_by(64 << 10).for_each(|at| to.write_all(&chunk(at)).unwrap());
}

fn frozen(pool: &SpillPool) -> Frozen {
    let mut buffer = pool.buffer();
    write(&mut buffer);
    buffer.freeze()
}

/// What `reads` reads at random places move, each of `len` bytes: for each byte that they ask for.
fn at_random(pool: &SpillPool, reads: usize, len: usize, mut read: impl FnMut(u64, usize) -> Vec<u8>) -> f64 {
    let mut random = Random::new(7);
    let mut some = |count: usize| {
        let before = pool.stats().io;
        for _ in 0..count {
            let at = random.below(LEN - len as u64);
            let bytes = read(at, len);
            assert!(bytes.len() == len && (at..).zip(&bytes).all(|(at, byte)| *byte == byte_at(at)), "{at}");
        }
        moved(&pool.stats().io.since(&before)) as f64 / (count * len) as f64
    };
    some(reads / 4); // pages get frames until it is known that no other reader comes to them
    some(reads)
}

fn moved(io: &IoCounts) -> u64 {
    io.read_bytes + io.written_bytes
}

/// Each eighth visit to a page, and each sixteenth read that missed, loaded a page of 64 KiB, whatever page
/// had to leave for it: 118 bytes for one. A reader that stood still was enough for it.
#[test]
fn small_reads_at_random_load_no_pages() {
    let pool = pool(1 << 20);
    let shared = frozen(&pool);
    let by_handle = at_random(&pool, 10_000, 100, |at, len| {
        let mut bytes = vec![0; len];
        shared.read_exact_at(&mut bytes, at).unwrap();
        bytes
    });
    let (mut reader, idle) = (shared.reader(), shared.reader());
    let by_reader = at_random(&pool, 10_000, 100, |at, len| {
        let mut bytes = vec![0; len];
        reader.seek(SeekFrom::Start(at)).unwrap();
        reader.read_exact(&mut bytes).unwrap();
        bytes
    });
    let (mut writer, mut follower) = pool.spool();
    write(&mut writer);
    let beside = follower.clone();
    let by_follower = at_random(&pool, 10_000, 100, |at, len| {
        let mut bytes = vec![0; len];
        follower.seek(SeekFrom::Start(at)).unwrap();
        follower.read_exact(&mut bytes).unwrap();
        bytes
    });
    drop((idle, beside));
    let all = [by_handle, by_reader, by_follower];
    assert!(all.iter().all(|moved| *moved < 1.5), "{all:?}");
}

/// A page that several readers come to often gets a frame all the same: nine of ten reads go to a quarter of
/// what fits.
#[test]
fn pages_that_are_read_often_are_in_memory() {
    let pool = pool(4 << 20);
    let (shared, mut random) = (frozen(&pool), Random::new(7));
    let _idle = shared.reader();
    let before = pool.stats().io;
    let mut piece = [0; 1000];
    for _ in 0..20_000 {
        let within = if random.below(10) == 0 { LEN } else { 1 << 20 };
        let at = random.below(within - 1000) + LEN - within;
        shared.read_exact_at(&mut piece, at).unwrap();
        assert_eq!((piece[0], piece[999]), (byte_at(at), byte_at(at + 999)));
    }
    let io = pool.stats().io.since(&before);
    assert!(io.reads < 4000 && moved(&io) < 30_000_000, "{io:?}"); // of 20,000 and 20 MB
}

/// The page was loaded to be lent, and then was not, since little of it was asked for or enough was lent: 575
/// bytes for one of 100, 11 for one of 5,000.
#[test]
fn what_is_not_lent_is_not_loaded() {
    let pool = pool(1 << 20);
    let shared = frozen(&pool);
    for (len, most) in [(100, 1.5), (1000, 1.5), (5000, 1.5), (20_000, 3.0)] {
        let moved =
            at_random(&pool, 1_000_000 / len, len, |at, len| shared.bytes_at(at, len).unwrap().to_vec());
        assert!(moved < most, "{len}: {moved}");
    }
}

/// A reader that filled its own window again did not count as one that needs memory. So with fifty of them
/// the share seemed to be large, a few got no window at all, and each of their reads was a call of the store:
/// 188,000 for 21,600, and 17 bytes for one.
#[test]
fn readers_that_follow_each_other_have_a_window_each() {
    for (memory, count, lag) in [(1 << 20, 50, 20 << 10), (1 << 20, 64, 20 << 10), (256 << 10, 50, 1 << 10)] {
        let pool = pool(memory);
        let shared = frozen(&pool);
        let mut readers: Vec<_> = (0..count).map(|_| shared.reader()).collect();
        for (number, reader) in readers.iter_mut().enumerate() {
            reader.seek(SeekFrom::Start(number as u64 * lag)).unwrap();
        }
        let (before, each) = (pool.stats().io, 1 << 20);
        let mut piece = [0; 100];
        for _ in 0..each / piece.len() {
            for reader in &mut readers {
                let at = reader.position();
                reader.read_exact(&mut piece).unwrap();
                assert_eq!((piece[0], piece[99]), (byte_at(at), byte_at(at + 99)));
            }
        }
        let io = pool.stats().io.since(&before);
        let (asked, window) = (count * each, memory as u64 / count as u64 / 4);
        assert!(moved(&io) as f64 <= 1.2 * asked as f64, "{count} in {memory}: {} of {asked}", moved(&io));
        assert!(io.reads <= asked as u64 / window, "{count} in {memory}: {} calls", io.reads);
    }
}

/// Memory of an idle buffer went to nobody, once some pages had been loaded that no second reader came to:
/// the content stayed at 32 pages, and each read was a call.
#[test]
fn pages_that_are_read_often_get_the_memory_of_an_idle_buffer() {
    let pool = pool(16 << 20);
    let mut buffer = pool.buffer();
    write(&mut buffer);
    buffer.spill().unwrap();
    let (shared, mut random) = (buffer.freeze(), Random::new(7));
    let mut idle = pool.buffer();
    (0..256).for_each(|_| idle.write_all(&[7; 64 << 10]).unwrap());
    let (mut reader, _still) = (shared.reader(), shared.reader());
    let mut piece = [0; 100];
    let mut calls = || {
        let before = pool.stats().io.reads;
        for _ in 0..50_000 {
            let at = random.below(LEN - 100);
            reader.seek(SeekFrom::Start(at)).unwrap();
            reader.read_exact(&mut piece).unwrap();
            assert_eq!((piece[0], piece[99]), (byte_at(at), byte_at(at + 99)));
        }
        pool.stats().io.reads - before
    };
    let (first, second) = (calls(), calls());
    assert!(second <= 500, "{first} calls for 50,000 reads, and {second} for as many more");
}

/// Pieces that were too small to be lent were a call each, also where they came one after another.
#[test]
fn small_pieces_in_turn_are_copied_from_pages_in_memory() {
    let pool = pool(4 << 20);
    let shared = frozen(&pool);
    let before = pool.stats().io;
    for at in (0..LEN).step_by(8 << 10) {
        let bytes = shared.bytes_at(at, 8 << 10).unwrap();
        assert!((at..).zip(&bytes).all(|(at, byte)| *byte == byte_at(at)), "{at}");
    }
    let io = pool.stats().io.since(&before);
    assert!(io.reads <= LEN / (64 << 10) * 2 && io.read_bytes <= LEN, "{io:?}");
}
