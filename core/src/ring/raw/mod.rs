//! The two ends of a ring, and all of its `unsafe`.
//!
//! What every proof below stands on:
//!
//! - **R1** There is at most one [`WriteEnd`] and one [`ReadEnd`] of a ring at a time ([`ends`] holds the ring
//!   exclusively, [`try_ends`] holds the flag `taken`), and what they do to the ring takes `&mut self`.
//! - **R2** Only the write end stores the write index; only the read end stores the read index.
//! - **R3** `read ≤ write ≤ read + capacity`, `read` having jumped where `write` has (R6): each end moves its index
//!   only over bytes that it owns.
//! - **R4** The write end owns the bytes from `write` to one capacity ahead of `seen`. `seen` is a read index that
//!   was loaded with Acquire, so that the reads which the read end made before storing it (Release) are over.
//! - **R5** The read end owns the bytes from `read` to `seen`. `seen` is a write index that was loaded with
//!   Acquire, so that the writes which the write end made before storing it (Release) have happened.
//! - **R6** The write index jumps ([`Span::jump`]) only while the ring is empty, the write end having seen (Acquire) a read
//!   index equal to its own; and only away from a place that is not the first, so not again before bytes were written,
//!   and read by a read end that has followed. Each end takes the two indices through [`Span::settle`], which has
//!   the read index follow: over no byte, so that neither jump hands anything over or needs an ordering.
//! - **R7** A [`Bytes`] points to `capacity` bytes, initialised and alive while the ring is borrowed, which nobody
//!   reaches but the ends.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ptr;
use core::slice;

use super::AnyRing;
use super::index::{Span, rare};
use super::layout::{GIVEN_BACK_MAX, PAUSED_MAX, Shared as _, pause};
use super::sealed::Token;
use crate::copy::{PIECE, is_slow};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{Watch, const_fn};

/// The bytes of a ring that holds them itself.
pub(super) struct Owned<const N: usize> {
    bytes: UnsafeCell<[u8; N]>,
    watch: Watch,
}

// SAFETY: the cell's content is reached only through `Bytes`, by the one write end and the one read end,
// each on the bytes that it owns (R1, R4, R5).
unsafe impl<const N: usize> Sync for Owned<N> {}

impl<const N: usize> Owned<N> {
    const_fn! {
        pub(super) fn new() -> Self {
            const { assert!(N <= Span::CAPACITY_MAX, "a ring takes no more than an eighth of the address space") }
            Owned { bytes: UnsafeCell::new([0; N]), watch: Watch::new(N) }
        }
    }

    #[inline(always)]
    pub(super) fn bytes(&self) -> Bytes<'_> {
        Bytes { start: self.bytes.get().cast(), span: Span::fixed(N), watch: &self.watch }
    }
}

/// The bytes of a ring over somebody else's memory.
pub(super) struct Borrowed<'m> {
    start: *mut u8,
    len: usize,
    watch: Watch,
    memory: PhantomData<&'m mut [u8]>,
}

// SAFETY: it is a `&mut [u8]`, which may be sent.
unsafe impl Send for Borrowed<'_> {}
// SAFETY: as for `Owned`.
unsafe impl Sync for Borrowed<'_> {}

impl<'m> Borrowed<'m> {
    const_fn! {
        pub(super) fn new(memory: &'m mut [u8]) -> Self {
            let len = if memory.len() < Span::CAPACITY_MAX { memory.len() } else { Span::CAPACITY_MAX };
            Borrowed { start: memory.as_mut_ptr(), len, watch: Watch::new(len), memory: PhantomData }
        }
    }

    #[inline(always)]
    pub(super) fn bytes(&self) -> Bytes<'_> {
        Bytes { start: self.start, span: Span::erased(self.len), watch: &self.watch }
    }
}

/// Where the bytes of a ring are. Made in this file only, which is what R7 rests on.
#[derive(Clone, Copy)]
pub struct Bytes<'r> {
    start: *mut u8,
    span: Span,
    watch: &'r Watch,
}

impl Bytes<'_> {
    #[inline(always)]
    pub(super) fn span(self) -> Span {
        self.span
    }

    /// Copies `from` to `place`, going on at the first byte after the last.
    ///
    /// # Safety
    ///
    /// `place` is below the capacity, `from` no longer than it (or empty), and the caller owns the bytes.
    #[inline(always)]
    unsafe fn copy_in(self, place: usize, from: &[u8]) {
        let [first, second] = self.pieces(place, from.len(), Watch::writes);
        // SAFETY: `first` is within the memory (`pieces`); `from` cannot overlap bytes that the caller owns exclusively.
        unsafe { copy(from.as_ptr(), first.0, first.1) };
        if second.1 > 0 {
            // SAFETY: as above; the two pieces are as long as `from`.
            unsafe { copy(from.as_ptr().wrapping_add(first.1), second.0, second.1) };
        }
    }

    /// Fills `to` with the bytes from `place` on, going on at the first byte after the last. Safety: as for `copy_in`.
    #[inline(always)]
    unsafe fn copy_out(self, place: usize, to: &mut [u8]) {
        let [first, second] = self.pieces(place, to.len(), Watch::reads);
        // SAFETY: as in `copy_in`, the other way.
        unsafe { copy(first.0, to.as_mut_ptr(), first.1) };
        if second.1 > 0 {
            // SAFETY: as in `copy_in`, the other way.
            unsafe { copy(second.0, to.as_mut_ptr().wrapping_add(first.1), second.1) };
        }
    }

    /// The two pieces of `len` bytes from `place` on, as raw parts: before the wrap, and after it. Within the memory (R7)
    /// if `place` is below the capacity and `len` at most that (`before_wrap`). Has the caller's `touch` watched.
    #[inline(always)]
    fn pieces(self, place: usize, len: usize, touch: fn(&Watch, usize, usize)) -> [(*mut u8, usize); 2] {
        let before = self.span.before_wrap(place, len);
        let after = len - before;
        touch(self.watch, place, before);
        touch(self.watch, 0, after);
        [(self.start.wrapping_add(place), before), (self.start, after)]
    }
}

/// Copies `len` bytes, around a trap of some processors. Safety: as for [`ptr::copy_nonoverlapping`].
#[inline(always)]
unsafe fn copy(mut from: *const u8, mut to: *mut u8, mut len: usize) {
    while is_slow(to, from, len) {
        rare();
        // SAFETY: `PIECE` is less than `len`: a part of what the caller vouches for.
        unsafe { ptr::copy_nonoverlapping(from, to, PIECE) };
        (from, to, len) = (from.wrapping_add(PIECE), to.wrapping_add(PIECE), len - PIECE);
    }
    // SAFETY: what is left of what the caller vouches for.
    unsafe { ptr::copy_nonoverlapping(from, to, len) };
}

/// Splits a ring that is borrowed exclusively: no other end of it can be alive.
pub(super) fn ends<R: AnyRing>(ring: &mut R) -> (WriteEnd<'_, R>, ReadEnd<'_, R>) {
    let ring = &*ring;
    // A handle of an earlier split that was leaked or dropped is beyond reach now.
    ring.shared(Token).taken().store(false, Relaxed);
    open(ring)
}

/// Splits a shared ring unless it is split already: `taken` admits one pair of ends.
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
pub(super) fn try_ends<R: AnyRing>(ring: &R) -> Option<(WriteEnd<'_, R>, ReadEnd<'_, R>)> {
    // Acquire, with the Release in `rejoin`: what the ends before did to the ring has happened.
    ring.shared(Token).taken().compare_exchange(false, true, Acquire, Relaxed).ok()?;
    Some(open(ring))
}

/// Both ends of a ring, as the last ones left it. The caller holds it exclusively, or has taken the flag (R1).
fn open<R: AnyRing>(ring: &R) -> (WriteEnd<'_, R>, ReadEnd<'_, R>) {
    let shared = ring.shared(Token);
    shared.write_closed().store(false, Relaxed);
    shared.read_closed().store(false, Relaxed);
    let write = shared.write().load(Relaxed);
    let read = shared.read().load(Relaxed);
    // Nothing is known of, so the first look is a fresh one, and follows a jump of the last write end.
    let full = ring.bytes().span().lap_before(write);
    (WriteEnd { ring, write, seen: full }, ReadEnd { ring, read, seen: read, paused: usize::MAX })
}

/// Gives the ring back, so that [`try_ends`] may split it again, or both ends if they are of two rings.
pub(super) fn rejoin<'a, R: AnyRing>(
    write: WriteEnd<'a, R>,
    read: ReadEnd<'a, R>,
) -> Result<(), (WriteEnd<'a, R>, ReadEnd<'a, R>)> {
    // Rings of no size may share an address, but every ring holds its indices.
    if !ptr::eq(write.ring, read.ring) {
        return Err((write, read));
    }
    let ring = write.ring;
    drop((write, read));
    ring.shared(Token).taken().store(false, Release);
    Ok(())
}

/// The producer's end: owns the free bytes that it knows of.
///
/// Between cores it keeps copies of what is shared, so as not to fetch it; on one core, where a load is a load, it
/// keeps only what it must ([`CACHED`](super::layout::Shared::CACHED)).
pub(super) struct WriteEnd<'a, R: AnyRing> {
    ring: &'a R,
    /// If cached, the shared write index: of the next byte to write.
    write: usize,
    /// If cached, the read index when last looked at: one capacity from it may be written without another look (R4).
    seen: usize,
}

impl<'a, R: AnyRing> WriteEnd<'a, R> {
    #[inline(always)]
    pub(super) fn ring(&self) -> &'a R {
        self.ring
    }

    #[inline(always)]
    fn span(&self) -> Span {
        self.ring.bytes().span()
    }

    /// Index of the next byte to write. Relaxed: this end stored it (R2).
    #[inline(always)]
    fn index(&self) -> usize {
        if R::Shared::CACHED { self.write } else { self.ring.shared(Token).write().load(Relaxed) }
    }

    /// The read index now. Acquire: what is before it is read (R4).
    #[inline(always)]
    fn fresh(&self) -> usize {
        self.ring.shared(Token).read().load(Acquire)
    }

    /// The index of the next byte to write, and how many may be written, at least those that are known of.
    /// Between cores it looks at the other end only if those are fewer than `want`.
    #[inline(always)]
    fn look(&mut self, want: usize) -> (usize, usize) {
        let (write, room) = self.known();
        if !R::Shared::CACHED || room >= want {
            return (write, room);
        }
        let used;
        (self.seen, used) = self.span().settle(self.fresh(), write);
        (write, self.span().capacity() - used)
    }

    /// The index of the next byte to write, and how many are known to be free: between cores without a look at the
    /// other end.
    #[inline(always)]
    fn known(&self) -> (usize, usize) {
        let (span, write) = (self.span(), self.index());
        let used = if R::Shared::CACHED {
            span.distance(self.seen, write)
        } else {
            span.settle(self.fresh(), write).1
        };
        (write, span.capacity() - used)
    }

    /// How many bytes may be written, by a look at the other end if fewer than `want` are known of.
    #[inline(always)]
    pub(super) fn room(&mut self, want: usize) -> usize {
        self.look(want).1
    }

    /// Bytes in the ring now, by a fresh look. Relaxed: a count gives no right to any byte.
    #[inline]
    pub(super) fn used(&self) -> usize {
        self.span().settle(self.ring.shared(Token).read().load(Relaxed), self.index()).1
    }

    /// Writes one byte, if there is room.
    #[inline(always)]
    pub(super) fn write_byte(&mut self, byte: u8) -> bool {
        let (span, write) = (self.span(), self.index());
        let read = if R::Shared::CACHED { self.seen } else { self.fresh() };
        // One comparison where there is room; full, and jumped, are told apart here.
        if span.distance(read, write) >= span.capacity() {
            rare();
            let (read, used) = span.settle(if R::Shared::CACHED { self.fresh() } else { read }, write);
            self.seen = read;
            if used == span.capacity() {
                return false;
            }
        }
        let (bytes, place) = (self.ring.bytes(), span.place(write));
        bytes.watch.writes(place, 1);
        // SAFETY: there is room for the byte at `write`, so that this end owns it (R4), and `place`
        // is below the capacity (R7).
        unsafe { bytes.start.wrapping_add(place).write(byte) };
        self.publish(write, 1);
        true
    }

    /// Writes as much of `from` as there is room for, and says how much.
    #[inline(always)]
    pub(super) fn write(&mut self, from: &[u8]) -> usize {
        let (write, room) = self.look(from.len());
        let count = from.len().min(room);
        let Some(from) = from.get(..count) else { return 0 };
        if count > 0 {
            // SAFETY: there is room for `count` bytes from `write` on, so that this end owns them (R4);
            // `place` is below the capacity, since there is any room.
            unsafe { self.ring.bytes().copy_in(self.span().place(write), from) };
            self.publish(write, count);
        }
        count
    }

    /// Copies `from` to the free bytes that are known of, `offset` ahead; publishes nothing. False, and
    /// nothing done, if they do not all fit there.
    #[inline(always)]
    pub(super) fn put(&mut self, offset: usize, from: &[u8]) -> bool {
        let (write, known) = self.known();
        if offset > known || from.len() > known - offset {
            return false;
        }
        let bytes = self.ring.bytes();
        let place = bytes.span.place(bytes.span.advance(write, offset));
        // SAFETY: there is room for `offset + from.len()` bytes from `write` on, so that this end owns them (R4);
        // `place` is below the capacity, or `from` is empty.
        unsafe { bytes.copy_in(place, from) };
        true
    }

    /// The first `len` of the free bytes that are known of, in two pieces.
    #[inline]
    pub(super) fn free(&mut self, len: usize) -> (&mut [u8], &mut [u8]) {
        let bytes = self.ring.bytes();
        let (index, known) = self.known();
        let len = len.min(known);
        let [first, second] = bytes.pieces(bytes.span.place(index), len, Watch::writes);
        // SAFETY: within the memory (`pieces`), initialised (R7), and owned by this end (R4), which is
        // borrowed for as long as the slice.
        let first = unsafe { slice::from_raw_parts_mut(first.0, first.1) };
        // SAFETY: as above; `len` is at most the capacity, so that the pieces do not overlap.
        let second = unsafe { slice::from_raw_parts_mut(second.0, second.1) };
        (first, second)
    }

    /// How many of the free bytes that are known of lie before the end of the memory.
    #[inline]
    pub(super) fn contiguous(&self) -> usize {
        let (write, known) = self.known();
        self.span().before_wrap(self.span().place(write), known)
    }

    /// Moves the write index to the first byte of the memory, if the ring is empty: everything is contiguous then.
    pub(super) fn jump_if_empty(&mut self) {
        let span = self.span();
        let (write, room) = self.look(span.capacity());
        if room == span.capacity() && span.place(write) != 0 {
            let write = span.jump(write);
            (self.write, self.seen) = (write, write);
            // Relaxed: it hands over no byte (R6).
            self.ring.shared(Token).write().store(write, Relaxed);
        }
    }

    /// Hands the first `count` of the free bytes that are known of to the other end; at most all of them.
    #[inline(always)]
    pub(super) fn commit(&mut self, count: usize) -> usize {
        let (index, known) = self.known();
        let count = count.min(known);
        if count > 0 {
            self.publish(index, count);
        }
        count
    }

    /// Moves the write index from `write`, where it is, on by `count`, at most what is [`known`](Self::known) (R3).
    #[inline(always)]
    fn publish(&mut self, write: usize, count: usize) {
        let (shared, span) = (self.ring.shared(Token), self.span());
        let write = span.advance(write, count);
        if R::Shared::CACHED {
            self.write = write;
        }
        let used = || span.settle(shared.read().load(Relaxed), write).1;
        shared.note_fill(used);
        // Release: the bytes are written before anybody sees that there are any (R5).
        shared.write().store(write, Release);
        shared.wake_reader(used);
    }

    /// Whether the other end is closed.
    #[inline]
    pub(super) fn other_closed(&self) -> bool {
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

/// The consumer's end: owns the written bytes that it knows of. Caches as [`WriteEnd`] does.
pub(super) struct ReadEnd<'a, R: AnyRing> {
    ring: &'a R,
    /// If cached, the shared read index: of the next byte to read.
    read: usize,
    /// If cached, the write index when last looked at: before it bytes may be read without another look (R5).
    seen: usize,
    /// If cached, the read index when it was last found that all is read: see [`pause`](Self::pause).
    paused: usize,
}

impl<'a, R: AnyRing> ReadEnd<'a, R> {
    #[inline(always)]
    pub(super) fn ring(&self) -> &'a R {
        self.ring
    }

    #[inline(always)]
    fn span(&self) -> Span {
        self.ring.bytes().span()
    }

    /// Index of the next byte to read. Relaxed: this end stored it (R2).
    #[inline(always)]
    fn index(&self) -> usize {
        if R::Shared::CACHED { self.read } else { self.ring.shared(Token).read().load(Relaxed) }
    }

    /// The write index now. Acquire: what is before it is written (R5).
    #[inline(always)]
    fn fresh(&self) -> usize {
        self.ring.shared(Token).write().load(Acquire)
    }

    /// The index of the next byte to read, and how many may be read, at least those that are known of.
    /// Between cores it looks at the other end only if those are fewer than `want`.
    #[inline(always)]
    fn look(&mut self, want: usize) -> (usize, usize) {
        let (read, available) = self.known();
        if !R::Shared::CACHED || available >= want {
            return (read, available);
        }
        self.seen = self.fresh();
        let (read, available) = self.span().settle(read, self.seen);
        self.read = read;
        (read, available)
    }

    /// The index of the next byte to read, and how many are known to be there: between cores without a look at the
    /// other end.
    #[inline(always)]
    fn known(&self) -> (usize, usize) {
        let (span, read) = (self.span(), self.index());
        if R::Shared::CACHED {
            (read, span.distance(read, self.seen))
        } else {
            span.settle(read, self.fresh())
        }
    }

    /// How many bytes may be read, by a look at the other end if fewer than `want` are known of.
    #[inline(always)]
    pub(super) fn available(&mut self, want: usize) -> usize {
        self.look(want).1
    }

    /// Bytes in the ring now, by a fresh look. Relaxed: a count gives no right to any byte.
    #[inline]
    pub(super) fn used(&self) -> usize {
        self.span().settle(self.index(), self.ring.shared(Token).write().load(Relaxed)).1
    }

    /// The next byte, if there is one; takes it out if `take`.
    #[inline(always)]
    pub(super) fn read_byte(&mut self, take: bool) -> Option<u8> {
        let (span, mut read) = (self.span(), self.index());
        let mut write = if R::Shared::CACHED { self.seen } else { self.fresh() };
        // One comparison where there are bytes; empty (which is -1 here), and jumped, are told apart here.
        if span.distance(read, write).wrapping_sub(1) >= span.capacity() {
            rare();
            if R::Shared::CACHED {
                self.pause(1);
                write = self.fresh();
                self.seen = write;
            }
            let available;
            (read, available) = span.settle(read, write);
            self.read = read;
            if available == 0 {
                return None;
            }
        }
        let (bytes, place) = (self.ring.bytes(), span.place(read));
        bytes.watch.reads(place, 1);
        // SAFETY: a byte is available, so `read` is before `seen`: this end owns it (R5), and `place` is below
        // the capacity (R7).
        let byte = unsafe { bytes.start.wrapping_add(place).read() };
        if take {
            self.publish(read, 1);
        }
        Some(byte)
    }

    /// [Pauses](pause) once all that was known of is read: a short read before its first look, a longer one before others.
    #[inline(always)]
    fn pause(&mut self, want: usize) {
        let is_first = core::mem::replace(&mut self.paused, self.read) != self.read;
        if is_first == (want <= PAUSED_MAX) {
            pause();
        }
    }

    /// Fills as much of `to` as there are bytes for, and says how much; takes them out if `take`.
    #[inline(always)]
    pub(super) fn read(&mut self, to: &mut [u8], take: bool) -> usize {
        if R::Shared::CACHED && self.known().1 == 0 {
            self.pause(to.len());
        }
        let (mut read, available) = self.look(to.len());
        let count = to.len().min(available);
        let Some(to) = to.get_mut(..count) else { return 0 };
        // What is read is given back soon, between cores: the other end may be waiting for it.
        for piece in to.chunks_mut(if R::Shared::CACHED && take { GIVEN_BACK_MAX } else { usize::MAX }) {
            // SAFETY: `piece` is of the `count` bytes that are available, so that it is before `seen`: this end owns
            // it (R5); `place` is below the capacity, since there are any bytes.
            unsafe { self.ring.bytes().copy_out(self.span().place(read), piece) };
            if take {
                self.publish(read, piece.len());
            }
            read = self.span().advance(read, piece.len());
        }
        count
    }

    /// Fills `to` with the bytes that are known of, from `offset` ahead; takes nothing out. False, and
    /// nothing done, if there are not as many.
    #[inline(always)]
    pub(super) fn get(&mut self, offset: usize, to: &mut [u8]) -> bool {
        let (read, known) = self.known();
        if offset > known || to.len() > known - offset {
            return false;
        }
        let bytes = self.ring.bytes();
        let place = bytes.span.place(bytes.span.advance(read, offset));
        // SAFETY: `offset + to.len()` bytes from `read` on are before `seen`, so this end owns them (R5);
        // `place` is below the capacity, or `to` is empty.
        unsafe { bytes.copy_out(place, to) };
        true
    }

    /// The first `len` of the bytes that are known of, in two pieces.
    #[inline]
    pub(super) fn filled(&self, len: usize) -> (&[u8], &[u8]) {
        let bytes = self.ring.bytes();
        let (index, known) = self.known();
        let len = len.min(known);
        let [first, second] = bytes.pieces(bytes.span.place(index), len, Watch::reads);
        // SAFETY: within the memory (`pieces`), initialised (R7), and owned by this end (R5), which gives
        // nothing back while it is borrowed.
        let first = unsafe { slice::from_raw_parts(first.0, first.1) };
        // SAFETY: as above.
        let second = unsafe { slice::from_raw_parts(second.0, second.1) };
        (first, second)
    }

    /// Gives the first `count` of the bytes that are known of back to the other end; at most all of them.
    #[inline(always)]
    pub(super) fn commit(&mut self, count: usize) -> usize {
        let (index, known) = self.known();
        let count = count.min(known);
        if count > 0 {
            self.publish(index, count);
        }
        count
    }

    /// Moves the read index from `read`, where it is, on by `count`, at most what is [`known`](Self::known) (R3).
    #[inline(always)]
    fn publish(&mut self, read: usize, count: usize) {
        let (shared, span) = (self.ring.shared(Token), self.span());
        let read = span.advance(read, count);
        if R::Shared::CACHED {
            self.read = read;
        }
        // Release: the bytes are read before anybody may overwrite them (R4).
        shared.read().store(read, Release);
        shared.wake_writer(|| span.capacity() - span.settle(read, shared.write().load(Relaxed)).1);
    }

    /// Whether the other end is closed. If so, all that it wrote is visible to the next look.
    #[inline]
    pub(super) fn other_closed(&self) -> bool {
        self.ring.shared(Token).write_closed().load(Acquire)
    }
}

impl<R: AnyRing> Drop for ReadEnd<'_, R> {
    fn drop(&mut self) {
        self.ring.shared(Token).read_closed().store(true, Release);
        self.ring.shared(Token).wake_writer(|| usize::MAX);
    }
}

#[cfg(feature = "bytes")]
// SAFETY: `chunk_mut` is the front of the free bytes, `remaining_mut` counts them, and neither changes but by
// `advance_mut`.
unsafe impl<R: AnyRing> ::bytes::BufMut for super::bytes::Writable<'_, '_, R> {
    fn remaining_mut(&self) -> usize {
        self.left()
    }

    fn chunk_mut(&mut self) -> &mut ::bytes::buf::UninitSlice {
        ::bytes::buf::UninitSlice::new(self.first())
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        self.take(count);
    }
}

#[cfg(feature = "async")]
pub(super) mod waker {
    use core::task::Waker;

    use crate::sync::Ordering::{Acquire, Relaxed, Release};
    use crate::sync::{AtomicU8, Cell, const_fn};

    const FREE: u8 = 0;
    const REGISTERING: u8 = 1;
    const WAKING: u8 = 2;

    /// One waker, put in by the end that waits and taken out by the other, neither ever waiting for the other.
    ///
    /// The protocol is that of `futures`' `AtomicWaker` (Carl Lerche), for one end on either side:
    ///
    /// | state | from | by | the cell belongs to |
    /// |---|---|---|---|
    /// | free | any | who had it | nobody |
    /// | registering | free | `register` | the waiting end |
    /// | waking | free | `wake` | the waking end |
    /// | registering and waking | registering | `wake` | the waiting end, which then wakes itself |
    pub(crate) struct WakerCell {
        state: AtomicU8,
        waker: Cell<Option<Waker>>,
    }

    // SAFETY: the waker is reached only by the side that the state gives it to.
    unsafe impl Sync for WakerCell {}
    // SAFETY: a `Waker` is `Send`.
    unsafe impl Send for WakerCell {}

    impl WakerCell {
        const_fn! {
            pub(crate) fn new() -> Self {
                WakerCell { state: AtomicU8::new(FREE), waker: Cell::new(None) }
            }
        }

        /// Puts `waker` in, in place of the one before. For the waiting end only.
        pub(crate) fn register(&self, waker: &Waker) {
            if self.state.compare_exchange(FREE, REGISTERING, Acquire, Relaxed).is_err() {
                // The other end is waking whom it finds at this moment: be woken as well, and ask again.
                waker.wake_by_ref();
                return;
            }
            self.waker.with_mut(|slot| {
                // SAFETY: the state was free and is now registering: the cell is the waiting end's.
                let slot = unsafe { &mut *slot };
                match slot {
                    Some(old) => old.clone_from(waker),
                    None => *slot = Some(waker.clone()),
                }
            });
            if self.state.compare_exchange(REGISTERING, FREE, Release, Relaxed).is_err() {
                // A wake-up came meanwhile and left it to us.
                let waker = self.take();
                self.state.store(FREE, Release);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }

        /// Takes the waker out and wakes it. For the waking end only.
        pub(crate) fn wake(&self) {
            if self.state.fetch_or(WAKING, Acquire) == FREE {
                let waker = self.take();
                self.state.fetch_and(!WAKING, Release);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }

        /// Only for who has the cell: in `register` before it is freed, in `wake` while waking.
        fn take(&self) -> Option<Waker> {
            self.waker.with_mut(|slot| {
                // SAFETY: the caller has moved the state from free to its own, and has not freed it yet.
                unsafe { &mut *slot }.take()
            })
        }
    }
}
