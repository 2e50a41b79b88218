//! Keeping: memory that a caller gives becomes content, with no copy.
//!
//! Promises:
//!
//! - Whole pages are kept where nothing lies yet: what would be hidden is overwritten by a
//!   copy, as by any write.
//! - I2: what is kept is charged before, with all that its owner is known to keep from the allocator beside
//!   it. Where there is no room below the limit for that, nothing is kept: no page makes way for it.
//! - A page that is kept is dirty, and leaves memory like any other. One that is written to is
//!   copied to a frame first.
//!
//! Held by: `tests/tests/given_bytes/`, `tests/tests/spill_model.rs`,
//! `std-adapter/src/models/given.rs` (loom).

use crate::memory::given::{Given, GivenPage, Owner};
use crate::pager::state::Pager;
use crate::pages::page::{Location, Page};
use crate::pages::resident::Resident;
use crate::sync::Arc;

/// What is kept is at least what is charged for it, divided by this. For less, the memory that a copy
/// would free is worth more.
const CHARGED_FOR_EACH_MAX: u64 = 2;

/// A single page is kept from this length on. To keep one takes 0.9 µs with its drop; to copy one of 4 KiB
/// takes 0.3, and two of them as long as to keep them.
const SINGLE_PAGE_MIN: usize = 16 << 10;

/// The memory limit of a pool, divided by this, is the most that is kept in one piece: no part of
/// it comes free alone.
const LIMIT_DIVISOR: u64 = 4;

/// What was given, of which the first `len` bytes from where it was to be kept from are
/// content now. None may be.
pub(crate) struct Kept {
    pub(crate) given: Arc<Given>,
    pub(crate) len: usize,
}

impl Pager {
    /// Takes whole pages of what `owner` has from `from` on as the content at `offset`, which begins a
    /// page. That keeps `pinned` bytes of memory. Returns the owner if there is none to take, or it is
    /// cheaper to copy them.
    pub(crate) fn keep(
        &mut self,
        offset: u64,
        owner: Owner,
        from: usize,
        pinned: usize,
    ) -> Result<Kept, Owner> {
        let page = self.pool.page_size;
        let most = (owner.bytes().len() - from) / page;
        let fits_file =
            |len: u64| self.own().is_none_or(|own| own.fitting(offset, len).is_ok_and(|fits| fits == len));
        let fits_positions =
            offset.checked_add((most * page) as u64).is_some() && fits_file((most * page) as u64);
        if most == 0 || !fits_positions || self.check().is_err() || self.try_table().is_err() {
            return Err(owner);
        }
        self.end_loan();
        self.keep_limit();
        let first = self.span(offset, 0).index;
        if first == 0 {
            self.drop_empty_page();
        }
        let pages = self.holes(first, most);
        let (kept, charge) = ((pages * page) as u64, pinned.max(owner.bytes().len()) as u64);
        let limit = self.pool.frames.budget().limit();
        let is_large = self.pool.registry.is_some() && charge > limit / LIMIT_DIVISOR;
        let is_small = pages == 0 || (pages == 1 && page < SINGLE_PAGE_MIN);
        if is_large || is_small || charge / CHARGED_FOR_EACH_MAX > kept {
            self.end_operation();
            return Err(owner);
        }
        let given = self.charge_given(owner, charge);
        let kept = given.map(|given| {
            let len = self.put_given(&given, first, from, pages);
            Kept { given, len }
        });
        if let Ok(Kept { len: len @ 1.., .. }) = &kept {
            self.last_end = offset + *len as u64;
            self.len = self.len.max(self.last_end);
            self.requested.written += *len as u64;
            self.leave_queue();
        }
        self.end_operation();
        kept
    }

    /// How many pages from `first` on are holes, of the next `most`.
    fn holes(&mut self, first: u64, most: usize) -> usize {
        let is_hole = |index: &u64| {
            self.base_bytes(*index) == 0 && self.table(|table| table.locate(*index)) == Location::Hole
        };
        (first..).take(most).take_while(is_hole).count()
    }

    /// Charges memory to the pool and to this buffer, or returns its owner.
    fn charge_given(&mut self, owner: Owner, charge: u64) -> Result<Arc<Given>, Owner> {
        self.give_up_window_below();
        let memory = &self.usage().memory;
        let Ok(used) = memory.reserve(charge) else { return Err(owner) };
        // Not if others are held: as in `find_frame`.
        let is_noted = used > charge || self.pool.note_holder(self.own_table());
        let given = if is_noted { self.pool.frames.charge_given(owner, charge) } else { Err(owner) };
        if given.is_err() {
            memory.release(charge);
        }
        given
    }

    /// Makes `pages` pages of `given`, which begin at `from` there, the content of the holes from `first` on,
    /// while there is memory to note them. Returns their bytes.
    fn put_given(&mut self, given: &Arc<Given>, first: u64, from: usize, pages: usize) -> usize {
        let page = self.pool.page_size;
        let Ok(len) = u32::try_from(page) else { return 0 };
        let put = |(number, index): (usize, u64)| {
            self.table(|table| {
                table.reserve_for_load(index) && {
                    let kept = GivenPage::new(given, from + number * page, len);
                    table.put(index, Page::Resident(Resident::given(kept)));
                    true
                }
            })
        };
        let put = (0..pages).zip(first..).map(put).take_while(|put| *put).count();
        // It counts as the buffer's by its pages now.
        self.usage().memory.release(given.leave());
        put * page
    }
}
