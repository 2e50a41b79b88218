//! What lies below the pages: bytes at offsets, somewhere that is not the pool's memory.
//!
//! A store never knows who is spilling, and never calls back.

use crate::sync::Arc;
use std::io::{self, IoSlice};

/// A place for spilled pages.
///
/// All methods take `&self` and may be called from several threads at once, never for overlapping
/// ranges. Nothing here has a position of its own. What was written is to be read back until it is
/// freed or cut off; nothing is ever to survive the store's end.
///
/// A panic of a method is taken for an error of kind `Other` with the panic's message: what was accepted
/// before is safe, and the buffers stay usable, as after any other error.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Reads into `buf` from `offset`, and returns how many bytes: short reads are continued, and
    /// `Ok(0)` means that the store has lost what was written there.
    ///
    /// # Errors
    /// Whatever the store meets. `Interrupted` is tried again.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes from `data` at `offset`, which may lie past everything written so far, and returns
    /// how many bytes: short writes are continued.
    ///
    /// # Errors
    /// Whatever the store meets. `Interrupted` is tried again; `StorageFull`, `QuotaExceeded` and
    /// `FileTooLarge` say that there is no room. After an error, what lies there should be as it was: with
    /// [`Checksums`](crate::Checksums), what a failed call has changed is found to be corrupted.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize>;

    /// Writes from `parts`, one behind the other, as [`write_at`](Store::write_at) does from one piece: for pages that lie side
    /// by side in the store, but not in memory. Writes the first that is not empty, by default.
    ///
    /// # Errors
    /// As [`write_at`](Store::write_at).
    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = parts.iter().find(|part| !part.is_empty());
        self.write_at(offset, first.map_or(&[], |part| part))
    }

    /// The `len` bytes at `offset` are not needed any more: their room can be used for something
    /// else. They may be written again later.
    ///
    /// # Errors
    /// Whatever the store meets; the bytes then simply keep their room. `Unsupported` by default.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nothing from `len` on is needed any more.
    ///
    /// # Errors
    /// Whatever the store meets; the bytes then simply keep their room. `Unsupported` by default.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Forwards to the store within, for pointers to one.
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
        }
    };
}

// A store that was chosen while running.
forward!(Box);
// A store that the caller goes on looking at.
forward!(Arc);
