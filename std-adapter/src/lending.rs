//! Lending bytes where they lie: what `fill_buf` gives.
//!
//! Promises:
//!
//! - While the window is lent it is out of the table, so nobody takes its frame back.
//! - Whatever looks at the table beyond the window ends the loan first.

use crate::error::SpillError;
use crate::pager::{Approach, Pager, Span, ZEROS};
use crate::table::{Where, Window};
use overspill_core::ReadMedium;

/// Bytes that are lent from a spilled page when there is no frame to be had: beside the budget, and
/// only for who reads by `fill_buf` then.
const SCRATCH: usize = 4 << 10;

/// What [`chunk_at`](overspill_core::ReadMedium::chunk_at) lends.
#[derive(Debug, Default)]
pub(crate) struct Loan {
    /// The window while its bytes are lent out: nobody can take it back then.
    window: Option<Window>,
    /// What is lent where there is no frame.
    scratch: Option<Box<[u8; SCRATCH]>>,
}

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
        if let Some(rare) = self.rare_if_any()
            && let Some(loan) = &mut rare.loan
            && let Some(window) = loan.window.take()
        {
            self.table(|table| table.reopen(window));
        }
    }

    fn loan(&mut self) -> &mut Loan {
        self.rare().loan.get_or_insert_default()
    }

    /// Brings bytes of `span` to where they can be lent from.
    fn lend(&mut self, offset: u64, span: Span) -> Result<Chunk, SpillError> {
        let (place, approach) = self.approach(offset, span);
        match place {
            Where::Spilled { valid, .. } if span.at < valid => {
                let scan = Approach { sequential: true, small: true, ..approach };
                if !self.load(span, scan)? {
                    let mut scratch = self.loan().scratch.take().unwrap_or_else(|| Box::new([0; SCRATCH]));
                    // To the end of a block: what has one sum is read once.
                    let len = span.part.min(SCRATCH - span.at % SCRATCH);
                    let read = self.read_direct(offset, &mut scratch[..len]);
                    self.loan().scratch = Some(scratch);
                    return Ok(Chunk::Scratch { len: read? });
                }
            }
            Where::Memory | Where::Leaving => {}
            Where::Spilled { .. } | Where::Hole => return Ok(Chunk::Zeros),
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
