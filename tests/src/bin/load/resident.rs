//! What the process has resident: beside the limit, after a trim, in the long run, for buffers that hold
//! nothing.

use crate::content::{buffers, piece, pool};
use crate::{KIB, MIB, at_most, peak_mib, resident_mib};
use overspill::{SpillBuffer, SpillPool};
use overspill_tests::support::Random;
use std::io::Write;

/// The buffers that stay are every hundredth, so that they lie as far apart as they can.
pub(crate) fn bodies_in_turn() {
    const BODIES: usize = 10_000;
    const LEN: usize = 60_000;
    const PIECE: usize = 6000;
    let pool = pool(48 * MIB);
    let mut buffers = buffers(&pool, BODIES);
    let mut data = [0; PIECE];
    for at in (0..LEN).step_by(PIECE) {
        for (body, buffer) in buffers.iter_mut().enumerate() {
            piece(body, at, &mut data);
            buffer.write_all(&data).unwrap();
        }
    }
    at_most("10,000 x 60 kB by 6,000 in turn, limit 48 MiB: peak resident", peak_mib(), 61.0, "MiB");
    let mut body = 0;
    buffers.retain(|_| {
        body += 1;
        body % 100 == 0
    });
    pool.trim();
    assert_eq!(buffers.len(), 100);
    at_most("the same, all but 100 dropped and trimmed: resident", resident_mib(), 14.0, "MiB");
}

/// From 100 bytes to 1 MB, as many of one to two kB as of two to four.
fn log_uniform(random: &mut Random) -> usize {
    let unit = random.bits() as f64 / u64::MAX as f64;
    (100.0 * 10_000_f64.powf(unit)) as usize
}

fn body(pool: &SpillPool, len: usize) -> SpillBuffer {
    static DATA: [u8; 8 * KIB] = [7; 8 * KIB];
    let mut buffer = pool.buffer();
    for at in (0..len).step_by(DATA.len()) {
        buffer.write_all(&DATA[..DATA.len().min(len - at)]).unwrap();
    }
    buffer
}

/// As many bodies as `OVERSPILL_DAY` says: a day of a hundred a second has ten million.
pub(crate) fn day() {
    const ALIVE: usize = 500;
    let bodies = std::env::var("OVERSPILL_DAY").map_or(1_000_000, |bodies| bodies.parse().unwrap());
    let pool = pool(32 * MIB);
    let mut random = Random::new(1);
    let mut alive: Vec<SpillBuffer> = (0..ALIVE).map(|_| body(&pool, log_uniform(&mut random))).collect();
    let mut peak_early = 0.0;
    for made in ALIVE..bodies {
        if made == bodies / 10 {
            peak_early = peak_mib();
        }
        let next = log_uniform(&mut random);
        let old = &mut alive[random.index(ALIVE)];
        // Dropped first, as the owner of a slot in a server does.
        *old = pool.buffer();
        *old = body(&pool, next);
    }
    assert!(peak_early > 0.0, "a tenth of {bodies} bodies is less than are alive at once");
    let what = format!("{bodies} bodies of 100 B - 1 MB, 500 alive, limit 32 MiB");
    at_most(&format!("{what}: peak resident"), peak_mib(), 44.0, "MiB");
    at_most("the same: growth of the peak after the first tenth", peak_mib() - peak_early, 0.5, "MiB");
}

pub(crate) fn million_empty() {
    const COUNT: usize = 1_000_000;
    let pool = pool(64 * MIB);
    drop(buffers(&pool, 1));
    pool.trim();
    let before = resident_mib();
    let idle = buffers(&pool, COUNT);
    let each = (resident_mib() - before) * MIB as f64 / COUNT as f64;
    at_most("a million empty buffers: resident for each, their vector too", each, 200.0, "bytes");
    drop(idle);
    pool.trim();
    at_most("the same, dropped and trimmed: still resident", resident_mib() - before, 1.0, "MiB");
}
