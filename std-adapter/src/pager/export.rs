//! The whole content of a buffer, for a file that it becomes.

use crate::disk::atomic_file::AtomicFile;
use crate::disk::temp_file;
use crate::error::SpillError;
use crate::pager::state::Pager;
use crate::sync::Arc;
use overspill_core::ReadMedium;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The most room to move a page through when there is no frame. It is beside the budget: 4 KiB would
/// be too, and cost sixteen times the system calls.
const BLOCK: usize = 64 << 10;

/// The error of a file that the content was being moved to.
pub(crate) fn target(path: &Path, source: io::Error) -> SpillError {
    SpillError::Target { path: PathBuf::from(path), source }
}

impl Pager {
    /// Makes the buffer's own file, if it has one, into the content, and puts it where `target_file` was
    /// to go. `None` if that cannot be done here.
    pub(crate) fn put_own_file(
        &mut self,
        target_file: &AtomicFile,
        path: &Path,
    ) -> Result<Option<File>, SpillError> {
        let failed = |source| target(path, source);
        let Some(own) = self.own().cloned() else { return Ok(None) };
        // What is in memory may be more than the disk limit allows; that is no limit on the target.
        if self.spill().is_err() {
            return Ok(None);
        }
        if self.has_sums() {
            // What lies in the file is handed over as it is: so it is looked at before.
            self.for_each_piece(|_, _| Ok(()))?;
            self.fit_sums()?; // what is behind the content is about to be cleared
        }
        let slack = self.slack();
        // A file that cannot be finished may still be read, and so copied.
        let finished = own.finish(self.len(), &slack).ok().flatten();
        let Some(file) = finished else { return Ok(None) };
        let handed_over = file.try_clone().map_err(failed)?;
        if target_file.commit_as(file).map_err(failed)?.is_none() {
            return Ok(None);
        }
        own.detach();
        Ok(Some(handed_over))
    }

    /// Writes the content to `file`, which is empty; `name` is for errors.
    pub(crate) fn copy_to(&mut self, file: &File, name: &Path) -> Result<(), SpillError> {
        file.set_len(self.len()).map_err(|source| target(name, source))?;
        self.for_each_piece(|at, piece| write_all_at(file, piece, at).map_err(|source| target(name, source)))
    }

    /// Shows the content of all pages in turn, in pieces, with the position of each.
    fn for_each_piece(
        &mut self,
        mut f: impl FnMut(u64, &[u8]) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        self.end_loan();
        let len = self.len();
        let pool = Arc::clone(&self.pool);
        let mut frame = pool.spare_frame(pool.page_size);
        let mut block = [0; BLOCK];
        let room = frame.as_mut().map_or(&mut block[..], |frame| frame.first_mut(pool.page_size));
        let mut from = 0;
        while let Some(index) = self.table(|table| table.next_page(from)) {
            let start = index * pool.page_size as u64;
            let end = len.min(start.saturating_add(pool.page_size as u64));
            let mut at = start;
            while at < end {
                let n = room.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let n = self.peek(at, &mut room[..n])?;
                f(at, &room[..n])?;
                at += n as u64;
            }
            from = index + 1;
        }
        if let Some(frame) = frame {
            pool.frames.recycle(frame);
        }
        Ok(())
    }
}

fn write_all_at(file: &File, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match temp_file::write_at(file, data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                data = &data[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
