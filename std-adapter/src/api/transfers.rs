//! Transfers at an offset, transfers of the whole content, and buffers made from a slice.
//!
//! Promises:
//!
//! - `read_at`, `write_at` and `to_vec` leave the position where it was, on errors too.
//! - After an error of `copy_to`, the position is just behind the last byte that the target took.
//! - After an error of `extend_from_file`, what was taken is in place, and both positions are just behind it.
//!
//! Held by: `tests/tests/transfers.rs`, `tests/tests/kernel_copies.rs`, `tests/tests/spill_model.rs`.

use crate::api::buffer::{MEMORY_LIMIT_DEFAULT, SpillBuffer};
use crate::memory::scratch::{BLOCK_MAX, with_block};
use crate::pager::import::Import;
use crate::pool::state::PAGE_SIZE_DEFAULT;
use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom, Write};

/// Bytes that `read_to_end` reads at a time: few enough that they are still in the processor's cache between
/// clearing and filling.
const READ_TO_END_STEP: usize = 256 << 10;

impl SpillBuffer {
    /// Reads from `offset` into `buf`, and returns the number of bytes: 0 at the end or past it, or if `buf`
    /// is empty. The position stays.
    ///
    /// May read less than `buf` holds before the end of the content; call again for the rest, or
    /// [`read_exact_at`](SpillBuffer::read_exact_at).
    ///
    /// It takes `&mut self`, since a read may move pages. [`freeze`](SpillBuffer::freeze) makes content that
    /// is read through `&self`: [`Frozen::read_at`](crate::Frozen::read_at) fills `buf`, unless the content
    /// ends or a page cannot be read.
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
    /// empty. A gap between the end and `offset` becomes zeros. The position stays. For all of `data`:
    /// [`write_all_at`](SpillBuffer::write_all_at).
    ///
    /// # Errors
    /// As [`write`](Write::write).
    pub fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<usize> {
        self.at_offset(offset, |buffer| buffer.write(data))
    }

    /// Reads all of `buf` from `offset`. The position stays.
    ///
    /// # Errors
    /// Of kind `UnexpectedEof` if the content ends before; else as [`read`](io::Read::read). What `buf` holds
    /// then is not specified.
    pub fn read_exact_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.at_offset(offset, |buffer| io::Read::read_exact(buffer, buf))
    }

    /// Writes all of `data` at `offset`. A gap between the end and `offset` becomes zeros. The position
    /// stays.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Write;
    ///
    /// let mut buffer = SpillBuffer::new();
    /// buffer.write_all(b"length unknown: the text")?;
    /// buffer.write_all_at(b"8      ", 7)?; // fills in the length
    /// assert_eq!(buffer.to_vec()?, b"length 8      : the text");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`write_all`](Write::write_all): a part may have been written then.
    pub fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.at_offset(offset, |buffer| buffer.write_all(data))
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

    /// Writes the content from the position to the end to `target`, and moves the position to the end, unless
    /// it lies past that. Returns the number of bytes written.
    ///
    /// Pages in memory are written from where they lie, without a copy; [`std::io::copy`] would copy them 8
    /// KiB at a time. What gets no memory is read 4 KiB at a time, and there `io::copy` makes fewer calls.
    /// For the whole content as a file, [`into_file`](SpillBuffer::into_file) and
    /// [`persist`](SpillBuffer::persist) do better: the kernel copies what is spilled.
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
        copy_buffered(self, target)
    }

    /// Writes the rest of `file`, from its position to its end, at the buffer's position, and overwrites what
    /// is there: it appends only at the end. Moves both positions behind it, and returns the number of bytes.
    /// A gap before it becomes zeros, as in a write.
    ///
    /// A hole of the file, a range that was never written, takes no room here either, if it is no shorter
    /// than a page and 64 KiB, and no content stays behind it: on Linux and Android, where the file system
    /// can name its holes. The zeros of other holes are written as any bytes.
    ///
    /// What has room in memory is read straight into it. What has none is copied to the temp file by the
    /// kernel, on Linux and Android; on other platforms, where the kernel refuses, and with
    /// [`Checksums`](crate::Checksums), it is read and written 64 KiB at a time. [`std::io::copy`] moves the
    /// same bytes 8 KiB at a time, and copies each once more. Meanwhile 64 KiB of memory are in use that no
    /// limit counts.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::{Seek, Write};
    ///
    /// let mut file = tempfile::tempfile()?;
    /// file.write_all(b"a body that came as a file")?;
    /// file.rewind()?;
    ///
    /// let mut buffer = SpillBuffer::new();
    /// buffer.write_all(b"head, and ")?;
    /// assert_eq!(buffer.extend_from_file(&file)?, 26);
    /// assert_eq!(buffer.to_vec()?, b"head, and a body that came as a file");
    /// assert_eq!((buffer.position(), file.stream_position()?), (36, 26));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`write`](Write::write), and those of reading `file`, as they are. The bytes before that are
    /// in place, and both positions are just behind them: so a call that was refused can be made again. Of
    /// kind `NotSeekable` if `file` has no position, such as a pipe: `io::copy` reads that.
    pub fn extend_from_file(&mut self, file: &File) -> io::Result<u64> {
        let mut cursor = file;
        let start = cursor.stream_position()?;
        let mut import = Import::new(file, start, !self.pager.has_sums());
        let imported = with_block(BLOCK_MAX, |block| self.import(&mut import, block));
        cursor.seek(SeekFrom::Start(import.at))?;
        imported.map(|()| import.at - start)
    }

    /// Takes in the rest of a file, through `block` where it is not read into a frame.
    fn import(&mut self, import: &mut Import<'_>, block: &mut [u8]) -> io::Result<()> {
        loop {
            if self.import_hole(import)? {
                continue;
            }
            // A write fills the gap before it.
            if self.position <= self.len() {
                let taken = self.pager.import(self.position, import)?;
                self.position += taken as u64;
                if taken > 0 {
                    continue;
                }
            }
            let piece = import.step(self.piece(block.len(), import.by_store));
            let read = import.read(&mut block[..piece])?;
            if read == 0 {
                return Ok(());
            }
            import.advance(self.write(&block[..read])? as u64);
        }
    }

    /// Leaves a hole for one of the file, if that reaches to the end of the content. Otherwise it is read.
    fn import_hole(&mut self, import: &mut Import<'_>) -> io::Result<bool> {
        let hole = import.hole(self.pager.pool.page_size);
        let end = self.position.saturating_add(hole);
        if end == self.position || end < self.len() {
            import.read_hole(hole);
            return Ok(false);
        }
        // What is overwritten becomes zeros.
        if self.position < self.len() {
            self.set_len(self.position)?;
        }
        self.set_len(end)?;
        import.advance(end - self.position);
        self.position = end;
        Ok(true)
    }

    /// Bytes of a piece to read and write, `most` at most: as many as end with a page, or with the first one,
    /// if what lies behind it may have another way.
    fn piece(&self, most: usize, first_page: bool) -> usize {
        let page = self.pager.pool.page_size;
        let to_end = page - usize::try_from(self.position % page as u64).unwrap_or(0);
        match most.checked_sub(to_end) {
            Some(rest) if !first_page => to_end + rest / page * page,
            _ => to_end.min(most),
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

/// Copies `bytes` to a buffer at position 0, as of a slice: `SpillBuffer::from(b"text")`.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for the copy.
impl<const N: usize> From<&[u8; N]> for SpillBuffer {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

/// Copies `bytes` to a buffer at position 0, as of a slice. The vector itself would be kept where it is.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for the copy.
impl From<&Vec<u8>> for SpillBuffer {
    fn from(bytes: &Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

/// Copies the text to a buffer at position 0, as of a slice of bytes.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for the copy.
impl From<&str> for SpillBuffer {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

/// Copies the text to a buffer at position 0, as of a slice of bytes. The string itself would be kept where
/// it is.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for the copy.
impl From<&String> for SpillBuffer {
    fn from(text: &String) -> Self {
        text.as_bytes().into()
    }
}

/// Appends the last `left` bytes of some content to `buf`, and returns their number. Reserves once, then
/// `read` reads straight into the vector. What was read before an error stays there.
pub(crate) fn read_rest(
    buf: &mut Vec<u8>,
    left: usize,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    buf.try_reserve(left).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let end = buf.len() + left;
    while buf.len() < end {
        let at = buf.len();
        buf.resize(end.min(at + READ_TO_END_STEP), 0);
        let done = read(&mut buf[at..]);
        buf.truncate(at + *done.as_ref().unwrap_or(&0));
        done?;
    }
    Ok(left)
}

/// Writes what `reader` has to `target`, until that is nothing. Returns the number of bytes.
pub(crate) fn copy_buffered(
    reader: &mut impl BufRead,
    target: &mut (impl Write + ?Sized),
) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(copied);
        }
        match target.write(chunk) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => {
                reader.consume(taken);
                copied += taken as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
