//! What an operation does on an event loop: with what is in memory, or not at all.
//!
//! Promises:
//!
//! - No call here reaches the store, waits for one that works for another thread, or takes a page
//!   from another buffer.
//! - An operation that needs the store has changed nothing, and says so. [`ahead`](crate::pager::ahead) then
//!   does, off the loop, what lets it succeed.
//! - A write takes what there is room for, also if that is less than it was given.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::disk::store_access::if_resident;
use crate::error::SpillError;
use crate::pager::span::ZEROS;
use crate::pager::state::Pager;
use crate::pager::waiting::Wait;

impl Pager {
    /// Writes what fits into memory. `None` if that is nothing, and the store is needed to make room.
    pub(crate) fn write_inline(
        &mut self,
        offset: u64,
        data: &[u8],
        wait: &mut Option<Wait>,
    ) -> Option<Result<usize, SpillError>> {
        match self.inline(offset, |pager| pager.write_once(offset, data))? {
            Ok(taken) => {
                self.requested.written += taken as u64;
                self.succeed(wait.take());
                Some(Ok(taken))
            }
            Err(error) => Some(Err(self.fail(wait.take(), error))),
        }
    }

    /// Reads what is in memory from `offset` on, as far as the content reaches. `None` if that is nothing.
    pub(crate) fn read_inline(&mut self, offset: u64, buf: &mut [u8]) -> Option<Result<usize, SpillError>> {
        let read = self.inline(offset, |pager| pager.read_slow(offset, buf))?;
        self.requested.read += *read.as_ref().unwrap_or(&0) as u64;
        Some(read)
    }

    /// Prepares bytes at `offset` for [`lent_inline`](Pager::lent_inline), and returns how many. `None` if
    /// they are not in memory.
    pub(crate) fn lend_inline(&mut self, offset: u64) -> Option<Result<usize, SpillError>> {
        self.inline(offset, |pager| pager.lend_chunk(offset).map(<[u8]>::len))
    }

    /// The `len` bytes that [`lend_inline`](Pager::lend_inline) has prepared, with nothing in between.
    pub(crate) fn lent_inline(&mut self, offset: u64, len: usize) -> Result<&[u8], SpillError> {
        // Zeros are not noted as lent, and stay zeros wherever their page goes.
        if self.has_lent(offset) { self.lent(offset) } else { Ok(&ZEROS[..len.min(ZEROS.len())]) }
    }

    /// Runs `operation`, at `offset`, without the store. `None` if it has failed for want of it.
    fn inline<R>(
        &mut self,
        offset: u64,
        operation: impl FnOnce(&mut Self) -> Result<R, SpillError>,
    ) -> Option<Result<R, SpillError>> {
        let goes_on = offset == 0 || self.goes_on_at(offset);
        if !goes_on && let Some(cold) = self.cold_if_any() {
            cold.jumps = cold.jumps.saturating_add(1);
        }
        let last_end = if goes_on { offset } else { self.last_end };
        let result = if_resident(|| operation(self));
        if result.is_none() {
            // The next attempt continues where this one would have.
            self.last_end = last_end;
        }
        result
    }

    /// Whether this buffer holds more than its share of a memory limit that was lowered: it has pages to
    /// evict.
    pub(crate) fn owes_memory(&self) -> bool {
        self.own_table.is_some()
            && self.pool.frames.is_over()
            && self.bytes_in_memory() > self.pool.fair_share()
    }
}
