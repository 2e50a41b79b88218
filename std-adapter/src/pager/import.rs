//! Import: bytes of a file become content, with no copy beside it.
//!
//! Promises:
//!
//! - What gets a frame is read into that. What goes to the disk is copied there by the store, if it can: a
//!   temp file lets the kernel do it.
//! - A long hole of the file becomes one of the content, where that ended before it.
//! - I3: what was counted as taken is in its place. Nothing else has changed.
//! - No step waits for room, and none is needed: for what has no such way, a piece is read and written as any
//!   other. So are pages that are in memory already, less than half a page, and whatever gets checksums on
//!   its way to the disk.
//!
//! Held by: `tests/tests/kernel_copies.rs`, `tests/tests/sparse_files.rs`.

use crate::disk::{holes, temp_file};
use crate::pager::residency::Admitted;
use crate::pager::span::{Pinned, Span};
use crate::pager::state::Pager;
use crate::pages::resident::Resident;
use std::fs::File;
use std::io;

/// The most bytes of one step.
const STEP_MAX: usize = 4 << 20;

/// The fewest bytes of a hole that is left out: those of shorter ones cost less than another step.
const HOLE_MIN: u64 = 64 << 10;

/// A file that is being imported.
pub(crate) struct Import<'a> {
    pub(crate) file: &'a File,
    /// The offset in the file of the next byte.
    pub(crate) at: u64,
    /// Bytes that the file seems to have from there on.
    left: u64,
    /// What lies before this offset is to be read, be it data or a hole. Not before `at`.
    data_end: u64,
    /// Whether the store may copy it: it has not refused yet, and nothing of it gets checksums.
    pub(crate) by_store: bool,
}

impl<'a> Import<'a> {
    /// The rest of a file from `at` on.
    pub(crate) fn new(file: &'a File, at: u64, by_store: bool) -> Self {
        let found = file.metadata().ok();
        let left = found.as_ref().map_or(0, |found| found.len().saturating_sub(at));
        let has_holes = found.as_ref().is_some_and(holes::may_have_holes);
        Import { file, at, left, data_end: if has_holes { at } else { u64::MAX }, by_store }
    }

    /// Bytes of the hole in which the next byte lies. 0 if that has fewer than [`HOLE_MIN`], or than a page.
    pub(crate) fn hole(&mut self, page_size: usize) -> u64 {
        let least = HOLE_MIN.max(page_size as u64);
        while self.data_end - self.at < STEP_MAX as u64 {
            let next = holes::next_data(self.file, self.data_end);
            let hole = next.map_or(0, |data| data - self.data_end);
            if hole >= least {
                return if self.data_end == self.at { hole } else { 0 };
            }
            let Some(end) = next.and_then(|data| holes::next_hole(self.file, data)) else {
                self.data_end = u64::MAX;
                break;
            };
            self.data_end = end;
        }
        0
    }

    /// Has the next `len` bytes read, also those in a hole.
    pub(crate) fn read_hole(&mut self, len: u64) {
        self.data_end = self.data_end.max(self.at.saturating_add(len));
    }

    /// The most bytes of the next step, which is to be of `most` at most.
    pub(crate) fn step(&self, most: usize) -> usize {
        usize::try_from(self.data_end - self.at).map_or(most, |data| data.min(most))
    }

    /// Reads the next bytes into `buf`, and returns how many: 0 at the end of the file.
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match temp_file::read_at(self.file, buf, self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Moves on by `taken` bytes.
    pub(crate) fn advance(&mut self, taken: u64) {
        self.at += taken;
        self.left = self.left.saturating_sub(taken);
        self.data_end = self.data_end.max(self.at);
    }
}

impl Pager {
    /// Takes bytes of a file as the content at `offset`, which is not past the end, and returns how many.
    /// None if they are to be read and written, or the file has no more.
    pub(crate) fn import(&mut self, offset: u64, import: &mut Import<'_>) -> io::Result<usize> {
        // The last position is none that a byte can have.
        let most = usize::try_from(import.left.min(u64::MAX - offset)).unwrap_or(usize::MAX);
        if most == 0 {
            return Ok(0);
        }
        self.try_table()?;
        let most = import.step(most.min(STEP_MAX));
        let taken = self.operate(|pager| pager.import_some(offset, most, import));
        if let Ok(taken @ 1..) = taken {
            import.advance(taken as u64);
            self.last_end = offset + taken as u64;
            self.len = self.len.max(self.last_end);
            self.requested.written += taken as u64;
            self.leave_queue();
        }
        taken
    }

    fn import_some(&mut self, offset: u64, most: usize, import: &mut Import<'_>) -> io::Result<usize> {
        let span = self.span(offset, most);
        let (page, access) = self.access(offset, span, most).map_err(io::Error::from)?;
        match page {
            Pinned::Memory => return Ok(0),
            // The file may end before what the page has in the base.
            Pinned::Hole if self.base_bytes(span.index) > 0 => return Ok(0),
            Pinned::Hole if span.at == 0 => {
                if let Some(admitted) = self.admit(span, 0, 1, access) {
                    return self.read_to_frame(admitted, span, import);
                }
            }
            Pinned::Hole | Pinned::Slot { .. } => {}
        }
        if !import.by_store || access.is_small {
            return Ok(0);
        }
        // Without room on the disk there may be some in memory, or the call waits: see writing.
        let Ok(run) = self.plan_run(offset, most) else { return Ok(0) };
        let copied = self.copy_store_from(run.offset, run.len, import.file, import.at);
        import.by_store = copied > 0;
        Ok(self.settle_run(&run, offset, copied))
    }

    /// Reads bytes of `span`, which is the beginning of a hole, into a frame, and makes that the window.
    fn read_to_frame(
        &mut self,
        Admitted { frame, stay }: Admitted,
        span: Span,
        import: &Import<'_>,
    ) -> io::Result<usize> {
        let mut page = Resident::fresh(frame);
        let len = page.frame.usable().min(span.part);
        match import.read(page.frame.first_mut(len)) {
            Ok(read @ 1..) => {
                page.len = read;
                // Without memory to note the page, the bytes are read again and written to the store.
                Ok(if self.open(span.index, page, stay) { read } else { 0 })
            }
            none => {
                self.give_back(page.into_frame());
                none
            }
        }
    }
}
