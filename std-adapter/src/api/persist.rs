//! Turning the content of a buffer into a file.
//!
//! Promises:
//!
//! - The name is on the whole content or on nothing new, whatever ends the process.
//! - An error means that no name has changed. It returns the buffer, with all its bytes and its position, and
//!   the buffer works on.
//! - Once the name has changed, the call succeeds. What may fail is done before, but for the sync of the
//!   directory: [`Persisted`] says whether that has failed.
//! - Nothing else here makes anything durable: [`into_file`](SpillBuffer::into_file) does not sync.
//!
//! Held by: `tests/tests/hand_over.rs`, `tests/tests/leftovers.rs`, `tests/tests/real_faults.rs`,
//! `tests/tests/refused_calls.rs`.

use crate::api::buffer::SpillBuffer;
use crate::api::persisted::Persisted;
use crate::api::pool::SpillPool;
use crate::disk::atomic_file::{AtomicFile, Existing};
use crate::disk::name_sync::{NameSync, parent};
use crate::disk::temp_file::{self, NoTempFile};
use crate::error::SpillError;
use crate::error::text::write_sources;
use crate::pager::export::{seek_to, target};
use crate::pool::state::PoolState;
use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

impl SpillBuffer {
    /// Copies the content to an unnamed file in the pool's directory, and returns the file, positioned at the
    /// buffer's position.
    ///
    /// Holes stay holes. The file is not synced. On Linux and Android the kernel copies what is spilled,
    /// unless it has [checksums](crate::Checksums). Meanwhile up to 64 KiB of memory are in use that no limit
    /// counts.
    ///
    /// # Windows
    /// The file has a name for as long as it is open, and no other process can open it. Holes
    /// take room on the disk.
    ///
    /// # Errors
    /// If the file cannot be made or written, if it cannot be as long as the content or at the buffer's
    /// position (file systems limit both; no file is longer than `i64::MAX`), or if a page cannot be read
    /// back. The error holds the buffer, with all its bytes.
    pub fn into_file(mut self) -> Result<File, PersistError> {
        let copied = self.write_unnamed();
        copied.map_err(|error| PersistError::new(error, self))
    }

    /// Saves the content as the file `path`, whole or not at all. In a function that returns an
    /// [`io::Error`], it is used as `persist(path).map_err(PersistError::into_error)?`: see
    /// [`PersistError`](PersistError#the-question-mark).
    ///
    /// The content is written to a file without that name, synced, and then given the name; an existing file
    /// is replaced in one step. Then the directory is synced, so that the name survives a crash of the
    /// machine; [`Persisted`] holds the file, open for reading and writing at the buffer's position, and says
    /// whether that sync succeeded. A directory that the process may write to and not read cannot be synced
    /// by itself: Linux then syncs all of its file system, which those of FUSE may pass over, and on other
    /// systems the name is not known to be durable.
    ///
    /// | `path` was | the new file gets |
    /// |---|---|
    /// | free | the usual permissions of a new file |
    /// | a regular file | its permissions; its owner and group as far as the system allows; on Linux its access control list |
    /// | one whose group cannot be kept | for the new group and all others, only the rights that the old group and all others both had |
    /// | one whose list cannot be kept (such as those of NFS 4), or is not shown by the system | rights for the owner alone |
    /// | one with a list, on another system than Linux | no list, and what the mode says |
    /// | one with other hard links, extended attributes or security labels | none of them: its other names keep the old content |
    /// | one with set-ID bits | those, if it had the owner and group of this process |
    /// | one on a system that cannot change modes | no permission that the old file did not have, or the call fails |
    /// | a symbolic link | the usual permissions: the link is replaced, and nothing is taken over from its target |
    /// | a directory, device, FIFO or socket | nothing: that is an error |
    ///
    /// What changes there while the content is written and synced counts as if it had been so before, but for
    /// a file that is removed or becomes a link: what it granted stays taken over. The last look comes some
    /// microseconds before the file gets its name.
    ///
    /// The call takes as long as the disk needs to write and sync what is not there yet, and cannot be
    /// interrupted. What bounds it is the length of the content: see
    /// [`BufferBuilder::disk`](crate::BufferBuilder::disk). A buffer that spills [beside its
    /// file](SpillPool::buffer_for) has only what is in memory left to write. Meanwhile up to 64 KiB
    /// of memory are in use that no limit counts.
    ///
    /// Where the platform can make unnamed files (Linux, on most file systems), the new file has no name
    /// until it is complete, and a killed process leaves nothing. In the microseconds in which an existing
    /// file is replaced, and elsewhere for as long as it is written, the new file has a hidden name beside
    /// `path` that begins with `.overspill-`; a process that is killed then may leave it there. On Unix the
    /// next `persist` of the same `path` removes such a file, unless a living process still has it locked
    /// (`flock`).
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Write;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let dir = tempfile::tempdir()?;
    /// let mut report = SpillBuffer::new();
    /// report.write_all(b"all of it")?;
    /// report.persist(dir.path().join("report.txt"))?.durable()?;
    /// assert_eq!(std::fs::read(dir.path().join("report.txt"))?, b"all of it");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Windows
    /// A file that is read-only, or that some process has open, cannot be replaced: that is an error, and
    /// both it and the buffer are as they were. The new file gets the usual permissions, and holes take room
    /// on the disk. The file is synced, its new name is not: Windows has no call for that.
    ///
    /// # Errors
    /// If the file cannot be made, written, synced or renamed, if it cannot be as long as the content or at
    /// the buffer's position (file systems limit both; no file is longer than `i64::MAX`), or if a page
    /// cannot be read back; of kind `ResourceBusy` if the mode or owner of an existing file changes all the
    /// time. No name has changed then, and the error holds the buffer, with all its bytes, to be used on.
    pub fn persist(self, path: impl AsRef<Path>) -> Result<Persisted, PersistError> {
        self.persist_over(path.as_ref(), Existing::Replaced)
    }

    /// Like [`persist`](SpillBuffer::persist), but never replaces anything: an existing file, directory or
    /// link stays as it is.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::ErrorKind;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("taken");
    /// std::fs::write(&path, "first")?;
    /// let refused = SpillBuffer::from(&b"second"[..]).persist_noclobber(&path).unwrap_err();
    /// assert_eq!(refused.error().kind(), ErrorKind::AlreadyExists);
    /// refused.into_buffer().persist_noclobber(path.with_extension("1"))?.durable()?;
    /// # assert_eq!(std::fs::read(&path)?, b"first");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`persist`](SpillBuffer::persist), and of kind `AlreadyExists` if the name exists, even if it came
    /// to exist only while the content was being written.
    pub fn persist_noclobber(self, path: impl AsRef<Path>) -> Result<Persisted, PersistError> {
        self.persist_over(path.as_ref(), Existing::Kept)
    }

    fn persist_over(mut self, path: &Path, existing: Existing) -> Result<Persisted, PersistError> {
        let persisted = self.write_named(path, existing);
        persisted.map_err(|error| PersistError::new(error, self))
    }

    fn write_unnamed(&mut self) -> Result<File, SpillError> {
        let (file, dir) = unnamed(&self.pager.pool)?;
        self.pager.copy_to(&file, &dir)?;
        seek_to(&file, self.position, &dir)?;
        Ok(file)
    }

    pub(crate) fn write_named(&mut self, path: &Path, existing: Existing) -> Result<Persisted, SpillError> {
        let (position, pager) = (self.position, RefCell::new(&mut self.pager));
        save(
            path,
            existing,
            position,
            |target_file| pager.borrow_mut().put_own_file(target_file, path, position),
            |file, name| pager.borrow_mut().copy_to(file, name),
        )
    }
}

/// Makes an unnamed file in the directory of `pool`, which is returned too.
pub(crate) fn unnamed(pool: &PoolState) -> Result<(File, PathBuf), SpillError> {
    temp_file::make_in(pool.dir.as_deref())
        .map_err(|NoTempFile { dir, source }| SpillError::Directory { dir, source })
}

/// Makes the file `path`, positioned at `position`: by `put`, which may have a file that only needs a name,
/// or else by `copy`, which writes the content.
///
/// Everything that may fail comes before the name changes, which is the last step of either commit.
pub(crate) fn save(
    path: &Path,
    existing: Existing,
    position: u64,
    put: impl FnOnce(&mut AtomicFile) -> Result<Option<File>, SpillError>,
    mut copy: impl FnMut(&File, &Path) -> Result<(), SpillError>,
) -> Result<Persisted, SpillError> {
    let failed = |source| target(path, source);
    let mut target_file = AtomicFile::create(path, existing).map_err(failed)?;
    let name = NameSync::open(path).map_err(failed)?;
    // `None` if the file has no name and cannot be linked.
    let mut commit_copy = |target_file: AtomicFile| {
        copy(target_file.file(), path)?;
        seek_to(target_file.file(), position, path)?;
        target_file.commit().map_err(failed)
    };
    let file = match put(&mut target_file)? {
        Some(file) => file,
        None => match commit_copy(target_file)? {
            Some(file) => file,
            // The content is written a second time: to a file that has a name to be renamed.
            None => {
                let hidden = AtomicFile::create_hidden(path, existing).map_err(failed)?;
                commit_copy(hidden)?.ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?
            }
        },
    };
    let synced = name.sync(path, &file);
    Ok(Persisted::new(file, path, synced))
}

impl SpillPool {
    /// Makes an empty buffer that is meant to be [persisted](SpillBuffer::persist) as `path`.
    ///
    /// It spills to an unnamed file of its own in the directory of `path`, each byte to its final place.
    /// Persisting then writes only what is still in memory, and names the file. Nothing is copied, if the
    /// disk limit has room for what is in memory. A relative path is resolved now.
    ///
    /// It can be persisted elsewhere, or not at all, like any other buffer. Its pages count against the
    /// memory limit and the disk limit of the pool; [`BufferBuilder::file`](crate::BufferBuilder::file) sets
    /// limits of its own. Naming an unnamed file needs a file system with `O_TMPFILE`, as Linux's usual ones
    /// have; on others the content is copied. On Windows a gap in what was spilled takes room in the file.
    /// Dropping it without persisting it frees the file's blocks at once, which takes the file system some 60
    /// ms for a gigabyte.
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
    /// upload.persist(&path)?.durable()?; // no second copy of what was spilled
    /// # assert_eq!(std::fs::read(&path)?, [7; 1_000_000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn buffer_for(&self, path: impl AsRef<Path>) -> SpillBuffer {
        let mut buffer = self.buffer();
        buffer.pager.spill_to_own_file(parent(path.as_ref()));
        buffer
    }
}

/// The content could not become a file. Holds the buffer, with all its bytes and its position. No name has
/// changed, and the buffer works on. `{}` prints no more than that; `{:#}` adds which file, and the reason.
///
/// # The question mark
///
/// The operator `?` does not turn this error, or `AsyncPersistError`, into an [`io::Error`]. That would drop
/// the buffer, whose content a program often wants to save elsewhere.
/// [`into_buffer`](PersistError::into_buffer) keeps the content, and [`into_error`](PersistError::into_error)
/// drops it. `IntoInnerError` and `FinishError`, of the async forms, do turn into an `io::Error`, as
/// [std's](io::IntoInnerError) does, and drop the content.
///
/// `?` does turn it into a `Box<dyn Error>`, and into the errors of anyhow and others that take any error.
/// These keep the buffer, and the memory and disk that it uses, until they are dropped: an error that is kept
/// for long is better made of `into_error`.
///
/// ```compile_fail,E0277
/// fn save(buffer: overspill::SpillBuffer) -> std::io::Result<()> {
///     buffer.persist("report.txt")?.durable()?;
///     Ok(())
/// }
/// ```
///
/// ```
/// fn save(buffer: overspill::SpillBuffer) -> std::io::Result<()> {
///     buffer.persist("no/such/directory/report.txt").map_err(|failed| failed.into_error())?.durable()?;
///     Ok(())
/// }
/// assert_eq!(save(overspill::SpillBuffer::new()).unwrap_err().kind(), std::io::ErrorKind::NotFound);
/// ```
pub struct PersistError {
    /// Boxed, so that a `Result` with it is small.
    parts: Box<(SpillError, SpillBuffer)>,
}

impl PersistError {
    fn new(error: SpillError, buffer: SpillBuffer) -> Self {
        PersistError { parts: Box::new((error, buffer)) }
    }

    /// What went wrong.
    #[must_use]
    pub fn error(&self) -> &SpillError {
        &self.parts.0
    }

    /// The buffer.
    #[must_use]
    pub fn buffer(&self) -> &SpillBuffer {
        &self.parts.1
    }

    /// Returns the buffer, to be persisted elsewhere or read.
    #[must_use]
    pub fn into_buffer(self) -> SpillBuffer {
        self.parts.1
    }

    /// Returns what went wrong. Drops the buffer, and its content with it.
    #[must_use]
    pub fn into_error(self) -> SpillError {
        self.parts.0
    }

    /// Returns what went wrong, and the buffer.
    #[must_use]
    pub fn into_parts(self) -> (SpillError, SpillBuffer) {
        *self.parts
    }
}

/// `{error:#}` adds the sources.
impl fmt::Display for PersistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the content could not become a file; the buffer still has it")?;
        write_sources(self, f)
    }
}

impl fmt::Debug for PersistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (error, buffer) = &*self.parts;
        f.debug_struct("PersistError").field("error", error).field("buffer", buffer).finish()
    }
}

impl std::error::Error for PersistError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.error())
    }
}
