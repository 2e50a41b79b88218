//! What a path leads to: through links, and to descriptors of processes.
//!
//! Promise: a descriptor is recognised by every name that the system has for it.
//!
//! Held by: `std-adapter/tests/command/streams.rs`, `std-adapter/tests/command/replace.rs`,
//! `std-adapter/tests/command/refused_calls.rs`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most links that are followed before they are taken for a circle: Linux's own limit.
const LINKS_MAX: usize = 40;

/// What a path leads to, through all links.
pub(crate) enum LinkTarget {
    /// A path that is no link, whether or not a file is there.
    Path(PathBuf),
    /// A descriptor of this process.
    OwnDescriptor(i32),
    /// A descriptor of another process, or a name that no descriptor has.
    OtherDescriptor,
}

/// Why a path could not be followed.
pub(crate) struct NotFollowed {
    /// The directory or the link that could not be.
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// Follows the link that `path` may be, and further ones, and resolves the directories before it.
/// `canonicalize` does not serve: it fails for files that do not exist yet, and reads the links in /proc that
/// are descriptors.
pub(crate) fn follow(path: &Path) -> Result<LinkTarget, NotFollowed> {
    let mut path = path.to_owned();
    let resolve = |path: &Path| canonical(path).map_err(|source| NotFollowed { path: path.into(), source });
    // The last time it finds the end, and no link.
    for _ in 0..=LINKS_MAX {
        let Some(name) = path.file_name() else { return Ok(LinkTarget::Path(resolve(&path)?)) };
        let dir = resolve(parent(&path))?;
        match descriptors_in(&dir) {
            Some(Descriptors::Own) => {
                let number = name.to_str().and_then(|name| name.parse().ok());
                return Ok(number.map_or(LinkTarget::OtherDescriptor, LinkTarget::OwnDescriptor));
            }
            Some(Descriptors::Others) => return Ok(LinkTarget::OtherDescriptor),
            None => {}
        }
        let full = dir.join(name);
        match fs::read_link(&full) {
            // No file is made with the name of a directory that is not there.
            Ok(to) if ends_as_directory(&to) && fs::metadata(dir.join(&to)).is_err() => {
                return Err(NotFollowed { path: full, source: io::ErrorKind::IsADirectory.into() });
            }
            Ok(to) => path = dir.join(to),
            // It is no link, as a rule. A link that cannot be read must not be replaced in place
            // of what is behind it.
            Err(source) if fs::symlink_metadata(&full).is_ok_and(|found| found.is_symlink()) => {
                return Err(NotFollowed { path: full, source });
            }
            Err(_) => return Ok(LinkTarget::Path(full)),
        }
    }
    Err(NotFollowed { path, source: io::Error::other("too many links") })
}

/// `path`, which exists, without links. On Windows, what is on a volume that the mount manager does not know,
/// as that of some RAM disks, has no such name: there it is `path` as it is, from the root on.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    const INVALID_FUNCTION: i32 = 1;
    match fs::canonicalize(path) {
        Err(error) if cfg!(windows) && error.raw_os_error() == Some(INVALID_FUNCTION) => {
            fs::metadata(path).and_then(|_| std::path::absolute(path))
        }
        canonical => canonical,
    }
}

/// Whether `path` ends as only a directory's does: in a separator, perhaps with a dot behind it.
pub(crate) fn ends_as_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
    bytes.last().is_some_and(|&last| std::path::is_separator(last.into()))
}

/// The descriptors that the names in a directory stand for.
enum Descriptors {
    /// Those of this process.
    Own,
    /// Those of another.
    Others,
}

/// Whose descriptors `dir`, which is resolved, has names for: /dev/fd where that is a directory, and on Linux
/// /proc/PID/fd and /proc/PID/task/TID/fd, wherever that file system is mounted.
fn descriptors_in(dir: &Path) -> Option<Descriptors> {
    if dir == Path::new("/dev/fd") {
        return Some(Descriptors::Own);
    }
    if !dir.ends_with("fd") || !is_in_proc(dir) {
        return None;
    }
    let is_own = fs::canonicalize("/proc/self").is_ok_and(|own| dir.starts_with(own));
    Some(if is_own { Descriptors::Own } else { Descriptors::Others })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_in_proc(dir: &Path) -> bool {
    // The type of `f_type` differs between architectures.
    #[allow(clippy::unnecessary_cast)]
    rustix::fs::statfs(dir).is_ok_and(|stat| stat.f_type as i64 == rustix::fs::PROC_SUPER_MAGIC as i64)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_in_proc(_: &Path) -> bool {
    false
}

/// The directory of the file `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}
