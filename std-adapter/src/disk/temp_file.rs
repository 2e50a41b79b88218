//! The store that spills to disk: one unnamed temp file.
//!
//! Promises:
//!
//! - I7: the file has no name and mode 0600, and its blocks are gone when the process is, however it
//!   ends. On Windows it has a name, but nobody else can open it, and the system deletes it with its
//!   last handle.
//! - Nothing is opened before the first byte is spilled, and what failed then is tried again the
//!   next time.
//! - Without a directory of the caller's choice, the file is on a disk if any of the usual
//!   directories is: a temp directory in RAM (tmpfs) would hold in memory what left it.

use crate::disk::store::Store;
use crate::sync::{Mutex, OnceLock, lock};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A store in an unnamed temp file, made when the first page is spilled.
///
/// # Security
///
/// The file is made with `O_TMPFILE` where the platform has it, and removed at once elsewhere;
/// nobody else can open it. Windows removes no file that is open: there it can be seen in its directory,
/// but is opened for this process alone. What was spilled is not overwritten
/// when it is freed, and may be read from the raw disk later.
///
/// # Resource leaking
///
/// None: the kernel frees the file with its last descriptor, after SIGKILL too, as Windows does with its
/// last handle. A child process that inherits no descriptors (std closes its files on exec) does not keep
/// it alive.
#[derive(Debug)]
pub struct TempFileStore {
    /// The caller's choice.
    dir: Option<PathBuf>,
    file: OnceLock<File>,
    /// Held while the file is made, so that two threads do not make two.
    making: Mutex<()>,
}

/// The source of the error of a store that could not make its file.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a temp file in {}: {source}", dir.display())]
pub(crate) struct NoTempFile {
    pub(crate) dir: PathBuf,
    pub(crate) source: io::Error,
}

impl TempFileStore {
    /// A store in the usual temp directory, or in the next one that is on a disk: the directory that
    /// `TMPDIR` names (or `/tmp`), `/var/tmp`, `/usr/tmp`, the current one. If none is, the first
    /// that exists. On Windows it is always the system's temp directory.
    #[must_use]
    pub fn new() -> Self {
        TempFileStore { dir: None, file: OnceLock::new(), making: Mutex::new(()) }
    }

    /// A store in `dir`, wherever that is. It need not exist before the first byte is spilled.
    #[must_use]
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        TempFileStore { dir: Some(dir.into()), ..TempFileStore::new() }
    }

    pub(crate) fn file(&self) -> io::Result<&File> {
        match self.file.get() {
            Some(file) => Ok(file),
            None => self.make(),
        }
    }

    /// Whether there is a file yet.
    pub(crate) fn is_made(&self) -> bool {
        self.file.get().is_some()
    }

    #[cold]
    fn make(&self) -> io::Result<&File> {
        let _making = lock(&self.making);
        if self.file.get().is_none() {
            let dir = self.dir.clone().unwrap_or_else(default_dir);
            let made = unnamed_file(&dir)
                .map_err(|source| io::Error::new(source.kind(), NoTempFile { dir: dir.clone(), source }))?;
            let _ = self.file.set(made);
        }
        self.file.get().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Default for TempFileStore {
    fn default() -> Self {
        TempFileStore::new()
    }
}

impl Store for TempFileStore {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        read_at(self.file()?, buf, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        write_at(self.file()?, data, offset)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn write_vectored_at(&self, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self.file()?, parts, offset)?)
    }

    /// Punches a hole, where the platform and the file system can.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let file = self.file()?;
            Ok(rustix::io::retry_on_intr(|| fallocate(file, flags, offset, len))?)
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            let _ = (offset, len);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file()?.set_len(len)
    }
}

// A file's positioned calls, as each platform has them. On Windows they move the file's position too. std's
// are not stable on WASI; its system calls are those of Unix.

#[cfg(unix)]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

#[cfg(target_os = "wasi")]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pread(file, buf, offset)?)
}

#[cfg(unix)]
pub(crate) fn write_at(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, data, offset)
}

#[cfg(windows)]
pub(crate) fn write_at(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, data, offset)
}

#[cfg(target_os = "wasi")]
pub(crate) fn write_at(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pwrite(file, data, offset)?)
}

/// An unnamed file in `dir` that nobody else may open.
pub(crate) fn unnamed_file(dir: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(dir)?;
    // The umask decides the mode of an O_TMPFILE file. It has no name, but it can be reached through
    // /proc by whoever may: 0600 keeps that to ourselves (I7).
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// See [`TempFileStore::new`].
pub(crate) fn default_dir() -> PathBuf {
    let usual = usual_dir();
    let others = ["/var/tmp", "/usr/tmp", "."].map(PathBuf::from);
    let candidates = || std::iter::once(&usual).chain(if cfg!(windows) { &[] } else { &others[..] });
    let on_disk = candidates().find(|dir| dir.is_dir() && !is_in_memory(dir));
    on_disk.unwrap_or(&usual).clone()
}

#[cfg(not(target_os = "wasi"))]
fn usual_dir() -> PathBuf {
    std::env::temp_dir()
}

/// As on Unix. `std::env::temp_dir` panics on WASI, which has no directory but those that a program is given.
#[cfg(target_os = "wasi")]
fn usual_dir() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from)
}

/// Whether files in `dir` are kept in RAM.
fn is_in_memory(dir: &Path) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        /// From linux/magic.h.
        const TMPFS_MAGIC: i64 = 0x0102_1994;
        const RAMFS_MAGIC: i64 = 0x8584_58f6;
        // The field's type differs between architectures; the magics fit in 32 bits of any.
        #[allow(clippy::unnecessary_cast)]
        rustix::fs::statfs(dir)
            .is_ok_and(|stat| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&(stat.f_type as i64 & 0xFFFF_FFFF)))
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = dir;
        false
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_is_told_from_disk() {
        assert!(is_in_memory(Path::new("/dev/shm")));
        assert!(!is_in_memory(Path::new("/proc")));
        assert!(!is_in_memory(Path::new("/nowhere/at/all")));
    }

    #[test]
    fn the_file_has_no_name_and_is_ours_alone() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let store = TempFileStore::in_dir(dir.path());
        store.write_at(0, b"secret").unwrap();
        let meta = store.file().unwrap().metadata().unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o777), (0, 0o600));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
