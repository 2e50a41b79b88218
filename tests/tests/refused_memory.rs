//! What if the allocator has no memory for a page? Each request for a frame is refused in turn, once and for
//! good. Nothing is lost, no call fails, and the process goes on: the bytes go to the store.
//!
//! Frames of less than 4 KiB come from the allocator on every platform. The test itself allocates nothing
//! that could be taken for one.
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes")]

use overspill::{SpillBuffer, SpillPool};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const PAGE: usize = 2 << 10;

/// Requests for frames so far.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// The request to refuse, counted from 0.
static REFUSED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Whether all later ones are refused too.
static FOR_GOOD: AtomicBool = AtomicBool::new(false);

struct Refusing;

/// Frames have no alignment, and lengths of whole 64 bytes.
fn is_frame(layout: Layout) -> bool {
    layout.align() == 1 && (256..=PAGE).contains(&layout.size()) && layout.size().is_multiple_of(64)
}

fn is_refused() -> bool {
    let (request, refused) = (REQUESTS.fetch_add(1, Ordering::SeqCst), REFUSED.load(Ordering::SeqCst));
    request == refused || (request > refused && FOR_GOOD.load(Ordering::SeqCst))
}

// SAFETY: every call that is not refused is passed to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_frame(layout) && is_refused() {
            return null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// The bytes of a buffer from `at` on, in round `round`.
fn piece<const N: usize>(at: usize, round: usize) -> [u8; N] {
    std::array::from_fn(|i| ((at + i) * 31 / 7 + 17 * round) as u8)
}

const LEN: usize = 7 * PAGE + 300;
const PIECE: usize = 100;

/// Writes to and reads from buffers in every way that takes a frame: growth, crossing, overwriting,
/// loading, looking ahead.
fn use_buffers(buffers: &mut [SpillBuffer]) {
    for round in 0..2 {
        for at in (0..LEN).step_by(PIECE) {
            for buffer in &mut *buffers {
                buffer.seek(SeekFrom::Start(at as u64)).unwrap();
                buffer.write_all(&piece::<PIECE>(at, round)).unwrap();
            }
        }
        for buffer in &mut *buffers {
            buffer.rewind().unwrap();
            for at in (0..LEN).step_by(PIECE) {
                let mut found = [0; PIECE];
                buffer.read_exact(&mut found).unwrap();
                assert_eq!(found, piece::<PIECE>(at, round), "round {round} at {at}");
            }
            buffer.seek(SeekFrom::Start(3 * PAGE as u64 + 8)).unwrap();
            assert_eq!(buffer.fill_buf().unwrap()[0], piece::<1>(3 * PAGE + 8, round)[0]);
            buffer.consume(1);
            buffer.check_invariants();
        }
        buffers[0].spill().unwrap();
    }
}

/// Runs it all with the frame of one request refused, and returns whether there was such a request.
fn run(refused: u64, for_good: bool) -> bool {
    let pool = SpillPool::builder().memory(10 * PAGE).page_size(PAGE).build().unwrap();
    FOR_GOOD.store(for_good, Ordering::SeqCst);
    REFUSED.store(refused, Ordering::SeqCst);
    REQUESTS.store(0, Ordering::SeqCst);
    let mut buffers = [pool.buffer(), pool.buffer(), SpillBuffer::with_budget(20_000)];
    use_buffers(&mut buffers);
    let was_reached = REQUESTS.load(Ordering::SeqCst) > refused;
    REFUSED.store(u64::MAX, Ordering::SeqCst);
    pool.check_invariants();
    drop(buffers);
    pool.trim();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
    was_reached
}

#[test]
fn a_frame_that_cannot_be_had_costs_no_byte() {
    for for_good in [false, true] {
        let places = (0..).take_while(|&refused| run(refused, for_good)).count();
        assert!(places >= 20, "{places} requests, for good: {for_good}");
    }
}
