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

/// A sequential pass brought the next segment and did not look whether it came. Where a block of it was bad, `read`
/// panicked, and `fill_buf` lent zeros.
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
