//! The traits below the cursor: bytes at offsets, in a half for reading and a half for writing.
//!
//! A medium has no position, never seeks, and never fills gaps: the cursor does that, once for all media.
//!
//! Reading takes `&mut self`, because a medium may have to change itself to be read: load a page, or move a
//! window over its content. Such a medium needs neither a lock nor a cell for that, and stays `Sync`. A
//! medium that can be read through a shared reference, by many readers at once, says so by implementing
//! [`ReadMedium`] for the reference as well, just as `std::io::Read` is implemented for `&File`. A trait with
//! `&self` would have made each medium that changes pay for those that do not.
//!
//! Held by: `tests/tests/conformance.rs` (every rule, for every medium),
//! `tests/tests/conformance_can_fail.rs` (each rule can fail), `tests/tests/cursor_edges.rs` (several
//! cursors over one content).

use core::fmt;
use embedded_io::ErrorKind;

/// Readable bytes at offsets, with a length: the first half of a [`Medium`].
///
/// This is what a [`Cursor`](crate::Cursor) reads from. An implementation must keep this rule, on which the
/// cursor relies: at or past [`len`](ReadMedium::len), `read_at` and `chunk_at` return no bytes, and no
/// error.
///
/// The methods take `&mut self` for the sake of media that change when they are read. Fixed memory, slices
/// and vectors do not: for them the trait is implemented for shared references too, so that any number of
/// cursors read one content, each from its own position and from any thread.
///
/// ```
/// use overspill_core::{Cursor, Fixed, SeekFrom};
///
/// let content = Fixed::filled(*b"one content");
/// let (mut one, mut other) = (Cursor::new(&content), Cursor::new(&content));
/// one.seek(SeekFrom::Start(4)).unwrap();
///
/// let mut word = [0; 3];
/// other.read(&mut word)?;
/// assert_eq!(&word, b"one");
/// one.read(&mut word)?;
/// assert_eq!(&word, b"con");
/// # Ok::<(), core::convert::Infallible>(())
/// ```
pub trait ReadMedium {
    /// The error of reads and writes. Its `kind()` makes it usable through `embedded-io`.
    type Error: embedded_io::Error;

    /// The length of the content in bytes, which is where it ends.
    fn len(&self) -> u64;

    /// Whether there is nothing to read.
    #[inline]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `offset` on into `buf` and returns how many it copied: 0 only at the end, past
    /// it, or if `buf` is empty. May copy fewer than there are; a further call at the offset after them
    /// continues.
    ///
    /// # Errors
    /// Those of the medium.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, Self::Error>;

    /// Lends the bytes from `offset` on, as many as lie in one piece: at least one, unless
    /// `offset` is at the end or past it.
    ///
    /// # Errors
    /// Those of the medium.
    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], Self::Error>;
}

/// A [`ReadMedium`] that can be written: what a [`Cursor`](crate::Cursor) writes to.
///
/// An implementation must keep these rules, on which the cursor relies:
///
/// - `write_at` appends at [`len`](ReadMedium::len) and overwrites before it, and may do both in one call. A
///   short count means that the rest did not fit.
/// - A medium that has no room, for a single byte of `write_at` or for the length that `set_len` requests,
///   returns an error of kind [`ErrorKind::WriteZero`]. When the cursor writes, it replaces that error by
///   [`WriteError::Full`](crate::WriteError::Full). So an error that says more should have another kind: it
///   reaches the caller as it is.
/// - Bytes that `set_len` adds are zeros, even where other bytes were before.
/// - A method that returns an error has changed nothing that can be read back.
///
/// A medium whose content is not in memory needs a buffer for the bytes that
/// [`chunk_at`](ReadMedium::chunk_at) lends. An example is a memory chip on a bus:
///
/// ```
/// use overspill_core::embedded_io::ErrorKind;
/// use overspill_core::{Cursor, Medium, ReadMedium};
/// # struct Chip([u8; 256]);
/// # impl Chip {
/// #     const SIZE: u64 = 256;
/// #     fn read(&self, at: u64, to: &mut [u8]) -> Result<(), ErrorKind> {
/// #         Ok(to.copy_from_slice(&self.0[at as usize..][..to.len()]))
/// #     }
/// #     fn write(&mut self, at: u64, from: &[u8]) -> Result<(), ErrorKind> {
/// #         Ok(self.0[at as usize..][..from.len()].copy_from_slice(from))
/// #     }
/// # }
///
/// struct Content {
///     chip: Chip, // has `read` and `write` at an address: all of a slice, or nothing and an error
///     len: u64,
///     lent: [u8; 16],
/// }
///
/// /// How many of `count` bytes lie between `offset` and `end`.
/// fn before(end: u64, offset: u64, count: usize) -> usize {
///     usize::try_from(end.saturating_sub(offset)).map_or(count, |left| left.min(count))
/// }
///
/// impl ReadMedium for Content {
///     type Error = ErrorKind;
///
///     fn len(&self) -> u64 {
///         self.len
///     }
///
///     fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ErrorKind> {
///         let count = before(self.len, offset, buf.len());
///         self.chip.read(offset, &mut buf[..count])?;
///         Ok(count)
///     }
///
///     fn chunk_at(&mut self, offset: u64) -> Result<&[u8], ErrorKind> {
///         let count = before(self.len, offset, self.lent.len());
///         self.chip.read(offset, &mut self.lent[..count])?;
///         Ok(&self.lent[..count])
///     }
/// }
///
/// impl Medium for Content {
///     fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, ErrorKind> {
///         let count = before(Chip::SIZE, offset, data.len());
///         if offset > self.len || (count == 0 && !data.is_empty()) {
///             return Err(ErrorKind::WriteZero);
///         }
///         self.chip.write(offset, &data[..count])?;
///         self.len = self.len.max(offset + count as u64);
///         Ok(count)
///     }
///
///     fn set_len(&mut self, len: u64) -> Result<(), ErrorKind> {
///         if len > Chip::SIZE {
///             return Err(ErrorKind::WriteZero);
///         }
///         for offset in self.len..len {
///             self.chip.write(offset, &[0])?; // past the end, until all are written
///         }
///         self.len = len;
///         Ok(())
///     }
/// }
///
/// let mut file = Cursor::new(Content { chip: Chip([0xff; 256]), len: 0, lent: [0; 16] });
/// file.set_len(100).unwrap();
/// file.write(b"two\nlines\n").unwrap();
/// file.rewind();
/// assert_eq!(file.fill_buf(), Ok(&b"two\nlines\n\0\0\0\0\0\0"[..]));
/// ```
pub trait Medium: ReadMedium {
    /// Copies the first bytes of `data` to `offset` and returns how many it took: at least one, unless `data`
    /// is empty. The length grows if they reach past it.
    ///
    /// # Errors
    /// Those of the medium; none of `data` is taken then. The kind is [`ErrorKind::WriteZero`] if not one
    /// byte fits, or if `offset` lies past the end: call `set_len` first.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, Self::Error>;

    /// Cuts the bytes past `len`, or adds zeros up to it.
    ///
    /// # Errors
    /// Those of the medium. The kind is [`ErrorKind::WriteZero`] if it has no room for `len` bytes.
    fn set_len(&mut self, len: u64) -> Result<(), Self::Error>;

    /// Hands everything written to the device below, if there is one.
    ///
    /// # Errors
    /// Those of the medium.
    #[inline]
    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Implements both traits for a pointer to a medium.
macro_rules! forward {
    ($pointer:ty) => {
        #[deny(clippy::missing_trait_methods)]
        impl<M: $crate::medium::ReadMedium + ?Sized> $crate::medium::ReadMedium for $pointer {
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
            fn chunk_at(&mut self, offset: u64) -> Result<&[u8], Self::Error> {
                M::chunk_at(self, offset)
            }
        }

        #[deny(clippy::missing_trait_methods)]
        impl<M: $crate::medium::Medium + ?Sized> $crate::medium::Medium for $pointer {
            #[inline]
            fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, Self::Error> {
                M::write_at(self, offset, data)
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
    };
}
forward!(&mut M);
#[cfg(feature = "alloc")]
pub(crate) use forward;

/// Implements [`ReadMedium`] for a type whose content lies in one piece: `|medium| slice` borrows it.
macro_rules! read_in_one_piece {
    ($(#[$attribute:meta])* [$($generics:tt)*] $type:ty, $error:ty, |$medium:ident| $content:expr) => {
        $(#[$attribute])*
        impl<$($generics)*> $crate::medium::ReadMedium for $type {
            type Error = $error;

            #[inline]
            fn len(&self) -> u64 {
                let $medium = self;
                $crate::medium::as_u64($content.len())
            }

            #[inline]
            fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, $error> {
                let $medium = self;
                Ok($crate::medium::copy($crate::medium::tail($content, offset), buf))
            }

            #[inline]
            fn chunk_at(&mut self, offset: u64) -> Result<&[u8], $error> {
                let $medium = self;
                Ok($crate::medium::tail($content, offset))
            }
        }
    };
}
pub(crate) use read_in_one_piece;

read_in_one_piece! {
    /// A shared slice is read-only. Reading it cannot fail, and cursors over copies of the slice read the
    /// same bytes.
    [] &[u8], core::convert::Infallible, |bytes| &**bytes
}

/// A medium of fixed capacity has no room for the write or the length that was requested. Nothing was
/// changed.
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapacityError {
    /// The length that the content would have needed, in bytes. If it is at most `capacity`, a write began
    /// past the end of the content, which has to be lengthened first.
    pub requested: u64,
    /// The greatest length that the content can have, in bytes.
    pub capacity: u64,
}

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CapacityError { requested, capacity } = self;
        if requested > capacity {
            write!(f, "a length of {requested} bytes was requested of a medium that holds {capacity}")
        } else {
            write!(f, "a write up to {requested} began past the end of the content: lengthen that first")
        }
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
