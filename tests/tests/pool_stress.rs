//! Does a pool keep its promises under load? Many buffers on several threads are compared with a vector each,
//! while pages are reclaimed, limits move, and buffers are made and dropped. After each step the buffer's
//! invariants are checked; after each phase, with all threads at rest, the pool's.
//!
//! `OVERSPILL_SEED=… OVERSPILL_STRESS_SECONDS=600 cargo test --release -p overspill-tests --test pool_stress`
//! runs longer. The seed fixes what each thread does, not how threads interleave.

#![allow(clippy::cast_possible_truncation, reason = "sizes here are small and made up")]

use overspill::{Checksums, MemoryStore, SpillBuffer, SpillPool, WhenFull};
use overspill_tests::support::Random;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const THREADS: u64 = 3;
const BUFFERS_MAX: usize = 8;
const STEPS: usize = 120;
const PAGE: u64 = 256;

/// A buffer, and what its content must be.
struct Pair {
    buffer: SpillBuffer,
    model: Vec<u8>,
}

impl Pair {
    fn new(pool: &SpillPool) -> Self {
        Pair { buffer: pool.buffer(), model: Vec::new() }
    }

    fn position(&self, random: &mut Random) -> usize {
        random.below(self.model.len() as u64 + 20) as usize
    }

    fn write(&mut self, random: &mut Random) {
        let at = if random.below(2) == 0 { self.model.len() } else { self.position(random) };
        let most = [8, 64, 4 * PAGE][random.index(3)];
        let len = 1 + random.below(most) as usize;
        let byte = random.below(256) as u8;
        let data: Vec<u8> = (0..len).map(|i| byte.wrapping_add(i as u8)).collect();
        self.buffer.seek(SeekFrom::Start(at as u64)).unwrap();
        // A refused write takes nothing. A short one takes as much as it returns.
        let Ok(taken) = self.buffer.write(&data) else { return };
        assert!(taken > 0);
        self.model.resize(self.model.len().max(at + taken), 0);
        self.model[at..at + taken].copy_from_slice(&data[..taken]);
    }

    fn read(&mut self, random: &mut Random) {
        let at = self.position(random).min(self.model.len());
        let len = (self.model.len() - at).min(random.below(3 * PAGE) as usize);
        let mut found = vec![0; len];
        self.buffer.seek(SeekFrom::Start(at as u64)).unwrap();
        self.buffer.read_exact(&mut found).unwrap();
        assert_eq!(found, self.model[at..at + len]);
    }

    fn read_all(&mut self, random: &mut Random) {
        let mut found = Vec::new();
        self.buffer.rewind().unwrap();
        if random.below(2) == 0 {
            self.buffer.read_to_end(&mut found).unwrap();
        } else {
            loop {
                let chunk = self.buffer.fill_buf().unwrap();
                if chunk.is_empty() {
                    break;
                }
                found.extend_from_slice(chunk);
                let len = chunk.len();
                self.buffer.consume(len);
            }
        }
        assert_eq!(found, self.model);
    }

    fn truncate(&mut self, random: &mut Random) {
        let len = self.position(random);
        self.buffer.set_len(len as u64).unwrap();
        self.model.resize(len, 0);
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(12) {
            0..6 => self.write(random),
            6..9 => self.read(random),
            9 => self.read_all(random),
            10 => self.truncate(random),
            // It may be refused, but must lose nothing.
            _ => drop(self.buffer.spill()),
        }
        assert_eq!(self.buffer.len(), self.model.len() as u64);
        self.buffer.check_invariants();
    }
}

fn work(pool: &SpillPool, mut pairs: Vec<Pair>, mut random: Random) -> Vec<Pair> {
    for _ in 0..STEPS {
        if pairs.len() < BUFFERS_MAX && random.below(10) == 0 || pairs.is_empty() {
            pairs.push(Pair::new(pool));
        }
        let at = random.index(pairs.len());
        if random.below(40) == 0 {
            pairs.swap_remove(at);
        } else {
            pairs[at].step(&mut random);
        }
    }
    pairs
}

fn move_limits(pool: &SpillPool, random: &mut Random) {
    for _ in 0..6 {
        pool.set_memory_limit((random.below(5) * random.below(40) * PAGE) as usize);
        pool.set_disk_limit(if random.below(3) == 0 { random.below(200) * PAGE } else { u64::MAX });
        if random.below(4) == 0 {
            pool.trim();
        }
        thread::sleep(Duration::from_micros(random.below(300)));
    }
}

/// Runs phases until `until`. In each, threads work while limits move, and then all are at rest.
fn stress(pool: &SpillPool, seed: u64, until: Instant) {
    let mut seeds = Random::new(seed);
    let mut all: Vec<Vec<Pair>> = (0..THREADS).map(|_| Vec::new()).collect();
    let mut phase = 0;
    while phase < 3 || Instant::now() < until {
        phase += 1;
        let next: Vec<u64> = (0..=THREADS).map(|_| seeds.bits()).collect();
        all = thread::scope(|scope| {
            let workers: Vec<_> = all
                .drain(..)
                .zip(&next)
                .map(|(pairs, &seed)| scope.spawn(move || work(pool, pairs, Random::new(seed))))
                .collect();
            move_limits(pool, &mut Random::new(next[THREADS as usize]));
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        pool.check_invariants();
    }
    pool.set_disk_limit(u64::MAX);
    for pair in all.iter_mut().flatten() {
        pair.read_all(&mut seeds);
    }
    drop(all);
    pool.trim();
    pool.check_invariants();
    let stats = pool.stats();
    assert_eq!(
        (stats.memory_used, stats.memory_recycled, stats.disk_used),
        (0, 0, 0),
        "something is still used"
    );
}

fn seconds() -> u64 {
    std::env::var("OVERSPILL_STRESS_SECONDS").map_or(2, |seconds| seconds.parse().unwrap())
}

fn seed() -> u64 {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("OVERSPILL_SEED").map_or_else(|_| now(), |seed| seed.parse().unwrap());
    println!("OVERSPILL_SEED={seed}");
    seed
}

#[test]
fn over_a_store_in_memory() {
    let until = Instant::now() + Duration::from_secs(seconds());
    let store = MemoryStore::new();
    let pool = SpillPool::builder().memory(4096).page_size(PAGE as usize).store(store).build().unwrap();
    stress(&pool, seed(), until);
}

#[test]
fn over_a_temp_file() {
    let until = Instant::now() + Duration::from_secs(seconds());
    let builder = SpillPool::builder().memory(4096).page_size(PAGE as usize);
    let pool = builder.checksums(Checksums::On).build().unwrap();
    stress(&pool, seed(), until);
}

/// Writers that wait for each other's room, some beyond their deadline.
#[test]
fn over_a_disk_limit_that_is_waited_for() {
    let until = Instant::now() + Duration::from_secs(seconds());
    let builder = SpillPool::builder().memory(4096).page_size(PAGE as usize).store(MemoryStore::new());
    let when_full = WhenFull::Wait { at_most: Duration::from_millis(2) };
    stress(&builder.when_full(when_full).build().unwrap(), seed(), until);
}

/// A disk that gets full: a reclaimed page that cannot be written comes back to its owner.
#[test]
fn over_a_store_that_is_full() {
    let until = Instant::now() + Duration::from_secs(seconds());
    let store = MemoryStore::with_capacity(60 * PAGE);
    let builder = SpillPool::builder().memory(8192).page_size(PAGE as usize).store(store);
    let pool = builder.checksums(Checksums::On).build().unwrap();
    stress(&pool, seed(), until);
}
