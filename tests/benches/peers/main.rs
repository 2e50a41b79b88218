//! `SpillBuffer` against what programs use today, in turn.
//!
//! `cargo bench -p overspill-tests --bench peers` runs all cases; `cargo bench -p overspill-tests --bench
//! peers -- bodies` the case `bodies`. `files-1g` is `files` with a gigabyte, which runs only if it is named.
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

mod alone;
mod files;

use overspill::{Checksums, SpillBuffer, SpillPool};
use overspill_tests::bench::{
    Contender, Row, alternate, arguments, bytes, peak_resident_kib, print_write_read, read_chunks, timed,
    write_chunks, write_read,
};
use overspill_tests::support::Random;
use std::hint::black_box;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::time::Duration;
use tempfile::SpooledTempFile;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn main() {
    let args = arguments();
    if args.first().is_some_and(|arg| arg == "child-peak") {
        return peak_child();
    }
    if let [child, args @ ..] = &args[..]
        && child == alone::CHILD
    {
        return alone::child(args);
    }
    let cases: [(&str, fn()); 9] = [
        ("ram", in_ram),
        ("alone", alone::alone),
        ("recycled", recycled_frames),
        ("bodies", bodies),
        ("spilled-bodies", spilled_bodies),
        ("crossing", crossing),
        ("checksums", checksums),
        ("files", files::files),
        ("peak", peak_memory),
    ];
    Row::print_header();
    for (name, case) in cases {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            case();
        }
    }
    if args.iter().any(|arg| arg == "files-1g") {
        files::files_1g();
    }
}

/// Ours twice: a buffer with a limit of its own, whose memory comes from the allocator as the rivals' does;
/// and a buffer of a pool that recycles the memory of earlier buffers, as in a server.
fn in_ram() {
    let data = bytes(MIB);
    let pool = SpillPool::builder().memory(64 * MIB).build().unwrap();
    for chunk in [16, 64, 512, 4 * KIB, 64 * KIB, MIB] {
        let total = 4 * MIB;
        let medians = alternate(
            31,
            &mut [
                Contender::new("of its own", || {
                    write_read(|| SpillBuffer::with_budget(64 * MIB), &data, total, chunk)
                }),
                Contender::new("of a pool", || write_read(|| pool.buffer(), &data, total, chunk)),
                Contender::new("SpooledTempFile", || {
                    write_read(|| SpooledTempFile::new(64 * MIB), &data, total, chunk)
                }),
                Contender::new("Cursor<Vec<u8>>", || {
                    write_read(|| Cursor::new(Vec::new()), &data, total, chunk)
                }),
            ],
        );
        for (name, ours) in [("own", medians[0]), ("pool", medians[1])] {
            let case = format!("in RAM ({name}), 4 MiB by {chunk}");
            print_write_read(&case, "SpooledTempFile", ours, medians[2], 1.0);
            print_write_read(&case, "Cursor<Vec<u8>>", ours, medians[3], 0.9);
        }
    }
}

fn recycled_frames() {
    let data = bytes(MIB);
    let pool = SpillPool::builder().memory(80 * MIB).build().unwrap();
    let medians = alternate(
        9,
        &mut [
            Contender::new("overspill", || {
                let mut buffer = pool.buffer();
                [timed(|| write_chunks(&mut buffer, &data, 64 * MIB, 64 * KIB))]
            }),
            Contender::new("Cursor<Vec<u8>>", || {
                let mut vec = Cursor::new(Vec::new());
                [timed(|| write_chunks(&mut vec, &data, 64 * MIB, 64 * KIB))]
            }),
        ],
    );
    Row::times("recycled frames, 64 MiB by 64 KiB", "Cursor<Vec<u8>>", medians[0][0], medians[1][0], 3.0)
        .print();
}

/// `count` bodies, each written and read in pieces and dropped.
fn body_times<F: Read + Write + Seek>(
    count: usize,
    data: &[u8],
    piece: usize,
    make: impl Fn() -> F,
) -> [Duration; 1] {
    let mut buf = vec![0; data.len()];
    [timed(|| {
        for _ in 0..count {
            let mut file = make();
            data.chunks(piece).for_each(|piece| file.write_all(piece).unwrap());
            file.rewind().unwrap();
            buf.chunks_mut(piece).for_each(|piece| file.read_exact(piece).unwrap());
            black_box(&buf);
        }
    })]
}

/// Bodies as servers have them, in pieces as they arrive: of a pool and of their own, against a
/// spooled file and a vector.
fn bodies() {
    let pool = SpillPool::builder().memory(64 * MIB).build().unwrap();
    for len in [100, 1000, 4000, 10_000, 16_000, 30_000, 60_000, 100_000, 300_000, 1_000_000] {
        [1400, 8 * KIB, len]
            .into_iter()
            .filter(|piece| *piece <= len)
            .for_each(|piece| bodies_by(&pool, len, piece));
    }
}

fn bodies_by(pool: &SpillPool, len: usize, piece: usize) {
    let (data, count) = (bytes(len), (10_000_000 / (len + 5000)).max(3));
    let medians = alternate(
        21,
        &mut [
            Contender::new("of a pool", || body_times(count, &data, piece, || pool.buffer())),
            Contender::new("of its own", || body_times(count, &data, piece, SpillBuffer::new)),
            Contender::new("SpooledTempFile", || {
                body_times(count, &data, piece, || SpooledTempFile::new(2 * MIB))
            }),
            Contender::new("Cursor<Vec<u8>>", || body_times(count, &data, piece, || Cursor::new(Vec::new()))),
        ],
    );
    let each = |n: usize| medians[n][0] / u32::try_from(count).unwrap();
    let case = |whose| format!("body of {len} by {piece}, {whose}");
    let aim = if len < 2000 { 0.9 } else { 1.0 };
    Row::times(case("of a pool"), "SpooledTempFile", each(0), each(2), aim).print();
    Row::times(case("of a pool"), "Cursor<Vec<u8>>", each(0), each(3), aim).print();
    let aim = if len < 8000 { 0.5 } else { 1.0 };
    Row::times(case("of its own"), "SpooledTempFile", each(1), each(2), aim).print();
}

fn spilled_bodies() {
    let pool = SpillPool::builder().memory(4 * KIB).build().unwrap();
    let data = bytes(64 * KIB);
    for chunk in [64 * KIB, 4 * KIB] {
        let run = |make: &dyn Fn() -> Box<dyn ReadWriteSeek>| {
            let mut buf = vec![0; chunk];
            [timed(|| {
                for _ in 0..300 {
                    let mut file = make();
                    write_chunks(&mut file, &data, data.len(), chunk);
                    file.rewind().unwrap();
                    read_chunks(&mut file, &mut buf, data.len());
                }
            })]
        };
        let medians = alternate(
            9,
            &mut [
                Contender::new("overspill", || run(&|| Box::new(pool.buffer()))),
                Contender::new("SpooledTempFile", || run(&|| Box::new(SpooledTempFile::new(4 * KIB)))),
            ],
        );
        let case = format!("300 bodies of 64 KiB by {chunk}, limit 4 KiB");
        Row::times(case, "SpooledTempFile", medians[0][0], medians[1][0], 3.0).print();
    }
}

trait ReadWriteSeek: Read + Write + Seek {}
impl<T: Read + Write + Seek> ReadWriteSeek for T {}

/// Reads and writes 64 bytes, in turn, at places chosen by `place`.
fn scattered(file: &mut (impl Read + Write + Seek), ops: u32, mut place: impl FnMut() -> u64) -> Duration {
    let mut buf = [7; 64];
    timed(|| {
        for op in 0..ops {
            file.seek(SeekFrom::Start(place())).unwrap();
            if op % 2 == 0 {
                file.read_exact(&mut buf).unwrap();
            } else {
                file.write_all(&buf).unwrap();
            }
        }
    })
}

fn crossing() {
    let data = bytes(64 * KIB);
    let worst = |file: &mut dyn Write| {
        [(0..1280).map(|_| timed(|| file.write_all(&data).unwrap())).skip(960).max().unwrap()]
    };
    let medians = alternate(
        5,
        &mut [
            Contender::new("overspill", || worst(&mut SpillBuffer::with_budget(64 * MIB))),
            Contender::new("SpooledTempFile", || worst(&mut SpooledTempFile::new(64 * MIB))),
        ],
    );
    Row::times("worst 64 KiB write crossing 64 MiB", "SpooledTempFile", medians[0][0], medians[1][0], 10.0)
        .print();
}

/// What checksums cost: ours with them against ours without. The target is what they would have to reach to
/// be on by default.
fn checksums() {
    const TARGET: f64 = 0.9;
    let total = 256 * MIB;
    let data = bytes(MIB);
    let pools = [Checksums::On, Checksums::Off]
        .map(|checksums| SpillPool::builder().memory(16 * MIB).checksums(checksums).build().unwrap());
    for (chunk, rounds) in [(64, 3), (64 * KIB, 9), (MIB, 9)] {
        let run = |pool: &SpillPool| write_read(|| pool.buffer(), &data, total, chunk);
        let medians = alternate(
            rounds,
            &mut [Contender::new("with", || run(&pools[0])), Contender::new("without", || run(&pools[1]))],
        );
        let case = format!("checksums, 256 MiB over 16 MiB by {chunk}");
        print_write_read(&case, "without", medians[0], medians[1], TARGET);
    }
    let mut random = Random::new(1);
    let places: Vec<u64> = (0..50_000).map(|_| random.below((64 * MIB / 64) as u64) * 64).collect();
    let mut buffers = pools.each_ref().map(SpillPool::buffer);
    buffers.iter_mut().for_each(|buffer| write_chunks(buffer, &data, 64 * MIB, MIB));
    let [with, without] = &mut buffers;
    let run = |buffer: &mut SpillBuffer| {
        let mut places = places.iter();
        [scattered(buffer, places.len() as u32, || *places.next().unwrap())]
    };
    let medians =
        alternate(9, &mut [Contender::new("with", || run(with)), Contender::new("without", || run(without))]);
    Row::times("checksums, random 64 B", "without", medians[0][0], medians[1][0], TARGET).print();
}

/// What the child process does: one stream of 1 GiB through a memory limit of 64 MiB.
fn peak_child() {
    let data = bytes(4 * KIB);
    let mut buffer = SpillBuffer::with_budget(64 * MIB);
    write_chunks(&mut buffer, &data, 1024 * MIB, 64);
    buffer.rewind().unwrap();
    read_chunks(&mut buffer, &mut [0; 4096], 1024 * MIB);
    println!("{}", peak_resident_kib());
}

fn peak_memory() {
    let child =
        std::process::Command::new(std::env::current_exe().unwrap()).arg("child-peak").output().unwrap();
    let kib: f64 = String::from_utf8_lossy(&child.stdout).trim().parse().unwrap_or(0.0);
    let allowed = (68 * KIB) as f64;
    Row {
        case: "peak KiB, 1 GiB over 64 MiB".into(),
        rival: "64 + 4 MiB".into(),
        ours: kib,
        theirs: allowed,
        target: 1.0,
    }
    .print();
}
