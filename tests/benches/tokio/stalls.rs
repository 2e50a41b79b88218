//! How late a ticker of a millisecond comes: in an idle runtime, beside bodies that cross their limit, and
//! while bodies of a gigabyte that lie on the disk are dropped on the loop.
//!
//! What is aimed at is on top of what the idle runtime has, since a timer of tokio is up to a millisecond
//! late by itself, and a busy machine makes it later.

use crate::{KIB, MIB};
use overspill::{AsyncSpillBuffer, SpillBuffer, SpillPool};
use overspill_tests::bench::{bytes, median, write_chunks};
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tempfile::SpooledTempFile;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Rounds that count, after one that does not.
const ROUNDS: usize = 3;

/// How long a ticker ticks: two thousand times, if nothing stalls it.
const LONG: Duration = Duration::from_secs(2);

/// Bodies at once, and what each of them has; each limit is a part of that.
const BODIES: usize = 3;
const BODY: usize = 64 * MIB;
const LIMIT: usize = 5 * MIB;

/// What is dropped, so often in a run. Its making by another thread is no part of that.
const LARGE: usize = 1024 * MIB;
const DROPS: usize = 2;

/// Whether ticks count.
static COUNTS: AtomicBool = AtomicBool::new(true);

/// What happens beside the ticker; all of it on the loop, but for what is made before.
type Load = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How late ticks were: 99.9 % of them, and the latest.
type Late = [Duration; 2];

/// A load's name, and what begins it.
type NamedLoad = (&'static str, fn() -> Load);

const LOADS: [NamedLoad; 6] = [
    ("idle", || Box::pin(sleep(LONG))),
    ("async buffers are written", || Box::pin(bodies(ours))),
    ("SpooledTempFiles are written", || Box::pin(bodies(spooled))),
    ("1 GiB async buffers are dropped", || Box::pin(dropped(large_ours))),
    ("the same without a pool", || Box::pin(dropped(large_alone))),
    ("1 GiB SpooledTempFiles are dropped", || Box::pin(dropped(large_spooled))),
];

/// The aim for ours, by place in [`LOADS`]: at most so much above the idle runtime.
const AIM: Duration = Duration::from_millis(2);
const OURS: [usize; 3] = [1, 3, 4];

pub(crate) fn stalls() {
    println!(
        "{:<16} {:<36} {:>10} {:>10} {:>10} {:>6}",
        "runtime", "ticker of 1 ms beside", "p99.9, ms", "longest", "above idle", "aim"
    );
    for workers in [0, 2] {
        let lateness = take_turns(workers);
        let name = if workers == 0 { "current_thread".into() } else { format!("{workers} workers") };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        for (at, ((load, _), [most, longest])) in LOADS.iter().zip(&lateness).enumerate() {
            let above = ms(*most) - ms(lateness[0][0]);
            let aim = if OURS.contains(&at) { format!("{:.2}", ms(AIM)) } else { String::new() };
            let verdict = if OURS.contains(&at) && above > ms(AIM) { "  MISSED" } else { "" };
            println!(
                "{name:<16} {load:<36} {:>10.2} {:>10.2} {above:>10.2} {aim:>6}{verdict}",
                ms(*most),
                ms(*longest)
            );
        }
    }
}

/// Medians of each load. Each round begins with the next of them.
fn take_turns(workers: usize) -> Vec<Late> {
    let mut late = vec![[const { Vec::new() }; 2]; LOADS.len()];
    for round in 0..=ROUNDS {
        for turn in 0..LOADS.len() {
            let at = (round + turn) % LOADS.len();
            let figures = beside(&runtime(workers), LOADS[at].1);
            if round > 0 {
                late[at].iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
            }
        }
    }
    late.iter_mut().map(|parts| parts.each_mut().map(|part| median(part))).collect()
}

fn runtime(workers: usize) -> Runtime {
    let mut builder = if workers == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(workers.max(1)).enable_time().build().unwrap()
}

/// Lets a load run on the runtime's own threads, beside a ticker.
fn beside(runtime: &Runtime, load: fn() -> Load) -> Late {
    COUNTS.store(true, Relaxed);
    runtime.block_on(async {
        let ticker = tokio::spawn(async move {
            let load = tokio::spawn(load());
            let late = tick(|| load.is_finished()).await;
            load.await.unwrap();
            late
        });
        let mut late = ticker.await.unwrap();
        late.sort_unstable();
        [late[(late.len() * 999).div_ceil(1000) - 1], late[late.len() - 1]]
    })
}

async fn tick(is_over: impl Fn() -> bool) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut late = Vec::new();
    while !is_over() {
        let due = ticks.tick().await;
        if COUNTS.load(Relaxed) {
            late.push(due.elapsed());
        }
    }
    late
}

/// Bodies one after another, [`BODIES`] of them at once, for as long as the ticker ticks.
async fn bodies<F: Future<Output = ()> + Send + 'static>(body: fn(SpillPool) -> F) {
    let began = Instant::now();
    let pool = SpillPool::builder().memory(BODIES * LIMIT).build().unwrap();
    let writers: [_; BODIES] = std::array::from_fn(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            while began.elapsed() < LONG {
                body(pool.clone()).await;
            }
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn ours(pool: SpillPool) {
    let (mut body, data) = (pool.buffer().into_async(), bytes(64 * KIB));
    for _ in 0..BODY / data.len() {
        body.write_all(&data).await.unwrap();
        yield_now().await;
    }
}

async fn spooled(_: SpillPool) {
    let (mut body, data) = (SpooledTempFile::new(LIMIT), bytes(64 * KIB));
    for _ in 0..BODY / data.len() {
        body.write_all(&data).unwrap();
        yield_now().await;
    }
}

/// Drops what other threads have made; the pool stays, as that of a server does. Only the ticks
/// around each drop count.
async fn dropped<F: Send + 'static>(make: fn(&SpillPool) -> F) {
    let pool = SpillPool::builder().memory(LIMIT).build().unwrap();
    COUNTS.store(false, Relaxed);
    for _ in 0..DROPS {
        let pool = pool.clone();
        let large = spawn_blocking(move || make(&pool)).await.unwrap();
        sleep(LONG / 20).await;
        COUNTS.store(true, Relaxed);
        sleep(LONG / 20).await;
        drop(large);
        sleep(LONG / 20).await;
        COUNTS.store(false, Relaxed);
    }
}

fn filled<F: Write>(mut file: F) -> F {
    write_chunks(&mut file, &bytes(MIB), LARGE, MIB);
    file
}

fn large_ours(pool: &SpillPool) -> AsyncSpillBuffer {
    filled(pool.buffer()).into_async()
}

/// With a file of its own, which ends with it.
fn large_alone(_: &SpillPool) -> AsyncSpillBuffer {
    filled(SpillBuffer::with_budget(LIMIT)).into_async()
}

fn large_spooled(_: &SpillPool) -> SpooledTempFile {
    filled(SpooledTempFile::new(LIMIT))
}
