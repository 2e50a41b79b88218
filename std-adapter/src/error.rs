//! The errors of a buffer, one variant for each thing that a program can act on.
//!
//! Promises:
//!
//! - An error says what was being done to what, and what would have worked.
//! - Its `Display` never repeats its [`source`](std::error::Error::source), so a printer of the whole chain
//!   shows each error once. Its alternate form, `{:#}`, is that chain on one line.
//! - It comes back whole from the [`io::Error`] that it was turned into, but for [`SpillError::OutOfMemory`],
//!   which is made of no memory, and where there is no memory for it: then the kind is left.
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
    /// The limit on this one buffer. Also where the pool has no disk, and the buffer's own memory limit is
    /// reached: waiting for others would not help.
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
/// Turned into an [`io::Error`], it has the [`io::ErrorKind`] named at each variant and is the inner error
/// (but for [`OutOfMemory`](SpillError::OutOfMemory), and for any error while there is no memory to put it
/// there), so [`io::Error::downcast`] returns it.
///
/// `{error}` leaves the source out; `{error:#}` adds the sources, on one line, also of the `io::Error`:
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
        /// The bytes of it that are used, those set aside for waiters included. If there is room for
        /// `requested` beside them, it is left to waiters that came before.
        used: u64,
        /// The further bytes that were requested: whole blocks of 4 KiB, or whole pages if those are smaller;
        /// for a small body at rest, and the buffer's own limit, steps of 128 bytes.
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
    /// ends a process that neither ignores nor handles it. A program that may have such a limit does so once,
    /// as by `signal_hook::flag::register(SIGXFSZ, Default::default())`.
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

    /// The store returned bytes other than those written there: they were changed below, or lost.
    /// Kind: `InvalidData`. Only a pool with [`Checksums`](crate::Checksums) detects this.
    ///
    /// The bytes are gone; nothing else is. Everything beside them can be read and written. Overwriting all
    /// of them, or cutting them off, ends the error. A write of only a part of them is refused.
    #[non_exhaustive]
    Corrupted {
        /// Where in the content they start, in bytes.
        position: u64,
        /// Where in the store they start, in bytes.
        offset: u64,
        /// The number of bytes that share the checksum.
        len: u64,
    },

    /// No temp file could be made in the directory. Kind: that of the source.
    ///
    /// Each later call that needs the file tries again.
    #[non_exhaustive]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The system's own error.
        source: io::Error,
    },

    /// The bytes would lie past the last position: `u64::MAX`, or of a buffer with a [file of its
    /// own](crate::SpillPool::buffer_for) the end of the longest file. Kind: `FileTooLarge`.
    #[non_exhaustive]
    TooLarge {
        /// Where the bytes would have started; of a page that was to be spilled, where that does.
        position: u64,
        /// The number of bytes to be written; of a page that was to be spilled, all of its.
        requested: u64,
        /// Where positions end: `u64::MAX`, or with a file of its own the last whole page before
        /// `i64::MAX`.
        end: u64,
    },

    /// The writer of a spool has failed, or was dropped before it had finished: more bytes were to come, and
    /// will not. Kind: `ConnectionAborted`. A reader has read all that was written by then.
    #[non_exhaustive]
    Unfinished {
        /// How many bytes were written in all.
        written: u64,
        /// What the writer has said; `None` if it was dropped.
        reason: Option<String>,
    },

    /// A reader of a spool has waited for as long as it may, and nothing more was written. Kind: `TimedOut`.
    /// The next call waits again.
    #[non_exhaustive]
    NothingWritten {
        /// How long the call has waited.
        waited: Duration,
    },

    /// Readers that [read once](crate::SpoolReader::once) have passed the bytes: all readers of a spool, and
    /// the bytes are gone; or the one that was to seek back. Kind: `InvalidInput`.
    #[non_exhaustive]
    Passed {
        /// The position of the byte that was to be read.
        position: u64,
        /// The first position that can be read.
        kept_from: u64,
    },

    /// The system refused the process the memory to note where a page is. Kind: `OutOfMemory`. What has such
    /// notes already can be used on.
    ///
    /// As an [`io::Error`] it is that kind and nothing more: an inner error would take memory.
    OutOfMemory,

    /// This process was forked while another thread of its parent was using the pool, or the same content:
    /// what that thread was about is lost here. Kind: `Deadlock`. A pool of this process's own works; the
    /// parent goes on undisturbed.
    Forked,

    /// No runtime runs the job of an async operation, which needs the store: it was polled outside of one, or
    /// in one that is shutting down. Kind: `Other`. Nothing was lost: polled in a runtime, it goes on.
    NoRuntime,

    /// A job of an async operation has panicked, in the store or in what `AsyncSpillBuffer::run` was given.
    /// Kind: `Other`.
    #[non_exhaustive]
    JobPanicked {
        /// The message of the panic.
        message: String,
    },

    /// A seek would have ended before 0 or past the last possible position. The position has not moved.
    /// Kind: `InvalidInput`.
    #[non_exhaustive]
    InvalidSeek {
        /// What the offset counts from: the position, or the length; of `SeekFrom::Start` the place itself.
        from: u64,
        /// The offset that leads out of range; 0 of `SeekFrom::Start`.
        offset: i64,
        /// The last possible position: `u64::MAX`; of a slice, that less where it begins; of a
        /// spool, what is written.
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

    /// The whole content has its name, but the directory could not be synced: a crash of the machine may
    /// bring back the old file, or none. Kind: that of the source. Only
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

    /// The error of a buffer that is the inner error of `error`, if it is: `None` for an error of something
    /// else.
    ///
    /// The errors that `Read`, `Write` and `Seek` of a buffer return have one, with three exceptions: those
    /// of the kinds `UnexpectedEof` and `OutOfMemory`, and of `InvalidData` where text was to be read and the
    /// bytes are no UTF-8.
    ///
    /// It does not look further. A walk along [`source`](std::error::Error::source) does not show what is
    /// found here, since an [`io::Error`] passes over its own inner error: [`find`](SpillError::find) looks
    /// for that at each link.
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

    /// The first error of a buffer among `error` and its sources, also where an [`io::Error`] has it within.
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

/// The first error of type `T` among `error` and its sources, as [`SpillError::find`].
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

/// Whether there is memory for an [`io::Error`] with an error within. std has none whose allocation
/// may be refused: it boxes the error, and its kind with that box. So as many bytes are requested
/// and given back first.
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
