//! A position on a medium, with the semantics of a binary file: written once, for every medium.
//!
//! Promises, the negative ones included:
//!
//! - A seek never accesses the medium's content. Past the end it succeeds, and only a write
//!   makes the gap real.
//! - A failed call moves nothing and loses nothing. A short count moves by exactly that count. `write_all`
//!   and `read_exact` are several calls: those before the one that failed have moved.
//! - `set_len` never moves the position, even if it cuts below it.
//! - `write` of at least one byte never returns `Ok(0)`.
//!
//! Held by: `tests/tests/cursor_model.rs` (against a model, over every medium),
//! `tests/tests/cursor_edges.rs`, `tests/tests/conformance.rs`, `fuzz/fuzz_targets/cursor.rs`,
//! `tests/firmware/`.

use crate::medium::{Medium, ReadMedium, as_u64};
use core::fmt;
use embedded_io::{Error as _, ErrorKind, SeekFrom};

/// A seekable cursor over a [`Medium`].
///
/// It behaves as a file opened in binary mode: seeking past the end is allowed and before the beginning is
/// not, reading past the end returns nothing, writing there fills the gap with zeros, and `set_len` extends
/// as well as cuts. A failed call leaves everything as it was, except for `write_all` and `read_exact` of
/// `embedded-io`: what they moved before they failed stays moved.
///
/// Over a [`ReadMedium`] it reads and seeks; over a [`Medium`] it also writes. Every call costs the medium's
/// own call and a few comparisons. See the [crate's documentation](crate) for an example.
///
/// It is `Clone` if its medium is; the clone has a position of its own. It is not `Copy`, so that a position
/// is never forked implicitly: a function that is passed a copy would move only the copy.
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[derive(Clone, Debug, Default)]
pub struct Cursor<M: ?Sized> {
    /// Where the next read or write starts: any `u64`, past the end too.
    position: u64,
    medium: M,
}

/// A write failed, and took none of its data.
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError<E> {
    /// Not one byte of the data fits at this position.
    ///
    /// The medium returned an error of kind [`ErrorKind::WriteZero`], or this is the last position,
    /// `u64::MAX`.
    #[non_exhaustive]
    Full {
        /// Where the write would have started.
        position: u64,
        /// The number of bytes refused: all that were passed.
        refused: usize,
    },
    /// The medium failed. This error has the message and the source of the medium's error.
    Medium(E),
}

/// A seek that would have ended before 0 or past `u64::MAX`. The position has not moved.
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidSeek {
    /// The position that the offset was counted from, in bytes: the current one, or the length.
    pub from: u64,
    /// The offset that leads out of range, in bytes.
    pub offset: i64,
}

/// Any failure of a [`Cursor`], and the error of its `embedded-io` traits. The operator `?` turns the errors
/// of the cursor's own methods into it: those of seeks, of reads and of writes.
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CursorError<E> {
    /// See [`WriteError::Full`].
    #[non_exhaustive]
    Full {
        /// Where the write would have started.
        position: u64,
        /// The number of bytes refused: all that were passed.
        refused: usize,
    },
    /// See [`InvalidSeek`].
    InvalidSeek(InvalidSeek),
    /// The medium failed, or has no room for a length that was set. This error has the message and the source
    /// of the medium's error.
    Medium(E),
}

impl<M> Cursor<M> {
    /// A cursor at position 0 of `medium`.
    pub const fn new(medium: M) -> Self {
        Cursor::at(medium, 0)
    }

    /// A cursor at `position`, which may lie past the end.
    ///
    /// ```
    /// use overspill_core::{Cursor, Fixed};
    ///
    /// let mut memory = Fixed::filled(*b"length: ?");
    /// Cursor::at(&mut memory, 8).write(b"4")?;
    /// assert_eq!(memory.as_slice(), b"length: 4");
    /// # Ok::<(), overspill_core::WriteError<overspill_core::CapacityError>>(())
    /// ```
    pub const fn at(medium: M, position: u64) -> Self {
        Cursor { position, medium }
    }

    /// Returns the medium.
    pub fn into_inner(self) -> M {
        self.medium
    }
}

impl<M: ?Sized> Cursor<M> {
    /// The position at which the next read or write starts, in bytes from the beginning.
    #[inline]
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Moves to `position`, which may lie past the end.
    #[inline]
    pub const fn set_position(&mut self, position: u64) {
        self.position = position;
    }

    /// Moves to the beginning.
    #[inline]
    pub const fn rewind(&mut self) {
        self.position = 0;
    }

    /// The medium.
    #[inline]
    pub const fn get_ref(&self) -> &M {
        &self.medium
    }

    /// The medium, mutably. The position stays where it is.
    #[inline]
    pub const fn get_mut(&mut self) -> &mut M {
        &mut self.medium
    }
}

impl<M: ReadMedium + ?Sized> Cursor<M> {
    /// The number of bytes in the medium.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.medium.len()
    }

    /// Whether the medium is empty.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.medium.is_empty()
    }

    /// The number of bytes between the position and the end: 0 at the end and past it.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.len().saturating_sub(self.position)
    }

    /// Reads into `buf`, moves past the bytes that were read, and returns how many they are: `Ok(0)` at the
    /// end, past it, or if `buf` is empty. May read fewer bytes than are left.
    ///
    /// # Errors
    /// Those of the medium; the position has not moved.
    #[inline]
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, M::Error> {
        let n = self.medium.read_at(self.position, buf)?;
        self.position = self.position.saturating_add(as_u64(n));
        Ok(n)
    }

    /// Moves to a position relative to the beginning, the end or the current position, and returns the new
    /// position in bytes from the beginning. It may lie past the end.
    ///
    /// # Errors
    /// [`InvalidSeek`] if that position is before 0 or past `u64::MAX`.
    #[inline]
    pub fn seek(&mut self, to: SeekFrom) -> Result<u64, InvalidSeek> {
        let (from, offset) = match to {
            SeekFrom::Start(position) => {
                self.position = position;
                return Ok(position);
            }
            SeekFrom::End(offset) => (self.medium.len(), offset),
            SeekFrom::Current(offset) => (self.position, offset),
        };
        self.position = from.checked_add_signed(offset).ok_or(InvalidSeek { from, offset })?;
        Ok(self.position)
    }

    /// Lends the bytes from the position on, as many as lie in one piece; none at the end or past it.
    /// [`consume`](Cursor::consume) then moves past those that were used. Does not copy.
    ///
    /// # Errors
    /// Those of the medium.
    #[inline]
    pub fn fill_buf(&mut self) -> Result<&[u8], M::Error> {
        self.medium.chunk_at(self.position)
    }

    /// Moves past `n` bytes that [`fill_buf`](Cursor::fill_buf) lent. A larger `n` is a seek
    /// forward; the position stops at `u64::MAX`.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.position = self.position.saturating_add(as_u64(n));
    }
}

impl<M: Medium + ?Sized> Cursor<M> {
    /// Writes bytes from `data`, moves past those that the medium took, and returns how many they are: at
    /// least one, or `Ok(0)` if `data` is empty, which changes nothing. A gap between the end and the
    /// position becomes zeros.
    ///
    /// # Errors
    /// [`WriteError::Full`] if not one byte fits, [`WriteError::Medium`] if the medium failed. In either case
    /// the position and the content, its length included, are as they were. There is one exception: if the
    /// medium takes the gap, fails at the bytes after it, and then refuses to be cut back, the gap's zeros
    /// stay.
    #[inline]
    pub fn write(&mut self, data: &[u8]) -> Result<usize, WriteError<M::Error>> {
        if self.position > self.medium.len() || as_u64(data.len()) > u64::MAX - self.position {
            return self.write_at_the_edges(data);
        }
        match self.medium.write_at(self.position, data) {
            Ok(n) if n > 0 || data.is_empty() => {
                self.position = self.position.saturating_add(as_u64(n));
                Ok(n)
            }
            // A medium that takes nothing and does not say why breaks the rules. Callers must
            // not loop for ever then.
            Ok(_) => Err(self.full(data)),
            Err(error) => Err(self.refused(error, data)),
        }
    }

    /// The rare writes: past the end, where a gap has to be filled first, and near `u64::MAX`,
    /// where positions end.
    #[cold]
    fn write_at_the_edges(&mut self, data: &[u8]) -> Result<usize, WriteError<M::Error>> {
        if data.is_empty() {
            return Ok(0);
        }
        let countable = usize::try_from(u64::MAX - self.position).unwrap_or(usize::MAX);
        let fits = data.get(..countable).unwrap_or(data);
        if fits.is_empty() {
            return Err(self.full(data)); // and no medium is asked for a gap of all its positions
        }
        let end = self.medium.len();
        if self.position > end {
            self.medium.set_len(self.position).map_err(|error| self.refused(error, data))?;
        }
        let written = match self.medium.write_at(self.position, fits) {
            Ok(0) => Err(self.full(data)),
            Ok(n) => Ok(n),
            Err(error) => Err(self.refused(error, data)),
        };
        if written.is_err() && self.position > end {
            // Cutting off the zeros that were just added needs no room. If it fails nevertheless,
            // they stay: zeros past the old end are the only trace, and the write's own error says
            // more than this one would.
            let _ = self.medium.set_len(end);
        }
        let n = written?;
        self.position = self.position.saturating_add(as_u64(n));
        Ok(n)
    }

    /// The error of a write of which the medium took nothing.
    #[cold]
    fn refused(&self, error: M::Error, data: &[u8]) -> WriteError<M::Error> {
        match error.kind() {
            ErrorKind::WriteZero => self.full(data),
            _ => WriteError::Medium(error),
        }
    }

    #[cold]
    fn full<E>(&self, data: &[u8]) -> WriteError<E> {
        WriteError::Full { position: self.position, refused: data.len() }
    }

    /// Cuts the content to `len` bytes, or adds zeros up to it. The position stays, even past the
    /// new end.
    ///
    /// # Errors
    /// Those of the medium; nothing has changed then. A lack of room is an error of kind
    /// [`ErrorKind::WriteZero`], and does not become `Full`, which says how much of a write's data was
    /// refused.
    #[inline]
    pub fn set_len(&mut self, len: u64) -> Result<(), M::Error> {
        self.medium.set_len(len)
    }

    /// Cuts or extends the content to the position, as `truncate()` of Python's files does.
    ///
    /// # Errors
    /// Those of [`set_len`](Cursor::set_len).
    #[inline]
    pub fn set_len_to_position(&mut self) -> Result<(), M::Error> {
        self.medium.set_len(self.position)
    }

    /// Hands what was written to the device below the medium, if there is one.
    ///
    /// # Errors
    /// Those of the medium.
    #[inline]
    pub fn flush(&mut self) -> Result<(), M::Error> {
        self.medium.flush()
    }
}

fn fmt_full(f: &mut fmt::Formatter<'_>, position: u64, refused: usize) -> fmt::Result {
    write!(f, "no room at position {position}: {refused} bytes refused")
}

impl<E: fmt::Display> fmt::Display for WriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Full { position, refused } => fmt_full(f, *position, *refused),
            WriteError::Medium(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for WriteError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            WriteError::Full { .. } => None,
            WriteError::Medium(error) => error.source(),
        }
    }
}

impl fmt::Display for InvalidSeek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a seek by {} from {} leads out of 0..={}", self.offset, self.from, u64::MAX)
    }
}

impl core::error::Error for InvalidSeek {}

impl<E: fmt::Display> fmt::Display for CursorError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CursorError::Full { position, refused } => fmt_full(f, *position, *refused),
            CursorError::InvalidSeek(error) => error.fmt(f),
            CursorError::Medium(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for CursorError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            CursorError::Medium(error) => error.source(),
            _ => None,
        }
    }
}

/// For `?` on a medium's own error in a function that also writes.
impl<E: embedded_io::Error> From<E> for WriteError<E> {
    fn from(error: E) -> Self {
        WriteError::Medium(error)
    }
}
