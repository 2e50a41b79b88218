//! Many readers at once in little memory: what comes from the store for what they read.
//!
//! Readers whose windows had to come from each other all seemed silent, so each gave its window to the next:
//! a hundred that read by 52 bytes in turn moved 78 bytes for each, where the buffers themselves had moved
//! one. And what `fill_buf` read for a page without a frame was thrown away at each `consume`, so lines of
//! 9 bytes read 4 KiB each. The tests had read whole contents, one after another.

use overspill::{MemoryStore, SpillBuffer, SpillPool, SpoolReader, SpoolWriter};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};

/// Bytes that differ from those near them.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)).to_le_bytes()[0]).collect()
}

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).store(MemoryStore::new()).build().unwrap()
}

/// Reads all of `readers` by `piece` bytes in turn, and compares that with `expected`. Returns the bytes read
/// from the store for each byte.
fn pass<R: Read>(pool: &SpillPool, readers: &mut [R], expected: &[u8], piece: usize) -> f64 {
    let before = pool.stats().io.read_bytes;
    for expected in expected.chunks(piece) {
        let mut read = vec![0; expected.len()];
        for reader in &mut *readers {
            reader.read_exact(&mut read).unwrap();
            assert!(read == expected);
        }
    }
    (pool.stats().io.read_bytes - before) as f64 / (readers.len() * expected.len()) as f64
}

/// Writes `piece` bytes of `data` to each of `writers` in turn, until all have all.
fn write_in_turn<W: Write>(writers: &mut [W], data: &[u8], piece: usize) {
    for data in data.chunks(piece) {
        writers.iter_mut().for_each(|writer| writer.write_all(data).unwrap());
    }
}

#[test]
fn readers_of_frozen_content_leave_each_other_their_windows() {
    for (count, len, piece) in [(100, 100_000, 52), (100, 400_000, 200), (40, 60_000, 64)] {
        let (pool, data) = (pool(1 << 20), content(len));
        let mut buffers: Vec<SpillBuffer> = (0..count).map(|_| pool.buffer()).collect();
        write_in_turn(&mut buffers, &data, piece);
        for _ in 0..2 {
            buffers.iter_mut().for_each(|buffer| buffer.rewind().unwrap());
            pass(&pool, &mut buffers, &data, piece);
        }
        let frozen: Vec<_> = buffers.into_iter().map(SpillBuffer::freeze).collect();
        for number in 0..3 {
            let mut readers: Vec<_> = frozen.iter().map(|frozen| frozen.reader()).collect();
            let moved = pass(&pool, &mut readers, &data, piece);
            // The first windows are as long as the share of those that have begun, and make way for the
            // others.
            assert!(moved <= 1.1 + 2000.0 / len as f64, "{count} x {len} by {piece}, pass {number}: {moved}");
        }
    }
}

/// A clone that had no frame for a whole page of what it shares read each piece of it from the store: 246,000
/// calls for 500 x 60 kB by 100 bytes in turn, and 2,000 before they were cloned. In less memory each piece
/// loaded a page for what is shared, so that 41 bytes came for each.
#[test]
fn clones_read_what_they_share_once_in_few_calls() {
    let cases = [
        (256 << 10, 30, 24_000, 10),
        (256 << 10, 20, 24_000, 10),
        (256 << 10, 60, 24_000, 100),
        (1 << 20, 120, 24_000, 10),
        (1 << 20, 60, 60_000, 64),
        (2 << 20, 120, 60_000, 100),
    ];
    for (memory, count, len, piece) in cases {
        let (pool, data) = (pool(memory), content(len));
        let mut buffers: Vec<SpillBuffer> = (0..count).map(|_| pool.buffer()).collect();
        write_in_turn(&mut buffers, &data, piece);
        for _ in 0..2 {
            buffers.iter_mut().for_each(|buffer| buffer.rewind().unwrap());
            pass(&pool, &mut buffers, &data, piece);
        }
        let mut clones: Vec<_> = buffers.iter_mut().map(|buffer| buffer.try_clone().unwrap()).collect();
        for number in 0..3 {
            clones.iter_mut().for_each(|clone| clone.rewind().unwrap());
            let before = pool.stats().io.reads;
            let moved = pass(&pool, &mut clones, &data, piece);
            let calls = pool.stats().io.reads - before;
            let allowed = 8 * (count * len) as u64 / (memory / count).next_power_of_two() as u64;
            let case = format!("{count} x {len} by {piece} in {memory}, pass {number}");
            assert!(moved <= 1.1, "{case}: {moved}");
            assert!(calls <= allowed, "{case}: {calls} calls of {allowed}");
        }
        clones.iter_mut().chain(&mut buffers).for_each(SpillBuffer::check_invariants);
        pool.check_invariants();
    }
}

#[test]
fn readers_of_spools_leave_each_other_their_windows() {
    let (pool, data) = (pool(1 << 20), content(24_000));
    let (mut writers, readers): (Vec<SpoolWriter>, Vec<SpoolReader>) = (0..50).map(|_| pool.spool()).unzip();
    write_in_turn(&mut writers, &data, 10);
    for number in 0..3 {
        let moved = pass(&pool, &mut readers.clone(), &data, 10);
        assert!(moved <= 1.1, "pass {number}: {moved}");
    }
}

/// Reads all of `readers` by lines in turn. Returns the bytes read from the store for each byte.
fn lines<R: BufRead>(pool: &SpillPool, readers: &mut [R], expected: &str) -> f64 {
    let before = pool.stats().io.read_bytes;
    for expected in expected.split_inclusive('\n') {
        let mut line = String::new();
        for reader in &mut *readers {
            line.clear();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, expected);
        }
    }
    (pool.stats().io.read_bytes - before) as f64 / (readers.len() * expected.len()) as f64
}

#[test]
fn lines_come_from_the_store_once_without_memory_too() {
    let text: String = (0..2000).map(|line| format!("line {line}\n")).collect();
    for (memory, count) in [(0, 1), (0, 30), (4 << 10, 30), (64 << 10, 256), (0, 600)] {
        let pool = pool(memory);
        let mut buffers: Vec<SpillBuffer> = (0..count).map(|_| pool.buffer()).collect();
        for buffer in &mut buffers {
            buffer.write_all(text.as_bytes()).unwrap();
            buffer.rewind().unwrap();
        }
        let by_buffers = lines(&pool, &mut buffers, &text);
        let frozen: Vec<_> = buffers.into_iter().map(SpillBuffer::freeze).collect();
        let mut readers: Vec<_> = frozen.iter().map(|frozen| frozen.reader()).collect();
        let by_readers = lines(&pool, &mut readers, &text);
        assert!(by_buffers <= 1.1 && by_readers <= 1.1, "{memory}, {count}: {by_buffers}, {by_readers}");
    }
}

/// What is left of a copy is lent on, and is no longer lent once something else was done: it may differ
/// then.
#[test]
fn what_is_left_of_a_loan_is_what_the_content_has() {
    let (pool, mut model) = (pool(0), content(20_000));
    let mut buffer = pool.buffer();
    buffer.write_all(&model).unwrap();
    buffer.rewind().unwrap();
    let mut at = 0;
    for round in 0..4000 {
        let lent = buffer.fill_buf().unwrap();
        assert!(!lent.is_empty() && model[at..].starts_with(lent), "round {round}, at {at}");
        let n = (1 + round % 300).min(lent.len());
        buffer.consume(n);
        at += n;
        if round % 3 == 0 {
            let (place, new) = ((at + round % 40).min(model.len() - 7), [round.to_le_bytes()[0]; 7]);
            buffer.seek(SeekFrom::Start(place as u64)).unwrap();
            buffer.write_all(&new).unwrap();
            model[place..place + 7].copy_from_slice(&new);
            buffer.seek(SeekFrom::Start(at as u64)).unwrap();
        }
        if at + 400 > model.len() {
            at = round % 50;
            buffer.seek(SeekFrom::Start(at as u64)).unwrap();
        }
    }
    buffer.check_invariants();
}

/// A buffer that is appended to and read further back, in turn, has one window while memory is short. Each
/// piece of either took it from the other, with a whole window written and read for it: 500 bytes for each.
#[test]
fn appends_and_reads_in_turn_leave_each_other_the_window() {
    let (pool, data) = (pool(1 << 20), content(124_000));
    let mut buffers: Vec<SpillBuffer> = (0..50).map(|_| pool.buffer()).collect();
    write_in_turn(&mut buffers, &data[..100_000], 1000);
    let before = pool.stats().io;
    for at in (0..24_000).step_by(10) {
        for buffer in &mut buffers {
            buffer.seek(SeekFrom::End(0)).unwrap();
            buffer.write_all(&data[100_000 + at..][..10]).unwrap();
            let mut read = [0; 10];
            buffer.seek(SeekFrom::Start(at as u64)).unwrap();
            buffer.read_exact(&mut read).unwrap();
            assert!(read == data[at..at + 10]);
        }
    }
    let moved = pool.stats().io.since(&before);
    let [read, written] = [moved.read_bytes, moved.written_bytes].map(|bytes| bytes / (50 * 24_000));
    assert!(read <= 2 && written <= 2, "{read} and {written} bytes for each: {moved:?}");
}
