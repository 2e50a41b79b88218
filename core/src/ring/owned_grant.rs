//! Grants that own their end of the ring, for a transfer that outlives the function which starts it.
//!
//! If the ring lives for ever, they are buffers of `embedded-dma`, behind the feature of that name
//! (`raw/dma.rs`).
//!
//! Held by: `core/tests/ring_handles.rs`, `core/tests/ring_dma.rs`, `tests/tests/ring_model.rs`.

use super::any_ring::AnyRing;
use super::consumer::Consumer;
use super::errors::GrantError;
use super::grant::debug_grant;
use super::producer::Producer;

impl<'a, R: AnyRing> Producer<'a, R> {
    /// Like [`grant_contiguous`](Self::grant_contiguous), but the grant owns this end, and returns it on
    /// commit. So it may outlive the function that starts a transfer, for example in a `static`. The
    /// documentation of that method says what to wait for after `NotNow`.
    ///
    /// # Errors
    ///
    /// Those of [`grant_exact`](Self::grant_exact), each together with the producer.
    pub fn into_grant(mut self, count: usize) -> Result<OwnedWriteGrant<'a, R>, (Self, GrantError)> {
        match self.reserve_contiguous(count) {
            Ok(()) => Ok(OwnedWriteGrant::new(self, count)),
            Err(error) => Err((self, error)),
        }
    }

    /// Grants the free bytes before the wrap, in one piece and at most `count_max` of them. The grant owns
    /// this end, and returns it on commit. An empty ring grants any `count_max` up to its capacity. The grant
    /// is empty only if the ring is full, or `count_max` is 0.
    ///
    /// Use it for data that comes in pieces of any length, for example from a serial line: whatever the
    /// consumer leaves in the ring, the next transfer can start as soon as a byte is free.
    /// [`into_grant`](Self::into_grant) may be refused until all is read.
    pub fn into_grant_up_to(mut self, count_max: usize) -> OwnedWriteGrant<'a, R> {
        let count = count_max.min(self.capacity());
        let len = count.min(self.free_contiguous(count));
        OwnedWriteGrant::new(self, len)
    }
}

impl<'a, R: AnyRing> Consumer<'a, R> {
    /// Grants the bytes before the wrap, in one piece. The grant owns this end, and returns it on release. So
    /// it may outlive the function that starts a transfer. The grant is empty only if the ring is.
    pub fn into_grant(mut self) -> OwnedReadGrant<'a, R> {
        self.end.filled_bytes(self.capacity());
        let len = self.end.filled_slices(self.capacity()).0.len();
        OwnedReadGrant::new(self, len)
    }
}

/// Free bytes in one piece, together with the producer. Dropping the grant closes the producer.
///
/// To receive by DMA (the README says what data caches require):
///
/// ```
/// use core::sync::atomic::{Ordering::SeqCst, fence};
/// use overspill_core::ring::{OwnedWriteGrant, Producer, Ring};
/// # struct Channel(*mut u8);
/// # impl Channel {
/// #     fn start(&mut self, to: *mut u8, _len: usize) { self.0 = to; }
/// #     fn stop(&mut self) -> usize { unsafe { self.0.copy_from_nonoverlapping(b"abc".as_ptr(), 3) }; 3 }
/// # }
///
/// static RING: Ring<256> = Ring::new(); // for ever: nothing takes the memory away from the channel
/// type Receiver = Producer<'static, Ring<256>>;
/// type Transfer = OwnedWriteGrant<'static, Ring<256>>;
///
/// fn start(receiver: Receiver, channel: &mut Channel) -> Result<Transfer, Receiver> {
///     let mut grant = receiver.into_grant_up_to(64); // what is free before the wrap, at most 64
///     if grant.is_empty() {
///         return Err(grant.commit(0)); // full: try again once more is read
///     }
///     let bytes = grant.as_mut_slice();
///     fence(SeqCst); // and `DSB` where the chip asks for it
///     channel.start(bytes.as_mut_ptr(), bytes.len());
///     Ok(grant) // into a `static`, beside the channel
/// }
///
/// // In the interrupt handler that the end of the transfer, or an idle line, calls.
/// fn finish(grant: Transfer, channel: &mut Channel) -> Receiver {
///     let received = channel.stop(); // before anything else: it writes no more
///     fence(SeqCst);
///     grant.commit(received)
/// }
///
/// let (receiver, mut consumer) = RING.try_split().unwrap();
/// # let mut channel = Channel(core::ptr::null_mut());
/// let transfer = start(receiver, &mut channel).expect("there is room");
/// let receiver = finish(transfer, &mut channel);
/// assert_eq!(consumer.grant().as_slices().0, b"abc");
/// # drop(receiver);
/// ```
#[must_use = "dropping it closes the producer"]
pub struct OwnedWriteGrant<'a, R: AnyRing> {
    producer: Producer<'a, R>,
    len: usize,
}

impl<'a, R: AnyRing> OwnedWriteGrant<'a, R> {
    fn new(producer: Producer<'a, R>, len: usize) -> Self {
        OwnedWriteGrant { producer, len }
    }

    /// The number of bytes granted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is granted: nothing was requested, or the ring was full.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The granted bytes, with old content. Their address stays the same as long as the grant lives, even if
    /// it is moved.
    ///
    /// If the grant is leaked, the bytes stay valid only if the ring is borrowed for ever (`'a` is
    /// `'static`). Any other ring can be used, moved and dropped after the leak: stop the transfer first.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.producer.end.free_slices(self.len).0
    }

    /// Hands the first `count` granted bytes to the consumer, or all of them if `count` is larger, and
    /// returns the producer. `commit(0)` cancels the grant.
    #[must_use = "dropping it closes that side"]
    pub fn commit(mut self, count: usize) -> Producer<'a, R> {
        self.producer.end.commit(count.min(self.len));
        self.producer
    }
}

/// Filled bytes in one piece, together with the consumer. Dropping the grant closes the consumer.
///
/// To send by DMA:
///
/// ```
/// use core::sync::atomic::{Ordering::SeqCst, fence};
/// use overspill_core::ring::{Consumer, OwnedReadGrant, Ring};
/// # #[derive(Default)]
/// # struct Channel(Vec<u8>);
/// # impl Channel {
/// #     fn start(&mut self, from: *const u8, len: usize) {
/// #         self.0 = unsafe { core::slice::from_raw_parts(from, len) }.to_vec();
/// #     }
/// #     fn stop(&mut self) -> usize { self.0.len() }
/// # }
///
/// static RING: Ring<256> = Ring::new(); // for ever: nothing takes the memory away from the channel
/// type Sender = Consumer<'static, Ring<256>>;
/// type Transfer = OwnedReadGrant<'static, Ring<256>>;
///
/// fn start(sender: Sender, channel: &mut Channel) -> Result<Transfer, Sender> {
///     let grant = sender.into_grant(); // what lies before the wrap; the rest is in the next one
///     if grant.is_empty() {
///         return Err(grant.release(0));
///     }
///     let bytes = grant.as_slice();
///     fence(SeqCst); // and `DSB` where the chip asks for it
///     channel.start(bytes.as_ptr(), bytes.len());
///     Ok(grant) // into a `static`, beside the channel
/// }
///
/// // In the interrupt handler that the end of the transfer calls.
/// fn finish(grant: Transfer, channel: &mut Channel) -> Sender {
///     let sent = channel.stop(); // before anything else: it reads no more
///     fence(SeqCst);
///     grant.release(sent)
/// }
///
/// let (mut producer, sender) = RING.try_split().unwrap();
/// assert_eq!(producer.push_slice(b"abc"), 3);
/// # let mut channel = Channel::default();
/// let transfer = start(sender, &mut channel).expect("there is something to send");
/// let sender = finish(transfer, &mut channel);
/// assert!(sender.is_empty());
/// # assert_eq!(channel.0, b"abc");
/// ```
#[must_use = "dropping it closes the consumer"]
pub struct OwnedReadGrant<'a, R: AnyRing> {
    consumer: Consumer<'a, R>,
    len: usize,
}

impl<'a, R: AnyRing> OwnedReadGrant<'a, R> {
    fn new(consumer: Consumer<'a, R>, len: usize) -> Self {
        OwnedReadGrant { consumer, len }
    }

    /// The number of bytes granted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is granted: the ring was empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The granted bytes. Their address stays the same as long as the grant lives, even if it is moved. For a
    /// grant that is leaked, see [`OwnedWriteGrant::as_mut_slice`].
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.consumer.end.filled_slices(self.len).0
    }

    /// Removes the first `count` granted bytes from the ring, or all of them if `count` is larger, and
    /// returns the consumer. `release(0)` cancels the grant.
    #[must_use = "dropping it closes that side"]
    pub fn release(mut self, count: usize) -> Consumer<'a, R> {
        self.consumer.end.release(count.min(self.len));
        self.consumer
    }
}

debug_grant!(OwnedWriteGrant<'_>, OwnedReadGrant<'_>);
