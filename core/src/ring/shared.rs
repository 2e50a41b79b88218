//! What both ends of a ring share besides its bytes, in any layout.
//!
//! Held by: `core/tests/loom_ring.rs`.

#[cfg(feature = "async")]
use super::wake::Waiters;
use crate::sync::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// How the shared part of a ring is constructed: by constant, or for loom by call. Not nameable outside this crate.
pub trait SealedLayout {
    type Shared: Shared;
    #[cfg(not(overspill_loom))]
    const NEW: Self::Shared;
    #[cfg(overspill_loom)]
    fn fresh() -> Self::Shared;
}

/// The indices and flags of a ring. `raw/mod.rs` says what the stores and loads of each mean.
pub trait Shared: Send + Sync {
    /// Whether the ends cache the indices, because loading them from another core's cache is slow.
    const CACHED: bool;

    /// The index of the next byte to be written. Stored by the write end.
    fn write(&self) -> &AtomicUsize;
    /// The index of the next byte to be read. Stored by the read end.
    fn read(&self) -> &AtomicUsize;
    /// Whether nothing more will be written. Stored by the write end.
    fn write_closed(&self) -> &AtomicBool;
    /// Whether nothing more will be read. Stored by the read end.
    fn read_closed(&self) -> &AtomicBool;
    /// Whether the ring is split by `try_split`.
    fn taken(&self) -> &AtomicBool;

    /// The high-water mark in bytes, if the layout has one. Stored by the write end.
    #[inline(always)]
    fn high_water(&self) -> Option<&AtomicUsize> {
        None
    }

    #[cfg(feature = "async")]
    #[inline(always)]
    fn waiters(&self) -> Option<&Waiters> {
        None
    }

    /// Raises the high-water mark, if there is one, to `fill` bytes.
    #[inline(always)]
    fn note_fill(&self, fill: impl Fn() -> usize) {
        if let Some(mark) = self.high_water() {
            let fill = fill();
            // Relaxed: only the write end stores it, and no access depends on it.
            if fill > mark.load(Relaxed) {
                mark.store(fill, Relaxed);
            }
        }
    }

    /// Wakes the reader if it waits for `filled` bytes or fewer.
    #[inline(always)]
    fn wake_reader(&self, filled: impl Fn() -> usize) {
        #[cfg(feature = "async")]
        if let Some(waiters) = self.waiters() {
            waiters.reader.notify(filled);
        }
        #[cfg(not(feature = "async"))]
        let _ = filled;
    }

    /// Wakes the writer if it waits for `free` bytes or fewer.
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
