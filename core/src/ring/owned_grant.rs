//! Grants that own their end: for a transfer that outlives the function which starts it.

use super::any_ring::AnyRing;
use super::consumer::Consumer;
use super::errors::GrantError;
use super::grant::debug_grant;
use super::producer::Producer;

impl<'a, R: AnyRing> Producer<'a, R> {
    /// As [`grant_contiguous`](Self::grant_contiguous), but the grant owns this end and gives it back on commit: it may
    /// outlive the function that starts a transfer, in a `static` for example.
    ///
    /// # Errors
    ///
    /// As for [`grant_exact`](Self::grant_exact), with the producer.
    pub fn into_grant(mut self, count: usize) -> Result<OwnedWriteGrant<'a, R>, (Self, GrantError)> {
        match self.reserve_contiguous(count) {
            Ok(()) => Ok(OwnedWriteGrant::new(self, count)),
            Err(error) => Err((self, error)),
        }
    }
}

impl<'a, R: AnyRing> Consumer<'a, R> {
    /// The bytes in front of the wrap in one piece, in a grant that owns this end and gives it back on release: it may
    /// outlive the function that starts a transfer. Empty only if the ring is.
    pub fn into_grant(mut self) -> OwnedReadGrant<'a, R> {
        self.end.filled_bytes(self.capacity());
        let len = self.end.filled_slices(self.capacity()).0.len();
        OwnedReadGrant::new(self, len)
    }
}

/// Free bytes in one piece, together with the end that writes them. Dropping it closes the producer.
#[must_use = "dropping it closes the producer"]
pub struct OwnedWriteGrant<'a, R: AnyRing> {
    producer: Producer<'a, R>,
    len: usize,
}

impl<'a, R: AnyRing> OwnedWriteGrant<'a, R> {
    fn new(producer: Producer<'a, R>, len: usize) -> Self {
        OwnedWriteGrant { producer, len }
    }

    /// The bytes. They stay where they are while the grant lives, even if it is moved or leaked.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.producer.end.free_slices(self.len).0
    }

    /// Hands the first `count` bytes to the consumer, at most all of them, and gives the producer back.
    /// `commit(0)` is how to give up.
    #[must_use = "dropping it closes that side"]
    pub fn commit(mut self, count: usize) -> Producer<'a, R> {
        self.producer.end.commit(count.min(self.len));
        self.producer
    }
}

/// Filled bytes in one piece, together with the end that reads them. Dropping it closes the consumer.
#[must_use = "dropping it closes the consumer"]
pub struct OwnedReadGrant<'a, R: AnyRing> {
    consumer: Consumer<'a, R>,
    len: usize,
}

impl<'a, R: AnyRing> OwnedReadGrant<'a, R> {
    fn new(consumer: Consumer<'a, R>, len: usize) -> Self {
        OwnedReadGrant { consumer, len }
    }

    /// The bytes. They stay where they are while the grant lives, even if it is moved or leaked.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.consumer.end.filled_slices(self.len).0
    }

    /// Gives the first `count` bytes back to the producer, at most all of them, and gives the consumer back.
    /// `release(0)` is how to give up.
    #[must_use = "dropping it closes that side"]
    pub fn release(mut self, count: usize) -> Consumer<'a, R> {
        self.consumer.end.release(count.min(self.len));
        self.consumer
    }
}

debug_grant!(OwnedWriteGrant<'_>, OwnedReadGrant<'_>);
