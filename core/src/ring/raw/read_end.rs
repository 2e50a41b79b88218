//! The end of a ring that reads.

use core::slice;

use crate::ring::any_ring::{AnyRing, Token};
use crate::ring::index::{Indices, cold_path};
use crate::ring::shared::Shared as _;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{Watch, spin_loop};

/// Turns of a spin loop: half a microsecond on an AMD EPYC. loom need not be told so often.
const PAUSE_SPINS: usize = if cfg!(overspill_loom) { 1 } else { 24 };

/// The longest read that pauses before its first look: a longer copy takes longer than the pause, which then only costs.
const PAUSED_MAX: usize = 4096;

/// The most bytes that a read gives back at once: a writer that waits for room goes on while the rest is copied. Measured,
/// that brings a third more where the items are as large as the ring, and one in a hundred where they are a quarter of it.
/// Smaller pieces bring no more; and a write hands over all at once, since a reader that follows too closely takes
/// the writer's cache lines away.
const RELEASED_MAX: usize = if cfg!(overspill_loom) { 1 } else { 8192 };

/// Lets the other core write more before this one takes its cache line away by looking. Measured between two cores, it
/// brings up to four times as many single bytes per second, and a tenth more in items of [`PAUSED_MAX`].
#[inline(always)]
fn pause() {
    for _ in 0..PAUSE_SPINS {
        spin_loop();
    }
}

/// The consumer's end: owns the written bytes that it knows of. Caches as [`WriteEnd`](super::write_end::WriteEnd) does.
pub(crate) struct ReadEnd<'a, R: AnyRing> {
    ring: &'a R,
    /// If cached, the shared read index: of the next byte to read.
    read: usize,
    /// If cached, the write index when last looked at: before it bytes may be read without another look (R5).
    seen: usize,
    /// If cached, the read index when a short read last found that all is read: see [`pause`](Self::pause).
    paused: usize,
}

impl<'a, R: AnyRing> ReadEnd<'a, R> {
    /// For [`ends`](super::ends) only, which sees to R1.
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

    /// Index of the next byte to read. Relaxed: this end stored it (R2).
    #[inline(always)]
    fn read_index(&self) -> usize {
        if R::Shared::CACHED { self.read } else { self.ring.shared(Token).read().load(Relaxed) }
    }

    /// The write index now. Acquire: what is before it is written (R5).
    #[inline(always)]
    fn load_write(&self) -> usize {
        self.ring.shared(Token).write().load(Acquire)
    }

    /// The index of the next byte to read, and how many may be read, at least those that are known of.
    /// Between cores it looks at the other end only if those are fewer than `want`.
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

    /// The index of the next byte to read, and how many are known to be there: between cores without a look at the
    /// other end.
    #[inline(always)]
    fn known_filled(&self) -> (usize, usize) {
        let (indices, read) = (self.indices(), self.read_index());
        if R::Shared::CACHED {
            (read, indices.distance(read, self.seen))
        } else {
            indices.follow_jump(read, self.load_write())
        }
    }

    /// How many bytes may be read, by a look at the other end if fewer than `want` are known of.
    #[inline(always)]
    pub(crate) fn filled_bytes(&mut self, want: usize) -> usize {
        self.refresh(want).1
    }

    /// Bytes in the ring now, by a fresh look. Relaxed: a count gives no right to any byte.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.indices().follow_jump(self.read_index(), self.ring.shared(Token).write().load(Relaxed)).1
    }

    /// The next byte, if there is one; takes it out if `take`.
    #[inline(always)]
    pub(crate) fn read_byte(&mut self, take: bool) -> Option<u8> {
        let (indices, mut read) = (self.indices(), self.read_index());
        let mut write = if R::Shared::CACHED { self.seen } else { self.load_write() };
        // One comparison where there are bytes; empty (which is -1 here), and jumped, are told apart here.
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
        // SAFETY: a byte is available, so `read` is before `seen`: this end owns it (R5), and its place is below
        // the capacity.
        let byte = unsafe { self.ring.bytes().read(indices.place(read)) };
        if take {
            self.publish(read, 1);
        }
        Some(byte)
    }

    /// [Pauses](pause) before the first look of a short read, once all that was known of is read.
    #[inline(always)]
    fn pause(&mut self, want: usize) {
        if want <= PAUSED_MAX && core::mem::replace(&mut self.paused, self.read) != self.read {
            pause();
        }
    }

    /// Fills as much of `to` as there are bytes for, and says how much; takes them out if `take`.
    #[inline(always)]
    pub(crate) fn read(&mut self, to: &mut [u8], take: bool) -> usize {
        if R::Shared::CACHED && self.known_filled().1 == 0 {
            self.pause(to.len());
        }
        let (mut read, available) = self.refresh(to.len());
        let count = to.len().min(available);
        let Some(to) = to.get_mut(..count) else { return 0 };
        // What is read is given back soon, between cores: the other end may be waiting for it.
        for piece in to.chunks_mut(if R::Shared::CACHED && take { RELEASED_MAX } else { usize::MAX }) {
            // SAFETY: `piece` is of the `count` bytes that are available, so that it is before `seen`: this end owns
            // it (R5); `place` is below the capacity, since there are any bytes.
            unsafe { self.ring.bytes().copy_out(self.indices().place(read), piece) };
            if take {
                self.publish(read, piece.len());
            }
            read = self.indices().advance(read, piece.len());
        }
        count
    }

    /// Fills `to` with the bytes that are known of, from `offset` ahead; takes nothing out. False, and
    /// nothing done, if there are not as many.
    #[inline(always)]
    pub(crate) fn read_at(&mut self, offset: usize, to: &mut [u8]) -> bool {
        let (read, known) = self.known_filled();
        if offset > known || to.len() > known - offset {
            return false;
        }
        let bytes = self.ring.bytes();
        let place = bytes.indices().place(bytes.indices().advance(read, offset));
        // SAFETY: `offset + to.len()` bytes from `read` on are before `seen`, so this end owns them (R5);
        // `place` is below the capacity, or `to` is empty.
        unsafe { bytes.copy_out(place, to) };
        true
    }

    /// The first `len` of the bytes that are known of, in two pieces.
    #[inline]
    pub(crate) fn filled_slices(&self, len: usize) -> (&[u8], &[u8]) {
        let bytes = self.ring.bytes();
        let (index, known) = self.known_filled();
        let len = len.min(known);
        let [first, second] = bytes.pieces(bytes.indices().place(index), len, Watch::reads);
        // SAFETY: within the memory (`pieces`), initialised (R7), and owned by this end (R5), which gives
        // nothing back while it is borrowed.
        let first = unsafe { slice::from_raw_parts(first.0, first.1) };
        // SAFETY: as above.
        let second = unsafe { slice::from_raw_parts(second.0, second.1) };
        (first, second)
    }

    /// Gives the first `count` of the bytes that are known of back to the other end; at most all of them.
    #[inline(always)]
    pub(crate) fn release(&mut self, count: usize) -> usize {
        let (index, known) = self.known_filled();
        let count = count.min(known);
        if count > 0 {
            self.publish(index, count);
        }
        count
    }

    /// Moves the read index from `read`, where it is, on by `count`, at most what is [`known`](Self::known_filled) (R3).
    #[inline(always)]
    fn publish(&mut self, read: usize, count: usize) {
        let (shared, indices) = (self.ring.shared(Token), self.indices());
        let read = indices.advance(read, count);
        if R::Shared::CACHED {
            self.read = read;
        }
        // Release: the bytes are read before anybody may overwrite them (R4).
        shared.read().store(read, Release);
        shared.wake_writer(|| indices.capacity() - indices.follow_jump(read, shared.write().load(Relaxed)).1);
    }

    /// Whether the other end is closed. If so, all that it wrote is visible to the next look.
    #[inline]
    pub(crate) fn other_closed(&self) -> bool {
        self.ring.shared(Token).write_closed().load(Acquire)
    }
}

impl<R: AnyRing> Drop for ReadEnd<'_, R> {
    fn drop(&mut self) {
        self.ring.shared(Token).read_closed().store(true, Release);
        self.ring.shared(Token).wake_writer(|| usize::MAX);
    }
}
