//! The whole content, handed to a file.

use crate::buffer::SpillBuffer;
use crate::error::{HandOverError, SpillError};
use crate::pager::Pager;
use crate::pool::SpillPool;
use crate::temp_file;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Room to move a page through when there is no frame.
const BLOCK: usize = 4096;

/// How the names begin that files have before they get their own.
const PREFIX: &str = ".overspill-";

impl SpillBuffer {
    /// Makes an unnamed file of the content, in the pool's directory, at the buffer's position. Holes
    /// stay holes.
    ///
    /// # Errors
    /// If the file cannot be made or written, or a page cannot be read back. The buffer is in the
    /// error, with all its bytes.
    #[expect(clippy::result_large_err, reason = "the error is the buffer itself, moved and not copied")]
    pub fn into_file(mut self) -> Result<File, HandOverError> {
        match self.copy_to_unnamed() {
            Ok(file) => Ok(file),
            Err(error) => Err(HandOverError { error, buffer: self }),
        }
    }

    /// Puts the content under the name `path`, whole or not at all: it is written to a file without
    /// that name, synced, and renamed; what stood under the name is replaced in one step. Returns
    /// the file, open for reading and writing at the buffer's position.
    ///
    /// A file that is replaced passes on its permissions; a new one gets the usual ones for a new
    /// file. If `path` is a symbolic link, the link is replaced, not its target.
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
    /// buffer is in the error, with all its bytes.
    #[expect(clippy::result_large_err, reason = "the error is the buffer itself, moved and not copied")]
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
        let dir = directory_of(path);
        let copy = named_file(dir, path).map_err(failed)?;
        let pager = self.cursor.get_mut();
        let mut made = match pager.link_own_file(dir, path, &copy)? {
            Some(linked) => linked,
            None => {
                pager.copy_to(copy.as_file(), path)?;
                copy
            }
        };
        made.as_file().sync_all().map_err(failed)?;
        made.as_file_mut().seek(SeekFrom::Start(position)).map_err(failed)?;
        let file = made.persist(path).map_err(|refused| failed(refused.error))?;
        if let Some(own) = pager.own_file() {
            own.let_go();
        }
        sync_dir(dir).map_err(failed)?;
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
        buffer.cursor.get_mut().spill_beside(directory_of(path.as_ref()));
        buffer
    }
}

/// The directory that `path` lies in.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

/// A file in `dir` under a name that nobody knows, with the permissions that `path` is to have.
fn named_file(dir: &Path, path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask takes its part of it when the file is made.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let made = builder.tempfile_in(dir)?;
    if let Ok(replaced) = std::fs::metadata(path) {
        made.as_file().set_permissions(replaced.permissions())?;
    }
    Ok(made)
}

/// Makes a rename in `dir` durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

fn target(path: &Path, source: io::Error) -> SpillError {
    SpillError::Target { path: PathBuf::from(path), source }
}

impl Pager {
    /// Makes the buffer's own file, if it has one, into the content, and gives it a name in `dir` that
    /// nobody knows, with the permissions of `model`. `None` if that cannot be done here.
    fn link_own_file(
        &mut self,
        dir: &Path,
        path: &Path,
        model: &tempfile::NamedTempFile,
    ) -> Result<Option<tempfile::NamedTempFile>, SpillError> {
        let failed = |source| target(path, source);
        let Some(own) = self.own_file() else { return Ok(None) };
        self.spill()?;
        let slack = self.slack();
        let Some(file) = own.finish(overspill_core::Medium::len(self), &slack).map_err(failed)? else {
            return Ok(None);
        };
        let permissions = model.as_file().metadata().map_err(failed)?.permissions();
        file.set_permissions(permissions).map_err(failed)?;
        // Another file system, or one that cannot name what was made without a name: copied instead.
        Ok(link(file, dir).ok())
    }

    /// Writes the content to `file`, which is empty; `name` is for errors.
    fn copy_to(&mut self, file: &File, name: &Path) -> Result<(), SpillError> {
        self.end_loan();
        let len = overspill_core::Medium::len(self);
        file.set_len(len).map_err(|source| target(name, source))?;
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
                write_all_at(file, &room[..n], at).map_err(|source| target(name, source))?;
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

/// Gives an unnamed file a name in `dir`.
#[cfg(target_os = "linux")]
fn link(file: &File, dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    tempfile::Builder::new().prefix(PREFIX).make_in(dir, |name| {
        linkat(CWD, &unnamed, CWD, name, AtFlags::SYMLINK_FOLLOW)?;
        file.try_clone()
    })
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<tempfile::NamedTempFile> {
    Err(io::ErrorKind::Unsupported.into())
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
