//! What both ends of a ring share beside its bytes, whatever its layout.

#[cfg(feature = "async")]
use super::wake::Waiters;
use crate::sync::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// How a layout comes into being.
pub trait SealedLayout {
    type Shared: Shared;
    #[cfg(not(overspill_loom))]
    const NEW: Self::Shared;
    #[cfg(overspill_loom)]
    fn fresh() -> Self::Shared;
}

/// The parts that both ends know. Who stores which: the proofs at the top of `raw/mod.rs`.
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
    fn waiters(&self) -> Option<&Waiters> {
        None
    }

    /// Keeps the high-water mark, where there is one.
    #[inline(always)]
    fn note_fill(&self, fill: impl Fn() -> usize) {
        if let Some(mark) = self.high_water() {
            let fill = fill();
            // Relaxed: one end writes it, and nothing depends on it.
            if fill > mark.load(Relaxed) {
                mark.store(fill, Relaxed);
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
