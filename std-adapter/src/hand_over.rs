//! The whole content, handed to a file.

use crate::buffer::SpillBuffer;
use crate::error::{HandOverError, SpillError};
use crate::pager::Pager;
use crate::temp_file;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Room to move a page through when there is no frame.
const BLOCK: usize = 4096;

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
        match self.copy_to_named(path.as_ref()) {
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

    fn copy_to_named(&mut self, path: &Path) -> Result<File, SpillError> {
        let failed = |source| target(path, source);
        let position = self.position();
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        };
        let mut made = named_file(dir, path).map_err(failed)?;
        self.cursor.get_mut().copy_to(made.as_file(), path)?;
        made.as_file().sync_all().map_err(failed)?;
        made.as_file_mut().seek(SeekFrom::Start(position)).map_err(failed)?;
        let file = made.persist(path).map_err(|refused| failed(refused.error))?;
        sync_dir(dir).map_err(failed)?;
        Ok(file)
    }
}

/// A file in `dir` under a name that nobody knows, with the permissions that `path` is to have.
fn named_file(dir: &Path, path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".overspill-");
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
    /// Writes the content to `file`, which is empty; `name` is for errors.
    fn copy_to(&mut self, file: &File, name: &Path) -> Result<(), SpillError> {
        self.end_loan();
        let len = overspill_core::Medium::len(self);
        file.set_len(len).map_err(|source| target(name, source))?;
        let core = crate::sync::Arc::clone(&self.core);
        let mut frame = core.take_frame(core.page_size);
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
