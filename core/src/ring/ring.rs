//! The two kinds of ring, and what either can do while nobody else has it.

use core::fmt;

use super::any_ring::{AnyRing, Parts, Token};
use super::consumer::Consumer;
use super::layout::{Layout, Packed};
use super::producer::Producer;
use super::raw::ends;
use super::raw::memory::{Borrowed, Bytes, Owned};
use super::shared::Shared as _;
use crate::sync::Ordering::Relaxed;
use crate::sync::const_fn;

/// A byte queue of `N` bytes, all of them usable; `N` may be anything from 0 to an eighth of the address space (more does
/// not compile: 512 MiB on a 32-bit machine). A power of two saves some ten instructions per call.
///
/// It holds its bytes itself and its constructor is `const`, so it can be a `static` (see
/// [`try_split`](Ring::try_split)). `L` says how the indices lie in memory: [`Packed`] is 12 bytes beside the `N` on a
/// 32-bit machine, [`Padded`] is faster between threads.
pub struct Ring<const N: usize, L: Layout = Packed> {
    shared: L::Shared,
    bytes: Owned<N>,
}

impl<const N: usize, L: Layout> Ring<N, L> {
    const_fn! {
        /// An empty ring.
        ///
        /// ```
        /// use overspill_core::ring::{Padded, Ring};
        ///
        /// static FOR_INTERRUPTS: Ring<64> = Ring::new();
        /// static BETWEEN_THREADS: Ring<65536, Padded> = Ring::new();
        /// assert_eq!(FOR_INTERRUPTS.capacity() + BETWEEN_THREADS.capacity(), 65600);
        /// ```
        #[must_use]
        pub fn new() -> Self {
            #[cfg(not(overspill_loom))]
            let shared = L::NEW;
            #[cfg(overspill_loom)]
            let shared = L::fresh();
            Ring { shared, bytes: Owned::new() }
        }
    }
}

impl<const N: usize, L: Layout> Default for Ring<N, L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, L: Layout> Parts for Ring<N, L> {
    type Layout = L;
    type Shared = L::Shared;

    #[inline(always)]
    fn shared(&self, _: Token) -> &L::Shared {
        &self.shared
    }

    #[inline(always)]
    fn bytes(&self) -> Bytes<'_> {
        self.bytes.bytes()
    }
}

/// A byte queue over borrowed memory: the capacity is the length of the slice, and no longer part of the type. Of a slice
/// longer than an eighth of the address space (512 MiB on a 32-bit machine) it uses that much.
///
/// ```
/// use overspill_core::ring::SliceRing;
///
/// let mut memory = [0; 100];
/// let mut ring: SliceRing = SliceRing::new(&mut memory[..60]);
/// let (mut producer, mut consumer) = ring.split();
/// assert_eq!(producer.push_slice(&[7; 100]), 60);
/// assert_eq!(consumer.pop(), Some(7));
/// ```
pub struct SliceRing<'m, L: Layout = Packed> {
    shared: L::Shared,
    bytes: Borrowed<'m>,
}

impl<'m, L: Layout> SliceRing<'m, L> {
    const_fn! {
        /// An empty ring in `memory`; what is there is overwritten in time.
        #[must_use]
        pub fn new(memory: &'m mut [u8]) -> Self {
            #[cfg(not(overspill_loom))]
            let shared = L::NEW;
            #[cfg(overspill_loom)]
            let shared = L::fresh();
            SliceRing { shared, bytes: Borrowed::new(memory) }
        }
    }
}

impl<L: Layout> Parts for SliceRing<'_, L> {
    type Layout = L;
    type Shared = L::Shared;

    #[inline(always)]
    fn shared(&self, _: Token) -> &L::Shared {
        &self.shared
    }

    #[inline(always)]
    fn bytes(&self) -> Bytes<'_> {
        self.bytes.bytes()
    }
}

/// The methods of both kinds of ring.
macro_rules! whole_ring {
    ($($generics:tt)*) => {
        impl $($generics)* {
            /// Bytes that the ring can hold.
            #[must_use]
            pub fn capacity(&self) -> usize {
                Parts::bytes(self).indices().capacity()
            }

            /// Bytes in the ring. While it is split, a guess: either end may have moved on since.
            #[must_use]
            pub fn len(&self) -> usize {
                fill(self)
            }

            /// Whether there are no bytes in the ring; see [`len`](Self::len).
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The two ends, for as long as the ring is borrowed. What is in the ring stays in it, and both sides are
            /// open.
            ///
            /// Needs no atomics but loads and stores. On a microcontroller borrow it from a `static mut` local of
            /// `#[entry]` or `#[init]`, or from a `StaticCell`, to have ends for ever.
            pub fn split(&mut self) -> (Producer<'_, Self>, Consumer<'_, Self>) {
                let (write, read) = ends::split(self);
                (Producer::new(write), Consumer::new(read))
            }

            /// The two ends of a shared ring, such as a `static`, or `None` if they are out already.
            ///
            /// They are out until both come back by [`rejoin`](Consumer::rejoin), even if one is dropped. Swaps one byte, once;
            /// targets without compare-and-swap need the feature `critical-section` (or `portable-atomic`) for that.
            ///
            /// ```
            /// use overspill_core::ring::Ring;
            ///
            /// static RING: Ring<64> = Ring::new();
            ///
            /// let (producer, consumer) = RING.try_split().expect("the first to ask");
            /// assert!(RING.try_split().is_none());
            /// assert!(consumer.rejoin(producer).is_ok());
            /// assert!(RING.try_split().is_some());
            /// ```
            #[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
            pub fn try_split(&self) -> Option<(Producer<'_, Self>, Consumer<'_, Self>)> {
                let (write, read) = ends::try_split(self)?;
                Some((Producer::new(write), Consumer::new(read)))
            }

            /// Writes all of `bytes`, in place of the oldest bytes in the ring where it must, and says how many of
            /// those (and of `bytes` itself, where it is longer than the ring) are lost: the overwriting ring
            /// of a single owner. For one that is split see [`LogRing`].
            ///
            /// ```
            /// use overspill_core::ring::Ring;
            ///
            /// let mut history = Ring::<4>::new();
            /// assert_eq!(history.push_overwriting(b"abc"), 0);
            /// assert_eq!(history.push_overwriting(b"def"), 2);
            /// let mut last = [0; 4];
            /// history.split().1.pop_slice(&mut last);
            /// assert_eq!(&last, b"cdef");
            /// ```
            pub fn push_overwriting(&mut self, bytes: &[u8]) -> usize {
                let (mut producer, mut consumer) = self.split();
                let kept = bytes.len().min(producer.capacity());
                let cut = bytes.len() - kept;
                let free = producer.capacity() - producer.len();
                let skipped = consumer.skip(kept.saturating_sub(free));
                producer.push_slice(bytes.get(cut..).unwrap_or_default());
                skipped + cut
            }
        }
    };
}

whole_ring!(<const N: usize, L: Layout> Ring<N, L>);
whole_ring!(<L: Layout> SliceRing<'_, L>);

impl<'a, R: AnyRing> Consumer<'a, R> {
    /// Ends the split of a shared ring: it may be [split](Ring::try_split) again, and what is in it stays.
    ///
    /// # Errors
    ///
    /// Both ends come back if they are of two different rings.
    #[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
    pub fn rejoin(self, producer: Producer<'a, R>) -> Result<(), (Producer<'a, R>, Self)> {
        ends::rejoin(producer.into_end(), self.into_end())
            .map_err(|(write, read)| (Producer::new(write), Consumer::new(read)))
    }
}

/// Bytes in a ring, by whoever looks. Between the two loads either index may move, so it is a guess, clamped.
fn fill<R: AnyRing>(ring: &R) -> usize {
    let (shared, indices) = (ring.shared(Token), ring.bytes().indices());
    let read = shared.read().load(Relaxed);
    let write = shared.write().load(Relaxed);
    indices.follow_jump(read, write).1.min(indices.capacity())
}

impl<const N: usize, L: Layout> fmt::Debug for Ring<N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("capacity", &N).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<L: Layout> fmt::Debug for SliceRing<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliceRing")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<const N: usize, L: Layout> defmt::Format for Ring<N, L> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Ring {{ capacity: {=usize}, len: {=usize} }}", N, self.len());
    }
}

#[cfg(feature = "defmt")]
impl<L: Layout> defmt::Format for SliceRing<'_, L> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "SliceRing {{ capacity: {=usize}, len: {=usize} }}", self.capacity(), self.len());
    }
}
