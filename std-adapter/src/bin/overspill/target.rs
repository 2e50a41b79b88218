//! The target of the output, chosen and checked before any input is read.
//!
//! Promises:
//!
//! - A target that could not be written in the end is refused now, if that can be known.
//! - Choosing changes no file.
//!
//! Held by: `std-adapter/tests/command/` of this package.

use crate::failure::{Failure, reason, remedy};
use crate::standard::Standard;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Component, Path, PathBuf};

/// The most links that are followed before they are taken for a circle: Linux's own limit.
const LINKS_MAX: usize = 40;

/// Where the output goes.
#[derive(Debug)]
pub(crate) enum Target {
    Stdout,
    /// A regular file, existing or not, that is put in place in one step.
    File(FileTarget),
    /// Something that is opened and written to: a device, a FIFO, a descriptor.
    Stream {
        user_path: PathBuf,
        append: bool,
    },
}

/// A regular file that the content becomes.
#[derive(Debug)]
pub(crate) struct FileTarget {
    /// The path that the user gave, for messages.
    pub(crate) user_path: PathBuf,
    /// The path behind all links.
    pub(crate) path: PathBuf,
    /// Whether the input is appended to the old content.
    pub(crate) append: bool,
    /// The old content, if the input is appended to it and the file exists.
    pub(crate) old: Option<OldContent>,
}

/// A file opened for its old content, and its identity at that time.
#[derive(Debug)]
pub(crate) struct OldContent {
    pub(crate) file: File,
    /// The identity of the file when it was opened.
    pub(crate) identity: Identity,
}

/// What changes when a file is replaced or written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    #[cfg(unix)]
    inode: (u64, u64),
    len: u64,
    modified: Option<std::time::SystemTime>,
}

impl Target {
    /// Chooses by what is at `output` now; standard output without it.
    pub(crate) fn choose(output: Option<&Path>, append: bool) -> Result<Target, Failure> {
        let Some(user_path) = output.filter(|path| path.as_os_str() != "-") else {
            return Target::stdout();
        };
        match fs::metadata(user_path) {
            Ok(metadata) if metadata.is_dir() => Err(is_directory(user_path)),
            Ok(metadata) => Target::existing(user_path, &metadata, append),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if ends_in_separator(user_path) {
                    let line = format!(
                        "cannot write {}: it ends as a directory does; name a file",
                        user_path.display()
                    );
                    return Err(Failure::message(line));
                }
                Target::new_file(user_path, append)
            }
            Err(error) => Err(Failure::cannot("write", user_path, &error, "check the path")),
        }
    }

    fn stdout() -> Result<Target, Failure> {
        Standard::Output.check_writable()?;
        Ok(Target::Stdout)
    }

    fn existing(user_path: &Path, metadata: &Metadata, append: bool) -> Result<Target, Failure> {
        let path = match follow(user_path) {
            Ok(LinkTarget::Path(path)) => path,
            Ok(LinkTarget::Descriptor(Some(Standard::Output))) => return Target::stdout(),
            // A regular file behind an inherited descriptor is written to, not replaced. It is appended to,
            // since opening it again would start at its beginning.
            Ok(LinkTarget::Descriptor(standard)) => {
                standard.map_or(Ok(()), Standard::check_writable)?;
                return Ok(Target::Stream {
                    user_path: user_path.into(),
                    append: append || metadata.is_file(),
                });
            }
            Err(error) => return Err(Failure::cannot("write", user_path, &error, "check the links")),
        };
        check_writable(user_path, &path)?;
        if !metadata.is_file() {
            return Ok(Target::Stream { user_path: user_path.into(), append });
        }
        check_replaceable(user_path, &path, metadata)?;
        check_directory(user_path, &path)?;
        let old = append.then(|| File::open(&path).and_then(OldContent::new)).transpose();
        let old =
            old.map_err(|error| Failure::cannot("read", user_path, &error, "--append needs to, to copy it"))?;
        Ok(Target::File(FileTarget { user_path: user_path.into(), path, append, old }))
    }

    fn new_file(user_path: &Path, append: bool) -> Result<Target, Failure> {
        match follow(user_path) {
            Ok(LinkTarget::Path(path)) => {
                check_directory(user_path, &path)?;
                Ok(Target::File(FileTarget { user_path: user_path.into(), path, append, old: None }))
            }
            Ok(_) => {
                Err(Failure::message(format!("cannot write {}: no such descriptor", user_path.display())))
            }
            Err(error) => {
                let parent = parent(user_path);
                let advice = format!("make the directory first (mkdir -p {})", parent.display());
                Err(Failure::cannot("write", user_path, &error, advice))
            }
        }
    }
}

impl OldContent {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let identity = Identity::of(&file.metadata()?);
        Ok(OldContent { file, identity })
    }

    /// Whether the file has the name `path` now.
    #[cfg(unix)]
    pub(crate) fn has_name(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| Identity::of(&found).inode == self.identity.inode)
    }

    /// Whether the file, which is as `now`, has other content than the `copied` bytes that were read after it was opened.
    pub(crate) fn is_changed(&self, now: &Metadata, copied: u64) -> bool {
        // It may have got longer while it was copied.
        let is_copied_growth = now.len() == copied && self.identity.len < copied;
        Identity::of(now) != self.identity && !is_copied_growth
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Identity {
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt;
                (metadata.dev(), metadata.ino())
            },
            len: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

/// What a path leads to, through all links.
enum LinkTarget {
    /// A path that is no link, whether or not a file is there.
    Path(PathBuf),
    /// A descriptor of this process, and whether it is one of the standard streams.
    Descriptor(Option<Standard>),
}

/// Follows the link that `path` may be, and further ones, and resolves the directories before it.
/// `canonicalize` does not serve: it fails for files that do not exist yet, and reads the links in /proc that
/// are descriptors.
fn follow(path: &Path) -> io::Result<LinkTarget> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(name) = path.file_name() else { return Ok(LinkTarget::Path(fs::canonicalize(path)?)) };
        let dir = fs::canonicalize(parent(&path))?;
        if is_descriptor_directory(&dir) {
            return Ok(LinkTarget::Descriptor(name.to_str().and_then(Standard::of)));
        }
        let full = dir.join(name);
        match fs::read_link(&full) {
            Ok(to) => path = dir.join(to),
            Err(_) => return Ok(LinkTarget::Path(full)),
        }
    }
    Err(io::Error::other("too many links"))
}

/// Whether `dir` is /proc/PID/fd of this process, or /dev/fd where that is a directory.
fn is_descriptor_directory(dir: &Path) -> bool {
    let own = std::process::id().to_string();
    let mut parts = dir.components().skip(1).map(Component::as_os_str);
    let parts = [parts.next(), parts.next(), parts.next(), parts.next()];
    parts == [Some(OsStr::new("proc")), Some(OsStr::new(&own)), Some(OsStr::new("fd")), None]
        || dir == Path::new("/dev/fd")
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

fn ends_in_separator(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().last().is_some_and(|&last| std::path::is_separator(last.into()))
}

fn is_directory(user_path: &Path) -> Failure {
    Failure::message(format!("cannot write {}: it is a directory; name a file in it", user_path.display()))
}

/// Refuses a file that this process may not write. A rename would replace it all the same, but `>` would not.
fn check_writable(user_path: &Path, path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        use rustix::io::Errno;
        // By the effective user, as writing goes. Android's C library can ask for the real one only.
        #[cfg(not(target_os = "android"))]
        let flags = AtFlags::EACCESS;
        #[cfg(target_os = "android")]
        let flags = AtFlags::empty();
        let access = accessat(CWD, path, Access::WRITE_OK, flags);
        if let Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY)) = access {
            let advice = "make it writable, or remove it first";
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

/// Refuses a file that a rename cannot replace: a mount point, as a container's /etc/hosts, or another user's
/// file in a sticky directory.
fn check_replaceable(user_path: &Path, path: &Path, metadata: &Metadata) -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        let is_mounted = statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        if is_mounted {
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

/// Refuses a path in whose directory no file can be made. Makes an unnamed one, and drops it.
fn check_directory(user_path: &Path, path: &Path) -> Result<(), Failure> {
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

/// Opens a [`Target::Stream`].
pub(crate) fn open_stream(path: &Path, append: bool) -> Result<File, Failure> {
    let opened = OpenOptions::new().write(true).append(append).open(path);
    opened
        .map_err(|error| Failure::cannot("write", path, &error, "check what it is, and who may write to it"))
}
