//! A buffer's pages over a base: a hole before the base's end is what the base has there.
//!
//! Promises:
//!
//! - A page that is written to is brought from the base first, whole, unless the write covers all that
//!   the base has of it. A write that fails half-way leaves such a page to the base, and counts none
//!   of its bytes (I3).
//! - A page of the base that a pass of small reads comes to is copied to one frame, which is used over and
//!   over. Such a copy leaves memory without I/O, and no dirty page makes way for it.
//! - Without a frame every read works, and every write that the disk has room for.
//! - A bad block (I9) is an error for the reads of that block, and for the writes that bring its page.
//!
//! A copy has the whole page, as far as the base reaches: so it becomes an ordinary page by being written to.
//! What the base has of it is freed then; or if it was written to as the window, when it stops being that. So
//! a dirty page outside the window hides nothing in the base, unless a reclaiming thread had it meanwhile.
//!
//! Held by: the tests below, `tests/tests/clones.rs`, `tests/tests/spill_faults`,
//! `std-adapter/src/models/clones.rs` (loom).

use crate::disk::store_access;
use crate::error::SpillError;
use crate::memory::frame::Frame;
use crate::observe::counters::IoPath;
use crate::pager::base::{Base, Leaving};
use crate::pager::residency::Admitted;
use crate::pager::span::{Access, Origin, Pinned, Span};
use crate::pager::state::Pager;
use crate::pages::page::{Location, Page, Stay};
use crate::pages::resident::Resident;
use crate::pages::table::Table;
use crate::pool::registry::Effort;
use crate::sync::Arc;

/// Pages of the base that are evicted at most for one frame.
const PAGES_BELOW_MAX: usize = 4;

impl Pager {
    #[inline]
    pub(crate) fn base(&self) -> Option<&Base> {
        self.cold_ref()?.base.as_ref()
    }

    /// How many bytes the base has of page `index`, from its beginning on. They are content if the page is a
    /// hole.
    #[inline]
    pub(crate) fn base_bytes(&self, index: u64) -> usize {
        let Some(base) = self.base() else { return 0 };
        let page = self.pool.page_size;
        let left = base.len().saturating_sub(index << page.trailing_zeros());
        usize::try_from(left).map_or(page, |left| left.min(page))
    }

    /// As [`base_bytes`](Pager::base_bytes); 0 if the page is no hole.
    pub(crate) fn base_bytes_of_hole(&mut self, index: u64) -> usize {
        let bytes = self.base_bytes(index);
        if bytes > 0 && self.table(|table| table.locate(index)) == Location::Hole { bytes } else { 0 }
    }

    /// Where the byte at `span` of the pinned page is.
    pub(crate) fn origin(&self, page: Pinned, span: Span) -> Origin {
        match page {
            Pinned::Memory => Origin::Memory,
            Pinned::Slot { slot, end } if span.at < end => Origin::Slot { slot, end },
            Pinned::Hole if span.at < self.base_bytes(span.index) => Origin::Base,
            Pinned::Slot { .. } | Pinned::Hole => Origin::Zeros,
        }
    }

    /// Reads at least one byte of `buf`, which is not empty, from `offset` on, which lies before
    /// the end of the base.
    pub(crate) fn read_base(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        self.base().expect("the offset lies in it").read_at(offset, buf)
    }

    /// Where the first page begins, at or after `from`, that is no hole, or `from` if that lies in one. The
    /// base is asked no further than to what the buffer has itself: each call would look at the rest again.
    pub(crate) fn next_data(&mut self, from: u64) -> Result<Option<u64>, SpillError> {
        let page = self.pool.page_size as u64;
        let own = self.own_table.as_mut().and_then(|table| table.with(|table| table.next_page(from / page)));
        let own = own.map(|index| from.max(index * page));
        let in_base = match self.base() {
            Some(base) if own != Some(from) => base.next_data(from..own.unwrap_or(u64::MAX))?,
            _ => None,
        };
        Ok(in_base.or(own))
    }

    /// Copies the page of `span` from the base to the window, if small operations come to it one after
    /// another and there is a frame that costs nobody anything. Returns whether it did.
    pub(crate) fn copy_base_page(&mut self, span: Span, access: Access) -> Result<bool, SpillError> {
        if !access.continues() {
            return Ok(false);
        }
        let need = self.base_bytes(span.index);
        let former = self.table(Table::take_copy).and_then(|copy| copy.into_frame().into_own());
        let frame = match former {
            Some(frame) if frame.capacity() >= need && !self.pool.frames.is_over() => Some(frame),
            former => {
                if let Some(frame) = former {
                    self.recycle_frame(frame);
                }
                let effort = self.effort_for_more();
                // The search for a clean page takes longer than a read without a copy: one for each page.
                let may_search = span.at < access.want;
                self.find_frame(need, effort).or_else(|| {
                    if may_search { self.find_frame_from_base(need, Leaving::Clean) } else { None }
                })
            }
        };
        match frame {
            Some(frame) => self.fill_from_base(Resident::copy(frame, 0), span.index, Stay::Passing),
            None => Ok(false),
        }
    }

    /// Brings the page of `span` from the base to the window, to be written to, if it deserves a frame.
    /// Returns whether it did.
    pub(crate) fn bring_to_frame(&mut self, span: Span, access: Access) -> Result<bool, SpillError> {
        let need = self.base_bytes(span.index);
        let whole = Span { part: span.part.max(need.saturating_sub(span.at)), ..span };
        let Some(Admitted { frame, stay }) = self.admit(whole, 0, need.max(span.at + 1), access) else {
            return Ok(false);
        };
        self.fill_from_base(Resident::fresh(frame), span.index, stay)
    }

    /// Reads page `index` from the base to the frame of `page`, and makes that the window: a copy, or a fresh
    /// one that is to be written to. Returns false if it is too short, if there is no memory to note it, or
    /// if it would be a copy and has a bad block: the read, which may not need that, is to go past the
    /// frames.
    pub(crate) fn fill_from_base(
        &mut self,
        mut page: Resident,
        index: u64,
        stay: Stay,
    ) -> Result<bool, SpillError> {
        let (len, start) = (self.base_bytes(index), index * self.pool.page_size as u64);
        if page.frame.capacity() < len {
            self.give_back(page.into_frame());
            return Ok(false);
        }
        let read = self.base().map_or(Ok(()), |base| base.read_exact_at(start, page.frame.first_mut(len)));
        let dirty = page.dirty;
        match read {
            Ok(()) => {}
            Err(SpillError::Corrupted { .. }) if !dirty => {
                self.give_back(page.into_frame());
                return Ok(false);
            }
            Err(error) => {
                self.recycle_frame(page.into_frame());
                return Err(error);
            }
        }
        page.len = len;
        let is_open = self.open(index, page, stay);
        if is_open && dirty {
            self.forget_in_base(index);
        }
        Ok(is_open)
    }

    /// If page `index` is a copy of what the base has, makes it an ordinary page of this buffer, and frees
    /// what the base has of it. To be called before a write to it.
    pub(crate) fn own_copy(&mut self, index: u64) {
        if self.base().is_none() {
            return;
        }
        let was_copy = self.table(|table| {
            let Some(copy) = table.resident(index).filter(|page| page.is_copy()) else { return false };
            copy.dirty = true;
            true
        });
        if was_copy {
            self.forget_in_base(index);
        }
    }

    /// If the window was written to and has no slot, frees what the base has of its page, of which it may
    /// have been a copy. Not if the owner goes on in the window, as page `next`. To be called before the page
    /// stops being the window: a reclaiming thread cannot reach the base.
    #[inline]
    pub(crate) fn forget_under_window(&mut self, next: Option<u64>) {
        if self.base().is_none() {
            return;
        }
        let written = self.table(|table| {
            let index = table.window_index().filter(|index| Some(*index) != next)?;
            table.resident(index).filter(|page| page.dirty && page.slot.is_none()).map(|_| index)
        });
        written.into_iter().for_each(|index| self.forget_in_base(index));
    }

    /// Brings page `index`, of which the base has `len` bytes, from there to a slot in which it can grow. On
    /// an error the page is still in the base.
    pub(crate) fn bring_to_slot(&mut self, index: u64, len: usize) -> Result<(), SpillError> {
        if !self.table(|table| table.reserve_for_leave(index)) {
            return Err(SpillError::OutOfMemory);
        }
        let slot = self.allocate_to_grow(index, self.pool.page_size, len)?;
        let pool = Arc::clone(&self.pool);
        let copy = |room: &mut [u8]| self.copy_from_base(index, slot.offset, len, room);
        if let Err(error) = pool.with_scratch(len, copy) {
            self.table(|table| table.sums.forget(index));
            self.free_slot(slot);
            return Err(error);
        }
        self.table(|table| table.put(index, Page::Spilled { slot, end: len }));
        self.forget_in_base(index);
        Ok(())
    }

    fn copy_from_base(
        &mut self,
        index: u64,
        slot: u64,
        len: usize,
        room: &mut [u8],
    ) -> Result<(), SpillError> {
        let start = index * self.pool.page_size as u64;
        let step = room.len();
        for done in (0..len).step_by(step) {
            let (at, block) = (done as u64, &mut room[..step.min(len - done)]);
            self.base().map_or(Ok(()), |base| base.read_exact_at(start + at, block))?;
            let (written, result) = self.write_spilled(IoPath::Paged, start + at, slot + at, block);
            result?;
            debug_assert_eq!(written, block.len(), "a fresh slot has no sums that a part would need");
        }
        Ok(())
    }

    /// Frees what the base has of page `index`, which is no hole any more, if nobody else sees it.
    pub(crate) fn forget_in_base(&mut self, index: u64) {
        let page = self.pool.page_size as u64;
        if let Some(base) = self.cold_if_any().and_then(|cold| cold.base.as_mut()) {
            base.forget(index * page..(index * page).saturating_add(page)); // the last page ends at 2^64
        }
    }

    /// Sees no more than `len` bytes of the base from now on.
    pub(crate) fn cut_base(&mut self, len: u64) {
        let Some(cold) = self.cold_if_any() else { return };
        if len == 0 {
            (cold.base, cold.below) = (None, None);
        }
        if let Some(base) = &mut cold.base {
            base.cut(len);
        }
    }

    /// A frame of at least `bytes` at the cost of the base, in a pool for one buffer: nobody
    /// else takes memory there.
    pub(crate) fn find_frame_from_base(&mut self, bytes: usize, leaving: Leaving) -> Option<Frame> {
        // An eviction needs the store.
        if self.pool.registry.is_some() || store_access::is_resident_only() {
            return None;
        }
        // A page that leaves may have had a shorter frame.
        for _ in 0..PAGES_BELOW_MAX {
            if !self.base()?.make_room(bytes, leaving, &self.pool) {
                break;
            }
            if let Some(frame) = self.find_frame(bytes, Effort::Spare) {
                return Some(frame);
            }
        }
        None
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use crate::api::buffer::SpillBuffer;
    use crate::api::pool::SpillPool;
    use crate::disk::memory_store::MemoryStore;
    use crate::observe::stats::{IoCounts, PoolStats};
    use crate::pages::resident::Resident;
    use crate::sync::Arc;
    use std::io::{Read, Seek, SeekFrom, Write};

    const PAGE: usize = 4096;
    const PAGES: usize = 8;
    /// A page of the buffer's own, in memory.
    const OWN: u64 = 5 * PAGE as u64;

    /// Small reads that go on with each other make a page the window.
    fn read_on(buffer: &mut SpillBuffer, at: u64) {
        buffer.seek(SeekFrom::Start(at)).unwrap();
        (0..2).for_each(|_| buffer.read_exact(&mut [0; 10]).unwrap());
    }

    /// How a copy of page 0, which is the window, is written to, and how many pages are the buffer's own
    /// then.
    fn write(buffer: &mut SpillBuffer, way: usize) -> usize {
        buffer.rewind().unwrap();
        match way {
            0 => {
                buffer.write_all(&[9; 10]).unwrap();
                read_on(buffer, OWN);
                2
            }
            1 => {
                buffer.write_all(&[9; 10]).unwrap();
                buffer.pager.close_window();
                2
            }
            2 => {
                read_on(buffer, OWN);
                assert_eq!(buffer.pager.write_scattered(&mut 100, &[9; 10]).unwrap().unwrap(), 10);
                2
            }
            _ => {
                read_on(buffer, OWN);
                buffer.write_all_at(&[9; 10], PAGE as u64 - 5).unwrap();
                3
            }
        }
    }

    /// A copy that was written to left what it hides in the base, where nobody else saw it: until the buffer
    /// itself moved the page out.
    #[test]
    fn a_copy_that_is_written_to_frees_what_it_hides() {
        for way in 0..4 {
            let builder = SpillPool::builder().memory(64 * PAGE).page_size(PAGE);
            let pool = builder.store(MemoryStore::new()).build().unwrap();
            let mut buffer = pool.buffer();
            buffer.write_all(&[1; PAGES * PAGE]).unwrap();
            buffer.spill().unwrap();
            drop(buffer.try_clone().unwrap());
            buffer.write_all_at(&[2; 10], OWN).unwrap();
            read_on(&mut buffer, 0);
            assert!(
                buffer.pager.table(|table| table.resident(0).is_some_and(|page| Resident::is_copy(page)))
            );
            let own = write(&mut buffer, way);
            let shared = pool.stats().disk_used - buffer.stats().disk_used;
            assert_eq!(shared, ((PAGES - own) * PAGE) as u64, "way {way}");
            buffer.check_invariants();
        }
    }

    /// Reads what `reader` has from its beginning on, by pieces of so many bytes.
    fn read_by(reader: &mut (impl Read + Seek), piece: usize, len: usize) -> Vec<u8> {
        let mut read = vec![0; len];
        reader.rewind().unwrap();
        read.chunks_mut(piece).for_each(|piece| reader.read_exact(piece).unwrap());
        read
    }

    /// A page made way for the copy that small reads need, and the next for a reader's window: to read what
    /// was all in memory wrote it to the disk.
    #[test]
    fn what_fills_the_memory_of_a_buffer_is_read_where_it_is() {
        const LEN: usize = 1 << 20;
        let model: Vec<u8> = (0..LEN).map(|at| u8::try_from(at / 100 % 251).unwrap()).collect();
        for piece in [10, 1000, 5000, 100_000] {
            let mut first = SpillBuffer::with_budget(LEN);
            first.write_all(&model).unwrap();
            let pool = Arc::clone(&first.pager.pool);
            let assert_in_memory = |what| {
                let mut stats = PoolStats::default();
                pool.counters.fill_in(&mut stats);
                let found = (pool.disk.quota().used(), stats.io, stats.spills.total());
                assert_eq!(found, (0, IoCounts::default(), 0), "{what}, by {piece} bytes");
            };
            let mut second = first.try_clone().unwrap();
            assert!(read_by(&mut first, piece, LEN) == model && read_by(&mut second, piece, LEN) == model);
            assert_in_memory("clones");
            drop(second);
            let frozen = first.freeze();
            assert!(read_by(&mut frozen.reader(), piece, LEN) == model);
            assert_in_memory("frozen");
        }
    }
}
