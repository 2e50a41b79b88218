//! Buffers at work: many, large, idle, dropped, shared by threads.

use crate::content::{buffers, fill, fill_all, pool, verify, verify_all};
use crate::{KIB, MIB, PARTS, at_least, at_most, descriptors, peak_mib, seconds, threads, verdict};
use overspill::{SpillBuffer, SpillPool};
use overspill_tests::bench::{Apart, median, timed};
use std::io::{Cursor, Read, Seek, Write};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::SpooledTempFile;

const BODIES: usize = 10_000;
const BODY: usize = 64 * KIB;
const CHUNK: usize = 8 * KIB;

/// Two threads fill half of the bodies each, and then verify them.
fn fill_and_verify<F: Read + Write + Seek + Send>(mut bodies: Vec<F>) -> Vec<F> {
    let half = bodies.len() / 2;
    let (front, back) = bodies.split_at_mut(half);
    thread::scope(|scope| {
        for (first, part) in [(0, front), (half, back)] {
            scope.spawn(move || {
                for (i, body) in part.iter_mut().enumerate() {
                    fill(body, first + i, BODY, CHUNK);
                }
                for (i, body) in part.iter_mut().enumerate() {
                    verify(body, first + i, BODY, CHUNK);
                }
            });
        }
    });
    bodies
}

pub(crate) fn ten_thousand_ours(with_figures: bool) {
    let before = descriptors();
    let pool = pool(64 * MIB);
    let mut bodies = Vec::new();
    let took = timed(|| bodies = fill_and_verify(buffers(&pool, BODIES)));
    if with_figures {
        at_most("10,000 x 64 KiB, limit 64 MiB: peak resident", peak_mib(), 80.0, "MiB");
        at_most("10,000 x 64 KiB: further descriptors", (descriptors() - before) as f64, 3.0, "");
    } else {
        println!("{}", took.as_secs_f64());
    }
}

pub(crate) fn ten_thousand_spooled() {
    let limit = 6 * KIB + KIB / 2;
    let mut bodies = Vec::new();
    let took = timed(|| bodies = fill_and_verify((0..BODIES).map(|_| SpooledTempFile::new(limit)).collect()));
    println!("{}", took.as_secs_f64());
}

pub(crate) fn ten_thousand() {
    ten_thousand_ours(true);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (times, (name, _)) in times.iter_mut().zip(PARTS) {
            times.push(seconds(name));
        }
    }
    let [ours, theirs] = times.map(|mut times| median(&mut times).as_secs_f64());
    at_least("10,000 x 64 KiB: speed against SpooledTempFile", theirs / ours, 3.0, "x");
}

pub(crate) fn hundred_thousand_small() {
    let pool = pool(64 * MIB);
    let mut buffers = buffers(&pool, 100_000);
    fill_all(&mut buffers, 600, 600);
    verify_all(&mut buffers, 600, 600);
    let spilled = buffers.iter().filter(|buffer| buffer.is_spilled()).count();
    at_most("100,000 x 600 bytes, limit 64 MiB: spilled", spilled as f64, 0.0, "");
    at_most("100,000 x 600 bytes: peak resident", peak_mib(), 96.0, "MiB");
}

/// Ten buffers, each written and verified three times over.
fn ten_active(pool: &SpillPool) -> Duration {
    let mut buffers = buffers(pool, 10);
    timed(|| {
        for _ in 0..3 {
            fill_all(&mut buffers, 4 * MIB, CHUNK);
            verify_all(&mut buffers, 4 * MIB, CHUNK);
        }
    })
}

pub(crate) fn idle_and_active() {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        alone.push(ten_active(&pool(64 * MIB)));
        let pool = pool(64 * MIB);
        let mut idle = buffers(&pool, 9000);
        fill_all(&mut idle, 8 * KIB, CHUNK);
        beside.push(ten_active(&pool));
        verify_all(&mut idle, 8 * KIB, CHUNK);
    }
    let ratio = median(&mut alone).as_secs_f64() / median(&mut beside).as_secs_f64();
    at_least("10 active of 4 MiB beside 9,000 idle: speed against alone", ratio, 0.5, "x");
}

pub(crate) fn huge_beside_small() {
    const SMALL: usize = 32 * KIB;
    // As much as an address can count, where that is less.
    let huge_len = usize::try_from(4_u64 << 30).unwrap_or(usize::MAX / MIB * MIB);
    let pool = pool(64 * MIB);
    let mut small = buffers(&pool, 1000);
    let done = AtomicBool::new(false);
    let (mut rounds, mut late) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut huge = pool.buffer();
            fill(&mut huge, 0, huge_len, 64 * KIB);
            verify(&mut huge, 0, huge_len, 64 * KIB);
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let before: Vec<u64> = small.iter().map(|buffer| buffer.stats().spills).collect();
            fill_all(&mut small, SMALL, 4 * KIB);
            verify_all(&mut small, SMALL, 4 * KIB);
            let spilled = small.iter().zip(before).filter(|(buffer, before)| buffer.stats().spills > *before);
            late += if rounds == 0 { 0 } else { spilled.count() };
            rounds += 1;
        }
    });
    assert!(rounds > 1, "the huge one was done within the first round of the small ones");
    at_most("1,000 x 32 KiB beside one of 4 GiB: spilled after round one", late as f64, 0.0, "");
}

/// Half of the load of [`limit_lowered`]: fills and verifies in step with the other half.
fn keep_busy(pool: &SpillPool, first: usize, filled: &AtomicU64, stop: &AtomicBool, both: &Barrier) {
    let mut buffers = buffers(pool, 500);
    loop {
        both.wait();
        if stop.load(Ordering::Relaxed) {
            return;
        }
        both.wait(); // so that both have read the same `stop`
        for (body, buffer) in buffers.iter_mut().enumerate() {
            buffer.rewind().unwrap();
            fill(buffer, first + body, 512 * KIB, CHUNK);
            filled.fetch_add(1, Ordering::Relaxed);
        }
        for (body, buffer) in buffers.iter_mut().enumerate() {
            verify(buffer, first + body, 512 * KIB, CHUNK);
        }
    }
}

/// Lowers the limit when both threads have just filled everything, so that all pages in memory have to be
/// written. The first round does not count: a virtual machine may get the memory for its page cache from the
/// host then, which can take a second.
pub(crate) fn limit_lowered() {
    const ROUNDS: usize = 9;
    let pool = pool(256 * MIB);
    let (filled, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let both = Barrier::new(2);
    let mut took = Vec::new();
    thread::scope(|scope| {
        let busy: Vec<_> = [0, 1000]
            .map(|first| {
                scope.spawn({
                    let (pool, filled, stop, both) = (&pool, &filled, &stop, &both);
                    move || keep_busy(pool, first, filled, stop, both)
                })
            })
            .into();
        let charged = || pool.stats().memory_used + pool.stats().memory_recycled;
        for round in 0..=ROUNDS {
            pool.set_memory_limit(256 * MIB);
            // One whole round with the higher limit, after the one that is under way.
            let enough = (filled.load(Ordering::Relaxed) / 1000 + 2) * 1000;
            while filled.load(Ordering::Relaxed) < enough {
                thread::sleep(Duration::from_micros(100));
            }
            let lowering = timed(|| {
                pool.set_memory_limit(32 * MIB);
                while charged() > 32 * MIB as u64 {
                    thread::sleep(Duration::from_micros(100));
                }
            });
            if round > 0 {
                took.push(lowering);
            }
        }
        stop.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let what = format!("limit lowered from 256 to 32 MiB under load, median of {ROUNDS}: kept after");
    at_most(&what, median(&mut took).as_secs_f64() * 1e3, 100.0, "ms");
    let worst = took.iter().max().unwrap().as_secs_f64() * 1e3;
    verdict("limit lowered from 256 to 32 MiB under load: the longest of them", worst, "", true);
}

pub(crate) fn all_dropped() {
    let before = threads();
    let pool = pool(4 * MIB);
    let mut buffers = buffers(&pool, 1000);
    fill_all(&mut buffers, 64 * KIB, CHUNK);
    assert!(temp_file_bytes() > 0, "nothing was spilled");
    drop(buffers);
    let stats = pool.stats();
    at_most("all buffers dropped: charged", stats.memory_used as f64, 0.0, "bytes");
    at_most("all buffers dropped: disk used", stats.disk_used as f64, 0.0, "bytes");
    at_most("all buffers dropped: blocks of the file", temp_file_bytes() as f64, 0.0, "bytes");
    at_most("all buffers dropped: threads left", threads() - before, 0.0, "");
}

fn in_ram<F: Read + Write + Seek>(rounds: usize, chunk: usize, make: impl Fn() -> F) {
    let (data, mut buf) = (Apart::new(7, chunk), Apart::new(0, chunk));
    for _ in 0..rounds {
        let mut buffer = make();
        (0..MIB / chunk).for_each(|_| buffer.write_all(&data).unwrap());
        buffer.rewind().unwrap();
        (0..MIB / chunk).for_each(|_| buffer.read_exact(&mut buf).unwrap());
    }
}

/// How much work two threads do in the time of one. That one is not the main thread either, since the
/// allocator serves the main thread in another way.
fn gain_of_two(work: &(dyn Fn() + Sync)) -> f64 {
    let run = |threads| thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    2.0 * timed(|| run(1)).as_secs_f64() / timed(|| run(2)).as_secs_f64()
}

/// Printed beside the gain of two threads with a vector each, measured in turn: it is 2 on a machine that is
/// idle otherwise, and often less on a virtual machine.
pub(crate) fn two_threads() {
    for (chunk, rounds) in [(64, 20), (4 * KIB, 200)] {
        let pool = pool(64 * MIB);
        let private = || in_ram(rounds, chunk, || SpillBuffer::with_budget(64 * MIB));
        let shared = || in_ram(rounds, chunk, || pool.buffer());
        let vectors = || in_ram(rounds, chunk, || Cursor::new(Vec::with_capacity(MIB)));
        let mut gains = [(); 3].map(|()| Vec::new());
        for _ in 0..41 {
            let works: [&(dyn Fn() + Sync); 3] = [&private, &shared, &vectors];
            gains.iter_mut().zip(works).for_each(|(gains, work)| gains.push(gain_of_two(work)));
        }
        let [private, shared, vectors] = gains.map(middle);
        at_least(&format!("two threads, private buffers, by {chunk}: against one"), private, 1.8, "x");
        at_least(&format!("two threads, buffers of one pool, by {chunk}: against one"), shared, 1.8, "x");
        at_least(&format!("two threads, vectors, by {chunk}: against one"), vectors, 0.0, "x");
    }
}

/// The median of ratios that were measured within one round each, since the speed of the machine changes
/// between rounds.
fn middle(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_unstable_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// The first in a round alternates, since the caches are as the one before left them.
pub(crate) fn shared_against_private() {
    for chunk in [16, 64] {
        let (shared, private) = (pool(64 * MIB), pool(64 * MIB));
        let _others = buffers(&shared, 100);
        let time = |pool: &SpillPool| timed(|| in_ram(2, chunk, || pool.buffer())).as_secs_f64();
        let ratio = |round| {
            if round % 2 == 0 {
                let ours = time(&shared);
                time(&private) / ours
            } else {
                time(&private) / time(&shared)
            }
        };
        let ratio = middle((0..202).map(ratio).skip(1).collect());
        at_least(&format!("in a shared pool, by {chunk}: against a private one"), ratio, 0.95, "x");
    }
}

/// The bytes of disk that the unnamed files of this process take.
fn temp_file_bytes() -> u64 {
    #[cfg(target_os = "linux")]
    {
        use overspill_tests::linux::{disk_bytes, open_files};
        disk_bytes(&open_files(|file| file.to_string_lossy().ends_with(" (deleted)")))
    }
    #[cfg(not(target_os = "linux"))]
    unreachable!("`main` has ended by then where there is no /proc");
}
