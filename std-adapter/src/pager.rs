//! One buffer's pages as a [`Medium`]: moves bytes between the caller, the frames and the disk.
//!
//! Promises:
//!
//! - I3: what a call took is in its place before the call returns; a page leaves memory only after
//!   its bytes have arrived in a slot.
//! - I4: what is read never depends on where it was.
//! - I5: the table is never locked while the store works.
//! - A read never needs room on the disk: if a page cannot leave memory, the read goes past it.
//! - What an operation works on is pinned, so that nobody takes it back half-way; nothing stays
//!   pinned when the call returns.
//!
//! Which page gets a frame is decided in [`residency`](crate::residency).

use crate::account::Account;
use crate::copy::copy;
use crate::error::SpillError;
use crate::idle::Kept;
use crate::lending::Loan;
use crate::own_file::OwnFile;
use crate::pool::Core;
use crate::stats::{BufferStats, IoCounts, SpillReason};
use crate::sync::Arc;
use crate::table::{Page, Resident, Table, View, Where, low_bits};
use crate::taking::OwnTable;
use crate::tally::Way;
use crate::waiting::Patience;
use overspill_core::{Medium, ReadMedium};
use std::path::Path;

/// What a hole is lent from, and gaps are written from.
pub(crate) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[derive(Debug)]
pub(crate) struct Pager {
    /// There until the drop.
    kept: Option<Kept>,
    pub(crate) core: Arc<Core>,
    len: u64,
    /// Where the last access that missed the window ended.
    last_end: u64,
    /// Made when it is needed, since of many small buffers each byte counts.
    rare: Option<Box<Rare>>,
}

/// What a buffer needs that has lent a chunk, or that has spilled.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    pub(crate) loan: Option<Box<Loan>>,
    pub(crate) io: IoCounts,
    pub(crate) patience: Option<Box<Patience>>,
}

/// A range within one page.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) index: u64,
    /// Where in the page it starts, and how long it is, in bytes.
    pub(crate) at: usize,
    pub(crate) part: usize,
}

impl Span {
    pub(crate) fn end(self) -> usize {
        self.at + self.part
    }
}

/// How an access came to a page that is not in memory.
#[derive(Clone, Copy)]
pub(crate) struct Approach {
    /// It goes on where the last one ended.
    pub(crate) sequential: bool,
    /// It wants only a little of the page.
    pub(crate) small: bool,
    pub(crate) heat: u8,
}

impl Approach {
    /// More of the same is to be expected in this page: it deserves the window. A single visit does
    /// not, since moving the window costs more than the visit.
    fn goes_on(self) -> bool {
        self.sequential && self.small
    }
}

impl Pager {
    #[inline]
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Pager { kept: Some(core.open_table()), core, len: 0, last_end: 0, rare: None }
    }

    pub(crate) fn stats(&self) -> BufferStats {
        let account = self.account();
        BufferStats {
            bytes_resident: account.memory.taken(),
            bytes_spilled: account.disk.taken(),
            spills: account.spills(),
            io: self.rare.as_ref().map_or_else(IoCounts::default, |rare| rare.io),
        }
    }

    /// Sets limits below the pool's. Only for an empty buffer.
    pub(crate) fn limit(&mut self, memory: u64, disk: u64) {
        debug_assert_eq!(self.len, 0);
        self.account().memory.set_limit(memory);
        self.account().disk.set_limit(disk);
        // It may have started with a frame of the buffer before.
        if self.account().memory.taken() > memory {
            self.truncate(0);
        }
    }

    pub(crate) fn own_table(&self) -> &OwnTable {
        &self.kept.as_ref().expect("the table is there until the drop").table
    }

    pub(crate) fn account(&self) -> &Account {
        self.own_table().beside()
    }

    /// Reads all of `buf` if it lies in the window, and moves `position` past it; else nothing.
    ///
    /// This and [`Pager::write_window`] copy last, so that no register has to be kept across the call of
    /// `memcpy`: a third of the cost of a small operation.
    #[inline(always)]
    pub(crate) fn read_window(&mut self, position: &mut u64, buf: &mut [u8]) -> bool {
        let Some(Kept { table, .. }) = &mut self.kept else { return false };
        let read = table.try_with(|table| {
            let content = table.content(*position, buf.len())?;
            *position += buf.len() as u64;
            copy(buf, content);
            Some(())
        });
        read.flatten().is_some()
    }

    /// Writes all of `data` if it lies in the window, and moves `position` past it; else nothing.
    #[inline(always)]
    pub(crate) fn write_window(&mut self, position: &mut u64, data: &[u8]) -> bool {
        let Some(Kept { table, .. }) = &mut self.kept else { return false };
        let (offset, len) = (*position, &mut self.len);
        // The last page there can be ends one byte past what can be counted.
        let Some(end) = offset.checked_add(data.len() as u64) else { return false };
        let mut moves = || {
            *position = end;
            *len = (*len).max(end);
        };
        let written = table.try_with(|table| {
            if let Some(room) = table.room(offset, data.len()) {
                moves();
                copy(room, data);
                return true;
            }
            table.append(offset, data, moves)
        });
        written == Some(true)
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(crate) fn rare_ref(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    pub(crate) fn rare_if_any(&mut self) -> Option<&mut Rare> {
        self.rare.as_deref_mut()
    }

    #[inline]
    pub(crate) fn table<R>(&mut self, f: impl FnOnce(&mut Table) -> R) -> R {
        self.kept.as_mut().expect("the table is there until the drop").table.with(f)
    }

    /// The part of `len` bytes at `offset` that lies in one page.
    pub(crate) fn span(&self, offset: u64, len: usize) -> Span {
        let page = self.core.page_size;
        let at = low_bits(offset, page.trailing_zeros());
        Span { index: offset >> page.trailing_zeros(), at, part: len.min(page - at) }
    }

    /// Pins page `index`, and says where it is once it is not on its way any more.
    pub(crate) fn hold(&mut self, index: u64) -> Where {
        match self.table(|table| table.pin(index)) {
            Where::Leaving => self.settle(index),
            place => place,
        }
    }

    /// Waits until a page that is leaving has left or is back, and says where it is then. Nothing is
    /// held meanwhile.
    fn settle(&mut self, index: u64) -> Where {
        if let Some(departure) = self.table(|table| table.departure(index)) {
            departure.await_end();
            self.table(|table| table.readmit(index));
        }
        self.table(|table| table.locate(index))
    }

    fn settle_all(&mut self) {
        while let Some(index) = self.table(|table| table.next_leaving(0)) {
            self.settle(index);
        }
    }

    /// Pins the page, counts the access, and says how it came.
    pub(crate) fn approach(&mut self, offset: u64, span: Span) -> (Where, Approach) {
        let continues = offset == self.last_end;
        self.last_end = offset.saturating_add(span.part as u64);
        let (place, heat, next) = self.table(|table| {
            let next = span.at == 0 && table.window_index().is_some_and(|index| index + 1 == span.index);
            (table.pin(span.index), table.touch(span.index), next)
        });
        let place = if place == Where::Leaving { self.settle(span.index) } else { place };
        let small = span.part < self.core.page_size / 2;
        (place, Approach { sequential: continues || next, small, heat })
    }

    // ---- reading

    #[cold]
    fn read_slow(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        self.end_loan();
        self.shed();
        let done = self.read_pages(offset, buf);
        self.finish();
        done
    }

    fn read_pages(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let want = buf.len().min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < want {
            match self.read_some(offset + done as u64, &mut buf[done..want]) {
                Ok(n) => done += n,
                Err(error) if done == 0 => return Err(error),
                // What was read so far is the answer; the next call meets the error again.
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Reads at least one byte of `buf`, which is not empty and ends before the end of the content.
    fn read_some(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let span = self.span(offset, buf.len());
        let (place, approach) = self.approach(offset, span);
        match place {
            Where::Spilled { valid, .. } if span.at < valid => {
                if !self.load(span, approach)? {
                    return self.read_direct(offset, buf);
                }
            }
            Where::Spilled { .. } | Where::Hole => {
                buf[..span.part].fill(0);
                return Ok(span.part);
            }
            Where::Memory | Where::Leaving => {}
        }
        let out = &mut buf[..span.part];
        self.table(|table| {
            let resident = table.visit(span.index, approach.goes_on());
            resident.expect("I1: a pinned page stays").read(span.at, out);
        });
        Ok(span.part)
    }

    /// Brings a spilled page into the window if it deserves a frame; says whether it did.
    pub(crate) fn load(&mut self, span: Span, approach: Approach) -> Result<bool, SpillError> {
        let Where::Spilled { slot, valid } = self.table(|table| table.locate(span.index)) else {
            return Ok(false);
        };
        let Some((mut frame, passing)) = self.admit(span, valid, approach) else { return Ok(false) };
        let offset = span.index * self.core.page_size as u64;
        match self.read_spilled(Way::Paged, offset, slot.offset, frame.first_mut(valid)) {
            Ok(n) if n == valid => {}
            // Some of it cannot be had. Whoever does not want that need not know.
            Ok(_) | Err(SpillError::Corrupted { .. }) => {
                self.give_frame(frame);
                return Ok(false);
            }
            Err(error) => {
                self.give_frame(frame);
                return Err(error);
            }
        }
        self.table(|table| {
            table.take(span.index);
            let resident = Resident { frame, valid, dirty: false, slot: Some(slot) };
            table.open(span.index, resident, passing);
        });
        Ok(true)
    }

    /// Reads from one page, at least one byte of `buf`, and leaves everything where it is. `buf` is
    /// not empty and ends before the end of the content.
    pub(crate) fn peek(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let span = self.span(offset, buf.len());
        let out = &mut buf[..span.part];
        let done = match self.hold(span.index) {
            Where::Spilled { valid, .. } if span.at < valid => self.read_direct(offset, out),
            Where::Spilled { .. } | Where::Hole => {
                out.fill(0);
                Ok(span.part)
            }
            Where::Memory | Where::Leaving => {
                self.table(|table| {
                    table.resident(span.index).expect("I1: a pinned page stays").read(span.at, out);
                });
                Ok(span.part)
            }
        };
        self.finish();
        done
    }

    /// The end of an operation: nothing is pinned any more.
    pub(crate) fn finish(&mut self) {
        self.table(Table::unpin);
    }

    // ---- writing

    #[cold]
    fn write_slow(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        self.with_patience(|pager| {
            pager.end_loan();
            pager.shed();
            let taken = pager.write_pages(offset, data);
            pager.finish();
            taken
        })
    }

    fn write_pages(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        let mut taken = 0;
        while taken < data.len() {
            match self.write_some(offset + taken as u64, &data[taken..]) {
                Ok(n) => taken += n,
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
            self.len = self.len.max(offset + taken as u64);
        }
        Ok(taken)
    }

    /// Writes at least one byte of `data`, which is not empty.
    fn write_some(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        let span = self.span(offset, data.len());
        let (place, approach) = self.approach(offset, span);
        let in_memory = match place {
            Where::Memory | Where::Leaving => self.make_fit(span)?,
            Where::Spilled { valid, .. } if span.at == 0 && span.part >= valid => {
                self.open_over(span, approach)
            }
            Where::Spilled { .. } => self.load(span, approach)? && self.make_fit(span)?,
            Where::Hole => self.open_over(span, approach),
        };
        if !in_memory {
            return self.write_direct(offset, data);
        }
        let data = &data[..span.part];
        self.table(|table| {
            let resident = table.visit(span.index, approach.goes_on());
            resident.expect("I1: a pinned page stays").write(span.at, data);
        });
        Ok(span.part)
    }

    /// Opens a window on a page whose old bytes are not needed, if it deserves a frame.
    fn open_over(&mut self, span: Span, approach: Approach) -> bool {
        let Some((frame, passing)) = self.admit(span, 0, approach) else { return false };
        self.table(|table| {
            let slot = match table.take(span.index) {
                Page::Spilled { slot, .. } => Some(slot),
                Page::Hole | Page::Resident(_) | Page::Leaving(_) => None,
            };
            table.open(span.index, Resident { frame, valid: 0, dirty: true, slot }, passing);
        });
        true
    }

    // ---- the whole

    /// Moves every page that is in memory to its slot.
    pub(crate) fn spill(&mut self) -> Result<(), SpillError> {
        self.end_loan();
        let before = self.account().memory.taken();
        let spilled = self.move_all_out();
        if self.account().memory.taken() < before {
            self.core.disk.quota().stir();
        }
        spilled
    }

    fn move_all_out(&mut self) -> Result<(), SpillError> {
        loop {
            self.settle_all();
            let Some(mut from) = self.table(|table| table.next_in_memory(0)) else { return Ok(()) };
            while let Some(index) = self.table(|table| table.next_in_memory(from)) {
                if let Some(frame) = self.evict(index, SpillReason::Requested)? {
                    self.give_frame(frame);
                }
                from = index + 1;
            }
        }
    }

    fn truncate(&mut self, len: u64) {
        self.end_loan();
        let before = self.held();
        // The page that is cut in two stays, and must not be on its way.
        self.hold(len >> self.core.page_size.trailing_zeros());
        let window = self.table(|table| table.cut_window(len));
        self.dispose(window);
        while let Some(pages) = self.table(|table| table.truncate(len)) {
            pages.into_iter().for_each(|page| self.dispose(page));
        }
        self.finish();
        self.len = len;
        // A gap that could not be written is cut off again: nothing has come free, and who waits, this
        // buffer perhaps, need not look.
        if self.held() < before {
            self.leave_queue();
            self.core.disk.quota().stir();
        }
    }

    /// Bytes of frames and slots.
    fn held(&self) -> u64 {
        self.account().memory.taken() + self.account().disk.taken()
    }

    fn dispose(&mut self, page: Page) {
        match page {
            Page::Hole => {}
            Page::Spilled { slot, .. } => self.free_slot(slot),
            Page::Resident(resident) => {
                if let Some(slot) = resident.slot {
                    self.free_slot(slot);
                }
                self.give_frame(resident.frame);
            }
            Page::Leaving(departure) => {
                // In a file of its own the page has one place, which may be written again at once.
                let has_own = self.account().own().is_some();
                if has_own {
                    departure.await_end();
                }
                if let Some(page) = departure.abandon(self.account()) {
                    self.dispose(page);
                }
            }
        }
    }

    // ---- a file of its own

    /// Spills to a file in `dir` that can become the final one. Only for an empty buffer.
    pub(crate) fn spill_beside(&mut self, dir: &Path) {
        debug_assert_eq!(self.len, 0);
        let quota = Arc::clone(self.core.disk.quota());
        self.account().set_own(OwnFile::new(dir, quota, self.core.page_size));
    }

    pub(crate) fn own_file(&self) -> Option<Arc<OwnFile>> {
        self.account().own().cloned()
    }

    /// What the slots have past the content of their pages, as offsets and lengths in a file where
    /// each page lies in its place.
    pub(crate) fn slack(&mut self) -> Vec<(u64, u64)> {
        let page_size = self.core.page_size as u64;
        self.table(|table| {
            let mut slack = Vec::new();
            table.for_each(|index, place| {
                if let View::Spilled { valid, .. } = place
                    && (valid as u64) < page_size
                {
                    slack.push((index * page_size + valid as u64, page_size - valid as u64));
                }
            });
            slack
        })
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.end_loan();
        if let Some(own) = self.account().own() {
            own.let_go(); // nobody will look at it any more: no use in clearing it page by page
        }
        if !self.table(Table::retire) {
            self.truncate(0);
        }
        if let Some(kept) = self.kept.take() {
            self.core.close_table(kept);
        }
    }
}

impl ReadMedium for Pager {
    type Error = SpillError;

    #[inline]
    fn len(&self) -> u64 {
        self.len
    }

    #[inline]
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        if self.read_window(&mut { offset }, buf) {
            return Ok(buf.len());
        }
        self.read_slow(offset, buf)
    }

    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], SpillError> {
        self.lend_chunk(offset)
    }
}

impl Medium for Pager {
    #[inline]
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        if self.write_window(&mut { offset }, data) {
            return Ok(data.len());
        }
        self.write_slow(offset, data)
    }

    fn set_len(&mut self, len: u64) -> Result<(), SpillError> {
        if len < self.len {
            self.truncate(len);
        }
        self.len = len;
        Ok(())
    }
}
