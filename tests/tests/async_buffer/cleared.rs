//! How much of a receiver's memory does a read clear? It has to be initialised before it is lent, and a
//! receiver may have much.

use super::runtimes::busy;
use overspill::{MemoryStore, SpillPool};
use std::io::{Seek, Write};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, ReadBuf};

/// Room of a receiver.
const ROOM: usize = 4 << 20;

/// The most that a poll moves.
const AT_ONCE_MAX: usize = 1 << 20;

/// Polls a read into memory of which nothing is initialised. Returns how many bytes it has read, if it is
/// ready, and how many were initialised.
fn poll(reader: &mut (impl AsyncRead + Unpin)) -> (Option<usize>, usize) {
    let mut memory = vec![MaybeUninit::uninit(); ROOM];
    let mut buf = ReadBuf::uninit(&mut memory);
    let context = &mut Context::from_waker(Waker::noop());
    let is_ready = match Pin::new(reader).poll_read(context, &mut buf) {
        Poll::Ready(read) => read.map(|()| true).unwrap(),
        Poll::Pending => false,
    };
    (is_ready.then(|| buf.filled().len()), buf.initialized().len())
}

/// Calls `check` with an async reader of each kind over `len` bytes in a pool with so much memory.
fn with_each(memory: usize, len: usize, check: impl Fn(&str, &mut dyn FnMut() -> (Option<usize>, usize))) {
    let pool = SpillPool::builder().memory(memory).page_size(4096).store(MemoryStore::new()).build().unwrap();
    let content = vec![7; len];
    let filled = || {
        let mut buffer = pool.buffer();
        buffer.write_all(&content).unwrap();
        buffer.rewind().unwrap();
        buffer
    };
    let mut buffer = filled().into_async();
    check("buffer", &mut || poll(&mut buffer));
    let mut reader = filled().freeze().reader().into_async();
    check("frozen", &mut || poll(&mut reader));
    let (mut writer, reader) = pool.spool();
    writer.write_all(&content).unwrap();
    writer.finish().unwrap();
    let mut reader = reader.into_async();
    check("spool", &mut || poll(&mut reader));
}

/// All of the receiver's room was cleared before anything else, at each poll: 512 MiB took 400
/// ms, to read ten bytes.
#[test]
fn a_read_clears_no_more_than_it_can_fill() {
    with_each(16 << 20, 10, |kind, poll| assert_eq!(poll(), (Some(10), 10), "{kind}"));
    with_each(16 << 20, 3 << 20, |kind, poll| {
        let (read, cleared) = poll();
        assert!(read.is_some_and(|read| (1..=AT_ONCE_MAX).contains(&read)), "{kind}: {read:?}");
        assert!(cleared <= AT_ONCE_MAX, "{kind}: {cleared} bytes");
    });
}

/// The same of polls that read nothing.
#[test]
fn a_read_that_waits_for_a_job_clears_nothing() {
    let (busy, release) = busy();
    let _inside = busy.enter();
    with_each(0, 3 << 20, |kind, poll| {
        let (read, cleared) = poll(); // it looks in memory first
        assert!(read.is_none() && cleared <= AT_ONCE_MAX, "{kind}: {cleared} bytes");
        assert_eq!(poll(), (None, 0), "{kind}");
    });
    drop(release);
}

/// A read of no bytes waits for nothing.
#[test]
fn a_read_of_no_bytes_is_ready() {
    let (busy, release) = busy();
    let _inside = busy.enter();
    let pool = SpillPool::builder().memory(0).page_size(4096).store(MemoryStore::new()).build().unwrap();
    let filled = || {
        let mut buffer = pool.buffer();
        buffer.write_all(&[7; 10_000]).unwrap();
        buffer.rewind().unwrap();
        buffer
    };
    fn check(mut reader: impl AsyncRead + Unpin) {
        assert_eq!(poll(&mut reader).0, None, "its job has no thread");
        let context = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut reader).poll_read(context, &mut ReadBuf::new(&mut [])).is_ready());
    }
    check(filled().into_async());
    check(filled().freeze().reader().into_async());
    drop(release);
}
