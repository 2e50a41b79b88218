//! The bytes of a ring: where they lie, and every access to them.
//!
//! Held by: `core/tests/loom_ring.rs`, `core/tests/ring_threads.rs` (under the sanitizers too).

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr;

use crate::copy::{PIECE, is_slow};
use crate::ring::index::{Indices, cold_path};
use crate::sync::{Watch, const_fn};

/// The bytes of a ring that contains them.
pub(crate) struct Owned<const N: usize> {
    bytes: UnsafeCell<[u8; N]>,
    watch: Watch,
}

/// Bytes have no state that a panic could leave half-way, and the indices beside them are atomics.
impl<const N: usize> RefUnwindSafe for Owned<N> {}

// SAFETY: the cell's content is accessed only through `Bytes`, by the one write end and the one read end,
// each on the bytes that it owns (R1, R4, R5).
unsafe impl<const N: usize> Sync for Owned<N> {}

impl<const N: usize> Owned<N> {
    const_fn! {
        pub(crate) fn new() -> Self {
            const { assert!(N <= Indices::CAPACITY_MAX, "a ring takes no more than an eighth of the address space") }
            const { assert!(N > 0, "a ring without a byte is empty and full for ever") }
            Owned { bytes: UnsafeCell::new([0; N]), watch: Watch::new(N) }
        }
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> Bytes<'_> {
        Bytes { start: self.bytes.get().cast(), indices: Indices::fixed(N), watch: &self.watch }
    }
}

/// The bytes of a ring in borrowed memory.
pub(crate) struct Borrowed<'m> {
    start: *mut u8,
    len: usize,
    watch: Watch,
    memory: PhantomData<&'m mut [u8]>,
}

// As for `Owned`.
impl UnwindSafe for Borrowed<'_> {}
impl RefUnwindSafe for Borrowed<'_> {}

// SAFETY: it is a `&mut [u8]`, which may be sent.
unsafe impl Send for Borrowed<'_> {}
// SAFETY: as for `Owned`.
unsafe impl Sync for Borrowed<'_> {}

impl<'m> Borrowed<'m> {
    const_fn! {
        pub(crate) fn new(memory: &'m mut [u8]) -> Self {
            let len = if memory.len() < Indices::CAPACITY_MAX { memory.len() } else { Indices::CAPACITY_MAX };
            Borrowed { start: memory.as_mut_ptr(), len, watch: Watch::new(len), memory: PhantomData }
        }
    }

    /// The number of bytes that the ring uses.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> Bytes<'_> {
        Bytes { start: self.start, indices: Indices::runtime(self.len), watch: &self.watch }
    }
}

/// Where the bytes of a ring lie. Only this file constructs it, on which R7 rests.
#[derive(Clone, Copy)]
pub struct Bytes<'r> {
    start: *mut u8,
    indices: Indices,
    watch: &'r Watch,
}

impl Bytes<'_> {
    #[inline(always)]
    pub(crate) fn indices(self) -> Indices {
        self.indices
    }

    /// Writes the byte at `place`.
    ///
    /// # Safety
    ///
    /// `place` is below the capacity, and the caller owns the byte.
    #[inline(always)]
    pub(super) unsafe fn write(self, place: usize, byte: u8) {
        self.watch.writes(place, 1);
        // SAFETY: within the memory (R7), and the caller's own.
        unsafe { self.start.wrapping_add(place).write(byte) };
    }

    /// The byte at `place`. Safety: as for `write`.
    #[inline(always)]
    pub(super) unsafe fn read(self, place: usize) -> u8 {
        self.watch.reads(place, 1);
        // SAFETY: within the memory (R7), initialised, and the caller's own.
        unsafe { self.start.wrapping_add(place).read() }
    }

    /// Copies `from` to `place`, and past the end of the memory to its beginning.
    ///
    /// # Safety
    ///
    /// `place` is below the capacity (or `from` is empty), `from` is no longer than the capacity, and the
    /// caller owns the bytes that are overwritten.
    #[inline(always)]
    pub(super) unsafe fn copy_in(self, place: usize, from: &[u8]) {
        let [first, second] = self.pieces(place, from.len(), Watch::writes);
        // SAFETY: `first` is within the memory (`pieces`); `from` cannot overlap bytes that
        // the caller owns alone.
        unsafe { copy(from.as_ptr(), first.0, first.1) };
        if second.1 > 0 {
            // SAFETY: as above; the two pieces are as long as `from`.
            unsafe { copy(from.as_ptr().wrapping_add(first.1), second.0, second.1) };
        }
    }

    /// Fills `to` with the bytes from `place` on, and past the end of the memory from its beginning.
    /// Safety: as for `copy_in`.
    #[inline(always)]
    pub(super) unsafe fn copy_out(self, place: usize, to: &mut [u8]) {
        let [first, second] = self.pieces(place, to.len(), Watch::reads);
        // SAFETY: as in `copy_in`, the other way.
        unsafe { copy(first.0, to.as_mut_ptr(), first.1) };
        if second.1 > 0 {
            // SAFETY: as in `copy_in`, the other way.
            unsafe { copy(second.0, to.as_mut_ptr().wrapping_add(first.1), second.1) };
        }
    }

    /// The two pieces of `len` bytes from `place` on, as raw parts: before the wrap, and after it. They lie
    /// within the memory (R7) if `place` is below the capacity and `len` is at most the capacity
    /// (`before_wrap`). `touch` tells loom whether they are read or written.
    #[inline(always)]
    pub(super) fn pieces(
        self,
        place: usize,
        len: usize,
        touch: fn(&Watch, usize, usize),
    ) -> [(*mut u8, usize); 2] {
        let before = self.indices.before_wrap(place, len);
        let after = len - before;
        touch(self.watch, place, before);
        touch(self.watch, 0, after);
        [(self.start.wrapping_add(place), before), (self.start, after)]
    }
}

/// Copies `len` bytes, in pieces where one copy would be slow. Safety: as for [`ptr::copy_nonoverlapping`].
#[inline(always)]
unsafe fn copy(mut from: *const u8, mut to: *mut u8, mut len: usize) {
    while is_slow(to, from, len) {
        cold_path();
        // SAFETY: `PIECE` is less than `len`: a part of what the caller guarantees.
        unsafe { ptr::copy_nonoverlapping(from, to, PIECE) };
        (from, to, len) = (from.wrapping_add(PIECE), to.wrapping_add(PIECE), len - PIECE);
    }
    // SAFETY: the rest of what the caller guarantees.
    unsafe { ptr::copy_nonoverlapping(from, to, len) };
}
