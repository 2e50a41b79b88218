//! A write whose future is dropped once its job has made room: the content is what it was.

use super::subject::as_loop;
use overspill::{Checksums, MemoryStore, SpillBuffer, SpillError, SpillPool, Store};
use overspill_tests::support::content_of;
use std::future::poll_fn;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;

const PAGE: usize = 16 << 10;

/// A runtime with one thread that may block.
fn runtime() -> Runtime {
    Builder::new_current_thread().max_blocking_threads(1).build().unwrap()
}

/// Polls `future` once, and drops it when it is woken. A job does not begin before that poll has ended.
async fn polled_once<F: Future>(future: F) -> Option<F::Output> {
    let (release, released) = mpsc::channel();
    let occupied = spawn_blocking(move || released.recv());
    let (mut future, mut is_polled) = (pin!(future), false);
    let polled = poll_fn(|context| match std::mem::replace(&mut is_polled, true) {
        true => Poll::Ready(None),
        false => {
            let polled = as_loop(|| future.as_mut().poll(context)).map(Some);
            release.send(()).unwrap();
            polled
        }
    });
    let polled = polled.await;
    occupied.await.unwrap().unwrap();
    polled
}

/// A buffer of a page and `rest` bytes, all of it in the store.
fn spilled(pool: &SpillPool, rest: usize) -> (SpillBuffer, Vec<u8>) {
    let bytes: Vec<u8> = (0..=250).cycle().take(PAGE + rest).collect();
    let mut buffer = pool.buffer();
    buffer.write_all(&bytes).unwrap();
    buffer.spill().unwrap();
    (buffer, bytes)
}

/// Others that hold a little, so that shares are short.
fn others(pool: &SpillPool) -> [SpillBuffer; 5] {
    let mut others = [(); 5].map(|()| pool.buffer());
    others.iter_mut().for_each(|other| other.write_all(&[3; 900]).unwrap());
    others
}

/// The job opened an empty page in place of the old one, for a write that was to cover all of it. The write
/// was dropped, or came shorter, and the old bytes read as zeros; or, over what clones share, came back when
/// the page left memory.
#[test]
fn a_covering_write_that_is_dropped_covers_nothing() {
    let mut waited = 0;
    runtime().block_on(async {
        let memories = (0..=3 * PAGE / 1024).map(|kib| kib * 1024);
        for (memory, rest) in memories.flat_map(|memory| [1, 1000, PAGE - 1].map(|rest| (memory, rest))) {
            for (len, is_clone) in [(rest, false), (4000, false), (PAGE, false), (rest, true), (PAGE, true)] {
                for checksums in [Checksums::Off, Checksums::On] {
                    let builder = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).checksums(checksums);
                    let pool = builder.store(MemoryStore::new()).build().unwrap();
                    let (mut buffer, mut bytes) = spilled(&pool, rest);
                    let clone = is_clone.then(|| buffer.try_clone().unwrap());
                    let others = others(&pool);
                    pool.set_memory_limit(memory);
                    let mut buffer = buffer.into_async();
                    buffer.seek(SeekFrom::Start(PAGE as u64)).await.unwrap();
                    match polled_once(buffer.write(&vec![1; len])).await {
                        Some(taken) => {
                            let end = bytes.len().min(PAGE + taken.unwrap());
                            bytes[PAGE..end].fill(1);
                        }
                        None => waited += 1,
                    }
                    let grown = buffer.len();
                    let mut buffer = buffer.into_inner().await.unwrap();
                    bytes.resize(bytes.len().max(usize::try_from(grown).unwrap()), 1);
                    let case = (memory, rest, len, is_clone, checksums);
                    assert!(content_of(&mut buffer) == bytes, "{case:?}");
                    buffer.spill().unwrap();
                    assert!(content_of(&mut buffer) == bytes, "{case:?}, spilled");
                    buffer.check_invariants();
                    drop((buffer, clone, others));
                    pool.check_invariants();
                }
            }
        }
    });
    assert!(waited > 100, "{waited} writes waited");
}

/// A store that returns another first byte than it was given, wherever a page begins.
#[derive(Debug)]
struct Bad(MemoryStore);

impl Store for Bad {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(offset, buf)?;
        if offset.is_multiple_of(PAGE as u64) && read > 0 {
            buf[0] ^= 1;
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.0.write_at(offset, data)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.discard(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// The same of a page that has gone bad, which then read as zeros, and not as an error.
#[test]
fn a_covering_write_that_is_dropped_makes_no_bad_page_good() {
    let mut waited = 0;
    runtime().block_on(async {
        for memory in (0..=3 * PAGE).step_by(1024) {
            let builder = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).checksums(Checksums::On);
            let pool = builder.store(Bad(MemoryStore::new())).build().unwrap();
            let (buffer, _) = spilled(&pool, 1000);
            let _others = others(&pool);
            pool.set_memory_limit(memory);
            let mut buffer = buffer.into_async();
            buffer.seek(SeekFrom::Start(PAGE as u64)).await.unwrap();
            if polled_once(buffer.write(&[1; 1000])).await.is_some() {
                continue; // what is written whole is good
            }
            waited += 1;
            let mut buffer = buffer.into_inner().await.unwrap();
            buffer.seek(SeekFrom::Start(PAGE as u64)).unwrap();
            let corrupted = buffer.read(&mut [0; 10]).unwrap_err();
            let of = SpillError::of(&corrupted);
            assert!(matches!(of, Some(SpillError::Corrupted { .. })), "{memory}: {corrupted:?}");
        }
    });
    assert!(waited > 0, "no write waited");
}

/// The job opened the page of a write far past the end, and the write was dropped. A write of no bytes, at
/// the beginning of that page, then made all before it content.
#[test]
fn a_write_of_nothing_past_the_end_lengthens_nothing() {
    runtime().block_on(async {
        let builder = SpillPool::builder().memory(4096 + 512).page_size(4096);
        let pool = builder.store(MemoryStore::new()).build().unwrap();
        let mut other = pool.buffer();
        other.write_all(&[1; 4096]).unwrap();
        let mut buffer = pool.buffer().into_async();
        buffer.seek(SeekFrom::Start(2 * 4096 + 100)).await.unwrap();
        assert!(polled_once(buffer.write(&[1])).await.is_none(), "a job has opened the page");
        buffer.seek(SeekFrom::Start(2 * 4096)).await.unwrap();
        assert_eq!((buffer.read(&mut [0; 1]).await.unwrap(), buffer.len()), (0, 0));
        assert_eq!((buffer.write(&[]).await.unwrap(), buffer.len()), (0, 0));
        assert_eq!(buffer.write(&[7]).await.unwrap(), 1);
        let mut buffer = buffer.into_inner().await.unwrap();
        assert_eq!(content_of(&mut buffer), [&[0; 2 * 4096][..], &[7]].concat());
    });
}
