//! The target of the output, chosen and checked before any input is read.
//!
//! Promises:
//!
//! - A target that could not be written in the end is refused now, if that can be known.
//! - Choosing changes no file.
//!
//! Held by: `std-adapter/tests/command/` of this package.

use crate::checks::{check_directory, check_no_socket, check_replaceable, check_writable};
use crate::failure::Failure;
use crate::links::{LinkTarget, NotFollowed, ends_as_directory, follow};
use crate::quote::shell_word;
use crate::standard::Standard;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Where the output goes.
#[derive(Debug)]
pub(crate) enum Target {
    Stdout,
    /// A regular file, existing or not, that is put in place in one step.
    File(FileTarget),
    /// Something that is opened when the input has ended, and written to: a device, a FIFO.
    Stream {
        user_path: PathBuf,
        append: bool,
    },
    /// A descriptor of this or another process, open for writing.
    Descriptor {
        user_path: PathBuf,
        file: File,
        /// Whether the output goes behind what a regular file has by then, wherever the descriptor stands.
        at_end: bool,
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
    pub(crate) len: u64,
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
                if ends_as_directory(user_path) {
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
            Ok(LinkTarget::OwnDescriptor(number)) => {
                let standard = Standard::of(number);
                let at_end = append && metadata.is_file();
                if standard == Some(Standard::Output) && !at_end {
                    return Target::stdout();
                }
                standard.map_or(Ok(()), Standard::check_writable)?;
                let file = duplicate(number, user_path)?;
                return Ok(Target::Descriptor { user_path: user_path.into(), file, at_end });
            }
            Ok(LinkTarget::OtherDescriptor) => {
                check_no_socket(user_path, metadata, "pipe the output to the program that has it")?;
                // A regular file behind a descriptor is written to, not replaced. It is appended to, since
                // opening it again starts at its beginning.
                let file = open_descriptor(user_path, append || metadata.is_file())?;
                return Ok(Target::Descriptor { user_path: user_path.into(), file, at_end: false });
            }
            Err(error) => return Err(Failure::cannot("write", user_path, &error.source, "check the links")),
        };
        check_no_socket(user_path, metadata, "pipe the output to a program that connects to it")?;
        check_writable(user_path, &path)?;
        if !metadata.is_file() {
            return Ok(Target::Stream { user_path: user_path.into(), append });
        }
        check_replaceable(user_path, &path, metadata)?;
        check_directory(user_path, &path)?;
        let old = match append.then(|| File::open(&path).and_then(OldContent::new)).transpose() {
            // Another program has moved it away just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            old => old.map_err(|error| {
                Failure::cannot("read", user_path, &error, "--append needs to, to copy it")
            })?,
        };
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
            Err(NotFollowed { source, .. })
                if user_path.is_relative() && std::env::current_dir().is_err() =>
            {
                let advice = "the current directory is not there any more; change to another";
                Err(Failure::cannot("write", user_path, &source, advice))
            }
            Err(NotFollowed { path, source }) if source.kind() == io::ErrorKind::NotFound => {
                let advice = format!("make the directory first (mkdir -p {})", shell_word(path.as_os_str()));
                Err(Failure::cannot("write", user_path, &source, advice))
            }
            Err(NotFollowed { source, .. }) => {
                Err(Failure::cannot("write", user_path, &source, "check the path"))
            }
        }
    }
}

impl OldContent {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let identity = Identity::of(&file.metadata()?);
        Ok(OldContent { file, identity })
    }

    /// How many names the file has now; 0 if that cannot be known.
    #[cfg(target_os = "linux")]
    pub(crate) fn names(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().map_or(0, |now| now.nlink())
    }

    /// Whether the file has the name `path` now.
    #[cfg(unix)]
    pub(crate) fn has_name(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| Identity::of(&found).inode == self.identity.inode)
    }

    /// Whether the file, which is as `now`, has other content than the `copied` bytes that were read
    /// after it was opened.
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

fn is_directory(user_path: &Path) -> Failure {
    Failure::message(format!("cannot write {}: it is a directory; name a file in it", user_path.display()))
}

/// Opens a [`Target::Stream`].
pub(crate) fn open_stream(path: &Path, append: bool) -> Result<File, Failure> {
    let opened = OpenOptions::new().write(true).append(append).open(path);
    opened
        .map_err(|error| Failure::cannot("write", path, &error, "check what it is, and who may write to it"))
}

/// Another descriptor for what a descriptor of this process is open for. Both have one position: what is
/// written through one moves the other.
fn duplicate(number: i32, user_path: &Path) -> Result<File, Failure> {
    #[cfg(unix)]
    let (copy, is_read_only) = {
        use filedescriptor::{Error, FileDescriptor};
        use rustix::fs::{OFlags, fcntl_getfl};
        // std duplicates what it owns, and this is only a number.
        let copy = FileDescriptor::dup(&number).and_then(|copy| copy.as_file());
        let copy = copy.map_err(|error| match error {
            Error::Dup { source, .. } => source,
            other => io::Error::other(other),
        });
        let flags = copy.as_ref().ok().and_then(|file| fcntl_getfl(file).ok());
        (copy, flags.is_some_and(|flags| flags & OFlags::ACCMODE == OFlags::RDONLY))
    };
    #[cfg(not(unix))] // where no name is one of a descriptor
    let (copy, is_read_only) = (Err(io::ErrorKind::Unsupported.into()), false);
    if is_read_only {
        return Err(Failure::message(format!(
            "cannot write {}: it is open for reading only; open it for writing, as by {number}>FILE",
            user_path.display()
        )));
    }
    copy.map_err(|error| Failure::cannot("write", user_path, &error, "check what it is"))
}

/// Opens a descriptor of another process again. This neither waits nor changes anything: it is open already.
fn open_descriptor(path: &Path, append: bool) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.write(true).append(append);
    #[cfg(unix)]
    {
        // To open a FIFO whose readers have gone would wait for others.
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options.open(path).map_err(|error| {
        #[cfg(unix)]
        if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::NXIO) {
            return Failure::BrokenPipe;
        }
        Failure::cannot("write", path, &error, "check what it is, and who may write to it")
    })
}
