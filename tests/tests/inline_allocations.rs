//! Does what touches memory alone allocate on an event loop?
//!
//! A binary of its own, since it counts the allocations of the process, thread by thread.
#![allow(missing_docs)]

use overspill::{MemoryStore, SpillPool};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{SeekFrom, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: all is passed on to the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const PAGE: usize = 4096;

/// Polls `future` once, which is ready then.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("what is in memory waits for nothing"),
    }
}

/// Allocations of this thread while `f` runs once more: the first time a handle gets what it keeps.
fn allocations(mut f: impl FnMut()) -> u64 {
    f();
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}

fn lend(reader: &mut (impl AsyncBufRead + Unpin), len: usize) {
    let mut context = Context::from_waker(Waker::noop());
    let lent = Pin::new(&mut *reader).poll_fill_buf(&mut context);
    assert!(matches!(lent, Poll::Ready(Ok(lent)) if lent.len() >= len));
    Pin::new(reader).consume(len);
}

#[test]
fn the_count_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

/// Outside any runtime, as it needs none.
#[test]
fn what_is_in_memory_is_handled_without_an_allocation() {
    let pool =
        SpillPool::builder().memory(1 << 20).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let mut bytes = [7; 3 * PAGE];

    let mut buffer = pool.buffer().into_async();
    now(buffer.write_all(&bytes)).unwrap();
    let of_buffer = allocations(|| {
        for at in [0, 5000, 2 * PAGE as u64 - 10, 17] {
            now(buffer.seek(SeekFrom::Start(at))).unwrap();
            now(buffer.write_all(&[1; 20])).unwrap();
            now(buffer.read(&mut bytes[..100])).unwrap();
            lend(&mut buffer, 5);
        }
        now(buffer.rewind()).unwrap();
        now(buffer.read_exact(&mut bytes)).unwrap();
    });

    let mut blocking = pool.buffer();
    blocking.write_all(&bytes).unwrap();
    let mut reader = blocking.freeze().reader().into_async();
    now(reader.read(&mut bytes[..10])).unwrap();
    let of_reader = allocations(|| {
        for at in [0, 5000, 2 * PAGE as u64 - 10, 17] {
            now(reader.seek(SeekFrom::Start(at))).unwrap();
            now(reader.read(&mut bytes[..100])).unwrap();
            lend(&mut reader, 5);
        }
        now(reader.rewind()).unwrap();
        now(reader.read_exact(&mut bytes)).unwrap();
    });

    let (writer, follower) = pool.spool();
    let (mut writer, mut follower) = (writer.into_async(), follower.into_async());
    now(writer.write_all(&bytes)).unwrap();
    now(follower.read_exact(&mut bytes)).unwrap();
    let of_spool = allocations(|| {
        now(follower.seek(SeekFrom::Start(writer.len()))).unwrap();
        for piece in [1, 20, 1000, 7] {
            now(writer.write_all(&bytes[..piece])).unwrap();
            now(follower.read_exact(&mut bytes[..piece / 2])).unwrap();
            lend(&mut follower, piece - piece / 2);
        }
        now(follower.rewind()).unwrap();
        now(follower.read(&mut bytes)).unwrap();
    });
    assert_eq!([of_buffer, of_reader, of_spool], [0; 3]);
}
