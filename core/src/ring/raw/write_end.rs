//! The end of a ring that writes.

use core::slice;

use crate::ring::any_ring::{AnyRing, Token};
use crate::ring::index::{Indices, cold_path};
use crate::ring::shared::Shared as _;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::Watch;

/// The producer's end: owns the free bytes that it knows of.
///
/// Between cores it keeps copies of what is shared, so as not to fetch it; on one core, where a load is a load, it
/// keeps only what it must ([`CACHED`](crate::ring::shared::Shared::CACHED)).
pub(crate) struct WriteEnd<'a, R: AnyRing> {
    ring: &'a R,
    /// If cached, the shared write index: of the next byte to write.
    write: usize,
    /// If cached, the read index when last looked at: one capacity from it may be written without another look (R4).
    seen: usize,
}

impl<'a, R: AnyRing> WriteEnd<'a, R> {
    /// For [`ends`](super::ends) only, which sees to R1.
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

    /// Index of the next byte to write. Relaxed: this end stored it (R2).
    #[inline(always)]
    fn write_index(&self) -> usize {
        if R::Shared::CACHED { self.write } else { self.ring.shared(Token).write().load(Relaxed) }
    }

    /// The read index now. Acquire: what is before it is read (R4).
    #[inline(always)]
    fn load_read(&self) -> usize {
        self.ring.shared(Token).read().load(Acquire)
    }

    /// The index of the next byte to write, and how many may be written, at least those that are known of.
    /// Between cores it looks at the other end only if those are fewer than `want`.
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

    /// The index of the next byte to write, and how many are known to be free: between cores without a look at the
    /// other end.
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

    /// How many bytes may be written, by a look at the other end if fewer than `want` are known of.
    #[inline(always)]
    pub(crate) fn free_bytes(&mut self, want: usize) -> usize {
        self.refresh(want).1
    }

    /// Bytes in the ring now, by a fresh look. Relaxed: a count gives no right to any byte.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.indices().follow_jump(self.ring.shared(Token).read().load(Relaxed), self.write_index()).1
    }

    /// Writes one byte, if there is room.
    #[inline(always)]
    pub(crate) fn write_byte(&mut self, byte: u8) -> bool {
        let (indices, write) = (self.indices(), self.write_index());
        let read = if R::Shared::CACHED { self.seen } else { self.load_read() };
        // One comparison where there is room; full, and jumped, are told apart here.
        if indices.distance(read, write) >= indices.capacity() {
            cold_path();
            let (read, used) =
                indices.follow_jump(if R::Shared::CACHED { self.load_read() } else { read }, write);
            self.seen = read;
            if used == indices.capacity() {
                return false;
            }
        }
        // SAFETY: there is room for the byte at `write`, so that this end owns it (R4), and its place
        // is below the capacity.
        unsafe { self.ring.bytes().write(indices.place(write), byte) };
        self.publish(write, 1);
        true
    }

    /// Writes as much of `from` as there is room for, and says how much.
    #[inline(always)]
    pub(crate) fn write(&mut self, from: &[u8]) -> usize {
        let (write, room) = self.refresh(from.len());
        let count = from.len().min(room);
        let Some(from) = from.get(..count) else { return 0 };
        if count > 0 {
            // SAFETY: there is room for `count` bytes from `write` on, so that this end owns them (R4);
            // `place` is below the capacity, since there is any room.
            unsafe { self.ring.bytes().copy_in(self.indices().place(write), from) };
            self.publish(write, count);
        }
        count
    }

    /// Copies `from` to the free bytes that are known of, `offset` ahead; publishes nothing. False, and
    /// nothing done, if they do not all fit there.
    #[inline(always)]
    pub(crate) fn write_at(&mut self, offset: usize, from: &[u8]) -> bool {
        let (write, known) = self.known_free();
        if offset > known || from.len() > known - offset {
            return false;
        }
        let bytes = self.ring.bytes();
        let place = bytes.indices().place(bytes.indices().advance(write, offset));
        // SAFETY: there is room for `offset + from.len()` bytes from `write` on, so that this end owns them (R4);
        // `place` is below the capacity, or `from` is empty.
        unsafe { bytes.copy_in(place, from) };
        true
    }

    /// The first `len` of the free bytes that are known of, in two pieces.
    #[inline]
    pub(crate) fn free_slices(&mut self, len: usize) -> (&mut [u8], &mut [u8]) {
        let bytes = self.ring.bytes();
        let (index, known) = self.known_free();
        let len = len.min(known);
        let [first, second] = bytes.pieces(bytes.indices().place(index), len, Watch::writes);
        // SAFETY: within the memory (`pieces`), initialised (R7), and owned by this end (R4), which is
        // borrowed for as long as the slice.
        let first = unsafe { slice::from_raw_parts_mut(first.0, first.1) };
        // SAFETY: as above; `len` is at most the capacity, so that the pieces do not overlap.
        let second = unsafe { slice::from_raw_parts_mut(second.0, second.1) };
        (first, second)
    }

    /// How many of the free bytes that are known of lie before the end of the memory.
    #[inline]
    pub(crate) fn free_before_wrap(&self) -> usize {
        let (write, known) = self.known_free();
        self.indices().before_wrap(self.indices().place(write), known)
    }

    /// Moves the write index to the first byte of the memory, if the ring is empty: everything is contiguous then.
    pub(crate) fn jump_if_empty(&mut self) {
        let indices = self.indices();
        let (write, room) = self.refresh(indices.capacity());
        if room == indices.capacity() && indices.place(write) != 0 {
            let write = indices.jump(write);
            (self.write, self.seen) = (write, write);
            // Relaxed: it hands over no byte (R6).
            self.ring.shared(Token).write().store(write, Relaxed);
        }
    }

    /// Hands the first `count` of the free bytes that are known of to the other end; at most all of them.
    #[inline(always)]
    pub(crate) fn commit(&mut self, count: usize) -> usize {
        let (index, known) = self.known_free();
        let count = count.min(known);
        if count > 0 {
            self.publish(index, count);
        }
        count
    }

    /// Moves the write index from `write`, where it is, on by `count`, at most what is [`known`](Self::known_free) (R3).
    #[inline(always)]
    fn publish(&mut self, write: usize, count: usize) {
        let (shared, indices) = (self.ring.shared(Token), self.indices());
        let write = indices.advance(write, count);
        if R::Shared::CACHED {
            self.write = write;
        }
        let used = || indices.follow_jump(shared.read().load(Relaxed), write).1;
        shared.note_fill(used);
        // Release: the bytes are written before anybody sees that there are any (R5).
        shared.write().store(write, Release);
        shared.wake_reader(used);
    }

    /// Whether the other end is closed.
    #[inline]
    pub(crate) fn other_closed(&self) -> bool {
        self.ring.shared(Token).read_closed().load(Acquire)
    }
}

impl<R: AnyRing> Drop for WriteEnd<'_, R> {
    fn drop(&mut self) {
        // Release: whoever sees it sees all that was written before.
        self.ring.shared(Token).write_closed().store(true, Release);
        self.ring.shared(Token).wake_reader(|| usize::MAX);
    }
}
