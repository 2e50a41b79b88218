//! The lock of the processes that append to one file.
//!
//! Promises:
//!
//! - While a process has the lock on a file, no other has it: whatever was looked at can then be replaced.
//! - The lock leaves no file, and ends with the process, however that ends.
//!
//! It holds back the processes that take it too: `overspill --append`. A plain `>>` does not take it.
//!
//! On Unix the lock is `fcntl`'s, on the file itself. `flock`'s would be one that scripts hold around the
//! whole pipeline (`flock log sh -c 'job | overspill -a -o log'`), which would then wait for itself; Linux
//! keeps the two apart, but on NFS, where that pipeline does wait for itself. It ends when the process closes
//! *any* descriptor of the file, so nothing else here opens the file meanwhile.
//!
//! Windows replaces no file that is open, so the lock is a file beside it, which the system deletes
//! with its only handle.
//!
//! Held by: `std-adapter/tests/command/append.rs`.

use crate::target::OldContent;
use std::fs::File;
use std::io;
use std::path::Path;

/// The lock on a file, or on the name of a file that does not exist.
#[derive(Debug)]
pub(crate) struct Locked {
    /// The file; on Unix this has the lock. `None` if there is none: its name is then not locked on Unix, and
    /// must be taken without replacing anything.
    pub(crate) old: Option<OldContent>,
    #[cfg(windows)]
    _beside: File,
}

impl Locked {
    /// Waits for the lock on `path`, and opens the file that has this name then.
    #[cfg(unix)]
    pub(crate) fn wait(path: &Path) -> io::Result<Locked> {
        use rustix::fs::{FlockOperation, fcntl_lock};
        loop {
            let Some(file) = open(path)? else { return Ok(Locked { old: None }) };
            rustix::io::retry_on_intr(|| fcntl_lock(&file, FlockOperation::LockExclusive))?;
            // The process that had the lock has probably replaced the file.
            let old = OldContent::new(file)?;
            if old.has_name(path) {
                return Ok(Locked { old: Some(old) });
            }
        }
    }

    #[cfg(windows)]
    pub(crate) fn wait(path: &Path) -> io::Result<Locked> {
        loop {
            if let Some(lock) = make_beside(path)? {
                let old = open(path)?.map(OldContent::new).transpose()?;
                return Ok(Locked { old, _beside: lock });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Fails if `path` cannot be locked, which Unix tells only of a file that exists. Does not wait for a
    /// lock.
    pub(crate) fn check(path: &Path) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(file) = open(path)? {
            use rustix::fs::{FlockOperation, fcntl_lock};
            use rustix::io::Errno;
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) | Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        #[cfg(windows)]
        make_beside(path)?;
        let _ = path;
        Ok(())
    }
}

/// The file beside `path` that is the lock. `None` if another process has it.
#[cfg(windows)]
fn make_beside(path: &Path) -> io::Result<Option<File>> {
    use std::os::windows::ffi::{OsStrExt, OsStringExt};
    use std::os::windows::fs::OpenOptionsExt;
    const DELETE_ON_CLOSE: u32 = 0x0400_0000;
    const SHARING_VIOLATION: i32 = 32;
    const PREFIX: &str = ".overspill-lock-";
    // As much as fits in a name. Not a sum of it all: two names that differ in case are one file's.
    const UNITS_MAX: usize = 255 - PREFIX.len();
    const REFUSALS_MAX: u32 = 200;

    let of_file = path.file_name().unwrap_or_default().encode_wide().take(UNITS_MAX);
    let units: Vec<u16> = PREFIX.encode_utf16().chain(of_file).collect();
    let beside = path.with_file_name(std::ffi::OsString::from_wide(&units));
    let mut options = File::options();
    options.write(true).create(true).share_mode(0).custom_flags(DELETE_ON_CLOSE);
    let mut refusals = 0;
    loop {
        match options.open(&beside) {
            Err(error) if error.raw_os_error() == Some(SHARING_VIOLATION) => return Ok(None),
            // One that is just being deleted is refused for a moment. What is refused for longer is no lock:
            // a directory, or another user's file that a crash has left.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && refusals < REFUSALS_MAX => {
                refusals += 1;
                std::thread::sleep(PAUSE);
            }
            made => return made.map(Some),
        }
    }
}

/// The time between two attempts.
#[cfg(windows)]
const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// Opens `path`, if it exists, in a way that suits every kind of lock, and appending to it. An error if what
/// has the name by now is no regular file: a FIFO would be read for ever, and a link that leads nowhere is
/// no name that is free.
fn open(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..OPENS_MAX {
        match File::options().read(true).append(true).open(path) {
            Ok(file) if file.metadata()?.is_file() => return Ok(Some(file)),
            Ok(_) => return Err(io::Error::other("it is not a regular file any more")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match path.symlink_metadata() {
                Ok(found) if found.is_symlink() => {
                    return Err(io::Error::other("it is a link that leads nowhere"));
                }
                Ok(_) => {} // another program has made it just now
                Err(_) => return Ok(None),
            },
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("it comes and goes"))
}

/// How often a file is opened that others make and remove meanwhile.
const OPENS_MAX: u32 = 100;
