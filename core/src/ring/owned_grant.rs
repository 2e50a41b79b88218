//! Grants that own their end of the ring, for a transfer that outlives the function which starts it.
//!
//! Held by: `core/tests/ring_handles.rs`, `tests/tests/ring_model.rs`.

use super::any_ring::AnyRing;
use super::consumer::Consumer;
use super::errors::GrantError;
use super::grant::debug_grant;
use super::producer::Producer;

impl<'a, R: AnyRing> Producer<'a, R> {
    /// As [`grant_contiguous`](Self::grant_contiguous), but the grant owns this end, and returns it on
    /// commit. So it may outlive the function that starts a transfer, for example in a `static`.
    ///
    /// # Errors
    ///
    /// Those of [`grant_exact`](Self::grant_exact), together with the producer.
    pub fn into_grant(mut self, count: usize) -> Result<OwnedWriteGrant<'a, R>, (Self, GrantError)> {
        match self.reserve_contiguous(count) {
            Ok(()) => Ok(OwnedWriteGrant::new(self, count)),
            Err(error) => Err((self, error)),
        }
    }
}

impl<'a, R: AnyRing> Consumer<'a, R> {
    /// The bytes before the wrap, in one piece, in a grant that owns this end and returns it on release. So
    /// it may outlive the function that starts a transfer. It is empty only if the ring is.
    pub fn into_grant(mut self) -> OwnedReadGrant<'a, R> {
        self.end.filled_bytes(self.capacity());
        let len = self.end.filled_slices(self.capacity()).0.len();
        OwnedReadGrant::new(self, len)
    }
}

/// Free bytes in one piece, together with the producer. Dropping it closes the producer.
#[must_use = "dropping it closes the producer"]
pub struct OwnedWriteGrant<'a, R: AnyRing> {
    producer: Producer<'a, R>,
    len: usize,
}

impl<'a, R: AnyRing> OwnedWriteGrant<'a, R> {
    fn new(producer: Producer<'a, R>, len: usize) -> Self {
        OwnedWriteGrant { producer, len }
    }

    /// The granted bytes. Their address stays the same as long as the grant lives, even if it is moved or
    /// leaked.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.producer.end.free_slices(self.len).0
    }

    /// Hands the first `count` bytes to the consumer, at most all of them, and returns the producer.
    /// `commit(0)` cancels the grant.
    #[must_use = "dropping it closes that side"]
    pub fn commit(mut self, count: usize) -> Producer<'a, R> {
        self.producer.end.commit(count.min(self.len));
        self.producer
    }
}

/// Filled bytes in one piece, together with the consumer. Dropping it closes the consumer.
#[must_use = "dropping it closes the consumer"]
pub struct OwnedReadGrant<'a, R: AnyRing> {
    consumer: Consumer<'a, R>,
    len: usize,
}

impl<'a, R: AnyRing> OwnedReadGrant<'a, R> {
    fn new(consumer: Consumer<'a, R>, len: usize) -> Self {
        OwnedReadGrant { consumer, len }
    }

    /// The granted bytes. Their address stays the same as long as the grant lives, even if it is moved or
    /// leaked.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.consumer.end.filled_slices(self.len).0
    }

    /// Removes the first `count` bytes from the ring, at most all of them, and returns the consumer.
    /// `release(0)` cancels the grant.
    #[must_use = "dropping it closes that side"]
    pub fn release(mut self, count: usize) -> Consumer<'a, R> {
        self.consumer.end.release(count.min(self.len));
        self.consumer
    }
}

debug_grant!(OwnedWriteGrant<'_>, OwnedReadGrant<'_>);
