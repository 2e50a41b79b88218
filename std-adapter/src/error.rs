//! What can go wrong with a buffer, named so that a program can act on it.
//!
//! An error says what was being done to what, and what would have worked. Its `Display` never repeats its
//! [`source`](std::error::Error::source), so that a printer of the whole chain shows each error once.
//!
//! Held by: the tests at the end of this file, and `tests/tests/errors.rs`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What a [`Store`](crate::Store) was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreOperation {
    /// Bytes were being read back.
    Read,
    /// Bytes were being written.
    Write,
}

impl fmt::Display for StoreOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreOperation::Read => "read",
            StoreOperation::Write => "write",
        })
    }
}

/// Whose disk limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskLimitScope {
    /// That of all buffers of the pool together.
    Pool,
    /// That of the one buffer.
    Buffer,
}

impl DiskLimitScope {
    fn advice(self) -> &'static str {
        match self {
            DiskLimitScope::Pool => "drop or truncate other buffers, or raise the limit",
            DiskLimitScope::Buffer => "truncate the buffer, or give the next one a higher limit",
        }
    }
}

impl fmt::Display for DiskLimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskLimitScope::Pool => "of the pool",
            DiskLimitScope::Buffer => "of the buffer",
        })
    }
}

fn after(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" (no room came free in {waited:.1?})") }
}

/// An operation on a [`SpillBuffer`](crate::SpillBuffer) failed.
///
/// Whatever the variant, nothing that was accepted before is lost by it, the position has moved by
/// exactly what the call took, and the buffer stays usable. What the store itself has lost is
/// [`Corrupted`](SpillError::Corrupted).
///
/// As an [`io::Error`] it has the [`io::ErrorKind`] named with each variant, and itself as the inner
/// error, so that [`io::Error::downcast`] returns it. `Display` leaves the source out: print the chain.
///
/// ```
/// use overspill::{SpillError, SpillPool};
/// use std::io::Write;
///
/// let pool = SpillPool::builder().memory(0).disk(0).build()?;
/// let refused = pool.buffer().write_all(b"nowhere to go").unwrap_err();
/// match refused.downcast::<SpillError>() {
///     Ok(SpillError::DiskLimit { limit, requested, .. }) => assert_eq!((limit, requested), (0, 4096)),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// The disk limit of the pool, or of the buffer, leaves no room. Kind: `QuotaExceeded`.
    ///
    /// Dropping, clearing or truncating buffers of the pool makes room below the pool's limit; see
    /// also [`WhenFull`](crate::WhenFull).
    #[error(
        "disk limit {scope} reached{}: {requested} more bytes requested, {used} of {limit} used; {}",
        after(*waited), scope.advice()
    )]
    #[non_exhaustive]
    DiskLimit {
        /// The limit, in bytes.
        limit: u64,
        /// How much of it is used, in bytes; what is set aside for waiters is counted.
        used: u64,
        /// How much more was requested, in bytes.
        requested: u64,
        /// Whose limit it is.
        scope: DiskLimitScope,
        /// How long the call waited for room before it failed; zero if it did not wait.
        waited: Duration,
    },

    /// The store below is full: the disk, a quota of the file system, or the size limit of files.
    /// Kind: `StorageFull`.
    #[error("the store is full: cannot write {len} bytes at its offset {offset}")]
    #[non_exhaustive]
    StoreFull {
        /// Where in the store, in bytes.
        offset: u64,
        /// How many bytes were still to be written.
        len: u64,
        /// The store's own error.
        source: io::Error,
    },

    /// The store below failed. Kind: that of the source.
    #[error("the store failed: cannot {operation} {len} bytes at its offset {offset}")]
    #[non_exhaustive]
    Store {
        /// What was being done.
        operation: StoreOperation,
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
    #[non_exhaustive]
    Corrupted {
        /// Where in the content they start, in bytes.
        position: u64,
        /// Where in the store, in bytes.
        offset: u64,
        /// How many bytes share that checksum.
        len: u64,
    },

    /// No temp file could be made in the directory. Kind: that of the source.
    ///
    /// It is tried again each time one is needed.
    #[error("cannot make a temp file in {}; make the directory usable, or choose another", dir.display())]
    #[non_exhaustive]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The system's own error.
        source: io::Error,
    },

    /// A position past `u64::MAX` would be needed. Kind: `FileTooLarge`.
    #[error("cannot take {requested} bytes at position {position}: positions end at {}", u64::MAX)]
    #[non_exhaustive]
    TooLarge {
        /// Where the bytes would have started.
        position: u64,
        /// How many bytes there were.
        requested: u64,
    },

    /// A seek would have led before 0 or past `u64::MAX`; the position has not moved. Kind: `InvalidInput`.
    #[error("a seek by {offset} from {from} leads out of 0..={}", u64::MAX)]
    #[non_exhaustive]
    InvalidSeek {
        /// What the offset was counted from: the position, or the length.
        from: u64,
        /// The offset that leads out of range.
        offset: i64,
    },

    /// The file that the content was being moved to failed. Kind: that of the source.
    #[error("cannot write {}", path.display())]
    #[non_exhaustive]
    Target {
        /// The file, or the directory that it was being made in.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
}

impl SpillError {
    pub(crate) fn disk_limit(limit: u64, used: u64, requested: u64, scope: DiskLimitScope) -> Self {
        SpillError::DiskLimit { limit, used, requested, scope, waited: Duration::ZERO }
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
            SpillError::InvalidSeek { .. } => io::ErrorKind::InvalidInput,
        }
    }
}

impl From<SpillError> for io::Error {
    fn from(error: SpillError) -> Self {
        io::Error::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    fn source() -> io::Error {
        io::Error::from(io::ErrorKind::PermissionDenied)
    }

    fn limit(scope: DiskLimitScope, waited: Duration) -> SpillError {
        SpillError::DiskLimit { limit: 10, used: 9, requested: 4, scope, waited }
    }

    /// One of each: its kind, its words, and whether it has a source.
    fn table() -> [(SpillError, io::ErrorKind, &'static str, bool); 9] {
        use io::ErrorKind::*;
        [
            (
                limit(DiskLimitScope::Pool, Duration::ZERO),
                QuotaExceeded,
                "disk limit of the pool reached: 4 more bytes requested, 9 of 10 used; drop or truncate other \
                 buffers, or raise the limit",
                false,
            ),
            (
                limit(DiskLimitScope::Buffer, Duration::from_millis(1500)),
                QuotaExceeded,
                "disk limit of the buffer reached (no room came free in 1.5s): 4 more bytes requested, 9 of 10 \
                 used; truncate the buffer, or give the next one a higher limit",
                false,
            ),
            (
                SpillError::StoreFull { offset: 7, len: 8, source: source() },
                StorageFull,
                "the store is full: cannot write 8 bytes at its offset 7",
                true,
            ),
            (
                SpillError::Store { operation: StoreOperation::Read, offset: 7, len: 8, source: source() },
                PermissionDenied,
                "the store failed: cannot read 8 bytes at its offset 7",
                true,
            ),
            (
                SpillError::Corrupted { position: 1, offset: 2, len: 3 },
                InvalidData,
                "3 bytes at position 1 were changed in the store, at its offset 2: they do not have their \
                 checksum; overwrite or cut off all of them",
                false,
            ),
            (
                SpillError::Directory { dir: "some/where".into(), source: source() },
                PermissionDenied,
                "cannot make a temp file in some/where; make the directory usable, or choose another",
                true,
            ),
            (
                SpillError::TooLarge { position: 5, requested: 6 },
                FileTooLarge,
                "cannot take 6 bytes at position 5: positions end at 18446744073709551615",
                false,
            ),
            (
                SpillError::InvalidSeek { from: 5, offset: -6 },
                InvalidInput,
                "a seek by -6 from 5 leads out of 0..=18446744073709551615",
                false,
            ),
            (
                SpillError::Target { path: "some/file".into(), source: source() },
                PermissionDenied,
                "cannot write some/file",
                true,
            ),
        ]
    }

    #[test]
    fn each_says_what_it_was_and_keeps_its_kind_and_source() {
        for (error, kind, text, has_source) in table() {
            assert_eq!((error.kind(), error.to_string()), (kind, text.to_owned()));
            assert_eq!(error.source().is_some(), has_source, "{text}");
            let passed_on = io::Error::from(error);
            assert_eq!((passed_on.kind(), passed_on.to_string()), (kind, text.to_owned()));
            let back = passed_on.downcast::<SpillError>().expect("itself within");
            assert_eq!(back.kind(), kind);
        }
    }

    /// A printer of the chain showed "permission denied" twice, once at the end of the outer line.
    #[test]
    fn a_chain_shows_each_error_once() {
        for (error, _, _, has_source) in table() {
            let outer = error.to_string();
            let inner = error.source().map(ToString::to_string);
            assert_eq!(inner.is_some(), has_source);
            assert!(inner.is_none_or(|inner| !outer.contains(&inner)), "{outer}");
        }
    }
}
