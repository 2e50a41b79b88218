//! Lending bytes in place, for `fill_buf`: no copy is made of a page that has a frame.
//!
//! Promises:
//!
//! - While the window is lent, it is out of the table, so its frame is not reclaimed.
//! - Every operation that uses the table beyond the window ends the loan first.
//! - A loan never needs room on the disk.
//! - What was lent while the memory limit was lowered leaves at the end of the loan.
//!
//! Held by: `tests/tests/spill_model.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults`,
//! `tests/tests/pool_limits.rs`.

use crate::error::SpillError;
use crate::pager::loan::{Loan, SCRATCH};
use crate::pager::span::{Access, Span, ZEROS};
use crate::pager::state::Pager;
use crate::pages::page::Location;
use crate::pages::table::Window;
use overspill_core::ReadMedium;

/// The place that a chunk is lent from.
enum Chunk {
    Zeros,
    Scratch { len: usize },
    Window,
}

impl Pager {
    /// Ends a loan of [`chunk_at`](overspill_core::ReadMedium::chunk_at): the window returns to the table.
    /// Every operation that uses the table beyond the window calls this first.
    pub(crate) fn end_loan(&mut self) {
        if let Some(cold) = self.cold_if_any()
            && let Some(loan) = &mut cold.loan
            && let Some(window) = loan.window.take()
        {
            self.table(|table| table.reopen(window));
        }
    }

    fn loan(&mut self) -> &mut Loan {
        self.cold().loan.get_or_insert_default()
    }

    /// Prepares bytes of `span` for lending. The page stays pinned until [`Pager::finish`].
    fn lend(&mut self, offset: u64, span: Span) -> Result<Chunk, SpillError> {
        let (location, access) = self.access(offset, span);
        match location {
            Location::Spilled { valid, .. } if span.at < valid => {
                let scan = Access { sequential: true, small: true, ..access };
                if !self.load(span, scan)? {
                    let mut scratch = self.loan().scratch.take().unwrap_or_else(|| Box::new([0; SCRATCH]));
                    // End at a multiple of `SCRATCH`, so that a block with one checksum is read once.
                    let len = span.part.min(SCRATCH - span.at % SCRATCH);
                    let read = self.read_direct(offset, &mut scratch[..len]);
                    self.loan().scratch = Some(scratch);
                    return Ok(Chunk::Scratch { len: read? });
                }
            }
            Location::Memory | Location::InTransit => {}
            Location::Spilled { .. } | Location::Hole => return Ok(Chunk::Zeros),
        }
        self.loan().window = self.table(|table| {
            table.focus(span.index);
            table.lend()
        });
        Ok(Chunk::Window)
    }

    /// See [`chunk_at`](overspill_core::ReadMedium::chunk_at).
    pub(crate) fn lend_chunk(&mut self, offset: u64) -> Result<&[u8], SpillError> {
        self.end_loan();
        self.keep_limit();
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(&[]);
        }
        let span = self.span(offset, left);
        let chunk = self.lend(offset, span);
        self.finish();
        let zeros = &ZEROS[..span.part.min(ZEROS.len())];
        Ok(match chunk? {
            Chunk::Zeros => zeros,
            Chunk::Scratch { len } => self.loan().scratch.as_ref().map_or(&[], |scratch| &scratch[..len]),
            Chunk::Window => {
                let content = self.loan().window.as_ref().map_or(&[][..], Window::content);
                match content.get(span.at..span.end().min(content.len())) {
                    Some(content) if !content.is_empty() => content,
                    _ => zeros,
                }
            }
        })
    }
}
