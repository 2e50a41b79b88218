//! One buffer's pages as a [`Medium`]: moves bytes between the caller, the frames and the disk.
//!
//! Promises:
//!
//! - I3: what a call took is in its place before the call returns; a page leaves memory only after
//!   its bytes have arrived in a slot.
//! - I4: what is read never depends on where it was.
//! - I5: the table is never locked while the store works.
//! - A read never needs room on the disk: if a page cannot leave memory, the read goes past it.
//!
//! # Who gets a frame
//!
//! While the budget has room, every page does. After that a page in memory makes way only for
//!
//! - a page that a sequential pass of small operations comes to: it takes the place of the page that
//!   passed before it, so that a long pass uses one frame and leaves the others alone;
//! - a page that was visited more than twice as often, lately, as the coldest of a few in memory.
//!
//! Everything else goes straight between the caller and the slot. So crossing the budget moves
//! nothing, and neither a scan nor scattered accesses wash out what is in use.

use crate::biased::Owner;
use crate::disk;
use crate::error::SpillError;
use crate::frame::Frame;
use crate::idle::Kept;
use crate::own_file::OwnFile;
use crate::pool::Core;
use crate::slots::Slot;
use crate::stats::BufferStats;
use crate::store::Store;
use crate::sync::Arc;
use crate::table::{Page, Resident, Table, Where, Window, low_bits};
use overspill_core::Medium;
use std::path::Path;

/// Visits after which a page may ask for a frame for the first time, and after which again.
const HOT: u8 = 8;

/// What a hole is lent from.
static ZEROS: [u8; 4096] = [0; 4096];

/// Bytes that are lent from a spilled page when there is no frame to be had.
const SCRATCH: usize = 64;

#[derive(Debug)]
pub(crate) struct Pager {
    /// There until the drop.
    table: Option<Owner<Table>>,
    pub(crate) core: Arc<Core>,
    /// Where its pages go instead of the pool's store, if it is to be persisted.
    own: Option<Arc<OwnFile>>,
    len: u64,
    /// Where the last access that missed the window ended.
    last_end: u64,
    /// The window while its bytes are lent out: nobody can take it back then.
    lent: Option<Window>,
    scratch: [u8; SCRATCH],
    stats: BufferStats,
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
struct Approach {
    /// It goes on where the last one ended.
    sequential: bool,
    /// It wants only a little of the page.
    small: bool,
    heat: u8,
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
        let page_size = core.page_size;
        let kept = core.idle.take().unwrap_or_else(|| Kept::new(page_size));
        Pager {
            table: Some(kept.table),
            core,
            own: None,
            len: 0,
            last_end: 0,
            lent: None,
            scratch: [0; SCRATCH],
            stats: BufferStats { bytes_resident: kept.frame_bytes, ..BufferStats::default() },
        }
    }

    pub(crate) fn stats(&self) -> BufferStats {
        self.stats
    }

    /// Ends a loan of [`chunk_at`](Medium::chunk_at). Everything that looks at the table beyond the
    /// window does this first.
    pub(crate) fn end_loan(&mut self) {
        if let Some(window) = self.lent.take() {
            self.table(|table| table.reopen(window));
        }
    }

    /// Reads all of `buf` if it lies in the window, and moves `position` past it; else nothing.
    #[inline(always)]
    pub(crate) fn read_window(&mut self, position: &mut u64, buf: &mut [u8]) -> bool {
        let Some(table) = &mut self.table else { return false };
        let (offset, len) = (*position, buf.len() as u64);
        table.try_with(|table| table.read(offset, buf, || *position = offset + len)) == Some(true)
    }

    /// Writes all of `data` if it lies in the window, and moves `position` past it; else nothing.
    #[inline(always)]
    pub(crate) fn write_window(&mut self, position: &mut u64, data: &[u8]) -> bool {
        let Some(table) = &mut self.table else { return false };
        let (offset, len) = (*position, &mut self.len);
        // The last page there can be ends one byte past what can be counted.
        let Some(end) = offset.checked_add(data.len() as u64) else { return false };
        let commit = || {
            *position = end;
            *len = (*len).max(end);
        };
        table.try_with(|table| table.write(offset, data, commit)) == Some(true)
    }

    #[inline]
    pub(crate) fn table<R>(&mut self, f: impl FnOnce(&mut Table) -> R) -> R {
        self.table.as_mut().expect("the table is there until the drop").with(f)
    }

    /// The part of `len` bytes at `offset` that lies in one page.
    pub(crate) fn span(&self, offset: u64, len: usize) -> Span {
        let page = self.core.page_size;
        let at = low_bits(offset, page.trailing_zeros());
        Span { index: offset >> page.trailing_zeros(), at, part: len.min(page - at) }
    }

    /// Counts the access, and says how it came.
    fn approach(&mut self, offset: u64, span: Span) -> (Where, Approach) {
        let continues = offset == self.last_end;
        self.last_end = offset.saturating_add(span.part as u64);
        let (place, heat, next) = self.table(|table| {
            let next = span.at == 0 && table.window_index().is_some_and(|index| index + 1 == span.index);
            (table.locate(span.index), table.touch(span.index), next)
        });
        let small = span.part < self.core.page_size / 2;
        (place, Approach { sequential: continues || next, small, heat })
    }

    // ---- reading

    #[cold]
    fn read_slow(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        self.end_loan();
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
            Where::Memory => {}
        }
        let out = &mut buf[..span.part];
        self.table(|table| {
            let resident = table.visit(span.index, approach.goes_on());
            if let Some(resident) = resident {
                resident.read(span.at, out);
            }
        });
        Ok(span.part)
    }

    /// Brings a spilled page into the window if it deserves a frame; says whether it did.
    fn load(&mut self, span: Span, approach: Approach) -> Result<bool, SpillError> {
        let Where::Spilled { slot, valid } = self.table(|table| table.locate(span.index)) else {
            return Ok(false);
        };
        let Some((mut frame, passing)) = self.admit(span, valid, approach) else { return Ok(false) };
        if let Err(error) = self.read_store(slot.offset, frame.first_mut(valid)) {
            self.give_frame(frame);
            return Err(error);
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
        match self.table(|table| table.locate(span.index)) {
            Where::Spilled { valid, .. } if span.at < valid => return self.read_direct(offset, out),
            Where::Spilled { .. } | Where::Hole => out.fill(0),
            Where::Memory => self.table(|table| {
                if let Some(resident) = table.resident(span.index) {
                    resident.read(span.at, out);
                }
            }),
        }
        Ok(span.part)
    }

    // ---- writing

    #[cold]
    fn write_slow(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        self.end_loan();
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
            Where::Memory => self.make_fit(span)?,
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
            if let Some(resident) = resident {
                resident.write(span.at, data);
            }
        });
        Ok(span.part)
    }

    /// Opens a window on a page whose old bytes are not needed, if it deserves a frame.
    fn open_over(&mut self, span: Span, approach: Approach) -> bool {
        let Some((frame, passing)) = self.admit(span, 0, approach) else { return false };
        self.table(|table| {
            let slot = match table.take(span.index) {
                Page::Spilled { slot, .. } => Some(slot),
                Page::Hole | Page::Resident(_) => None,
            };
            table.open(span.index, Resident { frame, valid: 0, dirty: true, slot }, passing);
        });
        true
    }

    /// Makes sure that the frame of a page in memory reaches to the end of `span`. If there is no
    /// memory for that, the page leaves for its slot, and the answer is false.
    fn make_fit(&mut self, span: Span) -> Result<bool, SpillError> {
        let held =
            self.table(|table| table.resident(span.index).map_or(0, |resident| resident.frame.capacity()));
        if held >= span.end() {
            return Ok(true);
        }
        let larger = self.find_frame(self.likely(span, span.end()));
        let larger = larger.or_else(|| self.find_frame(span.end())).or_else(|| self.frame_of_coldest(span));
        let Some(mut larger) = larger else {
            let frame = self.evict(span.index)?;
            self.give_frame(frame);
            return Ok(false);
        };
        let smaller = self.table(|table| {
            table.resident(span.index).map(|resident| {
                larger.write(0, resident.content(), || ());
                std::mem::replace(&mut resident.frame, larger)
            })
        });
        if let Some(frame) = smaller {
            self.give_frame(frame);
        }
        Ok(true)
    }

    // ---- frames

    /// A frame for a page that is not in memory, if it deserves one, and whether it is only passing.
    /// It holds `valid` bytes and the end of `span`.
    fn admit(&mut self, span: Span, valid: usize, approach: Approach) -> Option<(Frame, bool)> {
        let need = span.end().max(valid);
        // With room to spare, a large read of a page that is not visited again would only cost a copy.
        let worth_it = approach.small || valid == 0 || approach.heat > 1;
        if worth_it && let Some(frame) = self.find_frame(self.likely(span, need)) {
            return Some((frame, false));
        }
        if !approach.small {
            return None;
        }
        if let Some((victim, passing)) = self.choose_victim(span.index, approach)
            && let Some(frame) = self.frame_of(victim, need)
        {
            return Some((frame, passing));
        }
        self.find_frame(need).map(|frame| (frame, false))
    }

    /// The page in memory that is to make way for page `index`, approached like this, if any is; and
    /// whether the new one is only passing.
    fn choose_victim(&mut self, index: u64, approach: Approach) -> Option<(u64, bool)> {
        self.table(|table| {
            if approach.sequential {
                let before = table.passing_index();
                let victim =
                    before.or_else(|| Some(table.coldest(index)?.0)).or_else(|| table.window_index());
                return victim.map(|victim| (victim, true));
            }
            if approach.heat < HOT || !approach.heat.is_multiple_of(HOT) {
                return None;
            }
            let (victim, heat) = table.coldest(index)?;
            (approach.heat >= heat.saturating_mul(2).saturating_add(HOT)).then_some((victim, false))
        })
    }

    /// How much of its page a span is likely to need in the end: all of it, if the stream is longer
    /// than a page already, so that a long one does not grow each page step by step.
    fn likely(&self, span: Span, need: usize) -> usize {
        if span.index == 0 { need } else { self.core.page_size }
    }

    /// A frame of at least `bytes` that nobody has to make way for.
    fn find_frame(&mut self, bytes: usize) -> Option<Frame> {
        let frame = self.core.take_frame(bytes)?;
        self.stats.bytes_resident += frame.capacity() as u64;
        Some(frame)
    }

    /// A frame that reaches to the end of `span`, from a page that is colder than this one.
    fn frame_of_coldest(&mut self, span: Span) -> Option<Frame> {
        let (victim, _) = self.table(|table| table.coldest(span.index))?;
        self.frame_of(victim, span.end())
    }

    /// A frame of at least `need` bytes, by evicting `victim`.
    fn frame_of(&mut self, victim: u64, need: usize) -> Option<Frame> {
        // A page that cannot leave stays where it is, and the caller goes straight to the store.
        let frame = self.evict(victim).ok()?;
        if frame.capacity() >= need {
            return Some(frame);
        }
        self.give_frame(frame);
        self.find_frame(need)
    }

    fn give_frame(&mut self, frame: Frame) {
        self.stats.bytes_resident -= frame.capacity() as u64;
        self.core.frames.recycle(frame);
    }

    /// Moves a page from memory to its slot, and hands out its frame. This is the one place where a
    /// page leaves memory: choose where, copy out, only then let go. On an error the page is still
    /// resident, and nothing else has changed.
    fn evict(&mut self, index: u64) -> Result<Frame, SpillError> {
        let Page::Resident(resident) = self.table(|table| table.take(index)) else {
            unreachable!("only a page in memory is evicted");
        };
        match self.write_out(index, &resident) {
            Ok(None) => Ok(resident.frame),
            Ok(Some(slot)) => {
                if let Some(outgrown) = resident.slot.filter(|&old| old != slot) {
                    self.free_slot(outgrown);
                }
                self.stats.spills += u64::from(resident.dirty);
                self.table(|table| table.put(index, Page::Spilled { slot, valid: resident.valid }));
                Ok(resident.frame)
            }
            Err(error) => {
                self.table(|table| table.put(index, Page::Resident(resident)));
                Err(error)
            }
        }
    }

    /// Copies a page to a slot unless the slot has the same bytes already; returns the slot, if the
    /// page has any bytes at all.
    fn write_out(&mut self, index: u64, resident: &Resident) -> Result<Option<Slot>, SpillError> {
        if resident.valid == 0 {
            if let Some(slot) = resident.slot {
                self.free_slot(slot);
            }
            return Ok(None);
        }
        let fitting = resident.slot.filter(|slot| slot.len >= resident.valid as u64);
        if fitting.is_some() && !resident.dirty {
            return Ok(fitting);
        }
        let slot = match fitting {
            Some(slot) => slot,
            None => self.take_slot(index, resident.valid)?,
        };
        let (_, written) = self.write_store(slot.offset, resident.content());
        if written.is_err() && fitting.is_none() {
            self.free_slot(slot);
        }
        written.map(|()| Some(slot))
    }

    pub(crate) fn count_spills(&mut self, pages: u64) {
        self.stats.spills += pages;
    }

    /// A slot for `bytes` of page `index`.
    pub(crate) fn take_slot(&mut self, index: u64, bytes: usize) -> Result<Slot, SpillError> {
        let slot = match &self.own {
            Some(own) => own.take(index),
            None => self.core.disk.take(bytes),
        }?;
        self.stats.bytes_spilled += slot.len;
        Ok(slot)
    }

    pub(crate) fn free_slot(&mut self, slot: Slot) {
        self.stats.bytes_spilled -= slot.len;
        match &self.own {
            Some(own) => own.free(slot),
            None => self.core.disk.free(slot),
        }
    }

    pub(crate) fn read_store(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), SpillError> {
        disk::read(store(&self.core, self.own.as_deref()), offset, buf, &mut self.stats.io)
    }

    /// See [`disk::write`].
    pub(crate) fn write_store(&mut self, offset: u64, data: &[u8]) -> (usize, Result<(), SpillError>) {
        disk::write(store(&self.core, self.own.as_deref()), offset, data, &mut self.stats.io)
    }

    /// Spills to a file in `dir` that can become the final one. Only for an empty buffer.
    pub(crate) fn spill_beside(&mut self, dir: &Path) {
        debug_assert_eq!(self.len, 0);
        let quota = Arc::clone(self.core.disk.quota());
        self.own = Some(Arc::new(OwnFile::new(dir, quota, self.core.page_size)));
    }

    pub(crate) fn own_file(&self) -> Option<Arc<OwnFile>> {
        self.own.clone()
    }

    /// What the slots have past the content of their pages, as offsets and lengths in a file where
    /// each page lies in its place.
    pub(crate) fn slack(&mut self) -> Vec<(u64, u64)> {
        let page_size = self.core.page_size as u64;
        self.table(|table| {
            let mut slack = Vec::new();
            for (index, page) in table.pages() {
                if let Page::Spilled { valid, .. } = page
                    && (*valid as u64) < page_size
                {
                    slack.push((index * page_size + *valid as u64, page_size - *valid as u64));
                }
            }
            slack
        })
    }

    // ---- the whole

    /// Moves every page that is in memory to its slot.
    pub(crate) fn spill(&mut self) -> Result<(), SpillError> {
        self.end_loan();
        let mut from = 0;
        while let Some(index) = self.table(|table| table.next_in_memory(from)) {
            let frame = self.evict(index)?;
            self.give_frame(frame);
            from = index + 1;
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) {
        self.end_loan();
        let window = self.table(|table| table.cut_window(len));
        self.dispose(window);
        for page in self.table(|table| table.truncate(len)) {
            self.dispose(page);
        }
        self.len = len;
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
        }
    }
}

impl Pager {
    /// See [`SpillBuffer::check_invariants`](crate::SpillBuffer::check_invariants).
    pub(crate) fn check_invariants(&mut self) {
        self.end_loan();
        let (len, page_size) = (self.len, self.core.page_size as u64);
        let (resident, spilled) = self.table(|table| {
            let (mut resident, mut spilled) = (0, 0);
            let mut slots = Vec::new();
            for (index, page) in table.pages() {
                let (valid, room, slot) = match page {
                    Page::Hole => continue,
                    Page::Resident(page) => (page.valid, page.frame.capacity(), page.slot),
                    Page::Spilled { slot, valid } => {
                        (*valid, usize::try_from(slot.len).unwrap(), Some(*slot))
                    }
                };
                assert!(valid <= room, "page {index}: {valid} bytes in {room}");
                let end = (index * page_size).saturating_add(valid as u64);
                assert!(valid == 0 || end <= len, "page {index}: content to {end}, past {len}");
                if let Page::Resident(page) = page {
                    resident += page.frame.capacity() as u64;
                    assert!(page.dirty || page.slot.is_some(), "I1: page {index} is clean and has no slot");
                }
                spilled += slot.map_or(0, |slot| slot.len);
                slots.extend(slot.map(|slot| (slot.offset, slot.len)));
            }
            slots.sort_unstable();
            assert!(slots.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0), "I1: slots overlap");
            (resident, spilled)
        });
        assert_eq!(resident, self.stats.bytes_resident, "I2: frames and their count");
        assert_eq!(spilled, self.stats.bytes_spilled, "I6: slots and their count");
        let memory = self.core.frames.budget();
        assert!(memory.high_water() <= memory.limit(), "I2: the budget was passed");
    }
}

/// Where a buffer's slots are.
fn store<'a>(core: &'a Core, own: Option<&'a OwnFile>) -> &'a dyn Store {
    own.map_or_else(|| core.disk.store(), OwnFile::store)
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.end_loan();
        let frame_bytes = self.table(Table::retire).unwrap_or_else(|| {
            self.truncate(0);
            0
        });
        if let Some(table) = self.table.take() {
            self.core.idle.keep(Kept { table, frame_bytes: frame_bytes as u64 }, &self.core.frames);
        }
    }
}

impl Medium for Pager {
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

    #[inline]
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, SpillError> {
        if self.write_window(&mut { offset }, data) {
            return Ok(data.len());
        }
        self.write_slow(offset, data)
    }

    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], SpillError> {
        self.end_loan();
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(&[]);
        }
        let span = self.span(offset, left);
        let (place, approach) = self.approach(offset, span);
        let lent = match place {
            Where::Spilled { valid, .. } if span.at < valid => {
                let scan = Approach { sequential: true, small: true, ..approach };
                if !self.load(span, scan)? {
                    let mut scratch = self.scratch;
                    let n = span.part.min(SCRATCH);
                    let n = self.read_direct(offset, &mut scratch[..n])?;
                    self.scratch = scratch;
                    return Ok(&self.scratch[..n]);
                }
                true
            }
            Where::Memory => true,
            Where::Spilled { .. } | Where::Hole => false,
        };
        let zeros = &ZEROS[..span.part.min(ZEROS.len())];
        if !lent {
            return Ok(zeros);
        }
        self.lent = self.table(|table| {
            table.focus(span.index);
            table.lend()
        });
        let held = self.lent.as_ref().map_or(&[][..], Window::content);
        match held.get(span.at..span.end().min(held.len())) {
            Some(held) if !held.is_empty() => Ok(held),
            _ => Ok(zeros),
        }
    }

    fn set_len(&mut self, len: u64) -> Result<(), SpillError> {
        if len < self.len {
            self.truncate(len);
        }
        self.len = len;
        Ok(())
    }
}
