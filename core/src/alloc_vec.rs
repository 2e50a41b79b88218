//! `alloc`'s vector as a medium: it grows. And its box, behind which any medium is one.
//!
//! Held by: `tests/tests/conformance.rs`, `tests/tests/cursor_model.rs`, `tests/tests/cursor_edges.rs`.

use crate::medium::{Medium, as_u64, copy, forward, read_in_one_piece, tail, tail_mut};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use embedded_io::ErrorKind;

/// A vector did not grow: the allocator refused the memory, or the write began past the end. Nothing was
/// changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct AllocError {
    /// The length that the content would have needed, in bytes.
    pub requested: u64,
    /// Whether no memory was asked for, because the write began past the end of the content.
    is_past_end: bool,
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AllocError { requested, is_past_end } = self;
        if *is_past_end {
            write!(f, "a write up to {requested} began past the end of the content: lengthen that first")
        } else {
            write!(f, "no memory for a length of {requested} bytes")
        }
    }
}

impl core::error::Error for AllocError {}

impl embedded_io::Error for AllocError {
    fn kind(&self) -> ErrorKind {
        if self.is_past_end { ErrorKind::WriteZero } else { ErrorKind::OutOfMemory }
    }
}

read_in_one_piece! {
    /// A vector grows as it is written, by doubling its capacity. A failed allocation is an error, not an
    /// abort.
    [] Vec<u8>, AllocError, |vec| vec.as_slice()
}
read_in_one_piece! {
    /// A shared vector is read-only. Any number of cursors may read it at once, and reading it cannot fail.
    [] &Vec<u8>, Infallible, |vec| vec.as_slice()
}

forward!(Box<M>);

impl Medium for Vec<u8> {
    #[inline]
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, AllocError> {
        let requested = offset.saturating_add(as_u64(data.len()));
        if offset > as_u64(self.as_slice().len()) {
            return if data.is_empty() { Ok(0) } else { Err(AllocError { requested, is_past_end: true }) };
        }
        let over = tail(self, offset).len().min(data.len());
        let rest = data.get(over..).unwrap_or_default();
        self.try_reserve(rest.len()).map_err(|_| AllocError { requested, is_past_end: false })?;
        copy(data, tail_mut(self, offset));
        self.extend_from_slice(rest);
        Ok(data.len())
    }

    fn set_len(&mut self, len: u64) -> Result<(), AllocError> {
        let refused = AllocError { requested: len, is_past_end: false };
        let new = usize::try_from(len).map_err(|_| refused)?;
        self.try_reserve(new.saturating_sub(self.as_slice().len())).map_err(|_| refused)?;
        self.resize(new, 0);
        Ok(())
    }
}

/// What calls of a cursor and of a ring return can be logged: what `defmt::unwrap!` asks for.
#[cfg(all(test, feature = "defmt"))]
const _: () = {
    const fn is_format<T: defmt::Format>() {}
    is_format::<AllocError>();
    is_format::<embedded_io::ReadExactError<AllocError>>();
    is_format::<embedded_io::SeekFrom>();
};
