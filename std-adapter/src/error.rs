//! What can go wrong, named so that a program can act on it.

use crate::budget::Refused;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What was being done to the store when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Bytes were being read back.
    Read,
    /// Bytes were being written.
    Write,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Operation::Read => "read",
            Operation::Write => "write",
        })
    }
}

/// Whose limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitScope {
    /// That of all buffers of the pool together.
    Pool,
    /// That of the one buffer.
    Buffer,
}

impl LimitScope {
    fn advice(self) -> &'static str {
        match self {
            LimitScope::Pool => "drop or truncate other buffers, or raise the limit",
            LimitScope::Buffer => "truncate the buffer, or give the next one a higher limit",
        }
    }
}

impl std::fmt::Display for LimitScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LimitScope::Pool => "of the pool",
            LimitScope::Buffer => "of the buffer",
        })
    }
}

fn after(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" (room was waited for, {waited:.1?} in vain)") }
}

/// An operation on a [`SpillBuffer`](crate::SpillBuffer) failed.
///
/// Whatever the variant, nothing that was accepted before is lost by it, the position has moved by
/// exactly what the call took, and the buffer stays usable. What the store itself has lost is
/// [`Corrupted`](SpillError::Corrupted).
///
/// As an [`io::Error`] it has the [`io::ErrorKind`] given with each variant, and itself as the inner
/// error, so that [`io::Error::downcast`] gives it back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// The disk limit of the pool, or of the buffer, leaves no room. Kind: `QuotaExceeded`.
    ///
    /// Dropping, clearing or truncating buffers of the pool makes room below the pool's limit; see
    /// also [`WhenFull`](crate::WhenFull).
    #[error(
        "disk limit {scope} reached{}: {asked} more bytes asked, {used} of {limit} used; {}",
        after(*waited), scope.advice()
    )]
    DiskLimit {
        /// The limit, in bytes.
        limit: u64,
        /// How much of it is used, in bytes; what is set aside for others that wait is counted.
        used: u64,
        /// How much more was asked, in bytes.
        asked: u64,
        /// Whose limit it is.
        scope: LimitScope,
        /// How long room was waited for in vain; zero if nobody waited.
        waited: Duration,
    },

    /// The store below is full: the disk, a quota of the file system, or the size limit of files.
    /// Kind: `StorageFull`.
    #[error("the store is full: cannot write {len} bytes at its offset {offset}: {source}")]
    StoreFull {
        /// Where in the store, in bytes.
        offset: u64,
        /// How many bytes were still to be written.
        len: u64,
        /// The store's own error.
        source: io::Error,
    },

    /// The store below failed. Kind: that of the source.
    #[error("the store failed: cannot {operation} {len} bytes at its offset {offset}: {source}")]
    Store {
        /// What was being done.
        operation: Operation,
        /// Where in the store, in bytes.
        offset: u64,
        /// How many bytes were still to be moved.
        len: u64,
        /// The store's own error.
        source: io::Error,
    },

    /// What was read back from the store is not what was written there: it was changed below, or lost.
    /// Kind: `InvalidData`. Only a pool with [`Checksums`](crate::Checksums) can tell.
    ///
    /// The bytes are gone; nothing else is. Everything beside them can be read and written, and they can
    /// be cut off, or overwritten as a whole: then all is well again. A write of a part of them is refused.
    #[error(
        "{len} bytes at position {position} were changed in the store, at its offset {offset}: \
         they do not have their checksum; overwrite or cut off all of them"
    )]
    Corrupted {
        /// Where in the content they start, in bytes.
        position: u64,
        /// Where in the store, in bytes.
        offset: u64,
        /// How many bytes have that checksum together.
        len: u64,
    },

    /// No temp file could be made in the directory. Kind: that of the source.
    ///
    /// It is tried again each time one is needed.
    #[error("cannot make a temp file in {}: {source}; make the directory usable, or choose another", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The system's own error.
        source: io::Error,
    },

    /// A position past `u64::MAX` would be needed. Kind: `FileTooLarge`.
    #[error("cannot take {asked} bytes at position {position}: positions end at {}", u64::MAX)]
    TooLarge {
        /// Where the bytes would have started.
        position: u64,
        /// How many bytes there were.
        asked: u64,
    },

    /// A seek would have led before 0 or past `u64::MAX`. Kind: `InvalidInput`.
    #[error(transparent)]
    Seek(#[from] overspill_core::InvalidSeek),

    /// The file that the content was being handed to failed. Kind: that of the source.
    #[error("cannot write {}: {source}", path.display())]
    Target {
        /// The file, or the directory that it was being made in.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
}

impl SpillError {
    pub(crate) fn disk_limit(refused: Refused, asked: u64, scope: LimitScope) -> Self {
        let (limit, used) = (refused.limit, refused.taken);
        SpillError::DiskLimit { limit, used, asked, scope, waited: Duration::ZERO }
    }

    /// The kind that this error has as an [`io::Error`].
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            SpillError::DiskLimit { .. } => io::ErrorKind::QuotaExceeded,
            SpillError::StoreFull { .. } => io::ErrorKind::StorageFull,
            SpillError::Store { source, .. }
            | SpillError::Directory { source, .. }
            | SpillError::Target { source, .. } => source.kind(),
            SpillError::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            SpillError::Corrupted { .. } => io::ErrorKind::InvalidData,
            SpillError::Seek(_) => io::ErrorKind::InvalidInput,
        }
    }
}

impl From<SpillError> for io::Error {
    fn from(error: SpillError) -> Self {
        io::Error::new(error.kind(), error)
    }
}

/// So that a spilling medium can stand below `embedded-io` too.
impl overspill_core::embedded_io::Error for SpillError {
    fn kind(&self) -> overspill_core::embedded_io::ErrorKind {
        use overspill_core::embedded_io::ErrorKind;
        match SpillError::kind(self).into() {
            // To a cursor that kind says that the medium is full, and the error is dropped. A store that takes
            // nothing has failed, and where it did is to be told.
            ErrorKind::WriteZero => ErrorKind::Other,
            kind => kind,
        }
    }
}

/// The content could not be handed over: here it is again, whole.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct HandOverError {
    /// What went wrong.
    #[source]
    pub error: SpillError,
    /// The buffer, with all its bytes and its position.
    pub buffer: crate::SpillBuffer,
}

impl From<HandOverError> for io::Error {
    fn from(failed: HandOverError) -> Self {
        failed.error.into()
    }
}

/// A pool cannot be built as described.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The page size is not a power of two between 1 byte and 16 MiB.
    #[error(
        "a page size of {asked} bytes was asked; it must be a power of two from 1 to {}",
        crate::frame::PAGE_SIZE_MAX
    )]
    PageSize {
        /// What was asked for, in bytes.
        asked: usize,
    },

    /// The memory fraction is not between 0 and 1.
    #[error("a memory fraction of {asked} was asked; it must be between 0 and 1")]
    MemoryFraction {
        /// What was asked for, as text.
        asked: String,
    },
}

impl From<BuildError> for io::Error {
    fn from(error: BuildError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}
