//! The pager as a [`Medium`]: moves bytes between the caller, the frames and the slots.
//!
//! Between the two, what every operation of the pager is made of: [`Pager::operate`] begins and ends it, and
//! within, [`Pager::access`] or [`Pager::pin_settled`] pins a page, once it is in transit no more.
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

use crate::disk::store_access;
use crate::error::{SpillError, StoreOperation};
use crate::memory::copy::copy;
use crate::pager::span::{Access, Direction, Pinned, Span};
use crate::pager::state::Pager;
use crate::pages::table::Table;
use overspill_core::{Medium, ReadMedium, embedded_io};

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
        // The window may lie past the end, where a job opened it for a write that did not come.
        if data.is_empty() {
            return false;
        }
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

    /// Pins page `index`, waits while it is in transit, and returns where it is then. An error only in a
    /// forked process, where it stays in transit.
    pub(crate) fn pin_settled(&mut self, index: u64) -> Result<Pinned, SpillError> {
        let location = self.table(|table| table.pin(index));
        Pinned::new(location).map_or_else(|| self.await_pinned(index), Ok)
    }

    /// As [`pin_settled`](Pager::pin_settled), with nothing pinned after an error. It is also an error if the
    /// page is in transit and this thread must not wait for the store.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) fn pin_unless_in_transit(&mut self, index: u64, offset: u64) -> Result<Pinned, SpillError> {
        let location = self.table(|table| table.pin(index));
        if let Some(page) = Pinned::new(location) {
            return Ok(page);
        }
        let settled =
            store_access::check(StoreOperation::Write, offset, 0).and_then(|()| self.await_pinned(index));
        settled.inspect_err(|_| self.end_operation())
    }

    /// Waits until a pinned page that is in transit has landed or come back, and returns where it is then.
    fn await_pinned(&mut self, index: u64) -> Result<Pinned, SpillError> {
        self.await_transit(index)?;
        let location = self.table(|table| table.locate(index));
        Pinned::new(location).ok_or(SpillError::Forked)
    }

    /// Waits until a page in transit has landed or come back. No lock is held meanwhile.
    pub(crate) fn await_transit(&mut self, index: u64) -> Result<(), SpillError> {
        if let Some(transit) = self.table(|table| table.transit(index)) {
            transit.wait()?;
            self.table(|table| table.settle(index));
        }
        Ok(())
    }

    /// Waits for each page that is in transit now, once: other threads may begin to move more.
    pub(crate) fn await_transits(&mut self) -> Result<(), SpillError> {
        let mut from = 0;
        while let Some(index) = self.table(|table| table.next_in_transit(from)) {
            self.await_transit(index)?;
            from = index + 1;
        }
        Ok(())
    }

    /// Pins the page, counts the access, and returns where the page is and what kind of access it is. The
    /// whole call moves `want` bytes. An error only if the page is in transit and this thread must not wait
    /// for the store, or in a forked process.
    ///
    /// Sets `last_end` to the end of `span`, as if all of it were moved: what moves less sets it again.
    pub(crate) fn access(
        &mut self,
        offset: u64,
        span: Span,
        want: usize,
    ) -> Result<(Pinned, Access), SpillError> {
        self.access_by(offset, span, want, Table::touch)
    }

    /// The same, with the heat that `heat` says.
    #[inline]
    pub(crate) fn access_by(
        &mut self,
        offset: u64,
        span: Span,
        want: usize,
        heat: impl FnOnce(&mut Table, u64) -> u8,
    ) -> Result<(Pinned, Access), SpillError> {
        self.forget_under_window(Some(span.index));
        // A call at the beginning is probably the first of a pass.
        let continues = offset == self.last_end || offset == 0;
        self.last_end = offset.saturating_add(span.part as u64);
        let (location, heat, leaves_window) = self.table(|table| {
            let leaves_window = table.window_ends_at(offset);
            (table.pin(span.index), heat(table, span.index), leaves_window)
        });
        let page = match Pinned::new(location) {
            Some(page) => page,
            None => {
                store_access::check(StoreOperation::Write, offset, span.part as u64)?;
                self.await_pinned(span.index)?
            }
        };
        let is_small = want < self.pool.page_size / 2;
        // Of a segment, what comes next on the way down would lie before it.
        let descends = || self.descends_at(offset) && self.segment_len() >= self.pool.page_size;
        let direction = match continues || leaves_window {
            true => Direction::Up,
            false if !descends() => Direction::None,
            false if span.part < want => Direction::Across,
            false => Direction::Down,
        };
        Ok((page, Access { direction, want, is_small, heat }))
    }

    /// Runs an operation outside the window. Before it, a loan ends, and a lowered memory limit is kept;
    /// after it, nothing is pinned, and those that wait for what came free are woken.
    #[inline]
    pub(crate) fn operate<R, E: From<SpillError>>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<R, E>,
    ) -> Result<R, E> {
        self.check()?;
        self.end_loan();
        self.keep_limit();
        let done = operation(self);
        self.end_operation();
        done
    }

    /// Ends an operation: unpins its page, tells of failures of the store, and wakes those that wait for what
    /// came free, or for the page, if a search found nothing meanwhile. Closes the window while room is
    /// awaited, so that the next write goes through [`retry_after_waits`](Pager::retry_after_waits).
    pub(crate) fn end_operation(&mut self) {
        let Some(table) = &mut self.own_table else { return };
        let was_sought = table.with(Table::unpin);
        if self.awaits_room() {
            self.close_window();
        }
        if self.pool.disk.quota().is_limited() {
            self.pool.tell_if_missed(was_sought, self.own_table(), self.ticket());
            self.pool.tell_waiters();
        }
        self.tell_failures();
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

/// The pager for the rest of a call that has written bytes already, and so succeeds: what is refused is
/// neither waited for nor counted.
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
        let taken = self.0.write_once(offset, data)?;
        self.0.requested.written += taken as u64;
        Ok(taken)
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
