//! The end of a ring that reads: it owns the bytes in the ring (R5).
//!
//! Held by: `core/tests/loom_ring.rs`, `core/tests/ring_threads.rs`, `tests/tests/ring_model.rs`.

use core::slice;

use crate::ring::any_ring::{AnyRing, Token};
use crate::ring::index::{Indices, cold_path};
use crate::ring::shared::{OPEN, Shared as _};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{Watch, spin_loop};

/// Iterations of the spin loop in [`pause`]: half a microsecond on an AMD EPYC. For loom one is as good as
/// many.
const PAUSE_SPINS: usize = if cfg!(overspill_loom) { 1 } else { 24 };

/// Length in bytes of the longest read that pauses. A longer copy takes longer than the pause,
/// which would only cost.
const PAUSED_MAX: usize = 4096;

/// The most bytes that a read releases at once, so that a writer that waits for room continues while the rest
/// is copied. Measured, this brings a third more throughput if items are as large as the ring, and a
/// hundredth if they are a quarter of it; smaller pieces bring no more. A write publishes all its bytes at
/// once: a reader that follows too closely takes the writer's cache lines away.
const RELEASED_MAX: usize = if cfg!(overspill_loom) { 1 } else { 8192 };

/// Waits a moment before the write index is loaded, which takes its cache line away from the writer's core:
/// the writer gets further meanwhile. Measured between two cores, this brings up to four times as many single
/// bytes per second, and a tenth more in items of [`PAUSED_MAX`].
#[inline(always)]
fn pause() {
    for _ in 0..PAUSE_SPINS {
        spin_loop();
    }
}

/// The read end of a ring. It owns the written bytes that it has seen. It caches indices in the same layouts
/// as the [`WriteEnd`](super::write_end::WriteEnd).
pub(crate) struct ReadEnd<'a, R: AnyRing> {
    ring: &'a R,
    /// If cached: the read index, that of the next byte to read.
    read: usize,
    /// If cached: the write index when it was last loaded. All bytes before it may be read
    /// without another load (R5).
    seen: usize,
    /// If cached: the read index at the last [`pause`](Self::pause); there is one pause for each.
    paused: usize,
}

impl<'a, R: AnyRing> ReadEnd<'a, R> {
    /// For [`ends`](super::ends) only, which holds R1.
    #[inline(always)]
    pub(super) fn new(ring: &'a R, read: usize) -> Self {
        ReadEnd { ring, read, seen: read, paused: usize::MAX }
    }

    #[inline(always)]
    pub(crate) fn ring(&self) -> &'a R {
        self.ring
    }

    #[inline(always)]
    fn indices(&self) -> Indices {
        self.ring.bytes().indices()
    }

    /// The index of the next byte to read. Relaxed: this end stored it (R2).
    #[inline(always)]
    fn read_index(&self) -> usize {
        if R::Shared::CACHED { self.read } else { self.ring.shared(Token).read().load(Relaxed) }
    }

    /// Loads the write index. Acquire: the bytes before it have been written (R5).
    #[inline(always)]
    fn load_write(&self) -> usize {
        self.ring.shared(Token).write().load(Acquire)
    }

    /// The index of the next byte to read, and the number of bytes to be read. If indices are cached, the
    /// write index is loaded only if fewer than `want` bytes are known to be there.
    #[inline(always)]
    fn refresh(&mut self, want: usize) -> (usize, usize) {
        let (read, available) = self.known_filled();
        if !R::Shared::CACHED || available >= want {
            return (read, available);
        }
        self.seen = self.load_write();
        let (read, available) = self.indices().follow_jump(read, self.seen);
        self.read = read;
        (read, available)
    }

    /// The index of the next byte to read, and the number of bytes that are known to be there. If indices are
    /// cached, the write index is not loaded.
    #[inline(always)]
    fn known_filled(&self) -> (usize, usize) {
        let (indices, read) = (self.indices(), self.read_index());
        if R::Shared::CACHED {
            (read, indices.distance(read, self.seen))
        } else {
            indices.follow_jump(read, self.load_write())
        }
    }

    /// The number of bytes to be read. It may be out of date, on the low side, if it is `want` or more.
    #[inline(always)]
    pub(crate) fn filled_bytes(&mut self, want: usize) -> usize {
        self.refresh(want).1
    }

    /// The number of bytes in the ring now. Relaxed: no byte is accessed on the strength of it.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.indices().follow_jump(self.read_index(), self.ring.shared(Token).write().load(Relaxed)).1
    }

    /// The next byte, if there is one. `take` removes it from the ring.
    #[inline(always)]
    pub(crate) fn read_byte(&mut self, take: bool) -> Option<u8> {
        let (indices, mut read) = (self.indices(), self.read_index());
        let mut write = if R::Shared::CACHED { self.seen } else { self.load_write() };
        // One comparison in the common case. An empty ring (-1 here) and a jump are told apart within.
        if indices.distance(read, write).wrapping_sub(1) >= indices.capacity() {
            cold_path();
            if R::Shared::CACHED {
                self.pause(1);
                write = self.load_write();
                self.seen = write;
            }
            let available;
            (read, available) = indices.follow_jump(read, write);
            self.read = read;
            if available == 0 {
                return None;
            }
        }
        // SAFETY: there is a byte at `read`, before the write index, so this end owns it (R5); its place
        // is below the capacity.
        let byte = unsafe { self.ring.bytes().read(indices.place(read)) };
        if take {
            self.publish(read, 1);
        }
        Some(byte)
    }

    /// [Pauses](pause) before a short read that has to load the write index: once for each read index, so a
    /// consumer that polls an empty ring is not slowed down.
    #[inline(always)]
    fn pause(&mut self, want: usize) {
        if want <= PAUSED_MAX && core::mem::replace(&mut self.paused, self.read) != self.read {
            pause();
        }
    }

    /// Fills as much of `to` as there are bytes for, and returns how much. `take` removes them from the ring.
    #[inline(always)]
    pub(crate) fn read(&mut self, to: &mut [u8], take: bool) -> usize {
        if R::Shared::CACHED && self.known_filled().1 == 0 {
            self.pause(to.len());
        }
        let (mut read, available) = self.refresh(to.len());
        let count = to.len().min(available);
        let Some(to) = to.get_mut(..count) else { return 0 };
        // Between cores, bytes are released piece by piece: the writer may be waiting for them.
        for piece in to.chunks_mut(if R::Shared::CACHED && take { RELEASED_MAX } else { usize::MAX }) {
            // SAFETY: `piece` is for bytes among the `count` that are there, before the write index, so this
            // end owns them (R5); the place is below the capacity, which is not 0 since there are bytes.
            unsafe { self.ring.bytes().copy_out(self.indices().place(read), piece) };
            if take {
                self.publish(read, piece.len());
            }
            read = self.indices().advance(read, piece.len());
        }
        count
    }

    /// Fills `to` with bytes of the ring, from `offset` bytes after the first one, and removes nothing.
    /// Returns false, and copies nothing, unless all of them are known to be there.
    #[inline(always)]
    pub(crate) fn read_at(&mut self, offset: usize, to: &mut [u8]) -> bool {
        let (read, known) = self.known_filled();
        if offset > known || to.len() > known - offset {
            return false;
        }
        let bytes = self.ring.bytes();
        let place = bytes.indices().place(bytes.indices().advance(read, offset));
        // SAFETY: `offset + to.len()` bytes from `read` on are before the write index, so this end owns them
        // (R5); `place` is below the capacity, or `to` is empty.
        unsafe { bytes.copy_out(place, to) };
        true
    }

    /// The first `len` bytes of those known to be there, in two pieces: before the wrap and after it.
    #[inline]
    pub(crate) fn filled_slices(&self, len: usize) -> (&[u8], &[u8]) {
        let bytes = self.ring.bytes();
        let (index, known) = self.known_filled();
        let len = len.min(known);
        let [first, second] = bytes.pieces(bytes.indices().place(index), len, Watch::reads);
        // SAFETY: within the memory (`pieces`), initialised (R7), and owned by this end (R5), which releases
        // nothing while it is borrowed.
        let first = unsafe { slice::from_raw_parts(first.0, first.1) };
        // SAFETY: as above.
        let second = unsafe { slice::from_raw_parts(second.0, second.1) };
        (first, second)
    }

    /// Releases the first `count` bytes of those known to be there to the write end, at most all of
    /// them. Returns how many.
    #[inline(always)]
    pub(crate) fn release(&mut self, count: usize) -> usize {
        let (index, known) = self.known_filled();
        let count = count.min(known);
        if count > 0 {
            self.publish(index, count);
        }
        count
    }

    /// Moves the read index from `read`, its value, on by `count`, at most what is [known to be
    /// there](Self::known_filled) (R3).
    #[inline(always)]
    fn publish(&mut self, read: usize, count: usize) {
        let (shared, indices) = (self.ring.shared(Token), self.indices());
        let read = indices.advance(read, count);
        if R::Shared::CACHED {
            self.read = read;
        }
        // Release: the bytes are read before the write end may overwrite them (R4).
        shared.read().store(read, Release);
        shared.wake_writer(|| indices.capacity() - indices.follow_jump(read, shared.write().load(Relaxed)).1);
    }

    /// Whether the write end is closed. If so, the next load of the write index sees all that it wrote.
    #[inline]
    pub(crate) fn other_closed(&self) -> bool {
        self.ring.shared(Token).write_state().load(Acquire) != OPEN
    }
}

impl<R: AnyRing> Drop for ReadEnd<'_, R> {
    fn drop(&mut self) {
        self.ring.shared(Token).leave_reading();
    }
}
