use super::*;
use crate::disk::memory_store::MemoryStore;
use crate::pager::content::Content;
use crate::pager::state::Pager;
use overspill_core::Medium;

const PAGE: usize = 64;

/// Each window that other buffers took left an entry behind, for a page that nothing was ever put in, for
/// as long as the reader went on.
#[test]
fn a_window_that_was_taken_leaves_nothing_in_the_table() {
    let pool = PoolState::new(8 * PAGE, u64::MAX, PAGE, Box::new(MemoryStore::new()), None);
    let pool = Arc::new(pool);
    let mut pager = Pager::new(&pool);
    assert_eq!(pager.write_at(0, &[1; 64 * PAGE]).unwrap(), 64 * PAGE);
    let (content, mut reader) = (Content::new(pager, false), Reader::new(Arc::clone(&pool), u64::MAX));
    let mut taken = 0;
    for at in (0..64 * PAGE as u64).step_by(4) {
        assert_eq!(reader.read(&content, at, &mut [0; 4]).unwrap(), 4);
        let had_window = reader.table(|table| table.window_index().is_some()) == Some(true);
        pool.set_memory_limit(0);
        pool.set_memory_limit(8 * PAGE as u64);
        let has_window = reader.table(|table| table.window_index().is_some()) == Some(true);
        taken += u32::from(had_window && !has_window);
    }
    assert!(taken > 32, "{taken}");
    assert_eq!(reader.table(|table| table.map.is_empty()), Some(true));
}
