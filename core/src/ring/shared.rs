//! What both ends of a ring share besides its bytes, in any layout.
//!
//! Held by: `core/tests/loom_ring.rs`.

#[cfg(feature = "async")]
use super::wake::Waiters;
use crate::sync::Ordering::{Relaxed, Release};
use crate::sync::{AtomicU8, AtomicUsize, SwapBool};

/// The state of an end that accesses nothing of the ring any more. A ring is whole while both are gone, as at
/// first: of zeros, so that a static ring takes no room in the program's image.
pub(crate) const GONE: u8 = 0;
/// The state of an end that is in use.
pub(crate) const OPEN: u8 = 1;
/// The state of an end that moves nothing more, but may still wake the other.
const CLOSED: u8 = 2;

/// Closes an end and tells the other, by `wake`. The end is gone after this, even if a waker panics.
fn leave(state: &AtomicU8, wake: impl FnOnce()) {
    struct Leaving<'s>(&'s AtomicU8);
    impl Drop for Leaving<'_> {
        fn drop(&mut self) {
            // Release: what the end did has happened before the ring is split again.
            self.0.store(GONE, Release);
        }
    }
    let leaving = Leaving(state);
    // Release: an end that sees this sees all that was written or read before.
    leaving.0.store(CLOSED, Release);
    wake();
}

/// Opens a shared ring if it is whole, one caller at a time: `splitting` is set meanwhile. Another caller
/// does not wait, but gets `None`.
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
pub(crate) fn open_once<T>(
    splitting: &SwapBool,
    is_whole: impl Fn() -> bool,
    open: impl FnOnce() -> T,
) -> Option<T> {
    use crate::sync::Ordering::Acquire;
    // A ring that is split is never locked, so a caller that finds it so keeps no other from splitting it
    // later.
    if !is_whole() {
        return None;
    }
    // Acquire, with the Release below: if another caller has opened it, this one sees that it is not whole.
    splitting.compare_exchange(false, true, Acquire, Relaxed).ok()?;
    let ends = is_whole().then(open);
    splitting.store(false, Release);
    ends
}

/// How the shared part of a ring is constructed: by constant, or for loom by call. Not
/// nameable outside this crate.
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
    /// What the write end has come to. Stored by the write end, and as the ring is split.
    fn write_state(&self) -> &AtomicU8;
    /// What the read end has come to. Stored by the read end, and as the ring is split.
    fn read_state(&self) -> &AtomicU8;
    /// Whether a call of `try_split` is looking whether the ring is whole.
    fn splitting(&self) -> &SwapBool;

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

    /// Closes the write end: the reader sees it, and is woken if it waits.
    fn leave_writing(&self) {
        leave(self.write_state(), || {
            #[cfg(feature = "async")]
            if let Some(waiters) = self.waiters() {
                waiters.writer.leave(&waiters.reader);
            }
        });
    }

    /// Closes the read end: the writer sees it, and is woken if it waits.
    fn leave_reading(&self) {
        leave(self.read_state(), || {
            #[cfg(feature = "async")]
            if let Some(waiters) = self.waiters() {
                waiters.reader.leave(&waiters.writer);
            }
        });
    }
}
