//! Buffers on an event loop, against `tokio::fs::File` and against the blocking calls.
//!
//! `cargo bench -p overspill-tests --bench tokio` runs all cases; `-- ram` those with that name. `stalls`
//! prints how late a ticker of a millisecond comes, in milliseconds, beside what is written and dropped.
#![allow(missing_docs)]

mod stalls;

use overspill::{AsyncSpillBuffer, SpillBuffer, SpillPool};
use overspill_tests::bench::{
    Contender, Row, alternate, arguments, bytes, print_write_read, read_chunks, timed, write_chunks,
};
use std::io::Seek;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn main() {
    let args = arguments();
    let is_chosen = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    if is_chosen("ram") || is_chosen("spilled") {
        Row::print_header();
    }
    if is_chosen("ram") {
        compare("4 MiB in RAM, 64 B", 16 * MIB, 4 * MIB, 64, [200.0, 1.0 / 1.3]);
    }
    if is_chosen("spilled") {
        compare("256 MiB over 16 MiB, 64 KiB", 16 * MIB, 256 * MIB, 64 * KIB, [1.5, 0.8]);
    }
    if is_chosen("stalls") {
        stalls::stalls();
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn buffer(memory: usize) -> SpillBuffer {
    SpillPool::builder().memory(memory).build().unwrap().buffer()
}

/// Writes and then reads `len` bytes in pieces, by the calls that a file of this type has.
macro_rules! write_read {
    ($file:ident, $len:ident, $piece:ident) => {{
        let data = bytes(MIB);
        let mut pieces = data.chunks($piece).cycle();
        let began = Instant::now();
        for _ in 0..$len / $piece {
            $file.write_all(pieces.next().unwrap()).await.unwrap();
        }
        $file.flush().await.unwrap();
        let written = began.elapsed();
        $file.rewind().await.unwrap();
        let (mut room, began) = (vec![0; $piece], Instant::now());
        for _ in 0..$len / $piece {
            $file.read_exact(&mut room).await.unwrap();
        }
        [written, began.elapsed()]
    }};
}

/// A program that has the type before it.
async fn write_read(mut file: AsyncSpillBuffer, len: usize, piece: usize) -> [Duration; 2] {
    write_read!(file, len, piece)
}

/// A library, which takes any type: all its calls are those of tokio's traits.
async fn write_read_any<F>(mut file: F, len: usize, piece: usize) -> [Duration; 2]
where
    F: AsyncWriteExt + AsyncReadExt + AsyncSeekExt + Unpin,
{
    write_read!(file, len, piece)
}

fn compare(case: &str, memory: usize, len: usize, piece: usize, [of_file, of_blocking]: [f64; 2]) {
    let runtime = runtime();
    let ours = || runtime.block_on(write_read(buffer(memory).into_async(), len, piece));
    let traits = || runtime.block_on(write_read_any(buffer(memory).into_async(), len, piece));
    let file = || {
        // A call of a file costs a switch of tasks: fewer of them, if they are small.
        let (len, times) = if piece < KIB { (len / 64, 64) } else { (len, 1) };
        let file = tokio::fs::File::from_std(tempfile::tempfile().unwrap());
        runtime.block_on(write_read_any(file, len, piece)).map(|time| time * times)
    };
    let blocking = || {
        let mut buffer = buffer(memory);
        let written = timed(|| write_chunks(&mut buffer, &bytes(MIB), len, piece));
        buffer.rewind().unwrap();
        let mut room = vec![0; piece];
        [written, timed(|| read_chunks(&mut buffer, &mut room, len))]
    };
    let mut contenders = [
        Contender::new("async", ours),
        Contender::new("tokio's traits", traits),
        Contender::new("tokio::fs::File", file),
        Contender::new("blocking", blocking),
    ];
    let times = alternate(5, &mut contenders);
    let [ours, traits, file, blocking] = [times[0], times[1], times[2], times[3]];
    print_write_read(case, "tokio::fs::File", ours, file, of_file);
    print_write_read(case, "the blocking calls", ours, blocking, of_blocking);
    print_write_read(case, "tokio's traits", ours, traits, 1.0);
}
