//! Many readers of one content: frozen, and while it is written.
//!
//! `cargo bench -p overspill-tests --bench readers` runs all cases; `cargo bench -p overspill-tests --bench
//! readers -- eight` the case `eight`. `speeds-1g` is `speeds` with a gigabyte, which runs only if it is
//! named. Each case runs in a process of its own.
#![allow(missing_docs)]

#[cfg(not(unix))]
fn main() {
    eprintln!("for Unix only: a rival is a pipe");
}

#[cfg(unix)]
fn main() {
    use overspill_tests::bench::{Row, arguments};
    use std::process::Command;

    let args = arguments();
    if let [child, name] = &args[..]
        && child == "child"
    {
        let mut cases = unix::CASES.iter().chain(&unix::LONG);
        return cases.find(|(case, _)| case == name).expect("a case").1();
    }
    Row::print_header();
    for (name, _) in unix::CASES.iter().chain(&unix::LONG) {
        let is_short = unix::CASES.iter().any(|(case, _)| case == name);
        if args.iter().any(|arg| arg == name) || args.is_empty() && is_short {
            let status = Command::new(std::env::current_exe().unwrap()).args(["child", name]).status();
            assert!(status.unwrap().success(), "{name} failed");
        }
    }
}

#[cfg(unix)]
mod unix {
    use overspill::{Frozen, SpillBuffer, SpillPool};
    use overspill_tests::bench::{Apart, Contender, Row, alternate, bytes, timed, write_chunks};
    use std::fs::File;
    use std::io::{self, Read, Seek, Write};
    use std::thread;
    use std::time::Duration;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    pub(crate) const CASES: [(&str, fn()); 4] =
        [("eight", eight), ("resident", resident), ("follow", follow), ("speeds", speeds)];

    /// What runs only if it is named.
    pub(crate) const LONG: [(&str, fn()); 1] = [("speeds-1g", speeds_1g)];

    fn frozen(memory: usize, len: usize) -> Frozen {
        let pool = SpillPool::builder().memory(memory).build().unwrap();
        let mut buffer = pool.buffer();
        write_chunks(&mut buffer, &bytes(MIB), len, 64 * KIB);
        buffer.freeze()
    }

    /// Reads `len` bytes from each of the files, a piece of each in turn.
    fn read_in_turn(files: &mut [impl Read], len: usize, piece: usize) {
        let mut piece = Apart::new(0, piece);
        for _ in 0..len / piece.len() {
            files.iter_mut().for_each(|file| file.read_exact(&mut piece).unwrap());
        }
    }

    /// Eight readers of 256 MiB in 16 MiB of memory, four on each of two threads.
    fn eight() {
        let (whole, shared) = (256 * MIB, frozen(16 * MIB, 256 * MIB));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw");
        write_chunks(&mut File::create(&path).unwrap(), &bytes(MIB), whole, 64 * KIB);
        // A raw file by 64 bytes is slow: less of it.
        for (piece, len, target) in [(64 * KIB, whole, 0.9), (64, 16 * MIB, 10.0)] {
            let on_two_threads = |part: &(dyn Fn() + Sync)| {
                timed(|| {
                    thread::scope(|scope| {
                        let other = scope.spawn(part);
                        part();
                        other.join().unwrap();
                    });
                })
            };
            let ours = || read_in_turn(&mut [(); 4].map(|()| shared.reader()), len, piece);
            let files = || read_in_turn(&mut [(); 4].map(|()| File::open(&path).unwrap()), len, piece);
            let times = alternate(
                3,
                &mut [
                    Contender::new("ours", || [on_two_threads(&ours)]),
                    Contender::new("files", || [on_two_threads(&files)]),
                ],
            );
            let case = format!("8 readers, 256 MiB over 16 MiB, by {piece} B");
            Row::times(case, "files", times[0][0], times[1][0], target).print();
        }
    }

    /// 64 bytes at a time from 8 MiB that are in memory: what a reader costs beside a buffer, and what a
    /// second thread brings.
    fn resident() {
        const LEN: usize = 8 * MIB;
        const PIECE: usize = 64;
        // A thread takes 0.3 ms to begin on some virtual machines.
        const PASSES: usize = 16;
        let shared = frozen(16 * MIB, LEN);
        let mut buffer = SpillBuffer::with_budget(16 * MIB);
        write_chunks(&mut buffer, &bytes(MIB), LEN, 64 * KIB);
        let by_reader = || (0..PASSES).for_each(|_| read_in_turn(&mut [shared.reader()], LEN, PIECE));
        let through_one = || {
            let mut piece = [0; PIECE];
            (0..LEN as u64)
                .step_by(PIECE)
                .for_each(|at| assert_eq!(shared.read_at(&mut piece, at).unwrap(), PIECE));
        };
        let twice = |part: &(dyn Fn() + Sync)| {
            timed(|| {
                thread::scope(|scope| {
                    scope.spawn(part);
                    part();
                });
            })
        };
        let times = alternate(
            9,
            &mut [
                Contender::new("buffer", || {
                    [timed(|| {
                        for _ in 0..PASSES {
                            buffer.rewind().unwrap();
                            read_in_turn(&mut [&mut buffer], LEN, PIECE);
                        }
                    })]
                }),
                Contender::new("reader", || [timed(by_reader)]),
                Contender::new("two readers", || [twice(&by_reader)]),
                Contender::new("read_at", || [timed(through_one)]),
                Contender::new("two threads", || [twice(&through_one)]),
            ],
        );
        let [buffer, reader, two, one, both] = [0, 1, 2, 3, 4].map(|at: usize| times[at][0]);
        Row::times("64 B in memory, a reader", "a buffer", reader, buffer, 1.0 / 1.5).print();
        Row::times("the same, two threads with a reader each", "one, twice", two, 2 * reader, 1.8).print();
        Row::times("64 B in memory, two threads through one", "one, twice", both, 2 * one, 1.5).print();
    }

    /// One reader that follows, in memory, against a pipe.
    fn follow() {
        fn pass(
            mut writer: impl Write + Send,
            mut reader: impl Read + Send,
            len: usize,
            piece: usize,
        ) -> Duration {
            let data = bytes(piece);
            timed(|| {
                thread::scope(|scope| {
                    scope.spawn(move || read_in_turn(&mut [&mut reader], len, piece));
                    (0..len / piece).for_each(|_| writer.write_all(&data).unwrap());
                });
            })
        }
        let pool = SpillPool::builder().memory(256 * MIB).build().unwrap();
        for (piece, len) in [(64, 16 * MIB), (64 * KIB, 128 * MIB)] {
            let times = alternate(
                5,
                &mut [
                    Contender::new("ours", || {
                        let (writer, reader) = pool.spool();
                        [pass(writer, reader.once(), len, piece)]
                    }),
                    Contender::new("pipe", || {
                        let (reader, writer) = io::pipe().unwrap();
                        [pass(writer, reader, len, piece)]
                    }),
                ],
            );
            Row::times(
                format!("a spool that is followed, by {piece} B"),
                "pipe",
                times[0][0],
                times[1][0],
                1.0,
            )
            .print();
        }
    }

    fn speeds() {
        beside_slow_ones("256 MiB", 256 * MIB);
    }

    fn speeds_1g() {
        beside_slow_ones("1 GiB", 1024 * MIB);
    }

    /// A spool of `len` bytes over 16 MiB, whose fast reader is alone, or beside two slow ones
    /// at different speeds.
    fn beside_slow_ones(name: &str, len: usize) {
        const PIECE: usize = 64 * KIB;
        let pass = |pool: &SpillPool, slow: usize| {
            let (mut writer, mut fast) = pool.spool();
            let slow: Vec<_> = (0..slow).map(|_| fast.clone()).collect();
            thread::scope(|scope| {
                for (number, mut reader) in slow.into_iter().enumerate() {
                    scope.spawn(move || {
                        let mut piece = [0; PIECE];
                        // It stops when the writer is gone; by then it has read a part.
                        while reader.read(&mut piece).is_ok_and(|n| n > 0)
                            && reader.position() < (len / 8) as u64
                        {
                            thread::sleep(Duration::from_millis(2 * (1 + number as u64)));
                        }
                    });
                }
                let reading = scope.spawn(move || timed(|| read_in_turn(&mut [&mut fast], len, PIECE)));
                write_chunks(&mut writer, &bytes(MIB), len, PIECE);
                let time = reading.join().unwrap();
                drop(writer.finish().unwrap());
                assert!(pool.stats().memory_high_water <= 16 * MIB as u64, "the bound holds");
                time
            })
        };
        let pool = SpillPool::builder().memory(16 * MIB).build().unwrap();
        let times = alternate(
            3,
            &mut [
                Contender::new("beside slow ones", || [pass(&pool, 2)]),
                Contender::new("alone", || [pass(&pool, 0)]),
            ],
        );
        let case = format!("a spool of {name}, a fast reader beside slow");
        Row::times(case, "alone", times[0][0], times[1][0], 0.9).print();
    }
}
