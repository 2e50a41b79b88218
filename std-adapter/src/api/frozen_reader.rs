//! A reader of frozen content, with a position of its own.
//!
//! Promises:
//!
//! - It reads and seeks as a file that is opened for reading does, whatever other readers do.
//! - A small read that continues the last one takes no lock, unless its window has to move.
//!
//! Held by: `tests/tests/frozen.rs`, `tests/tests/conformance.rs`.

use crate::api::text::{read_line, read_text};
use crate::api::transfers::{copy_buffered, read_rest};
use crate::error::SpillError;
use crate::pager::reader::Reader;
use crate::pager::shared::Shared;
use crate::sync::Arc;
use std::fmt;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

/// A reader of a [`Frozen`](crate::Frozen) content: [`Read`], [`BufRead`] and [`Seek`] from a
/// position of its own.
///
/// It has a share in the content, and reads on when all other handles are gone. A clone stands at the same
/// position and then goes its own way.
///
/// ```
/// use overspill::SpillBuffer;
/// use std::io::{BufRead, Seek, SeekFrom};
///
/// let mut reader = SpillBuffer::from(&b"first\nsecond\n"[..]).freeze().reader();
/// let mut line = String::new();
/// reader.read_line(&mut line)?;
/// let mut other = reader.clone();
/// reader.seek(SeekFrom::Start(0))?;
/// line.clear();
/// other.read_line(&mut line)?;
/// assert_eq!((&line[..], reader.position(), other.position()), ("second\n", 0, 13));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// It reads only:
///
/// ```compile_fail,E0277
/// let mut reader = overspill::SpillBuffer::new().freeze().reader();
/// std::io::copy(&mut &b"more"[..], &mut reader);
/// ```
///
/// What `fill_buf` returns lies in the reader's window, which any other call may move:
///
/// ```compile_fail,E0499
/// use std::io::{BufRead, Read};
///
/// let mut reader = overspill::SpillBuffer::new().freeze().reader();
/// let chunk = reader.fill_buf().unwrap();
/// reader.read(&mut [0; 10]);
/// assert!(chunk.is_empty());
/// ```
pub struct FrozenReader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reader: Reader,
    /// The position in the content, which may lie past the end.
    pub(crate) at: u64,
    /// Where in the content the readable part begins and ends.
    start: u64,
    pub(crate) end: u64,
}

impl FrozenReader {
    pub(crate) fn new(shared: Arc<Shared>, start: u64, end: u64) -> Self {
        shared.content.add_readers(1);
        let reader = Reader::new(Arc::clone(&shared.content.pool), end);
        FrozenReader { shared, reader, at: start, start, end }
    }

    /// The length of what can be read in all, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there is nothing to read, wherever the position is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the next read starts, in bytes from the beginning. May lie past the end.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at - self.start
    }

    /// Bytes between the position and the end, as far as they can be counted.
    pub(crate) fn left(&self) -> usize {
        usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX)
    }

    /// Writes the bytes from the position to the end to `target`, and moves there. Returns their number.
    /// `target` gets them from the reader's window, without a buffer between.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::{Seek, SeekFrom};
    ///
    /// let mut reader = SpillBuffer::from(&b"head and tail"[..]).freeze().reader();
    /// reader.seek(SeekFrom::Start(9))?;
    /// let mut tail = Vec::new();
    /// assert_eq!(reader.copy_to(&mut tail)?, 4);
    /// assert_eq!((&tail[..], reader.position()), (&b"tail"[..], 13));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As a read's, and those of `target`; `WriteZero` if `target` takes no byte. The position has moved by
    /// exactly what `target` took.
    pub fn copy_to(&mut self, target: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        copy_buffered(self, target)
    }

    #[cold]
    #[inline(never)]
    fn read_slow(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(self.left());
        let read = self.reader.read(&self.shared.content, self.at, &mut buf[..want])?;
        self.at += read as u64;
        Ok(read)
    }

    /// Reads all of `buf` if it lies in the window, and moves past it. Otherwise does nothing and returns
    /// false.
    #[inline(always)]
    pub(crate) fn read_window(&mut self, buf: &mut [u8]) -> bool {
        self.reader.read_window(&mut self.at, buf)
    }
}

impl Clone for FrozenReader {
    fn clone(&self) -> Self {
        let mut clone = FrozenReader::new(Arc::clone(&self.shared), self.start, self.end);
        clone.at = self.at;
        clone.reader.skip_to(self.at);
        clone
    }
}

impl Drop for FrozenReader {
    fn drop(&mut self) {
        self.shared.content.remove_reader();
    }
}

impl Read for FrozenReader {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.read_window(buf) {
            return Ok(buf.len());
        }
        self.read_slow(buf)
    }

    #[inline]
    fn read_exact(&mut self, mut buf: &mut [u8]) -> io::Result<()> {
        if self.read_window(buf) {
            return Ok(());
        }
        while !buf.is_empty() {
            match self.read_slow(buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => buf = &mut buf[n..],
            }
        }
        Ok(())
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        read_rest(buf, self.left(), |piece| self.read_slow(piece))
    }

    /// Appends the rest of the content to `buf`, which gets nothing if the bytes are not UTF-8. If a read
    /// fails after some text, that text stays in `buf`; if the failure cut a character, the next call reads
    /// that character again. If a read fails after bytes that are not UTF-8, the next call reads again all
    /// that this one has read.
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        buf.try_reserve(self.left()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let (read, again) = read_text(buf, true, |piece, _| self.read_slow(piece));
        self.at -= again;
        read
    }
}

impl BufRead for FrozenReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = self.left();
        if left == 0 {
            return Ok(&[]);
        }
        let chunk = self.reader.lend(&self.shared.content, self.at)?;
        Ok(&chunk[..chunk.len().min(left)])
    }

    fn consume(&mut self, n: usize) {
        self.at += n.min(self.left()) as u64;
        self.reader.skip_to(self.at);
    }

    /// Like std's, but if an error cuts a line, the next call reads again what is not in `buf`.
    fn read_line(&mut self, buf: &mut String) -> io::Result<usize> {
        let from = self.at;
        let (read, kept) = read_line(self, buf);
        self.at = kept.map_or(self.at, |kept| from + kept);
        read
    }
}

/// As a file's. Past the end nothing is read; before the beginning is an error, and the position stays.
impl Seek for FrozenReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.position(), offset),
            SeekFrom::End(offset) => (self.len(), offset),
        };
        let position = from.checked_add_signed(offset);
        // Positions in the content count from the slice's beginning, so a slice has fewer of them.
        let at = position.and_then(|position| self.start.checked_add(position));
        self.at = at.ok_or(SpillError::InvalidSeek { from, offset, end: u64::MAX - self.start })?;
        Ok(self.position())
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position())
    }
}

/// Shows lengths, never the content.
impl fmt::Debug for FrozenReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenReader")
            .field("len", &self.len())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
