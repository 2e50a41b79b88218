//! The step of a pass to its next page, while all is in memory: one visit to the table each.
//!
//! What the window does not serve goes through all that a page may need, some 1,700 instructions for one that
//! is new, and 700 for one that is read. A page that comes behind the content, or is in memory as a whole,
//! needs little of that. So this is tried before, and takes three quarters of the first figure and half of
//! the second.
//!
//! Promises:
//!
//! - It does what the long way does, or nothing. A visit counts for the heat of its page as any other.
//! - While the pool's memory is short, nothing is tried here to be written: it would be tried again.
//!
//! Held by: the tests below, `tests/tests/spill_model.rs`, `tests/tests/spill_faults/`,
//! `cargo bench -p overspill-tests --bench peers -- alone bodies`.

use crate::memory::frame_pool::Room;
use crate::pager::span::Span;
use crate::pager::state::Pager;
use crate::pages::page::{Location, Stay};
use crate::pages::page_map::Visited;
use crate::pages::resident::Resident;

impl Pager {
    /// Reads `span`, which begins at `offset`, into `out`, if its page is in memory, whole. The whole call
    /// reads `want` bytes. Otherwise does nothing and returns false.
    pub(crate) fn read_turn(&mut self, offset: u64, span: Span, out: &mut [u8], want: usize) -> bool {
        if self.base().is_some() {
            return false;
        }
        let continues = offset == self.last_end || offset == 0 || self.descends_at(offset);
        let is_small = want < self.pool.page_size / 2;
        let read = self.table(|table| {
            let is_whole = |page: &Resident| !page.is_segment();
            if table.window_index() == Some(span.index) {
                table.resident(span.index).filter(|page| is_whole(page))?.read(span.at, out);
                table.touch(span.index);
                return Some(());
            }
            let continues = continues || table.window_ends_at(offset);
            let Visited::Resident(page) = table.map.visit(span.index, is_whole, |_, _| false)? else {
                return None;
            };
            if is_small && continues {
                table.visit(span.index, true)?.read(span.at, out);
            } else {
                page.read(span.at, out);
            }
            Some(())
        });
        read.is_some()
    }

    /// Writes `data`, which begins at `offset` and lies in the page of `span`, if that is a new page behind
    /// the content and there is ample memory. Otherwise does nothing and returns false.
    pub(crate) fn write_turn(&mut self, offset: u64, span: Span, data: &[u8]) -> bool {
        let is_next = span.at == 0 && span.index > 0 && offset == self.len;
        if !is_next || self.base().is_some() || self.pool.frames.room() != Room::Ample {
            return false;
        }
        let Some(frame) = self.find_frame(self.pool.page_size, self.effort_for_more()) else { return false };
        let mut page = Resident::fresh(frame);
        let refused = self.table(|table| {
            // A job may have opened it for a write that did not come.
            if table.locate(span.index) != Location::Hole {
                return Some(page);
            }
            page.write(0, data);
            table.try_open(span.index, page, Stay::Kept).err()
        });
        let Some(page) = refused else { return true };
        self.give_back(page.into_frame());
        false
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::disk::memory_store::MemoryStore;
    use crate::pool::state::PoolState;
    use crate::sync::Arc;
    use overspill_core::{Medium, ReadMedium};

    const PAGE: usize = 16;

    fn pager(pages: usize) -> Pager {
        let pool = PoolState::new(pages * PAGE, u64::MAX, PAGE, Box::new(MemoryStore::new()), None);
        Pager::new(&Arc::new(pool))
    }

    fn write_turn(pager: &mut Pager, offset: u64, data: &[u8]) -> bool {
        let span = pager.span(offset, data.len());
        pager.write_turn(offset, span, data)
    }

    fn read_turn(pager: &mut Pager, offset: u64, len: usize) -> Option<Vec<u8>> {
        let (span, mut out) = (pager.span(offset, len), vec![0; len]);
        pager.read_turn(offset, span, &mut out, len).then_some(out)
    }

    #[test]
    fn a_new_page_is_behind_the_content_and_takes_ample_memory() {
        let mut pager = pager(20);
        assert_eq!(pager.write_at(0, &[1; PAGE]).unwrap(), PAGE);
        for (offset, turns) in [(0, false), (8, false), (32, false), (17, false), (16, true)] {
            assert_eq!(write_turn(&mut pager, offset, &[2; 5]), turns, "at {offset}");
        }
        pager.len = 21;
        assert_eq!(read_turn(&mut pager, 16, 5), Some(vec![2; 5]));
        // An eighth is left, and a page beside it.
        for page in 2..30 {
            let offset = page * PAGE as u64;
            pager.len = offset;
            assert_eq!(write_turn(&mut pager, offset, &[3]), page <= 16, "page {page}");
        }
    }

    /// A write that a job had made room for, and that did not come, leaves the window past the end.
    #[test]
    fn a_page_that_is_there_already_is_not_covered() {
        let mut pager = pager(20);
        assert_eq!(pager.write_at(0, &[1; PAGE]).unwrap(), PAGE);
        let frame = pager.find_frame(PAGE, pager.effort_for_more()).unwrap();
        assert!(pager.open(1, Resident::fresh(frame), Stay::Kept));
        assert!(!write_turn(&mut pager, PAGE as u64, &[2; 5]));
        assert_eq!(pager.write_at(PAGE as u64, &[2; 5]).unwrap(), 5);
        pager.check_invariants();
    }

    #[test]
    fn a_visit_counts_and_only_a_pass_of_small_pieces_moves_the_window() {
        let mut pager = pager(20);
        assert_eq!(pager.write_at(0, &[1; 4 * PAGE]).unwrap(), 4 * PAGE);
        assert_eq!(read_turn(&mut pager, 16, 16), None, "the heat is to be halved first");
        pager.table(|table| table.touch(9));
        for (offset, len, window) in
            [(16, 16, 3), (20, 3, 3), (16, 16, 3), (16, 3, 3), (19, 3, 1), (32, 3, 2)]
        {
            assert_eq!(read_turn(&mut pager, offset, len), Some(vec![1; len]));
            pager.last_end = offset + len as u64;
            assert_eq!(pager.table(|table| table.window_index()), Some(window), "after {len} at {offset}");
        }
        assert_eq!(pager.table(|table| table.touch(1)), 6, "five visits, and this one");
    }

    #[test]
    fn what_is_not_in_memory_as_a_whole_is_read_by_the_long_way() {
        let mut pager = pager(20);
        assert_eq!(pager.write_at(0, &[1; 4 * PAGE]).unwrap(), 4 * PAGE);
        pager.spill().unwrap();
        assert_eq!((0..4).find_map(|page| read_turn(&mut pager, page * 16, 16)), None);
        assert_eq!(read_turn(&mut pager, 64, 1), None, "a hole");
        let mut read = [0; PAGE];
        assert_eq!(pager.read_at(16, &mut read).unwrap(), PAGE);
        assert_eq!(read, [1; PAGE]);
    }
}
