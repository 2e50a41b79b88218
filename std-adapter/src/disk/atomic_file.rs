//! A file that gets its name when it is complete.
//!
//! Promises:
//!
//! - On Linux, on most file systems, the file is made without a name in the target's directory. A process
//!   that ends while the file is written leaves nothing, after SIGKILL too. Elsewhere the file has a hidden
//!   name meanwhile. That name is removed on every return, but not if a signal ends the process: then, on
//!   Unix, when the file is persisted the next time.
//! - The requested name moves from the old file to the new one in one step.
//! - On Unix a new file takes over the mode of the regular file that it replaces, and its owner and group as
//!   far as the system allows; on Linux its access control list, too. Set-user-ID and set-group-ID survive
//!   only if the old file already had the owner and group of the process, which wrote the content: they would
//!   lend the rights of another user or group. On other platforms nothing is taken over. Windows does not
//!   replace a read-only file.
//! - At no time does a new file grant what the old one did not, but for the lists of other systems, which are
//!   not looked at. If the group cannot be taken over, it and all others may do what both could before; if
//!   the list cannot be, or the system does not say whether there is one, only the owner may do anything.
//!   Until it has them, it is for its owner alone.
//! - A refusal to change the mode, as of a file system without modes, is fatal only if the file
//!   would then grant rights that the old one did not. A refusal to link an unnamed file leaves the
//!   way by a hidden name.
//! - Nothing is taken over through a symbolic link: another user who placed it could choose, for content of
//!   this process, the mode and owner of any file. The link is replaced.
//! - A directory, a device, a FIFO or a socket is never replaced.
//! - The name is durable when [`NameSync::sync`] returns without an error, where the system has a call that
//!   makes it so.
//!
//! Held by: `tests/tests/hand_over.rs`, `tests/tests/leftovers.rs`, `tests/tests/real_faults.rs`,
//! `tests/tests/refused_calls.rs`.

use crate::disk::acl::Acl;
use crate::disk::hidden_name;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

/// A file that is to have the name `path`.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    path: PathBuf,
    kind: Kind,
    existing: Existing,
    /// What it takes over from the file that it replaces, besides the owner.
    permissions: Option<Permissions>,
}

/// What happens to an existing file of the requested name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// The new file replaces it in one step, and takes over its mode and owner.
    Replaced,
    /// The existing file stays, and the new one fails with `AlreadyExists`.
    Kept,
}

#[derive(Debug)]
enum Kind {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    Hidden(tempfile::NamedTempFile),
}

impl AtomicFile {
    /// An empty file on the file system of `path`, with the mode and owner that it will have there.
    pub(crate) fn create(path: &Path, existing: Existing) -> io::Result<Self> {
        AtomicFile::create_as(path, existing, Kind::make)
    }

    /// As [`create`](AtomicFile::create), with a hidden name: for where an unnamed file cannot be linked.
    pub(crate) fn create_hidden(path: &Path, existing: Existing) -> io::Result<Self> {
        AtomicFile::create_as(path, existing, Kind::make_hidden)
    }

    /// `make` makes the file for a path, with no more than a mode.
    fn create_as(
        path: &Path,
        existing: Existing,
        make: fn(&Path, u32) -> io::Result<Kind>,
    ) -> io::Result<Self> {
        // One look, which follows no link: type, owner and mode are of the same file.
        let found = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            found => Some(found?), // what cannot be looked at is there, and may not be for everybody
        };
        if existing == Existing::Kept && found.is_some() {
            return Err(already_exists()); // early, before anything is written
        }
        let replaced = found.filter(|found| !found.is_symlink());
        if let Some(found) = &replaced {
            check_replaceable(found)?;
        }
        hidden_name::remove_left_over(parent(path), path);
        // With no right from the beginning that the replaced file does not grant: it has neither its
        // group nor its list yet.
        let mode = replaced.as_ref().map_or(USUAL_MODE, |found| mode_of(found) & 0o600);
        let kind = make(path, mode)?;
        let mut file = AtomicFile { path: path.to_owned(), kind, existing, permissions: None };
        if let Some(replaced) = replaced {
            copy_metadata(&replaced, &Acl::of_path(path), file.file())?;
            file.permissions = Some(file.file().metadata()?.permissions());
        }
        Ok(file)
    }

    pub(crate) fn file(&self) -> &File {
        self.kind.file()
    }

    /// Syncs the file and gives it its name. `None` if the system refuses to link an unnamed file,
    /// whatever its content.
    pub(crate) fn commit(self) -> io::Result<Option<File>> {
        if let Some(permissions) = self.permissions {
            // Writing to it, by anybody but root, has cleared the set-ID bits.
            set_permissions(self.kind.file(), permissions)?;
        }
        sync(self.kind.file())?;
        match self.kind {
            #[cfg(target_os = "linux")]
            Kind::Unnamed(file) => match link_as(&file, &self.path, self.existing) {
                Err(error) if is_link_refused(&error) => Ok(None),
                linked => linked.map(|()| Some(file)),
            },
            Kind::Hidden(file) => match self.existing {
                Existing::Replaced => file.persist(&self.path),
                Existing::Kept => file.persist_noclobber(&self.path),
            }
            .map_err(|refused| refused.error)
            .inspect(hidden_name::unlock)
            .map(Some),
        }
    }

    /// Syncs `file`, which is complete and has no name, and gives it the name instead, with this file's mode
    /// and owner. `None` if `file` cannot be linked there, for example from another file system. Without
    /// `Some` no name has changed, and `file` is a temp file as before, with mode 0600 (I7).
    pub(crate) fn commit_as(&self, file: &File) -> io::Result<Option<()>> {
        #[cfg(target_os = "linux")]
        {
            let committed = self.try_commit_as(file);
            if !matches!(committed, Ok(Some(()))) {
                use std::os::unix::fs::PermissionsExt;
                let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
            }
            committed
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = file;
            Ok(None)
        }
    }

    #[cfg(target_os = "linux")]
    fn try_commit_as(&self, file: &File) -> io::Result<Option<()>> {
        // The temp file grants less than the target's file: copy to that if it cannot have the same mode.
        let acl = Acl::of_file(self.file());
        if !copy_metadata(&self.file().metadata()?, &acl, file).is_ok_and(|is_exact| is_exact) {
            return Ok(None);
        }
        sync(file)?;
        match link_as(file, &self.path, self.existing) {
            Err(error) if self.existing == Existing::Kept && error.kind() == io::ErrorKind::AlreadyExists => {
                Err(error)
            }
            linked => Ok(linked.ok()),
        }
    }
}

impl Kind {
    fn file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Kind::Unnamed(file) => file,
            Kind::Hidden(file) => file.as_file(),
        }
    }

    #[cfg(target_os = "linux")]
    fn make(path: &Path, mode: u32) -> io::Result<Self> {
        use rustix::{fs::OFlags, io::Errno};
        use std::os::unix::fs::OpenOptionsExt;
        const TMPFILE: i32 = OFlags::TMPFILE.bits().cast_signed();
        if !Path::new(OWN_DESCRIPTORS).exists() {
            return Kind::make_hidden(path, mode);
        }
        match File::options().read(true).write(true).mode(mode).custom_flags(TMPFILE).open(parent(path)) {
            Ok(file) => Ok(Kind::Unnamed(file)),
            // Kernels and file systems without O_TMPFILE take the flag for another; these are the errors they
            // return.
            Err(error)
                if [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL]
                    .contains(&Errno::from_io_error(&error).unwrap_or(Errno::IO)) =>
            {
                Kind::make_hidden(path, mode)
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn make(path: &Path, mode: u32) -> io::Result<Self> {
        Kind::make_hidden(path, mode)
    }

    fn make_hidden(path: &Path, mode: u32) -> io::Result<Self> {
        hidden_name::create(parent(path), path, mode).map(Kind::Hidden)
    }
}

/// The directory of links to this thread's open files. Without it, an unnamed file cannot be linked. A thread
/// may have descriptors of its own, by `unshare`; those in `/proc/self` are the main thread's.
#[cfg(target_os = "linux")]
const OWN_DESCRIPTORS: &str = "/proc/thread-self/fd";

/// Gives `file`, which has no name, the name `path`.
///
/// Linux links a file only to a name that is free. If the name is taken, the file first gets a hidden name
/// and is then renamed. It is complete by then, and has the hidden name for some microseconds.
#[cfg(target_os = "linux")]
fn link_as(file: &File, path: &Path, existing: Existing) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let descriptor = Path::new(OWN_DESCRIPTORS).join(file.as_raw_fd().to_string());
    let link = |name: &Path| linkat(CWD, &descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW);
    match link(path) {
        Err(rustix::io::Errno::EXIST) if existing == Existing::Replaced => {
            let linked = hidden_name::link(file, parent(path), path, |name| Ok(link(name)?))?;
            linked.persist(path).map_err(|refused| refused.error)?;
            hidden_name::unlock(file);
            Ok(())
        }
        linked => Ok(linked?),
    }
}

/// Whether a sandbox, the file system or a missing /proc keeps an unnamed file from being linked.
#[cfg(target_os = "linux")]
fn is_link_refused(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let refusals = [Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOENT];
    Errno::from_io_error(error).is_some_and(|errno| refusals.contains(&errno))
}

/// As the system says it, where that has words for it.
fn already_exists() -> io::Error {
    #[cfg(unix)]
    return rustix::io::Errno::EXIST.into();
    #[cfg(not(unix))]
    io::ErrorKind::AlreadyExists.into()
}

/// A regular file may replace a regular file, and nothing else.
fn check_replaceable(found: &Metadata) -> io::Result<()> {
    if found.is_file() {
        Ok(())
    } else if found.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        let text = "it is a device, a FIFO or a socket, which a file does not replace; write to it instead";
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

/// What a new file grants before the umask.
const USUAL_MODE: u32 = 0o666;

/// What the file grants; everything where the platform has no modes.
fn mode_of(found: &Metadata) -> u32 {
    #[cfg(unix)]
    return std::os::unix::fs::PermissionsExt::mode(&found.permissions());
    #[cfg(not(unix))]
    {
        let _ = found;
        USUAL_MODE
    }
}

/// The mode of a file that could not be given the group that `mode` was for, or the list of entries that it
/// had, `acl`.
///
/// A member of the former group may be one of all others now, and one of all others a member of the present
/// group: so both get what both had. An entry of the list may have refused something to a user that is now in
/// the group or one of all others: so neither gets anything. The same holds for a list that the system does
/// not show: the bits of the group are not known to be the group's then.
#[cfg(unix)]
fn without_group(mode: u32, acl: &Acl) -> u32 {
    let both = if *acl == Acl::None { mode & (mode >> 3) & 0o007 } else { 0 };
    mode & !0o077 | both << 3 | both
}

/// On Unix, gives `file` the owner, group, list and mode of the file that it is to replace, and returns
/// whether it has the last three: see [`set_permissions`]. On Windows, fails if that file is read-only.
fn copy_metadata(replaced: &Metadata, acl: &Acl, file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const SET_ID: u32 = 0o6000;
        // Owner first, then mode: a change of owner clears the set-ID bits.
        let (had_both, has_group) = copy_owner(replaced, file)?;
        let mode = mode_of(replaced) & if had_both { !0 } else { !SET_ID };
        // A list is for the group that it was made with.
        let has_list =
            if has_group { acl.give_to(file) } else { Acl::None.give_to(file) && *acl == Acl::None };
        let has_all = has_group && has_list;
        let mode = if has_all { mode } else { without_group(mode, acl) };
        Ok(set_permissions(file, Permissions::from_mode(mode))? && has_all)
    }
    // Windows has one permission here, "read-only", and does not replace a file that has it. Fail before
    // anything is written.
    #[cfg(windows)]
    {
        let _ = (file, acl);
        if replaced.permissions().readonly() { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(true) }
    }
    #[cfg(not(any(unix, windows)))]
    {
        let _ = (replaced, acl, file);
        Ok(true)
    }
}

/// On Unix, gives `file` the `permissions`, and returns whether it has them. If the system refuses, the file
/// keeps those that it has. That is an error only if they grant more.
fn set_permissions(file: &File, permissions: Permissions) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const ALL: u32 = 0o7777;
        let wanted = permissions.mode() & ALL;
        let Err(refused) = file.set_permissions(permissions) else { return Ok(true) };
        let granted = file.metadata()?.permissions().mode() & ALL;
        if granted & !wanted == 0 { Ok(granted == wanted) } else { Err(refused) }
    }
    #[cfg(not(unix))]
    {
        let _ = (file, permissions);
        Ok(true)
    }
}

/// Gives `file`, which is new, the owner and group of `replaced` as far as the system allows. Returns whether
/// it had both from the beginning, and whether it has the group.
#[cfg(unix)]
fn copy_owner(replaced: &Metadata, file: &File) -> io::Result<(bool, bool)> {
    use rustix::{
        fs::{Gid, Uid, fchown},
        io::retry_on_intr,
    };
    use std::os::unix::fs::MetadataExt;
    let current = file.metadata()?;
    if (current.uid(), current.gid()) == (replaced.uid(), replaced.gid()) {
        return Ok((true, true));
    }
    let group = Some(Gid::from_raw(replaced.gid()));
    let give = |owner| retry_on_intr(|| fchown(file, owner, group));
    if give(Some(Uid::from_raw(replaced.uid()))).is_err() {
        // A process without privileges may still change the group to another of its own groups.
        let _ = give(None);
    }
    Ok((false, file.metadata()?.gid() == replaced.gid()))
}

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

    /// Makes the name of `file` durable. A file system that cannot sync a directory has done all that it can.
    /// Of a directory that cannot be read the whole file system is synced, and the refusal is returned where
    /// that cannot be done either.
    pub(crate) fn sync(self, file: &File) -> io::Result<()> {
        match self {
            NameSync::Directory(dir) => match sync(&dir) {
                Err(error) if is_unsupported(&error) => Ok(()),
                synced => synced,
            },
            NameSync::Unreadable(refused) => match sync_file_system(file) {
                Err(error) if is_unsupported(&error) => Err(refused),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(refused),
                synced => synced,
            },
            NameSync::None => Ok(()),
        }
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
fn sync(file: &File) -> io::Result<()> {
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

    /// Of a file whose list is not shown, the group's bits were taken for the group's. They are what all in
    /// the list may do at most: a file of mode 0664 was replaced by one of 0644, which the group could read,
    /// and could not before.
    #[test]
    fn a_list_that_is_not_shown_counts_as_one() {
        let list = Acl::List(vec![2, 0, 0, 0]);
        let modes =
            [Acl::None, list, Acl::Unknown].map(|acl| [0o664, 0o640].map(|mode| without_group(mode, &acl)));
        assert_eq!(modes, [[0o644, 0o600], [0o600; 2], [0o600; 2]]);
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
        let synced = refused().sync(&file);
        assert!(synced.is_ok() || synced.is_err_and(of_refusal), "a sandbox may refuse this, too");
        // Neither this nor its file system can be synced by such a descriptor.
        let path_only = open(dir.path().join("file"), OFlags::PATH, Mode::empty()).unwrap();
        let error = refused().sync(&File::from(path_only)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()));
    }
}
