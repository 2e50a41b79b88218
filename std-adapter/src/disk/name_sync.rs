//! How the name of a new file is made durable.
//!
//! Promise: the name is durable when [`NameSync::sync`] returns without an error, where the system has a call
//! that makes it so.
//!
//! Held by: the tests below, `tests/tests/real_faults.rs`.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// The directory of the file `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

/// How a file's name is made durable, found out before the file gets it: afterwards only the sync can fail.
#[derive(Debug)]
pub(crate) enum NameSync {
    /// By its directory.
    Directory(File),
    /// The process may not read the directory, as that of a drop box, and so cannot open it to be synced.
    Unreadable(io::Error),
    /// By nothing, on platforms other than Unix: it is as durable as the file system makes it.
    None,
}

impl NameSync {
    /// Opens the directory of the file `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if !cfg!(unix) {
            return Ok(NameSync::None);
        }
        match File::open(parent(path)) {
            Ok(dir) => Ok(NameSync::Directory(dir)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(NameSync::Unreadable(error)),
            Err(error) => Err(error),
        }
    }

    /// Makes the name `path` of `file` durable. A file system that cannot sync a directory has done all that
    /// it can. Of a directory that cannot be read the whole file system is synced, and the refusal is
    /// returned where that cannot be done either.
    pub(crate) fn sync(self, path: &Path, file: &File) -> io::Result<()> {
        match self {
            NameSync::Directory(dir) => {
                sync_directory(&dir)?;
                // The directory that was opened may have been moved, and another have its name.
                if is_same(&dir.metadata()?, &std::fs::metadata(parent(path))?) {
                    return Ok(());
                }
                sync_directory(&File::open(parent(path))?)
            }
            NameSync::Unreadable(refused) => match sync_file_system(file) {
                Err(error) if is_unsupported(&error) => Err(refused),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(refused),
                synced => synced,
            },
            NameSync::None => Ok(()),
        }
    }
}

fn sync_directory(dir: &File) -> io::Result<()> {
    match sync(dir) {
        Err(error) if is_unsupported(&error) => Ok(()),
        synced => synced,
    }
}

/// Whether both are of one file. Where files have no numbers, no directory is synced.
fn is_same(file: &Metadata, other: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (file.dev(), file.ino()) == (other.dev(), other.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = (file, other);
        true
    }
}

/// Makes durable what the file system of `file` has, names included. Only Linux has a call for that which
/// waits.
fn sync_file_system(file: &File) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return Ok(rustix::io::retry_on_intr(|| rustix::fs::syncfs(file))?);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = file;
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Makes durable what `file` has.
///
/// On Apple's systems std has the drive empty its cache, too, which some file systems refuse, such as those
/// of SMB shares. Then the file is synced as it is elsewhere.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    let synced = file.sync_all();
    #[cfg(target_vendor = "apple")]
    if synced.as_ref().is_err_and(is_unsupported) {
        return Ok(rustix::io::retry_on_intr(|| rustix::fs::fsync(file))?);
    }
    synced
}

/// Whether the file system or a sandbox does not do at all what was requested of it, whatever the content.
fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let never = [Errno::INVAL, Errno::NOSYS, Errno::NOTTY, Errno::NOTSUP, Errno::OPNOTSUPP];
        Errno::from_io_error(error).is_some_and(|errno| never.contains(&errno))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::Unsupported
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// A directory that had been moved was synced, and not the one that had the name.
    #[test]
    fn a_directory_is_synced_by_its_name_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (out, path) = (dir.path().join("out"), dir.path().join("out/file"));
        std::fs::create_dir(&out).unwrap();
        let synced_after = |change: &dyn Fn()| {
            let name = NameSync::open(&path).unwrap();
            change();
            let file = File::create(&path).or_else(|_| File::create(dir.path().join("file"))).unwrap();
            name.sync(&path, &file)
        };
        let move_away = |to: &str| std::fs::rename(&out, dir.path().join(to)).unwrap();
        synced_after(&|| {}).unwrap();
        synced_after(&|| {
            move_away("out.1");
            std::fs::create_dir(&out).unwrap();
        })
        .unwrap();
        assert_eq!(synced_after(&|| move_away("out.2")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// The name in a directory that could not be read was said to be durable, and nothing had synced it.
    #[test]
    fn a_name_in_a_directory_that_cannot_be_read_is_synced_or_said_not_to_be() {
        use rustix::fs::{Mode, OFlags, open};
        let refused_by = || io::Error::from(rustix::io::Errno::ACCESS);
        let refused = || NameSync::Unreadable(refused_by());
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("file")).unwrap();
        let of_refusal = |error: io::Error| error.raw_os_error() == refused_by().raw_os_error();
        let synced = refused().sync(&dir.path().join("file"), &file);
        assert!(synced.is_ok() || synced.is_err_and(of_refusal), "a sandbox may refuse this, too");
        // Neither this nor its file system can be synced by such a descriptor.
        let path_only = open(dir.path().join("file"), OFlags::PATH, Mode::empty()).unwrap();
        let error = refused().sync(&dir.path().join("file"), &File::from(path_only)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()));
    }
}
