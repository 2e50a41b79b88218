//! What one reader sees of shared content: a window of its own, and what lies past it.
//!
//! The window is a copy of some kilobytes, in a frame of the pool. So small reads take no lock but the
//! reader's own, which is biased to it, and the pool takes the frame of a reader that stands still,
//! without I/O and without a word. In a pass it gets longer, while there is memory to spare: threads
//! that read the same content meet at each window, and by windows of 16 KiB two of them took nearly as
//! long as one would for both.
//!
//! Promises:
//!
//! - I2: the window's frame is charged to the pool, and reclaimed like a clean page. In a pool for one buffer
//!   no dirty page makes way for it.
//! - A read of scattered bytes copies no more than was asked for, unless it begins in the
//!   window and ends past it.
//! - Without a frame every read works, through the content's lock. A reader that gets none asks again, after
//!   a bounded number of reads.
//!
//! Held by: `tests/tests/frozen.rs`, `std-adapter/src/models/content.rs` (loom).

use crate::disk::store_access;
use crate::error::SpillError;
use crate::foreign::{drop_quietly, with_rest};
use crate::memory::copy::copy;
use crate::memory::frame::Frame;
use crate::memory::prefetch::prefetch;
use crate::pager::descent::Descent;
use crate::pager::loan::{LentCopy, Loan};
use crate::pager::span::Direction;
use crate::pages::page::{Stay, low_bits};
use crate::pages::resident::Resident;
use crate::pages::table::Table;
use crate::pool::member::OwnTable;
#[cfg(all(test, overspill_loom))]
use crate::pool::member::PeerTable;
use crate::pool::registry::Effort;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use std::ops::Range;

/// The longest first window of a pass, in bytes. Each byte of a window is copied twice; what is copied first
/// is still in the processor's cache then.
const FIRST_WINDOW_MAX: usize = 16 << 10;

/// The longest window, in bytes.
const WINDOW_MAX: usize = 64 << 10;

/// Each refusal doubles the interval between a reader's requests for a window, up to this many in a row: then
/// every 64th read that would fill one asks. Asking may cost a fence, 20 µs on a virtual machine, and a read
/// without a window less than one.
const REFUSALS_MAX: u32 = 6;

/// What a reader's window is filled from.
pub(crate) trait Filling {
    /// Bytes of the content.
    fn len(&self) -> u64;

    /// Reads into `buf` from `offset` on, as far as the content reaches.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError>;

    /// Makes room for a frame of `len` bytes in a pool for one buffer, if clean pages can leave for it.
    fn make_room(&self, len: usize) -> bool;

    /// The address of the byte at `offset`, if that is known at once.
    fn address_of(&self, offset: u64) -> Option<usize>;
}

/// A reader of shared content, without its position.
#[derive(Debug)]
pub(crate) struct Reader {
    pool: Arc<PoolState>,
    /// Has the window, and no other page. `None` until the reader needs one.
    own_table: Option<OwnTable>,
    /// The window ends here at the latest: what lies past it is not to be read.
    end: u64,
    /// Bytes that the window may have at most.
    most: usize,
    /// Added to a position in the window: the address of what the content has as far behind the window's end.
    /// Or of anything else: it is prefetched.
    ahead: u64,
    /// The end of the last read that missed the window. A read that starts there is sequential.
    last_end: u64,
    descent: Descent,
    /// How long the window may be that a pass comes to next, in bytes.
    reach: usize,
    /// Requests for a window that got none, since the last that got one. At most [`REFUSALS_MAX`].
    refusals: u32,
    /// Reads that would fill a window and are still to pass before the next request.
    unasked: u32,
    loan: Loan,
}

impl Reader {
    /// A reader of content up to `end`.
    pub(crate) fn new(pool: Arc<PoolState>, end: u64) -> Self {
        Reader {
            pool,
            own_table: None,
            end,
            most: usize::MAX,
            ahead: 0,
            last_end: 0,
            descent: Descent::default(),
            reach: FIRST_WINDOW_MAX,
            refusals: 0,
            unasked: 0,
            loan: Loan::default(),
        }
    }

    /// From now on, reads up to `end`, and with `most` bytes of memory. The next read, of `piece`, is a part
    /// of a pass.
    pub(crate) fn go_on(&mut self, piece: Range<u64>, direction: Direction, end: u64, most: usize) {
        match direction {
            Direction::Down => (self.last_end, self.descent) = (u64::MAX, Descent::to(piece.end)),
            _ => self.last_end = piece.start,
        }
        (self.end, self.most) = (end, most);
    }

    /// Bytes of memory that the window takes.
    pub(crate) fn memory_used(&self) -> u64 {
        self.own_table.as_ref().map_or(0, |table| table.unlocked().usage.memory.used())
    }

    /// Gives the window's frame back. Those that wait for memory are to be told after that.
    pub(crate) fn give_up_window(&mut self) {
        self.leave_lost();
        self.end_loan();
        if let Some(frame) = self.take_held() {
            self.release(frame);
        }
    }

    /// Reads all of `buf` if it lies in the window, and moves `position` past it. Otherwise does nothing
    /// and returns `false`.
    ///
    /// Meanwhile what the next window is copied from comes nearer: by 64 bytes a read took 4.9 ns so, and 6.2
    /// without.
    #[inline(always)]
    pub(crate) fn read_window(&mut self, position: &mut u64, buf: &mut [u8]) -> bool {
        let Some(table) = &mut self.own_table else { return false };
        let read = table.try_with(|table| {
            let content = table.content(*position, buf.len())?;
            prefetch(self.ahead.wrapping_add(*position), buf.len());
            *position += buf.len() as u64;
            copy(buf, content);
            Some(())
        });
        read.flatten().is_some()
    }

    /// Fills `buf` from `offset` on, as far as `content` reaches.
    #[cold]
    pub(crate) fn read(
        &mut self,
        content: &impl Filling,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, SpillError> {
        self.leave_lost();
        self.end_loan();
        let in_window = self.copy_window(offset, buf);
        let (at, rest) = (offset + in_window as u64, &mut buf[in_window..]);
        let done = with_rest(in_window, self.read_past_window(content, at, rest))?;
        self.last_end = offset + done as u64;
        Ok(done)
    }

    /// Fills `buf`, which begins where the window has nothing, and moves the window there if this is
    /// probably a part of a pass.
    fn read_past_window(
        &mut self,
        content: &impl Filling,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, SpillError> {
        // A read at the beginning is probably the first of a pass.
        let continues = offset == self.last_end || offset == 0 || self.window_ends_at(offset);
        let range = offset..offset.saturating_add(buf.len() as u64);
        let begin = self.table(|table| table.window_begin_in(&range)).flatten();
        let moves = self.pool.bytes_moved_for(buf.len());
        let descends = self.descent.note(range.clone(), begin.is_some(), moves);
        let is_small = buf.len() < self.window_len(FIRST_WINDOW_MAX) / 2 && !buf.is_empty();
        let mut done = 0;
        if continues && is_small {
            self.refill(content, offset)?;
            done = self.copy_window(offset, buf);
        } else if descends && is_small && range.end <= content.len().min(self.end) {
            done = self.read_down(content, range, begin, buf)?;
        }
        with_rest(done, content.read_at(offset + done as u64, &mut buf[done..]))
    }

    /// Fills `buf` with `range`, of which the window has what lies behind its `begin`, and moves the window
    /// to before that. Returns 0 if there is no frame for it, if it cannot be read, or if not all of that
    /// lies in one page.
    fn read_down(
        &mut self,
        content: &impl Filling,
        range: Range<u64>,
        begin: Option<u64>,
        buf: &mut [u8],
    ) -> Result<usize, SpillError> {
        let mut below = buf.len();
        if let Some(begin) = begin {
            below -= usize::try_from(range.end - begin).unwrap_or(below);
            if self.copy_window(begin, &mut buf[below..]) < buf.len() - below {
                return Ok(0);
            }
        }
        // The read, which may not need what lies below it, is to go past the window.
        let refilled = self.refill_down(content, range.start + below as u64, begin.is_some());
        if refilled.map_err(drop_quietly).is_err() {
            return Ok(0);
        }
        let is_there = self.copy_window(range.start, &mut buf[..below]) == below;
        Ok(if is_there { buf.len() } else { 0 })
    }

    /// Copies what the window has from `offset` on, and returns how much that is.
    fn copy_window(&mut self, offset: u64, buf: &mut [u8]) -> usize {
        let shift = self.pool.page_size.trailing_zeros();
        let at = low_bits(offset, shift);
        self.own_table.as_mut().map_or(0, |table| {
            table.with(|table| {
                let Some(page) = table.resident(offset >> shift) else { return 0 };
                let content = page.content_from(at);
                let len = content.len().min(buf.len());
                copy(&mut buf[..len], &content[..len]);
                len
            })
        })
    }

    /// Bytes of the window that the reader may have now, `most` at most. Less than a frame's if memory
    /// is too short for any.
    fn window_len(&self, most: usize) -> usize {
        let share = usize::try_from(self.pool.active_share()).unwrap_or(usize::MAX);
        self.pool.frames.class_within(share.min(most).min(self.most))
    }

    fn window_ends_at(&mut self, offset: u64) -> bool {
        self.table(|table| table.window_ends_at(offset)).unwrap_or_default()
    }

    /// Moves the window to `offset`, if there is a frame for it and it does not lie there already. It gets
    /// longer if it ended there.
    fn refill(&mut self, content: &impl Filling, offset: u64) -> Result<(), SpillError> {
        let (shift, page) = (self.pool.page_size.trailing_zeros(), self.pool.page_size);
        let at = low_bits(offset, shift);
        if self.has(offset) {
            return Ok(());
        }
        let continues = self.window_ends_at(offset);
        let Some(frame) = self.take_next_frame(content, continues) else { return Ok(()) };
        let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = frame.capacity().min(page - at).min(self.reach).min(left);
        self.fill(content, frame, offset, len)
    }

    /// Moves the window to before `end`, if there is a frame for it. It gets longer if it began there.
    fn refill_down(&mut self, content: &impl Filling, end: u64, continues: bool) -> Result<(), SpillError> {
        let Some(last) = end.checked_sub(1) else { return Ok(()) };
        let Some(frame) = self.take_next_frame(content, continues) else { return Ok(()) };
        let in_page = low_bits(last, self.pool.page_size.trailing_zeros()) + 1;
        let len = frame.capacity().min(in_page).min(self.reach);
        self.fill(content, frame, end - len as u64, len)
    }

    /// A frame for the next window of a pass, which is a longer one if the pass `continues`.
    fn take_next_frame(&mut self, content: &impl Filling, continues: bool) -> Option<Frame> {
        self.reach = if continues { WINDOW_MAX.min(2 * self.reach) } else { FIRST_WINDOW_MAX };
        self.take_frame(content)
    }

    /// Makes `frame` the window, with up to `len` bytes from `offset` on, which lie in one page.
    fn fill(
        &mut self,
        content: &impl Filling,
        mut frame: Frame,
        offset: u64,
        len: usize,
    ) -> Result<(), SpillError> {
        let shift = self.pool.page_size.trailing_zeros();
        match content.read_at(offset, frame.first_mut(len)) {
            Ok(len) if len > 0 => {
                // If the next is not in memory, the window itself: there is memory at least.
                let here = frame.bytes().as_ptr().addr();
                let next = content.address_of(offset + len as u64).unwrap_or(here);
                self.ahead = (next as u64).wrapping_sub(offset);
                let mut copy = Resident::copy(frame, low_bits(offset, shift));
                copy.len = len;
                self.put_window(|table| table.open(offset >> shift, copy, Stay::Kept));
                Ok(())
            }
            Ok(_) => {
                self.recycle(frame);
                Ok(())
            }
            Err(error) => {
                self.recycle(frame);
                Err(error)
            }
        }
    }

    fn has(&mut self, offset: u64) -> bool {
        self.own_table.as_mut().is_some_and(|table| table.with(|table| table.content(offset, 1).is_some()))
    }

    /// The frame of the window, which then is empty, or one of the pool. There may be none.
    fn take_frame(&mut self, content: &impl Filling) -> Option<Frame> {
        let len = self.window_len(self.reach);
        if self.own_table.is_none() && len > 0 {
            self.own_table = self.pool.open_table(); // maybe with the frame of a buffer that is gone
        }
        let held = self.take_held();
        self.note_miss(len);
        let first = len.min(FIRST_WINDOW_MAX);
        match held {
            // A limit was lowered; or it came with the table.
            Some(frame) if self.pool.frames.is_over() || len == 0 || frame.capacity() > self.most => {
                self.recycle(frame);
                None
            }
            Some(frame) if frame.capacity() >= len => Some(frame),
            Some(shorter) => {
                // Others give memory for a first window, and not for a longer one.
                let is_first = shorter.capacity() < first;
                let (len, effort) = if is_first { (first, Effort::Idle) } else { (len, Effort::Spare) };
                if !is_first && !self.pool.may_spare(len) {
                    return Some(shorter);
                }
                let Some(longer) = self.find_frame(len, effort) else { return Some(shorter) };
                self.recycle(shorter);
                Some(longer)
            }
            None if len == 0 => None,
            None => self.request_frame(content, first),
        }
    }

    /// A frame for a reader that has none.
    fn request_frame(&mut self, content: &impl Filling, len: usize) -> Option<Frame> {
        if self.unasked > 0 {
            self.unasked -= 1;
            return None;
        }
        let mut frame = self.find_frame(len, Effort::Idle);
        let is_alone = self.pool.registry.is_none();
        if frame.is_none() && is_alone && content.make_room(len) {
            frame = self.find_frame(len, Effort::Idle);
        }
        if frame.is_some() {
            self.refusals = 0;
        } else if !store_access::is_resident_only() {
            self.refusals = REFUSALS_MAX.min(self.refusals + 1);
            self.unasked = (1 << self.refusals) - 1;
        }
        frame
    }

    /// Notes the need of a window of `len` bytes that others may have to give as a miss, also of a reader
    /// that has one. Else readers that take each other's windows would all seem silent, and those that keep
    /// theirs too: then some get none, of a share that seems to be large.
    fn note_miss(&self, len: usize) {
        if let Some(table) = &self.own_table
            && !self.pool.may_spare(len)
            && !store_access::is_resident_only()
        {
            self.pool.note_miss(table);
        }
    }

    /// The frame of the table's only page, which then is none.
    fn take_held(&mut self) -> Option<Frame> {
        let held = self.table(|table| {
            let index = table.window_index().or_else(|| table.next_in_memory(0))?;
            table.remove_resident(index)?.into_frame().into_own() // a copy is in no given memory
        });
        held.flatten()
    }

    /// A frame of `len` bytes from the pool, charged to this reader too.
    fn find_frame(&mut self, len: usize, effort: Effort) -> Option<Frame> {
        let table = self.own_table.as_ref()?;
        let memory = &table.unlocked().usage.memory;
        memory.reserve(len as u64).ok()?;
        let is_noted = self.pool.note_holder(table);
        let frame = if is_noted { self.pool.acquire_frame(len, 0, effort, table) } else { None };
        if frame.is_none() {
            memory.release(len as u64);
        }
        frame
    }

    /// The reader's table, for a reclaiming thread.
    #[cfg(all(test, overspill_loom))]
    pub(crate) fn peer(&self) -> Option<PeerTable> {
        self.own_table.as_ref().map(OwnTable::peer)
    }

    fn recycle(&mut self, frame: Frame) {
        self.release(frame);
        self.pool.tell_waiters();
    }

    fn release(&self, frame: Frame) {
        if let Some(table) = &self.own_table {
            table.unlocked().usage.memory.release(frame.capacity() as u64);
        }
        self.pool.frames.recycle(frame);
    }

    fn table<R>(&mut self, f: impl FnOnce(&mut Table) -> R) -> Option<R> {
        Some(self.own_table.as_mut()?.with(f))
    }

    // ---- lending

    /// Lends bytes from `offset` on: at least one, unless `content` ends there.
    ///
    /// What is lent again, with nothing in between, is what was lent before: a caller may have counted on it.
    /// Only a memory limit that was lowered meanwhile comes first.
    pub(crate) fn lend(&mut self, content: &impl Filling, offset: u64) -> Result<&[u8], SpillError> {
        let is_lent = self.loan.lent.is_some_and(|(from, _)| from == offset) && !self.pool.frames.is_over();
        if !is_lent {
            self.leave_lost();
            self.end_loan();
            self.refill(content, offset)?;
            self.loan.window = if self.has(offset) { self.table(Table::lend).flatten() } else { None };
            let at = low_bits(offset, self.pool.page_size.trailing_zeros());
            let len = match &self.loan.window {
                Some(window) => window.content_from(at).len(),
                None => {
                    let left = content.len().min(self.end).saturating_sub(offset);
                    let most = (self.pool.page_size - at).min(usize::try_from(left).unwrap_or(usize::MAX));
                    let copy = LentCopy::read(&self.pool, most, |room| content.read_at(offset, room))?;
                    self.loan.copy.insert(copy).len()
                }
            };
            self.loan.lent = Some((offset, len));
        }
        Ok(self.lent(offset))
    }

    /// What was lent at `offset`, with nothing in between.
    pub(crate) fn lent(&self, offset: u64) -> &[u8] {
        self.loan.bytes(low_bits(offset, self.pool.page_size.trailing_zeros()))
    }

    /// Notes that the reader has come to `position` without a read. What a copy has from there on stays lent.
    pub(crate) fn skip_to(&mut self, position: u64) {
        self.leave_lost();
        if !self.loan.goes_on_at(position) {
            self.end_loan();
        }
        self.last_end = position;
    }

    /// Goes on without a window that cannot be entered: see
    /// [`Owner::check`](crate::sync::biased::Owner::check). It is a copy, and another takes its place.
    fn leave_lost(&mut self) {
        if self.own_table.as_ref().is_some_and(|table| table.check().is_err()) {
            std::mem::forget(self.own_table.take());
            self.loan = Loan::default();
        }
    }

    /// Ends a loan: the window may be reclaimed again.
    pub(crate) fn end_loan(&mut self) {
        if let Some(window) = self.loan.end() {
            self.put_window(|table| table.reopen(window));
        }
    }

    /// Puts the window into the table by `put`, and tells those that wait, if a search has missed its frame.
    fn put_window(&mut self, put: impl FnOnce(&mut Table)) {
        let Some(table) = &mut self.own_table else { return };
        let was_sought = table.with(|table| {
            put(table);
            table.sought.take()
        });
        self.pool.tell_if_missed(was_sought, table, None);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.give_up_window();
        self.pool.tell_waiters();
        if let Some(table) = self.own_table.take() {
            self.pool.close_reader(&table);
        }
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;
