//! The consumer: the safe interface of the read end.
//!
//! Held by: `core/tests/ring_handles.rs`, `tests/tests/ring_model.rs`, `core/tests/loom_ring.rs`.

use super::any_ring::{AnyRing, debug_end, high_water};
use super::errors::{GrantError, fits};
use super::grant::ReadGrant;
use super::layout::KeepsHighWater;
use super::raw::read_end::ReadEnd;

/// The reading end of a ring. A ring has one at a time. It may be sent to another thread or an interrupt
/// handler; dropping it [closes](Consumer::close) it.
///
/// # Blocking
///
/// The methods below never wait. `read`, `read_exact` and `fill_buf` of `embedded-io` do, as their contract
/// says: while the ring is empty, they spin until the producer has written or is closed. On a single core, an
/// interrupt handler that calls them spins for ever if it has interrupted the producer's code. `read_ready`
/// says beforehand whether `read` returns at once.
pub struct Consumer<'a, R: AnyRing> {
    pub(crate) end: ReadEnd<'a, R>,
}

impl<'a, R: AnyRing> Consumer<'a, R> {
    pub(crate) fn new(end: ReadEnd<'a, R>) -> Self {
        Consumer { end }
    }

    /// Removes the next byte and returns it, or `None` if the ring is empty.
    #[inline]
    pub fn pop(&mut self) -> Option<u8> {
        self.end.read_byte(true)
    }

    /// Moves bytes from the ring into `buf`, and returns how many: as many as `buf` has room for, unless the
    /// ring is empty afterwards. It copies them as slices: the bytes before the wrap, and those after it.
    /// With the layout [`Padded`](super::Padded), it copies and releases at most 8 KiB at a time.
    #[inline]
    #[must_use = "it may have read less than all"]
    pub fn pop_slice(&mut self, buf: &mut [u8]) -> usize {
        self.end.read(buf, true)
    }

    /// Returns the next byte and leaves it in the ring, or `None` if the ring is empty.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        self.end.read_byte(false)
    }

    /// Like [`pop_slice`](Self::pop_slice), but the bytes stay in the ring.
    #[inline]
    #[must_use = "it may have read less than all"]
    pub fn peek_slice(&mut self, buf: &mut [u8]) -> usize {
        self.end.read(buf, false)
    }

    /// Removes up to `count` bytes without reading them, and returns how many it removed.
    pub fn skip(&mut self, count: usize) -> usize {
        self.end.filled_bytes(count);
        self.end.release(count)
    }

    /// Grants all the bytes in the ring, to be read in place. They may wrap, so they are two slices.
    ///
    /// ```
    /// use overspill_core::ring::Ring;
    ///
    /// let mut ring = Ring::<8>::new();
    /// let (mut producer, mut consumer) = ring.split();
    /// assert_eq!(producer.push_slice(b"abc"), 3);
    /// let grant = consumer.grant();
    /// assert_eq!(grant.as_slices().0, b"abc");
    /// grant.release(2);
    /// assert_eq!(consumer.pop(), Some(b'c'));
    /// ```
    pub fn grant(&mut self) -> ReadGrant<'_, 'a, R> {
        let len = self.end.filled_bytes(self.capacity());
        ReadGrant::new(&mut self.end, len)
    }

    /// Grants exactly `count` bytes, in two slices where they wrap.
    ///
    /// # Errors
    ///
    /// [`GrantError::TooLarge`] if `count` is above the capacity, so that waiting does not help;
    /// [`GrantError::NotNow`] if the ring holds fewer at the moment.
    pub fn grant_exact(&mut self, count: usize) -> Result<ReadGrant<'_, 'a, R>, GrantError> {
        fits(count, self.capacity(), self.end.filled_bytes(count))?;
        Ok(ReadGrant::new(&mut self.end, count))
    }

    /// The number of bytes that the ring can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.ring().bytes().indices().capacity()
    }

    /// The number of bytes in the ring. It may rise at any moment, and does not fall until you read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Whether the ring is empty. If true, it may turn false at any moment. If false, it stays
    /// false until you read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the ring is full. If true, it stays true until you read. If false, it may turn true at any
    /// moment.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Whether the ring holds at least `count` bytes. If true, it stays true until you read. If false, it may
    /// turn true at any moment, unless `count` is above the capacity.
    #[must_use]
    pub fn is_readable(&self, count: usize) -> bool {
        self.len() >= count
    }

    /// Whether the producer is closed, so that nothing follows what is in the ring. If true, it stays true
    /// until the ring is split again. If false, it may turn true at any moment.
    ///
    /// To detect the end of the stream, call this *first* and then read to the last byte: the producer may
    /// have written between a read and this call.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.end.other_closed()
    }

    /// Ends reading: the producer sees that nothing more will be read.
    ///
    /// Dropping the consumer does the same.
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

debug_end!(Consumer);
