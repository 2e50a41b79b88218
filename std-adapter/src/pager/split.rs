//! A buffer's pages become what it shares with a clone.
//!
//! Promises:
//!
//! - Nothing is moved or copied, in memory or in the store. The time follows the pages that were written
//!   since the last clone, some nanoseconds each, and the runs of layers below them.
//! - What may be refused comes before anything changes.
//!
//! Held by: the tests below, `tests/tests/clones.rs`, `tests/tests/refused_allocations/`.

use crate::error::SpillError;
use crate::pager::base::{Base, LayersBuilder, Source};
use crate::pager::content::Content;
use crate::pager::shared::Shared;
use crate::pager::state::Pager;
use crate::pages::resident::Resident;
use crate::pages::table::Table;
use crate::pool::leftover::Leftover;
use crate::pool::member::OwnTable;
use crate::pool::private;
use crate::pool::tables::close_buffer;
use crate::sync::{Arc, Ordering, can_make_arc};
use std::ops::Range;

impl Pager {
    /// A pager with the same content and limits, of the same pool, or of one of its own if the
    /// buffer has one of its own.
    pub(crate) fn try_clone(&mut self) -> Result<Pager, SpillError> {
        self.check()?;
        self.end_loan();
        #[cfg(feature = "tokio")]
        self.end_ahead();
        self.end_operation(); // a page that was made ready is pinned
        let when_full = self.own_when_full();
        let mut clone = if self.pool.registry.is_some() {
            Pager::new(&self.pool)
        } else {
            let memory = usize::try_from(self.pool.frames.budget().limit()).unwrap_or(usize::MAX);
            Pager::of(private::open(memory))
        };
        clone.drop_empty_page();
        clone.try_table()?;
        clone.drop_empty_page();
        clone.cold().ok_or(SpillError::OutOfMemory)?;
        if let Some(usage) = self.usage_if_any() {
            clone.usage().memory.set_limit(usage.memory.limit());
            clone.usage().disk.set_limit(usage.disk.limit());
        }
        if let Some(when_full) = when_full {
            clone.try_set_when_full(when_full)?;
        }
        let base = self.share_pages()?;
        if let Some(cold) = clone.cold() {
            cold.base = base;
        }
        clone.len = self.len;
        clone.last_end = self.last_end;
        Ok(clone)
    }

    /// Makes the buffer's pages its base, and returns it. `None` if all are holes.
    fn share_pages(&mut self) -> Result<Option<Base>, SpillError> {
        if self.own_table.is_some() {
            let mut from = 0;
            while let Some((index, copy)) = self.table(|table| table.take_next_copy(from)) {
                self.recycle_frame(copy.into_frame());
                from = index;
            }
            self.drop_empty_page();
        }
        let page = self.pool.page_size as u64;
        let ranges =
            self.own_table.as_mut().map_or(Some(Vec::new()), |table| table.with(|table| ranges(table, page)));
        let ranges = ranges.ok_or(SpillError::OutOfMemory)?;
        if ranges.is_empty() {
            // Others may have been dropped.
            if let Some(base) = self.cold_if_any().and_then(|cold| cold.base.as_mut()) {
                base.free_unseen();
            }
            self.pool.tell_waiters();
            return Ok(self.base().cloned());
        }
        self.cold().ok_or(SpillError::OutOfMemory)?;
        let builder = LayersBuilder::new(self.base(), ranges.len()).ok_or(SpillError::OutOfMemory)?;
        let mut table = self.pool.open_table().ok_or(SpillError::OutOfMemory)?;
        if let Some(frame) = table.with(Table::take_empty).map(Resident::into_frame) {
            table.unlocked().usage.release_frame(&frame);
            self.pool.frames.recycle(frame);
        }
        if !can_make_arc::<Shared>() {
            self.pool.population.fetch_add(1, Ordering::Relaxed); // as of a buffer, which it leaves
            close_buffer(Leftover { table: Some(table), pool: Arc::clone(&self.pool) });
            return Err(SpillError::OutOfMemory);
        }
        self.leave_window_below(); // while all is in its place: it may wake tasks
        let source = self.make_source(table);
        let mut base = builder.build(self.base(), source, &ranges, self.len);
        if let Some(cold) = self.cold_if_any() {
            cold.base = None; // so that the layers have their sources for themselves
            base.free_unseen();
            cold.base = Some(base.clone());
        }
        self.pool.tell_waiters();
        Ok(Some(base))
    }

    /// Content of the pages so far. The buffer continues with `table`, which is empty.
    fn make_source(&mut self, table: OwnTable) -> Arc<dyn Source> {
        let (before, usage) = (self.usage(), &table.unlocked().usage);
        usage.memory.set_limit(before.memory.limit());
        usage.disk.set_limit(before.disk.limit());
        usage.count_spills(before.spills());
        // It counts as a buffer until it is gone.
        self.pool.population.fetch_add(1, Ordering::Relaxed);
        let pages = Pager::with_table(self.own_table.replace(table), Arc::clone(&self.pool), self.len);
        Arc::new(Shared::new(Content::new(pages, false)))
    }

    /// Gives back the frame of the table's former buffer, whose page would be no hole.
    pub(crate) fn drop_empty_page(&mut self) {
        if self.own_table.is_some()
            && let Some(page) = self.table(Table::take_empty)
        {
            self.recycle_frame(page.into_frame());
        }
    }
}

/// The ranges of bytes of pages that are no holes, in order. `None` if there is no memory for the list.
fn ranges(table: &Table, page: u64) -> Option<Vec<Range<u64>>> {
    let mut ranges = Vec::<Range<u64>>::new();
    table.try_for_each_index(|index| {
        let (start, end) = (index * page, (index * page).saturating_add(page));
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => {
                ranges.try_reserve(1).ok()?;
                ranges.push(start..end);
            }
        }
        Some(())
    })?;
    Some(ranges)
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::disk::slots::Slot;
    use crate::memory::frame_pool::FramePool;
    use crate::pages::page::{Page, Stay};
    use std::time::{Duration, Instant};

    const PAGE: u64 = 4096;

    fn table(pages: impl Iterator<Item = u64>, window: u64) -> Table {
        let mut table = Table::new(4096);
        table.open(window, Resident::fresh(FramePool::new(1 << 20, 4096).acquire(4096).unwrap()), Stay::Kept);
        for index in pages {
            table.put(index, Page::Spilled { slot: Slot::new(index * PAGE, PAGE), end: 4096 });
        }
        table
    }

    #[test]
    fn pages_side_by_side_are_one_range_wherever_the_window_is() {
        let far = 300; // in another leaf
        for window in [0, 3, 7, 9, far - 1, far + 2, 9000] {
            let pages = [1, 2, 4, 5, 6, far, far + 1];
            let mut all: Vec<_> = pages.into_iter().chain([window]).collect();
            all.sort_unstable();
            let ranges = ranges(&table(pages.into_iter(), window), PAGE).unwrap();
            assert!(ranges.windows(2).all(|two| two[0].end < two[1].start), "{ranges:?}");
            let shown: Vec<_> =
                ranges.iter().flat_map(|range| range.start / PAGE..range.end / PAGE).collect();
            assert_eq!(shown, all);
        }
    }

    /// Each page was looked up by its index, and what lies behind it: 46 ms for a million, where the
    /// documentation said that a first clone takes some microseconds whatever the length.
    #[test]
    fn the_ranges_of_many_pages_take_one_pass_over_them() {
        // So few that some of the passes are not interrupted, on a machine that has other work.
        let table = table(0..20_000, 20_000);
        let (mut pass, mut listed) = (Duration::MAX, Duration::MAX);
        for _ in 0..100 {
            let (begun, mut count) = (Instant::now(), 0_u64);
            table.for_each(|index, _| count += std::hint::black_box(index));
            pass = pass.min(begun.elapsed());
            let begun = Instant::now();
            assert_eq!(ranges(&table, PAGE).unwrap().len(), 1);
            listed = listed.min(begun.elapsed());
        }
        assert!(listed < 5 * pass, "{listed:?}, and {pass:?} for a pass");
    }
}
