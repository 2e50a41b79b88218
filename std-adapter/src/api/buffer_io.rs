//! `Read`, `BufRead`, `Write` and `Seek` for the buffer.
//!
//! Small operations try the window first, and then whether they are [scattered](crate::pager::scattered).
//! Others go through a [`Cursor`], which has the semantics of a file.
//!
//! Held by: `tests/tests/conformance.rs`, `tests/tests/spill_model.rs`, `tests/tests/model_is_a_file.rs`.

use crate::api::buffer::SpillBuffer;
use crate::api::text::read_line;
use crate::api::transfers::read_rest;
use crate::error::SpillError;
use crate::foreign::{drop_quietly, with_rest};
use crate::pager::medium::{MediumError, Rest};
use crate::pager::state::Pager;
use overspill_core::{Cursor, InvalidSeek, WriteError};
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};

fn write_error(error: WriteError<MediumError>) -> SpillError {
    match error {
        WriteError::Medium(error) => error.into_inner(),
        // The pager reports a lack of room by errors of its own, so only the last position can be the reason.
        WriteError::Full { position, refused, .. } => {
            SpillError::TooLarge { position, requested: refused as u64, end: u64::MAX }
        }
        _ => SpillError::TooLarge { position: u64::MAX, requested: 0, end: u64::MAX },
    }
}

fn seek_error(error: InvalidSeek) -> SpillError {
    SpillError::InvalidSeek { from: error.from, offset: error.offset, end: u64::MAX }
}

impl SpillBuffer {
    /// Runs `f` on a cursor over the pages, and takes over the cursor's position.
    fn with_cursor<R>(&mut self, f: impl FnOnce(&mut Cursor<&mut Pager>) -> R) -> R {
        let mut cursor = Cursor::at(&mut self.pager, self.position);
        let result = f(&mut cursor);
        self.position = cursor.position();
        result
    }

    /// The number of bytes between the position and the end; 0 past the end.
    fn remaining(&self) -> u64 {
        self.len().saturating_sub(self.position)
    }

    #[inline(always)]
    fn read_window(&mut self, buf: &mut [u8]) -> bool {
        self.pager.read_window(&mut self.position, buf)
    }

    #[inline(always)]
    fn write_window(&mut self, data: &[u8]) -> bool {
        self.pager.write_window(&mut self.position, data)
    }

    #[cold]
    #[inline(never)]
    fn read_slow(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_outside(buf)
    }

    /// Reads what is not in the window.
    #[inline(always)]
    fn read_outside(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.pager.read_scattered(&mut self.position, buf) {
            Some(read) => Ok(read?),
            None => self.read_any(buf),
        }
    }

    #[cold]
    #[inline(never)]
    fn read_any(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.with_cursor(|cursor| cursor.read(buf)).map_err(MediumError::into_inner)?)
    }

    #[cold]
    #[inline(never)]
    fn read_exact_slow(&mut self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_outside(buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => buf = &mut buf[n..],
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn write_slow(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_outside(data)
    }

    /// Writes to what is not in the window.
    #[inline(always)]
    fn write_outside(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.pager.write_scattered(&mut self.position, data) {
            Some(written) => Ok(written?),
            None => self.write_any(data),
        }
    }

    #[cold]
    #[inline(never)]
    fn write_any(&mut self, data: &[u8]) -> io::Result<usize> {
        let data = self.pager.fitting(self.position, data)?;
        Ok(self.with_cursor(|cursor| cursor.write(data)).map_err(write_error)?)
    }

    /// Writes a further part of a call that has written bytes already.
    fn write_rest(&mut self, data: &[u8]) -> Result<usize, WriteError<MediumError>> {
        if self.write_window(data) {
            return Ok(data.len());
        }
        let Ok(data) = self.pager.fitting(self.position, data) else { return Ok(0) };
        let mut cursor = Cursor::at(Rest(&mut self.pager), self.position);
        let taken = cursor.write(data);
        self.position = cursor.position();
        taken
    }

    #[cold]
    #[inline(never)]
    fn write_all_slow(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            // A write of at least one byte takes at least one, so this ends.
            data = &data[self.write_outside(data)?..];
        }
        Ok(())
    }
}

impl Read for SpillBuffer {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.read_window(buf) { Ok(buf.len()) } else { self.read_slow(buf) }
    }

    #[inline]
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        if self.read_window(buf) { Ok(()) } else { self.read_exact_slow(buf) }
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut done = 0;
        for buf in bufs {
            let before = done;
            done = with_rest(done, self.read_slow(buf))?;
            if done - before < buf.len() {
                break;
            }
        }
        Ok(done)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let left = usize::try_from(self.remaining()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        read_rest(buf, left, |piece| self.read_slow(piece))
    }

    /// Appends the rest of the content to `buf`, which gets nothing if the bytes are not UTF-8. If a read
    /// fails after some text, that text stays in `buf`; if the failure cut a character, the next call reads
    /// that character again. If a read fails after bytes that are not UTF-8, the next call reads again all
    /// that this one has read.
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let read = self.read_to_end(&mut bytes);
        let text = match (std::str::from_utf8(&bytes), &read) {
            (Ok(text), _) => text,
            (Err(invalid), Err(_)) if invalid.error_len().is_none() => {
                let (text, cut) = bytes.split_at(invalid.valid_up_to());
                self.position -= cut.len() as u64;
                std::str::from_utf8(text).unwrap_or_default()
            }
            (Err(invalid), Ok(_)) => return Err(io::Error::new(io::ErrorKind::InvalidData, invalid)),
            (Err(_), Err(_)) => {
                // What is not text is read again by the next call, rather than passed in silence.
                self.position -= bytes.len() as u64;
                return read;
            }
        };
        if buf.try_reserve(text.len()).is_err() {
            // What the caller does not get is read again by the next call.
            self.position -= text.len() as u64;
            drop_quietly(read);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        buf.push_str(text);
        read
    }
}

impl BufRead for SpillBuffer {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.pager.lend_chunk(self.position)?)
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        self.pager.consume(self.position, n);
        self.with_cursor(|cursor| cursor.consume(n));
        self.pager.keep_limit();
    }

    /// Like std's, but if an error cuts a line, the next call reads again what is not in `buf`.
    fn read_line(&mut self, buf: &mut String) -> io::Result<usize> {
        let from = self.position;
        let (read, kept) = read_line(self, buf);
        self.position = kept.map_or(self.position, |kept| from + kept);
        read
    }
}

impl Write for SpillBuffer {
    #[inline]
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.write_window(data) { Ok(data.len()) } else { self.write_slow(data) }
    }

    #[inline]
    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        if self.write_window(data) { Ok(()) } else { self.write_all_slow(data) }
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut done = 0;
        for data in bufs {
            let taken = if done == 0 {
                self.write(data)?
            } else {
                self.write_rest(data).map_err(drop_quietly).unwrap_or(0)
            };
            done += taken;
            if taken < data.len() {
                break;
            }
        }
        Ok(done)
    }

    /// Does nothing: written bytes can be read already, and nothing is made durable.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SpillBuffer {
    #[inline]
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        Ok(self.with_cursor(|cursor| cursor.seek(to.into())).map_err(seek_error)?)
    }

    #[inline]
    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position())
    }
}
