//! Scattered small reads and writes: one visit to the table each.
//!
//! What the window does not serve goes through all that a page may need, some 700 instructions, and 2,500
//! where its bytes go past the frames. A scattered access needs none of that: its page is in memory, or in
//! its slot, and stays where it is. So it is tried before, as the window is.
//!
//! Promises:
//!
//! - It does what the long way does, or nothing. A visit counts for the heat of its page as any other.
//! - An access that may be part of a sequential pass does nothing here: its page is to become the window.
//!   Neither does one whose page may get a frame, nor any while bytes are lent, while the memory limit is
//!   passed, or to be written while room is awaited.
//!
//! Held by: `tests/tests/spill_model.rs`, `tests/tests/pool_memory.rs`, `tests/tests/spill_faults/`,
//! `cargo bench -p overspill-tests --bench streams -- random`.

use crate::disk::slots::Slot;
use crate::error::SpillError;
use crate::observe::counters::IoPath;
use crate::observe::stats::SpillReason;
use crate::pager::span::{Access, Direction, Span};
use crate::pager::state::Pager;
use crate::pages::page_map::Visited;
use crate::pages::resident::Resident;

/// Where the bytes of a scattered access are.
enum Place {
    /// In memory: it is done.
    Frame,
    Slot(Slot),
}

impl Pager {
    /// Reads from one page, at least one byte of `buf`, if that is a scattered access, and moves `position`
    /// past what was read. Otherwise does nothing and returns `None`.
    pub(crate) fn read_scattered(
        &mut self,
        position: &mut u64,
        buf: &mut [u8],
    ) -> Option<Result<usize, SpillError>> {
        let (offset, span) = (*position, self.scattered(*position, buf.len())?);
        let read = match self.visit_scattered(offset, span, |_| true, |page| page.read(span.at, buf))? {
            Place::Frame => Ok(buf.len()),
            Place::Slot(slot) => self.read_spilled(IoPath::Direct, offset, slot.offset + span.at as u64, buf),
        };
        let done = self.advance_past(position, span, &read);
        self.requested.read += done;
        Some(read)
    }

    /// Writes over content of one page, at least one byte of `data`, if that is a scattered access, and moves
    /// `position` past what was written. Otherwise does nothing and returns `None`.
    pub(crate) fn write_scattered(
        &mut self,
        position: &mut u64,
        data: &[u8],
    ) -> Option<Result<usize, SpillError>> {
        if self.awaits_room() {
            return None;
        }
        let (offset, span) = (*position, self.scattered(*position, data.len())?);
        let has_room = |page: &Resident| page.has_frame() && span.end() <= page.frame_end();
        let mut was_copy = false;
        let write = |page: &mut Resident| {
            was_copy = page.is_copy();
            page.write(span.at, data);
        };
        let written = match self.visit_scattered(offset, span, has_room, write)? {
            Place::Frame => {
                if was_copy {
                    self.forget_in_base(span.index);
                }
                Ok(data.len())
            }
            Place::Slot(slot) => {
                let written = self.overwrite(offset, slot.offset + span.at as u64, data);
                written.map_err(|error| self.fail(None, error))
            }
        };
        let done = self.advance_past(position, span, &written);
        self.requested.written += done;
        Some(written)
    }

    /// Writes over content that is in a slot.
    fn overwrite(&mut self, offset: u64, store_offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        let (written, result) = self.write_spilled(IoPath::Direct, offset, store_offset, data);
        if written == 0 {
            result?;
        }
        self.count_spills(SpillReason::Direct, 1, written);
        Ok(written)
    }

    /// The `len` bytes at `offset`, if they are content of one page and continue no pass, and nothing
    /// is to be done first.
    #[inline]
    fn scattered(&self, offset: u64, len: usize) -> Option<Span> {
        let span = self.span(offset, len);
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len)?;
        let continues = offset == self.last_end || offset == 0 || self.would_descend(&(offset..end));
        let may_visit = !continues && !self.is_lent() && !self.pool.frames.is_over();
        (may_visit && len > 0 && span.part == len).then_some(span)
    }

    /// Says where the bytes of `span`, at `offset`, are, after `f` on their page if that is in memory, whole,
    /// and `is_sought`. `None`, and nothing has changed, if the page is the window, the window ends or
    /// begins there, or the page may get a frame.
    fn visit_scattered(
        &mut self,
        offset: u64,
        span: Span,
        is_sought: impl FnOnce(&Resident) -> bool,
        f: impl FnOnce(&mut Resident),
    ) -> Option<Place> {
        // A page of a clone may get its frame from the base, where nobody else takes memory.
        let takes_from_base = self.pool.registry.is_none() && self.base().is_some();
        let pool = &self.pool;
        let own_table = self.own_table.as_mut().filter(|table| pool.is_listed(table))?;
        let own_memory = &own_table.unlocked().usage.memory;
        let left = own_memory.limit().saturating_sub(own_memory.used());
        let may_go_past = |end: usize, heat: u8| {
            let is_small = span.part < pool.page_size / 2;
            let access = Access { direction: Direction::None, want: span.part, is_small, heat };
            let len = if span.index == 0 { pool.frames.class(end) } else { pool.page_size };
            let may_get_frame =
                access.is_hot() || takes_from_base || left >= len as u64 && pool.may_spare(len);
            span.end() <= end && access.is_small && !may_get_frame
        };
        let range = offset..offset + span.part as u64;
        let visited = own_table.try_with(|table| {
            if table.window_ends_at(offset) || table.window_begin_in(&range).is_some() {
                return None;
            }
            let is_sought = |page: &Resident| !page.is_segment() && is_sought(page);
            match table.map.visit(span.index, is_sought, may_go_past)? {
                Visited::Resident(page) => f(page),
                Visited::Spilled(slot) => return Some(Place::Slot(slot)),
            }
            Some(Place::Frame)
        });
        visited.flatten()
    }

    /// Moves `position` past what was done, and returns how much that is. What is tried again after
    /// an error is no pass.
    fn advance_past(&mut self, position: &mut u64, span: Span, done: &Result<usize, SpillError>) -> u64 {
        self.last_end = position.saturating_add(*done.as_ref().unwrap_or(&span.part) as u64);
        self.leave_descent(*position);
        let done = *done.as_ref().unwrap_or(&0) as u64;
        *position += done;
        self.tell_failures();
        done
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use crate::api::buffer::SpillBuffer;
    use crate::api::pool::SpillPool;
    use std::io::Write;

    const PAGE: usize = 4096;

    /// What it does nobody else could tell from the long way.
    #[test]
    fn it_is_taken_for_frames_and_for_slots_and_not_for_a_pass() {
        // At the limit of the pool, and at one of its own.
        for memory in [2, 64] {
            let pool = SpillPool::builder().memory(memory * PAGE).page_size(PAGE).build().unwrap();
            check(pool.buffer_builder().memory(2 * PAGE).build());
        }
    }

    fn check(mut buffer: SpillBuffer) {
        (0..4).for_each(|page| buffer.write_all(&[page; PAGE]).unwrap());
        let page_size = PAGE as u64;
        let mut byte = [9];
        for page in [0, 3] {
            let mut position = page * page_size + 100;
            let written = buffer.pager.write_scattered(&mut position, &[7]);
            assert_eq!((written.unwrap().unwrap(), position % page_size), (1, 101));
            position -= 1;
            let read = buffer.pager.read_scattered(&mut position, &mut byte);
            assert_eq!((read.unwrap().unwrap(), byte, position % page_size), (1, [7], 101));
            assert!(buffer.pager.read_scattered(&mut position, &mut byte).is_none(), "it continues");
        }
        for position in [0, 2 * page_size - 1, u64::MAX] {
            assert!(buffer.pager.read_scattered(&mut { position }, &mut [0; 2]).is_none(), "{position}");
        }
    }
}
