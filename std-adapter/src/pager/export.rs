//! Export: the whole content of a buffer becomes a file.
//!
//! Promises:
//!
//! - A buffer whose own file can become the target is not copied, except for what is in memory.
//! - With checksums, no content that does not match its sum becomes a file (I9).
//! - On an error the buffer is whole (I3). Holes are not written.
//!
//! Held by: `tests/tests/hand_over.rs`, `tests/tests/checksums/export.rs`, `tests/tests/spill_faults`.

use crate::disk::atomic_file::AtomicFile;
use crate::disk::temp_file;
use crate::error::SpillError;
use crate::pager::content::Content;
use crate::pager::state::Pager;
use crate::sync::Arc;
use overspill_core::ReadMedium;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes on the stack to copy pages through when the pool has no spare frame. They are not charged to the
/// memory limit. 4 KiB would not be either, and would take sixteen times as many system calls.
const COPY_BLOCK: usize = 64 << 10;

/// A failed operation on the target file, as a [`SpillError`].
pub(crate) fn target(path: &Path, source: io::Error) -> SpillError {
    SpillError::Target { path: PathBuf::from(path), source }
}

/// Moves the position of `file`, which is `name` in errors. A file system limits positions, and a buffer does not.
pub(crate) fn seek_to(mut file: &File, position: u64, name: &Path) -> Result<(), SpillError> {
    // Whatever the system says of it: Windows has no kind of error for that.
    let kind = |source: &io::Error| match i64::try_from(position) {
        Ok(_) => source.kind(),
        Err(_) => io::ErrorKind::InvalidInput,
    };
    let at =
        |source: io::Error| target(name, io::Error::new(kind(&source), InvalidPosition { position, source }));
    file.seek(SeekFrom::Start(position)).map(drop).map_err(at)
}

/// The buffer's position is none that the file could have.
#[derive(Debug, thiserror::Error)]
#[error("a file there cannot be at the buffer's position {position}; rewind the buffer")]
struct InvalidPosition {
    position: u64,
    source: io::Error,
}

impl Pager {
    /// Completes the buffer's own file, if it has one, and commits it in place of `target_file`, positioned at
    /// `position`. `None` if the buffer has no own file or it cannot be used; the caller copies then.
    pub(crate) fn put_own_file(
        &mut self,
        target_file: &AtomicFile,
        path: &Path,
        position: u64,
    ) -> Result<Option<File>, SpillError> {
        let failed = |source| target(path, source);
        let Some(own) = self.own().cloned() else { return Ok(None) };
        // The pages in memory may not fit below the disk limit, which does not apply to the target: copy
        // instead.
        if self.spill().is_err() {
            return Ok(None);
        }
        if self.has_sums() {
            // The file becomes the target as it is, so check all of it before.
            self.for_each_piece(|_, _| Ok(()))?;
            self.fit_sums()?; // `finish` clears what lies past the content, which sums may cover
        }
        let slack = self.slack();
        // A file that cannot be completed may still be readable: copy instead.
        let finished = own.finish(self.len(), &slack).ok().flatten();
        let Some(file) = finished else { return Ok(None) };
        let handed_over = file.try_clone().map_err(failed)?;
        seek_to(&handed_over, position, path)?;
        if target_file.commit_as(file).map_err(failed)?.is_none() {
            return Ok(None);
        }
        own.detach();
        Ok(Some(handed_over))
    }

    /// Writes the content to `file`, which is empty, and sets its length. `name` is its path in errors.
    pub(crate) fn copy_to(&mut self, file: &File, name: &Path) -> Result<(), SpillError> {
        file.set_len(self.len()).map_err(|source| target(name, source))?;
        self.for_each_piece(|at, piece| write_all_at(file, piece, at).map_err(|source| target(name, source)))
    }

    /// Calls `f` with the content of all pages that are not holes, in order and in pieces, and with the
    /// position of each piece. Stops at the first error. Moves no page.
    fn for_each_piece(
        &mut self,
        f: impl FnMut(u64, &[u8]) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        self.end_loan();
        let pool = Arc::clone(&self.pool);
        let mut frame = pool.spare_frame(pool.page_size);
        let mut block = [0; COPY_BLOCK];
        let room = frame.as_mut().map_or(&mut block[..], |frame| frame.first_mut(pool.page_size));
        let done = self.read_pieces(room, f);
        frame.into_iter().for_each(|frame| pool.frames.recycle(frame));
        pool.tell_waiters();
        done
    }

    /// As [`for_each_piece`](Pager::for_each_piece), through `room`.
    fn read_pieces(
        &mut self,
        room: &mut [u8],
        mut f: impl FnMut(u64, &[u8]) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        let (len, page_size) = (self.len(), self.pool.page_size as u64);
        let mut from = 0;
        while let Some(index) = self.table(|table| table.next_page(from)) {
            let start = index * page_size;
            let end = len.min(start.saturating_add(page_size));
            let mut at = start;
            while at < end {
                let n = room.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let n = self.peek(at, &mut room[..n])?;
                f(at, &room[..n])?;
                at += n as u64;
            }
            from = index + 1;
        }
        Ok(())
    }
}

impl Content {
    /// Writes the bytes of `range` to `file`, which is empty, from 0 on, and sets its length. `name` is its path in errors.
    /// Holes are not written, and other handles read on meanwhile.
    pub(crate) fn copy_range_to(
        &self,
        range: Range<u64>,
        file: &File,
        name: &Path,
    ) -> Result<(), SpillError> {
        self.locked(|state| state.check_kept(range.start))?;
        file.set_len(range.end - range.start).map_err(|source| target(name, source))?;
        let page_size = self.pool.page_size as u64;
        let mut block = vec![0; self.pool.page_size.min(COPY_BLOCK)];
        let mut at = range.start;
        while at < range.end {
            let next = self.with_pager(|pager| pager.table(|table| table.next_page(at / page_size)));
            let Some(index) = next else { break };
            let from = at.max(index * page_size);
            let end = range.end.min((index * page_size).saturating_add(page_size));
            let len = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX).min(block.len());
            let read = if len > 0 { self.read_at(from, &mut block[..len])? } else { break };
            write_all_at(file, &block[..read], from - range.start).map_err(|source| target(name, source))?;
            at = from + read as u64;
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
