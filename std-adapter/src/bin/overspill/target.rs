//! Where the output goes, decided and checked before any input is read.
//!
//! Promise: a target that could not be written in the end is refused now, if that can be known.

use crate::failure::{Failure, reason};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Links in a row before they are taken for a circle, as Linux has it.
const LINKS_MAX: usize = 40;

/// Where the output goes.
#[derive(Debug)]
pub(crate) enum Target {
    Stdout,
    /// A regular file, there or not, that is put in place in one step.
    File(Place),
    /// Something that is written to as it is: a device, a FIFO, a descriptor.
    Stream {
        shown: PathBuf,
        append: bool,
    },
}

/// A place for a regular file.
#[derive(Debug)]
pub(crate) struct Place {
    /// As the user named it, for messages.
    pub(crate) shown: PathBuf,
    /// Behind all links.
    pub(crate) path: PathBuf,
    /// What the new content is put behind.
    pub(crate) old: Option<Old>,
}

/// The content that a file had when it was opened.
#[derive(Debug)]
pub(crate) struct Old {
    pub(crate) file: File,
    identity: Identity,
}

/// What changes when a file does.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    #[cfg(unix)]
    inode: (u64, u64),
    len: u64,
    modified: Option<std::time::SystemTime>,
}

impl Target {
    /// Decides by what is there.
    pub(crate) fn choose(output: Option<&Path>, append: bool) -> Result<Target, Failure> {
        let Some(shown) = output.filter(|path| path.as_os_str() != "-") else { return Ok(Target::Stdout) };
        match fs::metadata(shown) {
            Ok(found) if found.is_dir() => Err(is_directory(shown)),
            Ok(found) => Target::existing(shown, &found, append),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if ends_in_separator(shown) {
                    let line =
                        format!("cannot write {}: it ends as a directory does; name a file", shown.display());
                    return Err(Failure::said(line));
                }
                Target::new_file(shown)
            }
            Err(error) => Err(Failure::at("write", shown, &error, "check the path")),
        }
    }

    fn existing(shown: &Path, found: &Metadata, append: bool) -> Result<Target, Failure> {
        let path = match follow(shown) {
            Ok(Behind::Name(path)) => path,
            Ok(Behind::Stdout) => return Ok(Target::Stdout),
            // A regular file that was handed over open is not ours to replace: only to write to.
            Ok(Behind::Descriptor) => {
                return Ok(Target::Stream { shown: shown.into(), append: append || found.is_file() });
            }
            Err(error) => return Err(Failure::at("write", shown, &error, "check the links")),
        };
        refuse_unwritable(shown, &path)?;
        if !found.is_file() {
            return Ok(Target::Stream { shown: shown.into(), append });
        }
        refuse_irreplaceable(shown, &path, found)?;
        try_directory(shown, &path)?;
        let old = append.then(|| Old::open(&path)).transpose();
        let old = old.map_err(|error| Failure::at("read", shown, &error, "--append needs to, to copy it"))?;
        Ok(Target::File(Place { shown: shown.into(), path, old }))
    }

    fn new_file(shown: &Path) -> Result<Target, Failure> {
        match follow(shown) {
            Ok(Behind::Name(path)) => {
                try_directory(shown, &path)?;
                Ok(Target::File(Place { shown: shown.into(), path, old: None }))
            }
            Ok(_) => Err(Failure::said(format!("cannot write {}: no such descriptor", shown.display()))),
            Err(error) => {
                let parent = parent(shown);
                let advice = format!("make the directory first (mkdir -p {})", parent.display());
                Err(Failure::at("write", shown, &error, advice))
            }
        }
    }
}

impl Old {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = Identity::of(&file.metadata()?);
        Ok(Old { file, identity })
    }

    /// Whether what stands at `path` now is not what was opened.
    pub(crate) fn is_outdated(&self, path: &Path) -> bool {
        fs::metadata(path).map_or(true, |now| Identity::of(&now) != self.identity)
    }
}

impl Identity {
    fn of(found: &Metadata) -> Self {
        Identity {
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt;
                (found.dev(), found.ino())
            },
            len: found.len(),
            modified: found.modified().ok(),
        }
    }
}

/// What a path leads to.
enum Behind {
    /// A name in a directory, whether or not a file stands there; no link does.
    Name(PathBuf),
    Stdout,
    /// A descriptor of ours, other than standard output.
    Descriptor,
}

/// Follows the links at the end of `path`, and resolves those before. `canonicalize` would do, but
/// for links to files that are not there yet, and for those in /proc that stand for descriptors.
fn follow(path: &Path) -> io::Result<Behind> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(name) = path.file_name() else { return Ok(Behind::Name(fs::canonicalize(path)?)) };
        let dir = fs::canonicalize(parent(&path))?;
        if is_descriptor_directory(&dir) {
            return Ok(if name == "1" { Behind::Stdout } else { Behind::Descriptor });
        }
        let full = dir.join(name);
        match fs::read_link(&full) {
            Ok(to) => path = dir.join(to),
            Err(_) => return Ok(Behind::Name(full)),
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

fn is_directory(shown: &Path) -> Failure {
    Failure::said(format!("cannot write {}: it is a directory; name a file in it", shown.display()))
}

/// A rename would replace a read-only file without asking: `>` would not, and neither do we.
fn refuse_unwritable(shown: &Path, path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        use rustix::io::Errno;
        let answer = accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS);
        if let Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY)) = answer {
            let advice = "make it writable, or remove it first";
            return Err(Failure::at("write", shown, &errno.into(), advice));
        }
    }
    #[cfg(not(unix))]
    if fs::metadata(path).is_ok_and(|found| found.permissions().readonly()) {
        let advice = "make it writable, or remove it first";
        return Err(Failure::at("write", shown, &io::ErrorKind::PermissionDenied.into(), advice));
    }
    Ok(())
}

/// Files whose name cannot be given to another: mount points (a container's /etc/hosts), and other
/// people's in a sticky directory.
fn refuse_irreplaceable(shown: &Path, path: &Path, found: &Metadata) -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        let is_mounted = statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        if is_mounted {
            return Err(Failure::said(format!(
                "cannot replace {}: it is a mount point; write to another file, then copy that over it",
                shown.display()
            )));
        }
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        const STICKY: u32 = 0o1000;
        let user = rustix::process::geteuid().as_raw();
        let dir = fs::metadata(parent(path));
        let keeps = |dir: &Metadata| dir.mode() & STICKY != 0 && ![dir.uid(), found.uid()].contains(&user);
        if user != 0 && dir.is_ok_and(|dir| keeps(&dir)) {
            return Err(Failure::said(format!(
                "cannot replace {}: it belongs to somebody else, and its directory is sticky; \
                 write to another file, then copy that over it",
                shown.display()
            )));
        }
    }
    let _ = (shown, path, found);
    Ok(())
}

/// Makes a file in the directory of `path`, and lets it go.
fn try_directory(shown: &Path, path: &Path) -> Result<(), Failure> {
    let dir = parent(path);
    tempfile::tempfile_in(dir).map(drop).map_err(|error| {
        Failure::said(format!(
            "cannot write {}: no file can be made in {}: {}; make the directory writable, or write elsewhere",
            shown.display(),
            dir.display(),
            reason(&error)
        ))
    })
}

/// Opens what is written to as it is.
pub(crate) fn open_stream(path: &Path, append: bool) -> Result<File, Failure> {
    let opened = OpenOptions::new().write(true).append(append).open(path);
    opened.map_err(|error| Failure::at("write", path, &error, "check what it is, and who may write to it"))
}
