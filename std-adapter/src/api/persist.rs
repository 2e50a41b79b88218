//! The whole content, handed to a file.

use crate::api::buffer::SpillBuffer;
use crate::api::pool::SpillPool;
use crate::disk::atomic_file::{AtomicFile, parent, sync_name};
use crate::disk::temp_file;
use crate::error::SpillError;
use crate::pager::export::target;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

impl SpillBuffer {
    /// Makes an unnamed file of the content, in the pool's directory, at the buffer's position. Holes
    /// stay holes.
    ///
    /// # Errors
    /// If the file cannot be made or written, or a page cannot be read back. The buffer is in the
    /// error, with all its bytes.
    pub fn into_file(mut self) -> Result<File, PersistError> {
        match self.copy_to_unnamed() {
            Ok(file) => Ok(file),
            Err(error) => Err(PersistError { error, buffer: self }),
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
    pub fn persist(mut self, path: impl AsRef<Path>) -> Result<File, PersistError> {
        match self.put_under(path.as_ref()) {
            Ok(file) => Ok(file),
            Err(error) => Err(PersistError { error, buffer: self }),
        }
    }

    fn copy_to_unnamed(&mut self) -> Result<File, SpillError> {
        let position = self.position();
        let pager = self.cursor.get_mut();
        let dir = pager.pool.dir.clone().unwrap_or_else(temp_file::default_dir);
        let made = temp_file::unnamed_file(&dir);
        let mut file = made.map_err(|source| SpillError::Directory { dir: dir.clone(), source })?;
        pager.copy_to(&file, &dir)?;
        file.seek(SeekFrom::Start(position)).map_err(|source| target(&dir, source))?;
        Ok(file)
    }

    fn put_under(&mut self, path: &Path) -> Result<File, SpillError> {
        let failed = |source| target(path, source);
        let position = self.position();
        let target_file = AtomicFile::create(path).map_err(failed)?;
        let pager = self.cursor.get_mut();
        let mut file = match pager.put_own_file(&target_file, path)? {
            Some(file) => file,
            None => {
                pager.copy_to(target_file.file(), path)?;
                target_file.commit().map_err(failed)?
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
    /// let mut upload = pool.buffer_for(&path);
    /// upload.write_all(&[7; 1_000_000])?;
    /// upload.persist(&path)?; // no second copy of what was spilled
    /// # assert_eq!(std::fs::read(&path)?, [7; 1_000_000]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn buffer_for(&self, path: impl AsRef<Path>) -> SpillBuffer {
        let mut buffer = self.buffer();
        buffer.cursor.get_mut().spill_to_own_file(parent(path.as_ref()));
        buffer
    }
}

/// The content could not be handed over: here it is again, whole.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct PersistError {
    /// What went wrong.
    #[source]
    pub error: SpillError,
    /// The buffer, with all its bytes and its position.
    pub buffer: SpillBuffer,
}

impl From<PersistError> for io::Error {
    fn from(failed: PersistError) -> Self {
        failed.error.into()
    }
}
