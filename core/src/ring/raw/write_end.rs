//! The end of a ring that writes: it owns the free bytes (R4).
//!
//! Held by: `core/tests/loom_ring.rs`, `core/tests/ring_threads.rs`, `tests/tests/ring_model.rs`.

use core::slice;

use crate::ring::any_ring::{AnyRing, Token};
use crate::ring::index::{Indices, cold_path};
use crate::ring::shared::{OPEN, Shared as _};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::Watch;

/// The write end of a ring. It owns the free bytes that it has seen.
///
/// In a layout for several cores it caches the indices, since another core's cache line is slow to fetch. On
/// one core a cache would only cost: nothing is cached ([`CACHED`](crate::ring::shared::Shared::CACHED)).
pub(crate) struct WriteEnd<'a, R: AnyRing> {
    ring: &'a R,
    /// If cached: the write index, that of the next byte to write.
    write: usize,
    /// If cached: the read index when it was last loaded. All bytes up to one capacity ahead of it may be
    /// written without another load (R4).
    seen: usize,
}

impl<'a, R: AnyRing> WriteEnd<'a, R> {
    /// For [`ends`](super::ends) only, which holds R1.
    #[inline(always)]
    pub(super) fn new(ring: &'a R, write: usize, seen: usize) -> Self {
        WriteEnd { ring, write, seen }
    }

    #[inline(always)]
    pub(crate) fn ring(&self) -> &'a R {
        self.ring
    }

    #[inline(always)]
    fn indices(&self) -> Indices {
        self.ring.bytes().indices()
    }

    /// The index of the next byte to write. Relaxed: this end stored it (R2).
    #[inline(always)]
    fn write_index(&self) -> usize {
        if R::Shared::CACHED { self.write } else { self.ring.shared(Token).write().load(Relaxed) }
    }

    /// Loads the read index. Acquire: the bytes before it have been read (R4).
    #[inline(always)]
    fn load_read(&self) -> usize {
        self.ring.shared(Token).read().load(Acquire)
    }

    /// The index of the next byte to write, and the number of free bytes. If indices are cached, the read
    /// index is loaded only if fewer than `want` bytes are known to be free.
    #[inline(always)]
    fn refresh(&mut self, want: usize) -> (usize, usize) {
        let (write, room) = self.known_free();
        if !R::Shared::CACHED || room >= want {
            return (write, room);
        }
        let used;
        (self.seen, used) = self.indices().follow_jump(self.load_read(), write);
        (write, self.indices().capacity() - used)
    }

    /// The index of the next byte to write, and the number of bytes that are known to be free. If indices are
    /// cached, the read index is not loaded.
    #[inline(always)]
    fn known_free(&self) -> (usize, usize) {
        let (indices, write) = (self.indices(), self.write_index());
        let used = if R::Shared::CACHED {
            indices.distance(self.seen, write)
        } else {
            indices.follow_jump(self.load_read(), write).1
        };
        (write, indices.capacity() - used)
    }

    /// The number of free bytes. It may be out of date, on the low side, if it is `want` or more.
    #[inline(always)]
    pub(crate) fn free_bytes(&mut self, want: usize) -> usize {
        self.refresh(want).1
    }

    /// The number of bytes in the ring now. Relaxed: no byte is accessed on the strength of it.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.indices().follow_jump(self.ring.shared(Token).read().load(Relaxed), self.write_index()).1
    }

    /// Writes one byte, if there is room.
    #[inline(always)]
    pub(crate) fn write_byte(&mut self, byte: u8) -> bool {
        let (indices, write) = (self.indices(), self.write_index());
        let read = if R::Shared::CACHED { self.seen } else { self.load_read() };
        // One comparison in the common case. A full ring and one whose write index has jumped
        // are told apart within.
        if indices.distance(read, write) >= indices.capacity() {
            cold_path();
            let (read, used) =
                indices.follow_jump(if R::Shared::CACHED { self.load_read() } else { read }, write);
            self.seen = read;
            if used == indices.capacity() {
                return false;
            }
        }
        // SAFETY: the byte at `write` is free, so this end owns it (R4); its place is below the capacity.
        unsafe { self.ring.bytes().write(indices.place(write), byte) };
        self.publish(write, 1);
        true
    }

    /// Writes as much of `from` as fits, and returns how much.
    #[inline(always)]
    pub(crate) fn write(&mut self, from: &[u8]) -> usize {
        let (write, room) = self.refresh(from.len());
        let count = from.len().min(room);
        let Some(from) = from.get(..count) else { return 0 };
        if count > 0 {
            // SAFETY: `count` bytes from `write` on are free, so this end owns them (R4); the place is below
            // the capacity, which is not 0 since bytes are free.
            unsafe { self.ring.bytes().copy_in(self.indices().place(write), from) };
            self.publish(write, count);
        }
        count
    }

    /// Copies `from` to the free bytes, `offset` bytes after the first one, and publishes nothing. Returns
    /// false, and copies nothing, unless all of it lies within the bytes known to be free.
    #[inline(always)]
    pub(crate) fn write_at(&mut self, offset: usize, from: &[u8]) -> bool {
        let (write, known) = self.known_free();
        if offset > known || from.len() > known - offset {
            return false;
        }
        let bytes = self.ring.bytes();
        let place = bytes.indices().place(bytes.indices().advance(write, offset));
        // SAFETY: `offset + from.len()` bytes from `write` on are free, so this end owns them (R4); `place`
        // is below the capacity, or `from` is empty.
        unsafe { bytes.copy_in(place, from) };
        true
    }

    /// The first `len` bytes of those known to be free, in two pieces: before the wrap and after it.
    #[inline]
    pub(crate) fn free_slices(&mut self, len: usize) -> (&mut [u8], &mut [u8]) {
        let bytes = self.ring.bytes();
        let (index, known) = self.known_free();
        let len = len.min(known);
        let [first, second] = bytes.pieces(bytes.indices().place(index), len, Watch::writes);
        // SAFETY: within the memory (`pieces`), initialised (R7), and owned by this end (R4), which stays
        // borrowed as long as the slice.
        let first = unsafe { slice::from_raw_parts_mut(first.0, first.1) };
        // SAFETY: as above; `len` is at most the capacity, so the pieces do not overlap.
        let second = unsafe { slice::from_raw_parts_mut(second.0, second.1) };
        (first, second)
    }

    /// How many of the bytes known to be free lie before the end of the memory.
    #[inline]
    pub(crate) fn free_before_wrap(&self) -> usize {
        let (write, known) = self.known_free();
        self.indices().before_wrap(self.indices().place(write), known)
    }

    /// How many bytes must be free for `count` of them, at most the capacity, to be granted in one piece: all
    /// bytes, if `count` do not fit between the write index and the end of the memory.
    #[cfg(feature = "async")]
    pub(crate) fn free_for_contiguous(&self, count: usize) -> usize {
        let indices = self.indices();
        let place = indices.place(self.write_index());
        if indices.before_wrap(place, count) < count { indices.capacity() } else { count }
    }

    /// If the ring is empty, moves the write index to the first byte of the memory: all bytes
    /// are contiguous then.
    pub(crate) fn jump_if_empty(&mut self) {
        let indices = self.indices();
        let (write, room) = self.refresh(indices.capacity());
        if room == indices.capacity() && indices.place(write) != 0 {
            let write = indices.jump(write);
            (self.write, self.seen) = (write, write);
            // Relaxed: no byte is handed over (R6).
            self.ring.shared(Token).write().store(write, Relaxed);
        }
    }

    /// Hands the first `count` bytes of those known to be free to the read end, at most all of
    /// them. Returns how many.
    #[inline(always)]
    pub(crate) fn commit(&mut self, count: usize) -> usize {
        let (index, known) = self.known_free();
        let count = count.min(known);
        if count > 0 {
            self.publish(index, count);
        }
        count
    }

    /// Moves the write index from `write`, its value, on by `count`, at most what is [known to be
    /// free](Self::known_free) (R3).
    #[inline(always)]
    fn publish(&mut self, write: usize, count: usize) {
        let (shared, indices) = (self.ring.shared(Token), self.indices());
        let write = indices.advance(write, count);
        if R::Shared::CACHED {
            self.write = write;
        }
        let used = || indices.follow_jump(shared.read().load(Relaxed), write).1;
        shared.note_fill(used);
        // Release: the bytes are written before the read end sees that they are there (R5).
        shared.write().store(write, Release);
        shared.wake_reader(used);
    }

    /// Whether the read end is closed.
    #[inline]
    pub(crate) fn other_closed(&self) -> bool {
        self.ring.shared(Token).read_state().load(Acquire) != OPEN
    }
}

impl<R: AnyRing> Drop for WriteEnd<'_, R> {
    fn drop(&mut self) {
        self.ring.shared(Token).leave_writing();
    }
}
