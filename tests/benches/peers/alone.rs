//! A buffer of its own against its rivals, each alone in its process: there the allocator has nothing else
//! that is large, and gives back to the system what is dropped.

use crate::{KIB, MIB, print_write_read};
use overspill::SpillBuffer;
use overspill_tests::bench::{Apart, Contender, alternate, median, timed};
use std::hint::black_box;
use std::io::{Cursor, Read, Seek, Write};
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use tempfile::SpooledTempFile;

/// What the bench calls itself with, to be a contender.
pub(crate) const CHILD: &str = "child-alone";

const NAMES: [&str; 3] = ["overspill", "SpooledTempFile", "Cursor<Vec<u8>>"];

/// Bodies of each thread that count.
const BODIES: usize = 15;

/// Bodies of 3 and 6 MB. A buffer of its own holds 8 MiB in memory.
pub(crate) fn alone() {
    for (threads, total, chunk) in [1, 2].into_iter().flat_map(|threads| {
        [3_000_000, 6_000_000].into_iter().flat_map(move |total| {
            [16, 64, 512, 3000, 4 * KIB, 64 * KIB, MIB].map(|chunk| (threads, total, chunk))
        })
    }) {
        let contender = |name| Contender::new(name, move || in_child(name, total, chunk, threads));
        let medians = alternate(9, &mut NAMES.map(contender));
        let case = format!("alone, {} MB by {chunk}, threads: {threads}", total / 1_000_000);
        print_write_read(&case, NAMES[1], medians[0], medians[1], 1.0);
        print_write_read(&case, NAMES[2], medians[0], medians[2], 0.9);
    }
}

fn in_child(name: &str, total: usize, chunk: usize, threads: usize) -> [Duration; 2] {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([CHILD, name]).args([total, chunk, threads].map(|n| n.to_string()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut nanos = text.split_whitespace().map(|nanos| Duration::from_nanos(nanos.parse().unwrap()));
    [(); 2].map(|()| nanos.next().unwrap())
}

/// Prints the median times to write and to read a body, in nanoseconds.
pub(crate) fn child(args: &[String]) {
    let [name, sizes @ ..] = args else { panic!("no contender") };
    let [total, chunk, threads] = sizes else { panic!("not three sizes") };
    let [total, chunk, threads] = [total, chunk, threads].map(|size| size.parse().unwrap());
    let times = match NAMES.iter().position(|known| known == name) {
        Some(0) => on_threads(threads, || many(total, chunk, SpillBuffer::new)),
        Some(1) => on_threads(threads, || many(total, chunk, || SpooledTempFile::new(8 * MIB))),
        Some(2) => on_threads(threads, || many(total, chunk, || Cursor::new(Vec::new()))),
        _ => panic!("no contender has the name {name}"),
    };
    for part in 0..2 {
        let mut times: Vec<Duration> = times.iter().map(|parts| parts[part]).collect();
        println!("{}", median(&mut times).as_nanos());
    }
}

/// One thread is the main one, which the allocator serves in another way than further ones.
fn on_threads(threads: usize, work: impl Fn() -> Vec<[Duration; 2]> + Sync) -> Vec<[Duration; 2]> {
    let start = Barrier::new(threads);
    let work = || {
        start.wait();
        work()
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut times = work();
        others.into_iter().for_each(|other| times.extend(other.join().unwrap()));
        times
    })
}

/// Writes bodies in chunks, reads them, and drops each before the next. The first does not count.
fn many<F: Read + Write + Seek>(total: usize, chunk: usize, make: impl Fn() -> F) -> Vec<[Duration; 2]> {
    let (data, mut buf) = (Apart::new(7, chunk), Apart::new(0, chunk));
    let chunks = || (0..total).step_by(chunk).map(|at| chunk.min(total - at));
    let mut times = Vec::with_capacity(BODIES + 1);
    for _ in 0..=BODIES {
        let mut made = None;
        let write = timed(|| {
            let file = made.insert(make());
            chunks().for_each(|len| file.write_all(&data[..len]).unwrap());
        });
        let mut file = made.unwrap();
        file.rewind().unwrap();
        let read = timed(|| {
            for len in chunks() {
                file.read_exact(&mut buf[..len]).unwrap();
                black_box(&*buf);
            }
        });
        times.push([write, read]);
    }
    times.split_off(1)
}
