//! The producer: the safe interface of the write end.
//!
//! Held by: `core/tests/ring_handles.rs`, `tests/tests/ring_model.rs`, `core/tests/loom_ring.rs`.

use super::any_ring::{AnyRing, debug_end, high_water};
use super::errors::{Full, GrantError, fits};
use super::grant::WriteGrant;
use super::layout::KeepsHighWater;
use super::raw::write_end::WriteEnd;

/// The writing end of a ring. A ring has one at a time. It may be sent to another thread or an interrupt
/// handler; dropping it [closes](Producer::close) it.
///
/// # Blocking
///
/// The methods below never wait. `write` and `write_all` of `embedded-io` do, as their contract says: while
/// the ring is full, they spin until the consumer has read or is closed. On a single core, an interrupt
/// handler that calls them spins for ever if it has interrupted the consumer's code. `write_ready` says
/// beforehand whether `write` returns at once.
pub struct Producer<'a, R: AnyRing> {
    pub(crate) end: WriteEnd<'a, R>,
}

impl<'a, R: AnyRing> Producer<'a, R> {
    pub(crate) fn new(end: WriteEnd<'a, R>) -> Self {
        Producer { end }
    }

    /// Writes one byte.
    ///
    /// # Errors
    ///
    /// [`Full`], with the byte, if there is no room for it.
    #[inline]
    pub fn push(&mut self, byte: u8) -> Result<(), Full> {
        if self.end.write_byte(byte) { Ok(()) } else { Err(Full(byte)) }
    }

    /// Writes as many of `bytes` as there is room for, in at most two copies, and returns how many: all of
    /// them, unless the ring is full afterwards.
    #[inline]
    #[must_use = "it may have written less than all"]
    pub fn push_slice(&mut self, bytes: &[u8]) -> usize {
        self.end.write(bytes)
    }

    /// Grants all the free bytes, to be filled in place. They may wrap, so they are two slices.
    ///
    /// ```
    /// use overspill_core::ring::Ring;
    ///
    /// let mut ring = Ring::<8>::new();
    /// let (mut producer, mut consumer) = ring.split();
    /// let mut grant = producer.grant();
    /// grant.as_mut_slices().0[..3].copy_from_slice(b"abc");
    /// grant.commit(3);
    /// assert_eq!(consumer.pop(), Some(b'a'));
    /// ```
    pub fn grant(&mut self) -> WriteGrant<'_, 'a, R> {
        let len = self.end.free_bytes(self.capacity());
        WriteGrant::new(&mut self.end, len)
    }

    /// Grants exactly `count` free bytes, in two slices where they wrap.
    ///
    /// # Errors
    ///
    /// [`GrantError::TooLarge`] if `count` is above the capacity, so that waiting does not help;
    /// [`GrantError::NotNow`] if there is less room at the moment.
    pub fn grant_exact(&mut self, count: usize) -> Result<WriteGrant<'_, 'a, R>, GrantError> {
        fits(count, self.capacity(), self.end.free_bytes(count))?;
        Ok(WriteGrant::new(&mut self.end, count))
    }

    /// Grants exactly `count` free bytes in one piece, all in the grant's first slice, for a DMA channel or a
    /// parser.
    ///
    /// An empty ring grants any number of bytes up to its capacity, wherever the last write ended. A ring
    /// that holds bytes grants at most those that are free before the wrap. After `NotNow`, wait until the
    /// consumer has read more: once the ring is empty, the request fits. With the layout `Waking` (feature
    /// `async`), the future `contiguous` waits for that; `writable(count)` may be ready long before, since it
    /// counts free bytes after the wrap too.
    ///
    /// # Errors
    ///
    /// Those of [`grant_exact`](Self::grant_exact).
    pub fn grant_contiguous(&mut self, count: usize) -> Result<WriteGrant<'_, 'a, R>, GrantError> {
        self.reserve_contiguous(count)?;
        Ok(WriteGrant::new(&mut self.end, count))
    }

    /// Makes `count` free bytes contiguous, or says why they are not.
    pub(crate) fn reserve_contiguous(&mut self, count: usize) -> Result<(), GrantError> {
        fits(count, self.capacity(), self.free_contiguous(count))
    }

    /// How many free bytes are contiguous. If an empty ring has fewer than `count`, they all are afterwards.
    pub(crate) fn free_contiguous(&mut self, count: usize) -> usize {
        self.end.free_bytes(count);
        if self.end.free_before_wrap() < count && count <= self.capacity() {
            self.end.jump_if_empty();
        }
        self.end.free_before_wrap()
    }

    /// The number of bytes that the ring can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.ring().bytes().indices().capacity()
    }

    /// The number of bytes in the ring. It may fall at any moment, and does not rise until you write.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Whether the ring is empty. If true, it stays true until you write. If false, it may
    /// turn true at any moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the ring is full. If true, it may turn false at any moment. If false, it stays
    /// false until you write.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Whether at least `count` bytes are free. If true, it stays true until you write. If false, it may turn
    /// true at any moment, unless `count` is above the capacity.
    #[must_use]
    pub fn is_writable(&self, count: usize) -> bool {
        self.capacity() - self.len() >= count
    }

    /// Whether the consumer is closed, so that what is in the ring will not be read. If true, it stays true
    /// until the ring is split again. If false, it may turn true at any moment.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.end.other_closed()
    }

    /// Ends the stream: nothing more will be written. The consumer reads what is in the ring,
    /// and then sees the end.
    ///
    /// Dropping the producer does the same.
    pub fn close(self) {}

    /// The most bytes that were ever in the ring at once. See [`HighWater`](super::HighWater).
    #[must_use]
    pub fn high_water(&self) -> usize
    where
        R::Layout: KeepsHighWater,
    {
        high_water(self.end.ring())
    }
}

debug_end!(Producer);
