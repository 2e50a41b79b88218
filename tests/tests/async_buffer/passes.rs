//! Passes downwards, and two passes in turn: each moves its bytes about once, as it does with blocking calls.

use crate::subject::runtime;
use overspill::{IoCounts, MemoryStore, SpillBuffer, SpillPool, Store};
use overspill_tests::ops::pattern;
use std::io::{self, SeekFrom, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};

const LEN: usize = 4 << 20;
const PIECES: [usize; 3] = [100, 1000, 2048];
const MEMORIES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).store(MemoryStore::new()).build().unwrap()
}

fn filled(pool: &SpillPool, content: &[u8]) -> SpillBuffer {
    let mut buffer = pool.buffer();
    buffer.write_all(content).unwrap();
    buffer
}

/// Where the pieces begin, from the last whole one down.
fn offsets(piece: usize) -> impl Iterator<Item = usize> {
    (0..LEN / piece).rev().map(move |number| number * piece)
}

/// Reads `content` downwards, and returns what that took.
async fn read_down(
    pool: &SpillPool,
    mut reader: impl AsyncRead + AsyncSeek + Unpin,
    content: &[u8],
    piece: usize,
) -> IoCounts {
    let before = pool.stats().io;
    let mut found = vec![0; piece];
    for at in offsets(piece) {
        reader.seek(SeekFrom::Start(at as u64)).await.unwrap();
        reader.read_exact(&mut found).await.unwrap();
        assert!(found == content[at..][..piece], "{at}");
    }
    pool.stats().io.since(&before)
}

/// Each call read 4 KiB, since no job knew of the calls before: 40 bytes for one by 100 bytes, and a job for
/// each. Readers of shared content read 4 KiB from where each piece began: 27 bytes for one.
#[test]
fn what_is_read_downwards_is_read_once() {
    let content = pattern(1, LEN);
    let check = |name: &str, memory: usize, piece: usize, io: IoCounts| {
        let case = format!("{name} by {piece} bytes in {memory}: {io:?}");
        assert!(io.read_bytes <= LEN as u64 / 100 * 135, "{case}");
        // A call for each page, or for each 16 KiB.
        assert!(io.reads <= (LEN / (memory / 16).min(16 << 10)) as u64 + 100, "{case}");
    };
    for (memory, piece) in MEMORIES.iter().flat_map(|memory| PIECES.map(|piece| (*memory, piece))) {
        runtime(1).block_on(async {
            let pool = pool(memory);
            if piece < memory / 32 {
                let buffer = filled(&pool, &content).into_async();
                check("a buffer", memory, piece, read_down(&pool, buffer, &content, piece).await);
            }
            let frozen = filled(&pool, &content).freeze();
            let io = read_down(&pool, frozen.reader().into_async(), &content, piece).await;
            check("a frozen reader", memory, piece, io);
            drop(frozen);
            let (mut writer, reader) = pool.spool();
            writer.write_all(&content).unwrap();
            let io = read_down(&pool, reader.into_async(), &content, piece).await;
            check("a spool's reader", memory, piece, io);
        });
    }
}

/// Where a piece crossed from page to page, each of the two took the other's frame: 2.9 bytes were read and
/// as many written for one.
#[test]
fn what_is_written_downwards_is_written_once() {
    let content = pattern(2, LEN);
    for (memory, piece) in MEMORIES.iter().flat_map(|memory| PIECES.map(|piece| (*memory, piece))) {
        if piece >= memory / 32 {
            continue; // half of a page
        }
        for is_new in [true, false] {
            runtime(1).block_on(async {
                let pool = pool(memory);
                let mut buffer = if is_new { pool.buffer() } else { filled(&pool, &[7; LEN]) }.into_async();
                let before = pool.stats().io;
                for at in offsets(piece) {
                    buffer.seek(SeekFrom::Start(at as u64)).await.unwrap();
                    buffer.write_all(&content[at..][..piece]).await.unwrap();
                }
                let io = pool.stats().io.since(&before);
                let case = format!("by {piece} bytes in {memory}, new: {is_new}: {io:?}");
                assert!(io.written_bytes <= LEN as u64 / 100 * 110, "{case}");
                assert!(io.read_bytes <= if is_new { 1 << 16 } else { LEN as u64 / 100 * 110 }, "{case}");
                let end = LEN / piece * piece;
                let found = buffer.into_inner().await.unwrap().to_vec().unwrap();
                assert!(found[..end] == content[..end], "{case}");
            });
        }
    }
}

/// Each of two passes in turn read pages ahead, which left for the other's before they were used: 3.5 bytes
/// for one. And so did the page that it had just come to, while those that it had passed seemed to be in use:
/// 5.9 where one of the two was written.
#[test]
fn what_two_passes_come_to_in_turn_is_loaded_once() {
    let content = pattern(4, LEN);
    for (memory, piece) in [(256 << 10, 100), (256 << 10, 1000), (1 << 20, 1000)] {
        runtime(1).block_on(async {
            let pool = pool(memory);
            let mut buffer = filled(&pool, &content).into_async();
            let (before, mut found) = (pool.stats().io, vec![0; piece]);
            for number in 0..LEN / 2 / piece {
                for at in [number * piece, LEN / 2 + number * piece] {
                    buffer.seek(SeekFrom::Start(at as u64)).await.unwrap();
                    buffer.read_exact(&mut found).await.unwrap();
                    assert!(found == content[at..][..piece], "{at}");
                }
            }
            let io = pool.stats().io.since(&before);
            let moved = io.read_bytes + io.written_bytes;
            assert!(moved <= LEN as u64 / 100 * 150, "merge by {piece} bytes in {memory}: {io:?}");

            let before = pool.stats().io;
            for at in (0..LEN / 2 / piece).map(|number| number * piece) {
                buffer.seek(SeekFrom::Start(at as u64)).await.unwrap();
                buffer.read_exact(&mut found).await.unwrap();
                buffer.seek(SeekFrom::Start((LEN / 2 + at) as u64)).await.unwrap();
                buffer.write_all(&found).await.unwrap();
            }
            let io = pool.stats().io.since(&before);
            let moved = io.read_bytes + io.written_bytes;
            assert!(moved <= LEN as u64 / 100 * 170, "copy by {piece} bytes in {memory}: {io:?}");
            let found = buffer.into_inner().await.unwrap().to_vec().unwrap();
            let copied = LEN / 2 / piece * piece;
            assert!(found[LEN / 2..][..copied] == content[..copied]);
        });
    }
}

/// Some of whose bytes cannot be read.
#[derive(Debug)]
struct Bad {
    store: MemoryStore,
    bad: Mutex<Range<u64>>,
}

impl Store for Bad {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bad = self.bad.lock().unwrap().clone();
        if offset < bad.end && offset + buf.len() as u64 > bad.start {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.store.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.store.write_at(offset, data)
    }
}

/// What is read beside what was asked for is no reason for an error.
#[test]
fn what_lies_below_a_piece_may_be_bad() {
    const PAGE: usize = 4 << 10;
    const LEN: usize = 16 * PAGE;
    let content = pattern(3, LEN);
    let store = Arc::new(Bad { store: MemoryStore::new(), bad: Mutex::new(0..0) });
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(Arc::clone(&store)).build().unwrap();
    for piece in [100, 1000] {
        for spool in [false, true] {
            let (frozen, mut reader) = if spool {
                let (mut writer, reader) = pool.spool();
                writer.write_all(&content).unwrap();
                let reader: Box<dyn Reader> = Box::new(reader.into_async());
                (writer.finish().unwrap(), reader)
            } else {
                let frozen = filled(&pool, &content).freeze();
                let reader: Box<dyn Reader> = Box::new(frozen.reader().into_async());
                (frozen, reader)
            };
            let first = 7 * PAGE as u64;
            *store.bad.lock().unwrap() = first..first + PAGE as u64;
            runtime(1).block_on(async {
                let mut found = vec![0; piece];
                for at in (0..LEN / piece).rev().map(|number| number * piece) {
                    reader.seek(SeekFrom::Start(at as u64)).await.unwrap();
                    let read = reader.read_exact(&mut found).await;
                    let is_bad = at < 8 * PAGE && at + piece > 7 * PAGE;
                    assert_eq!(read.is_err(), is_bad, "{at} by {piece}: {read:?}");
                    assert!(is_bad || found == content[at..][..piece], "{at} by {piece}");
                }
            });
            drop((reader, frozen));
            *store.bad.lock().unwrap() = 0..0;
        }
    }
}

/// At position 0 nothing lies below; but what was asked for was still read in one copy of two pages, and for
/// a bad second one the first failed too. A blocking reader without a window lent two pages so.
#[test]
fn the_page_before_a_bad_one_is_read() {
    const PAGE: usize = 4 << 10;
    let store = Arc::new(Bad { store: MemoryStore::new(), bad: Mutex::new(0..0) });
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(Arc::clone(&store)).build().unwrap();
    let frozen = filled(&pool, &pattern(3, 16 * PAGE)).freeze();
    *store.bad.lock().unwrap() = PAGE as u64..2 * PAGE as u64;
    runtime(1).block_on(async {
        let mut piece = vec![0; 2 * PAGE];
        let mut reader = frozen.reader().into_async();
        for page in (2..8).rev() {
            reader.seek(SeekFrom::Start(page * PAGE as u64)).await.unwrap();
            reader.read_exact(&mut piece[..PAGE]).await.unwrap();
        }
        for _ in 0..3 {
            reader.rewind().await.unwrap();
            assert_eq!(reader.read(&mut piece).await.unwrap(), PAGE);
        }
    });
    let mut reader = frozen.reader();
    std::io::Seek::seek(&mut reader, SeekFrom::Start(PAGE as u64 - 100)).unwrap();
    assert_eq!(std::io::BufRead::fill_buf(&mut reader).unwrap().len(), 100);
}

trait Reader: AsyncRead + AsyncSeek + Unpin {}
impl<T: AsyncRead + AsyncSeek + Unpin> Reader for T {}
