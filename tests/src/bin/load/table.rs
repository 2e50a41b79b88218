//! What the tables of pages cost, over a store that keeps nothing: so what is resident is theirs.

use crate::{KIB, MIB, at_most, resident_mib};
use overspill::{SpillBuffer, SpillPool};
use overspill_tests::bench::timed;
use overspill_tests::support::Nothing;
use std::io::{Seek, SeekFrom, Write};

/// A pool that has its memory already, and a buffer that has used all of it.
fn warm(page: usize) -> (SpillPool, SpillBuffer) {
    let pool = SpillPool::builder().memory(4 * MIB).page_size(page).store(Nothing).build().unwrap();
    let mut buffer = pool.buffer();
    (0..8 * MIB / page).for_each(|_| buffer.write_all(&vec![7; page]).unwrap());
    (pool, buffer)
}

/// Writes a byte every `step` bytes, the first at `first`, and returns the resident bytes for each of them.
fn bytes_each(buffer: &mut SpillBuffer, first: u64, step: u64, count: u64) -> f64 {
    let before = resident_mib();
    for i in 0..count {
        buffer.seek(SeekFrom::Start(first + i * step)).unwrap();
        buffer.write_all(&[7]).unwrap();
    }
    (resident_mib() - before) * MIB as f64 / count as f64
}

/// A leaf of the table has 256 pages.
pub(crate) fn sparse() {
    const PAGE: u64 = 64 * KIB as u64;
    let (_pool, mut buffer) = warm(64 * KIB);
    let each = bytes_each(&mut buffer, 255 * PAGE, 256 * PAGE, (1 << 40) / (256 * PAGE));
    at_most("1 TiB sparse, a byte in the last page of each leaf: table of each", each, 300.0, "bytes");
}

pub(crate) fn pages() {
    let (_pool, mut buffer) = warm(4 * KIB);
    let each = bytes_each(&mut buffer, 0, 4 * KIB as u64, 4_000_000);
    at_most("4,000,000 pages of 4 KiB, a byte in each: table of a page", each, 40.0, "bytes");
    let took = timed(|| drop(buffer)).as_secs_f64();
    at_most("the same: dropped in", took, 0.5, "s");
}
