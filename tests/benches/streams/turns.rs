//! Many streams that are written and read a piece at a time, each in its turn, and all of it is verified.
//!
//! Beside the times stands what went to the store and came from there for each byte, which no
//! machine's noise reaches.

use crate::counted::Counted;
use crate::plain::Plain;
use crate::{KIB, MIB};
use overspill::SpillPool;
use overspill_tests::bench::{Contender, Row, alternate, bytes, timed};
use overspill_tests::support::Random;
use std::cell::Cell;
use std::io::{Read, Seek, Write};
use std::sync::Arc;
use std::time::Duration;
use tempfile::SpooledTempFile;

/// Rounds that count.
const ROUNDS: usize = 3;

/// Streams by their number.
pub(crate) trait Streams {
    fn write(&mut self, stream: usize, data: &[u8]);
    fn rewind(&mut self, stream: usize);
    fn read(&mut self, stream: usize, buf: &mut [u8]);
}

impl<F: Read + Write + Seek> Streams for Vec<F> {
    fn write(&mut self, stream: usize, data: &[u8]) {
        self[stream].write_all(data).unwrap();
    }

    fn rewind(&mut self, stream: usize) {
        self[stream].rewind().unwrap();
    }

    fn read(&mut self, stream: usize, buf: &mut [u8]) {
        self[stream].read_exact(buf).unwrap();
    }
}

/// A case, and what ours should reach in it: a rival's time divided by ours, to write and to read.
pub(crate) struct Turns {
    name: &'static str,
    count: usize,
    len: usize,
    piece: usize,
    memory: usize,
    /// `None`: it is not run.
    spooled: Option<[f64; 2]>,
    plain: f64,
}

pub(crate) const MEGABYTES: Turns = Turns {
    name: "1,000 x 1 MB by 4,000, 32 MiB",
    count: 1000,
    len: 1_000_000,
    piece: 4000,
    memory: 32 * MIB,
    spooled: Some([2.0, 1.0]),
    plain: 1.0 / 1.15,
};

pub(crate) const UPLOADS: Turns = Turns {
    name: "1,000 x 300 kB by 1,400, 32 MiB",
    len: 300_000,
    piece: 1400,
    spooled: Some([2.5, 1.3]),
    ..MEGABYTES
};

pub(crate) const BODIES: Turns = Turns {
    name: "9,000 x 60 kB by 6,000, 48 MiB",
    count: 9000,
    len: 60_000,
    piece: 6000,
    memory: 48 * MIB,
    spooled: Some([2.0, 0.95]),
    ..MEGABYTES
};

/// Against the limit alone: nobody opens 100,000 files.
pub(crate) const MESSAGES: Turns = Turns {
    name: "100,000 x 3 kB by 100, 32 MiB",
    count: 100_000,
    len: 3000,
    piece: 100,
    memory: 32 * MIB,
    spooled: None,
    plain: 1.0 / 1.5,
};

/// What the streams hold: no two that follow each other the same.
struct Content(Vec<u8>);

impl Content {
    fn new() -> Self {
        Content(bytes(2 * MIB))
    }

    fn at(&self, stream: usize, at: usize, len: usize) -> &[u8] {
        &self.0[(stream * 4093 + at) % MIB..][..len]
    }
}

/// Writes all streams in turn, calls `between`, and reads them so.
fn write_read(
    turns: &Turns,
    content: &Content,
    make: impl FnOnce() -> Box<dyn Streams>,
    between: impl FnOnce(),
) -> [Duration; 2] {
    let pieces = || (0..turns.len).step_by(turns.piece).map(|at| (at, turns.piece.min(turns.len - at)));
    let mut made = None;
    let write = timed(|| {
        let streams = made.insert(make());
        for (at, len) in pieces() {
            (0..turns.count).for_each(|stream| streams.write(stream, content.at(stream, at, len)));
        }
    });
    between();
    let mut streams = made.unwrap();
    let mut buf = vec![0; turns.piece];
    let read = timed(|| {
        (0..turns.count).for_each(|stream| streams.rewind(stream));
        for (at, len) in pieces() {
            for stream in 0..turns.count {
                streams.read(stream, &mut buf[..len]);
                assert!(buf[..len] == *content.at(stream, at, len), "stream {stream} differs past {at}");
            }
        }
    });
    [write, read]
}

/// Streams of one pool over `store`.
fn ours(count: usize, memory: usize, store: &Arc<Counted>) -> Box<dyn Streams> {
    let pool = SpillPool::builder().memory(memory).store(Arc::clone(store)).build().unwrap();
    Box::new((0..count).map(|_| pool.buffer()).collect::<Vec<_>>())
}

/// Files that share out the same memory.
fn spooled(count: usize, memory: usize) -> Box<dyn Streams> {
    let share = memory / count / KIB * KIB;
    Box::new((0..count).map(|_| SpooledTempFile::new(share)).collect::<Vec<_>>())
}

/// A row of what moved for each byte.
fn moved(case: &str, bytes: u64, total: usize, at_most: f64) {
    let each = bytes as f64 / total as f64;
    let verdict = if each <= at_most { "" } else { "  MISSED" };
    println!("{case:<44} {each:>12.3} {:<18} {at_most:>12.2}{verdict}", "at most");
}

pub(crate) fn in_turn(turns: &Turns) {
    let Turns { name, count, len, memory, .. } = *turns;
    let (content, store) = (Content::new(), Arc::new(Counted::default()));
    let (writing, reading) = (Cell::new([0; 2]), Cell::new([0; 2]));
    let mut contenders = vec![
        Contender::new("overspill", || {
            let times =
                write_read(turns, &content, || ours(count, memory, &store), || writing.set(store.take()));
            // What dropping the buffers discards is neither written nor read.
            reading.set(store.take());
            times
        }),
        Contender::new("the limit", || {
            write_read(turns, &content, || Box::new(Plain::new(count, len, memory)), || ())
        }),
    ];
    if turns.spooled.is_some() {
        contenders.push(Contender::new("SpooledTempFile", || {
            write_read(turns, &content, || spooled(count, memory), || ())
        }));
    }
    let medians = alternate(ROUNDS, &mut contenders);
    let [write, read] = [format!("{name}, write"), format!("{name}, read")];
    for (part, case) in [&write, &read].into_iter().enumerate() {
        if let Some(targets) = turns.spooled {
            Row::times(case, "SpooledTempFile", medians[0][part], medians[2][part], targets[part]).print();
        }
        Row::times(case, "the limit", medians[0][part], medians[1][part], turns.plain).print();
    }
    let ([written, read_back], [evicted, read]) = (writing.get(), reading.get());
    let total = count * len;
    moved("  to the store for each byte, in all", written + evicted, total, 1.1);
    moved("  from the store for each byte written", read_back, total, 0.02);
    moved("  from the store for each byte read", read, total, 1.1);
}

const MIXED: usize = 1000;
const MIXED_LEN: usize = 1_000_000;
const MIXED_PIECE: usize = 2000;
const MIXED_MEMORY: usize = 32 * MIB;

/// Half of the streams, those of even numbers, hold their megabyte and are read; the others are appended to.
/// Which is next is chosen at random. Times the mixture alone.
fn append_and_read(
    content: &Content,
    order: &[u16],
    mut streams: Box<dyn Streams>,
    filled: impl FnOnce(),
) -> [Duration; 1] {
    for stream in (0..MIXED).step_by(2) {
        for at in (0..MIXED_LEN).step_by(50 * MIXED_PIECE) {
            streams.write(stream, content.at(stream, at, 50 * MIXED_PIECE));
        }
    }
    (0..MIXED).step_by(2).for_each(|stream| streams.rewind(stream));
    filled();
    let mut done = vec![0; MIXED];
    let mut buf = vec![0; MIXED_PIECE];
    [timed(|| {
        for &stream in order {
            let stream = usize::from(stream);
            let wanted = content.at(stream, done[stream], MIXED_PIECE);
            done[stream] += MIXED_PIECE;
            if stream % 2 == 1 {
                streams.write(stream, wanted);
            } else {
                streams.read(stream, &mut buf);
                assert!(buf == *wanted, "stream {stream} differs before {}", done[stream]);
            }
        }
    })]
}

pub(crate) fn mixed() {
    let (content, store, counted) = (Content::new(), Arc::new(Counted::default()), Cell::new([0; 2]));
    let mut random = Random::new(1);
    let pieces = MIXED_LEN / MIXED_PIECE;
    let mut order: Vec<u16> = (0..MIXED as u16).flat_map(|stream| (0..pieces).map(move |_| stream)).collect();
    (1..order.len()).rev().for_each(|last| order.swap(last, random.index(last + 1)));
    let run = |streams, filled: &dyn Fn()| append_and_read(&content, &order, streams, filled);
    let medians = alternate(
        ROUNDS,
        &mut [
            Contender::new("overspill", || {
                let time = run(ours(MIXED, MIXED_MEMORY, &store), &|| {
                    store.take();
                });
                counted.set(store.take());
                time
            }),
            Contender::new("SpooledTempFile", || run(spooled(MIXED, MIXED_MEMORY), &|| ())),
            Contender::new("the limit", || run(Box::new(Plain::new(MIXED, MIXED_LEN, MIXED_MEMORY)), &|| ())),
        ],
    );
    let case = "1,000 x 1 MB by 2,000, half read, at random";
    Row::times(case, "SpooledTempFile", medians[0][0], medians[1][0], 2.0).print();
    Row::times(case, "the limit", medians[0][0], medians[2][0], 1.0 / 1.15).print();
    let [written, read] = counted.get();
    moved("  to and from the store for each byte", written + read, MIXED * MIXED_LEN, 1.2);
}
