//! The reader of frozen content for tokio.
//!
//! Its promises are those of [`polled_reader`](crate::polled::reader).
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::frozen_reader::FrozenReader;
use crate::polled::held::Held;
use crate::polled::reader::{Lent, PolledReader};
use crate::tokio::turn::Turns;
use std::fmt;
use std::io::{self, BufRead, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, ReadBuf};

/// A [`FrozenReader`] for tokio: it reads without stalling the event loop.
///
/// It implements [`AsyncRead`], [`AsyncBufRead`] and [`AsyncSeek`], and does what a `FrozenReader` does. It
/// also promises:
///
/// - What is in memory is read by the poll itself, up to 1 MiB, without an allocation or a switch of tasks.
///   What was moved counts towards the task's [cooperative budget](tokio::task::coop): each 64 KiB counts as
///   one operation of tokio's own does, so a task that moves much lets others run.
/// - No poll calls the store, or waits for a thread that does. The store is read by the
///   [jobs](crate::AsyncSpillBuffer) of the pool, up to 256 KiB ahead of the reader; after a seek the first
///   ones read what is asked for, or 4, 16 and then 64 KiB if that is more.
/// - An error goes to the read that needs the bytes, and the position stays. The next read tries again.
///
/// # Cancel safety
/// A pending read has read nothing. So any future may be dropped at any time: `read`, `fill_buf` and `seek`
/// have then done nothing; `read_exact` and the like have read a part, and
/// [`position`](AsyncFrozenReader::position) tells how much.
///
/// # Runtimes
/// A poll that needs the store must be made within a runtime of tokio, of any kind, which may be another each
/// time; any other poll may be made anywhere.
///
/// # Memory
/// Bytes that were read ahead are lent: they are charged to the pool, and cannot leave memory until they are
/// read, the reader moves, or it is dropped. Once a quarter of the memory limit is lent, or as much as
/// [`PoolBuilder::lend`](crate::PoolBuilder::lend) allows, each reader has copies instead, of at most 64 KiB
/// in all, which are not charged.
///
/// Dropping the reader does not call the store either, even if it is the last handle of the content.
///
/// ```
/// use overspill::SpillPool;
/// use std::io::Write;
/// use tokio::io::{AsyncReadExt, AsyncSeekExt};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let pool = SpillPool::builder().memory(1 << 20).build()?;
/// let mut upload = pool.buffer();
/// upload.write_all(&[7; 3_000_000])?;
/// let frozen = upload.freeze();
///
/// let mut reader = frozen.reader().into_async();
/// let mut other = reader.clone();
/// let mut start = [0; 4];
/// reader.read_exact(&mut start).await?;
/// other.seek(std::io::SeekFrom::End(-4)).await?;
/// let mut end = Vec::new();
/// other.read_to_end(&mut end).await?;
/// assert_eq!((&start[..], &end[..], reader.position()), (&[7; 4][..], &[7; 4][..], 4));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct AsyncFrozenReader {
    /// Dropped before the reader.
    pub(super) polled: PolledReader,
    pub(super) turns: Turns,
    pub(super) reader: Held<FrozenReader>,
}

impl FrozenReader {
    /// The reader for tokio, at the same position. Costs nothing.
    #[must_use]
    pub fn into_async(self) -> AsyncFrozenReader {
        let (polled, turns) = (PolledReader::default(), Turns::default());
        AsyncFrozenReader { polled, turns, reader: Held::new(self) }
    }
}

impl AsyncFrozenReader {
    /// The number of bytes that can be read in all, wherever the position is.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.reader.get().len()
    }

    /// Whether there is nothing to read, wherever the position is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reader.get().is_empty()
    }

    /// Where the next read starts, in bytes from the beginning. May lie past the end.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.reader.get().position()
    }

    /// The reader for threads that may block, at the same position. Waits for nothing: what was being
    /// read ahead is dropped.
    #[must_use]
    pub fn into_inner(self) -> FrozenReader {
        self.reader.into_inner()
    }
}

/// A clone starts at the same position, and has its own from then on.
impl Clone for AsyncFrozenReader {
    fn clone(&self) -> Self {
        self.reader.get().clone().into_async()
    }
}

/// Fills the caller's buffer with what is in memory, up to 1 MiB, and waits only if nothing is.
impl AsyncRead for AsyncFrozenReader {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let AsyncFrozenReader { polled, turns, reader } = self.get_mut();
        let (reader, len) = (reader.get_mut(), buf.remaining());
        if turns.may_serve(len) && polled.is_idle() && reader.read_window(buf.initialize_unfilled()) {
            turns.served(len);
            buf.advance(len);
            return Poll::Ready(Ok(()));
        }
        let read = turns.poll(context, len, |poller, len| {
            let view = &mut reader.view();
            if len > 0 {
                ready!(polled.poll_arrived(poller, view))?; // before anything is cleared
            }
            let room = buf.initialize_unfilled_to(len.min(view.left()));
            polled.poll_read(poller, view, room)
        });
        buf.advance(ready!(read)?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for AsyncFrozenReader {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let AsyncFrozenReader { polled, turns, reader } = self.get_mut();
        let reader = reader.get_mut();
        let lent = turns.poll_loan(context, |poller| polled.poll_lend(poller, &mut reader.view()));
        Poll::Ready(Ok(match ready!(lent)? {
            Lent::Ahead => polled.at(reader.place()),
            Lent::Window => reader.lent(),
            Lent::End => &[],
        }))
    }

    fn consume(mut self: Pin<&mut Self>, n: usize) {
        self.turns.consumed(n);
        self.reader.get_mut().consume(n);
    }
}

/// Moves at once. A seek to before 0 is an error, and the position stays.
impl AsyncSeek for AsyncFrozenReader {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let AsyncFrozenReader { polled, reader, .. } = self.get_mut();
        let reader = reader.get_mut();
        let before = reader.place();
        reader.seek(to)?;
        polled.moved(before, reader.place());
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position()))
    }
}

/// Shows lengths, never the content.
impl fmt::Debug for AsyncFrozenReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFrozenReader")
            .field("len", &self.len())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
