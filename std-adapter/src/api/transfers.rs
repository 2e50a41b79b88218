//! Transfers at an offset, transfers of the whole content, and buffers made from bytes.
//!
//! Promises:
//!
//! - `read_at`, `write_at` and `to_vec` leave the position where it was, on errors too.
//! - After an error of `copy_to`, the position is just behind the last byte that the target took.
//!
//! Held by: `tests/tests/transfers.rs`, `tests/tests/spill_model.rs`.

use crate::api::buffer::{MEMORY_LIMIT_DEFAULT, SpillBuffer};
use crate::pool::state::PAGE_SIZE_DEFAULT;
use std::io::{self, BufRead, Write};

impl SpillBuffer {
    /// Reads from `offset` into `buf`, and returns the number of bytes: 0 at the end or past it, or if `buf`
    /// is empty. The position stays.
    ///
    /// May read less than `buf` holds before the end of the content; call again for the rest.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    ///
    /// let mut buffer = SpillBuffer::from(&b"head and tail"[..]);
    /// let mut tail = [0; 8];
    /// assert_eq!(buffer.read_at(&mut tail, 9)?, 4);
    /// assert_eq!((&tail[..4], buffer.position()), (&b"tail"[..], 0));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read`](io::Read::read).
    pub fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.at_offset(offset, |buffer| io::Read::read(buffer, buf))
    }

    /// Writes `data` at `offset`, and returns the number of bytes taken: at least one, unless `data` is
    /// empty. A gap between the end and `offset` becomes zeros. The position stays.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Write;
    ///
    /// let mut buffer = SpillBuffer::new();
    /// buffer.write_all(b"length unknown: the text")?;
    /// buffer.write_at(b"8      ", 7)?; // fills in the length
    /// assert_eq!(buffer.to_vec()?, b"length 8      : the text");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`write`](Write::write).
    pub fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<usize> {
        self.at_offset(offset, |buffer| buffer.write(data))
    }

    /// Runs `f` with the position at `offset`, then restores the position.
    fn at_offset<R>(&mut self, offset: u64, f: impl FnOnce(&mut Self) -> R) -> R {
        let position = std::mem::replace(&mut self.position, offset);
        let result = f(self);
        self.position = position;
        result
    }

    /// Copies the whole content to a vector, from memory and store. The position stays.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Write;
    ///
    /// let mut buffer = SpillBuffer::with_budget(0);
    /// buffer.write_all(b"all spilled")?;
    /// assert_eq!((buffer.to_vec()?, buffer.position()), (b"all spilled".to_vec(), 11));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of kind `OutOfMemory` if a vector of that length cannot be allocated; otherwise as
    /// [`read_to_end`](io::Read::read_to_end).
    pub fn to_vec(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.at_offset(0, |buffer| io::Read::read_to_end(buffer, &mut bytes))?;
        Ok(bytes)
    }

    /// Writes the content from the position to the end to `target`, and moves the position to the end.
    /// Returns the number of bytes written.
    ///
    /// Pages in memory are written from where they lie, without a copy.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    ///
    /// let mut buffer = SpillBuffer::from(&b"all of it"[..]);
    /// let mut target = Vec::new();
    /// assert_eq!(buffer.copy_to(&mut target)?, 9);
    /// assert_eq!((&target[..], buffer.position()), (&b"all of it"[..], 9));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of reading, and those of `target`; `WriteZero` if `target` takes no byte. The position has moved
    /// by exactly what `target` took, so the rest can be copied later, or elsewhere.
    pub fn copy_to(&mut self, target: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        let start = self.position;
        loop {
            let chunk = self.fill_buf()?;
            if chunk.is_empty() {
                return Ok(self.position.saturating_sub(start));
            }
            match target.write(chunk) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => self.consume(taken),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Copies `bytes` to a buffer at position 0. Its memory limit is 8 MiB, or the length of `bytes` in whole
/// pages if that is more, so nothing is spilled.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for the copy.
impl From<&[u8]> for SpillBuffer {
    fn from(bytes: &[u8]) -> Self {
        let mut buffer = SpillBuffer::with_budget(
            MEMORY_LIMIT_DEFAULT.max(bytes.len().next_multiple_of(PAGE_SIZE_DEFAULT)),
        );
        if let Err(error) = buffer.write_all(bytes) {
            panic!("no memory for a copy of {} bytes, and no room on the disk: {error}", bytes.len());
        }
        buffer.position = 0;
        buffer
    }
}

/// Copies the bytes, as from a slice.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for the copy.
impl From<Vec<u8>> for SpillBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        SpillBuffer::from(&bytes[..])
    }
}
