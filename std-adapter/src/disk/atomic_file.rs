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
//!   not looked at. What changes while it is written and synced counts as if it had been so before; the last
//!   look comes some microseconds before the name. If the group cannot be taken over, it and all others may
//!   do what both could before; if the list cannot be, or the system does not say whether there is one, only
//!   the owner may do anything. Until it has them, it is for its owner alone.
//! - A refusal to change the mode, as of a file system without modes, is fatal only if the file
//!   would then grant rights that the old one did not. A refusal to link an unnamed file leaves the
//!   way by a hidden name.
//! - Nothing is taken over through a symbolic link: another user who placed it could choose, for content of
//!   this process, the mode and owner of any file. The link is replaced.
//! - A directory, a device, a FIFO or a socket is not replaced; nor, on Linux, is anything in a directory
//!   that is append-only, where hidden names would stay.
//!
//! Held by: `tests/tests/hand_over.rs`, `tests/tests/leftovers.rs`, `tests/tests/real_faults.rs`,
//! `tests/tests/refused_calls.rs`.

use crate::disk::acl::Acl;
use crate::disk::hidden_name;
use crate::disk::name_sync::{parent, sync};
use crate::disk::take_over::{
    USUAL_MODE, copy_metadata, is_unchanged, look, mode_of, only_owner, replaced, set_permissions,
};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

/// A file that is to have the name `path`.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    path: PathBuf,
    kind: Kind,
    existing: Existing,
    /// What it was when it was made.
    made: Metadata,
    /// The file that it replaces, and the list of that.
    replaced: Option<(Metadata, Acl)>,
    /// What it has taken over from that, besides the owner.
    permissions: Option<Permissions>,
}

/// How often a file is synced again, since what it replaces has changed meanwhile.
const SYNCS_MAX: usize = 16;

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
        let found = look(path)?;
        let is_taken = found.is_some();
        if existing == Existing::Kept && is_taken {
            return Err(already_exists()); // early, before anything is written
        }
        check_name(path)?;
        if is_taken {
            check_renames(parent(path))?;
        }
        let replaced = replaced(found)?;
        hidden_name::remove_left_over(parent(path), path);
        // With no right from the beginning that the replaced file does not grant: it has neither its
        // group nor its list yet.
        let mode = replaced.as_ref().map_or(USUAL_MODE, |found| mode_of(found) & 0o600);
        let kind = make(path, mode)?;
        let made = kind.file().metadata()?;
        let mut file =
            AtomicFile { path: path.to_owned(), kind, existing, made, replaced: None, permissions: None };
        if let Some(replaced) = replaced {
            let acl = Acl::of_path(path);
            file.take_over(replaced, acl)?;
        }
        Ok(file)
    }

    /// Takes over what `replaced`, which has the list `acl`, grants.
    fn take_over(&mut self, replaced: Metadata, acl: Acl) -> io::Result<()> {
        copy_metadata(&replaced, &acl, &self.made, self.kind.file())?;
        self.permissions = Some(self.kind.file().metadata()?.permissions());
        self.replaced = Some((replaced, acl));
        Ok(())
    }

    /// Looks again at what has the name, after a step that may have taken long: the file may have been made,
    /// or exchanged, or have lost rights meanwhile. Returns whether something else was taken over.
    fn look_again(&mut self) -> io::Result<bool> {
        let found = look(&self.path)?;
        if self.existing == Existing::Kept && found.is_some() {
            return Err(already_exists());
        }
        let Some(now) = replaced(found)? else { return Ok(false) };
        let acl = Acl::of_path(&self.path);
        if self.replaced.as_ref().is_some_and(|(before, had)| is_unchanged(before, &now) && *had == acl) {
            return Ok(false);
        }
        // For nobody but both owners, until it has all of it.
        set_permissions(self.kind.file(), only_owner(&now))?;
        self.take_over(now, acl)?;
        Ok(true)
    }

    pub(crate) fn file(&self) -> &File {
        self.kind.file()
    }

    /// Syncs the file and gives it its name. `None` if the system refuses to link an unnamed file,
    /// whatever its content.
    pub(crate) fn commit(mut self) -> io::Result<Option<File>> {
        if let Some(permissions) = self.permissions.clone() {
            // Writing to it, by anybody but root, has cleared the set-ID bits.
            set_permissions(self.kind.file(), permissions)?;
        }
        let mut syncs = 1..SYNCS_MAX;
        sync(self.kind.file())?;
        while self.look_again()? {
            syncs.next().ok_or_else(changes_all_the_time)?;
            sync(self.kind.file())?;
        }
        match self.kind {
            #[cfg(target_os = "linux")]
            Kind::Unnamed(file) => match link_as(&file, &self.path, self.existing) {
                Err(Refused::Link(error)) if is_link_refused(&error) => Ok(None),
                Err(Refused::Link(error) | Refused::Rename(error)) => Err(error),
                Ok(()) => Ok(Some(file)),
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
    /// and owner. `None` if `file` cannot be linked there, for example from another mount. Without `Some` no
    /// name has changed, and `file` is a temp file as before, with mode 0600 (I7). Calls `note_unsynced` if
    /// it cannot be synced.
    pub(crate) fn commit_as(
        &mut self,
        file: &File,
        note_unsynced: impl Fn(&io::Error),
    ) -> io::Result<Option<()>> {
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
            let made = file.metadata()?;
            let committed = self.try_commit_as(file, &made, note_unsynced);
            if !matches!(committed, Ok(Some(()))) {
                // The owner too, or the next target is taken for one of another owner.
                let _ = fchown(file, Some(made.uid()), Some(made.gid()));
                let _ = Acl::None.give_to(file);
                let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
            }
            committed
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (file, note_unsynced);
            Ok(None)
        }
    }

    #[cfg(target_os = "linux")]
    fn try_commit_as(
        &mut self,
        file: &File,
        made: &Metadata,
        note_unsynced: impl Fn(&io::Error),
    ) -> io::Result<Option<()>> {
        for _ in 0..SYNCS_MAX {
            // The temp file grants less than the target's file: copy to that if it cannot have the same mode.
            if !self.give_to(file, made)? {
                return Ok(None);
            }
            sync(file).inspect_err(&note_unsynced)?;
            if !self.look_again()? {
                return match link_as(file, &self.path, self.existing) {
                    // It may be on another mount of the same file system.
                    Err(Refused::Link(error)) if is_link_refused(&error) || is_of_other_mount(&error) => {
                        Ok(None)
                    }
                    Err(Refused::Link(error) | Refused::Rename(error)) => Err(error),
                    Ok(()) => Ok(Some(())),
                };
            }
            set_permissions(file, only_owner(&self.file().metadata()?))?;
        }
        Err(changes_all_the_time())
    }

    /// Gives what this file grants to `file`, which was `made` by this process. Returns whether all of it.
    #[cfg(target_os = "linux")]
    fn give_to(&self, file: &File, made: &Metadata) -> io::Result<bool> {
        let acl = Acl::of_file(self.file());
        Ok(copy_metadata(&self.file().metadata()?, &acl, made, file).is_ok_and(|is_exact| is_exact))
    }

    /// Whether `file` may be linked here, as far as is known before: it is on the same file system.
    pub(crate) fn may_commit_as(&self, file: &File) -> bool {
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::MetadataExt;
            matches!(self.kind, Kind::Unnamed(_))
                && file.metadata().is_ok_and(|of| of.dev() == self.made.dev())
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = file;
            false
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
        check_renames(parent(path))?;
        hidden_name::create(parent(path), path, mode).map(Kind::Hidden)
    }
}

/// The directory of links to this thread's open files. Without it, an unnamed file cannot be linked. A thread
/// may have descriptors of its own, by `unshare`; those in `/proc/self` are the main thread's.
#[cfg(target_os = "linux")]
const OWN_DESCRIPTORS: &str = "/proc/thread-self/fd";

/// Why a file did not get its name.
#[cfg(target_os = "linux")]
enum Refused {
    /// An unnamed file gets none there, or a free name was taken meanwhile.
    Link(io::Error),
    /// The name is not to be replaced.
    Rename(io::Error),
}

/// Gives `file`, which has no name, the name `path`.
///
/// Linux links a file only to a name that is free. If the name is taken, the file first gets a hidden name
/// and is then renamed. It is complete by then, and has the hidden name for some microseconds.
#[cfg(target_os = "linux")]
fn link_as(file: &File, path: &Path, existing: Existing) -> Result<(), Refused> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let descriptor = Path::new(OWN_DESCRIPTORS).join(file.as_raw_fd().to_string());
    let link = |name: &Path| linkat(CWD, &descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW);
    match link(path) {
        Err(rustix::io::Errno::EXIST) if existing == Existing::Replaced => {
            check_renames(parent(path)).map_err(Refused::Rename)?;
            let linked = hidden_name::link(file, parent(path), path, |name| Ok(link(name)?));
            let renamed = linked
                .map_err(Refused::Link)
                .and_then(|linked| linked.persist(path).map_err(|refused| Refused::Rename(refused.error)));
            hidden_name::unlock(file); // which its owner may keep, or go on with
            renamed.map(drop)
        }
        linked => linked.map_err(|error| Refused::Link(error.into())),
    }
}

/// Whether a sandbox, the file system or a missing /proc keeps an unnamed file from being linked.
#[cfg(target_os = "linux")]
fn is_link_refused(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let refusals = [Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOENT];
    Errno::from_io_error(error).is_some_and(|errno| refusals.contains(&errno))
}

/// Whether a file was to be linked from one mount to another.
#[cfg(target_os = "linux")]
fn is_of_other_mount(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::CrossesDevices
}

/// An error for a file that never was the same before a sync and after it.
fn changes_all_the_time() -> io::Error {
    let text = "what it is to replace changes its mode, its owner or itself all the time; try again";
    io::Error::new(io::ErrorKind::ResourceBusy, text)
}

/// A path that ends in a separator, or in a dot behind one, is a directory's: no file can have it. Nor can
/// one have the empty path.
fn check_name(path: &Path) -> io::Result<()> {
    let name = path.as_os_str().to_string_lossy();
    if name.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let rest = name.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(&name);
    if rest.ends_with(std::path::is_separator) { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(()) }
}

/// An error if the directory `dir` was marked so that it may only grow, by `chattr +a`: in such a one no name
/// is replaced, and a hidden one would stay.
fn check_renames(dir: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        let found = statx(CWD, dir, AtFlags::empty(), StatxFlags::empty());
        if found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::APPEND)) {
            let text = "its directory is append-only, so no name in it can be replaced; save it elsewhere";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
    }
    let _ = dir;
    Ok(())
}

/// As the system says it, where that has words for it.
fn already_exists() -> io::Error {
    #[cfg(unix)]
    return rustix::io::Errno::EXIST.into();
    #[cfg(not(unix))]
    io::ErrorKind::AlreadyExists.into()
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// What the file of a buffer's own was given had been looked at before it was completed and synced.
    #[test]
    fn another_file_takes_over_what_the_target_grants_at_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        let set_mode = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        std::fs::write(&path, "old").unwrap();
        set_mode(0o644);
        let mut target_file = AtomicFile::create(&path, Existing::Replaced).unwrap();
        let Kind::Unnamed(_) = target_file.kind else { return };
        let own = crate::disk::temp_file::unnamed_file(dir.path()).unwrap();
        assert!(target_file.may_commit_as(&own));
        set_mode(0o600);
        target_file.commit_as(&own, |_| ()).unwrap().unwrap();
        let named = std::fs::metadata(&path).unwrap();
        assert_eq!((mode_of(&named) & 0o777, named.len()), (0o600, 0));
    }
}
