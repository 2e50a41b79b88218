//! A reader that follows the writer of a spool.
//!
//! Its promises are those of [`spool`](crate::api::spool).
//!
//! Held by: `tests/tests/spool.rs`, `std-adapter/src/models/spool.rs` (loom).

use crate::api::text::{not_text, read_text, whole_characters};
use crate::api::transfers::copy_buffered;
use crate::error::SpillError;
use crate::foreign::drop_quietly;
use crate::pager::feed::{End, Feed};
use crate::pager::reader::Reader;
use crate::pager::shared::Shared;
use crate::sync::Arc;
use std::fmt;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A reader of a [spool](crate::SpillPool::spool), which follows its writer: at the end of what was
/// written, it waits for more.
///
/// It sees the end, 0 bytes, only after [`SpoolWriter::finish`](crate::SpoolWriter::finish). If the writer
/// fails or is dropped instead, a read past what was written is [`SpillError::Unfinished`]. A clone stands at
/// the same position and then goes its own way. It seeks within what is written.
///
/// What `fill_buf` returns lies in the reader's window, which any other call may move:
///
/// ```compile_fail,E0502
/// use std::io::BufRead;
///
/// let pool = overspill::SpillPool::builder().memory(1 << 20).build().unwrap();
/// let (writer, mut reader) = pool.spool();
/// let chunk = reader.fill_buf().unwrap();
/// let other = reader.clone();
/// assert!(chunk.is_empty());
/// ```
pub struct SpoolReader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) reader: Reader,
    /// This reader's number in the feed.
    number: u64,
    pub(crate) at: u64,
    /// The multiple of a page up to which the feed knows that this reader has passed; `None`
    /// unless it reads once.
    told: Option<u64>,
    pub(crate) timeout: Option<Duration>,
}

impl SpoolReader {
    /// A reader at `at`, which is not gone; or else at the first byte that is kept.
    pub(crate) fn new(shared: Arc<Shared>, feed: Arc<Feed>, at: Option<u64>, told: Option<u64>) -> Self {
        shared.content.add_readers(1);
        let ((number, kept_from), mut reader) =
            (feed.enter(told), Reader::new(Arc::clone(&shared.content.pool), u64::MAX));
        let at = at.unwrap_or(kept_from);
        reader.skip_to(at);
        SpoolReader { shared, feed, reader, number, at, told, timeout: None }
    }

    /// Reads on without going back. What the writer and all readers have passed is then freed while the rest
    /// arrives, in whole pages, if all of them read once: the spool needs no more room than the slowest lags
    /// behind, and up to three pages.
    ///
    /// A reader that does not read once holds back what is freed, wherever it stands: so does one that is
    /// kept only to be cloned later. The writer makes [further readers](crate::SpoolWriter::reader) without
    /// one.
    ///
    /// Clones read once too. Seeking back is an error. The reader that could go back is gone:
    ///
    /// ```compile_fail,E0382
    /// use std::io::Seek;
    ///
    /// let pool = overspill::SpillPool::builder().memory(1 << 20).build().unwrap();
    /// let (writer, mut reader) = pool.spool();
    /// let once = reader.once();
    /// reader.rewind();
    /// ```
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::{Read, Write};
    ///
    /// let pool = SpillPool::builder().memory(1 << 20).disk(1 << 20).build()?;
    /// let (mut writer, reader) = pool.spool();
    /// let mut reader = reader.once();
    /// let mut piece = [0; 500_000];
    /// for number in 0..20 {
    ///     writer.write_all(&[number; 500_000])?; // ten megabytes through two
    ///     reader.read_exact(&mut piece)?;
    ///     assert_eq!(piece, [number; 500_000]);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn once(mut self) -> Self {
        let page = self.page();
        self.told = Some(self.at / page * page);
        self.tell_passed();
        self
    }

    /// Sets how long a read waits for more before it fails with [`SpillError::NothingWritten`]. `None`, as at
    /// first, is for ever; with zero, a read never waits. A clone has the same.
    ///
    /// A `read` or `fill_buf` that times out has taken nothing; a `read_line` or `read_to_string` has taken
    /// only what is in the caller's string. The next call waits again, so a reader can do other work from
    /// time to time. The time starts anew with each read: a call that reads several times, such as
    /// `read_to_end`, [`copy_to`](SpoolReader::copy_to) or a seek from the end, fails only if nothing is
    /// written for that long.
    ///
    /// ```
    /// use overspill::{SpillError, SpillPool};
    /// use std::io::{Read, Write};
    /// use std::time::Duration;
    ///
    /// let (mut writer, mut reader) = SpillPool::builder().memory(1 << 20).build()?.spool();
    /// reader.set_timeout(Some(Duration::ZERO));
    /// let waiting = reader.read(&mut [0; 10]).unwrap_err();
    /// assert!(matches!(SpillError::of(&waiting), Some(SpillError::NothingWritten { .. })));
    /// writer.write_all(b"more")?;
    /// assert_eq!(reader.read(&mut [0; 10])?, 4);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// What std makes of several reads may lose what the first of them have taken: so do
    /// `read_exact`, and the iterators of `lines` and `split`. `read_line`, `read_until` and
    /// `read_to_end` keep it. For a record of a fixed length, [`position`](SpoolReader::position)
    /// tells how much was taken, and a reader that does not read once can go back:
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::{BufRead, Read, Seek, SeekFrom, Write};
    /// use std::time::Duration;
    ///
    /// let (mut writer, mut reader) = SpillPool::builder().memory(1 << 20).build()?.spool();
    /// reader.set_timeout(Some(Duration::ZERO));
    /// writer.write_all(b"half")?;
    /// let (begin, mut record) = (reader.position(), [0; 8]);
    /// assert!(reader.read_exact(&mut record).is_err());
    /// assert_eq!(reader.position(), begin + 4); // the half is taken
    /// reader.seek(SeekFrom::Start(begin))?;
    /// writer.write_all(b"full;line")?;
    /// reader.read_exact(&mut record)?;
    /// assert_eq!(&record, b"halffull");
    ///
    /// let mut field = Vec::new();
    /// assert_eq!(reader.read_until(b';', &mut field)?, 1);
    /// assert!(reader.read_until(b';', &mut field).is_err());
    /// assert_eq!(field, b";line"); // `split` would have dropped the line
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// How long a read waits for more: see [`set_timeout`](SpoolReader::set_timeout).
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The number of bytes written so far: more may come at any moment, until the writer has ended.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.shared.content.len()
    }

    /// Writes the bytes from the position to the end of the content to `target`, and moves there, as they are
    /// written. Returns their number. Waits for the writer to end. `target` gets them from the reader's
    /// window, without a buffer between.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::Write;
    /// use std::thread;
    ///
    /// let (mut writer, reader) = SpillPool::builder().memory(1 << 20).build()?.spool();
    /// let copy = thread::spawn(move || {
    ///     let mut copy = Vec::new();
    ///     reader.once().copy_to(&mut copy).map(|_| copy)
    /// });
    /// writer.write_all(&[7; 100_000])?;
    /// writer.finish()?;
    /// assert_eq!(copy.join().unwrap()?, [7; 100_000]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As a read's, [`Unfinished`](SpillError::Unfinished) and [`NothingWritten`](SpillError::NothingWritten)
    /// among them, and those of `target`; `WriteZero` if `target` takes no byte. The position has moved by
    /// exactly what `target` took.
    pub fn copy_to(&mut self, target: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        copy_buffered(self, target)
    }

    /// Where the next read starts, in bytes from the beginning.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Ready when a read returns at once: with bytes, at the end, or with an error. Otherwise the waker of
    /// `context` is called when that changes. For implementors of `poll_read` and the like.
    ///
    /// A read from the store may take its time, ready or not: the form that `into_async` makes, with the
    /// feature `tokio`, keeps that away from an event loop.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let content = &self.shared.content;
        if content.len() > self.at || self.feed.poll(content, self.number, self.at, context.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn page(&self) -> u64 {
        self.shared.content.pool.page_size as u64
    }

    /// Bytes that can be read now, at least one; or 0 at the end. `None` if the writer is to be awaited.
    pub(crate) fn look(&self) -> io::Result<Option<usize>> {
        let content = &self.shared.content;
        let left = |written: u64| Ok(Some(usize::try_from(written - self.at).unwrap_or(usize::MAX)));
        let written = content.len();
        if written > self.at {
            return left(written);
        }
        // The end first: what was written before it is there then.
        let end = self.feed.end()?;
        let written = content.len();
        if written > self.at {
            return left(written);
        }
        match end {
            End::Finished => Ok(Some(0)),
            End::Failed(reason) => Err(SpillError::Unfinished { written, reason: Some(reason) }.into()),
            End::Dropped => Err(SpillError::Unfinished { written, reason: None }.into()),
            End::Open => Ok(None),
        }
    }

    /// Bytes that can be read now, at least one; or 0 at the end. Waits for more.
    #[cold]
    #[inline(never)]
    fn await_more(&self) -> io::Result<usize> {
        if let Some(left) = self.look()? {
            return Ok(left);
        }
        let began = Instant::now();
        let deadline = self.timeout.and_then(|timeout| began.checked_add(timeout));
        loop {
            if !self.feed.wait(&self.shared.content, self.at, deadline)? {
                return Err(SpillError::NothingWritten { waited: began.elapsed() }.into());
            }
            if let Some(left) = self.look()? {
                return Ok(left);
            }
        }
    }

    fn read_slow(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.read_untold(buf)?;
        self.tell_if_passed();
        Ok(read)
    }

    /// Reads, and tells nobody that this reader has passed what it has read: so it may go back.
    fn read_untold(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let want = buf.len().min(self.await_more()?);
        let read = self.reader.read(&self.shared.content, self.at, &mut buf[..want])?;
        self.at += read as u64;
        Ok(read)
    }

    /// Reads a character to `buf`, of which some bytes may not be written yet, or lie in the next page.
    /// Returns its length and true; or 1 and false if it is none, of which the first byte is passed then.
    /// After an error none is.
    fn read_character(&mut self, buf: &mut String) -> io::Result<(usize, bool)> {
        let (from, mut bytes, mut held) = (self.at, [0; 4], 0);
        buf.try_reserve(bytes.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let is_text = loop {
            let read = self.read_untold(&mut bytes[held..=held]);
            let n = read.inspect_err(|_| self.at = from)?;
            held += n;
            match std::str::from_utf8(&bytes[..held]) {
                Ok(character) => {
                    buf.push_str(character);
                    break true;
                }
                Err(cut) if n > 0 && cut.error_len().is_none() => {}
                Err(_) => break false,
            }
        };
        let passed = if is_text { held } else { 1 };
        self.at = from + passed as u64;
        self.tell_if_passed();
        Ok((passed, is_text))
    }

    /// Whether this reader reads once and has passed a page, of which the feed does not know.
    #[inline]
    pub(crate) fn has_passed(&self) -> bool {
        self.told.is_some_and(|told| self.at >= told + self.page())
    }

    /// Tells the feed what this reader has passed, if that is a page.
    #[inline]
    pub(crate) fn tell_if_passed(&mut self) {
        if self.has_passed() {
            self.tell_passed();
        }
    }

    /// Reads all of `buf` if it lies in the window, and moves past it. Otherwise does nothing and returns
    /// false.
    #[inline(always)]
    pub(crate) fn read_window(&mut self, buf: &mut [u8]) -> bool {
        self.reader.read_window(&mut self.at, buf)
    }

    #[cold]
    fn tell_passed(&mut self) {
        let passed = self.at / self.page() * self.page();
        self.told = Some(passed);
        let by_all = self.feed.note_consumed(self.number, passed);
        self.shared.content.free_consumed(by_all);
    }
}

impl Clone for SpoolReader {
    fn clone(&self) -> Self {
        let (shared, feed) = (Arc::clone(&self.shared), Arc::clone(&self.feed));
        let mut clone = SpoolReader::new(shared, feed, Some(self.at), self.told);
        clone.timeout = self.timeout;
        clone
    }
}

impl Drop for SpoolReader {
    fn drop(&mut self) {
        self.shared.content.remove_reader();
        let by_all = self.feed.leave(self.number);
        if by_all > 0 {
            self.shared.content.free_consumed(by_all);
        }
    }
}

/// Waits for more at the end of what was written.
impl Read for SpoolReader {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !buf.is_empty() && self.read_window(buf) {
            self.tell_if_passed();
            return Ok(buf.len());
        }
        self.read_slow(buf)
    }

    /// Appends the rest of the content to `buf`, which gets nothing if the bytes are not UTF-8. If a read
    /// fails after some text, that text stays in `buf`; if the failure cut a character, the next call reads
    /// that character again. While a character lies in two pages, and the second is awaited, the first is not
    /// passed. If a read fails after bytes that are not UTF-8, the next call reads again all that this one
    /// has read; a reader that reads once has passed them, and returns `InvalidData` in place of the error.
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        let (read, again) = read_text(buf, self.told.is_none(), |piece, cut| {
            self.at -= cut as u64;
            self.tell_if_passed();
            self.at += cut as u64;
            self.read_untold(piece)
        });
        self.at -= again;
        self.tell_if_passed();
        read
    }
}

impl BufRead for SpoolReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.await_more()? == 0 {
            return Ok(&[]);
        }
        Ok(self.reader.lend(&self.shared.content, self.at)?)
    }

    fn consume(&mut self, n: usize) {
        let left = self.shared.content.len().saturating_sub(self.at);
        self.at += left.min(n as u64);
        self.reader.skip_to(self.at);
        self.tell_if_passed();
    }

    /// Like std's, but text that was read before an error stays in `buf`, and the next call reads again a
    /// character that the error has cut. If an error comes after bytes that are not UTF-8, the next call
    /// reads again all that this one has read; a reader that reads once has passed them, and returns
    /// `InvalidData` in place of the error.
    fn read_line(&mut self, buf: &mut String) -> io::Result<usize> {
        let (from, is_once) = (self.at, self.told.is_some());
        let (start, mut read, mut is_text) = (buf.len(), 0, true);
        loop {
            let chunk = match self.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if !is_text && is_once => {
                    drop_quietly(error);
                    return Err(not_text());
                }
                Err(error) => {
                    self.at = if is_text { self.at } else { from };
                    return Err(error);
                }
            };
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let line = &chunk[..newline.map_or(chunk.len(), |at| at + 1)];
            let (is_last, mut taken) = (newline.is_some() || line.is_empty(), line.len());
            match whole_characters(line).filter(|_| is_text) {
                Some(0) if !is_last => {
                    (taken, is_text) = self.read_character(buf)?;
                    read += taken;
                    continue;
                }
                Some(whole) => {
                    buf.try_reserve(whole).map_err(|_| io::ErrorKind::OutOfMemory)?;
                    buf.push_str(std::str::from_utf8(&line[..whole]).unwrap_or_default());
                    taken = whole;
                }
                None => is_text = false,
            }
            self.consume(taken);
            read += taken;
            if !is_text {
                buf.truncate(start);
            }
            if is_last {
                return if is_text { Ok(read) } else { Err(not_text()) };
            }
        }
    }
}

/// Within what is written: a position past it is an error, and so is one that this reader has passed, if it
/// reads once. The position stays then. From the end, it waits for the writer to end: the
/// [timeout](SpoolReader::set_timeout) counts anew whenever something was written.
impl Seek for SpoolReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.at, offset),
            SeekFrom::End(offset) => (self.await_end()?, offset),
        };
        self.seek_from(from, offset)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.at)
    }
}

impl SpoolReader {
    pub(crate) fn seek_from(&mut self, from: u64, offset: i64) -> io::Result<u64> {
        let written = self.shared.content.len();
        let position = from.checked_add_signed(offset).filter(|position| *position <= written);
        let position = position.ok_or(SpillError::InvalidSeek { from, offset, end: written })?;
        if self.told.is_some() && position < self.at {
            return Err(SpillError::Passed { position, kept_from: self.at }.into());
        }
        self.at = position;
        self.tell_if_passed();
        Ok(position)
    }

    /// The length of all the content, once it has ended.
    fn await_end(&mut self) -> io::Result<u64> {
        let at = self.at;
        let ended = loop {
            self.at = self.shared.content.len();
            match self.await_more() {
                Ok(0) => break Ok(self.at),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        self.at = at;
        ended
    }
}

/// Shows lengths, never the content.
impl fmt::Debug for SpoolReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolReader")
            .field("written", &self.shared.content.len())
            .field("position", &self.at)
            .finish_non_exhaustive()
    }
}
