//! Which pages of shared content are lent, and which are copied.
//!
//! Its promises are those of [`lent_page`](crate::pager::lent_page).
//!
//! Held by: `tests/tests/lent_bytes.rs`.

use crate::disk::store_access;
use crate::error::{SpillError, StoreOperation};
use crate::foreign::hold_back;
use crate::pager::content::{Content, State};
use crate::pager::lent_page::{LentPage, LentPart, begin_loan};
use crate::pager::load::Load;
use crate::pager::span::Pinned;
use crate::pages::page::low_bits;
use crate::sync::{Arc, Ordering};

/// A loan of fewer bytes than its frame has, divided by this, is a copy.
const HELD_FOR_EACH_MAX: usize = 4;

/// Where a page is that ought to be in memory.
enum Residence {
    Memory,
    /// It is to be read into the frame.
    Load(Load),
    /// Another thread reads it.
    Loading {
        index: u64,
    },
    /// There is no frame for it, or nothing to put there.
    Elsewhere,
}

impl Content {
    /// Lends the `len` bytes at `offset`, of which there are some, and which end before the end of the
    /// content. `None` if they are to be copied.
    pub(crate) fn lend_part(&self, offset: u64, len: usize) -> Result<Option<LentPart>, SpillError> {
        let at = low_bits(offset, self.pool.page_size.trailing_zeros());
        if len > self.pool.page_size - at {
            return Ok(None);
        }
        let page = self.lend(offset, len)?;
        Ok(page.map(|page| LentPart::new(page, at, len)))
    }

    /// Lends the page of `offset` for `len` bytes there, which lie in it and end before the end of the
    /// content. `None` if they are to be copied.
    fn lend(&self, offset: u64, len: usize) -> Result<Option<Arc<LentPage>>, SpillError> {
        let goes_on = self.lent_to.swap(offset + len as u64, Ordering::Relaxed) == offset;
        let lend = |state: &mut State| state.lend_to_one_of(self.readers(), offset, len);
        let lent = self.locked_unless_busy(offset, lend)??;
        if lent.is_some() || !self.is_worth_a_load(offset, len, goes_on) || !self.load_page(offset)? {
            return Ok(lent);
        }
        self.locked_unless_busy(offset, lend)?
    }

    /// Whether the page of `offset` is to be brought to memory for `len` bytes, that `goes_on` where the last
    /// ones ended: if it can be lent then, or if it will probably stay until all of it is copied, since there
    /// are two pages for each reader. Otherwise copies come straight from the slot.
    fn is_worth_a_load(&self, offset: u64, len: usize, goes_on: bool) -> bool {
        let (pool, page) = (&self.pool, self.pool.page_size);
        let left = self.len().saturating_sub(offset / page as u64 * page as u64);
        let held = pool.frames.class(usize::try_from(left).unwrap_or(page).min(page));
        let has_room = || pool.lent.get() + held as u64 <= pool.lent_max();
        let will_stay = || 2 * self.readers().max(1) as u64 * page as u64 <= pool.active_share();
        let is_enough = held / HELD_FOR_EACH_MAX <= len;
        (is_enough && has_room()) || ((is_enough || goes_on) && will_stay())
    }

    /// Brings the page of `offset` to memory if it is spilled and there is a frame for it. Returns
    /// whether it is there.
    pub(crate) fn load_page(&self, offset: u64) -> Result<bool, SpillError> {
        loop {
            // A listener would wait for a load that this thread has not begun.
            let held_back = hold_back();
            let residence = self.locked_unless_busy(offset, |state| state.residence(offset))??;
            let _until_loaded = matches!(residence, Residence::Load(_)).then_some(held_back);
            match residence {
                Residence::Load(load) => self.load(load)?,
                Residence::Loading { index } => {
                    store_access::check(StoreOperation::Read, offset, 0)?;
                    self.await_load(index)?;
                }
                Residence::Memory => return Ok(true),
                Residence::Elsewhere => return Ok(false),
            }
        }
    }
}

impl State {
    /// As [`lend`](State::lend), to one of so many `readers`.
    fn lend_to_one_of(
        &mut self,
        readers: usize,
        offset: u64,
        len: usize,
    ) -> Result<Option<Arc<LentPage>>, SpillError> {
        let lent = self.lend(offset, len)?;
        let span = self.pager.span(offset, len);
        if readers > 1 && lent.is_some() && span.end() == self.pager.pool.page_size {
            self.finished_pages.note_end(span.index, readers);
        }
        Ok(lent)
    }

    fn lend(&mut self, offset: u64, len: usize) -> Result<Option<Arc<LentPage>>, SpillError> {
        self.check_kept(offset)?;
        let span = self.pager.span(offset, len);
        if let Some(page) = self.lent.find(span.index) {
            return Ok(Some(page).filter(|page| page.bytes_from(span.at).len() >= len));
        }
        let is_in_memory = self.pager.pin_unless_in_transit(span.index, offset)? == Pinned::Memory;
        let page = if is_in_memory && self.complete_from(offset) >= len {
            self.pager.table(|table| table.share(span.index))
        } else {
            None
        };
        let pool = &self.pager.pool;
        let page = page.filter(|page| {
            let held = page.frame.capacity();
            // No other buffer could have had it.
            let keeps_nothing = page.frame.is_given() && pool.registry.is_none();
            page.content_from(span.at).len() >= len
                && held / HELD_FOR_EACH_MAX <= len
                && begin_loan(page, &pool.lent, if keeps_nothing { u64::MAX } else { pool.lent_max() })
        });
        let lent = page.and_then(|page| self.lent.add(span.index, page, Arc::clone(&pool.lent)));
        self.pager.end_operation(); // only now: it tells of a page that is not lent after all
        Ok(lent)
    }

    /// Where the page of `offset` is, with a frame if it is to be brought to memory.
    fn residence(&mut self, offset: u64) -> Result<Residence, SpillError> {
        let index = self.pager.span(offset, 1).index;
        let is_complete = self.complete_from(offset) > 0;
        let step = match self.pager.pin_unless_in_transit(index, offset)? {
            Pinned::Memory => Residence::Memory,
            // Before a frame is taken for a load.
            Pinned::Slot { .. } if store_access::is_resident_only() => {
                self.pager.end_operation();
                return Err(store_access::refuse(StoreOperation::Read, offset, 0));
            }
            Pinned::Slot { .. } if self.loading.contains(&index) => Residence::Loading { index },
            Pinned::Slot { slot, end }
                if is_complete
                    && !self.pager.has_sums()
                    && self.loading.try_reserve(1).is_ok()
                    && self.pager.table(|table| table.reserve_for_load(index)) =>
            {
                match self.pager.frame_to_share(end, &mut self.finished_pages) {
                    Some(frame) => {
                        self.loading.push(index);
                        Residence::Load(Load { index, slot, end, frame })
                    }
                    None => Residence::Elsewhere,
                }
            }
            Pinned::Slot { .. } | Pinned::Hole => Residence::Elsewhere,
        };
        self.pager.end_operation();
        Ok(step)
    }
}
