//! Small reads and writes at scattered places: they take a shorter way, which does what the long one does.
#![allow(missing_docs)]

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore, Faults};
use overspill::{MemoryStore, SpillBuffer, SpillPool};
use overspill_tests::support::content_of;
use std::io::{BufRead, ErrorKind, Read, Seek, SeekFrom, Write};

const PAGE: usize = 4096;

/// A pool with memory for so many pages, over a store that counts.
fn pool(pages: usize) -> (SpillPool, Faults) {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(pages * PAGE).page_size(PAGE).store(store).build().unwrap();
    (pool, faults)
}

/// A buffer of so many pages, each of its index.
fn pages_of(pool: &SpillPool, pages: u8) -> SpillBuffer {
    let mut buffer = pool.buffer();
    (0..pages).for_each(|index| buffer.write_all(&[index; PAGE]).unwrap());
    buffer
}

/// A byte in the middle of page `index`.
fn read_in(buffer: &mut SpillBuffer, index: u8) -> u8 {
    let mut byte = [0];
    buffer.seek(SeekFrom::Start(u64::from(index) * PAGE as u64 + 100)).unwrap();
    buffer.read_exact(&mut byte).unwrap();
    byte[0]
}

fn write_in(buffer: &mut SpillBuffer, index: u8, byte: u8) {
    buffer.seek(SeekFrom::Start(u64::from(index) * PAGE as u64 + 100)).unwrap();
    buffer.write_all(&[byte]).unwrap();
}

#[test]
fn each_goes_where_its_page_is_and_nowhere_else() {
    let (pool, faults) = pool(8);
    let mut buffer = pages_of(&pool, 16);
    let model: Vec<u8> = (0..16).map(|index| index + 100).collect();
    let calls = [Call::Read, Call::Write].map(|call| faults.calls_of(call));
    for index in (0..16).rev() {
        assert_eq!(read_in(&mut buffer, index), index);
        write_in(&mut buffer, index, index + 100);
        assert_eq!(read_in(&mut buffer, index), index + 100);
    }
    // Of sixteen pages, eight are in the store.
    let made = [Call::Read, Call::Write].map(|call| faults.calls_of(call));
    assert_eq!([made[0] - calls[0], made[1] - calls[1]], [16, 8]);
    assert_eq!(pool.stats().evictions, 0, "nothing has moved");
    let content = content_of(&mut buffer);
    for (index, page) in content.chunks(PAGE).enumerate() {
        let rest = page[..100].iter().chain(&page[101..]);
        assert!(page[100] == model[index] && rest.copied().all(|byte| usize::from(byte) == index));
    }
    buffer.check_invariants();
    pool.check_invariants();
}

#[test]
fn a_page_that_is_visited_often_gets_memory() {
    let (pool, faults) = pool(8);
    let mut buffer = pages_of(&pool, 64);
    let is_spilled = |buffer: &mut SpillBuffer, index| {
        let before = faults.calls_of(Call::Read);
        read_in(buffer, index);
        faults.calls_of(Call::Read) > before
    };
    let hot: Vec<u8> = (0..64).filter(|index| is_spilled(&mut buffer, *index)).take(3).collect();
    for round in 0..200_u8 {
        for index in hot.iter().copied().chain([round % 64]) {
            read_in(&mut buffer, index);
        }
    }
    assert!(hot.iter().all(|index| !is_spilled(&mut buffer, *index)), "{hot:?}");
}

#[test]
fn a_page_comes_to_memory_as_soon_as_there_is_some() {
    let (pool, faults) = pool(8);
    let other = pages_of(&pool, 8);
    let mut buffer = pages_of(&pool, 4);
    buffer.spill().unwrap();
    (1..4).for_each(|index| assert_eq!(read_in(&mut buffer, index), index));
    drop(other);
    (1..4).for_each(|index| assert_eq!(read_in(&mut buffer, index), index));
    let calls = faults.calls_of(Call::Read);
    (1..4).for_each(|index| assert_eq!(read_in(&mut buffer, index), index));
    assert_eq!(faults.calls_of(Call::Read), calls);
}

/// The copy that is lent of a page without a frame is lent again, if nothing was done in between. A
/// write was something.
#[test]
fn what_is_lent_after_a_write_is_what_was_written() {
    let (pool, _) = pool(0);
    let mut buffer = pages_of(&pool, 4);
    for index in [3, 1, 2] {
        let start = u64::from(index) * PAGE as u64;
        buffer.seek(SeekFrom::Start(start)).unwrap();
        assert_eq!(buffer.fill_buf().unwrap()[100], index);
        write_in(&mut buffer, index, 200);
        buffer.seek(SeekFrom::Start(start)).unwrap();
        assert_eq!(buffer.fill_buf().unwrap()[100], 200);
    }
}

/// A limit that could not be kept when it was lowered, for want of disk, is kept at the next access outside
/// the window, whichever that is.
#[test]
fn a_lowered_limit_is_kept_at_the_next_access() {
    for is_write in [false, true] {
        let (pool, _) = pool(8);
        let mut buffer = pages_of(&pool, 8);
        pool.set_disk_limit(0);
        pool.set_memory_limit(2 * PAGE);
        assert_eq!(pool.stats().memory_used, 8 * PAGE as u64);
        pool.set_disk_limit(u64::MAX);
        if is_write {
            write_in(&mut buffer, 3, 3);
        } else {
            assert_eq!(read_in(&mut buffer, 3), 3);
        }
        assert!(pool.stats().memory_used <= 2 * PAGE as u64, "{:?}", pool.stats());
    }
}

/// A pass whose pieces end with a page begins the next one where no access has ended that the buffer has
/// noted.
#[test]
fn a_pass_reads_each_page_once() {
    let (pool, faults) = pool(2);
    let mut buffer = pages_of(&pool, 16);
    buffer.spill().unwrap();
    for piece in [64, 100, 128] {
        let calls = faults.calls_of(Call::Read);
        buffer.rewind().unwrap();
        for index in 0..16 * PAGE / piece {
            let mut bytes = [0; 128];
            buffer.read_exact(&mut bytes[..piece]).unwrap();
            assert_eq!(usize::from(bytes[0]), index * piece / PAGE);
        }
        assert!(faults.calls_of(Call::Read) - calls <= 16, "by {piece} bytes");
    }
}

#[test]
fn an_error_of_the_store_is_the_calls_own_and_moves_nothing() {
    let (pool, faults) = pool(0);
    let mut buffer = pages_of(&pool, 4);
    for call in [Call::Read, Call::Write] {
        buffer.seek(SeekFrom::Start(2 * PAGE as u64 + 100)).unwrap();
        let position = buffer.position();
        faults.set(Fault::once(0, Failure::Error(ErrorKind::PermissionDenied)).on(call));
        let mut byte = [9];
        let result = if call == Call::Read { buffer.read_exact(&mut byte) } else { buffer.write_all(&byte) };
        assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!((buffer.position(), faults.calls_of(call)), (position, 1));
        faults.lift();
    }
    assert_eq!(read_in(&mut buffer, 2), 2);
}

/// Only the long way counted it.
#[test]
fn a_full_store_is_counted_as_one() {
    let (pool, faults) = pool(0);
    let mut buffer = pages_of(&pool, 4);
    buffer.seek(SeekFrom::Start(2 * PAGE as u64 + 100)).unwrap();
    faults.set(Fault::once(0, Failure::full()).on(Call::Write));
    assert_eq!(buffer.write_all(&[9]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(pool.stats().refused.store_full, 1);
}

/// It began where the access had ended that failed, and so passed for the next of a pass, for
/// which a page makes way.
#[test]
fn what_is_tried_again_after_an_error_moves_nothing() {
    let (pool, faults) = pool(8);
    let mut buffer = pages_of(&pool, 16);
    buffer.seek(SeekFrom::Start(12 * PAGE as u64 + 100)).unwrap();
    faults.set(Fault::once(0, Failure::io()).on(Call::Read));
    buffer.read_exact(&mut [0]).unwrap_err();
    buffer.read_exact(&mut [0]).unwrap();
    assert_eq!((faults.calls_of(Call::Read), pool.stats().evictions), (2, 0));
}
