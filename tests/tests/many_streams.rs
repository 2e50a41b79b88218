//! Many buffers at once in little memory: what they hold, and what went to the store and came from there for
//! it.
//!
//! An append to a spilled page read 64 KiB and wrote 64 KiB for 4,000 bytes, a small read brought a page and
//! threw it away: a thousand uploads in 32 MiB wrote 8 bytes and read 15 for each. The benches had measured
//! one buffer at a time.

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore, Faults};
use overspill::{Checksums, MemoryStore, SpillBuffer, SpillPool};
use overspill_tests::support::Random;
use std::fs;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Streams in turn: how many there are, how long they become, by which pieces, and in how much memory.
struct Turns {
    count: usize,
    len: usize,
    piece: usize,
    memory: usize,
}

/// No two streams have the same bytes at the same place, nor one the same bytes at two places near each
/// other.
fn content(stream: usize, at: usize, len: usize) -> Vec<u8> {
    let at = stream * 7919 + at;
    (at..at + len).map(|i| (i ^ (i >> 8) ^ (i >> 16)).to_le_bytes()[0]).collect()
}

impl Turns {
    fn pieces(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let Turns { count, len, piece, .. } = *self;
        let starts = (0..len).step_by(piece);
        starts.flat_map(move |at| (0..count).map(move |i| (i, at, piece.min(len - at))))
    }

    /// Writes the streams and reads them, each in its turn. Returns the bytes written to the store in all,
    /// read from it while writing, and read from it while reading, for each byte of the streams.
    fn moved(&self, checksums: Checksums) -> [f64; 3] {
        let pool = SpillPool::builder().memory(self.memory).store(MemoryStore::new());
        self.moved_in(&pool.checksums(checksums).build().unwrap())
    }

    fn moved_in(&self, pool: &SpillPool) -> [f64; 3] {
        let mut streams: Vec<_> = (0..self.count).map(|_| pool.buffer()).collect();
        for (i, at, len) in self.pieces() {
            streams[i].write_all(&content(i, at, len)).unwrap();
        }
        let written = pool.stats().io;
        streams.iter_mut().for_each(|stream| stream.rewind().unwrap());
        for (i, at, len) in self.pieces() {
            let mut piece = vec![0; len];
            streams[i].read_exact(&mut piece).unwrap();
            assert!(piece == content(i, at, len), "stream {i} differs past {at}");
        }
        let all = pool.stats().io;
        streams.iter_mut().for_each(SpillBuffer::check_invariants);
        pool.check_invariants();
        let each = |bytes: u64| bytes as f64 / (self.count * self.len) as f64;
        [each(all.written_bytes), each(written.read_bytes), each(all.read_bytes - written.read_bytes)]
    }

    fn assert_moves(&self, checksums: Checksums, at_most: [f64; 3]) {
        let moved = self.moved(checksums);
        assert!(moved.iter().zip(&at_most).all(|(moved, most)| moved <= most), "{moved:?} > {at_most:?}");
    }
}

#[test]
fn uploads_in_turn_move_each_byte_once() {
    // Each has less than a page, as it is with a thousand of them.
    let shares =
        [(40, 300_000, 4000, 40 << 15), (40, 150_000, 1400, 40 << 15), (300, 60_000, 6000, 300 * 5592)];
    for (count, len, piece, memory) in shares {
        Turns { count, len, piece, memory }.assert_moves(Checksums::Off, [1.0, 0.0, 1.0]);
    }
}

#[test]
fn small_messages_in_turn_move_each_byte_once() {
    let messages = Turns { count: 2000, len: 3000, piece: 100, memory: 2000 * 335 };
    messages.assert_moves(Checksums::Off, [1.1, 0.02, 1.1]);
}

/// Blocks with checksums are written and read whole, so pieces that are no multiple of one cost a little
/// more.
#[test]
fn uploads_with_checksums_move_little_more() {
    let uploads = Turns { count: 40, len: 300_000, piece: 4000, memory: 40 << 15 };
    uploads.assert_moves(Checksums::On, [1.05, 0.05, 1.1]);
}

/// A pass in pieces that divide a window left it where a call ended, of which only the window knew. The next
/// read passed for a random one, and each window cost two calls of the store instead of one.
#[test]
fn a_window_costs_one_call_by_pieces_that_divide_it_too() {
    for piece in [64, 500, 512] {
        let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
        let pool = SpillPool::builder().memory(40 * 4096).store(store).build().unwrap();
        let turns = Turns { count: 40, len: 64_000, piece, memory: 0 };
        turns.moved_in(&pool);
        let reads = faults.calls_of(Call::Read) as f64 / (turns.count * turns.len.div_ceil(4096)) as f64;
        assert!(reads <= 1.1, "by {piece} bytes {reads} calls each");
    }
}

#[test]
fn one_stream_by_any_piece_moves_each_byte_once() {
    for piece in [64, 1000, 48 << 10, 64 << 10, 768 << 10] {
        let stream = Turns { count: 1, len: 8 << 20, piece, memory: 1 << 20 };
        let [written, read_back, read] = stream.moved(Checksums::Off);
        assert!(written <= 1.1 && read_back <= 0.02 && read <= 1.1, "{piece}: {written} {read_back} {read}");
    }
}

/// A buffer and what it is to hold.
struct Stream {
    buffer: SpillBuffer,
    model: Vec<u8>,
    at: usize,
}

impl Stream {
    fn seek(&mut self, at: usize) {
        self.at = at;
        self.buffer.seek(SeekFrom::Start(at as u64)).unwrap();
    }

    /// Writes `data`, and enters in the model as much as was taken. Returns whether that was all.
    fn write(&mut self, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let Ok(taken) = self.buffer.write(data) else { return false };
            let end = self.at + taken;
            if self.model.len() < end {
                self.model.resize(end, 0);
            }
            self.model[self.at..end].copy_from_slice(&data[..taken]);
            (self.at, data) = (end, &data[taken..]);
        }
        true
    }

    /// Reads up to `len` bytes, and compares them. Returns whether none was refused.
    fn read(&mut self, len: usize) -> bool {
        let mut piece = vec![0xEE; len];
        let Ok(read) = self.buffer.read(&mut piece) else { return false };
        let left = self.model.get(self.at..).unwrap_or_default();
        assert!(read > 0 || left.is_empty() || len == 0);
        assert!(piece[..read] == left[..read], "{read} bytes at {}", self.at);
        self.at += read;
        true
    }

    fn lend(&mut self, consume: usize) -> bool {
        let Ok(chunk) = self.buffer.fill_buf() else { return false };
        let n = chunk.len().min(consume);
        assert!(chunk[..n] == self.model.get(self.at..).unwrap_or_default()[..n], "{n} bytes at {}", self.at);
        self.buffer.consume(n);
        self.at += n;
        true
    }

    fn truncate(&mut self, len: usize) {
        self.buffer.set_len(len as u64).unwrap();
        self.model.resize(len, 0);
    }

    fn assert_content(&mut self) {
        self.seek(0);
        let mut content = Vec::new();
        self.buffer.read_to_end(&mut content).unwrap();
        assert!(content == self.model, "{} bytes, not {}", content.len(), self.model.len());
        self.at = content.len();
    }
}

fn one_step(random: &mut Random, stream: &mut Stream, page: usize) -> bool {
    let small = 1 + random.index(page / 8);
    let bytes = if random.below(8) == 0 { 1 + random.index(3 * page) } else { small };
    let data = random.bytes(bytes);
    let (len, any) = (stream.model.len(), random.index(stream.model.len() + 2));
    match random.below(16) {
        // Most of the time a stream goes on where it was, or at its end.
        0..4 => stream.write(&data),
        4..8 => {
            stream.seek(len);
            stream.write(&data)
        }
        8..11 => stream.read(data.len()),
        11 => stream.lend(small),
        12 => {
            stream.seek(any);
            stream.read(small)
        }
        13 => {
            // Anywhere, or over a page from its beginning.
            stream.seek(if random.below(2) == 0 { any } else { any / page * page });
            stream.write(&data[..(4 * small).min(data.len())])
        }
        14 => {
            // Inside a segment, below it, or far below.
            let back = if random.below(2) == 0 { small } else { random.index(len + 1) };
            stream.truncate(len.saturating_sub(back));
            true
        }
        _ => {
            stream.seek(len + random.index(page / 4));
            stream.write(&data[..small.min(data.len())])
        }
    }
}

/// Buffers that have less than a page each, at any place in their pages, over a store that fails now and
/// then. Nothing is lost, whatever the others do.
#[test]
fn many_streams_are_vectors() {
    for (page, share) in [(1024, 300), (4096, 1024), (4096, 600), (16 << 10, 5000), (64 << 10, 20_000)] {
        for seed in 1..=6_usize {
            let checksums = if seed % 3 == 0 { Checksums::On } else { Checksums::Off };
            let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
            let count = 3 + seed % 5;
            let pool = SpillPool::builder().memory(count * share).page_size(page).checksums(checksums);
            let pool = pool.store(store).build().unwrap();
            let mut random = Random::new((seed * 7919 + page) as u64);
            let mut streams: Vec<_> =
                (0..count).map(|_| Stream { buffer: pool.buffer(), model: Vec::new(), at: 0 }).collect();
            for step in 0..1200 {
                let with_fault = seed % 2 == 0 && step % 5 == 0;
                if with_fault {
                    let call = [Call::Write, Call::Read][random.index(2)];
                    faults.set(Fault::once(random.below(3), Failure::io()).on(call));
                }
                let stream = &mut streams[random.index(count)];
                let done = one_step(&mut random, stream, page);
                assert!(done || with_fault, "step {step} of seed {seed} was refused");
                faults.lift();
                stream.buffer.check_invariants();
                pool.check_invariants();
                if stream.model.len() > 40 * page {
                    stream.truncate(random.index(page));
                }
            }
            streams.iter_mut().for_each(Stream::assert_content);
            drop(streams);
            let stats = pool.stats();
            assert_eq!((stats.memory_used, stats.disk_used), (0, 0), "{stats:?}");
        }
    }
}

/// The disk is full at the first block of a slot, and at any later one. What was taken is there, and when
/// there is room again the streams go on.
#[test]
fn a_full_disk_loses_nothing() {
    for blocks in 0..40 {
        let pool = SpillPool::builder().memory(3 * 1024).page_size(16 << 10).store(MemoryStore::new());
        let pool = pool.disk(blocks * 4096).build().unwrap();
        let mut streams: Vec<_> =
            (0..3).map(|_| Stream { buffer: pool.buffer(), model: Vec::new(), at: 0 }).collect();
        let mut refused = 0;
        for round in 0..60 {
            for (i, stream) in streams.iter_mut().enumerate() {
                refused += u64::from(!stream.write(&content(i, round * 700, 700)));
                stream.buffer.check_invariants();
            }
            pool.check_invariants();
            assert!(pool.stats().disk_used <= blocks * 4096);
        }
        assert!(refused > 0 || blocks > 30, "{blocks} blocks were enough for 126,000 bytes");
        pool.set_disk_limit(u64::MAX);
        for stream in &mut streams {
            stream.seek(stream.model.len());
            assert!(stream.write(&[1; 5000]));
            stream.assert_content();
        }
    }
}

/// A write over all of a spilled page got a frame that had room for a part of it. What the frame did not have
/// counted as overwritten, so that it was lost where the rest of the call failed.
#[test]
fn a_write_that_stops_within_a_page_keeps_the_rest_of_it() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(1 << 20).page_size(1024).store(store).build().unwrap();
    let buffer = pool.buffer_builder().memory(512).build();
    let mut stream = Stream { buffer, model: vec![0; 1024], at: 1024 };
    stream.seek(1024);
    assert!(stream.write(&content(1, 0, 400)));
    stream.buffer.spill().unwrap();
    stream.seek(0);
    assert!(stream.write(&content(2, 0, 200)));
    stream.seek(1024);
    faults.set(Fault::lasting(1, Failure::io()).on(Call::Write));
    assert!(!stream.write(&content(3, 0, 400)), "the store failed");
    faults.lift();
    stream.assert_content();
    stream.buffer.check_invariants();
}

/// A page that was in its slot already went to a longer slot together with a long write, and only the write
/// arrived there: what the frame had was taken for stored, and it was, in the slot that was given up.
#[test]
fn a_long_write_takes_along_what_a_page_had_in_a_shorter_slot() {
    for stored in [1, 300, 4096] {
        let store = MemoryStore::new();
        let pool = SpillPool::builder().memory(16 << 10).page_size(16 << 10).store(store).build().unwrap();
        let mut stream = Stream { buffer: pool.buffer(), model: Vec::new(), at: 0 };
        assert!(stream.write(&content(1, 0, stored)));
        stream.buffer.spill().unwrap();
        stream.assert_content(); // brings the page into memory
        assert!(stream.write(&content(2, 0, 100_000)));
        stream.assert_content();
        stream.buffer.check_invariants();
    }
}

/// The same where the frame has the end of the page and the slot alone its beginning: the disk limit had kept
/// it in a short slot, and when it was raised, a long write took it to a longer one.
#[test]
fn a_long_write_leaves_a_segment_in_its_slot() {
    let store = MemoryStore::new();
    let builder = SpillPool::builder().memory(16 << 10).page_size(64 << 10).disk(4096).store(store);
    let pool = builder.build().unwrap();
    let mut stream = Stream { buffer: pool.buffer(), model: Vec::new(), at: 0 };
    assert!(stream.write(&content(1, 0, 1)));
    stream.buffer.spill().unwrap();
    for at in (0..4095).step_by(63) {
        assert!(stream.write(&content(2, at, 63)));
    }
    assert!(stream.buffer.stats().io.written_bytes < 4096, "the rest is in memory, as a segment");
    pool.set_disk_limit(u64::MAX);
    assert!(stream.write(&content(3, 0, 100_000)));
    stream.assert_content();
    stream.buffer.check_invariants();
}

/// A page whose end was a segment took nothing at the disk limit, though all other memory was free: only one
/// that was whole got what was left of it.
#[test]
fn a_segment_gets_what_is_left_of_the_memory_at_the_disk_limit() {
    const PAGE: usize = 64 << 10;
    for (checksums, appends) in
        [(Checksums::Off, true), (Checksums::Off, false), (Checksums::On, true), (Checksums::On, false)]
    {
        let builder = SpillPool::builder().memory(1 << 20).page_size(PAGE).disk(16 << 20);
        let pool = builder.checksums(checksums).store(MemoryStore::new()).build().unwrap();
        let new = |_| Stream { buffer: pool.buffer(), model: Vec::new(), at: 0 };
        let mut streams: Vec<_> = (0..65).map(new).collect();
        for at in (0..2 * PAGE + 20_500).step_by(500) {
            streams
                .iter_mut()
                .enumerate()
                .for_each(|(i, stream)| assert!(stream.write(&content(i, at, 500))));
        }
        let has_segment = |stream: &Stream| (1..PAGE as u64).contains(&stream.buffer.stats().memory_used);
        let mut stream = streams.swap_remove(streams.iter().position(has_segment).unwrap());
        drop(streams);
        let mut full = Vec::new();
        for len in [PAGE, 4096] {
            let spilled = || {
                let mut buffer = pool.buffer();
                buffer.write_all(&content(1, 0, len)).unwrap();
                buffer.spill().is_ok().then_some(buffer)
            };
            full.extend(std::iter::from_fn(spilled));
        }
        assert!(has_segment(&stream));
        if appends {
            (0..40).for_each(|n| assert!(stream.write(&content(2, n * 500, 500)), "piece {n}"));
        } else {
            stream.seek(2 * PAGE);
            assert!(stream.write(&[9; 10]));
        }
        stream.assert_content();
        stream.buffer.check_invariants();
        pool.check_invariants();
    }
}

/// A stream that is empty: of the pool alone, with limits of its own, or with a file of its own in `dir`.
fn any_stream(random: &mut Random, pool: &SpillPool, page: usize, dir: &Path) -> Stream {
    let buffer = match random.below(4) {
        0 => pool.buffer_for(dir.join("final")),
        1 => pool.buffer_builder().memory(random.index(2 * page)).build(),
        2 => pool.buffer_builder().memory(page / 2).disk(random.below(15) * page as u64).build(),
        _ => pool.buffer(),
    };
    Stream { buffer, model: Vec::new(), at: 0 }
}

/// Gives the stream its name, and compares the file. If that is refused, the stream is as it was.
fn persist(stream: Stream, path: &Path) -> Option<Stream> {
    let Stream { buffer, model, at } = stream;
    match buffer.persist(path) {
        Ok(_) => {
            assert!(fs::read(path).unwrap() == model, "not the {} bytes that were written", model.len());
            None
        }
        Err(refused) => Some(Stream { buffer: refused.into_buffer(), model, at }),
    }
}

fn set_any_limits(random: &mut Random, pool: &SpillPool, page: usize) {
    pool.set_memory_limit([0, 1, page / 2, page, 2 * page, 5 * page][random.index(6)]);
    let units = random.below(60);
    pool.set_disk_limit([u64::MAX, u64::MAX, units * 4096, units * page as u64][random.index(4)]);
}

fn any_faults(random: &mut Random) -> FaultPlan {
    let failure = [Failure::io(), Failure::Short(5000), Failure::Short(100)][random.index(3)];
    let call = [Call::Write, Call::Read][random.index(2)];
    let nth = random.below(3);
    let fault = FaultPlan::new().with(Fault::once(nth, failure).on(call));
    // What was short is usually followed by an error.
    if random.below(2) == 0 { fault } else { fault.with(Fault::lasting(nth + 1, Failure::io()).on(call)) }
}

/// Tells the other thread to end, after a panic as well.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Takes memory and gives it back, until `end`.
fn disturb(pool: &SpillPool, page: usize, end: &AtomicBool) {
    let mut round = 0;
    while !end.load(Ordering::Relaxed) {
        let mut stream = Stream { buffer: pool.buffer(), model: Vec::new(), at: 0 };
        for piece in 0..8 {
            stream.write(&content(round, piece * page / 3, page / 3));
            thread::yield_now();
        }
        stream.assert_content();
        round += 1;
    }
}

/// With `faults` the store fails now and then, and the pool is counted after each step.
fn move_limits(random: &mut Random, pool: &SpillPool, page: usize, faults: Option<&Faults>) {
    let dir = tempfile::tempdir().unwrap();
    let mut streams: Vec<_> = (0..5).map(|_| any_stream(random, pool, page, dir.path())).collect();
    for step in 0..400 {
        if step % 40 == 0 {
            set_any_limits(random, pool, page);
        }
        let mut stream = streams.swap_remove(random.index(streams.len()));
        match random.below(40) {
            0 => {
                let kept = persist(stream, &dir.path().join("final"));
                stream = kept.unwrap_or_else(|| any_stream(random, pool, page, dir.path()));
            }
            // It may be refused, and then it is as it was.
            1 | 2 => drop(stream.buffer.spill()),
            _ => {
                faults.filter(|_| step % 7 == 0).inspect(|faults| faults.set(any_faults(random)));
                one_step(random, &mut stream, page);
                faults.inspect(|faults| faults.lift());
            }
        }
        stream.buffer.check_invariants();
        if stream.model.len() > 40 * page {
            stream.truncate(random.index(page));
        }
        streams.push(stream);
        faults.inspect(|_| pool.check_invariants());
    }
    streams.iter_mut().for_each(Stream::assert_content);
}

/// Limits that rise and fall, streams that are spilled whole or become files, and a store that fails or a
/// thread that takes memory meanwhile. Nothing is lost, and all is given back.
#[test]
fn streams_are_vectors_while_limits_move() {
    for (seed, page) in (0..4).flat_map(|seed| [8, 1024, 16 << 10, 64 << 10].map(|page| (seed, page))) {
        let checksums = if seed % 2 == 0 { Checksums::On } else { Checksums::Off };
        let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
        let pool = SpillPool::builder().memory(2 * page).page_size(page).checksums(checksums);
        let pool = pool.store(store).build().unwrap();
        let mut random = Random::new(seed * 7919 + page as u64);
        let is_disturbed = seed >= 2;
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            let _end = End(&end);
            if is_disturbed {
                scope.spawn(|| disturb(&pool, page, &end));
            }
            move_limits(&mut random, &pool, page, (!is_disturbed).then_some(&faults));
        });
        pool.check_invariants();
        let stats = pool.stats();
        assert_eq!((stats.memory_used, stats.disk_used), (0, 0), "{stats:?}");
    }
}
