//! The cursor's `embedded-io` traits, and the kinds of its errors.
//!
//! Held by: `tests/tests/conformance.rs`, `tests/tests/cursor_edges.rs`.

use crate::cursor::{Cursor, CursorError, InvalidSeek, WriteError};
use crate::medium::{Medium, ReadMedium};
use embedded_io::{
    BufRead, Error, ErrorKind, ErrorType, Read, ReadExactError, ReadReady, Seek, SeekFrom, Write, WriteReady,
};

/// `write_all` without a panic, even for an impossible count: the trait's provided method has two panics.
/// `to` never takes 0 bytes of a slice that has some.
pub(crate) fn write_all<W: Write + ?Sized>(to: &mut W, mut data: &[u8]) -> Result<(), W::Error> {
    while !data.is_empty() {
        let count = to.write(data)?;
        data = data.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// `read_exact` without a panic: the trait's provided method has one.
pub(crate) fn read_exact<R: Read + ?Sized>(
    from: &mut R,
    mut buf: &mut [u8],
) -> Result<(), ReadExactError<R::Error>> {
    while !buf.is_empty() {
        match from.read(buf).map_err(ReadExactError::Other)? {
            0 => return Err(ReadExactError::UnexpectedEof),
            count => buf = buf.get_mut(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

impl<E: Error> Error for CursorError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            CursorError::Full { .. } => ErrorKind::WriteZero,
            CursorError::InvalidSeek(_) => ErrorKind::InvalidInput,
            CursorError::Medium(error) => error.kind(),
        }
    }
}

impl<E: Error> Error for WriteError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            WriteError::Full { .. } => ErrorKind::WriteZero,
            WriteError::Medium(error) => error.kind(),
        }
    }
}

impl<E> From<WriteError<E>> for CursorError<E> {
    fn from(error: WriteError<E>) -> Self {
        match error {
            WriteError::Full { position, refused } => CursorError::Full { position, refused },
            WriteError::Medium(error) => CursorError::Medium(error),
        }
    }
}

/// For `?` on the error of a read, which is the medium's own.
impl<E: Error> From<E> for CursorError<E> {
    fn from(error: E) -> Self {
        CursorError::Medium(error)
    }
}

/// For `?` on a seek. `InvalidSeek` is not an error of `embedded-io`, or this and the conversion above would
/// overlap.
impl<E> From<InvalidSeek> for CursorError<E> {
    fn from(error: InvalidSeek) -> Self {
        CursorError::InvalidSeek(error)
    }
}

impl<M: ReadMedium + ?Sized> ErrorType for Cursor<M> {
    type Error = CursorError<M::Error>;
}

impl<M: ReadMedium + ?Sized> Read for Cursor<M> {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
        Cursor::read(self, buf).map_err(CursorError::Medium)
    }

    #[inline]
    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), ReadExactError<Self::Error>> {
        read_exact(self, buf)
    }
}

impl<M: ReadMedium + ?Sized> BufRead for Cursor<M> {
    #[inline]
    fn fill_buf(&mut self) -> Result<&[u8], Self::Error> {
        Cursor::fill_buf(self).map_err(CursorError::Medium)
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        Cursor::consume(self, n);
    }
}

impl<M: Medium + ?Sized> Write for Cursor<M> {
    #[inline]
    fn write(&mut self, data: &[u8]) -> Result<usize, Self::Error> {
        Ok(Cursor::write(self, data)?)
    }

    #[inline]
    fn write_all(&mut self, data: &[u8]) -> Result<(), Self::Error> {
        write_all(self, data)
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Self::Error> {
        Cursor::flush(self).map_err(CursorError::Medium)
    }
}

/// A cursor waits for nothing.
impl<M: ReadMedium + ?Sized> ReadReady for Cursor<M> {
    #[inline]
    fn read_ready(&mut self) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// A cursor waits for nothing.
impl<M: Medium + ?Sized> WriteReady for Cursor<M> {
    #[inline]
    fn write_ready(&mut self) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

impl<M: ReadMedium + ?Sized> Seek for Cursor<M> {
    #[inline]
    fn seek(&mut self, to: SeekFrom) -> Result<u64, Self::Error> {
        Ok(Cursor::seek(self, to)?)
    }
}
