//! What a drop costs where it is dropped, when much is on the disk: against a temp file, whose close
//! frees all its blocks.

use crate::MIB;
use overspill::{SpillBuffer, SpillPool, Store};
use overspill_tests::bench::{Contender, Row, alternate, bytes, timed, write_chunks};
use std::io::{self, Seek, SeekFrom, Write};
use std::time::Duration;
use tempfile::tempfile;

const TOTAL: usize = 1024 * MIB;

fn pool() -> SpillPool {
    SpillPool::builder().memory(MIB).build().unwrap()
}

fn filled<F: Write>(mut file: F, data: &[u8]) -> F {
    write_chunks(&mut file, data, TOTAL, MIB);
    file
}

/// A gigabyte at the end of the pool's file, or in its middle: how long the drop takes, and giving the
/// blocks back after it.
fn from_pool(data: &[u8], in_the_middle: bool) -> [Duration; 2] {
    let pool = pool();
    let large = filled(pool.buffer(), data);
    let mut late = pool.buffer();
    if in_the_middle {
        late.write_all(&data[..MIB / 4]).unwrap();
        late.spill().unwrap();
    }
    [timed(|| drop(large)), timed(|| pool.trim())]
}

/// A buffer with a file that goes with it: no pool is left to give its blocks back.
fn whole<F: Write>(file: F, data: &[u8]) -> [Duration; 2] {
    let large = filled(file, data);
    [timed(|| drop(large)), Duration::ZERO]
}

pub(crate) fn gigabyte() {
    let data = bytes(MIB);
    let pool_of_own = pool();
    let target = std::env::temp_dir().join("overspill-never-made");
    let medians = alternate(
        5,
        &mut [
            Contender::new("temp file", || whole(tempfile().unwrap(), &data)),
            Contender::new("end", || from_pool(&data, false)),
            Contender::new("middle", || from_pool(&data, true)),
            Contender::new("for a target", || whole(pool_of_own.buffer_for(&target), &data)),
            Contender::new("without a pool", || whole(SpillBuffer::with_budget(MIB), &data)),
        ],
    );
    let [file, rest @ ..] = &medians[..] else { return };
    let cases =
        [("at the end", 70.0), ("in the middle", 70.0), ("for a target", 0.0), ("without a pool", 0.0)];
    for ((case, target), ours) in cases.into_iter().zip(rest) {
        Row::times(format!("drop 1 GiB, {case}"), "temp file", ours[0], file[0], target).print();
        if ours[1] > Duration::ZERO {
            Row::times(format!("  {case}: trim after it"), "temp file", ours[1], file[0], 0.0).print();
        }
    }
}

/// Takes everything and keeps nothing, so that only the bookkeeping costs time.
#[derive(Debug)]
struct Nowhere;

impl Store for Nowhere {
    fn read_at(&self, _: u64, buf: &mut [u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn write_at(&self, _: u64, data: &[u8]) -> io::Result<usize> {
        Ok(data.len())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

const PAGES: u64 = 4_000_000;

/// A table of four million pages, the drop and the trim together: dense, and each page between two holes.
pub(crate) fn pages() {
    for (case, page, distance) in [("dense", 4096, 4096), ("sparse", 64 << 10, 256 << 10)] {
        let run = || {
            let builder = SpillPool::builder().memory(MIB).page_size(page).store(Nowhere);
            let pool = builder.build().unwrap();
            let mut buffer = pool.buffer();
            for index in 0..PAGES {
                buffer.seek(SeekFrom::Start(index * distance)).unwrap();
                buffer.write_all(&[1; 4096]).unwrap();
            }
            [timed(|| {
                drop(buffer);
                pool.trim();
            })]
        };
        let medians = alternate(3, &mut [Contender::new("overspill", run)]);
        let half_a_second = Duration::from_millis(500);
        Row::times(format!("drop 4 million pages, {case}"), "0.5 s", medians[0][0], half_a_second, 1.0)
            .print();
    }
}
