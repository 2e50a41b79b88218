//! What is possible beside a bad block, and what heals it; and which writes and cuts keep all sums right.

use super::*;

#[test]
fn the_error_names_the_place_and_what_to_do() {
    let store = OpenStore::default();
    let mut buffer = spilled(&pool(0, PAGE, &store), &content(3 * PAGE));
    store.flip(PAGE + 2 * BLOCK, 0);
    buffer.seek(SeekFrom::Start((PAGE + 2 * BLOCK) as u64 + 5)).unwrap();
    let error = buffer.read(&mut [0; 5]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "4096 bytes at position 24576 were changed in the store, at its offset 24576: \
         they do not have their checksum; overwrite or cut off all of them"
    );
    assert_eq!(buffer.position(), (PAGE + 2 * BLOCK) as u64 + 5, "the position has not moved");
}

#[test]
fn everything_beside_the_bad_block_works_as_before() {
    for (memory, block) in [(0, 0), (PAGE, 0), (4 * PAGE, 0), (0, 1), (PAGE, 1), (4 * PAGE, 1)] {
        let store = OpenStore::default();
        let mut content = content(3 * PAGE);
        let mut buffer = spilled(&pool(memory, PAGE, &store), &content);
        let bad = PAGE + block * BLOCK..PAGE + (block + 1) * BLOCK;
        store.flip(store.offset_of(&content, PAGE, bad.start + 9), 7);
        for round in 0..20u8 {
            for at in (0..3 * PAGE - 50).step_by(777).filter(|at| at + 50 <= bad.start || *at >= bad.end) {
                let mut part = [0; 50];
                buffer.seek(SeekFrom::Start(at as u64)).unwrap();
                buffer.read_exact(&mut part).unwrap();
                assert_eq!(part[..], content[at..at + 50]);
                buffer.seek(SeekFrom::Start(at as u64)).unwrap();
                buffer.write_all(&[round; 50]).unwrap();
                content[at..at + 50].fill(round);
            }
        }
        buffer.check_invariants();
        buffer.seek(SeekFrom::Start(bad.start as u64)).unwrap();
        assert_eq!(corrupted_place(buffer.read(&mut [0; 1]).unwrap_err()).0, bad);
    }
}

/// A write of a part would need a new sum for the whole block, which would cover bytes that were never
/// checked.
#[test]
fn a_write_of_a_part_of_the_bad_block_is_refused_and_one_of_the_whole_heals_it() {
    for memory in [0, PAGE] {
        let store = OpenStore::default();
        let mut content = content(2 * PAGE);
        let mut buffer = spilled(&pool(memory, PAGE, &store), &content);
        store.flip(store.offset_of(&content, PAGE, BLOCK + 10), 0);
        for (at, len) in [(BLOCK, 100), (BLOCK + 10, 1), (2 * BLOCK - 1, 1), (BLOCK + 1, BLOCK)] {
            buffer.seek(SeekFrom::Start(at as u64)).unwrap();
            assert_eq!(corrupted_place(buffer.write(&vec![1; len]).unwrap_err()).0, BLOCK..2 * BLOCK);
            assert_eq!(buffer.position(), at as u64);
        }
        // The part of a write that lies before the bad block is taken.
        buffer.seek(SeekFrom::Start(100)).unwrap();
        assert_eq!(buffer.write(&[1; BLOCK]).unwrap(), BLOCK - 100);
        content[100..BLOCK].fill(1);

        buffer.seek(SeekFrom::Start(BLOCK as u64)).unwrap();
        buffer.write_all(&[2; BLOCK]).unwrap();
        content[BLOCK..2 * BLOCK].fill(2);
        assert_well(&mut buffer, &content);
        buffer.spill().unwrap();
        assert_well(&mut buffer, &content);
    }
}

/// A small read copies the page that clones share, whole. So a bad block at its end was an error for those
/// who read its beginning.
#[test]
fn a_bad_block_of_a_shared_page_is_no_error_for_reads_beside_it() {
    for memory in [0, PAGE, 8 * PAGE] {
        let store = OpenStore::default();
        let content = content(3 * PAGE);
        let mut first = spilled(&pool(memory, PAGE, &store), &content);
        let bad = PAGE + 2 * BLOCK..PAGE + 3 * BLOCK;
        let at = store.offset_of(&content, PAGE, bad.start + 9);
        store.flip(at, 7);
        let mut second = first.try_clone().unwrap();
        for buffer in [&mut first, &mut second] {
            assert_noticed(buffer, &content, bad.start + 9, at);
            for from in [PAGE, PAGE + 10, bad.end, 0, PAGE] {
                let mut part = [0; 10];
                buffer.seek(SeekFrom::Start(from as u64)).unwrap();
                for done in [from, from + 10] {
                    buffer.read_exact(&mut part).unwrap();
                    assert_eq!(part[..], content[done..done + 10]);
                }
            }
            buffer.check_invariants();
        }
        // A write brings the page, whole, unless it covers it.
        let refused = spill_error(second.write_at(&[1; 10], PAGE as u64).unwrap_err());
        assert!(matches!(refused, SpillError::Corrupted { position, .. } if position == bad.start as u64));
        second.write_all_at(&content[PAGE..2 * PAGE], PAGE as u64).unwrap();
        assert_well(&mut second, &content);
        assert_noticed(&mut first, &content, bad.start + 9, at);
    }
}

#[test]
fn cutting_the_bad_block_off_heals() {
    let store = OpenStore::default();
    let mut content = content(2 * PAGE);
    let mut buffer = spilled(&pool(0, PAGE, &store), &content);
    store.flip(PAGE + BLOCK + 10, 0);
    buffer.set_len((PAGE + BLOCK) as u64).unwrap();
    content.truncate(PAGE + BLOCK);
    assert_well(&mut buffer, &content);
    buffer.set_len(2 * PAGE as u64).unwrap();
    content.resize(2 * PAGE, 0);
    assert_well(&mut buffer, &content);
    buffer.seek(SeekFrom::Start(PAGE as u64 + 9000)).unwrap();
    buffer.write_all(b"behind a gap").unwrap();
    content[PAGE + 9000..PAGE + 9012].copy_from_slice(b"behind a gap");
    assert_well(&mut buffer, &content);
    buffer.clear();
    assert_well(&mut buffer, b"");
}

/// Sums are noted a few blocks at a time, and each such group was believed to end where a block ends. A write
/// that began within a block shifted all groups after it.
#[test]
fn a_long_write_into_a_page_with_many_blocks() {
    const LARGE: usize = 256 * KIB;
    for range in [100..LARGE - 100, 0..LARGE - 1, BLOCK - 1..40 * BLOCK + 1, 5..LARGE] {
        let store = OpenStore::default();
        let mut content = content(LARGE);
        let mut buffer = spilled(&pool(0, LARGE, &store), &content);
        buffer.seek(SeekFrom::Start(range.start as u64)).unwrap();
        buffer.write_all(&content[..range.len()]).unwrap();
        content.copy_within(..range.len(), range.start);
        assert_well(&mut buffer, &content);
    }
}

/// A page that is cut within a block keeps the sum of that block, which covers the bytes that were cut off,
/// too.
#[test]
fn a_page_that_was_cut_is_still_checked() {
    for cut in [1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
        for grow in [0, 1, 300, 2 * BLOCK] {
            let store = OpenStore::default();
            let mut content = content(PAGE);
            let mut buffer = spilled(&pool(0, PAGE, &store), &content);
            buffer.set_len(cut as u64).unwrap();
            content.truncate(cut);
            assert_well(&mut buffer, &content);
            let end = (cut + grow).min(PAGE - 1);
            buffer.seek(SeekFrom::Start(end as u64)).unwrap();
            buffer.write_all(b"x").unwrap();
            content.resize(end, 0);
            content.push(b'x');
            assert_well(&mut buffer, &content);
            for position in [0, cut - 1, end] {
                store.flip(position, 1);
                assert_noticed(&mut buffer, &content, position, position);
                store.flip(position, 1);
            }
        }
    }
}

/// A small page outgrows its slot and is copied to a larger one. Its bad block stays bad, and does not hinder
/// the write.
#[test]
fn a_bad_block_stays_bad_when_its_page_moves() {
    for bad in [7, BLOCK + 7] {
        let store = OpenStore::default();
        let mut content = content(2 * BLOCK);
        let pool = pool(PAGE, PAGE, &store);
        let mut buffer = spilled(&pool, &content);
        assert_eq!(buffer.stats().disk_used, 2 * BLOCK as u64);
        pool.set_memory_limit(0);
        store.flip(bad, 0);
        buffer.seek(SeekFrom::Start(3 * BLOCK as u64)).unwrap();
        buffer.write_all(b"far").unwrap();
        assert_eq!(buffer.stats().disk_used, PAGE as u64, "it was moved");
        content.resize(3 * BLOCK, 0);
        content.extend(b"far");
        let at = bad_offset_of(&mut buffer, bad);
        assert_noticed(&mut buffer, &content, bad, at);
        store.flip(at, 0);
        assert_well(&mut buffer, &content);
    }
}

/// The bytes that were cut off move, too, since the sum of their block covers them.
#[test]
fn a_page_that_was_cut_can_be_moved() {
    let store = OpenStore::default();
    let mut content = content(2 * BLOCK);
    let pool = pool(PAGE, PAGE, &store);
    let mut buffer = spilled(&pool, &content);
    pool.set_memory_limit(0);
    buffer.set_len(BLOCK as u64 + 100).unwrap();
    content.truncate(BLOCK + 100);
    buffer.seek(SeekFrom::Start(3 * BLOCK as u64)).unwrap();
    buffer.write_all(b"far").unwrap();
    assert_eq!(buffer.stats().disk_used, PAGE as u64, "it was moved");
    content.resize(3 * BLOCK, 0);
    content.extend(b"far");
    assert_well(&mut buffer, &content);
}

/// The offset in the store of byte `position`, which must be bad.
fn bad_offset_of(buffer: &mut SpillBuffer, position: usize) -> usize {
    buffer.seek(SeekFrom::Start(position as u64)).unwrap();
    let (found, offset) = corrupted_place(buffer.read(&mut [0; 1]).unwrap_err());
    offset + (position - found.start)
}

/// Wherever a write to the store stops, buffer and store agree on how much was written. What was there before
/// is still read, and everything is still checked.
#[test]
fn a_write_that_stops_half_way_loses_nothing() {
    let ranges =
        [0..PAGE, 10..2 * PAGE, 100..200, 5000..PAGE, BLOCK..2 * BLOCK, 3000..9000, PAGE - 1..PAGE + 1];
    for old in [0, 300, PAGE - 7, 2 * PAGE] {
        for range in ranges.clone() {
            for room in [0, 1, 99, 1000, BLOCK - 100, BLOCK, BLOCK + 1, 7000, PAGE, PAGE + 50] {
                let store = OpenStore::default();
                let mut content = content(old);
                let mut buffer = spilled(&pool(0, PAGE, &store), &content);
                store.state().room = Some(room);
                buffer.seek(SeekFrom::Start(range.start as u64)).unwrap();
                let written = buffer.write(&vec![1; range.len()]).unwrap_or(0);
                store.state().room = None;
                if written > 0 {
                    content.resize(content.len().max(range.start + written), 0);
                    content[range.start..range.start + written].fill(1);
                }
                assert_well(&mut buffer, &content);
                // The same write again, now with room.
                buffer.seek(SeekFrom::Start(range.start as u64)).unwrap();
                buffer.write_all(&vec![2; range.len()]).unwrap();
                content.resize(content.len().max(range.end), 0);
                content[range.clone()].fill(2);
                assert_well(&mut buffer, &content);
                for position in [range.start, range.end - 1, content.len() - 1] {
                    store.flip(position, 1);
                    assert_noticed(&mut buffer, &content, position, position);
                    store.flip(position, 1);
                }
            }
        }
    }
}
