//! The trait below the pages: bytes at offsets, somewhere outside the pool's memory.
//!
//! A store knows nothing of pages, buffers or pools, and never calls them.
//!
//! Held by: `tests/tests/tidy.rs` (imports), `tests/tests/transfers.rs` (pointers),
//! `tests/tests/spill_faults/`.

use crate::sync::Arc;
use crate::sync::fork::Forked;
use std::fs::File;
use std::io::{self, IoSlice};

/// As a store that has a lock of its own says it.
impl From<Forked> for io::Error {
    fn from(forked: Forked) -> Self {
        io::Error::new(io::ErrorKind::Deadlock, forked)
    }
}

/// A place for spilled pages: bytes at offsets.
///
/// Implement it to spill to something else than a temp file, and pass it to
/// [`PoolBuilder::store`](crate::PoolBuilder::store).
///
/// An implementation must read back what was written, until that is discarded or cut off. It should keep
/// nothing after it is dropped. It has no position. Several threads may call its methods at once; for
/// overlapping ranges only if all of them read. A method may use buffers of other pools, but neither the pool
/// that the store belongs to nor its buffers: it would wait for itself.
///
/// If a method panics, the pool treats that as an error of kind `Other` with the panic's message. As after
/// any other error, what was accepted before is safe, and the buffers stay usable.
///
/// ```
/// use overspill::{MemoryStore, SpillPool, Store};
/// use std::io::{self, Write};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// /// Counts the bytes that go to the store within.
/// #[derive(Debug, Default)]
/// struct Counted {
///     store: MemoryStore,
///     written: AtomicUsize,
/// }
///
/// impl Store for Counted {
///     fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
///         self.store.read_at(offset, buf)
///     }
///
///     fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
///         let n = self.store.write_at(offset, data)?;
///         self.written.fetch_add(n, Ordering::Relaxed);
///         Ok(n)
///     }
/// }
///
/// let store = Arc::new(Counted::default());
/// let pool = SpillPool::builder().memory(0).store(Arc::clone(&store)).build()?;
/// pool.buffer().write_all(b"twelve bytes")?;
/// assert_eq!(store.written.load(Ordering::Relaxed), 12);
/// # Ok::<(), io::Error>(())
/// ```
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Reads into `buf` from `offset`, and returns the number of bytes read.
    ///
    /// After a short read the caller calls again for the rest. The caller reads only what was written; so
    /// `Ok(0)` means that the store has lost those bytes, and becomes an error.
    ///
    /// # Errors
    /// Any error of the medium. After `Interrupted` the caller calls again.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes from `data` at `offset`, and returns the number of bytes written. `offset` may lie past
    /// everything written so far.
    ///
    /// After a short write the caller calls again for the rest. `Ok(0)` becomes an error.
    ///
    /// # Errors
    /// Any error of the medium. After `Interrupted` the caller calls again. `StorageFull`, `QuotaExceeded`
    /// and `FileTooLarge` mean that there is no room, and become
    /// [`SpillError::StoreFull`](crate::SpillError::StoreFull). After an error the bytes at `offset` should
    /// be as they were: with [`Checksums`](crate::Checksums), bytes that a failed call has changed read as
    /// corrupted.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize>;

    /// Writes from `parts`, one after another, as [`write_at`](Store::write_at) does from one slice. For
    /// pages that lie side by side in the store but not in memory.
    ///
    /// By default it writes from the first part that is not empty, and leaves the rest to the next call.
    ///
    /// # Errors
    /// As [`write_at`](Store::write_at).
    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = parts.iter().find(|part| !part.is_empty());
        self.write_at(offset, first.map_or(&[], |part| part))
    }

    /// Releases the room of the `len` bytes at `offset`, which are not needed any more. They are not read
    /// before they are written again.
    ///
    /// # Errors
    /// Any error of the medium. The bytes then keep their room. After `Unsupported`, `PermissionDenied` and
    /// `InvalidInput` it is not called again before [`SpillPool::trim`](crate::SpillPool::trim); after any
    /// other it is, when more was freed. Returns `Unsupported` by default.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Cuts the store to `len` bytes: nothing from there on is needed any more.
    ///
    /// # Errors
    /// Any error of the medium. The bytes then keep their room. Returns `Unsupported` by default.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Copies up to `len` bytes from `offset` to `file`, at its offset `at`, without a way through the memory
    /// of the process, and returns the number of bytes copied. The position of `file` stays.
    ///
    /// For stores that can let their system do it; a store that looks at its bytes as they pass, to decrypt
    /// them for example, keeps the default. It is not called for bytes that have
    /// [`Checksums`](crate::Checksums). After a short copy the caller calls again for the rest. `file` has to
    /// have bytes of its own then, which later writes to the store do not change.
    ///
    /// # Errors
    /// Any error, which is told to nobody: after it, as after `Ok(0)`, the caller reads the rest and writes
    /// it to `file`. After `Interrupted` the caller calls again. Returns `Unsupported` by default.
    fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        let _ = (offset, len, file, at);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Copies up to `len` bytes of `file`, from its offset `at`, to `offset` in the store, as
    /// [`copy_to_file`](Store::copy_to_file) does the other way.
    ///
    /// # Errors
    /// As [`copy_to_file`](Store::copy_to_file): the caller then reads from `file` and calls
    /// [`write_at`](Store::write_at). `Ok(0)` may also mean that `file` ends there.
    fn copy_from_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        let _ = (offset, len, file, at);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Implements [`Store`] for a pointer to a store.
macro_rules! forward {
    ($pointer:ident) => {
        #[deny(clippy::missing_trait_methods)]
        impl<S: Store + ?Sized> Store for $pointer<S> {
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
                (**self).read_at(offset, buf)
            }

            fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
                (**self).write_at(offset, data)
            }

            fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
                (**self).write_vectored_at(offset, parts)
            }

            fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
                (**self).discard(offset, len)
            }

            fn set_len(&self, len: u64) -> io::Result<()> {
                (**self).set_len(len)
            }

            fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
                (**self).copy_to_file(offset, len, file, at)
            }

            fn copy_from_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
                (**self).copy_from_file(offset, len, file, at)
            }
        }
    };
}

// For a store that is chosen at run time.
forward!(Box);
// For a store that the caller keeps a handle of.
forward!(Arc);
