//! Content that is read while it is written: one writer that appends, and readers that follow it.
//!
//! Promises:
//!
//! - A reader sees every byte in order, and the end only after [`SpoolWriter::finish`]. What the writer did
//!   not finish is an error, never a short body that looks whole.
//! - A reader that is slow holds neither memory that others need nor the others.
//! - The writer never waits for a reader, but for room on the disk, which readers that read once make.
//!
//! Held by: `tests/tests/spool.rs`, `std-adapter/src/models/spool.rs` (loom).

use crate::api::frozen::Frozen;
use crate::api::pool::SpillPool;
use crate::api::spool_reader::SpoolReader;
use crate::observe::stats::BufferStats;
use crate::pager::content::Content;
use crate::pager::feed::{End, Feed};
use crate::pager::shared::Shared;
use crate::pager::state::Pager;
use crate::sync::Arc;
use std::fmt;
use std::io::{self, Write};

impl SpillPool {
    /// Makes content that is read while it is written: one writer that appends, and a reader that starts at 0
    /// and follows it. Clones of the reader are further readers, on any threads.
    ///
    /// The pages are the pool's, like those of a buffer.
    /// [`BufferBuilder::spool`](crate::BufferBuilder::spool) sets limits of its own.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::{Read, Write};
    /// use std::thread;
    ///
    /// let pool = SpillPool::builder().memory(1 << 20).build()?;
    /// let (mut writer, reader) = pool.spool();
    /// let followers = [reader.clone(), reader].map(|mut reader| {
    ///     thread::spawn(move || {
    ///         let mut body = Vec::new();
    ///         reader.read_to_end(&mut body).map(|_| body)
    ///     })
    /// });
    /// for piece in 0..100 {
    ///     writer.write_all(&[piece; 50_000])?; // the readers have begun
    /// }
    /// let body = writer.finish()?;
    /// for follower in followers {
    ///     assert_eq!(follower.join().unwrap()?, body.to_vec()?);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn spool(&self) -> (SpoolWriter, SpoolReader) {
        SpoolWriter::over(Pager::new(&self.state))
    }
}

/// The writer of a [spool](SpillPool::spool). What it writes can be read at once, by readers that follow.
///
/// Its bytes are kept until [`finish`](SpoolWriter::finish) returns them, unless all readers [read
/// once](SpoolReader::once). A writer that is dropped without it has failed: readers get an error of kind
/// `ConnectionAborted` once they have read what was written.
///
/// Each `write` is seen, and wakes the readers that wait, at once. What `write!` and `writeln!` format is
/// gathered, up to 512 bytes, and written as a whole. Many small writes of other kinds are faster through a
/// [`BufWriter`](std::io::BufWriter), whose [`into_inner`](std::io::BufWriter::into_inner) then comes before
/// `finish`:
///
/// ```
/// use overspill::SpillPool;
/// use std::io::{BufWriter, Write};
///
/// let (writer, reader) = SpillPool::builder().memory(1 << 20).build()?.spool();
/// let mut lines = BufWriter::new(writer);
/// for number in 0..1000_u32 {
///     lines.write_all(&number.to_le_bytes())?; // readers are woken once in 8 KiB
/// }
/// let writer = lines.into_inner().map_err(|error| error.into_error())?; // what is left is written
/// assert_eq!(writer.finish()?.len(), 4000);
/// # drop(reader);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// There is one writer, so the bytes have one order:
///
/// ```compile_fail,E0599
/// let pool = overspill::SpillPool::builder().memory(1 << 20).build().unwrap();
/// let (writer, reader) = pool.spool();
/// let other = writer.clone();
/// ```
///
/// and it writes no more once it has said that the content is whole, or why it is not:
///
/// ```compile_fail,E0382
/// use std::io::Write;
///
/// let pool = overspill::SpillPool::builder().memory(1 << 20).build().unwrap();
/// let (mut writer, reader) = pool.spool();
/// let frozen = writer.finish();
/// writer.write_all(b"more");
/// ```
///
/// ```compile_fail,E0382
/// let pool = overspill::SpillPool::builder().memory(1 << 20).build().unwrap();
/// let (writer, reader) = pool.spool();
/// writer.fail("the client is gone");
/// let frozen = writer.finish();
/// ```
pub struct SpoolWriter {
    pub(crate) shared: Arc<Shared>,
    pub(crate) feed: Arc<Feed>,
}

impl SpoolWriter {
    /// A spool of the pages of `pager`, which is empty.
    pub(crate) fn over(pager: Pager) -> (SpoolWriter, SpoolReader) {
        let shared = Arc::new(Shared::new(Content::new(pager, true)));
        let writer = SpoolWriter { shared, feed: Arc::new(Feed::new()) };
        let reader = writer.reader();
        (writer, reader)
    }

    /// The number of bytes written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.shared.content.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A further reader. It starts at 0, or, if earlier [`once`](SpoolReader::once) readers have freed a
    /// beginning, at the first byte left. From there on everything is kept for it, until it reads `once`
    /// itself.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::{Read, Write};
    ///
    /// let (mut writer, reader) = SpillPool::builder().memory(1 << 20).build()?.spool();
    /// drop(reader);
    /// writer.write_all(b"before")?;
    /// let mut late = writer.reader();
    /// writer.write_all(b" and after")?;
    /// writer.finish()?;
    /// let mut text = String::new();
    /// late.read_to_string(&mut text)?;
    /// assert_eq!(text, "before and after");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn reader(&self) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.shared), Arc::clone(&self.feed), None, None)
    }

    /// Whether there is a reader of either form: a producer may stop when nobody is left. What is written is
    /// kept all the same, for [readers](SpoolWriter::reader) that come later and for
    /// [`finish`](SpoolWriter::finish).
    ///
    /// If this is true, it may turn false at any moment. If false, it stays false until the writer makes a
    /// reader.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::Write;
    ///
    /// let (mut writer, reader) = SpillPool::builder().memory(1 << 20).build()?.spool();
    /// let (mut client, mut parts) = (Some(reader), 0);
    /// while writer.has_readers() {
    ///     writer.write_all(b"a part that takes its time")?;
    ///     parts += 1;
    ///     if parts == 3 {
    ///         drop(client.take()); // as a client does that hangs up
    ///     }
    /// }
    /// assert_eq!(parts, 3);
    /// writer.fail("nobody reads it any more");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.feed.has_readers()
    }

    /// Says that the content is whole, and returns it. Readers that follow see its end once they have read it
    /// all. Further ones are those of the [`Frozen`] content.
    ///
    /// If all readers [read once](SpoolReader::once), what all of them have passed is gone: to read it from
    /// the `Frozen` is [`SpillError::Passed`](crate::SpillError::Passed).
    ///
    /// # Errors
    /// None at present. The result leaves room for stores that can fail here.
    pub fn finish(self) -> io::Result<Frozen> {
        self.shared.content.close();
        Ok(self.end_whole())
    }

    /// Tells the readers that the content, which is closed, is whole, and returns it.
    pub(crate) fn end_whole(&self) -> Frozen {
        self.feed.finish(End::Finished);
        Frozen::whole(Arc::clone(&self.shared))
    }

    /// Says that there will be no more, though the content is not whole. Readers get
    /// [`SpillError::Unfinished`](crate::SpillError::Unfinished) with this reason, once they have
    /// read what was written.
    ///
    /// ```
    /// use overspill::{SpillError, SpillPool};
    /// use std::io::{Read, Write};
    ///
    /// let (mut writer, mut reader) = SpillPool::builder().memory(1 << 20).build()?.spool();
    /// writer.write_all(b"half a bo")?;
    /// writer.fail("the client is gone");
    ///
    /// let mut body = String::new();
    /// let error = reader.read_to_string(&mut body).unwrap_err();
    /// assert!(matches!(SpillError::of(&error), Some(SpillError::Unfinished { written: 9, .. })));
    /// assert_eq!(error.to_string(), "the writer failed (the client is gone) after 9 bytes, before the end");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fail(self, reason: impl fmt::Display) {
        self.feed.finish(End::Failed(reason.to_string()));
    }

    /// Where the bytes are, and how much was spilled and transferred so far.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        self.shared.content.with_pager(|pager| pager.stats()).unwrap_or_default()
    }

    /// Checks every invariant that can be checked without I/O. For tests.
    ///
    /// # Panics
    /// If one does not hold.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        let _ = self.shared.content.with_pager(|pager| pager.check_invariants());
    }
}

/// Appends. At the disk limit it fails or waits, as a buffer of the pool does.
impl Write for SpoolWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = self.shared.content.append(data)?;
        self.feed.grown();
        Ok(taken)
    }

    /// Does nothing: written bytes can be read already, and nothing is made durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Like std's, but in fewer writes, of up to 512 bytes: each wakes the readers. What was formatted before
    /// an error is written. A `Display` that fails is an error of kind `Other`.
    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
        if let Some(text) = args.as_str() {
            return self.write_all(text.as_bytes());
        }
        let mut pieces = Pieces { writer: self, held: [0; PIECES_MAX], len: 0, error: None };
        let formatted = fmt::Write::write_fmt(&mut pieces, args);
        let written = pieces.write_held();
        match (pieces.error, formatted) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => written,
            (None, Err(_)) => {
                written.and(Err(io::Error::other("what was to be written could not be formatted")))
            }
        }
    }
}

/// The most bytes that are gathered: a line of a log.
const PIECES_MAX: usize = 512;

/// Gathers the pieces of a formatted text.
struct Pieces<'a> {
    writer: &'a mut SpoolWriter,
    held: [u8; PIECES_MAX],
    /// Bytes in `held` that are not written yet.
    len: usize,
    /// Why a piece could not be written.
    error: Option<io::Error>,
}

impl Pieces<'_> {
    fn write_held(&mut self) -> io::Result<()> {
        let len = std::mem::take(&mut self.len);
        self.writer.write_all(&self.held[..len])
    }

    fn write_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.len() > PIECES_MAX - self.len {
            self.write_held()?;
        }
        match self.held.get_mut(self.len..self.len + piece.len()) {
            Some(room) => {
                room.copy_from_slice(piece);
                self.len += piece.len();
                Ok(())
            }
            None => self.writer.write_all(piece),
        }
    }
}

impl fmt::Write for Pieces<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // A `Display` may go on after an error: the readers would see a text with a hole.
        if self.error.is_none() {
            self.error = self.write_piece(piece.as_bytes()).err();
        }
        if self.error.is_none() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.feed.finish(End::Dropped);
    }
}

/// Shows lengths, never the content.
impl fmt::Debug for SpoolWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolWriter").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use std::io::Read;

    /// A producer could not learn that its last reader was gone, and went on to the end for nobody.
    #[test]
    fn a_writer_knows_whether_somebody_reads() {
        let (mut writer, reader) = SpillPool::builder().memory(1 << 20).build().unwrap().spool();
        let other = reader.clone();
        assert!(writer.has_readers());
        drop(reader.once());
        assert!(writer.has_readers(), "the clone is left");
        drop(other);
        assert!(!writer.has_readers());
        writer.write_all(b"kept").unwrap();
        let mut late = writer.reader();
        assert!(writer.has_readers());
        late.read_exact(&mut [0; 4]).unwrap();
        drop(late);
        assert!(!writer.has_readers());
        assert_eq!(writer.finish().unwrap().to_vec().unwrap(), b"kept");
    }
}
