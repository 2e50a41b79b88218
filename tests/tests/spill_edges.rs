//! The edges of `SpillBuffer`, by hand: positions at the far end of `u64`; what a refusal says and leaves
//! behind (I3); what clearing and cutting free (I6); and bugs that the model has found, each with its story.

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore};
use overspill::{MemoryStore, SpillBuffer, SpillError, SpillPool, StoreOperation};
use overspill_tests::support::{content_of, spill_error};
use std::error::Error;
use std::io::{BufRead, ErrorKind, Read, Seek, SeekFrom, Write};

/// A pool with pages of 8 bytes, no memory, and a disk of so many bytes.
fn pool_on_disk(disk: u64) -> SpillPool {
    let builder = SpillPool::builder().memory(0).page_size(8).disk(disk);
    builder.store(MemoryStore::new()).build().unwrap()
}

/// The documentation said that without a disk all of the memory limit is used.
#[test]
fn without_a_disk_as_much_of_a_memory_limit_is_used_as_is_said() {
    const PAGE: usize = 65_536;
    let pool = |memory| SpillPool::builder().memory(memory).page_size(PAGE).disk(0).build().unwrap();
    for limit in [PAGE / 2, PAGE, PAGE + PAGE / 4, PAGE * 3 / 2 - 1, 2 * PAGE, 3 * PAGE] {
        let (alone, shared) = (pool(limit), pool(100 * PAGE));
        for mut buffer in [alone.buffer(), shared.buffer_builder().memory(limit).build()] {
            if limit < PAGE {
                assert!(buffer.write(&[7; PAGE]).is_err(), "one that is longer gets nothing");
            }
            while buffer.write(&[7; 700]).is_ok() {}
            let least = if limit < 2 * PAGE { limit / 3 } else { limit };
            assert!((least as u64..=limit as u64).contains(&buffer.len()), "{} of {limit}", buffer.len());
        }
    }
}

// The far end of u64.

#[test]
fn the_longest_content_takes_nothing_until_it_is_written() {
    let pool = SpillPool::builder().build().unwrap();
    let mut buffer = pool.buffer();
    buffer.set_len(u64::MAX).unwrap();
    assert_eq!((buffer.len(), buffer.position()), (u64::MAX, 0));
    assert_eq!((pool.stats().memory_high_water, pool.stats().disk_high_water), (0, 0));

    buffer.seek(SeekFrom::End(-3)).unwrap();
    let mut tail = [7; 8];
    assert_eq!(buffer.read(&mut tail).unwrap(), 3);
    assert_eq!(tail, [0, 0, 0, 7, 7, 7, 7, 7]);
    assert_eq!(buffer.read(&mut tail).unwrap(), 0);

    buffer.rewind().unwrap();
    let mut all = b"kept".to_vec();
    assert_eq!(buffer.read_to_end(&mut all).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!((all, buffer.position()), (b"kept".to_vec(), 0), "neither vector nor position has changed");
}

#[test]
fn a_write_past_the_last_position_is_too_large_and_changes_nothing() {
    let mut buffer = SpillBuffer::new();
    buffer.write_all(b"abc").unwrap();
    buffer.seek(SeekFrom::Start(u64::MAX)).unwrap();
    let refused = buffer.write(b"four").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
    assert!(matches!(spill_error(refused), SpillError::TooLarge { position: u64::MAX, requested: 4, .. }));
    assert_eq!((buffer.len(), buffer.position()), (3, u64::MAX));

    buffer.seek(SeekFrom::Current(-2)).unwrap();
    assert_eq!(buffer.write(b"four").unwrap(), 2, "the bytes up to the last position are taken");
    buffer.set_len(3).unwrap();
    assert_eq!(content_of(&mut buffer), b"abc");
}

/// The error named the last position of all in place of the page's, and then the page's in place of the
/// write's; and said that positions end where those of other buffers do. Memory took the bytes, for which the
/// file has no place, and no limit could move them out.
#[test]
fn a_write_past_the_end_of_all_files_is_refused_with_its_place() {
    const END: u64 = i64::MAX as u64 / 4096 * 4096;
    let dir = tempfile::tempdir().unwrap();
    for memory in [0, 64 << 10] {
        let pool = SpillPool::builder().memory(memory).page_size(4096).build().unwrap();
        let mut buffer = pool.buffer_for(dir.path().join("file"));
        for at in [END, (1 << 63) + 5, u64::MAX] {
            let error = buffer.write_at(b"x", at).unwrap_err();
            let Some(&SpillError::TooLarge { position, requested, end, .. }) = SpillError::of(&error) else {
                panic!("{error}")
            };
            assert_eq!((position, requested, end), (at, 1, END));
            assert_eq!((buffer.len(), buffer.write_at(b"", at).unwrap()), (0, 0));
        }
        assert_eq!(pool.stats().memory_used, 0);
        if memory > 0 {
            let parts = [&b"in and "[..], b"out"].map(std::io::IoSlice::new);
            buffer.seek(SeekFrom::Start(END - 3)).unwrap();
            assert_eq!(buffer.write_vectored(&parts).unwrap(), 3, "what is within is taken");
            buffer.seek(SeekFrom::Start(END - 7)).unwrap();
            assert_eq!(buffer.write_vectored(&parts).unwrap(), 7);
            assert_eq!(buffer.len(), END);
        }
    }
    // Without such a file positions go on.
    let pool = SpillPool::builder().memory(0).page_size(4096).build().unwrap();
    pool.buffer().write_all_at(b"x", (1 << 63) + 5).unwrap();
}

#[test]
fn a_seek_out_of_range_says_from_where_and_moves_nothing() {
    let mut buffer = SpillBuffer::new();
    buffer.write_all(b"abc").unwrap();
    for (to, from, offset) in [(SeekFrom::End(-4), 3, -4), (SeekFrom::Current(i64::MIN), 3, i64::MIN)] {
        let refused = buffer.seek(to).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        let SpillError::InvalidSeek { from: was_from, offset: was_offset, .. } = spill_error(refused) else {
            panic!("{to:?}: not a seek's error");
        };
        assert_eq!((was_from, was_offset, buffer.position()), (from, offset, 3));
    }
}

#[test]
fn consuming_past_the_end_is_a_seek_forward() {
    let mut buffer = SpillBuffer::new();
    buffer.write_all(b"abc").unwrap();
    buffer.rewind().unwrap();
    assert_eq!(buffer.fill_buf().unwrap(), b"abc");
    buffer.consume(5);
    assert_eq!(buffer.fill_buf().unwrap(), b"");
    buffer.write_all(b"x").unwrap();
    assert_eq!(content_of(&mut buffer), b"abc\0\0x");
}

// Refusals, and what they leave behind.

#[test]
fn the_disk_limit_names_its_figures_and_refuses_only_while_there_is_no_room() {
    let pool = pool_on_disk(32);
    let mut other = pool.buffer();
    other.write_all(&[1; 24]).unwrap();
    let mut buffer = pool.buffer();
    assert_eq!(buffer.write(&[2; 20]).unwrap(), 8, "a short count first");

    let refused = buffer.write(&[2; 12]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::QuotaExceeded);
    let SpillError::DiskLimit { limit, used, requested, .. } = spill_error(refused) else {
        panic!("another error")
    };
    assert_eq!((limit, used, requested), (32, 32, 8));
    assert_eq!((buffer.len(), buffer.position()), (8, 8), "the refused bytes left no trace");

    drop(other);
    buffer.write_all(&[2; 12]).unwrap();
    assert_eq!(content_of(&mut buffer), [2; 20]);
}

#[test]
fn with_a_disk_limit_of_0_there_is_still_the_memory() {
    let builder = SpillPool::builder().memory(16).page_size(8).disk(0).store(MemoryStore::new());
    let pool = builder.build().unwrap();
    let mut buffer = pool.buffer();
    assert_eq!(buffer.write(&[1; 20]).unwrap(), 16);
    assert_eq!(buffer.write(&[1; 4]).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    assert_eq!(buffer.spill().unwrap_err().kind(), ErrorKind::QuotaExceeded);
    assert_eq!(content_of(&mut buffer), [1; 16]);
    assert!(!buffer.is_spilled());
}

#[test]
fn a_full_store_is_not_the_disk_limit() {
    let builder = SpillPool::builder().memory(0).page_size(8).store(MemoryStore::with_capacity(12));
    let pool = builder.build().unwrap();
    let mut buffer = pool.buffer();
    assert_eq!(buffer.write(&[3; 20]).unwrap(), 12);
    let refused = buffer.write(&[3; 8]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    let SpillError::StoreFull { offset, source, .. } = spill_error(refused) else { panic!("another error") };
    assert_eq!((offset, source.kind()), (12, ErrorKind::StorageFull));
    assert_eq!(content_of(&mut buffer), [3; 12]);
}

/// An append as long as its page's frame moves the page on, which the disk had no room for: nothing was
/// taken, though the frame had room for some of it. The same bytes in shorter pieces were.
#[test]
fn what_memory_has_room_for_is_taken_though_the_store_is_full() {
    let builder = SpillPool::builder().memory(512).page_size(4096).store(MemoryStore::with_capacity(0));
    let pool = builder.build().unwrap();
    let mut buffer = pool.buffer();
    assert_eq!(buffer.write(&[3; 500]).unwrap(), 500);
    assert_eq!(buffer.write(&[3; 2000]).unwrap(), 12);
    assert_eq!(buffer.write(&[3; 2000]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(content_of(&mut buffer), [3; 512]);
}

#[test]
fn the_error_of_a_store_names_the_operation_and_its_place() {
    let (store, _) = FaultStore::new(
        MemoryStore::new(),
        Fault::once(0, Failure::Error(ErrorKind::TimedOut)).on(Call::Read),
    );
    let pool = SpillPool::builder().memory(0).page_size(8).store(store).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[4; 8]).unwrap();
    buffer.seek(SeekFrom::Start(2)).unwrap();
    let failed = spill_error(buffer.read(&mut [0; 5]).unwrap_err());
    assert_eq!(failed.to_string(), "the store failed: cannot read 5 bytes at its offset 2");
    assert_eq!(failed.source().unwrap().to_string(), "a fault was planned here: timed out");
    let SpillError::Store { operation, offset, len, .. } = failed else { panic!("another error") };
    assert_eq!((operation, offset, len), (StoreOperation::Read, 2, 5));
    assert_eq!(buffer.position(), 2);
    assert_eq!(content_of(&mut buffer), [4; 8], "it works again");
}

// Freeing, and printing.

#[test]
fn clearing_and_cutting_free_the_disk() {
    let pool = pool_on_disk(u64::MAX);
    let mut buffer = pool.buffer();
    buffer.write_all(&[5; 64]).unwrap();
    assert_eq!((pool.stats().disk_used, buffer.stats().disk_used), (64, 64));
    buffer.set_len(20).unwrap();
    assert_eq!(pool.stats().disk_used, 24, "pages are kept whole");
    buffer.clear();
    assert_eq!((pool.stats().disk_used, buffer.len(), buffer.position()), (0, 0, 0));
    assert!(!buffer.is_spilled());
}

#[test]
fn debug_prints_where_the_bytes_are_and_reads_none_of_them() {
    let pool = pool_on_disk(u64::MAX);
    let mut buffer = pool.buffer();
    buffer.write_all(b"secret!!").unwrap();
    let printed = format!("{buffer:?}");
    assert!(printed.contains("len: 8") && printed.contains("disk_used: 8"), "{printed}");
    assert!(!printed.contains("secret") && !printed.contains("115"), "{printed}");
    assert_eq!(buffer.stats().io.reads, 0);
}

// Bugs, each with its story.

/// With pages of one byte, the last page has the number `u64::MAX`. The loop over the entries of a table was
/// believed to count no further than there are entries. But it paired them with an open range, which counts
/// one ahead, and overflowed behind the last page.
#[test]
fn a_loop_over_pages_reaches_the_last_possible_page() {
    use overspill_tests::replay::*;
    let ops = [Seek(Start(27)), WriteVectored([15, 0, 13])];
    let setup = SpillSetup {
        page: 1,
        memory: 5,
        disk: u64::MAX,
        below: Memory,
        base: u64::MAX - 50,
        checksums: Off,
        buffers: 1,
        watch: AtEnd,
    };
    run_spill(setup, &ops).unwrap();
}

/// The last page ends at 2⁶⁴, and positions end one byte before that. A write into the window was believed to
/// need no check of the position, since a frame ends where its page ends. But the frame of the last page has
/// room for that one byte more, and the position wrapped to 0.
#[test]
fn the_byte_behind_the_last_position_is_not_written_into_the_window() {
    let mut buffer = SpillBuffer::new();
    buffer.seek(SeekFrom::Start(u64::MAX - 5)).unwrap();
    buffer.write_all(b"abc").unwrap();
    assert_eq!(buffer.write(b"def").unwrap(), 2, "the bytes up to the last position");
    assert_eq!((buffer.position(), buffer.len()), (u64::MAX, u64::MAX));
    buffer.seek(SeekFrom::End(-5)).unwrap();
    let mut tail = [0; 8];
    assert_eq!(buffer.read(&mut tail).unwrap(), 5);
    assert_eq!(&tail[..5], b"abcde");
}

/// A page that has outgrown its slot of 4 KiB moves to a larger one. If the move fails, the larger slot must
/// be freed. No test failed when it was not, since none had a page with slots of several sizes over a store
/// that fails.
#[test]
fn a_page_that_cannot_move_to_a_larger_slot_takes_no_room() {
    for call in [Call::Read, Call::Write] {
        let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
        let pool = SpillPool::builder().memory(4096).page_size(16 << 10).store(store).build().unwrap();
        let mut buffer = pool.buffer();
        buffer.write_all(&[1; 3000]).unwrap();
        buffer.spill().unwrap();
        pool.set_memory_limit(0);
        faults.set(Fault::once(0, Failure::io()).on(call));
        assert!(buffer.write(&[2; 9000]).is_err(), "{call:?}");
        assert_eq!((faults.failed(), pool.stats().disk_used), (1, 4096));
        buffer.check_invariants();
        pool.check_invariants();
        buffer.write_all(&[2; 9000]).unwrap();
        assert!(content_of(&mut buffer) == [vec![1; 3000], vec![2; 9000]].concat());
        assert_eq!(pool.stats().disk_used, 16 << 10);
    }
}

/// A store is foreign code, and was believed to return. A store that panicked while the file was being cut
/// left a flag set, and every thread that needed a slot waited for it for ever. A store that panicked while a
/// page was being written out lost that page.
#[test]
fn a_store_that_panics_is_a_store_that_fails() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(8).page_size(8).store(store).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(b"in memory").unwrap();
    buffer.rewind().unwrap();

    faults.set(Fault::once(0, Failure::Panic).on(Call::Write));
    let failed = buffer.spill().unwrap_err();
    let panicked = failed.source().unwrap().to_string();
    assert_eq!(panicked, "the store panicked: a panic was planned here");
    assert_eq!(content_of(&mut buffer), b"in memory");

    faults.set(Fault::once(0, Failure::Panic).on(Call::SetLen));
    buffer.spill().unwrap();
    buffer.clear();
    pool.trim();
    assert_eq!(faults.failed(), 1);
    buffer.write_all(&[6; 50]).unwrap(); // here it waited for ever
    assert_eq!(content_of(&mut buffer), [6; 50]);
    buffer.check_invariants();
    pool.check_invariants();
}

/// Frees 4 MiB in the middle of a file, whose store's discards fail as `fault` says. Returns the bytes that
/// are still there, and how often discarding was tried.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn free_in_the_middle(fault: Fault) -> (u64, u64) {
    let (store, faults) = FaultStore::new(overspill::TempFileStore::new(), fault.on(Call::Discard));
    let pool = SpillPool::builder().memory(0).page_size(4 << 10).store(store).build().unwrap();
    let (mut freed, mut last) = (pool.buffer(), pool.buffer());
    freed.write_all(&vec![1; 4 << 20]).unwrap();
    last.write_all(&[2; 4 << 10]).unwrap();
    for pages in (0..1024).rev() {
        freed.set_len(pages * (4 << 10)).unwrap();
    }
    assert_eq!(content_of(&mut last), [2; 4 << 10]);
    let found = (pool.stats().disk_recycled, faults.calls_of(Call::Discard));
    faults.lift();
    pool.trim();
    assert_eq!((pool.stats().disk_recycled, faults.calls_of(Call::Discard)), (0, found.1 + 1));
    found
}

/// One discard that failed was believed to say that the store has none. After an error of a busy moment no
/// block went back to the file system until `trim`, from then on.
#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn a_discard_that_fails_once_is_tried_again_and_one_that_never_works_is_not() {
    let kept = 1 << 20;
    let busy = [Failure::io(), Failure::full(), Failure::Error(ErrorKind::ResourceBusy), Failure::Panic];
    for failure in busy {
        let (there, tried) = free_in_the_middle(Fault::once(0, failure));
        assert!(there <= kept && tried > 1, "{failure:?}: {there} bytes, tried {tried} times");
        // An attempt looks at all that is free: they become rare while each fails.
        let (there, tried) = free_in_the_middle(Fault::lasting(0, failure));
        assert!(
            there > 3 * kept && (2..10).contains(&tried),
            "{failure:?}: {there} bytes, tried {tried} times"
        );
    }
    let never = [ErrorKind::Unsupported, ErrorKind::PermissionDenied, ErrorKind::InvalidInput];
    for kind in never {
        let (there, tried) = free_in_the_middle(Fault::lasting(0, Failure::Error(kind)));
        assert!(there > 3 * kept && tried == 1, "{kind:?}: {there} bytes, tried {tried} times");
    }
}

/// Bytes that had no frame were lent from a copy of 4 KiB, and the second time, with nothing in between,
/// from a frame that had become free and was shorter: a caller that had counted the first chunk found fewer
/// bytes than it had seen.
#[test]
fn what_is_lent_twice_is_the_same() {
    let pool = SpillPool::builder().memory(4096).page_size(4096).build().unwrap();
    let [mut first, mut second, mut third] = [(); 3].map(|()| pool.buffer());
    first.write_all(&[1; 4097]).unwrap();
    second.write_all(&[2; 2048]).unwrap();
    third.write_all(&[3; 12288]).unwrap();
    for buffer in [&mut first, &mut second, &mut third] {
        for from_end in [1, 100, 1000, 4096] {
            if buffer.seek(SeekFrom::End(-from_end)).is_ok() {
                let lent = buffer.fill_buf().unwrap().to_vec();
                assert_eq!(buffer.fill_buf().unwrap(), lent);
            }
        }
    }
}
