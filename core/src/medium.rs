//! The trait below the cursor: bytes at offsets, and nothing else.
//!
//! A medium has no position, never seeks, and never fills gaps: those are the cursor's, written
//! once for all media.

use core::fmt;
use embedded_io::ErrorKind;

/// Bytes at offsets, with a length.
///
/// This is what a [`Cursor`](crate::Cursor) stands on. An implementation keeps these rules, which
/// the cursor relies on and which `overspill`'s own tests check for every medium:
///
/// - `read_at` and `chunk_at` at or past [`len`](Medium::len) give nothing, and no error.
/// - `write_at` at `len` appends, before `len` overwrites, and may do both in one call. A short
///   count means that the rest did not fit; `Ok(0)` for a write of at least one byte means that
///   nothing fits at that offset.
/// - Bytes that `set_len` adds are zeros, even where others stood before.
/// - A method that returns an error has changed nothing that can be read back.
/// - A medium that has no room for what `set_len` asks says so with an error of kind
///   [`ErrorKind::WriteZero`].
pub trait Medium {
    /// What can go wrong below. `kind()` makes it usable through `embedded-io`.
    type Error: embedded_io::Error;

    /// The number of bytes that can be read: the end of the file.
    fn len(&self) -> u64;

    /// Whether there is nothing to read.
    #[inline]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `offset` into `buf` and returns how many: 0 only at the end, or if `buf`
    /// is empty. May return fewer than there are; calling again continues.
    ///
    /// # Errors
    /// Those of the medium.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, Self::Error>;

    /// Copies bytes from `data` to `offset`, which must not lie past the end, and returns how
    /// many were taken. The length grows if they reach past it.
    ///
    /// A medium takes nothing at an offset past its end: `set_len` comes first.
    ///
    /// # Errors
    /// Those of the medium; none of `data` is taken then.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, Self::Error>;

    /// Lends the bytes from `offset` on, as many as lie in one piece: at least one, unless
    /// `offset` is at the end or past it.
    ///
    /// # Errors
    /// Those of the medium.
    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], Self::Error>;

    /// Cuts the bytes past `len`, or adds zeros up to it.
    ///
    /// # Errors
    /// Those of the medium; of kind [`ErrorKind::WriteZero`] if it has no room for `len` bytes.
    fn set_len(&mut self, len: u64) -> Result<(), Self::Error>;

    /// Hands everything written to whatever lies below, if anything does.
    ///
    /// # Errors
    /// Those of the medium.
    #[inline]
    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods)]
impl<M: Medium + ?Sized> Medium for &mut M {
    type Error = M::Error;

    #[inline]
    fn len(&self) -> u64 {
        M::len(self)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        M::is_empty(self)
    }

    #[inline]
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, Self::Error> {
        M::read_at(self, offset, buf)
    }

    #[inline]
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, Self::Error> {
        M::write_at(self, offset, data)
    }

    #[inline]
    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], Self::Error> {
        M::chunk_at(self, offset)
    }

    #[inline]
    fn set_len(&mut self, len: u64) -> Result<(), Self::Error> {
        M::set_len(self, len)
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Self::Error> {
        M::flush(self)
    }
}

/// More bytes were asked of a fixed medium than it can hold. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapacityError {
    /// The length that was asked for, in bytes.
    pub asked: u64,
    /// The longest that this medium can be, in bytes.
    pub capacity: u64,
}

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a length of {} bytes was asked of a medium that holds {}", self.asked, self.capacity)
    }
}

impl core::error::Error for CapacityError {}

impl embedded_io::Error for CapacityError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::WriteZero
    }
}

/// The bytes of `held` from `offset` on; none if it lies past the end.
#[inline]
pub(crate) fn tail(held: &[u8], offset: u64) -> &[u8] {
    usize::try_from(offset).ok().and_then(|offset| held.get(offset..)).unwrap_or_default()
}

/// As [`tail`], to be written to.
#[inline]
pub(crate) fn tail_mut(held: &mut [u8], offset: u64) -> &mut [u8] {
    usize::try_from(offset).ok().and_then(|offset| held.get_mut(offset..)).unwrap_or_default()
}

/// Copies as much of `from` as `to` has room for, and returns how much.
#[inline]
pub(crate) fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let n = from.len().min(to.len());
    // Both halves are `n` long, which the compiler sees: no panic is left in `copy_from_slice`.
    if let (Some(from), Some(to)) = (from.get(..n), to.get_mut(..n)) {
        to.copy_from_slice(from);
    }
    n
}

/// Lengths in memory always fit: `usize` has at most 64 bits on every target Rust has.
#[inline]
pub(crate) fn as_u64(len: usize) -> u64 {
    len as u64
}
