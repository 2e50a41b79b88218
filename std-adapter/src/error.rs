//! The errors of a buffer, one variant for each thing that a program can act on.
//!
//! Promises:
//!
//! - An error says what was being done to what, and what would have worked.
//! - Its `Display` never repeats its [`source`](std::error::Error::source), so a printer of the whole chain
//!   shows each error once. Its alternate form, `{:#}`, is that chain on one line.
//! - It can be taken back, whole, out of the [`io::Error`] that it was turned into. The exceptions are
//!   [`SpillError::OutOfMemory`], which takes no memory, and an error for which there is no memory: of these,
//!   only the kind is left.
//!
//! Held by: the tests at the end of this file, and `tests/tests/errors.rs`.

use crate::sync::fork::Forked;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What a [`Store`](crate::Store) was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreOperation {
    /// Reading spilled bytes back.
    Read,
    /// Writing bytes to the store.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiskLimitScope {
    /// The limit on all buffers of the pool together.
    Pool,
    /// The limit on this one buffer. Also the buffer's own memory limit, in a pool without a disk: waiting
    /// for other buffers would not help.
    Buffer,
}

impl DiskLimitScope {
    /// The name in events of `tracing`: `pool` or `buffer`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DiskLimitScope::Pool => "pool",
            DiskLimitScope::Buffer => "buffer",
        }
    }
}

/// As in a sentence: `of the pool`, `of the buffer`.
impl fmt::Display for DiskLimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskLimitScope::Pool => "of the pool",
            DiskLimitScope::Buffer => "of the buffer",
        })
    }
}

/// An operation on a [`SpillBuffer`](crate::SpillBuffer) failed.
///
/// Whatever the variant, the failure loses nothing that was accepted before, the position has moved by
/// exactly what the call took, and the buffer stays usable. Bytes that the store itself has lost are
/// [`Corrupted`](SpillError::Corrupted).
///
/// The [`io::Error`] that it turns into has the [`io::ErrorKind`] named at each variant, and this error as
/// its inner error, so [`io::Error::downcast`] returns it. There is no inner error for
/// [`OutOfMemory`](SpillError::OutOfMemory), nor for any other while there is no memory to hold it.
///
/// `{error}` omits the sources; `{error:#}` adds them, on one line. Both do the same for the `io::Error`:
///
/// ```
/// let refused = overspill::SpillBuffer::new().persist("no/such/directory/file").unwrap_err().into_error();
/// assert_eq!(refused.to_string(), "cannot write no/such/directory/file");
/// // And what the system says:
/// assert!(format!("{refused:#}").starts_with("cannot write no/such/directory/file: "));
/// ```
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
    /// The disk limit of the pool or of the buffer leaves too little room. Kind: `QuotaExceeded`.
    ///
    /// Dropping, clearing or truncating buffers of the pool makes room below the pool's limit.
    /// [`WhenFull`](crate::WhenFull) lets calls wait for that.
    #[non_exhaustive]
    DiskLimit {
        /// The limit, in bytes.
        limit: u64,
        /// The bytes of it that are used, including those set aside for waiters. If there is room for
        /// `requested` beside them, that room is left to waiters that came earlier.
        used: u64,
        /// The further bytes that were requested: whole blocks of 4 KiB, or whole pages if those are smaller;
        /// in steps of 128 bytes for a small body at rest, and where the limit is the buffer's own.
        requested: u64,
        /// Whose limit it is.
        scope: DiskLimitScope,
        /// How long the call waited for room before it failed; zero if it did not wait.
        waited: Duration,
    },

    /// The store has no room: the disk is full, or a file system quota or a file size limit is reached.
    /// Kind: `StorageFull`.
    ///
    /// At a file size limit (`ulimit -f`, systemd's `LimitFSIZE`) the system first sends `SIGXFSZ`, which
    /// ends a process that neither ignores nor handles it. A program that may run under such a limit should
    /// ignore or handle that signal, for example by calling `signal_hook::flag::register(SIGXFSZ,
    /// Default::default())` once.
    #[non_exhaustive]
    StoreFull {
        /// Where in the store the write started, in bytes.
        offset: u64,
        /// The bytes that were still to be written.
        len: u64,
        /// The store's own error.
        source: io::Error,
    },

    /// The store failed. Kind: that of the source.
    #[non_exhaustive]
    Store {
        /// What the store was doing.
        operation: StoreOperation,
        /// Where in the store the transfer started, in bytes.
        offset: u64,
        /// The bytes that were still to be moved.
        len: u64,
        /// The store's own error.
        source: io::Error,
    },

    /// The store returned bytes other than those written there: something below it changed or lost them.
    /// Kind: `InvalidData`. Only a pool with [`Checksums`](crate::Checksums) detects this.
    ///
    /// The bytes are gone; nothing else is. Everything beside them can be read and written. Overwriting all
    /// of them, or cutting them off, ends the error. A write of only a part of them is refused.
    #[non_exhaustive]
    Corrupted {
        /// Where in the content the corrupted bytes start, in bytes.
        position: u64,
        /// Where in the store the corrupted bytes start, in bytes.
        offset: u64,
        /// The number of bytes that share the checksum.
        len: u64,
    },

    /// No temp file could be made in the directory. Kind: that of the source. If the disk has no room even
    /// for an empty file, it is [`StoreFull`](SpillError::StoreFull) instead.
    ///
    /// Each later call that needs the file tries again.
    #[non_exhaustive]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The system's own error.
        source: io::Error,
    },

    /// The bytes would lie past the last position: `u64::MAX`, or, for a buffer with a [file of its
    /// own](crate::SpillPool::buffer_for), the end of the longest possible file. Kind: `FileTooLarge`.
    #[non_exhaustive]
    TooLarge {
        /// Where the bytes would have started; for a page that was to be spilled, where the page starts.
        position: u64,
        /// The number of bytes to be written; for a page that was to be spilled, all bytes of the page.
        requested: u64,
        /// Where positions end: `u64::MAX`, or, for a buffer with a file of its own, the end of the last
        /// whole page before `i64::MAX`.
        end: u64,
    },

    /// The writer of a spool has failed, or was dropped before it had finished: the content is not whole, and
    /// no more bytes will come. Kind: `ConnectionAborted`. A reader gets this error only after it has read
    /// all that was written.
    #[non_exhaustive]
    Unfinished {
        /// How many bytes were written in all.
        written: u64,
        /// The reason that the writer gave; `None` if it was dropped.
        reason: Option<String>,
    },

    /// A reader of a spool has waited for the whole of its timeout, and nothing more was written. Kind:
    /// `TimedOut`. The next call waits again.
    #[non_exhaustive]
    NothingWritten {
        /// How long the call has waited.
        waited: Duration,
    },

    /// The bytes were passed by readers that [read once](crate::SpoolReader::once): by all readers of a
    /// spool, so that the bytes are gone; or by this reader, which was to seek back. Kind: `InvalidInput`.
    #[non_exhaustive]
    Passed {
        /// The position of the byte that was to be read.
        position: u64,
        /// The first position that can be read.
        kept_from: u64,
    },

    /// The system refused the process the memory to record where a page is. Kind: `OutOfMemory`. Pages that
    /// are recorded already stay usable.
    ///
    /// The [`io::Error`] that it turns into has that kind and no inner error, which would take memory.
    OutOfMemory,

    /// This process was forked while another thread of its parent was using the pool, or the same content:
    /// what that thread was changing is lost in this process. Kind: `Deadlock`. A pool that this process
    /// makes itself works; the parent is not affected.
    Forked,

    /// An async operation needs the store, and no runtime runs its job: the operation was polled outside of a
    /// runtime, or in one that is shutting down. Kind: `Other`. Nothing was lost: polled in a runtime, the
    /// operation goes on.
    NoRuntime,

    /// A job of an async operation has panicked, in the store or in the function that was passed to
    /// `AsyncSpillBuffer::run`. Kind: `Other`.
    #[non_exhaustive]
    JobPanicked {
        /// The message of the panic.
        message: String,
    },

    /// A seek would have ended before 0 or past the last possible position. The position has not moved.
    /// Kind: `InvalidInput`.
    #[non_exhaustive]
    InvalidSeek {
        /// The position that the offset counts from: the current one, or the length; for `SeekFrom::Start`,
        /// the requested one.
        from: u64,
        /// The offset that leads out of range; 0 for `SeekFrom::Start`.
        offset: i64,
        /// The last possible position: `u64::MAX`; for a slice, `u64::MAX` less the position at which the
        /// slice begins; for a spool, the number of bytes written.
        end: u64,
    },

    /// The file that the content was to become could not be made, written or named. Kind: that of the source.
    #[non_exhaustive]
    Target {
        /// The file, or the directory in which it was being made.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },

    /// The file with the whole content has its name, but the directory could not be synced: after a crash of
    /// the machine, the name may be that of the old file, or of none. Kind: that of the source. Only
    /// [`Persisted::durable`](crate::Persisted::durable) returns it.
    #[non_exhaustive]
    NotDurable {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
}

impl SpillError {
    pub(crate) fn disk_limit(limit: u64, used: u64, requested: u64, scope: DiskLimitScope) -> Self {
        SpillError::DiskLimit { limit, used, requested, scope, waited: Duration::ZERO }
    }

    /// The `SpillError` that is the inner error of `error`, or `None` if there is none.
    ///
    /// The errors that `Read`, `Write` and `Seek` of a buffer return have one, with three exceptions: those
    /// of the kinds `UnexpectedEof` and `OutOfMemory`, and of `InvalidData` where text was to be read and the
    /// bytes are not UTF-8.
    ///
    /// This function does not look at sources. A walk along [`source`](std::error::Error::source) does not
    /// find the error either, since an [`io::Error`] skips its own inner error. [`find`](SpillError::find)
    /// looks at the inner error of each link.
    ///
    /// ```
    /// use overspill::{DiskLimitScope, SpillError, SpillPool};
    /// use std::io::Write;
    ///
    /// let pool = SpillPool::builder().memory(0).disk(0).build()?;
    /// let refused = pool.buffer().write_all(b"nowhere to go").unwrap_err();
    /// assert!(matches!(
    ///     SpillError::of(&refused),
    ///     Some(SpillError::DiskLimit { scope: DiskLimitScope::Pool, .. })
    /// ));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&SpillError> {
        error.get_ref()?.downcast_ref()
    }

    /// The first `SpillError` among `error` and its sources, inner errors of [`io::Error`]s included.
    ///
    /// ```
    /// use overspill::{SpillError, SpillPool};
    /// use std::error::Error;
    /// use std::io::Write;
    ///
    /// /// Some layers above: the type of the error is lost.
    /// fn save(pool: &SpillPool) -> Result<(), Box<dyn Error>> {
    ///     pool.buffer().write_all(b"nowhere to go")?;
    ///     Ok(())
    /// }
    ///
    /// let pool = SpillPool::builder().memory(0).disk(0).build()?;
    /// let refused = save(&pool).unwrap_err();
    /// assert!(matches!(SpillError::find(&*refused), Some(SpillError::DiskLimit { limit: 0, .. })));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a SpillError> {
        find(error)
    }

    /// The kind of the [`io::Error`] that this error turns into.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            SpillError::DiskLimit { .. } => io::ErrorKind::QuotaExceeded,
            SpillError::StoreFull { .. } => io::ErrorKind::StorageFull,
            SpillError::Store { source, .. }
            | SpillError::Directory { source, .. }
            | SpillError::Target { source, .. }
            | SpillError::NotDurable { source, .. } => source.kind(),
            SpillError::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            SpillError::OutOfMemory => io::ErrorKind::OutOfMemory,
            SpillError::Forked => io::ErrorKind::Deadlock,
            SpillError::Corrupted { .. } => io::ErrorKind::InvalidData,
            SpillError::InvalidSeek { .. } | SpillError::Passed { .. } => io::ErrorKind::InvalidInput,
            SpillError::Unfinished { .. } => io::ErrorKind::ConnectionAborted,
            SpillError::NothingWritten { .. } => io::ErrorKind::TimedOut,
            SpillError::NoRuntime | SpillError::JobPanicked { .. } => io::ErrorKind::Other,
        }
    }
}

impl From<Forked> for SpillError {
    fn from(_: Forked) -> Self {
        SpillError::Forked
    }
}

impl From<SpillError> for io::Error {
    fn from(error: SpillError) -> Self {
        if matches!(error, SpillError::OutOfMemory) || !has_memory_for_one() {
            return error.kind().into();
        }
        io::Error::new(error.kind(), error)
    }
}

/// The first error of type `T` among `error` and its sources, found as by [`SpillError::find`].
pub(crate) fn find<'a, T>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T>
where
    T: std::error::Error + 'static,
{
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        link = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Whether there is memory for an [`io::Error`] with an inner error. std has no constructor of one that
/// survives a failed allocation: it boxes the error, and then its kind with that box. So this requests as
/// many bytes, and frees them.
fn has_memory_for_one() -> bool {
    let (mut error, mut boxed) = (Vec::<SpillError>::new(), Vec::<[usize; 3]>::new());
    let has_memory = error.try_reserve_exact(1).is_ok() && boxed.try_reserve_exact(1).is_ok();
    // Otherwise the compiler leaves the requests out.
    std::hint::black_box((&error, &boxed));
    has_memory
}

pub(crate) mod text;

#[cfg(test)]
mod tests;
