//! The store that spills to disk: one unnamed temp file.
//!
//! Promises:
//!
//! - I7: the file has no name and mode 0600. Its blocks are freed when the process ends, however it ends. On
//!   Windows the file has a name, but no other process can open it, and the system deletes it with its last
//!   handle.
//! - A process that is forked later never changes the file: it reads it, and writes, discards and cuts
//!   nothing.
//! - No file is opened before the first byte is spilled. If that fails, the next access tries again.
//! - If the caller chooses no directory, the file is on a disk if one of the usual directories is. In a
//!   directory in RAM (tmpfs), spilled bytes would still use memory.
//!
//! - What a call refines works without it: see `tests/tests/refused_calls.rs`, which lists each that
//!   the library makes.
//!
//! Held by: the tests below, `tests/tests/leftovers.rs`, `tests/tests/real_faults.rs`,
//! `tests/tests/refused_calls.rs`.

use crate::disk::kernel_copy;
use crate::disk::spill_file::SpillFile;
use crate::disk::store::Store;
use crate::sync::OnceLock;
use crate::sync::fork::Lock;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A store in an unnamed temp file, which is made when the first page is spilled. A pool's store by default.
///
/// It uses one file descriptor. [`discard`](Store::discard) punches holes, on Linux and Android; elsewhere it
/// returns `Unsupported`.
///
/// ```
/// use overspill::{SpillPool, TempFileStore};
/// use std::io::Write;
///
/// let store = TempFileStore::in_dir(std::env::temp_dir());
/// let pool = SpillPool::builder().memory(0).store(store).build()?;
/// pool.buffer().write_all(b"in a file without a name")?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Security
///
/// The file has mode 0600 and no name: it is made with `O_TMPFILE` where the platform has it, and elsewhere
/// its name is removed at once. So no other user can open it. Windows does not remove the name of an open
/// file: there the file shows in its directory, but no other process can open it. Spilled bytes are not
/// overwritten when they are freed, and may later be read from the raw disk.
///
/// # Forking
///
/// A process that is forked once the file is made reads it, as long as its parent has not changed those
/// bytes, and changes nothing: a write is an error of kind `Unsupported`, and what is dropped gives nothing
/// back. A store whose file is not made yet makes one of its own.
///
/// # Resource leaking
///
/// None: the kernel frees the file when its last descriptor is closed, after SIGKILL too; so does Windows
/// with the last handle. Child processes do not keep it alive, since std's files are closed on exec.
#[derive(Debug)]
pub struct TempFileStore {
    /// The caller's choice, or else one of [`usual_dirs`].
    dir: Option<PathBuf>,
    file: OnceLock<SpillFile>,
    /// Held while the file is made, so that two threads do not make two.
    making: Lock<()>,
}

/// A forked process would change its parent's file: the source of an `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("the temp file belongs to the process that this one was forked from; make a pool of its own here")]
pub(crate) struct OfParent;

/// Why a store could not make its file: the source of its `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a temp file in {}", dir.display())]
pub(crate) struct NoTempFile {
    pub(crate) dir: PathBuf,
    pub(crate) source: io::Error,
}

/// Why no file could be made in the last of several directories, and in those before it.
#[derive(Debug)]
struct NoneOf {
    last: io::Error,
    before: Vec<NoTempFile>,
}

impl fmt::Display for NoneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.last)?;
        self.before
            .iter()
            .try_for_each(|tried| write!(f, "; nor in {}: {}", tried.dir.display(), tried.source))
    }
}

impl std::error::Error for NoneOf {}

impl TempFileStore {
    /// A store in the first of the usual temp directories that is on a disk and where a file can be made:
    /// `TMPDIR` (or `/tmp`), `/var/tmp`, `/usr/tmp`, the current directory. If there is none, a store in the
    /// first of them, in RAM too. The error names all that were tried.
    ///
    /// On Windows, always a store in the system's temp directory.
    #[must_use]
    pub fn new() -> Self {
        TempFileStore { dir: None, file: OnceLock::new(), making: Lock::new(()) }
    }

    /// A store in `dir`, which may be in RAM too. The directory need not exist before the first byte is
    /// spilled. An empty path is the current directory. A relative one is resolved now, wherever the process
    /// goes later.
    #[must_use]
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        TempFileStore { dir: Some(resolved(dir.into())), ..TempFileStore::new() }
    }

    /// The file, which is made now if there is none yet. For reading: a forked process reads its parent's.
    pub(crate) fn file(&self) -> io::Result<&File> {
        Ok(self.made()?.get())
    }

    /// The file, for changing it. A forked process must not: its parent uses the same slots.
    pub(crate) fn changeable_file(&self) -> io::Result<&File> {
        let made = self.made()?;
        if made.is_inherited() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, OfParent));
        }
        Ok(made.get())
    }

    fn made(&self) -> io::Result<&SpillFile> {
        match self.file.get() {
            Some(made) => Ok(made),
            None => self.make(),
        }
    }

    /// Whether the file was made. If false, that may change at any moment.
    pub(crate) fn is_made(&self) -> bool {
        self.file.get().is_some()
    }

    #[cold]
    fn make(&self) -> io::Result<&SpillFile> {
        let _making = self.making.lock()?;
        if self.file.get().is_none() {
            let (made, _) =
                make_in(self.dir.as_deref()).map_err(|error| io::Error::new(error.source.kind(), error))?;
            let _ = self.file.set(SpillFile::new(made));
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
        write_at(self.changeable_file()?, data, offset)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn write_vectored_at(&self, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        use rustix::io::Errno;
        match rustix::io::pwritev(self.changeable_file()?, parts, offset) {
            // A sandbox forbids it, or the file system has none: one part at a time, as by default.
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                let first = parts.iter().find(|part| !part.is_empty());
                self.write_at(offset, first.map_or(&[], |part| part))
            }
            written => Ok(written?),
        }
    }

    /// Punches a hole, where the platform and the file system can.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let file = self.changeable_file()?;
            Ok(rustix::io::retry_on_intr(|| fallocate(file, flags, offset, len))?)
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            let _ = (offset, len);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changeable_file()?.set_len(len)
    }

    /// By the kernel, on Linux and Android. A forked process copies from its parent's file, as it reads it.
    fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        kernel_copy::copy(self.file()?, offset, file, at, len)
    }

    /// By the kernel, on Linux and Android.
    fn copy_from_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        kernel_copy::copy(file, at, self.changeable_file()?, offset, len)
    }
}

// Positioned reads and writes of each platform. On Windows they move the file's position too. On WASI std's
// are not stable, so these use its system calls, which are those of Unix.

#[cfg(unix)]
pub(crate) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
pub(crate) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

#[cfg(target_os = "wasi")]
pub(crate) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
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

/// An unnamed file in `dir` that no other user can open.
pub(crate) fn unnamed_file(dir: &Path) -> io::Result<File> {
    // It has no name, but processes that its mode allows can open it through /proc. Mode 0600 keeps
    // out other users (I7). tempfile leaves the mode of an O_TMPFILE file to the umask, and a change
    // of it may be refused.
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
        const TMPFILE: i32 = OFlags::TMPFILE.bits().cast_signed();
        let opened = File::options().read(true).write(true).mode(0o600).custom_flags(TMPFILE).open(dir);
        if let Ok(file) = opened
            && file.metadata().is_ok_and(|made| made.mode() & 0o777 == 0o600)
        {
            return Ok(file);
        }
    }
    let file = tempfile::tempfile_in(dir)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const OTHERS: u32 = 0o077;
        if let Err(refused) = file.set_permissions(std::fs::Permissions::from_mode(0o600)) {
            // Some file systems have no modes to change. That is fatal only if others may open the file as it
            // is.
            if file.metadata()?.permissions().mode() & OTHERS != 0 {
                return Err(refused);
            }
        }
    }
    Ok(file)
}

/// `dir`, or `instead` of an empty path, which no call of the system takes for a directory.
pub(crate) fn non_empty(dir: PathBuf, instead: &str) -> PathBuf {
    if dir.as_os_str().is_empty() { instead.into() } else { dir }
}

/// `dir`, as it is now: the process may change its current directory before the first byte is spilled.
pub(crate) fn resolved(dir: PathBuf) -> PathBuf {
    let dir = non_empty(dir, ".");
    std::path::absolute(&dir).unwrap_or(dir)
}

/// An unnamed file in `dir`, or else where [`TempFileStore::new`] says; and its directory.
pub(crate) fn make_in(dir: Option<&Path>) -> Result<(File, PathBuf), NoTempFile> {
    match dir {
        Some(dir) => make_in_first([dir.to_owned()]),
        None => make_in_first(usual_dirs()),
    }
}

/// An unnamed file in the first of `dirs` where one can be made. There is at least one.
fn make_in_first(dirs: impl IntoIterator<Item = PathBuf>) -> Result<(File, PathBuf), NoTempFile> {
    first_made(dirs, unnamed_file)
}

/// As [`make_in_first`], by `make`, which is called once for each directory, and no more once the process or
/// the system has no descriptor left, of whatever directory.
fn first_made<F>(
    dirs: impl IntoIterator<Item = PathBuf>,
    make: impl Fn(&Path) -> io::Result<F>,
) -> Result<(F, PathBuf), NoTempFile> {
    let mut tried = Vec::<NoTempFile>::new();
    for dir in dirs {
        if let Some(at) = tried.iter().position(|before| before.dir == dir) {
            let again = tried.remove(at); // to be the one that the error names first
            tried.push(again);
            continue;
        }
        match make(&dir) {
            Ok(file) => return Ok((file, dir)),
            Err(source) if has_no_descriptor(&source) => return Err(NoTempFile { dir, source }),
            Err(source) => tried.push(NoTempFile { dir, source }),
        }
    }
    let Some(NoTempFile { dir, source }) = tried.pop() else {
        return Err(NoTempFile { dir: PathBuf::new(), source: io::ErrorKind::NotFound.into() });
    };
    if tried.is_empty() {
        return Err(NoTempFile { dir, source });
    }
    let kind = source.kind();
    Err(NoTempFile { dir, source: io::Error::new(kind, NoneOf { last: source, before: tried }) })
}

/// Whether the process, or the system, has no descriptor for a further file.
fn has_no_descriptor(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

/// The usual temp directories that are on a disk, and at the end the first of them all.
fn usual_dirs() -> impl Iterator<Item = PathBuf> {
    // A variable that is empty counts as one that is not set, as in other programs.
    let usual = non_empty(usual_dir(), "/tmp");
    let others = ["/var/tmp", "/usr/tmp", "."].map(PathBuf::from);
    let others = others.into_iter().filter(|_| !cfg!(windows));
    let on_disk =
        std::iter::once(usual.clone()).chain(others).filter(|dir| dir.is_dir() && !is_in_memory(dir));
    on_disk.chain(std::iter::once(usual))
}

#[cfg(not(target_os = "wasi"))]
fn usual_dir() -> PathBuf {
    std::env::temp_dir()
}

/// As on Unix. `std::env::temp_dir` panics on WASI, where a program has only the directories that are opened
/// for it.
#[cfg(target_os = "wasi")]
fn usual_dir() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from)
}

/// Whether the files in `dir` are in RAM. False where the system does not say.
fn is_in_memory(dir: &Path) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // From linux/magic.h.
        const TMPFS_MAGIC: i64 = 0x0102_1994;
        const RAMFS_MAGIC: i64 = 0x8584_58f6;
        // The type of `f_type` differs between architectures. The magic numbers fit in the low 32 bits of
        // each.
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
    fn directories_in_memory_are_recognised() {
        assert!(is_in_memory(Path::new("/dev/shm")));
        assert!(!is_in_memory(Path::new("/proc")));
        assert!(!is_in_memory(Path::new("/nowhere/at/all")));
    }

    /// A directory was chosen because it exists: with `/tmp` in RAM and `/var/tmp` on a read-only disk,
    /// nothing could be spilled.
    #[test]
    fn the_first_directory_where_a_file_can_be_made_is_chosen() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let missing = ["not", "there"].map(|name| dir.path().join(name));
        let dirs = [missing[0].clone(), dir.path().to_owned(), missing[1].clone()];
        let (file, chosen) = make_in_first(dirs).unwrap();
        assert_eq!(chosen, dir.path());
        assert_eq!(file.metadata().unwrap().dev(), std::fs::metadata(dir.path()).unwrap().dev());

        let error = make_in_first(missing.clone()).unwrap_err();
        assert_eq!((error.source.kind(), &error.dir), (io::ErrorKind::NotFound, &missing[1]));
        assert!(
            error.source.to_string().contains(&format!("nor in {}", missing[0].display())),
            "{}",
            error.source
        );
        assert_eq!(usual_dirs().last(), Some(non_empty(usual_dir(), "/tmp")));
    }

    /// The usual directory was tried twice, and named twice: it is the last resort, and mostly the first
    /// choice too. And without descriptors, all others were tried and named as well.
    #[test]
    fn each_directory_is_tried_and_named_once_and_none_without_descriptors() {
        let dirs = ["/one", "/two", "/one"].map(PathBuf::from);
        let tried = std::cell::RefCell::new(Vec::new());
        let refused = |dir: &Path| -> io::Result<()> {
            tried.borrow_mut().push(dir.to_owned());
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "refused"))
        };
        let error = first_made(dirs.clone(), refused).unwrap_err();
        assert_eq!(tried.into_inner(), dirs[..2]);
        assert_eq!(
            format!("{error}: {}", error.source),
            "cannot make a temp file in /one: refused; nor in /two: refused"
        );
        for lack in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE] {
            let error = first_made::<()>(dirs.clone(), |_| Err(lack.into())).unwrap_err();
            assert_eq!((error.dir, error.source.raw_os_error()), ("/one".into(), Some(lack.raw_os_error())));
        }
    }

    #[test]
    fn the_file_has_no_name_and_mode_0600() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let store = TempFileStore::in_dir(dir.path());
        store.write_at(0, b"secret").unwrap();
        let meta = store.file().unwrap().metadata().unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o777), (0, 0o600));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
