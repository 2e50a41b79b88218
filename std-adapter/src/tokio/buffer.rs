//! The buffer for tokio.
//!
//! Its promises are those of [`polled`](crate::polled::buffer).
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::buffer::SpillBuffer;
use crate::error::SpillError;
use crate::error::text::write_sources;
use crate::observe::stats::BufferStats;
use crate::polled::buffer::Polled;
use crate::polled::job::{Call, Kind};
use crate::sync::Arc;
use crate::sync::fork::Lock;
use crate::tokio::runtime::poller;
use crate::tokio::turn::Turns;
use crate::tokio::vectored::write_vectored;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

/// A [`SpillBuffer`] for tokio: it spills without stalling the event loop.
///
/// It implements [`AsyncRead`], [`AsyncWrite`], [`AsyncSeek`] and [`AsyncBufRead`], and does what a
/// `SpillBuffer` does. It also promises:
///
/// - What touches memory alone is done by the poll itself, up to 1 MiB, without an allocation or a switch of
///   tasks. What was moved counts towards the task's [cooperative budget](tokio::task::coop): each 64 KiB
///   counts as one operation of tokio's own does, so a task that moves much lets others run.
/// - Its own [`read_exact`](AsyncSpillBuffer::read_exact) and [`write_all`](AsyncSpillBuffer::write_all) cost
///   small pieces in memory about what they cost of a `SpillBuffer`. Those of tokio's traits, which generic
///   code calls, cost up to twice as much.
/// - No poll calls the store: *jobs* do. A job is the part of an operation that needs the store, or a call
///   that [`run`](AsyncSpillBuffer::run) was given. Jobs run on the blocking threads of the runtime that
///   polls, at most four of each pool at once, whatever the number of buffers, and move a megabyte at a time
///   where bytes follow each other.
/// - `Ready(Ok(n))` of a write means held: the bytes are in memory or in the store, and are read back from
///   now on. So `flush` and `shutdown` have nothing to do.
/// - An error is returned by the call during which it occurs; if that call's future was dropped, by the next
///   call of its kind. Bytes in the [staging buffer](#memory) may find no room only at a later write,
///   [`run`](AsyncSpillBuffer::run) or [`into_inner`](AsyncSpillBuffer::into_inner), which then fails; the
///   bytes are kept.
///
/// # Cancel safety
/// Each operation waits until what it needs is in memory, and holds no bytes of its caller while it waits: a
/// pending operation has taken nothing and returned nothing. So any future that reads, writes or seeks may be
/// dropped at any time, and nothing is lost or done twice. `read`, `write`, `fill_buf` and `seek` have then
/// done nothing; `write_all`, `read_exact` and the like have done a part, and
/// [`position`](AsyncSpillBuffer::position) tells how much. A job that was at work for the dropped future
/// completes, and its result serves the next operation.
///
/// At the disk limit of a pool that [waits](crate::WhenFull::Wait), a dropped write passes its place in the
/// queue on to the next write of this buffer, with the same deadline. Once the deadline has passed, other
/// waiters no longer wait behind that place, and get the room that was set aside for it.
/// [`clear`](AsyncSpillBuffer::clear), a cut that frees something, [`run`](AsyncSpillBuffer::run),
/// [`into_inner`](AsyncSpillBuffer::into_inner), and dropping the buffer give the place up.
///
/// # Runtimes
/// A poll that needs the store must be made within a runtime of tokio, of any kind; any other poll may be
/// made anywhere. The runtime may be another one each time: after one is shut down, the buffer goes on in the
/// next with all that it holds, or [`into_inner`](AsyncSpillBuffer::into_inner) takes it out. A deadline of
/// [`WhenFull::Wait`](crate::WhenFull::Wait) needs the runtime's timer; without one, the call fails at the
/// limit.
///
/// # Tasks
/// Only one task at a time may poll the buffer. The halves of `tokio::io::split` share one position, and are
/// for one task too: if two tasks wait, only the last to poll is woken.
///
/// # Dropping
/// A drop does not call the store either: the room below the disk limit is free at once, and the blocks go
/// back to the file system with the next jobs of the pool, or by [`SpillPool::trim`](crate::SpillPool::trim).
/// A file that [goes with its buffer](SpillBuffer#cost-of-dropping) is closed by a blocking thread of the
/// runtime, if the buffer is dropped within a runtime and the file has more than 2 MiB.
///
/// # Memory
/// The pages are charged to the pool. If a page gets no frame, because the memory limit is too low or all of
/// it is in use, writes go through a **staging buffer** of up to 16 KiB, and reads through another. Neither
/// is charged. The bytes of the last write stay there until the next operation. A server that keeps many such
/// buffers for long, for example uploads that may be resumed, calls [`run(|_| ())`](AsyncSpillBuffer::run)
/// before it puts one aside: that moves them into the pages, and frees their memory.
///
/// Pages that are made ready for a sequential pass are charged too, and their memory cannot go to another
/// buffer before the next operation. They are at most a quarter of the pool's memory limit, for all its
/// buffers together.
///
/// ```
/// use overspill::SpillPool;
/// use tokio::io::AsyncSeekExt;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let pool = SpillPool::builder().memory(1 << 20).disk(1 << 30).build()?;
/// let mut upload = pool.buffer().into_async();
/// for _ in 0..1000 {
///     upload.write_all(&[7; 5000]).await?; // 1 MiB of it in memory, the rest on disk
/// }
/// upload.rewind().await?;
/// let mut start = [0; 4];
/// upload.read_exact(&mut start).await?;
/// assert_eq!((start, upload.len()), ([7; 4], 5_000_000));
///
/// let body = upload.into_inner().await?.freeze();
/// assert_eq!(body.len(), 5_000_000);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct AsyncSpillBuffer {
    pub(super) polled: Polled,
    pub(super) turns: Turns,
}

impl SpillBuffer {
    /// The buffer for tokio, at the same position.
    ///
    /// Costs nothing.
    #[must_use]
    pub fn into_async(self) -> AsyncSpillBuffer {
        AsyncSpillBuffer { polled: Polled::new(self), turns: Turns::default() }
    }
}

impl AsyncSpillBuffer {
    /// The length of the content in bytes, wherever they are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.polled.len()
    }

    /// Whether the content has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the next read or write starts, in bytes from the beginning. May lie past the end.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.polled.position()
    }

    /// Where the bytes are, and how much was spilled and transferred so far. Returns `None` while a job has
    /// the buffer, since this does not wait for the job: call it again later. Bytes in the [staging
    /// buffer](AsyncSpillBuffer#memory) are not counted yet.
    #[must_use]
    pub fn stats(&self) -> Option<BufferStats> {
        self.polled.stats()
    }

    /// Cuts the content to `len` bytes, or extends it with zeros, as [`SpillBuffer::set_len`]
    /// does. The position stays.
    ///
    /// # Errors
    /// If no runtime can run the job that it needs; nothing has changed then.
    ///
    /// # Cancel safety
    /// The future may be dropped. Then the content has been cut, or will be cut before the next operation, or
    /// will not be cut at all.
    pub async fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut begun = false;
        poll_fn(|context| self.polled.poll_set_len(poller(context), len, &mut begun)).await
    }

    /// Empties the buffer and moves to position 0, as [`SpillBuffer::clear`] does.
    ///
    /// # Errors
    /// As [`set_len`](AsyncSpillBuffer::set_len).
    ///
    /// # Cancel safety
    /// As for `set_len`. The position moves last.
    pub async fn clear(&mut self) -> io::Result<()> {
        self.set_len(0).await?;
        self.polled.leave_queue();
        self.polled.seek(SeekFrom::Start(0))
    }

    /// Runs `f` on the buffer, on a thread that may block, and returns its result. Use it for
    /// [`SpillBuffer::spill`], [`try_clone`](SpillBuffer::try_clone), [`copy_to`](SpillBuffer::copy_to),
    /// [`stats`](SpillBuffer::stats) and everything else that has no async form. For methods that consume the
    /// buffer, use [`into_inner`](AsyncSpillBuffer::into_inner), or [`persist`](AsyncSpillBuffer::persist).
    ///
    /// `f` sees all that was accepted, and the position, which it may move. For as long as it runs, it takes
    /// the place of one of the pool's four [jobs](AsyncSpillBuffer). So in `f` nothing waits for room on the
    /// disk: at the limit of a pool that [waits](crate::WhenFull::Wait), a call fails as with
    /// [`WhenFull::Fail`](crate::WhenFull::Fail).
    ///
    /// # Errors
    /// If no runtime can run `f`, if there is no room for what is in the [staging
    /// buffer](AsyncSpillBuffer#memory), or if `f` panics. Errors that `f` returns are in its result.
    ///
    /// # Cancel safety
    /// If the future is dropped before `f` has begun, it never runs. Otherwise it runs to its end, the next
    /// operation waits for it, and its result is dropped.
    pub async fn run<R: Send + 'static>(
        &mut self,
        f: impl FnOnce(&mut SpillBuffer) -> R + Send + 'static,
    ) -> io::Result<R> {
        let result = Arc::new(Lock::new(None));
        let returned = Arc::downgrade(&result);
        let mut call: Option<Call> = Some(Box::new(move |buffer| {
            let Some(returned) = returned.upgrade() else { return }; // the future was dropped
            let value = f(buffer);
            if let Ok(mut returned) = returned.lock() {
                *returned = Some(value);
            }
        }));
        let running = Running(&mut self.polled);
        poll_fn(|context| running.0.poll_run(poller(context), &mut call)).await?;
        let value = result.lock().map_err(SpillError::from)?.take();
        value.ok_or_else(|| io::Error::other("the call was not made"))
    }

    /// Returns the buffer for threads that may block, with all that was accepted, at the same position.
    ///
    /// Waits for a job that is under way, but not for one that has not begun. So it works even after the
    /// runtime was shut down.
    ///
    /// # Errors
    /// If there is no room, in the store either, for what is in the [staging
    /// buffer](AsyncSpillBuffer#memory). The error contains the buffer, with all that it holds.
    ///
    /// # Cancel safety
    /// The future owns the buffer: dropping the future drops the buffer.
    pub async fn into_inner(mut self) -> Result<SpillBuffer, IntoInnerError> {
        loop {
            if let Some(buffer) = self.polled.take_buffer() {
                return Ok(buffer);
            }
            if let Err(error) = poll_fn(|context| self.polled.poll_settled(poller(context))).await {
                return Err(IntoInnerError { error, buffer: Box::new(self) });
            }
        }
    }
}

/// The paths for bytes that are not in the window: kept apart, so that those that are cost little.
impl AsyncSpillBuffer {
    #[cold]
    #[inline(never)]
    fn poll_write_slow(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let AsyncSpillBuffer { polled, turns } = self;
        turns.poll(context, data.len(), |poller, len| polled.poll_write(poller, &data[..len]))
    }

    #[cold]
    #[inline(never)]
    fn poll_read_slow(&mut self, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let AsyncSpillBuffer { polled, turns } = self;
        let read = turns.poll(context, buf.remaining(), |poller, len| {
            if len > 0 {
                ready!(polled.poll_home(poller, Kind::Read))?; // before anything is cleared
            }
            let left = usize::try_from(polled.len().saturating_sub(polled.position())).unwrap_or(usize::MAX);
            // At the end too it is polled for a byte: a lowered memory limit is kept there.
            let room = buf.initialize_unfilled_to(len.min(left.max(1)));
            polled.poll_read(poller, room)
        });
        buf.advance(ready!(read)?);
        Poll::Ready(Ok(()))
    }
}

/// A call under way. Dropped before it has begun, it is forgotten.
struct Running<'a>(&'a mut Polled);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.cancel_run();
    }
}

/// A buffer that could not be taken out of its async form, and why.
///
/// The operator [`?`](crate::PersistError#the-question-mark) turns it into an [`io::Error`] with the cause,
/// and drops the buffer and its content. [`into_buffer`](IntoInnerError::into_buffer) keeps the buffer.
#[derive(Debug, thiserror::Error)]
pub struct IntoInnerError {
    #[source]
    error: io::Error,
    buffer: Box<AsyncSpillBuffer>,
}

impl IntoInnerError {
    /// The cause.
    #[must_use]
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The buffer, with all that it holds.
    #[must_use]
    pub fn into_buffer(self) -> AsyncSpillBuffer {
        *self.buffer
    }

    /// Returns the cause. Drops the buffer, and its content with it.
    #[must_use]
    pub fn into_error(self) -> io::Error {
        self.error
    }

    /// Returns the cause, and the buffer.
    #[must_use]
    pub fn into_parts(self) -> (io::Error, AsyncSpillBuffer) {
        (self.error, *self.buffer)
    }
}

/// `{error:#}` adds the sources.
impl fmt::Display for IntoInnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer could not be taken out of its async form")?;
        write_sources(self, f)
    }
}

/// Drops the buffer, and keeps the cause.
impl From<IntoInnerError> for io::Error {
    fn from(error: IntoInnerError) -> Self {
        error.error
    }
}

impl AsyncWrite for AsyncSpillBuffer {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.turns.may_serve(data.len()) && self.polled.write_window(data) {
            self.turns.served(data.len());
            return Poll::Ready(Ok(data.len()));
        }
        self.poll_write_slow(context, data)
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

    /// Ready at once, and changes nothing: the buffer can still be written to.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for AsyncSpillBuffer {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = buf.remaining();
        if self.turns.may_serve(len) && self.polled.read_window(buf.initialize_unfilled()) {
            self.turns.served(len);
            buf.advance(len);
            return Poll::Ready(Ok(()));
        }
        self.poll_read_slow(context, buf)
    }
}

impl AsyncBufRead for AsyncSpillBuffer {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let AsyncSpillBuffer { polled, turns } = self.get_mut();
        turns.poll_loan(context, |poller| polled.poll_fill_buf(poller))
    }

    fn consume(mut self: Pin<&mut Self>, n: usize) {
        self.turns.consumed(n);
        self.polled.consume(n);
    }
}

/// Moves at once, unless a job of a dropped [`run`](AsyncSpillBuffer::run) or
/// [`set_len`](AsyncSpillBuffer::set_len) is still at work. A seek to before 0 is an error, and the position
/// stays.
impl AsyncSeek for AsyncSpillBuffer {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        self.polled.seek(to)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        ready!(self.polled.poll_known(poller(context)))?;
        Poll::Ready(Ok(self.polled.position()))
    }
}

/// Shows lengths, never the content.
impl fmt::Debug for AsyncSpillBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSpillBuffer")
            .field("len", &self.len())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
