//! Reading text to its end, for readers.
//!
//! Promise: what the position has passed is in the caller's string, on an error too. A character that the
//! error has cut is read again by the next call; std's `read_to_string` drops all that it has read then. If
//! the bytes are not text, the string gets none of them, as by std's.
//!
//! Looked for besides: `SpillBuffer::read_to_string`, which does so by itself; `read_line`, which is
//! std's, since to search for a newline as fast takes std's inside, and goes back after an error, but for
//! that of a spool, whose reader may be unable to; `read_to_end`, `copy_to` and `read_until`, which keep
//! what they have read.
//!
//! Held by: `tests/tests/frozen.rs`, `tests/tests/spool.rs`, `tests/tests/transfers.rs`,
//! `tests/tests/text.rs`.

use crate::error::SpillError;
use crate::foreign::drop_quietly;
use std::io::{self, BufRead, Read};

/// Bytes that are read at a time.
const PIECE: usize = 8 << 10;

/// Appends to `buf` what `read` returns, until that is nothing. `read` is told how many bytes before its own
/// are the beginning of a character. Returns the number of bytes appended, and how many of the last ones have
/// to be read again: all of this call, if it fails behind bytes that are not text and `can_go_back`.
pub(crate) fn read_text(
    buf: &mut String,
    can_go_back: bool,
    mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>,
) -> (io::Result<usize>, u64) {
    let start = buf.len();
    let (mut piece, mut cut, mut is_text, mut passed) = ([0; PIECE], 0, true, 0);
    loop {
        let held = match read(&mut piece[cut..], cut) {
            Ok(0) => break,
            Ok(n) => {
                passed += n as u64;
                cut + n
            }
            Err(error) if is_text => return (Err(error), cut as u64),
            Err(error) if can_go_back => return (Err(error), passed),
            Err(error) => {
                drop_quietly(error);
                return (Err(not_text()), 0);
            }
        };
        let whole = whole_characters(&piece[..held]);
        is_text &= whole.is_some();
        let whole = whole.unwrap_or(held);
        if is_text {
            if buf.try_reserve(whole).is_err() {
                return (Err(io::ErrorKind::OutOfMemory.into()), held as u64);
            }
            buf.push_str(std::str::from_utf8(&piece[..whole]).unwrap_or_default());
        } else {
            buf.truncate(start);
        }
        piece.copy_within(whole..held, 0);
        cut = held - whole;
    }
    if is_text && cut == 0 {
        return (Ok(buf.len() - start), 0);
    }
    buf.truncate(start);
    (Err(not_text()), 0)
}

/// How many of the first bytes are whole characters. `None` if there are others than the
/// beginning of one behind them.
pub(crate) fn whole_characters(bytes: &[u8]) -> Option<usize> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Some(bytes.len()),
        Err(cut) if cut.error_len().is_none() => Some(cut.valid_up_to()),
        Err(_) => None,
    }
}

pub(crate) fn not_text() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the content is not all UTF-8")
}

/// A reader whose `read_line` is std's.
struct AsStd<'a, R>(&'a mut R);

impl<R: Read> Read for AsStd<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: BufRead> BufRead for AsStd<'_, R> {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        self.0.consume(n);
    }
}

/// Appends a line to `buf` as std does. Returns also the bytes of it that are in `buf`, if `reader` is to go
/// back to their end: std drops what it has read if an error of the store cuts a character.
#[inline]
pub(crate) fn read_line(reader: &mut impl BufRead, buf: &mut String) -> (io::Result<usize>, Option<u64>) {
    let start = buf.len();
    let read = AsStd(reader).read_line(buf);
    let is_ours = read.as_ref().is_err_and(|error| SpillError::of(error).is_some());
    let kept = is_ours.then(|| (buf.len() - start) as u64);
    (read, kept)
}
