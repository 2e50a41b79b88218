//! Each change of the bytes in the store is noticed.

use super::*;

#[test]
fn each_changed_bit_of_a_small_page_is_noticed() {
    for memory in [0, 8] {
        let store = OpenStore::default();
        let content = content(21); // the last page is short
        let mut buffer = spilled(&pool(memory, 8, &store), &content);
        for position in 0..content.len() {
            for bit in 0..8 {
                buffer.spill().unwrap();
                let at = store.offset_of(&content, 8, position);
                store.flip(at, bit);
                assert_noticed(&mut buffer, &content, position, at);
                store.flip(at, bit);
            }
        }
        assert_well(&mut buffer, &content);
    }
}

#[test]
fn a_changed_byte_in_any_block_of_a_large_page_is_noticed() {
    for memory in [0, PAGE, 2 * PAGE] {
        let store = OpenStore::default();
        let content = content(2 * PAGE + BLOCK + 77);
        let mut buffer = spilled(&pool(memory, PAGE, &store), &content);
        for position in (0..content.len()).step_by(1111).chain([content.len() - 1, PAGE - 1, PAGE, BLOCK]) {
            buffer.spill().unwrap();
            let at = store.offset_of(&content, PAGE, position);
            store.flip(at, 3);
            assert_noticed(&mut buffer, &content, position, at);
            store.flip(at, 3);
        }
        assert_well(&mut buffer, &content);
    }
}

#[test]
fn a_block_that_became_zeros_is_noticed() {
    let store = OpenStore::default();
    let content = content(PAGE);
    let mut buffer = spilled(&pool(0, PAGE, &store), &content);
    store.state().bytes[2 * BLOCK..3 * BLOCK].fill(0);
    buffer.seek(SeekFrom::Start(2 * BLOCK as u64 + 100)).unwrap();
    let (found, _) = corrupted_place(buffer.read(&mut [0; 8]).unwrap_err());
    assert_eq!(found, 2 * BLOCK..3 * BLOCK);
}

#[test]
fn two_slots_that_changed_places_are_noticed() {
    let store = OpenStore::default();
    let content = content(2 * PAGE);
    let mut buffer = spilled(&pool(0, PAGE, &store), &content);
    store.state().bytes.rotate_left(PAGE);
    for page in [0, 1] {
        buffer.seek(SeekFrom::Start((page * PAGE) as u64)).unwrap();
        let (found, offset) = corrupted_place(buffer.read(&mut [0; PAGE]).unwrap_err());
        assert_eq!((found.start, offset), (page * PAGE, page * PAGE));
    }
}

/// The sums lie in memory. If they lay in the slots, the old sum would still be there beside the old bytes.
#[test]
fn a_write_that_the_store_forgot_is_noticed() {
    for memory in [0, PAGE] {
        let store = OpenStore::default();
        let mut content = content(PAGE);
        let mut buffer = spilled(&pool(memory, PAGE, &store), &content);
        store.state().forgets = true;
        buffer.seek(SeekFrom::Start(5000)).unwrap();
        buffer.write_all(&[9; 100]).unwrap();
        buffer.spill().unwrap();
        store.state().forgets = false;
        content[5000..5100].fill(9);
        assert_noticed(&mut buffer, &content, 5000, 5000);
    }
}

#[test]
fn a_change_in_a_page_that_was_reclaimed_is_noticed() {
    let store = OpenStore::default();
    let pool = pool(4 * PAGE, PAGE, &store);
    let content = content(4 * PAGE);
    let mut idle = pool.buffer();
    idle.write_all(&content).unwrap();
    let mut busy = pool.buffer();
    for _ in 0..8 * PAGE / 64 {
        busy.write_all(&[5; 64]).unwrap();
    }
    assert!(idle.stats().spills > 0, "no page was reclaimed");
    idle.spill().unwrap();
    for page in 0..4 {
        let position = page * PAGE + BLOCK;
        let at = store.offset_of(&content, PAGE, position);
        store.flip(at, 0);
        idle.seek(SeekFrom::Start(position as u64)).unwrap();
        assert_eq!(corrupted_place(idle.read(&mut [0; 9]).unwrap_err()), (position..position + BLOCK, at));
        store.flip(at, 0);
    }
    assert_well(&mut idle, &content);
}

#[test]
fn without_checksums_nothing_is_noticed() {
    let store = OpenStore::default();
    let content = content(PAGE);
    let builder = SpillPool::builder().memory(0).page_size(PAGE).store(store.clone());
    let mut buffer = spilled(&builder.build().unwrap(), &content);
    store.flip(0, 0);
    buffer.rewind().unwrap();
    let mut byte = [0];
    buffer.read_exact(&mut byte).unwrap();
    assert_eq!(byte[0], content[0] ^ 1, "the byte as the store returned it");
}
