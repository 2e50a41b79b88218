//! The reader of a spool for tokio.
//!
//! Its promises are those of [`polled_reader`](crate::polled::reader).
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::spool_reader::SpoolReader;
use crate::disk::store_access::without_store;
use crate::polled::follower::Waiting;
use crate::polled::held::Held;
use crate::polled::reader::{Lent, PolledReader};
use crate::tokio::runtime::poller;
use crate::tokio::turn::Turns;
use std::fmt;
use std::io::{self, BufRead, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, ReadBuf};

/// A [`SpoolReader`] for tokio: it follows the writer without blocking a thread, and reads without
/// stalling the event loop.
///
/// It implements [`AsyncRead`], [`AsyncBufRead`] and [`AsyncSeek`], and does what a `SpoolReader` does: at
/// the end of what was written, a read waits for more; after `finish` it returns 0 bytes; and if the writer
/// did not finish, it fails. What [`AsyncFrozenReader`](crate::AsyncFrozenReader) promises about memory,
/// errors, runtimes and dropping, this reader promises too.
///
/// The writer may be of either form, on any thread.
///
/// # Cancel safety
/// As for [`AsyncFrozenReader`](crate::AsyncFrozenReader). A [timeout](AsyncSpoolReader::set_timeout) counts
/// from the first read that found nothing, even if its future was dropped. It needs the runtime's timer;
/// without one, such a read fails at once.
///
/// A seek from the end waits until the writer has ended, with the timeout of a read. If its future is
/// dropped, the position has not moved, and the next read cancels the seek. A further seek, with no read
/// between, first waits for the dropped one, as tokio requires; if that fails, the further seek returns its
/// error, and has not moved either.
///
/// ```
/// use overspill::SpillPool;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let pool = SpillPool::builder().memory(1 << 20).build()?;
/// let (writer, reader) = pool.spool();
/// let (mut writer, mut reader) = (writer.into_async(), reader.into_async());
/// let follower = tokio::spawn(async move {
///     let mut body = Vec::new();
///     reader.read_to_end(&mut body).await.map(|_| body)
/// });
/// for piece in 0..100 {
///     writer.write_all(&[piece; 50_000]).await?; // the reader has begun
/// }
/// let body = writer.finish().await?;
/// assert_eq!(follower.await.unwrap()?, body.to_vec()?);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct AsyncSpoolReader {
    /// Dropped before the reader.
    polled: PolledReader,
    turns: Turns,
    /// A wait for more.
    waiting: Option<Waiting>,
    /// A seek from the end that waits for it.
    seeking: Option<i64>,
    reader: Held<SpoolReader>,
}

impl SpoolReader {
    /// The reader for tokio, at the same position, with the same timeout; it reads once if this one
    /// does. Costs nothing.
    #[must_use]
    pub fn into_async(self) -> AsyncSpoolReader {
        AsyncSpoolReader {
            polled: PolledReader::default(),
            turns: Turns::default(),
            waiting: None,
            seeking: None,
            reader: Held::new(self),
        }
    }
}

impl AsyncSpoolReader {
    /// Reads on without seeking back, as [`SpoolReader::once`] says.
    #[must_use]
    pub fn once(self) -> Self {
        let AsyncSpoolReader { polled, turns, waiting, seeking, reader } = self;
        let reader = without_store(|| reader.into_inner().once());
        AsyncSpoolReader { polled, turns, waiting, seeking, reader: Held::new(reader) }
    }

    /// How long a read waits for more before it fails with
    /// [`SpillError::NothingWritten`](crate::SpillError::NothingWritten); `None`, which is the default, is
    /// for ever. Setting it restarts the wait of a read that was dropped.
    ///
    /// A timeout needs the runtime's timer; without one, a read that finds nothing fails at once.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.waiting = None;
        self.reader.get_mut().set_timeout(timeout);
    }

    /// How long a read waits for more; `None` is for ever.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.reader.get().timeout
    }

    /// The number of bytes that the writer has written so far, whether or not this reader has passed them.
    /// While the writer is at work, the number may have grown when this returns.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.reader.get().shared.content.len()
    }

    /// Where the next read starts, in bytes from the beginning.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.reader.get().position()
    }

    /// The reader for threads that may block, at the same position. Waits for nothing: what was being
    /// read ahead is dropped.
    #[must_use]
    pub fn into_inner(self) -> SpoolReader {
        self.reader.into_inner()
    }

    /// Tells the feed what was passed, if anything. What is freed by that stays in the store for later calls.
    fn tell_if_passed(&mut self) {
        let reader = self.reader.get_mut();
        if reader.has_passed() {
            without_store(|| reader.tell_if_passed());
        }
    }
}

/// A clone starts at the same position, and has its own from then on.
impl Clone for AsyncSpoolReader {
    fn clone(&self) -> Self {
        self.reader.get().clone().into_async()
    }
}

/// Fills the caller's buffer with what is written and in memory, up to 1 MiB, and waits only if nothing is.
impl AsyncRead for AsyncSpoolReader {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.seeking = None;
        let AsyncSpoolReader { polled, turns, waiting, reader, .. } = this;
        let (reader, len) = (reader.get_mut(), buf.remaining());
        if len == 0 {
            return Poll::Ready(Ok(()));
        }
        let read =
            if turns.may_serve(len) && polled.is_idle() && reader.read_window(buf.initialize_unfilled()) {
                turns.served(len);
                *waiting = None;
                len
            } else {
                let read = turns.poll(context, len, |poller, len| {
                    let left = ready!(reader.poll_more(poller, waiting))?;
                    if left == 0 {
                        return Poll::Ready(Ok(0));
                    }
                    let view = &mut reader.view(left);
                    ready!(polled.poll_arrived(poller, view))?; // before anything is cleared
                    let room = buf.initialize_unfilled_to(len.min(left));
                    polled.poll_read(poller, view, room)
                });
                ready!(read)?
            };
        buf.advance(read);
        this.tell_if_passed();
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for AsyncSpoolReader {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let AsyncSpoolReader { polled, turns, waiting, seeking, reader } = self.get_mut();
        *seeking = None;
        let reader = reader.get_mut();
        let lent = turns.poll_loan(context, |poller| {
            let left = ready!(reader.poll_more(poller, waiting))?;
            polled.poll_lend(poller, &mut reader.view(left))
        });
        Poll::Ready(Ok(match ready!(lent)? {
            Lent::Ahead => polled.at(reader.position()),
            Lent::Window => reader.lent(),
            Lent::End => &[],
        }))
    }

    fn consume(mut self: Pin<&mut Self>, n: usize) {
        self.turns.consumed(n);
        without_store(|| self.reader.get_mut().consume(n));
    }
}

/// Moves within what is written, as [`SpoolReader`] does. A seek from the end waits until the writer has
/// ended.
impl AsyncSeek for AsyncSpoolReader {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        this.seeking = None;
        let before = this.position();
        match to {
            SeekFrom::End(offset) => this.seeking = Some(offset),
            to => this.polled.moved(before, without_store(|| this.reader.get_mut().seek(to))?),
        }
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        if let Some(offset) = this.seeking {
            let before = this.position();
            let (reader, waiting) = (this.reader.get_mut(), &mut this.waiting);
            let moved = ready!(reader.poll_seek_from_end(poller(context), waiting, offset));
            this.seeking = None;
            this.polled.moved(before, moved?);
        }
        Poll::Ready(Ok(this.position()))
    }
}

/// Shows lengths, never the content.
impl fmt::Debug for AsyncSpoolReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSpoolReader").field("reader", self.reader.get()).finish_non_exhaustive()
    }
}
