//! Import: bytes of a file become content, with no copy beside it.
//!
//! Promises:
//!
//! - What gets a frame is read into that. What goes to the disk is copied there by the store, if it can: a
//!   temp file lets the kernel do it.
//! - I3: what was counted as taken is in its place. Nothing else has changed.
//! - No step waits for room, and none is needed: for what has no such way, a piece is read and written as any
//!   other. So are pages that are in memory already, less than half a page, and whatever gets checksums on
//!   its way to the disk.
//!
//! Held by: `tests/tests/kernel_copies.rs`.

use crate::disk::temp_file;
use crate::pager::residency::Admitted;
use crate::pager::span::{Pinned, Span};
use crate::pager::state::Pager;
use crate::pages::resident::Resident;
use std::fs::File;
use std::io;

/// The most bytes of one step.
const STEP_MAX: usize = 4 << 20;

/// A file that is being imported.
pub(crate) struct Import<'a> {
    pub(crate) file: &'a File,
    /// The offset in the file of the next byte.
    pub(crate) at: u64,
    /// Bytes that the file seems to have from there on.
    pub(crate) left: u64,
    /// Whether the store may copy it: it has not refused yet, and nothing of it gets checksums.
    pub(crate) by_store: bool,
}

impl Import<'_> {
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
    pub(crate) fn advance(&mut self, taken: usize) {
        self.at += taken as u64;
        self.left = self.left.saturating_sub(taken as u64);
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
        let taken = self.operate(|pager| pager.import_some(offset, most.min(STEP_MAX), import));
        if let Ok(taken @ 1..) = taken {
            import.advance(taken);
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
