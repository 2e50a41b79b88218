//! The writer of a spool for tokio.
//!
//! Its promises are those of [`polled_writer`](crate::polled::writer).
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::frozen::Frozen;
use crate::api::spool::SpoolWriter;
use crate::error::text::write_sources;
use crate::observe::stats::BufferStats;
use crate::polled::writer::PolledWriter;
use crate::tokio::runtime::poller;
use crate::tokio::spool_reader::AsyncSpoolReader;
use crate::tokio::turn::Turns;
use crate::tokio::vectored::write_vectored;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// A [`SpoolWriter`] for tokio: it appends without stalling the event loop.
///
/// It implements [`AsyncWrite`], and does what a `SpoolWriter` does. It also promises what
/// [`AsyncSpillBuffer`](crate::AsyncSpillBuffer) does for writes: what there is memory for is taken by the
/// poll itself, no poll calls the store, and `Ready(Ok(n))` means held: readers, of either form and on any
/// thread, have the bytes from then on. `flush` and `shutdown` have nothing to do, and neither ends the
/// content: [`finish`](AsyncSpoolWriter::finish) does. A writer that is dropped before it has failed.
///
/// # Cancel safety
/// A pending write has taken nothing, and its future may be dropped at any time. Of a dropped `write_all`,
/// [`len`](AsyncSpoolWriter::len) tells how much was taken. A job that was at work for the dropped future
/// completes, and its result serves the next write.
///
/// At the disk limit of a pool that [waits](crate::WhenFull::Wait), a dropped write passes its place in the
/// queue on to the next write, with the same deadline. Once the deadline has passed, other waiters no longer
/// wait behind that place, and get the room that was set aside for it. Dropping the writer gives the place
/// up.
///
/// # Memory
/// The pages are charged to the pool. If a page gets no frame, because the memory limit is too low or all of
/// it is in use, writes go through a **staging buffer** of up to 16 KiB, which is not charged. Readers can
/// read its bytes too.
pub struct AsyncSpoolWriter {
    polled: PolledWriter,
    turns: Turns,
}

impl SpoolWriter {
    /// The writer for tokio. Costs nothing.
    #[must_use]
    pub fn into_async(self) -> AsyncSpoolWriter {
        AsyncSpoolWriter { polled: PolledWriter::new(self), turns: Turns::default() }
    }
}

impl AsyncSpoolWriter {
    /// The number of bytes written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.polled.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a further reader. It starts at 0 or, if earlier [`once`](AsyncSpoolReader::once) readers have
    /// freed the beginning, at the first byte that is left. From there on everything is kept for it, until it
    /// reads `once` itself.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (writer, _first) = SpillPool::builder().memory(1 << 20).build()?.spool();
    /// let mut writer = writer.into_async();
    /// writer.write_all(b"all ").await?;
    /// let mut late = writer.reader();
    /// writer.write_all(b"of it").await?;
    /// writer.finish().await?;
    /// let mut all = String::new();
    /// late.read_to_string(&mut all).await?;
    /// assert_eq!(all, "all of it");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reader(&self) -> AsyncSpoolReader {
        self.polled.reader().into_async()
    }

    /// Whether there is a reader of either form, as [`SpoolWriter::has_readers`] says. Waits for nothing.
    ///
    /// ```
    /// let (writer, reader) = overspill::SpillPool::default().spool();
    /// let (writer, reader) = (writer.into_async(), reader.into_async());
    /// assert!(writer.has_readers());
    /// drop(reader);
    /// assert!(!writer.has_readers());
    /// ```
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.polled.has_readers()
    }

    /// Where the bytes are, and how much was spilled and transferred so far. Returns `None` while a thread
    /// moves pages of the spool to or from the store, since this does not wait for the thread: call it again
    /// later. Bytes in the [staging buffer](AsyncSpoolWriter#memory) are not counted yet.
    #[must_use]
    pub fn stats(&self) -> Option<BufferStats> {
        self.polled.stats()
    }

    /// Says that the content is whole, and returns it, as [`SpoolWriter::finish`] does.
    ///
    /// # Errors
    /// If there is no room, in the store either, for what is in the [staging
    /// buffer](AsyncSpoolWriter#memory), or no runtime can move it there. The error contains the writer, with
    /// all that was accepted, to be finished later.
    ///
    /// # Cancel safety
    /// The future owns the writer: dropping the future drops the writer, and readers get an error after all
    /// that was written.
    pub async fn finish(mut self) -> Result<Frozen, FinishError> {
        let finished = poll_fn(|context| self.polled.poll_finish(poller(context))).await;
        finished.map_err(|error| FinishError { error, writer: Box::new(self) })
    }

    /// Says that no more bytes will come, though the content is not whole, as [`SpoolWriter::fail`] does.
    /// Waits for nothing.
    pub fn fail(self, reason: impl fmt::Display) {
        self.polled.fail(reason);
    }
}

/// A spool that could not be finished, and why.
///
/// The operator [`?`](crate::PersistError#the-question-mark) turns it into an [`io::Error`] with the cause,
/// and drops the writer, which fails the readers. [`into_writer`](FinishError::into_writer) keeps the writer,
/// to be finished later.
#[derive(Debug, thiserror::Error)]
pub struct FinishError {
    #[source]
    error: io::Error,
    writer: Box<AsyncSpoolWriter>,
}

impl FinishError {
    /// The cause.
    #[must_use]
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The writer, with all that was accepted. Readers go on waiting for it.
    #[must_use]
    pub fn into_writer(self) -> AsyncSpoolWriter {
        *self.writer
    }

    /// Returns the cause. Drops the writer, which fails the readers.
    #[must_use]
    pub fn into_error(self) -> io::Error {
        self.error
    }

    /// Returns the cause, and the writer.
    #[must_use]
    pub fn into_parts(self) -> (io::Error, AsyncSpoolWriter) {
        (self.error, *self.writer)
    }
}

/// `{error:#}` adds the sources.
impl fmt::Display for FinishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the spool could not be finished")?;
        write_sources(self, f)
    }
}

/// Drops the writer, which fails the readers, and keeps the cause.
impl From<FinishError> for io::Error {
    fn from(error: FinishError) -> Self {
        error.error
    }
}

impl AsyncWrite for AsyncSpoolWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let AsyncSpoolWriter { polled, turns } = &mut *self;
        turns.poll(context, data.len(), |poller, len| polled.poll_write(poller, &data[..len]))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        write_vectored(bufs, |data| self.as_mut().poll_write(context, data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready at once: what was written is held.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ready at once, and changes nothing: only `finish` says that the content is whole.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Shows lengths, never the content.
impl fmt::Debug for AsyncSpoolWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSpoolWriter").field("len", &self.len()).finish_non_exhaustive()
    }
}
