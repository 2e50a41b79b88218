//! Waiting without blocking: wake-ups at a threshold, and `embedded-io-async`.
//!
//! For rings with the layout `Waking`, whose documentation has the rules. No wake-up is lost: see `wake.rs`.
//!
//! A ring without memory is empty and full: an end that waits in it waits until the other end is closed.
//!
//! Held by: `core/tests/ring_wakes.rs`, `core/tests/ring_threads.rs`, `core/tests/loom_ring.rs`.

use core::convert::Infallible;
use core::future::poll_fn;
use core::task::{Context, Poll};

use embedded_io_async::{BufRead, Read, ReadExactError, Write};

use super::any_ring::{AnyRing, Token};
use super::consumer::Consumer;
use super::errors::Closed;
use super::layout::Wakes;
use super::producer::Producer;
use super::raw::read_end::ReadEnd;
use super::raw::write_end::WriteEnd;
use super::records::{RecordConsumer, RecordProducer, header_len};
use super::shared::Shared as _;

/// As [`Consumer::poll_readable`], with a number that may be too low, but not below `least`.
fn poll_filled<R>(end: &mut ReadEnd<'_, R>, context: &mut Context<'_>, least: usize) -> Poll<usize>
where
    R: AnyRing<Layout: Wakes>,
{
    let least = least.min(end.ring().bytes().indices().capacity().max(1));
    let Some(waiters) = end.ring().shared(Token).waiters() else { return Poll::Ready(0) };
    waiters.reader.poll(context, least, || {
        let closed = end.other_closed();
        (closed, end.filled_bytes(least))
    })
}

/// As [`Producer::poll_writable`], with a number that may be too low, but not below `least`.
fn poll_free<R>(end: &mut WriteEnd<'_, R>, context: &mut Context<'_>, least: usize) -> Poll<usize>
where
    R: AnyRing<Layout: Wakes>,
{
    let least = least.min(end.ring().bytes().indices().capacity().max(1));
    let Some(waiters) = end.ring().shared(Token).waiters() else { return Poll::Ready(0) };
    waiters.writer.poll(context, least, || {
        let closed = end.other_closed();
        (closed, end.free_bytes(least))
    })
}

impl<R: AnyRing<Layout: Wakes>> Consumer<'_, R> {
    /// Ready with the number of bytes in the ring, once that is at least `least` (capped at the capacity) or
    /// the producer is closed. The number may rise at any moment, and does not fall until you read. While
    /// this is pending, the waker of the last call is woken by the write that brings the number to `least`,
    /// not by the first byte. The producer must not wait for so much at the same time that [both wait for
    /// ever](super::Waking#waiting).
    pub fn poll_readable(&mut self, context: &mut Context<'_>, least: usize) -> Poll<usize> {
        poll_filled(&mut self.end, context, least).map(|_| self.end.filled_bytes(usize::MAX))
    }

    /// Waits for a byte, or the close of the producer, without a look at more than that.
    async fn filled(&mut self) {
        poll_fn(|context| poll_filled(&mut self.end, context, 1)).await;
    }

    /// Waits until at least `least` bytes are in the ring or the producer is closed, and returns how many
    /// there are. See [`poll_readable`](Self::poll_readable).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: no byte is removed from the ring.
    pub async fn readable(&mut self, least: usize) -> usize {
        poll_fn(|context| self.poll_readable(context, least)).await
    }
}

impl<R: AnyRing<Layout: Wakes>> Producer<'_, R> {
    /// Ready with the number of free bytes, once that is at least `least` (capped at the capacity) or the
    /// consumer is closed. The number may rise at any moment, and does not fall until you write. While this
    /// is pending, the waker of the last call is woken by the read that brings the number to `least`, not by
    /// the first free byte. The consumer must not wait for so much at the same time that [both wait for
    /// ever](super::Waking#waiting).
    pub fn poll_writable(&mut self, context: &mut Context<'_>, least: usize) -> Poll<usize> {
        poll_free(&mut self.end, context, least).map(|_| self.end.free_bytes(usize::MAX))
    }

    /// Waits for room for a byte, or the close of the consumer, without a look at more than that.
    async fn free(&mut self) {
        poll_fn(|context| poll_free(&mut self.end, context, 1)).await;
    }

    /// Waits until at least `least` bytes are free or the consumer is closed, and returns how many are free.
    /// See [`poll_writable`](Self::poll_writable).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: no byte is written to the ring.
    pub async fn writable(&mut self, least: usize) -> usize {
        poll_fn(|context| self.poll_writable(context, least)).await
    }

    /// Ready with true once [`grant_contiguous`](Self::grant_contiguous) and [`into_grant`](Self::into_grant)
    /// grant `count` bytes; ready with false if the consumer is closed, or `count` is above the capacity.
    /// While this is pending, the waker of the last call is woken by the read that makes the room.
    ///
    /// If fewer than `count` bytes lie between the last one written and the end of the memory, this waits
    /// until the ring is empty. So a consumer that itself waits must wait for one byte and not for more, or
    /// both may wait for ever. ([`poll_writable`](Self::poll_writable) counts free bytes that wrap as well.)
    pub fn poll_contiguous(&mut self, context: &mut Context<'_>, count: usize) -> Poll<bool> {
        if count > self.capacity() {
            return Poll::Ready(false);
        }
        let need = self.end.free_for_contiguous(count);
        poll_free(&mut self.end, context, need).map(|room| room >= need && !self.is_closed())
    }

    /// Waits until `count` bytes can be granted in one piece, and returns whether they can. See
    /// [`poll_contiguous`](Self::poll_contiguous).
    ///
    /// ```
    /// use overspill_core::ring::{Producer, Ring, Waking};
    ///
    /// /// Writes a frame in one piece, and returns whether it did: not if the consumer is closed, or the
    /// /// frame longer than the ring.
    /// async fn send(producer: &mut Producer<'_, Ring<64, Waking>>, frame: &[u8]) -> bool {
    ///     if !producer.contiguous(frame.len()).await {
    ///         return false;
    ///     }
    ///     let Ok(mut grant) = producer.grant_contiguous(frame.len()) else { return false };
    ///     grant.as_mut_slices().0.copy_from_slice(frame);
    ///     grant.commit(frame.len());
    ///     true
    /// }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: no byte is written to the ring.
    pub async fn contiguous(&mut self, count: usize) -> bool {
        poll_fn(|context| self.poll_contiguous(context, count)).await
    }
}

impl<R: AnyRing<Layout: Wakes>> RecordConsumer<'_, R> {
    /// Ready with true once there is a record, or with false if there is none and the producer is closed.
    /// While this is pending, the waker of the last call is woken by the next record.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        // A record has a byte at least, and all of it is published at once.
        poll_filled(&mut self.end, context, 1).map(|available| available > 0)
    }

    /// Waits for a record, and returns whether there is one. See [`poll_readable`](Self::poll_readable).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: no record is removed from the ring.
    pub async fn readable(&mut self) -> bool {
        poll_fn(|context| self.poll_readable(context)).await
    }
}

impl<R: AnyRing<Layout: Wakes>> RecordProducer<'_, R> {
    /// Ready with true once a record of `len` bytes fits; ready with false if the consumer is closed, or such
    /// a record [never fits](Self::largest). While this is pending, the waker of the last call is woken by
    /// the read that makes room for it.
    pub fn poll_writable(&mut self, context: &mut Context<'_>, len: usize) -> Poll<bool> {
        let need = len.saturating_add(header_len(len));
        if need > self.end.ring().bytes().indices().capacity() {
            return Poll::Ready(false);
        }
        poll_free(&mut self.end, context, need).map(|room| room >= need && !self.is_closed())
    }

    /// Waits until a record of `len` bytes fits, and returns whether one does. See
    /// [`poll_writable`](Self::poll_writable).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: nothing is written to the ring.
    pub async fn writable(&mut self, len: usize) -> bool {
        poll_fn(|context| self.poll_writable(context, len)).await
    }
}

impl<R: AnyRing<Layout: Wakes>> Read for Consumer<'_, R> {
    /// Waits for bytes, and reads as many as there are and as `buf` has room for. Returns `Ok(0)` if the
    /// producer is closed and all is read.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: bytes are removed from the ring only when it completes.
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.filled().await;
        Ok(self.pop_slice(buf))
    }

    /// # Cancel safety
    ///
    /// Not cancel safe: bytes that were read before the future is dropped have left the ring, and the caller
    /// cannot learn how many bytes of `buf` they fill.
    async fn read_exact(&mut self, mut buf: &mut [u8]) -> Result<(), ReadExactError<Infallible>> {
        while !buf.is_empty() {
            match Read::read(self, buf).await.map_err(ReadExactError::Other)? {
                0 => return Err(ReadExactError::UnexpectedEof),
                count => buf = buf.get_mut(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}

impl<R: AnyRing<Layout: Wakes>> BufRead for Consumer<'_, R> {
    async fn fill_buf(&mut self) -> Result<&[u8], Infallible> {
        self.filled().await;
        Ok(self.end.filled_slices(usize::MAX).0)
    }

    /// The same as `consume` of `embedded_io::BufRead`.
    fn consume(&mut self, amount: usize) {
        self.end.release(amount);
    }
}

impl<R: AnyRing<Layout: Wakes>> Write for Producer<'_, R> {
    /// Waits for room, and writes as many bytes as there is room for. Fails only if the consumer is closed
    /// and the ring is full.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: bytes are written to the ring only when it completes.
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Closed> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.free().await;
        self.write_after_close(buf)
    }

    /// # Cancel safety
    ///
    /// Not cancel safe: bytes that were written before the future is dropped stay in the ring, and the caller
    /// cannot learn how many bytes of `buf` they are.
    async fn write_all(&mut self, mut buf: &[u8]) -> Result<(), Closed> {
        while !buf.is_empty() {
            let count = Write::write(self, buf).await?;
            buf = buf.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Does nothing: what was written is in the ring.
    async fn flush(&mut self) -> Result<(), Closed> {
        Ok(())
    }
}
