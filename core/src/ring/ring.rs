//! The two kinds of ring: splitting them, and what they can do while they are whole.
//!
//! Held by: `core/tests/ring_handles.rs`, `core/tests/ring_field_bugs.rs`, `core/tests/loom_ring.rs`
//! (`split_*`), `tests/tests/ring_model.rs`.

use core::fmt;

use super::any_ring::{AnyRing, Parts, Token, high_water};
use super::consumer::Consumer;
use super::layout::{KeepsHighWater, Layout, Packed};
use super::producer::Producer;
use super::raw::ends;
use super::raw::memory::{Borrowed, Bytes, Owned};
use super::shared::Shared as _;
use crate::sync::Ordering::Acquire;
use crate::sync::const_fn;

/// A byte queue of `N` bytes, all of them usable. `N` may be anything from 1 to an eighth of the address
/// space (512 MiB on a 32-bit machine); 0 and larger values do not compile. A power of two saves 12 to 30
/// instructions per call on a Cortex-M3.
///
/// ```compile_fail,E0080
/// overspill_core::ring::Ring::<0>::new(); // would be empty and full for ever
/// ```
///
/// It contains its bytes and its constructor is `const`, so it can be a `static` (see
/// [`try_split`](Ring::try_split)). `L` says how the indices lie in memory: [`Packed`] takes 12 bytes beside
/// the `N` on a 32-bit machine, [`Padded`](super::Padded) is faster between threads.
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

    /// The number of bytes that the ring can hold.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }
}

impl<const N: usize, L: Layout> Default for Ring<N, L> {
    fn default() -> Self {
        Self::new()
    }
}

/// A byte queue in borrowed memory: its capacity is the length of the slice, and not part of the type. Of a
/// slice longer than an eighth of the address space (512 MiB on a 32-bit machine) it uses only that much. Its
/// calls take as many instructions as those of a [`Ring`] whose capacity is not a power of two, or a few
/// more, whatever the length.
///
/// In an empty slice, a ring is empty and full for ever: a call that never waits moves nothing, and one that
/// awaits a byte or room, by blocking or as a future, waits until the other end is closed. Check the length
/// first where it may be 0.
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
///
/// A ring in memory that a DMA channel writes and a data cache covers. Such memory must consist of whole
/// cache lines (the README says why):
///
/// ```
/// use overspill_core::ring::SliceRing;
///
/// #[repr(align(32))] // a line of a Cortex-M7
/// struct Lines([u8; 256]);
/// static mut LINES: Lines = Lines([0; 256]);
///
/// // SAFETY: nothing else names `LINES`.
/// static RING: SliceRing<'static> = SliceRing::new(unsafe { &mut (*&raw mut LINES).0 });
///
/// let (producer, _consumer) = RING.try_split().expect("the first split");
/// let mut grant = producer.into_grant_up_to(64); // for the channel
/// assert!(grant.as_mut_slice().as_ptr().addr() % 32 == 0);
/// ```
pub struct SliceRing<'m, L: Layout = Packed> {
    shared: L::Shared,
    bytes: Borrowed<'m>,
}

impl<'m, L: Layout> SliceRing<'m, L> {
    const_fn! {
        /// An empty ring in `memory`, whose content is overwritten as the ring is used.
        #[must_use]
        pub fn new(memory: &'m mut [u8]) -> Self {
            #[cfg(not(overspill_loom))]
            let shared = L::NEW;
            #[cfg(overspill_loom)]
            let shared = L::fresh();
            SliceRing { shared, bytes: Borrowed::new(memory) }
        }
    }

    /// The number of bytes that the ring can hold.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

/// Implements what both kinds of ring have, from the name and the arguments of one, and the parameters of the
/// implementation.
macro_rules! whole_ring {
    ($name:ident<$($argument:tt),+>, $($parameters:tt)+) => {
        impl<$($parameters)+> Parts for $name<$($argument),+> {
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

        impl<$($parameters)+> $name<$($argument),+> {
            /// The number of bytes in the ring. While the ring is split, this is the number at some moment
            /// during the call, and either end may have moved since. It is a guess only if the consumer moves
            /// during each of four attempts to load both indices.
            #[must_use]
            pub fn len(&self) -> usize {
                fill(self)
            }

            /// Whether the ring is empty; see [`len`](Self::len).
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The most bytes that were ever in the ring at once, for a caller that owns neither end. See
            /// [`HighWater`](super::HighWater).
            #[must_use]
            pub fn high_water(&self) -> usize
            where
                L: KeepsHighWater,
            {
                high_water(self)
            }

            /// Splits the ring into its two ends, for as long as it is borrowed. What is in the ring stays in
            /// it, and both ends are open.
            ///
            /// Needs no atomic operations but loads and stores. For ends that live for ever, on a
            /// microcontroller, borrow the ring from a `static mut` local of `#[entry]` or `#[init]`, or from
            /// a `StaticCell`.
            pub fn split(&mut self) -> (Producer<'_, Self>, Consumer<'_, Self>) {
                let (write, read) = ends::split(self);
                (Producer::new(write), Consumer::new(read))
            }

            /// Splits a shared ring, such as a `static`, into its two ends, or returns `None` if
            /// it is split already.
            ///
            /// The ring stays split until both ends are gone: dropped or [closed](Producer::close), each by a
            /// call that has returned. (A task that such a call wakes may run before the call returns.) The
            /// bytes in the ring stay. An end that is leaked keeps the ring split for ever, unless the ring
            /// is borrowed for [`split`](Self::split).
            ///
            /// This swaps one byte; targets without compare-and-swap need the feature `critical-section` (or
            /// `portable-atomic`) for it. A call that is made during another, in an interrupt handler or on
            /// another thread, may return `None` whatever the result of the other.
            ///
            /// ```
            /// use overspill_core::ring::Ring;
            ///
            /// static RING: Ring<64> = Ring::new();
            ///
            /// let (mut producer, consumer) = RING.try_split().expect("the first split");
            /// producer.push(7).unwrap();
            /// producer.close();
            /// assert!(RING.try_split().is_none());
            /// drop(consumer);
            /// let (_, mut consumer) = RING.try_split().expect("both ends are gone");
            /// assert_eq!(consumer.pop(), Some(7));
            /// ```
            #[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
            pub fn try_split(&self) -> Option<(Producer<'_, Self>, Consumer<'_, Self>)> {
                let (write, read) = ends::try_split(self)?;
                Some((Producer::new(write), Consumer::new(read)))
            }

            /// Writes all of `bytes`, over the oldest bytes in the ring if necessary, and returns how many
            /// bytes are lost (those of `bytes` itself included, if it is longer than the ring). For an
            /// overwriting ring that can be split, see [`LogRing`](super::LogRing).
            ///
            /// ```
            /// use overspill_core::ring::Ring;
            ///
            /// let mut history = Ring::<4>::new();
            /// assert_eq!(history.push_overwriting(b"abc"), 0);
            /// assert_eq!(history.push_overwriting(b"def"), 2);
            /// let mut last = [0; 4];
            /// assert_eq!(history.split().1.pop_slice(&mut last), 4);
            /// assert_eq!(&last, b"cdef");
            /// ```
            pub fn push_overwriting(&mut self, bytes: &[u8]) -> usize {
                let (mut producer, mut consumer) = self.split();
                let kept = bytes.len().min(producer.capacity());
                let cut = bytes.len() - kept;
                let free = producer.capacity() - producer.len();
                let skipped = consumer.skip(kept.saturating_sub(free));
                // There is room for all of it now.
                let _ = producer.push_slice(bytes.get(cut..).unwrap_or_default());
                skipped + cut
            }
        }

        impl<$($parameters)+> fmt::Debug for $name<$($argument),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("capacity", &self.capacity())
                    .field("len", &self.len())
                    .finish_non_exhaustive()
            }
        }

        #[cfg(feature = "defmt")]
        impl<$($parameters)+> defmt::Format for $name<$($argument),+> {
            fn format(&self, f: defmt::Formatter<'_>) {
                let (name, capacity, len) = (stringify!($name), self.capacity(), self.len());
                defmt::write!(f, "{=str} {{ capacity: {=usize}, len: {=usize} }}", name, capacity, len);
            }
        }
    };
}

whole_ring!(Ring<N, L>, const N: usize, L: Layout);
whole_ring!(SliceRing<'_, L>, L: Layout);

/// How often [`fill`] loads the indices at most. Each time more, an end has moved in between.
const LOOKS: usize = 4;

/// The number of bytes in a ring, for a caller that owns neither end. Both indices were what is subtracted
/// at one moment if the read index, loaded again after the write index, is still the same (or has gone all
/// its laps meanwhile).
fn fill<R: AnyRing>(ring: &R) -> usize {
    let (shared, indices) = (ring.shared(Token), ring.bytes().indices());
    // Acquire, both: what is loaded next is no older than this.
    let load_read = || shared.read().load(Acquire);
    let mut read = load_read();
    let mut used = 0;
    for _ in 0..LOOKS {
        used = indices.follow_jump(read, shared.write().load(Acquire)).1;
        let read_before = core::mem::replace(&mut read, load_read());
        if read == read_before {
            break;
        }
    }
    used.min(indices.capacity())
}
