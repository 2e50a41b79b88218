//! Buffers that do nothing: what they cost a stream beside them, and a limit that is lowered. And the first
//! write of a process.

use crate::content::{buffers, fill_all, pool};
use crate::{KIB, MIB, PARTS, at_least, at_most, seconds};
use overspill::{SpillBuffer, SpillPool};
use overspill_tests::bench::{Contender, alternate, median, timed};
use std::hint::black_box;
use std::io::{Read, Seek, Write};
use std::thread;
use std::time::Duration;

/// 256 MiB through the pool, written and read.
fn stream(pool: &SpillPool) -> [Duration; 2] {
    const PIECES: usize = 256 * MIB / (4 * KIB);
    let (data, mut buf) = ([7; 4 * KIB], [0; 4 * KIB]);
    let mut buffer = pool.buffer();
    let write = timed(|| (0..PIECES).for_each(|_| buffer.write_all(&data).unwrap()));
    buffer.rewind().unwrap();
    let read = timed(|| {
        for _ in 0..PIECES {
            buffer.read_exact(&mut buf).unwrap();
            black_box(&buf);
        }
    });
    [write, read]
}

/// Each run makes its pool and the idle buffers anew, so that those that hold bytes have them in memory
/// when the stream begins.
fn stream_beside(count: usize, len: usize) -> [Duration; 2] {
    let pool = pool(16 * MIB);
    let mut idle = buffers(&pool, count);
    if len > 0 {
        fill_all(&mut idle, len, len);
    }
    stream(&pool)
}

pub(crate) fn stream_beside_idle() {
    const ROUNDS: usize = 5;
    let cases = [
        ("10,000 empty ones", 10_000, 0),
        ("1,000,000 empty ones", 1_000_000, 0),
        ("10,000 of 1,500 B", 10_000, 1500),
    ];
    let mut contenders = vec![Contender::new("alone", || stream_beside(0, 0))];
    contenders
        .extend(cases.map(|(name, count, len)| Contender::new(name, move || stream_beside(count, len))));
    let medians = alternate(ROUNDS, &mut contenders);
    for ((name, ..), beside) in cases.into_iter().zip(&medians[1..]) {
        for (part, what) in ["written", "read"].into_iter().enumerate() {
            let ratio = medians[0][part].as_secs_f64() / beside[part].as_secs_f64();
            let what = format!("256 MiB by 4 KiB beside {name}, {what}: to alone");
            at_least(&what, ratio, 0.95, "x");
        }
    }
}

/// A pool, and `count` buffers of it that hold `len` bytes each, all in memory.
fn held(count: usize, len: usize) -> (SpillPool, Vec<SpillBuffer>) {
    let pool = pool(512 * MIB);
    let mut buffers = buffers(&pool, count);
    fill_all(&mut buffers, len, len);
    assert_eq!(pool.stats().disk_used, 0, "spilled below the limit");
    (pool, buffers)
}

/// Lowers the limit to 0, and waits until nothing is charged.
fn lowered(pool: &SpillPool) -> Duration {
    timed(|| {
        pool.set_memory_limit(0);
        while pool.stats().memory_used + pool.stats().memory_recycled > 0 {
            thread::sleep(Duration::from_micros(100));
        }
    })
}

/// The first round does not count: see [`limit_lowered`](crate::busy::limit_lowered).
pub(crate) fn limit_lowered_small() {
    const COUNT: usize = 100_000;
    let mut took: Vec<Duration> = (0..6).map(|_| lowered(&held(COUNT, 600).0)).collect();
    let took = median(&mut took[1..]).as_secs_f64() * 1e3;
    at_most("limit lowered to 0, 100,000 buffers of 600 B: kept after", took, 200.0, "ms");
    at_most("the same, with short slots", took, 60.0, "ms");
    let mixed: Vec<usize> = (0..COUNT).map(|i| 600 + i * 7919 % 2401).collect();
    let pool = pool(512 * MIB);
    let mut buffers = buffers(&pool, COUNT);
    buffers.iter_mut().zip(&mixed).for_each(|(buffer, len)| buffer.write_all(&vec![7; *len]).unwrap());
    lowered(&pool);
    let each = pool.stats().disk_used as f64 / mixed.iter().sum::<usize>() as f64;
    at_most("bodies of 600 B to 3 kB, spilled: disk charged for each byte", each, 1.3, "bytes");
    for len in [600, 1500, 3000] {
        let (pool, _buffers) = held(COUNT, len);
        lowered(&pool);
        let each = pool.stats().disk_used as f64 / (COUNT * len) as f64;
        at_most(&format!("bodies of {len} B, spilled: disk charged for each byte"), each, 1.3, "bytes");
    }
}

/// Prints the seconds of the first write of this process, which has threads that sleep.
pub(crate) fn first_write_once() {
    for _ in 0..8 {
        thread::spawn(|| thread::sleep(Duration::from_secs(3600)));
    }
    thread::sleep(Duration::from_millis(20)); // until they sleep
    let pool = pool(64 * MIB);
    let mut buffer = pool.buffer();
    println!("{}", timed(|| buffer.write_all(&[7; 100]).unwrap()).as_secs_f64());
}

pub(crate) fn first_write() {
    let (part, _) = PARTS[2];
    let mut took: Vec<Duration> = (0..10).map(|_| seconds(part)).collect();
    let took = median(&mut took[1..]).as_secs_f64() * 1e3;
    at_most("first write of a process with 8 threads, median of 9", took, 0.1, "ms");
}
