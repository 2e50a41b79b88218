//! The whole content, handed to a file.

use crate::buffer::SpillBuffer;
use crate::error::{HandOverError, SpillError};
use crate::in_place::{Coming, parent, sync_name};
use crate::pager::Pager;
use crate::pool::SpillPool;
use crate::temp_file;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The most room to move a page through when there is no frame. It is beside the budget: 4 KiB would
/// be too, and cost sixteen times the system calls.
const BLOCK: usize = 64 << 10;

impl SpillBuffer {
    /// Makes an unnamed file of the content, in the pool's directory, at the buffer's position. Holes
    /// stay holes.
    ///
    /// # Errors
    /// If the file cannot be made or written, or a page cannot be read back. The buffer is in the
    /// error, with all its bytes.
    pub fn into_file(mut self) -> Result<File, HandOverError> {
        match self.copy_to_unnamed() {
            Ok(file) => Ok(file),
            Err(error) => Err(HandOverError { error, buffer: self }),
        }
    }

    /// Puts the content under the name `path`, whole or not at all: it is written to a file without
    /// that name, synced, and given the name; what stood under the name is replaced in one step. Returns
    /// the file, open for reading and writing at the buffer's position.
    ///
    /// A file that is replaced passes on its permissions, and its owner and group as far as the
    /// system allows; a new one gets the usual ones for a new file. If `path` is a symbolic link,
    /// the link is replaced, not its target.
    ///
    /// Until then the new file has no name where the platform can make such a file (Linux, on most
    /// file systems): nothing is left of it if the process is killed. Elsewhere it is hidden under a
    /// name beside `path` that begins with `.overspill-`.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Write;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let mut report = SpillBuffer::new();
    /// report.write_all(b"all of it")?;
    /// report.persist(dir.path().join("report.txt"))?;
    /// assert_eq!(std::fs::read(dir.path().join("report.txt"))?, b"all of it");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the file cannot be made, written, synced or renamed, or a page cannot be read back. The
    /// buffer is in the error, with all its bytes. One error comes late: if only the directory cannot
    /// be synced, the whole content has the name already, but a crash of the machine may undo that.
    pub fn persist(mut self, path: impl AsRef<Path>) -> Result<File, HandOverError> {
        match self.put_under(path.as_ref()) {
            Ok(file) => Ok(file),
            Err(error) => Err(HandOverError { error, buffer: self }),
        }
    }

    fn copy_to_unnamed(&mut self) -> Result<File, SpillError> {
        let position = self.position();
        let pager = self.cursor.get_mut();
        let dir = pager.core.dir.clone().unwrap_or_else(temp_file::default_dir);
        let made = temp_file::unnamed_file(&dir);
        let mut file = made.map_err(|source| SpillError::Directory { dir: dir.clone(), source })?;
        pager.copy_to(&file, &dir)?;
        file.seek(SeekFrom::Start(position)).map_err(|source| target(&dir, source))?;
        Ok(file)
    }

    fn put_under(&mut self, path: &Path) -> Result<File, SpillError> {
        let failed = |source| target(path, source);
        let position = self.position();
        let coming = Coming::to(path).map_err(failed)?;
        let pager = self.cursor.get_mut();
        let mut file = match pager.put_own_file(&coming, path)? {
            Some(file) => file,
            None => {
                pager.copy_to(coming.file(), path)?;
                coming.arrive().map_err(failed)?
            }
        };
        sync_name(path).map_err(failed)?;
        file.seek(SeekFrom::Start(position)).map_err(failed)?;
        Ok(file)
    }
}

impl SpillPool {
    /// An empty buffer that is meant to be [persisted](SpillBuffer::persist) as `path`: what it spills
    /// goes to an unnamed file of its own in that directory, each byte to its final place, so that
    /// persisting writes what is still in memory and gives the file its name, instead of copying.
    ///
    /// It can be persisted elsewhere, or not at all, like any other buffer. Its pages count against
    /// the memory budget and the disk limit of the pool. Linking takes a file system with
    /// `O_TMPFILE`, as Linux's usual ones; on others the content is copied.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::Write;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("upload.bin");
    /// let pool = SpillPool::builder().memory(64 << 10).build()?;
    /// let mut upload = pool.buffer_beside(&path);
    /// upload.write_all(&[7; 1_000_000])?;
    /// upload.persist(&path)?; // no second copy of what was spilled
    /// # assert_eq!(std::fs::read(&path)?, [7; 1_000_000]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn buffer_beside(&self, path: impl AsRef<Path>) -> SpillBuffer {
        let mut buffer = self.buffer();
        buffer.cursor.get_mut().spill_beside(parent(path.as_ref()));
        buffer
    }
}

fn target(path: &Path, source: io::Error) -> SpillError {
    SpillError::Target { path: PathBuf::from(path), source }
}

impl Pager {
    /// Makes the buffer's own file, if it has one, into the content, and puts it where `coming` was
    /// to go. `None` if that cannot be done here.
    fn put_own_file(&mut self, coming: &Coming, path: &Path) -> Result<Option<File>, SpillError> {
        let failed = |source| target(path, source);
        let Some(own) = self.own_file() else { return Ok(None) };
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
        let finished = own.finish(overspill_core::ReadMedium::len(self), &slack).ok().flatten();
        let Some(file) = finished else { return Ok(None) };
        let handed_over = file.try_clone().map_err(failed)?;
        if coming.arrive_as(file).map_err(failed)?.is_none() {
            return Ok(None);
        }
        own.let_go();
        Ok(Some(handed_over))
    }

    /// Writes the content to `file`, which is empty; `name` is for errors.
    fn copy_to(&mut self, file: &File, name: &Path) -> Result<(), SpillError> {
        file.set_len(overspill_core::ReadMedium::len(self)).map_err(|source| target(name, source))?;
        self.for_each_piece(|at, piece| write_all_at(file, piece, at).map_err(|source| target(name, source)))
    }

    /// Shows the content of all pages in turn, in pieces, with the position of each.
    fn for_each_piece(
        &mut self,
        mut f: impl FnMut(u64, &[u8]) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        self.end_loan();
        let len = overspill_core::ReadMedium::len(self);
        let core = crate::sync::Arc::clone(&self.core);
        let mut frame = core.spare_frame(core.page_size);
        let mut block = [0; BLOCK];
        let room = frame.as_mut().map_or(&mut block[..], |frame| frame.first_mut(core.page_size));
        let mut from = 0;
        while let Some(index) = self.table(|table| table.next_page(from)) {
            let start = index * core.page_size as u64;
            let end = len.min(start.saturating_add(core.page_size as u64));
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
            core.frames.recycle(frame);
        }
        Ok(())
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, data, offset)?;
        data = &data[n..];
        offset += n as u64;
    }
    Ok(())
}
