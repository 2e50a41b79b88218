//! Reads here and there, as of the headers of an archive: what they move is not much more than what they ask
//! for.

use crate::subject::runtime;
use overspill::SpillPool;
use overspill_tests::support::Random;
use std::io::{SeekFrom, Write};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};

const LEN: u64 = 16 << 20;

fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// Bytes read from the store, and calls, for so many `reads` of `len` bytes each at places of which
/// `place` says the next one.
async fn moved(
    pool: &SpillPool,
    reader: &mut (impl AsyncRead + AsyncSeek + Unpin),
    (reads, len): (u64, usize),
    mut place: impl FnMut(u64) -> SeekFrom,
) -> (u64, u64) {
    let before = pool.stats().io;
    let mut piece = vec![0; len];
    for number in 0..reads {
        let at = reader.seek(place(number)).await.unwrap();
        reader.read_exact(&mut piece).await.unwrap();
        assert!((at..).zip(&piece).all(|(offset, byte)| *byte == byte_at(offset)), "{at}");
    }
    let io = pool.stats().io.since(&before);
    (io.read_bytes, io.reads)
}

async fn check(name: &str, memory: usize, pool: &SpillPool, mut reader: impl AsyncRead + AsyncSeek + Unpin) {
    let mut random = Random::new(5);
    for (len, most) in [(100, 41), (4000, 2), (20_000, 8), (300_000, 2)] {
        let reads = (4 << 20) / len as u64 / 8 + 20;
        let at_random = |_| SeekFrom::Start(random.below(LEN - len as u64));
        let (bytes, _) = moved(pool, &mut reader, (reads, len), at_random).await;
        let asked = reads * len as u64;
        assert!(bytes <= most * asked, "{name} in {memory}: {bytes} bytes for {reads} reads of {len}");
    }
    // A header, a name behind it, and what comes after that.
    let headers = |number| match number % 3 {
        0 => SeekFrom::Start(number / 3 * 200_000),
        _ => SeekFrom::Current(0),
    };
    let (bytes, _) = moved(pool, &mut reader, (3 * 80, 4000), headers).await;
    assert!(bytes <= 80 * (96 << 10), "{name} in {memory}: {bytes} bytes for 80 headers");
    // A pass that begins anywhere soon moves as much at a time as one from the beginning.
    let pass = |number| if number == 0 { SeekFrom::Start(LEN / 4 + 100) } else { SeekFrom::Current(0) };
    let (bytes, calls) = moved(pool, &mut reader, (LEN / 2 / 8192, 8192), pass).await;
    assert!(bytes <= LEN / 2 + (1 << 20), "{name} in {memory}: {bytes} bytes for half of {LEN}");
    let at_a_time = if memory > 0 { 32 << 10 } else { 7 << 10 };
    assert!(calls <= LEN / 2 / at_a_time + 10, "{name} in {memory}: {calls} calls for a pass");
}

/// After each seek the readers read 256 KiB ahead: a thousand reads of 100 bytes each took 262 MB. A buffer
/// read whole pages ahead at the second of two reads that went on: 171 kB where 12 were asked for.
#[test]
fn a_jump_reads_little_more_than_what_is_asked_for() {
    let content: Vec<u8> = (0..LEN).map(byte_at).collect();
    for memory in [0, 1 << 20, 2 << 20] {
        runtime(1).block_on(async {
            let pool = SpillPool::builder().memory(memory).page_size(64 << 10).build().unwrap();
            let mut buffer = pool.buffer();
            buffer.write_all(&content).unwrap();
            check("frozen", memory, &pool, buffer.freeze().reader().into_async()).await;
            let (mut writer, reader) = pool.spool();
            writer.write_all(&content).unwrap();
            let _frozen = writer.finish().unwrap();
            check("spool", memory, &pool, reader.into_async()).await;
            let mut buffer = pool.buffer();
            buffer.write_all(&content).unwrap();
            check("buffer", memory, &pool, buffer.into_async()).await;
        });
    }
}
