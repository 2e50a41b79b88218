//! What the two ends share beside the bytes, and how it lies in memory.
//!
//! | layout | bytes on a 32-bit machine | for |
//! |---|---|---|
//! | [`Packed`] | 12 | microcontrollers (the default) |
//! | [`Padded`] | two cache lines | threads on machines with caches |
//! | [`HighWater`] | 4 more | knowing how close to full it came |
//! | `Waking` (feature `async`) | 32 more | wake-ups |
//!
//! They nest: `HighWater<Waking<Padded>>`.

#[cfg(feature = "async")]
use super::wake::Waiters;
use crate::sync::{AtomicBool, AtomicUsize, Ordering::Relaxed, const_fn, spin_loop};

/// How the indices of a ring lie in memory, and what else they do: a choice made by type, free when running.
pub trait Layout: sealed::Layout {}

impl<L: sealed::Layout> Layout for L {}

pub(super) use sealed::Shared;

pub(super) mod sealed {
    use super::{AtomicBool, AtomicUsize};

    pub trait Layout {
        type Shared: Shared;
        #[cfg(not(overspill_loom))]
        const NEW: Self::Shared;
        #[cfg(overspill_loom)]
        fn fresh() -> Self::Shared;
    }

    /// The parts that both ends know. Who stores which: the proofs at the top of `raw.rs`.
    pub trait Shared: Send + Sync {
        /// Whether the ends keep copies of the indices, because fetching them from another core is dear.
        const CACHED: bool;

        /// Index of the next byte to be written. Stored by the write end.
        fn write(&self) -> &AtomicUsize;
        /// Index of the next byte to be read. Stored by the read end.
        fn read(&self) -> &AtomicUsize;
        /// Nothing more will be written. Stored by the write end.
        fn write_closed(&self) -> &AtomicBool;
        /// Nothing more will be read. Stored by the read end.
        fn read_closed(&self) -> &AtomicBool;
        /// Both ends are out, by way of the flag.
        fn taken(&self) -> &AtomicBool;

        /// The largest fill so far, if it is kept. Stored by the write end.
        #[inline(always)]
        fn high_water(&self) -> Option<&AtomicUsize> {
            None
        }

        #[cfg(feature = "async")]
        #[inline(always)]
        fn waiters(&self) -> Option<&super::Waiters> {
            None
        }

        /// Keeps the high-water mark, where there is one.
        #[inline(always)]
        fn note_fill(&self, fill: impl Fn() -> usize) {
            if let Some(mark) = self.high_water() {
                let fill = fill();
                // Relaxed: one end writes it, and nothing depends on it.
                if fill > mark.load(super::Relaxed) {
                    mark.store(fill, super::Relaxed);
                }
            }
        }

        /// Wakes the reader if it waits for no more than `filled` bytes.
        #[inline(always)]
        fn wake_reader(&self, filled: impl Fn() -> usize) {
            #[cfg(feature = "async")]
            if let Some(waiters) = self.waiters() {
                waiters.reader.notify(filled);
            }
            #[cfg(not(feature = "async"))]
            let _ = filled;
        }

        /// Wakes the writer if it waits for no more than `free` bytes.
        #[inline(always)]
        fn wake_writer(&self, free: impl Fn() -> usize) {
            #[cfg(feature = "async")]
            if let Some(waiters) = self.waiters() {
                waiters.writer.notify(free);
            }
            #[cfg(not(feature = "async"))]
            let _ = free;
        }
    }
}

/// Declares how a layout comes into being: by constant, or for loom by call.
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

/// Everything side by side: 12 bytes on a 32-bit machine. For one core, or when memory is dear.
#[derive(Debug)]
pub struct Packed;

pub struct PackedShared {
    write: AtomicUsize,
    read: AtomicUsize,
    write_closed: AtomicBool,
    read_closed: AtomicBool,
    taken: AtomicBool,
}

impl PackedShared {
    const_fn! {
        fn new() -> Self {
            PackedShared {
                write: AtomicUsize::new(0),
                read: AtomicUsize::new(0),
                write_closed: AtomicBool::new(false),
                read_closed: AtomicBool::new(false),
                taken: AtomicBool::new(false),
            }
        }
    }
}

impl sealed::Layout for Packed {
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
    fn write_closed(&self) -> &AtomicBool {
        &self.write_closed
    }

    #[inline(always)]
    fn read_closed(&self) -> &AtomicBool {
        &self.read_closed
    }

    #[inline(always)]
    fn taken(&self) -> &AtomicBool {
        &self.taken
    }
}

/// What either end writes on cache lines of its own, so that neither takes the other's line away by writing.
/// For threads on machines with caches; costs two lines and their alignment.
///
/// The ends cache the indices. A read of up to 4 KiB that has caught up with the writer pauses, once, before it looks for
/// more: 24 turns of a spin loop, about half a microsecond. A look takes the other core's cache line away, so that who
/// looks at once gets the bytes one by one, and slowly. A longer read looks at once, and pauses before it looks again; it
/// gives back what it has read every 8 KiB, so that a writer that waits for room need not wait for all of it.
#[derive(Debug)]
pub struct Padded;

/// Turns of a spin loop: half a microsecond on an AMD EPYC. loom need not be told so often.
const TURNS: usize = if cfg!(overspill_loom) { 1 } else { 24 };

/// The longest read that pauses before its first look: a longer copy takes longer than the pause, which then only costs.
pub(super) const PAUSED_MAX: usize = 4096;

/// The most bytes that a read gives back at once: a writer that waits for room goes on while the rest is copied. Measured,
/// that brings a third more where the items are as large as the ring, and one in a hundred where they are a quarter of it.
/// Smaller pieces bring no more; and a write hands over all at once, since a reader that follows too closely takes
/// the writer's cache lines away.
pub(super) const GIVEN_BACK_MAX: usize = if cfg!(overspill_loom) { 1 } else { 8192 };

/// Lets the other core write more before this one takes its cache line away by looking. Measured between two cores, it
/// brings up to four times as many single bytes per second, a tenth more in items of [`PAUSED_MAX`], and one in a hundred
/// in items four times as long.
#[inline(always)]
pub(super) fn pause() {
    for _ in 0..TURNS {
        spin_loop();
    }
}

/// 128 bytes: x86-64 fetches lines of 64 in pairs, and some aarch64 machines have lines of 128.
#[repr(align(128))]
struct Line<T>(T);

struct WriterLine {
    write: AtomicUsize,
    closed: AtomicBool,
    taken: AtomicBool,
}

struct ReaderLine {
    read: AtomicUsize,
    closed: AtomicBool,
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
                    closed: AtomicBool::new(false),
                    taken: AtomicBool::new(false),
                }),
                reader: Line(ReaderLine { read: AtomicUsize::new(0), closed: AtomicBool::new(false) }),
            }
        }
    }
}

impl sealed::Layout for Padded {
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
    fn write_closed(&self) -> &AtomicBool {
        &self.writer.0.closed
    }

    #[inline(always)]
    fn read_closed(&self) -> &AtomicBool {
        &self.reader.0.closed
    }

    #[inline(always)]
    fn taken(&self) -> &AtomicBool {
        &self.writer.0.taken
    }
}

/// Forwards the parts that every layout has to an inner one.
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
        fn write_closed(&self) -> &AtomicBool {
            self.inner.write_closed()
        }

        #[inline(always)]
        fn read_closed(&self) -> &AtomicBool {
            self.inner.read_closed()
        }

        #[inline(always)]
        fn taken(&self) -> &AtomicBool {
            self.inner.taken()
        }
    };
}

/// Keeps the high-water mark: the most bytes that were ever in the ring at once.
///
/// Costs a load of the read index at each write, which on machines with caches may have to be fetched from
/// another core.
#[derive(Debug)]
pub struct HighWater<L = Packed>(core::marker::PhantomData<L>);

pub struct HighWaterShared<S> {
    inner: S,
    mark: AtomicUsize,
}

impl<L: sealed::Layout> sealed::Layout for HighWater<L> {
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

/// Wakes whoever waits at the other end, once there are as many bytes as it waits for.
///
/// Costs a fence and a load at each write and read. Registering and waking swap a byte; targets
/// without compare-and-swap need the feature `critical-section` (or `portable-atomic`) for that.
#[cfg(feature = "async")]
#[derive(Debug)]
pub struct Waking<L = Packed>(core::marker::PhantomData<L>);

#[cfg(feature = "async")]
pub struct WakingShared<S> {
    inner: S,
    waiters: Waiters,
}

#[cfg(feature = "async")]
impl<L: sealed::Layout> sealed::Layout for Waking<L> {
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

/// Layouts that keep a high-water mark.
pub trait KeepsHighWater: Layout {}
impl<L: Layout> KeepsHighWater for HighWater<L> {}
#[cfg(feature = "async")]
impl<L: KeepsHighWater> KeepsHighWater for Waking<L> {}

/// Layouts that wake.
#[cfg(feature = "async")]
pub trait Wakes: Layout {}
#[cfg(feature = "async")]
impl<L: Layout> Wakes for Waking<L> {}
#[cfg(feature = "async")]
impl<L: Wakes> Wakes for HighWater<L> {}
