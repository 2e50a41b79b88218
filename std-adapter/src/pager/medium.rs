//! The pager as a [`Medium`]: moves bytes between the caller, the frames and the slots.
//!
//! Promises:
//!
//! - I3: the bytes that a call accepted are in their place before the call returns. A page leaves memory only
//!   after its bytes have arrived in a slot.
//! - I4: the bytes that a read returns never depend on where they were.
//! - I5: the table is never locked during store I/O.
//! - A read never needs room on the disk: if no page can be evicted, it bypasses the frames.
//! - The page that an operation works on is pinned, so that it is not reclaimed half-way. When the call
//!   returns, nothing is pinned.
//!
//! [`residency`](crate::pager::residency) decides which page gets a frame.
//!
//! Held by: `tests/tests/spill_model.rs`, `tests/tests/spill_threads.rs`, `tests/tests/spill_edges.rs`,
//! `tests/tests/spill_faults`, `std-adapter/src/models.rs` (loom).

use crate::disk::own_file::OwnFile;
use crate::error::SpillError;
use crate::memory::copy::copy;
use crate::observe::counters::IoPath;
use crate::observe::stats::SpillReason;
use crate::pager::span::{Access, Span};
use crate::pager::state::Pager;
use crate::pages::page::{Location, Page, View};
use crate::pages::resident::Resident;
use crate::pages::table::Table;
use crate::sync::Arc;
use overspill_core::{Medium, ReadMedium, embedded_io};
use std::path::Path;

impl Pager {
    /// Reads all of `buf` if it lies in the window, and moves `position` past it. Otherwise does nothing and
    /// returns `false`.
    ///
    /// This and [`Pager::write_window`] copy last, so that no register has to be saved across the call of
    /// `memcpy`: that is a third of the cost of a small operation.
    #[inline(always)]
    pub(crate) fn read_window(&mut self, position: &mut u64, buf: &mut [u8]) -> bool {
        let Some(table) = &mut self.own_table else { return false };
        let requested = &mut self.requested.read;
        let read = table.try_with(|table| {
            let content = table.content(*position, buf.len())?;
            *position += buf.len() as u64;
            *requested += buf.len() as u64;
            copy(buf, content);
            Some(())
        });
        read.flatten().is_some()
    }

    /// Writes all of `data` if it lies in the window, and moves `position` past it. Otherwise does nothing
    /// and returns `false`.
    #[inline(always)]
    pub(crate) fn write_window(&mut self, position: &mut u64, data: &[u8]) -> bool {
        let Some(table) = &mut self.own_table else { return false };
        let (offset, len) = (*position, &mut self.len);
        // The last possible page ends at 2^64, one past the largest position.
        let Some(end) = offset.checked_add(data.len() as u64) else { return false };
        // Before it is certain, which costs fewer registers.
        self.requested.written += data.len() as u64;
        let mut advance = || {
            *position = end;
            *len = (*len).max(end);
        };
        let written = table.try_with(|table| {
            if let Some(room) = table.window_mut(offset, data.len()) {
                advance();
                copy(room, data);
                return true;
            }
            table.append(offset, data, advance)
        });
        if written != Some(true) {
            self.requested.written -= data.len() as u64;
        }
        written == Some(true)
    }

    /// Pins page `index`, waits while it is in transit, and returns where it is then.
    pub(crate) fn pin_settled(&mut self, index: u64) -> Location {
        match self.table(|table| table.pin(index)) {
            Location::InTransit => self.await_transit(index),
            location => location,
        }
    }

    /// Waits until a page in transit has landed or come back, and returns where it is then. No lock is held
    /// meanwhile.
    fn await_transit(&mut self, index: u64) -> Location {
        if let Some(transit) = self.table(|table| table.transit(index)) {
            transit.wait();
            self.table(|table| table.settle(index));
        }
        self.table(|table| table.locate(index))
    }

    fn await_transits(&mut self) {
        while let Some(index) = self.table(|table| table.next_in_transit(0)) {
            self.await_transit(index);
        }
    }

    /// Pins the page, counts the access, and returns where the page is and what kind of access it is.
    pub(crate) fn access(&mut self, offset: u64, span: Span) -> (Location, Access) {
        let continues = offset == self.last_end;
        self.last_end = offset.saturating_add(span.part as u64);
        let (location, heat, is_next_page) = self.table(|table| {
            let is_next_page =
                span.at == 0 && table.window_index().is_some_and(|index| index + 1 == span.index);
            (table.pin(span.index), table.touch(span.index), is_next_page)
        });
        let location =
            if location == Location::InTransit { self.await_transit(span.index) } else { location };
        let small = span.part < self.pool.page_size / 2;
        (location, Access { sequential: continues || is_next_page, small, heat })
    }

    // ---- reading

    #[cold]
    fn read_slow(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        self.end_loan();
        self.keep_limit();
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
                // Return the bytes read so far. The next call fails with the error, if it still occurs.
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Reads at least one byte of `buf`, which is not empty and ends before the end of the content.
    fn read_some(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let span = self.span(offset, buf.len());
        let (location, access) = self.access(offset, span);
        match location {
            Location::Spilled { valid, .. } if span.at < valid => {
                if !self.load(span, access)? {
                    return self.read_direct(offset, buf);
                }
            }
            Location::Spilled { .. } | Location::Hole => {
                buf[..span.part].fill(0);
                return Ok(span.part);
            }
            Location::Memory | Location::InTransit => {}
        }
        let out = &mut buf[..span.part];
        self.table(|table| {
            let resident = table.visit(span.index, access.continues());
            resident.expect("I1: a pinned page stays").read(span.at, out);
        });
        Ok(span.part)
    }

    /// Loads a spilled page into the window if it deserves a frame, and returns whether it did.
    pub(crate) fn load(&mut self, span: Span, access: Access) -> Result<bool, SpillError> {
        let Location::Spilled { slot, valid } = self.table(|table| table.locate(span.index)) else {
            return Ok(false);
        };
        let Some((mut frame, passing)) = self.admit(span, valid, access) else { return Ok(false) };
        let offset = span.index * self.pool.page_size as u64;
        match self.read_spilled(IoPath::Paged, offset, slot.offset, frame.first_mut(valid)) {
            Ok(n) if n == valid => {}
            // A block of the page is corrupted. The access may not need that block, and goes directly to the
            // slot.
            Ok(_) | Err(SpillError::Corrupted { .. }) => {
                self.recycle_frame(frame);
                return Ok(false);
            }
            Err(error) => {
                self.recycle_frame(frame);
                return Err(error);
            }
        }
        self.table(|table| {
            table.remove(span.index);
            let resident = Resident { frame, valid, dirty: false, slot: Some(slot) };
            table.open(span.index, resident, passing);
        });
        Ok(true)
    }

    /// Reads from one page, at least one byte of `buf`, and moves no page. `buf` is not empty and ends before
    /// the end of the content.
    pub(crate) fn peek(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let span = self.span(offset, buf.len());
        let out = &mut buf[..span.part];
        let done = match self.pin_settled(span.index) {
            Location::Spilled { valid, .. } if span.at < valid => self.read_direct(offset, out),
            Location::Spilled { .. } | Location::Hole => {
                out.fill(0);
                Ok(span.part)
            }
            Location::Memory | Location::InTransit => {
                self.table(|table| {
                    table.resident(span.index).expect("I1: a pinned page stays").read(span.at, out);
                });
                Ok(span.part)
            }
        };
        self.finish();
        done
    }

    /// Ends an operation: unpins its page. Closes the window while room is awaited, so that the next write goes through
    /// [`retry_after_waits`](Pager::retry_after_waits).
    pub(crate) fn finish(&mut self) {
        let Some(table) = &mut self.own_table else { return };
        table.with(Table::unpin);
        if self.awaits_room() {
            self.close_window();
        }
    }

    // ---- writing

    #[cold]
    fn write_slow(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        self.retry_after_waits(|pager| pager.write_once(offset, data))
    }

    fn write_once(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        self.end_loan();
        self.keep_limit();
        let taken = self.write_pages(offset, data);
        self.finish();
        taken
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
        let (location, access) = self.access(offset, span);
        let in_memory = match location {
            Location::Memory | Location::InTransit => self.make_fit(span)?,
            Location::Spilled { valid, .. } if span.at == 0 && span.part >= valid => {
                self.open_unread(span, access)
            }
            Location::Spilled { .. } => self.load(span, access)? && self.make_fit(span)?,
            Location::Hole => self.open_unread(span, access),
        };
        if !in_memory {
            return self.write_direct(offset, data);
        }
        let data = &data[..span.part];
        self.table(|table| {
            let resident = table.visit(span.index, access.continues());
            resident.expect("I1: a pinned page stays").write(span.at, data);
        });
        Ok(span.part)
    }

    /// Opens the window on a page whose old bytes are not needed, if it deserves a frame, and returns whether
    /// it did.
    fn open_unread(&mut self, span: Span, access: Access) -> bool {
        let Some((frame, passing)) = self.admit(span, 0, access) else { return false };
        self.table(|table| {
            let slot = match table.remove(span.index) {
                Page::Spilled { slot, .. } => Some(slot),
                Page::Hole | Page::Resident(_) | Page::InTransit(_) => None,
            };
            table.open(span.index, Resident { frame, valid: 0, dirty: true, slot }, passing);
        });
        true
    }

    // ---- the whole content

    /// Evicts every page in memory. On an error the pages not yet evicted are still resident.
    pub(crate) fn spill(&mut self) -> Result<(), SpillError> {
        if self.own_table.is_none() {
            return Ok(());
        }
        self.end_loan();
        let before = self.bytes_in_memory();
        let spilled = self.move_all_out();
        if self.bytes_in_memory() < before {
            self.pool.disk.quota().wake_waiters();
        }
        spilled
    }

    fn move_all_out(&mut self) -> Result<(), SpillError> {
        loop {
            self.await_transits();
            let Some(mut from) = self.table(|table| table.next_in_memory(0)) else { return Ok(()) };
            while let Some(index) = self.table(|table| table.next_in_memory(from)) {
                if let Some(frame) = self.evict(index, SpillReason::Requested)? {
                    self.recycle_frame(frame);
                }
                from = index + 1;
            }
        }
    }

    /// Shortens the content to `len` bytes, and frees what lies past it. Cannot fail, but may wait for
    /// a page in transit.
    pub(crate) fn truncate(&mut self, len: u64) {
        if self.own_table.is_none() {
            self.len = len;
            return;
        }
        self.end_loan();
        let before = self.bytes_held();
        // The page that is cut in two stays, so it must not be in transit.
        self.pin_settled(len >> self.pool.page_size.trailing_zeros());
        let window = self.table(|table| table.cut_window(len));
        self.dispose(window);
        while let Some(pages) = self.table(|table| table.truncate(len)) {
            pages.into_iter().for_each(|page| self.dispose(page));
        }
        self.finish();
        self.len = len;
        // Wake no waiter if nothing came free: the cursor also truncates a gap that it could not write past,
        // and this buffer may be about to wait for room itself.
        if self.bytes_held() < before {
            self.leave_queue();
            self.pool.disk.quota().wake_waiters();
        }
    }

    /// Frees the slot and recycles the frame of a page that was removed from the table.
    fn dispose(&mut self, page: Page) {
        match page {
            Page::Hole => {}
            Page::Spilled { slot, .. } => self.free_slot(slot),
            Page::Resident(resident) => {
                if let Some(slot) = resident.slot {
                    self.free_slot(slot);
                }
                self.recycle_frame(resident.frame);
            }
            Page::InTransit(transit) => {
                // In its own file a page has one place only, and the next write may go there at once: let the
                // reclaiming thread's write end first.
                let has_own = self.own().is_some();
                if has_own {
                    transit.wait();
                }
                if let Some(outcome) = transit.abandon(self.usage()) {
                    self.dispose(outcome.into());
                }
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

    /// The parts of slots that lie past the content of their pages, as offsets and lengths in an own file,
    /// where each page is at its offset in the stream.
    pub(crate) fn slack(&mut self) -> Vec<(u64, u64)> {
        let page_size = self.pool.page_size as u64;
        self.table(|table| {
            let mut slack = Vec::new();
            table.for_each(|index, view| {
                if let View::Spilled { valid, .. } = view
                    && (valid as u64) < page_size
                {
                    slack.push((index * page_size + valid as u64, page_size - valid as u64));
                }
            });
            slack
        })
    }
}

/// A [`SpillError`] as an [`embedded_io::Error`], which the cursor requires of its medium.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct MediumError(#[from] SpillError);

impl embedded_io::Error for MediumError {
    fn kind(&self) -> embedded_io::ErrorKind {
        match self.0.kind().into() {
            // The cursor takes this kind for a full medium, and would return its own error. A store that
            // accepts no bytes has this kind too, and its error says more.
            embedded_io::ErrorKind::WriteZero => embedded_io::ErrorKind::Other,
            kind => kind,
        }
    }
}

/// Not conversions, which the compiler would offer to users of the crate.
impl MediumError {
    pub(crate) fn into_inner(self) -> SpillError {
        self.0
    }
}

impl ReadMedium for Pager {
    type Error = MediumError;

    #[inline]
    fn len(&self) -> u64 {
        self.len
    }

    #[inline]
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, MediumError> {
        if self.read_window(&mut { offset }, buf) {
            return Ok(buf.len());
        }
        let read = self.read_slow(offset, buf)?;
        self.requested.read += read as u64;
        Ok(read)
    }

    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], MediumError> {
        Ok(self.lend_chunk(offset)?)
    }
}

/// The pager for the rest of a call that has written bytes already, and so succeeds: what is refused is neither waited for
/// nor counted.
pub(crate) struct Rest<'a>(pub(crate) &'a mut Pager);

impl ReadMedium for Rest<'_> {
    type Error = MediumError;

    fn len(&self) -> u64 {
        self.0.len
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, MediumError> {
        self.0.read_at(offset, buf)
    }

    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], MediumError> {
        self.0.chunk_at(offset)
    }
}

impl Medium for Rest<'_> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, MediumError> {
        Ok(self.0.write_once(offset, data)?)
    }

    fn set_len(&mut self, len: u64) -> Result<(), MediumError> {
        self.0.set_len(len)
    }
}

impl Medium for Pager {
    #[inline]
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, MediumError> {
        if self.write_window(&mut { offset }, data) {
            return Ok(data.len());
        }
        let taken = self.write_slow(offset, data)?;
        self.requested.written += taken as u64;
        Ok(taken)
    }

    fn set_len(&mut self, len: u64) -> Result<(), MediumError> {
        if len < self.len {
            self.truncate(len);
        }
        self.len = len;
        Ok(())
    }
}
