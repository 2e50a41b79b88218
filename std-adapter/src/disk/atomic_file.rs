//! A file that has no name before it is whole.
//!
//! Promises:
//!
//! - Where the platform can make a file without a name in the target's directory (Linux, on most file
//!   systems), a process that ends while the file is written leaves nothing, SIGKILL included.
//!   Elsewhere the file has a hidden name meanwhile, which is removed on any return but not by a
//!   signal.
//! - The name that was asked for goes from the old file to the new one in one step.
//! - A file that is replaced passes on its mode, and its owner and group as far as the system
//!   allows. Where it does not, set-user-ID and set-group-ID are not passed on either: they would
//!   speak for somebody else. Elsewhere than on Unix there is nothing to pass on: Windows does not
//!   replace a read-only file.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// A file on its way to the name `path`.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    path: PathBuf,
    kind: Kind,
    existing: Existing,
}

/// What happens to a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is replaced in one step, and passes on its mode and owner.
    Replaced,
    /// It stays, and the new one is refused with `AlreadyExists`.
    Kept,
}

#[derive(Debug)]
enum Kind {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    Hidden(tempfile::NamedTempFile),
}

impl AtomicFile {
    /// An empty file on the file system of `path`, with the mode and owner that it is to have there.
    pub(crate) fn create(path: &Path, existing: Existing) -> io::Result<Self> {
        let replaced = std::fs::metadata(path);
        if existing == Existing::Kept && (replaced.is_ok() || path.is_symlink()) {
            return Err(io::ErrorKind::AlreadyExists.into()); // known before anything is written
        }
        let file = AtomicFile { path: path.to_owned(), kind: Kind::make(parent(path))?, existing };
        if let Ok(replaced) = replaced {
            copy_metadata(&replaced, file.file())?;
        }
        Ok(file)
    }

    pub(crate) fn file(&self) -> &File {
        match &self.kind {
            #[cfg(target_os = "linux")]
            Kind::Unnamed(file) => file,
            Kind::Hidden(file) => file.as_file(),
        }
    }

    /// Syncs the file and puts it under its name.
    pub(crate) fn commit(self) -> io::Result<File> {
        self.file().sync_all()?;
        match self.kind {
            #[cfg(target_os = "linux")]
            Kind::Unnamed(file) => {
                link_as(&file, &self.path, self.existing)?;
                Ok(file)
            }
            Kind::Hidden(file) => match self.existing {
                Existing::Replaced => file.persist(&self.path),
                Existing::Kept => file.persist_noclobber(&self.path),
            }
            .map_err(|refused| refused.error),
        }
    }

    /// Syncs `file`, which is whole and has no name, and puts it under this name instead, with the
    /// mode and owner that this file has. `None` if it cannot be linked there, as from another file
    /// system: then everything is as it was.
    pub(crate) fn commit_as(&self, file: &File) -> io::Result<Option<()>> {
        #[cfg(target_os = "linux")]
        {
            copy_metadata(&self.file().metadata()?, file)?;
            file.sync_all()?;
            match link_as(file, &self.path, self.existing) {
                Err(error)
                    if self.existing == Existing::Kept && error.kind() == io::ErrorKind::AlreadyExists =>
                {
                    Err(error)
                }
                linked => Ok(linked.ok()),
            }
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = file;
            Ok(None)
        }
    }
}

impl Kind {
    #[cfg(target_os = "linux")]
    fn make(dir: &Path) -> io::Result<Self> {
        use rustix::{fs::OFlags, io::Errno};
        use std::os::unix::fs::OpenOptionsExt;
        const TMPFILE: i32 = OFlags::TMPFILE.bits().cast_signed();
        if !Path::new(OWN_DESCRIPTORS).exists() {
            return Kind::make_hidden(dir);
        }
        match File::options().read(true).write(true).custom_flags(TMPFILE).open(dir) {
            Ok(file) => Ok(Kind::Unnamed(file)),
            // What kernels and file systems say that know nothing of it: each takes the flag for another.
            Err(error)
                if [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL]
                    .contains(&Errno::from_io_error(&error).unwrap_or(Errno::IO)) =>
            {
                Kind::make_hidden(dir)
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn make(dir: &Path) -> io::Result<Self> {
        Kind::make_hidden(dir)
    }

    fn make_hidden(dir: &Path) -> io::Result<Self> {
        hidden().tempfile_in(dir).map(Kind::Hidden)
    }
}

fn hidden() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".overspill-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask takes its part of it when the file is made.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}

#[cfg(target_os = "linux")]
const OWN_DESCRIPTORS: &str = "/proc/self/fd";

/// Gives `file`, which has no name, the name `path`.
///
/// Linux links a file to a free name only. Where the name is taken, the file gets a hidden one first,
/// and is renamed: it is whole by then, and has that name for some microseconds.
#[cfg(target_os = "linux")]
fn link_as(file: &File, path: &Path, existing: Existing) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let descriptor = Path::new(OWN_DESCRIPTORS).join(file.as_raw_fd().to_string());
    let link = |name: &Path| linkat(CWD, &descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW);
    match link(path) {
        Err(rustix::io::Errno::EXIST) if existing == Existing::Replaced => {
            let linked = hidden().make_in(parent(path), |name| Ok(link(name)?))?;
            linked.persist(path).map_err(|refused| refused.error)
        }
        done => Ok(done?),
    }
}

/// Gives `file` the owner, group and mode of what it is to replace.
fn copy_metadata(replaced: &Metadata, file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const SET_ID: u32 = 0o6000;
        // The owner before the mode: a change of owner drops the bits that speak for the old one.
        let mode = replaced.permissions().mode();
        let mode = if copy_owner(replaced, file)? { mode } else { mode & !SET_ID };
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }
    // Windows has one permission here, "read-only", and does not replace a file that has it: better to hear that
    // before all is written.
    #[cfg(windows)]
    {
        let _ = file;
        if replaced.permissions().readonly() { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }
    #[cfg(not(any(unix, windows)))]
    {
        let _ = (replaced, file);
        Ok(())
    }
}

/// Says whether both owner and group are now those of `replaced`.
#[cfg(unix)]
fn copy_owner(replaced: &Metadata, file: &File) -> io::Result<bool> {
    use rustix::fs::{Gid, Uid, fchown};
    use std::os::unix::fs::MetadataExt;
    let made = file.metadata()?;
    if (made.uid(), made.gid()) == (replaced.uid(), replaced.gid()) {
        return Ok(true);
    }
    let group = Some(Gid::from_raw(replaced.gid()));
    if fchown(file, Some(Uid::from_raw(replaced.uid())), group).is_ok() {
        return Ok(true);
    }
    // One may give a file to another group that one is in, if not to another user.
    let _ = fchown(file, None, group);
    Ok(false)
}

/// The directory that `path` names a file in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

/// Makes a change of the name `path` durable. In a directory in which one may make files but which one
/// may not read, it is as durable as the file system makes it.
pub(crate) fn sync_name(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(parent(path)) {
        Ok(dir) => dir.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}
