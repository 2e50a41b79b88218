//! What can be known before any input is read, and would fail after all of it was.
//!
//! Promise: a check changes no file.
//!
//! Held by: `std-adapter/tests/command/refusals.rs`, `std-adapter/tests/command/refused_calls.rs`.

use crate::failure::{Failure, reason, remedy};
use crate::links::parent;
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;

/// Refuses a file that this process may not write. A rename would replace it all the same, but `>` would not.
pub(crate) fn check_writable(user_path: &Path, path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        use rustix::io::Errno;
        // By the effective user, as writing goes. Android's C library can ask for the real one only.
        #[cfg(not(target_os = "android"))]
        let flags = AtFlags::EACCESS;
        #[cfg(target_os = "android")]
        let flags = AtFlags::empty();
        let mut access = accessat(CWD, path, Access::WRITE_OK, flags);
        // The answer for an immutable file, and of a sandbox that does not know the newer call that this
        // takes on Linux. The older one tells the two apart.
        if access == Err(Errno::PERM)
            && let other @ (Ok(()) | Err(Errno::ACCESS)) =
                accessat(CWD, path, Access::WRITE_OK, AtFlags::empty())
        {
            access = if rustix::process::getuid() == rustix::process::geteuid() { other } else { Ok(()) };
        }
        if let Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY)) = access {
            let advice = match errno {
                Errno::PERM => "make it mutable (chattr -i), or write elsewhere",
                _ => "make it writable, or remove it first",
            };
            return Err(Failure::cannot("write", user_path, &errno.into(), advice));
        }
    }
    #[cfg(not(unix))]
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().readonly()) {
        let advice = "make it writable, or remove it first";
        return Err(Failure::cannot("write", user_path, &io::ErrorKind::PermissionDenied.into(), advice));
    }
    Ok(())
}

/// Refuses a file that a rename cannot replace: a mount point, as a container's /etc/hosts, another user's
/// file in a sticky directory, or what is append-only.
pub(crate) fn check_replaceable(user_path: &Path, path: &Path, metadata: &Metadata) -> Result<(), Failure> {
    let refused = if is_append_only(path) {
        Some("it may be appended to and not replaced; use >> in place of -o")
    } else if is_append_only(parent(path)) {
        Some("its directory is append-only, so no name in it can be replaced; write elsewhere")
    } else {
        None
    };
    if let Some(why) = refused {
        return Err(Failure::message(format!("cannot replace {}: {why}", user_path.display())));
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::StatxAttributes;
        if has_attribute(path, StatxAttributes::MOUNT_ROOT) {
            return Err(Failure::message(format!(
                "cannot replace {}: it is a mount point; write to another file, then copy that over it",
                user_path.display()
            )));
        }
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        const STICKY: u32 = 0o1000;
        let user = rustix::process::geteuid().as_raw();
        let dir = fs::metadata(parent(path));
        let is_protected =
            |dir: &Metadata| dir.mode() & STICKY != 0 && ![dir.uid(), metadata.uid()].contains(&user);
        if user != 0 && dir.is_ok_and(|dir| is_protected(&dir)) {
            return Err(Failure::message(format!(
                "cannot replace {}: it belongs to somebody else, and its directory is sticky; \
                 write to another file, then copy that over it",
                user_path.display()
            )));
        }
    }
    let _ = (user_path, path, metadata);
    Ok(())
}

/// Whether the file or directory `path` was marked so that it may only grow: by Linux's `chattr +a`, or BSD's
/// `chflags uappnd` or `sappnd`.
fn is_append_only(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    return has_attribute(path, rustix::fs::StatxAttributes::APPEND);
    #[cfg(any(target_os = "macos", target_os = "freebsd"))]
    {
        #[cfg(target_os = "freebsd")]
        use std::os::freebsd::fs::MetadataExt;
        #[cfg(target_os = "macos")]
        use std::os::macos::fs::MetadataExt;
        // From sys/stat.h: UF_APPEND and SF_APPEND.
        const APPEND: u32 = 0x0000_0004 | 0x0004_0000;
        return fs::metadata(path).is_ok_and(|found| found.st_flags() & APPEND != 0);
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "freebsd")))]
    {
        let _ = path;
        false
    }
}

#[cfg(target_os = "linux")]
fn has_attribute(path: &Path, attribute: rustix::fs::StatxAttributes) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(attribute))
}

/// Refuses a socket: unlike a pipe, it cannot be opened by a name.
pub(crate) fn check_no_socket(user_path: &Path, found: &Metadata, advice: &str) -> Result<(), Failure> {
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) {
        return Err(Failure::message(format!(
            "cannot write {}: it is a socket, which cannot be opened by a name; {advice}",
            user_path.display()
        )));
    }
    let _ = (user_path, found, advice);
    Ok(())
}

/// The most descriptors that the command needs beside those that it begins with: seven, for `--append` to a
/// file that changes meanwhile, and one to spare.
#[cfg(unix)]
const DESCRIPTORS: usize = 8;

/// Refuses to begin without room below the limit on open files.
pub(crate) fn check_descriptors() -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let stdin = io::stdin();
        let opened: io::Result<Vec<_>> =
            (0..DESCRIPTORS).map(|_| stdin.as_fd().try_clone_to_owned()).collect();
        opened.map_err(|error| Failure::cannot("read", Path::new("standard input"), &error, "close some"))?;
    }
    Ok(())
}

/// Refuses a path in whose directory no file can be made. Makes an unnamed one, and drops it.
pub(crate) fn check_directory(user_path: &Path, path: &Path) -> Result<(), Failure> {
    let dir = parent(path);
    tempfile::tempfile_in(dir).map(drop).map_err(|error| {
        Failure::message(format!(
            "cannot write {}: no file can be made in {}: {}; {}",
            user_path.display(),
            dir.display(),
            reason(&error),
            remedy(&error).unwrap_or("make the directory writable, or write elsewhere")
        ))
    })
}
