//! Pages that are moved for a sequential pass, which goes on meanwhile: into memory before a reader comes to
//! them, and out of it once a writer has filled them.
//!
//! A job that has the buffer lets its loop do nothing until it has ended. So one thread copied
//! while the other waited, and a pass took as long as both: 64 KiB that were read took 17 µs, of
//! which the loop's copy was 5.
//!
//! Promises:
//!
//! - What is begun and taken in here reaches no store: the job does.
//! - Pages that come are spilled until they are taken in, and their slots have the same bytes all the while:
//!   the caller changes nothing that is spilled before that. Pages that go are in transit.
//! - It is only for speed. What is refused or fails is left to the operation that needs it.
//! - Frames that no pass has taken in yet have a quarter of the limit at most: nothing takes them back from a
//!   handle that stands still.
//! - No page goes while there is memory to spare.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::disk::backing::Backing;
use crate::disk::own_file::OwnFile;
use crate::disk::store_access::without_store;
use crate::disk::transfer;
use crate::foreign::drop_quietly;
use crate::memory::page_frame::PageFrame;
use crate::observe::counters::IoPath;
use crate::observe::events::Event;
use crate::observe::stats::{IoCounts, SpillReason};
use crate::pager::load::Load;
use crate::pager::state::Pager;
use crate::pages::page::Location;
use crate::pool::departure::Departure;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use std::ops::Range;

/// The memory limit divided by this may be in frames that come: what one buffer that has all of the memory
/// lets come.
const COMING_DIVISOR: u64 = 4;

/// As many pages come at a time, or none.
const PAGES_MIN: usize = 2;

/// Pages before a pass, which come into memory.
pub(crate) struct Coming {
    pool: Arc<PoolState>,
    own: Option<Arc<OwnFile>>,
    /// And whether each is read.
    pages: Vec<(Load, bool)>,
    /// Bytes that the pool has counted for their frames.
    counted: u64,
    counts: IoCounts,
    /// To be told once the pages are where they belong.
    failure: Option<Event>,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.pool.coming.subtract(self.counted);
    }
}

impl Coming {
    /// The index behind the last page.
    pub(crate) fn end(&self) -> u64 {
        self.pages.last().map_or(0, |(load, _)| load.index + 1)
    }

    /// For [`Offload::submit`](crate::pool::offload::Offload::submit).
    pub(crate) fn run(&mut self) {
        let backing = Backing { disk: &self.pool.disk, own: self.own.as_deref() };
        for (load, is_read) in &mut self.pages {
            let room = load.frame.first_mut(load.end);
            let read = transfer::read(&backing, load.slot.offset, room, &mut self.counts);
            self.failure = self.pool.listeners.event_of_errors(&self.counts, read.as_ref().err());
            *is_read = read.map_err(drop_quietly).is_ok();
            if !*is_read {
                return;
            }
        }
    }
}

impl Pager {
    /// The spilled pages from `from` on that a pass, which is at page `index` now, comes to soon, with frames
    /// for them: those of clean pages that it has left, and while memory is not short spare ones. `None` if
    /// there are too few, or checksums are to be compared.
    pub(crate) fn let_come(&mut self, index: u64, from: u64) -> Option<Coming> {
        if self.own_table.is_none() || self.has_sums() || self.check().is_err() {
            return None;
        }
        let most = self.pages_ahead() / 2;
        if most < PAGES_MIN {
            return None;
        }
        self.end_loan();
        let mut soon = from.max(index.saturating_add(1))..index.saturating_add(1 + 2 * most as u64);
        let first = soon.find(|&next| self.table(|table| table.locate(next)) != Location::Memory)?;
        if !matches!(self.table(|table| table.locate(first)), Location::Spilled { .. }) {
            return None;
        }
        without_store(|| self.let_come_from(index, first, most))
    }

    /// The same, from `first` on, up to `most` pages, after a read of page `index`.
    fn let_come_from(&mut self, index: u64, first: u64, most: usize) -> Option<Coming> {
        let left = index.saturating_sub(2 * most as u64)..index;
        let mut clean: Vec<u64> = Vec::new();
        clean.try_reserve_exact(2 * most).ok()?;
        clean.extend(left.filter(|index| self.table(|table| table.is_clean_behind(*index))));
        if self.pool.frames.spare_bytes() >= (most * self.pool.page_size) as u64 {
            clean.clear();
        } else if clean.len() < most {
            return None;
        }
        let coming = self.find_coming(first..first.saturating_add(most as u64), most, clean);
        self.end_operation();
        if let Some(coming) = &coming {
            self.note_ready(coming.end(), true);
        }
        coming
    }

    /// Those of `pages` that are spilled, up to the first that is not, with frames: those of `clean` pages,
    /// the last of them first, which is still in the processor's cache; and then spare ones.
    fn find_coming(&mut self, pages: Range<u64>, most: usize, mut clean: Vec<u64>) -> Option<Coming> {
        let pool = Arc::clone(&self.pool);
        let counted = (most * pool.page_size) as u64;
        if !pool.coming.add(counted, pool.frames.budget().limit() / COMING_DIVISOR) {
            return None;
        }
        let (own, counts) = (self.own().cloned(), IoCounts::default());
        let mut coming = Coming { pool, own, pages: Vec::new(), counted, counts, failure: None };
        for index in pages {
            let Location::Spilled { slot, end } = self.table(|table| table.locate(index)) else { break };
            if coming.pages.try_reserve(1).is_err() || !self.table(|table| table.reserve_for_load(index)) {
                break;
            }
            let frame = match clean.pop() {
                Some(clean) => {
                    self.evict(clean, SpillReason::Evicted).ok().flatten().and_then(PageFrame::into_own)
                }
                None => self.find_frame(self.pool.page_size, self.effort_for_more()),
            };
            let Some(frame) = frame else { break };
            coming.pages.push((Load { index, slot, end, frame }, false));
        }
        Some(coming).filter(|coming| !coming.pages.is_empty())
    }

    /// Pages that a pass of writing, which is at `position` in page `index` now, has filled: they are in
    /// transit then. `None` if there are too few, if memory is not short, or if the page before them has not
    /// left it: then a job has still found memory of others.
    pub(crate) fn let_go(&mut self, index: u64, position: u64) -> Option<Departure> {
        let is_pass = self.goes_on_at(position);
        if self.own_table.is_none() || self.base().is_some() || !is_pass || self.check().is_err() {
            return None;
        }
        let most = self.pages_ahead() / 2;
        if most < PAGES_MIN || self.pool.frames.spare_bytes() >= (most * self.pool.page_size) as u64 {
            return None;
        }
        self.end_loan();
        self.last_end = position; // the window ended there, which is closed now
        if self.table(|table| table.window_index()).is_some_and(|window| window < index) {
            self.close_window();
        }
        let pages = self.table(|table| {
            let first = (index.saturating_sub(2 * most as u64)..index).find(|at| table.is_new_behind(*at))?;
            let pages = first..first + most as u64;
            let follows_spilled = first > 0 && table.locate(first - 1) != Location::Memory;
            let is_filled = pages.end <= index && pages.clone().all(|at| table.is_new_behind(at));
            (follows_spilled && is_filled).then_some(pages)
        })?;
        let (pool, own) = (Arc::clone(&self.pool), self.own().cloned());
        let departure = self.own_table.as_mut().and_then(|table| Departure::begin(&pool, table, own, pages));
        self.end_operation();
        departure
    }

    /// Whether the page of `position` is in transit.
    pub(crate) fn is_in_transit(&mut self, position: u64) -> bool {
        let index = self.span(position, 0).index;
        let may_look = self.own_table.is_some() && self.check().is_ok();
        may_look && self.table(|table| table.transit(index).is_some())
    }

    /// Takes back pages that have left, or could not: as spilled, or in memory.
    pub(crate) fn settle_departed(&mut self, departed: Departure) {
        if self.check().is_err() {
            return; // in a forked process, which has not got the table
        }
        if let Some(table) = &mut self.own_table {
            let counts = departed.settle(table);
            self.note_io(counts);
        }
        self.end_operation();
    }

    /// Takes pages in that have come, and gives the frames of the others back. They are loaded again by what
    /// needs them, which then gets the error.
    pub(crate) fn take_in(&mut self, mut coming: Coming) {
        if self.check().is_err() {
            return std::mem::forget(coming); // in a forked process: its frames are lost
        }
        if coming.counts != IoCounts::default() {
            self.count_io(IoPath::Paged, coming.counts);
        }
        let pages = std::mem::take(&mut coming.pages);
        pages.into_iter().for_each(|(load, is_read)| self.end_load(load, is_read));
        self.end_operation();
        coming.failure.take().into_iter().for_each(|event| self.pool.listeners.notify(event));
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use crate::api::pool::SpillPool;
    use crate::disk::memory_store::MemoryStore;
    use crate::disk::store::Store;
    use crate::observe::events::Event;
    use std::io::{self, Read, Seek, Write};
    use std::sync::{Arc, Mutex};

    const PAGE: usize = 4096;

    /// A store of which nothing but the first page can be read.
    #[derive(Debug)]
    struct Broken(MemoryStore);

    impl Store for Broken {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            if offset < PAGE as u64 { self.0.read_at(offset, buf) } else { Err(io::Error::other("broken")) }
        }

        fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
            self.0.write_at(offset, data)
        }
    }

    /// A read ahead that failed was counted, and nobody was told.
    #[test]
    fn a_page_that_cannot_come_is_told_once_it_is_spilled_again() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let builder = SpillPool::builder().memory(64 * PAGE).page_size(PAGE);
        let builder = builder.store(Broken(MemoryStore::new())).on_event(move |event| {
            if let Event::StoreFailed { message, .. } = event {
                sink.lock().unwrap().push(message.clone());
            }
        });
        let pool = builder.build().unwrap();
        let mut buffer = pool.buffer();
        buffer.write_all(&[7; 40 * PAGE]).unwrap();
        buffer.spill().unwrap();
        buffer.rewind().unwrap();
        buffer.read_exact(&mut [0; PAGE]).unwrap();
        let mut coming = buffer.pager.let_come(0, 1).unwrap();
        coming.run();
        assert_eq!((told.lock().unwrap().len(), pool.stats().io.errors), (0, 0));
        buffer.pager.take_in(coming);
        assert_eq!((told.lock().unwrap().len(), pool.stats().io.errors), (1, 1));
        buffer.check_invariants();
        pool.check_invariants();
    }

    /// What had come for handles that stood still was in no page and on no list: nothing took it back, and a
    /// few such handles had all memory of a pool.
    #[test]
    fn what_comes_and_is_not_taken_in_has_a_quarter_of_the_limit_at_most() {
        let pool = SpillPool::builder().memory(64 * PAGE).page_size(PAGE).build().unwrap();
        let mut buffers: Vec<_> = (0..4).map(|_| pool.buffer()).collect();
        for buffer in &mut buffers {
            buffer.write_all(&[7; 40 * PAGE]).unwrap();
            buffer.spill().unwrap();
            buffer.rewind().unwrap();
            buffer.read_exact(&mut [0; PAGE]).unwrap();
        }
        let mut come = Vec::new();
        for (number, buffer) in buffers.iter_mut().enumerate() {
            for coming in std::iter::repeat_with(|| buffer.pager.let_come(0, 1)).take(2).flatten() {
                come.push((number, coming));
            }
        }
        let pages: usize = come.iter().map(|(_, coming)| coming.pages.len()).sum();
        assert_eq!((pages, pool.state.coming.get()), (16, 16 * PAGE as u64));
        for (number, mut coming) in come {
            coming.run();
            buffers[number].pager.take_in(coming);
        }
        assert_eq!(pool.state.coming.get(), 0);
        let mut content = Vec::new();
        buffers[0].rewind().unwrap();
        buffers[0].read_to_end(&mut content).unwrap();
        assert!(content == [7; 40 * PAGE]);
        pool.check_invariants();
    }
}
