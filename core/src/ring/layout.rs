//! How the indices of a ring, and what else its ends share, lie in memory.
//!
//! Held by: `core/tests/ring_handles.rs`, `core/tests/ring_wakes.rs` (every layout),
//! `core/tests/loom_ring.rs` (with cached indices and without).

use super::shared::{GONE, SealedLayout, Shared};
#[cfg(feature = "async")]
use super::wake::Waiters;
use crate::sync::{AtomicU8, AtomicUsize, SwapBool, const_fn};

/// How the indices of a ring lie in memory, and what else is kept beside them. Chosen by type, at
/// no cost at run time.
///
/// | layout | bytes on a 32-bit machine | for |
/// |---|---|---|
/// | [`Packed`] | 12 | microcontrollers (the default) |
/// | [`Padded`] | 256, and aligned to 128 | threads on machines with caches |
/// | [`HighWater`] | 4 more, or 128 around [`Padded`] | knowing how close to full the ring has come |
/// | `Waking` (feature `async`) | 48 more, or 128 around [`Padded`] | wake-ups |
///
/// Layouts nest, in any order: a `Ring<64, HighWater<Waking<Padded>>>` has all three.
pub trait Layout: SealedLayout {}

impl<L: SealedLayout> Layout for L {}

/// What the table of [`Layout`] says.
#[cfg(all(target_pointer_width = "32", not(overspill_loom)))]
const _: () = {
    assert!(size_of::<PackedShared>() == 12 && size_of::<HighWaterShared<PackedShared>>() == 16);
    assert!(size_of::<PaddedShared>() == 256 && size_of::<HighWaterShared<PaddedShared>>() == 384);
    #[cfg(feature = "async")]
    assert!(size_of::<WakingShared<PackedShared>>() == 60 && size_of::<WakingShared<PaddedShared>>() == 384);
};

/// Implements the construction of a layout: by constant, or for loom by call.
macro_rules! fresh {
    ($shared:ty, $constant:expr, $call:expr) => {
        type Shared = $shared;
        #[cfg(not(overspill_loom))]
        #[allow(clippy::declare_interior_mutable_const, reason = "a template, copied into each ring")]
        const NEW: $shared = $constant;
        #[cfg(overspill_loom)]
        fn fresh() -> $shared {
            $call
        }
    };
}

/// Everything side by side: 12 bytes on a 32-bit machine. For a single core, or where memory is scarce.
#[derive(Debug)]
pub struct Packed;

pub struct PackedShared {
    write: AtomicUsize,
    read: AtomicUsize,
    write_state: AtomicU8,
    read_state: AtomicU8,
    splitting: SwapBool,
}

impl PackedShared {
    const_fn! {
        fn new() -> Self {
            PackedShared {
                write: AtomicUsize::new(0),
                read: AtomicUsize::new(0),
                write_state: AtomicU8::new(GONE),
                read_state: AtomicU8::new(GONE),
                splitting: SwapBool::new(false),
            }
        }
    }
}

impl SealedLayout for Packed {
    fresh!(PackedShared, PackedShared::new(), PackedShared::new());
}

impl Shared for PackedShared {
    const CACHED: bool = false;

    #[inline(always)]
    fn write(&self) -> &AtomicUsize {
        &self.write
    }

    #[inline(always)]
    fn read(&self) -> &AtomicUsize {
        &self.read
    }

    #[inline(always)]
    fn write_state(&self) -> &AtomicU8 {
        &self.write_state
    }

    #[inline(always)]
    fn read_state(&self) -> &AtomicU8 {
        &self.read_state
    }

    #[inline(always)]
    fn splitting(&self) -> &SwapBool {
        &self.splitting
    }
}

/// The two ends write to different cache lines, so that neither takes the other's line away by writing.
/// For threads on machines with caches. Costs two lines of 128 bytes, and their alignment.
///
/// The ends cache the indices. `pop`, `peek`, `pop_slice` and `peek_slice` of up to 4 KiB pause, once, if
/// they have caught up with the writer, before they load the write index again: 24 iterations of a spin loop,
/// about half a microsecond. Loading it takes the cache line away from the writer's core, so a reader that
/// never paused would get the bytes one by one, and slowly. Calls with longer slices do not pause, nor do
/// grants, `skip` and records. `pop_slice` releases what it has read every 8 KiB, so that a writer that waits
/// for room need not wait for the whole slice.
#[derive(Debug)]
pub struct Padded;

/// Aligned to 128 bytes: x86-64 fetches lines of 64 in pairs, and some aarch64 machines have lines of 128.
#[repr(align(128))]
struct Line<T>(T);

struct WriterLine {
    write: AtomicUsize,
    state: AtomicU8,
    splitting: SwapBool,
}

struct ReaderLine {
    read: AtomicUsize,
    state: AtomicU8,
}

pub struct PaddedShared {
    writer: Line<WriterLine>,
    reader: Line<ReaderLine>,
}

impl PaddedShared {
    const_fn! {
        fn new() -> Self {
            PaddedShared {
                writer: Line(WriterLine {
                    write: AtomicUsize::new(0),
                    state: AtomicU8::new(GONE),
                    splitting: SwapBool::new(false),
                }),
                reader: Line(ReaderLine { read: AtomicUsize::new(0), state: AtomicU8::new(GONE) }),
            }
        }
    }
}

impl SealedLayout for Padded {
    fresh!(PaddedShared, PaddedShared::new(), PaddedShared::new());
}

impl Shared for PaddedShared {
    const CACHED: bool = true;

    #[inline(always)]
    fn write(&self) -> &AtomicUsize {
        &self.writer.0.write
    }

    #[inline(always)]
    fn read(&self) -> &AtomicUsize {
        &self.reader.0.read
    }

    #[inline(always)]
    fn write_state(&self) -> &AtomicU8 {
        &self.writer.0.state
    }

    #[inline(always)]
    fn read_state(&self) -> &AtomicU8 {
        &self.reader.0.state
    }

    #[inline(always)]
    fn splitting(&self) -> &SwapBool {
        &self.writer.0.splitting
    }
}

/// Forwards to the inner layout what every layout has.
macro_rules! forward_parts {
    () => {
        const CACHED: bool = S::CACHED;

        #[inline(always)]
        fn write(&self) -> &AtomicUsize {
            self.inner.write()
        }

        #[inline(always)]
        fn read(&self) -> &AtomicUsize {
            self.inner.read()
        }

        #[inline(always)]
        fn write_state(&self) -> &AtomicU8 {
            self.inner.write_state()
        }

        #[inline(always)]
        fn read_state(&self) -> &AtomicU8 {
            self.inner.read_state()
        }

        #[inline(always)]
        fn splitting(&self) -> &SwapBool {
            self.inner.splitting()
        }
    };
}

/// Keeps a high-water mark: the most bytes that were ever in the ring at once. The mark is never too low; it
/// may include bytes that the consumer reads during the write that raises the mark.
///
/// Costs a load of the read index at each write; on machines with caches, that may come from another core.
#[derive(Debug)]
pub struct HighWater<L = Packed>(core::marker::PhantomData<L>);

pub struct HighWaterShared<S> {
    inner: S,
    mark: AtomicUsize,
}

impl<L: SealedLayout> SealedLayout for HighWater<L> {
    fresh!(
        HighWaterShared<L::Shared>,
        HighWaterShared { inner: L::NEW, mark: AtomicUsize::new(0) },
        HighWaterShared { inner: L::fresh(), mark: AtomicUsize::new(0) }
    );
}

impl<S: Shared> Shared for HighWaterShared<S> {
    forward_parts!();

    #[inline(always)]
    fn high_water(&self) -> Option<&AtomicUsize> {
        Some(&self.mark)
    }

    #[cfg(feature = "async")]
    #[inline(always)]
    fn waiters(&self) -> Option<&Waiters> {
        self.inner.waiters()
    }
}

/// Wakes the task that waits at the other end, once there are as many bytes, or as many free ones, as it
/// waits for.
///
/// Costs a fence and a load at each write and read. Registering and waking swap a byte twice, without a loop
/// or a lock, so tasks of any priority may wait, those that interrupt the other end included; targets without
/// compare-and-swap need the feature `critical-section` (or `portable-atomic`) for that.
///
/// ```
/// use overspill_core::ring::{Consumer, Producer, Ring, Waking};
///
/// type Queue = Ring<16, Waking>;
/// static QUEUE: Queue = Ring::new();
///
/// // Two tasks of any executor. `embedded-io-async` has `read` and `write` for both ends, too.
/// async fn sample(mut producer: Producer<'static, Queue>) {
///     for sample in 0..100 {
///         producer.writable(1).await;
///         if producer.push(sample).is_err() {
///             return; // the consumer is closed, and the ring full
///         }
///     }
/// } // dropping the producer ends the stream
///
/// async fn sum(mut consumer: Consumer<'static, Queue>) -> u32 {
///     let mut sum = 0;
///     // Woken once there are four, or the last few: none only at the end of the stream.
///     while consumer.readable(4).await > 0 {
///         while let Some(sample) = consumer.pop() {
///             sum += u32::from(sample);
///         }
///     }
///     sum
/// }
///
/// let (producer, consumer) = QUEUE.try_split().expect("the first split");
/// # use std::task::{Context, Poll, Waker};
/// # fn both(one: impl Future<Output = ()>, two: impl Future<Output = u32>) -> u32 {
/// #     let (mut one, mut two) = (std::pin::pin!(one), std::pin::pin!(two));
/// #     let mut context = Context::from_waker(Waker::noop());
/// #     let mut is_done = false;
/// #     loop {
/// #         is_done = is_done || one.as_mut().poll(&mut context).is_ready();
/// #         if let Poll::Ready(sum) = two.as_mut().poll(&mut context) {
/// #             return sum;
/// #         }
/// #     }
/// # }
/// # let sum =
/// both(sample(producer), sum(consumer)); // spawn them
/// # assert_eq!(sum, 4950);
/// ```
///
/// # Waiting
///
/// If one end waits for `n` bytes and the other for `m` free ones at the same time, `n + m` must be at most
/// one more than the capacity. Otherwise there is a fill at which both wait for ever: in a ring of 8 bytes
/// that holds 4, a consumer that waits for 5 and a producer that waits for 5. A producer that waits for bytes
/// in one piece, by `contiguous`, may wait until the whole ring is free, however few bytes it requests: then
/// the consumer must not wait for more than one byte.
///
/// An interrupt handler may poll, if the executor's waker may be used there. At whatever point a poll
/// interrupts the other end, it does not wake its own task: it is pending, and the interrupted end wakes the
/// task when it continues.
#[cfg(feature = "async")]
#[derive(Debug)]
pub struct Waking<L = Packed>(core::marker::PhantomData<L>);

#[cfg(feature = "async")]
pub struct WakingShared<S> {
    inner: S,
    waiters: Waiters,
}

#[cfg(feature = "async")]
impl<L: SealedLayout> SealedLayout for Waking<L> {
    fresh!(
        WakingShared<L::Shared>,
        WakingShared { inner: L::NEW, waiters: Waiters::new() },
        WakingShared { inner: L::fresh(), waiters: Waiters::new() }
    );
}

#[cfg(feature = "async")]
impl<S: Shared> Shared for WakingShared<S> {
    forward_parts!();

    #[inline(always)]
    fn high_water(&self) -> Option<&AtomicUsize> {
        self.inner.high_water()
    }

    #[inline(always)]
    fn waiters(&self) -> Option<&Waiters> {
        Some(&self.waiters)
    }
}

/// A layout that keeps a high-water mark.
pub trait KeepsHighWater: Layout {}
impl<L: Layout> KeepsHighWater for HighWater<L> {}
#[cfg(feature = "async")]
impl<L: KeepsHighWater> KeepsHighWater for Waking<L> {}

/// A layout that wakes waiting tasks.
#[cfg(feature = "async")]
pub trait Wakes: Layout {}
#[cfg(feature = "async")]
impl<L: Layout> Wakes for Waking<L> {}
#[cfg(feature = "async")]
impl<L: Wakes> Wakes for HighWater<L> {}
