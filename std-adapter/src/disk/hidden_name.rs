//! The hidden name that a file has on its way to its own, and what a killed process has left under it.
//!
//! Promises:
//!
//! - On Unix the hidden name of a path is always the same, so a file that was left under it is found without
//!   a search. It is removed before the path is replaced again.
//! - A file that a living process works on is not removed: that process has `flock`'s lock on it
//!   while it has the name.
//! - If the name is taken and cannot be freed, it is left alone. The file gets a random one then, and that
//!   is not found again.
//!
//! Where files cannot be locked, and on Windows, nothing is removed.
//!
//! Held by: the tests below, `std-adapter/tests/command/failures.rs`.

use std::fs::File;
use std::io;
use std::path::Path;
use tempfile::{Builder, NamedTempFile};

/// What every hidden name begins with.
const PREFIX: &str = ".overspill-";

/// The hidden name of the file `path`, in its directory: a sum of its name, which may be too long to
/// be a part of another.
#[cfg(unix)]
fn hidden_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!("{PREFIX}{:016x}", twox_hash::XxHash3_64::oneshot(name.as_encoded_bytes()))
}

/// Makes a new file in `dir` with a hidden name, for the file `path`, and where there are modes with `mode`:
/// the kernel applies the umask.
pub(crate) fn create(dir: &Path, path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    #[cfg(unix)]
    if let Some(file) = create_locked(dir, path, mode)? {
        return Ok(file);
    }
    let _ = path;
    with_mode(Builder::new().prefix(PREFIX), mode).tempfile_in(dir)
}

/// As [`create`], with the name that is always the same. `None` if that is not free.
#[cfg(unix)]
fn create_locked(dir: &Path, path: &Path, mode: u32) -> io::Result<Option<NamedTempFile>> {
    use rustix::io::Errno;
    use std::os::unix::fs::MetadataExt;
    let name = hidden_name(path);
    let made = match with_mode(Builder::new().prefix(&name).rand_bytes(0), mode).tempfile_in(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        made => made?,
    };
    let is_ours = match try_lock(made.as_file()) {
        Ok(()) => made.as_file().metadata()?.nlink() > 0,
        Err(errno) => errno != Errno::WOULDBLOCK,
    };
    if is_ours {
        return Ok(Some(made));
    }
    // Another process took it for left over before it was locked. The name may be another file's by now.
    let _ = made.into_temp_path().keep();
    Ok(None)
}

/// Calls `link` to give `file`, which has no name, a hidden one in `dir`, for the file `path`.
#[cfg(target_os = "linux")]
pub(crate) fn link(
    file: &File,
    dir: &Path,
    path: &Path,
    mut link: impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<NamedTempFile<()>> {
    // Without the lock, the file could be taken for left over.
    if try_lock(file).is_ok() {
        match Builder::new().prefix(&hidden_name(path)).rand_bytes(0).make_in(dir, &mut link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => return linked,
        }
    }
    Builder::new().prefix(PREFIX).make_in(dir, link)
}

/// Ends the lock on `file`, which has no hidden name any more.
pub(crate) fn unlock(file: &File) {
    #[cfg(unix)]
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock);
    #[cfg(not(unix))]
    let _ = file;
}

/// Removes the file that a killed process has left in `dir` under the hidden name of `path`, if there is one.
/// Costs one look if there is none.
pub(crate) fn remove_left_over(dir: &Path, path: &Path) {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
        let name = dir.join(hidden_name(path));
        let found = || std::fs::symlink_metadata(&name).ok().filter(std::fs::Metadata::is_file);
        if found().is_none() {
            return;
        }
        // It is not what was found if another process is at it, too: neither follow a link nor wait for a
        // FIFO.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        // NFS locks only what is open for writing.
        let open = |write| File::options().read(true).write(write).custom_flags(flags).open(&name);
        let Ok(file) = open(true).or_else(|_| open(false)) else { return };
        let Ok(opened) = file.metadata() else { return };
        let is_opened = |found: std::fs::Metadata| (found.dev(), found.ino()) == (opened.dev(), opened.ino());
        // With the lock, no other process gives the file a name or takes it away.
        if try_lock(&file).is_ok() && found().is_some_and(is_opened) {
            let _ = std::fs::remove_file(&name);
        }
    }
    #[cfg(not(unix))]
    let _ = (dir, path);
}

#[cfg(unix)]
fn try_lock(file: &File) -> rustix::io::Result<()> {
    rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
}

/// A file that it makes has `mode`, less the umask.
fn with_mode<'a, 'b, 'c>(builder: &'a mut Builder<'b, 'c>, mode: u32) -> &'a mut Builder<'b, 'c> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn names_in(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    /// Where a file cannot be made without a name, it has the hidden one while it is written, and a kill
    /// left it there for good.
    #[test]
    fn what_is_in_use_stays_and_what_was_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let in_use = create(dir.path(), &path, 0o666).unwrap();
        let beside = create(dir.path(), &path, 0o666).unwrap();
        remove_left_over(dir.path(), &path);
        assert!(in_use.path().exists() && beside.path().exists(), "both are in use");
        assert_eq!(in_use.path(), dir.path().join(hidden_name(&path)));
        drop(beside);
        // As a kill does it: the name stays, and the descriptor is closed.
        drop(in_use.keep().unwrap());
        remove_left_over(dir.path(), &dir.path().join("another"));
        assert_eq!(names_in(dir.path()), 1, "it is not of that name");
        remove_left_over(dir.path(), &path);
        assert_eq!(names_in(dir.path()), 0);
    }

    #[test]
    fn what_is_no_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(dir.path().join("target"), "").unwrap();
        std::os::unix::fs::symlink("target", dir.path().join(hidden_name(&path))).unwrap();
        remove_left_over(dir.path(), &path);
        assert_eq!(names_in(dir.path()), 2);
        let made = create(dir.path(), &path, 0o666).unwrap();
        assert_eq!((names_in(dir.path()), made.as_file().metadata().unwrap().len()), (3, 0));
    }
}
