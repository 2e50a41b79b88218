//! Lending bytes in place, for `fill_buf`: no copy is made of a page that has a frame.
//!
//! Promises:
//!
//! - While the window is lent, it is out of the table, so its frame is not reclaimed.
//! - Every operation that uses the table beyond the window ends the loan first.
//! - A loan never needs room on the disk.
//! - What is lent again, with nothing in between, is what was lent before: a caller may have counted on it.
//!   Only a memory limit that was lowered meanwhile comes first.
//! - What was lent while the memory limit was lowered leaves at the end of the loan.
//!
//! Held by: `tests/tests/spill_model.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults`,
//! `tests/tests/pool_limits.rs`, `tests/tests/when_full.rs`.

use crate::error::SpillError;
use crate::pager::loan::{COPY_MAX, LentCopy, Loan};
use crate::pager::span::{Origin, Span, ZEROS};
use crate::pager::state::Pager;
use crate::pages::resident::Part;
use crate::pages::table::Table;
use crate::sync::Arc;
use crate::try_box::TryBox;
use overspill_core::ReadMedium;

/// The place that a chunk is lent from.
enum Chunk {
    Zeros,
    Copy { len: usize },
    Window { len: usize },
}

impl Pager {
    /// Ends a loan of [`chunk_at`](overspill_core::ReadMedium::chunk_at): the window returns to the table.
    /// Every operation that uses the table beyond the window calls this first.
    #[inline]
    pub(crate) fn end_loan(&mut self) {
        if let Some(window) = self.cold_if_any().and_then(|cold| cold.loan.as_mut()?.end())
            && self.check().is_ok()
        {
            let was_sought = self.table(|table| {
                table.reopen(window);
                table.sought.take()
            });
            if self.awaits_room() {
                self.close_window(); // as at the end of an operation
            }
            self.pool.tell_if_missed(was_sought, self.own_table(), self.ticket());
        }
    }

    /// Whether bytes are lent.
    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        let loan = self.cold_ref().and_then(|cold| cold.loan.as_deref());
        loan.is_some_and(|loan| loan.lent.is_some() || loan.window.is_some())
    }

    fn loan(&mut self) -> Result<&mut Loan, SpillError> {
        let cold = self.cold().ok_or(SpillError::OutOfMemory)?;
        if cold.loan.is_none() {
            cold.loan = TryBox::new(Loan::default());
        }
        cold.loan.as_deref_mut().ok_or(SpillError::OutOfMemory)
    }

    /// Prepares bytes of `span` for lending. The page stays pinned until [`Pager::end_operation`].
    fn lend(&mut self, offset: u64, span: Span) -> Result<Chunk, SpillError> {
        let (page, access) = self.access(offset, span, 1)?;
        let origin = self.origin(page, span);
        if matches!(origin, Origin::Zeros) {
            return Ok(Chunk::Zeros);
        }
        if !self.bring_to_read(origin, span, access.as_scan())? {
            return self.lend_copy(span, |pager, room| pager.read_past(origin, offset, room));
        }
        if !self.table(|table| table.reserve_for_focus(span.index)) {
            return self.lend_copy(span, |pager, room| pager.read_memory(offset, room));
        }
        let part = self.table(|table| {
            let page = table.focus(span.index).expect("I1: a pinned page stays");
            page.part(span.at, span.part)
        });
        match part {
            Part::Frame(len) => {
                self.loan()?; // before the window leaves its table
                let window = self.table(Table::lend);
                self.loan()?.window = window;
                Ok(Chunk::Window { len })
            }
            Part::Slot(..) => self.lend_copy(span, |pager, room| pager.read_memory(offset, room)),
            Part::Zeros(_) => Ok(Chunk::Zeros),
        }
    }

    /// Reads bytes of `span` by `read` into memory beside the frames, to be lent from there.
    fn lend_copy(
        &mut self,
        span: Span,
        read: impl FnOnce(&mut Self, &mut [u8]) -> Result<usize, SpillError>,
    ) -> Result<Chunk, SpillError> {
        // Ends at a multiple of `COPY_MAX`, so that a block with one checksum is read once.
        let (pool, most) = (Arc::clone(&self.pool), span.part.min(COPY_MAX - span.at % COPY_MAX));
        let copy = LentCopy::read(&pool, most, |room| read(self, room))?;
        let len = copy.len();
        self.loan()?.copy = Some(copy);
        Ok(Chunk::Copy { len })
    }

    /// Whether bytes from `offset` on are lent.
    #[inline]
    pub(crate) fn has_lent(&self, offset: u64) -> bool {
        let lent = self.cold_ref().and_then(|cold| cold.loan.as_ref()?.lent);
        lent.is_some_and(|(from, _)| from == offset)
    }

    /// Notes that a caller has consumed `n` bytes of a loan at `offset`: ends it, or goes on with the rest of
    /// a copy. More than was lent is a seek. Zeros are lent without a note, and so are the further parts of
    /// a window that is consumed by parts.
    #[inline]
    pub(crate) fn consume(&mut self, offset: u64, n: usize) {
        let lent = self.cold_ref().and_then(|cold| cold.loan.as_ref()?.lent);
        let most = match lent {
            Some((from, len)) if from == offset => len,
            _ => {
                let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
                self.span(offset, left).part.min(ZEROS.len())
            }
        };
        self.requested.read += n.min(most) as u64;
        let loan = self.cold_if_any().and_then(|cold| cold.loan.as_mut());
        if !loan.is_some_and(|loan| loan.goes_on_at(offset.saturating_add(n as u64))) {
            self.end_loan();
        }
    }

    /// See [`chunk_at`](overspill_core::ReadMedium::chunk_at).
    pub(crate) fn lend_chunk(&mut self, offset: u64) -> Result<&[u8], SpillError> {
        if self.has_lent(offset) && !self.pool.frames.is_over() {
            return self.lent(offset);
        }
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let span = self.span(offset, left);
        let chunk = self.operate(|pager| {
            if left == 0 {
                return Ok(Chunk::Zeros); // none
            }
            pager.try_table()?;
            pager.lend(offset, span)
        })?;
        Ok(match chunk {
            Chunk::Zeros => &ZEROS[..span.part.min(ZEROS.len())],
            Chunk::Copy { len } | Chunk::Window { len } => {
                self.loan()?.lent = Some((offset, len));
                self.lent(offset)?
            }
        })
    }

    /// The bytes at `offset` that are lent.
    pub(crate) fn lent(&mut self, offset: u64) -> Result<&[u8], SpillError> {
        let at = self.span(offset, 0).at;
        Ok(self.loan()?.bytes(at))
    }
}
