//! What a new file takes over from the one that it replaces, so that it never grants what that did not.
//!
//! Held by: the tests below, `tests/tests/hand_over.rs`, `tests/tests/real_faults.rs`.

use crate::disk::acl::Acl;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::path::Path;

/// What has the name `path`, itself and not what a link leads to; `None` if the name is free. What cannot be
/// looked at is there, and may not be for everybody.
pub(crate) fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// The file that is to be replaced, of what was `found`: type, owner and mode are of one look. `None` for a
/// link, of which nothing is taken over.
pub(crate) fn replaced(found: Option<Metadata>) -> io::Result<Option<Metadata>> {
    let replaced = found.filter(|found| !found.is_symlink());
    replaced.as_ref().map_or(Ok(()), check_replaceable)?;
    Ok(replaced)
}

/// Whether the file that has the name `now` is the one that had it before, and grants what it did, but for
/// its list.
pub(crate) fn is_unchanged(before: &Metadata, now: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // Not the time of its last change, which is the same for some milliseconds on many systems.
        let look = |found: &Metadata| [found.dev(), found.ino(), found.mode().into()];
        let owners = |found: &Metadata| (found.uid(), found.gid());
        look(before) == look(now) && owners(before) == owners(now)
    }
    #[cfg(not(unix))]
    {
        before.permissions() == now.permissions()
    }
}

/// No more than what `found` grants its owner, where there are modes.
pub(crate) fn only_owner(found: &Metadata) -> Permissions {
    #[cfg(unix)]
    return std::os::unix::fs::PermissionsExt::from_mode(mode_of(found) & 0o600);
    #[cfg(not(unix))]
    found.permissions()
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
pub(crate) const USUAL_MODE: u32 = 0o666;

/// What the file grants; everything where the platform has no modes.
pub(crate) fn mode_of(found: &Metadata) -> u32 {
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

/// On Unix, gives `file`, which was `made` by this process, the owner, group, list and mode of the file that
/// it is to replace, and returns whether it has the last three: see [`set_permissions`]. On Windows, fails if
/// that file is read-only.
pub(crate) fn copy_metadata(
    replaced: &Metadata,
    acl: &Acl,
    made: &Metadata,
    file: &File,
) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const SET_ID: u32 = 0o6000;
        // Owner first, then mode: a change of owner clears the set-ID bits.
        let (had_both, has_group) = copy_owner(replaced, made, file)?;
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
        let _ = (file, made, acl);
        if replaced.permissions().readonly() { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(true) }
    }
    #[cfg(not(any(unix, windows)))]
    {
        let _ = (replaced, acl, made, file);
        Ok(true)
    }
}

/// On Unix, gives `file` the `permissions`, and returns whether it has them. If the system refuses, the file
/// keeps those that it has. That is an error only if they grant more.
pub(crate) fn set_permissions(file: &File, permissions: Permissions) -> io::Result<bool> {
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

/// Gives `file` the owner and group of `replaced` as far as the system allows. Returns whether it was `made`
/// with both, by this process, and whether it has the group.
#[cfg(unix)]
fn copy_owner(replaced: &Metadata, made: &Metadata, file: &File) -> io::Result<(bool, bool)> {
    use rustix::{
        fs::{Gid, Uid, fchown},
        io::retry_on_intr,
    };
    use std::os::unix::fs::MetadataExt;
    let both = |of: &Metadata| (of.uid(), of.gid());
    if both(&file.metadata()?) != both(replaced) {
        let group = Some(Gid::from_raw(replaced.gid()));
        let give = |owner| retry_on_intr(|| fchown(file, owner, group));
        if give(Some(Uid::from_raw(replaced.uid()))).is_err() {
            // A process without privileges may still change the group to another of its own groups.
            let _ = give(None);
        }
    }
    Ok((both(made) == both(replaced), file.metadata()?.gid() == replaced.gid()))
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
}
