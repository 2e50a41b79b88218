//! One stream over its limit, against a temp file without one.

use crate::{KIB, MIB};
use overspill::SpillBuffer;
use overspill_tests::bench::{
    Contender, Row, alternate, bytes, print_write_read, read_chunks, timed, write_chunks, write_read,
};
use overspill_tests::support::Random;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;
use tempfile::{SpooledTempFile, tempfile};

const MEMORY: usize = 16 * MIB;

/// A temp file behind std's buffers, written and then read.
fn buffered_file(data: &[u8], total: usize, chunk: usize) -> [Duration; 2] {
    let mut writer = BufWriter::new(tempfile().unwrap());
    let write = timed(|| {
        write_chunks(&mut writer, data, total, chunk);
        writer.flush().unwrap();
    });
    let mut file: File = writer.into_inner().unwrap();
    file.rewind().unwrap();
    let mut reader = BufReader::new(file);
    let mut buf = vec![0; chunk];
    [write, timed(|| read_chunks(&mut reader, &mut buf, total))]
}

pub(crate) fn one_stream() {
    for (chunk, rounds) in [(64, 3), (1000, 5), (48 * KIB, 9), (64 * KIB, 9), (768 * KIB, 9), (MIB, 9)] {
        // Whole chunks alone.
        let data = bytes(chunk * (MIB / chunk));
        let total = 256 * MIB / chunk * chunk;
        let mut contenders = vec![
            Contender::new("overspill", || {
                write_read(|| SpillBuffer::with_budget(MEMORY), &data, total, chunk)
            }),
            Contender::new("temp file", || write_read(|| tempfile().unwrap(), &data, total, chunk)),
        ];
        let mut rivals = vec![("temp file", 1.0)];
        if chunk <= 1000 {
            contenders.push(Contender::new("BufWriter/Reader", || buffered_file(&data, total, chunk)));
            rivals.push(("BufWriter/Reader", 1.0));
        }
        if chunk == 64 {
            contenders.push(Contender::new("SpooledTempFile", || {
                write_read(|| SpooledTempFile::new(MEMORY), &data, total, chunk)
            }));
            rivals.push(("SpooledTempFile", 15.0));
        }
        let medians = alternate(rounds, &mut contenders);
        for ((rival, target), theirs) in rivals.into_iter().zip(&medians[1..]) {
            let case = format!("256 MiB over 16 MiB by {chunk}");
            print_write_read(&case, rival, medians[0], *theirs, target);
        }
    }
}

const TOTAL: usize = 64 * MIB;
const OPS: usize = 200_000;

fn filled<F: Write>(mut file: F, data: &[u8]) -> F {
    write_chunks(&mut file, data, TOTAL, 64 * KIB);
    file
}

fn read_at_places(file: &mut (impl Read + Seek), places: &[u64]) -> [Duration; 1] {
    let mut buf = [0; 64];
    [timed(|| {
        for place in places {
            file.seek(SeekFrom::Start(*place)).unwrap();
            file.read_exact(&mut buf).unwrap();
        }
    })]
}

fn write_at_places(file: &mut (impl Write + Seek), places: &[u64]) -> [Duration; 1] {
    [timed(|| {
        for place in places {
            file.seek(SeekFrom::Start(*place)).unwrap();
            file.write_all(&[7; 64]).unwrap();
        }
    })]
}

/// The same calls on both sides: a seek, and 64 bytes. A program that knows that it has a file saves the
/// seek: that is printed too, without a target.
pub(crate) fn random() {
    let data = bytes(MIB);
    let pages = (TOTAL / (64 * KIB)) as u64;
    let uniform = |random: &mut Random| random.below((TOTAL / 64) as u64) * 64;
    // Every tenth page is hot, so that the hot pages are not just the first ones.
    let skewed = |random: &mut Random| {
        let page = if random.below(10) < 9 { random.below(pages / 10) * 10 } else { random.below(pages) };
        page * 64 * KIB as u64 + random.below(1024) * 64
    };
    type Place<'a> = &'a dyn Fn(&mut Random) -> u64;
    let cases: [(&str, Place<'_>, [f64; 2]); 2] =
        [("uniform", &uniform, [1.05, 1.5]), ("90 % in 10 % of the pages", &skewed, [5.0, 5.0])];
    for (name, place, [read_target, write_target]) in cases {
        let mut random = Random::new(1);
        let places: Vec<u64> = (0..OPS).map(|_| place(&mut random)).collect();
        let fresh = || (filled(SpillBuffer::with_budget(MEMORY), &data), filled(tempfile().unwrap(), &data));
        let at = |do_one: &dyn Fn(u64)| [timed(|| places.iter().for_each(|place| do_one(*place)))];

        let (mut ours, mut theirs) = fresh();
        let direct = theirs.try_clone().unwrap();
        let medians = alternate(
            9,
            &mut [
                Contender::new("overspill", || read_at_places(&mut ours, &places)),
                Contender::new("temp file", || read_at_places(&mut theirs, &places)),
                Contender::new("without seeks", || {
                    at(&|place| direct.read_exact_at(&mut [0; 64], place).unwrap())
                }),
            ],
        );
        print_random(&format!("random 64 B, {name}, read"), &medians, read_target);

        let (mut ours, mut theirs) = fresh();
        let direct = theirs.try_clone().unwrap();
        let medians = alternate(
            9,
            &mut [
                Contender::new("overspill", || write_at_places(&mut ours, &places)),
                Contender::new("temp file", || write_at_places(&mut theirs, &places)),
                Contender::new("without seeks", || {
                    at(&|place| direct.write_all_at(&[7; 64], place).unwrap())
                }),
            ],
        );
        print_random(&format!("random 64 B, {name}, write"), &medians, write_target);
    }
}

fn print_random(case: &str, medians: &[[Duration; 1]], target: f64) {
    Row::times(case, "temp file", medians[0][0], medians[1][0], target).print();
    Row::times(case, "without seeks", medians[0][0], medians[2][0], 0.0).print();
}
