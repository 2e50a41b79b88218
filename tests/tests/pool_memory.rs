//! Is what a pool charges what it allocates? (I2) An allocator that counts is the witness.
//!
//! The test allocates no other blocks of 256 or more bytes with alignment 1 than frames. After every step,
//! their sum must be what the pool charges, to the byte.

use overspill::{SpillBuffer, SpillPool};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicI64, Ordering};

/// The bytes of all blocks that can only be frames.
static FRAMES: AtomicI64 = AtomicI64::new(0);

struct Counting;

/// Frames of less than 4 KiB come from the allocator on every platform.
const PAGE: usize = 2 << 10;

fn is_frame(layout: Layout) -> bool {
    layout.align() == 1 && layout.size() >= 256
}

fn count(layout: Layout, sign: i64) {
    if is_frame(layout) {
        FRAMES.fetch_add(sign * i64::try_from(layout.size()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

// SAFETY: every call is passed to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// With growth, eviction, reading back, recycled frames, reclaimed pages and limits that move.
#[test]
fn what_is_charged_is_what_is_allocated() {
    let before = FRAMES.load(Ordering::Relaxed);
    let pool = SpillPool::builder().memory(10 * PAGE).page_size(PAGE).build().unwrap();
    let check = |step: &str| {
        let stats = pool.stats();
        let charged = i64::try_from(stats.memory_used + stats.memory_recycled).unwrap();
        assert_eq!(FRAMES.load(Ordering::Relaxed) - before, charged, "{step}");
        assert!(charged <= i64::try_from(stats.memory_limit).unwrap(), "{step}: above the limit");
    };
    let mut buffers: Vec<SpillBuffer> = (0..20).map(|_| pool.buffer()).collect();
    let mut piece = [7; 200];
    for round in 0..200 {
        for (i, buffer) in buffers.iter_mut().enumerate() {
            if (round + i) % 3 > 0 {
                buffer.write_all(&piece).unwrap();
                check("growing");
            }
        }
    }
    assert!(buffers.iter().any(SpillBuffer::is_spilled), "there was not enough memory");
    for buffer in &mut buffers {
        buffer.seek(SeekFrom::Start(100)).unwrap();
        buffer.read_exact(&mut piece).unwrap();
        check("reading back");
    }
    for limit in [3 * PAGE, 0, 20 * PAGE] {
        pool.set_memory_limit(limit);
        check("the limit has moved");
        buffers.iter_mut().for_each(|buffer| buffer.write_all(&piece).unwrap());
        check("writing after that");
    }
    buffers.truncate(3);
    check("most are dropped");
    drop(buffers);
    pool.trim();
    check("all are dropped");
    assert_eq!(FRAMES.load(Ordering::Relaxed), before);
}
