//! What concerns a buffer's content as a whole: spilling all of it, cutting it, and a file of its own.
//!
//! Promises:
//!
//! - I3: what could not be spilled is still in memory.
//! - A cut cannot fail, and frees what lies past it. It wakes those that wait for room, once
//!   nothing is under way.
//!
//! Held by: `tests/tests/spill_model.rs`, `tests/tests/spill_faults`, `tests/tests/hand_over.rs`.

use crate::disk::own_file::OwnFile;
use crate::disk::slots::Slot;
use crate::disk::store_access::is_resident_only;
use crate::error::SpillError;
use crate::observe::stats::SpillReason;
use crate::pager::state::Pager;
use crate::pages::cut_off::CutOff;
use crate::pages::page::{Location, Page};
use crate::sync::Arc;
use std::ops::Range;
use std::path::Path;

impl Pager {
    /// Evicts every page in memory. On an error the pages not yet evicted are still resident.
    pub(crate) fn spill(&mut self) -> Result<(), SpillError> {
        if self.own_table.is_none() {
            return Ok(());
        }
        self.check()?;
        self.end_loan();
        let spilled = self.move_all_out();
        self.end_operation();
        spilled
    }

    fn move_all_out(&mut self) -> Result<(), SpillError> {
        loop {
            self.await_transits()?;
            // In one look at both: another thread may take a page at any time, and give it back.
            let (in_memory, in_transit) =
                self.table(|table| (table.next_in_memory(0), table.next_in_transit(0)));
            let Some(mut from) = in_memory.or(in_transit) else { return Ok(()) };
            while let Some(index) = self.table(|table| table.next_in_memory(from)) {
                self.evict_and_recycle(index, SpillReason::Requested)?;
                from = index + 1;
            }
        }
    }

    /// Shortens the content to `len` bytes, and frees what lies past it. Cannot fail, but may wait for
    /// a page in transit.
    pub(crate) fn truncate(&mut self, len: u64) {
        if self.own_table.is_none() || self.check().is_err() {
            self.len = len;
            self.cut_base(len);
            return;
        }
        let freed = self.cut(len);
        self.end_freeing(freed);
    }

    /// As [`truncate`](Pager::truncate), for a buffer that has a table. Returns the bytes of the slots that
    /// were freed, for [`end_freeing`](Pager::end_freeing), which is to follow.
    pub(crate) fn cut(&mut self, len: u64) -> u64 {
        self.end_loan();
        let before = self.bytes_held();
        // The page that is cut in two stays, so it must not be in transit. In a forked process it may be for
        // ever: then it is lost.
        if !len.is_multiple_of(self.pool.page_size as u64) {
            let _ = self.pin_settled(len >> self.pool.page_size.trailing_zeros());
        }
        let window = self.table(|table| table.cut_window(len));
        let mut freed = self.free_page(window);
        let segment = self.table(|table| table.cut_segment(len));
        if let Some(frame) = segment {
            self.recycle_frame(frame);
        }
        let mut cut_off = CutOff::default();
        while let Some(page) = self.table(|table| table.truncate(len, &mut cut_off)) {
            freed += self.free_cut_off(&mut cut_off) + self.free_page(page);
        }
        freed += self.free_cut_off(&mut cut_off);
        self.end_operation();
        self.len = len;
        self.cut_base(len);
        // Stay in the queue if nothing came free: the cursor also truncates a gap that it could not write
        // past, and this buffer may be about to wait for room itself.
        if self.bytes_held() < before {
            self.leave_queue();
        }
        freed
    }

    /// Makes `pages` holes, and frees what they held. The length stays. Returns the first page that is left:
    /// one on its way to a file of the buffer's own, if this thread must not wait for the store.
    pub(crate) fn discard_pages(&mut self, pages: Range<u64>) -> Option<u64> {
        if self.own_table.is_none() || self.check().is_err() {
            return None;
        }
        self.end_loan();
        // What is on its way to a file of the buffer's own has to arrive before it is freed. An event loop
        // does not wait for that.
        let stays = is_resident_only() && self.own().is_some_and(|own| !own.is_detached());
        let (mut freed, mut left) = (0, None);
        let mut from = pages.start;
        while let Some(index) = self.table(|table| table.next_page(from)).filter(|index| *index < pages.end) {
            from = index + 1;
            let page = self.table(|table| {
                table.settle(index); // what has arrived stays in transit until somebody looks
                if stays && table.locate(index) == Location::InTransit {
                    return None;
                }
                table.sums.forget(index);
                Some(table.remove(index))
            });
            match page {
                Some(page) => freed += self.free_page(page),
                None => left = left.or(Some(index)),
            }
        }
        self.table(|table| {
            let window = table.window_index(); // its entry is reserved
            table.map.forget_holes(pages, window);
        });
        self.end_operation();
        self.end_freeing(freed);
        left
    }

    /// Recycles frames and frees slots that were cut off from the end on, and returns the bytes of the slots.
    fn free_cut_off(&self, CutOff { frames, slots }: &mut CutOff) -> u64 {
        if !frames.is_empty() {
            self.usage().release_frames(frames);
            self.pool.frames.recycle_all(frames.drain(..));
        }
        if slots.is_empty() {
            return 0;
        }
        slots.reverse();
        self.free_all_quietly(slots);
        slots.drain(..).map(|slot| slot.len()).sum()
    }

    /// Frees the slot and recycles the frame of a page that was removed from the table. Returns
    /// the bytes of the slot.
    fn free_page(&mut self, page: Page) -> u64 {
        self.dispose(page).map_or(0, |slot| {
            self.free_all_quietly(&[slot]);
            slot.len()
        })
    }

    /// Recycles the frame of a page that was removed from the table. Returns its slot, which is to be freed.
    fn dispose(&mut self, page: Page) -> Option<Slot> {
        match page {
            Page::Hole => None,
            Page::Spilled { slot, .. } => Some(slot),
            Page::Resident(resident) => {
                self.recycle_frame(resident.frame);
                resident.slot
            }
            Page::Shared(page) => {
                let slot = page.slot;
                match Arc::try_unwrap(page) {
                    Ok(resident) => self.recycle_frame(resident.into_frame()),
                    // The last reference frees it: the frame carries its charge to the pool.
                    Err(page) => self.usage().release_frame(&page.frame),
                }
                slot
            }
            Page::InTransit(transit) => {
                // In its own file a page has one place only, and the next write may go there at once: let the
                // reclaiming thread's write end first.
                let goes_on = self.own().is_some_and(|own| !own.is_detached());
                if goes_on {
                    let _ = transit.wait(); // a forked process writes no file of its parent's
                }
                let outcome = transit.abandon(self.usage())?;
                self.dispose(outcome.into())
            }
        }
    }

    // ---- a file of its own

    /// Makes the buffer spill to its own file in `dir`, which can become the final file. Only for an empty
    /// buffer.
    pub(crate) fn spill_to_own_file(&mut self, dir: &Path) {
        debug_assert_eq!(self.len, 0);
        let quota = Arc::clone(self.pool.disk.quota());
        let own = OwnFile::new(dir, quota, self.pool.page_size);
        self.need_table().unlocked().set_own(own);
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use crate::disk::memory_store::MemoryStore;
    #[cfg(feature = "tokio")]
    use crate::disk::store_access::without_store;
    use crate::pager::state::Pager;
    use crate::pool::state::PoolState;
    use crate::sync::Arc;
    use overspill_core::{Medium, ReadMedium};
    use std::time::{Duration, Instant};

    const PAGE: usize = 16;

    fn spilled(pages: usize) -> Pager {
        let pool =
            PoolState::new(4 * PAGE, u64::MAX, PAGE, Box::new(MemoryStore::with_capacity(1 << 24)), None);
        let mut pager = Pager::new(&Arc::new(pool));
        let data = vec![7; pages * PAGE];
        assert_eq!(pager.write_at(0, &data).unwrap(), data.len());
        pager.spill().unwrap();
        pager
    }

    /// What a spool's readers have passed left 24 bytes for each page, for as long as the spool went on.
    #[test]
    fn pages_that_were_discarded_leave_nothing_once_their_leaves_are_passed() {
        let mut pager = spilled(1000);
        for first in 0..999 {
            pager.discard_pages(first..first + 1);
            let (left, entries) = (999 - first, pager.table(|table| table.map.entries()) as u64);
            assert!((left..=left + 256).contains(&entries), "{entries} for {left}");
        }
        pager.discard_pages(999..u64::MAX);
        assert!(pager.table(|table| table.map.is_empty()));
        let mut read = [1; 3 * PAGE];
        assert_eq!(pager.read_at(5, &mut read).unwrap(), read.len());
        assert_eq!(read, [0; 3 * PAGE]);
        assert_eq!(pager.write_at(0, &[1; PAGE + 1]).unwrap(), PAGE + 1);
        pager.check_invariants();
    }

    /// Their leaves went only with their last page: what a buffer rewrites it discards in any order, and each
    /// search for a page went over the holes.
    #[test]
    fn pages_that_were_discarded_in_any_order_leave_nothing() {
        for step in [999, 7] {
            let mut pager = spilled(1000);
            (0..1000)
                .map(|n| n * step % 1000)
                .for_each(|page| assert_eq!(pager.discard_pages(page..page + 1), None));
            assert!(pager.table(|table| table.map.is_empty()), "in steps of {step}");
        }
    }

    /// A page that another buffer had moved to the file of the content looked as if it were on its way still.
    /// An event loop leaves what is, and did not come back to it.
    #[cfg(feature = "tokio")]
    #[test]
    fn a_discard_on_an_event_loop_frees_what_has_arrived_in_an_own_file() {
        let pool = PoolState::new(4 * PAGE, u64::MAX, PAGE, Box::new(MemoryStore::new()), None);
        let pool = Arc::new(pool);
        let (mut pager, mut other) = (Pager::new(&pool), Pager::new(&pool));
        pager.spill_to_own_file(&std::env::temp_dir());
        assert_eq!(pager.write_at(0, &[1; 3 * PAGE]).unwrap(), 3 * PAGE);
        assert_eq!(other.write_at(0, &[2; 3 * PAGE]).unwrap(), 3 * PAGE);
        assert!(pager.table(|table| table.next_in_transit(0)).is_some(), "no page was reclaimed");
        without_store(|| pager.discard_pages(0..3));
        assert_eq!(pager.table(|table| table.next_page(0)), None);
        pager.check_invariants();
    }

    /// Each page was sought from the first on, over the holes of all before it: a gigabyte took minutes,
    /// with the content locked.
    #[test]
    fn a_discard_takes_time_for_each_page_once() {
        let mut pager = spilled(200_000);
        let began = Instant::now();
        pager.discard_pages(1..200_000);
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(pager.table(|table| table.next_page(1)), None);
    }
}
