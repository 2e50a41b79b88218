//! Pages of which a frame holds a part only: the buffer has less memory than a page.

use super::*;

const LARGE: usize = 64 * KIB;

/// A buffer with all of `content` in its slots, and with memory for a quarter of a page.
fn spilled_with_a_quarter(store: &OpenStore, content: &[u8]) -> SpillBuffer {
    let pool = pool(4 * LARGE, LARGE, store);
    let mut buffer = pool.buffer_builder().memory(LARGE / 4).build();
    content.chunks(3000).for_each(|piece| buffer.write_all(piece).unwrap());
    buffer.spill().unwrap();
    buffer
}

/// A sequential pass brought the next segment and did not look whether it came. Where a block of it was bad,
/// `read` panicked, and `fill_buf` lent zeros.
#[test]
fn a_changed_byte_past_a_segment_is_noticed() {
    let store = OpenStore::default();
    let content = content(2 * LARGE + 5 * BLOCK + 77);
    let mut buffer = spilled_with_a_quarter(&store, &content);
    for position in [0, 16_000, LARGE / 4, LARGE / 2 + 3 * BLOCK, LARGE + BLOCK, content.len() - 1] {
        let at = store.offset_of(&content, LARGE, position);
        store.flip(at, 3);
        assert_noticed(&mut buffer, &content, position, at);
        store.flip(at, 3);
    }
    assert_well(&mut buffer, &content);
}

/// A segment was written in part, and then cut off. The sums of its blocks stayed, which the slot no longer
/// matched, so that a write that ended in one of them failed for bytes that were no content.
#[test]
fn a_segment_that_was_cut_off_leaves_no_sums() {
    for cut in [100, 10_000, LARGE / 4] {
        let store = OpenStore::default();
        let mut content = content(40_000);
        let mut buffer = spilled_with_a_quarter(&store, &content);
        buffer.rewind().unwrap();
        (0..6 * BLOCK / 512).for_each(|_| buffer.read_exact(&mut [0; 512]).unwrap());
        buffer.write_all(&[9; 100]).unwrap();
        store.state().room = Some(2 * BLOCK + 1000);
        buffer.spill().unwrap_err();
        store.state().room = None;
        buffer.set_len(cut as u64).unwrap();
        content.truncate(cut);
        content.resize(6 * BLOCK + 1808, 7);
        buffer.seek(SeekFrom::Start(cut as u64)).unwrap();
        buffer.write_all(&content[cut..]).unwrap();
        assert_well(&mut buffer, &content);
    }
}
