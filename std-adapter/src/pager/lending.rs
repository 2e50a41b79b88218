//! Lending bytes where they lie: what `fill_buf` gives.
//!
//! Promises:
//!
//! - While the window is lent it is out of the table, so nobody takes its frame back.
//! - Whatever looks at the table beyond the window ends the loan first.

use crate::error::SpillError;
use crate::pager::loan::{Loan, SCRATCH};
use crate::pager::span::{Access, Span, ZEROS};
use crate::pager::state::Pager;
use crate::pages::page::Location;
use crate::pages::table::Window;
use overspill_core::ReadMedium;

/// Where a chunk is lent from.
enum Chunk {
    Zeros,
    Scratch { len: usize },
    Window,
}

impl Pager {
    /// Ends a loan of [`chunk_at`](overspill_core::ReadMedium::chunk_at). Everything that looks at the table beyond the
    /// window does this first.
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

    /// Brings bytes of `span` to where they can be lent from.
    fn lend(&mut self, offset: u64, span: Span) -> Result<Chunk, SpillError> {
        let (location, access) = self.access(offset, span);
        match location {
            Location::Spilled { valid, .. } if span.at < valid => {
                let scan = Access { sequential: true, small: true, ..access };
                if !self.load(span, scan)? {
                    let mut scratch = self.loan().scratch.take().unwrap_or_else(|| Box::new([0; SCRATCH]));
                    // To the end of a block: what has one sum is read once.
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
                let held = self.loan().window.as_ref().map_or(&[][..], Window::content);
                match held.get(span.at..span.end().min(held.len())) {
                    Some(held) if !held.is_empty() => held,
                    _ => zeros,
                }
            }
        })
    }
}
