//! Frames: the memory that holds pages, charged to the pool's budget, and used again.
//!
//! Promises:
//!
//! - I2: a frame is charged before it is allocated and credited after it is freed; the charge is the
//!   capacity of its one allocation.
//! - A frame carries its charge with it: wherever it is dropped, the budget gets it back.
//! - A frame that is given back for recycling stays charged, and is the first to go when memory is
//!   wanted in another size.
//!
//! Frames come in powers of two from [`SMALLEST`] (or the page size, if that is smaller) to the page
//! size, and below [`FINE_MAX`] in four sizes to each doubling: so a small body costs at most a quarter
//! more than its bytes, and a recycled frame fits often. Finer sizes above it would fragment the
//! allocator's memory.

use crate::budget::{Budget, HighWater};
use crate::copy::{append, copy};
use crate::recycled::Recycled;
use crate::sync::{Arc, AtomicU64, Ordering};
use aligned_vec::{AVec, RuntimeAlign};

/// Bytes of the largest page that can be asked for.
pub(crate) const PAGE_SIZE_MAX: usize = 16 << 20;

/// Bytes of the smallest frame, unless pages are smaller.
const SMALLEST: usize = 256;

/// Frames below this come in finer sizes: a page of the machine.
const FINE_MAX: usize = 4096;

const SIZES_PER_DOUBLING: usize = 4;

/// Frames of this and more begin at a cache line. The allocator puts those 16 bytes past a page of the
/// machine, and there the kernel meets the trap that [`copy`](crate::copy) describes whenever it copies from the
/// page cache: 64 KiB took 28 µs instead of 3. Smaller ones lie anywhere, and one in 256 of them there; asking
/// for their alignment would leave holes between them, a quarter of all memory.
const ALIGNED_MIN: usize = 128 << 10;

const ALIGN: usize = 64;

/// What fresh memory is cleared from, where it has to be.
static ZEROS: [u8; 4096] = [0; 4096];

/// Memory for one page, or for the beginning of one.
#[derive(Debug)]
pub(crate) struct Frame {
    /// As long as it was ever written, so that fresh memory need not be cleared first. Its capacity
    /// is charged, and never changes.
    bytes: AVec<u8, RuntimeAlign>,
    /// The budget it is charged to.
    budget: Arc<Budget>,
}

impl Frame {
    /// What was ever written here, by whoever had the frame.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that fit: what is charged.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The `len` bytes from `at` on, if all of them were ever written.
    #[inline(always)]
    pub(crate) fn written_mut(&mut self, at: usize, len: usize) -> Option<&mut [u8]> {
        self.bytes.get_mut(at..)?.get_mut(..len)
    }

    /// Writes `data` from `at` on, if that is where nothing was ever written and the frame is large enough;
    /// else does nothing, and returns false.
    #[inline(always)]
    pub(crate) fn append(&mut self, at: usize, data: &[u8], commit: impl FnOnce()) -> bool {
        let appends = at == self.bytes.len() && data.len() <= self.bytes.capacity() - self.bytes.len();
        if appends {
            commit();
            append(&mut self.bytes, data); // within the capacity: allocates nothing
        }
        appends
    }

    /// Writes `data` from `at` on, which must not lie past what was ever written; false, and
    /// nothing written, if it does or if the frame is too small.
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) -> bool {
        let written = self.bytes.len();
        if at > written || at + data.len() > self.capacity() {
            return false;
        }
        let (over, further) = data.split_at(data.len().min(written - at));
        copy(&mut self.bytes[at..at + over.len()], over);
        further.is_empty() || self.append(written, further, || ())
    }

    /// The first `len` bytes, at most the capacity, with anything in them.
    pub(crate) fn first_mut(&mut self, len: usize) -> &mut [u8] {
        debug_assert!(len <= self.capacity());
        while self.bytes.len() < len {
            let more = ZEROS.len().min(len - self.bytes.len());
            self.bytes.extend_from_slice(&ZEROS[..more]);
        }
        &mut self.bytes[..len]
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let charged = self.capacity() as u64;
        drop(std::mem::replace(&mut self.bytes, AVec::new(ALIGN))); // I2: freed first, credited after
        self.budget.give_back(charged);
    }
}

/// Where frames come from and go back to: one per pool.
#[derive(Debug)]
pub(crate) struct Frames {
    budget: Arc<Budget>,
    /// Of what is charged.
    high_water: HighWater,
    /// The highest that the limit ever was, in bytes.
    limit_max: AtomicU64,
    page_size: usize,
    recycled: Recycled,
}

impl Frames {
    pub(crate) fn new(limit: u64, page_size: usize) -> Self {
        Frames {
            budget: Arc::new(Budget::new(limit)),
            high_water: HighWater::default(),
            limit_max: AtomicU64::new(limit),
            page_size,
            recycled: Recycled::default(),
        }
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The length of the frame that `bytes` of a page need; at most a page.
    pub(crate) fn class(&self, bytes: usize) -> usize {
        let bytes = bytes.clamp(SMALLEST.min(self.page_size), self.page_size);
        bytes.next_multiple_of(step(bytes)).min(self.page_size)
    }

    /// A frame of `len` bytes, which must be a class, with anything in it; `None` if the budget or
    /// the allocator has none.
    pub(crate) fn take(&self, len: usize) -> Option<Frame> {
        debug_assert_eq!(len, self.class(len));
        if let Some(frame) = self.recycled.pop(len) {
            return Some(frame);
        }
        let charge = len as u64;
        let charged = self.budget.take(charge).or_else(|refused| {
            self.recycled.shed((refused.taken + charge).saturating_sub(refused.limit));
            // Even if there was nothing: another thread may have freed what this one did not find.
            self.budget.take(charge)
        });
        self.high_water.note(charged.ok()?);
        let mut bytes = AVec::new(if len < ALIGNED_MIN { 1 } else { ALIGN });
        if bytes.try_reserve_exact(len).is_err() {
            self.budget.give_back(charge);
            return None;
        }
        debug_assert_eq!(bytes.capacity(), len, "I2: what is allocated is what is charged");
        Some(Frame { bytes, budget: Arc::clone(&self.budget) })
    }

    /// The most that was ever charged, in bytes.
    pub(crate) fn high_water(&self) -> u64 {
        self.high_water.get()
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        // First, so that who is granted more by the new limit finds it noted.
        self.limit_max.fetch_max(bytes, Ordering::SeqCst);
        self.budget.set_limit(bytes);
    }

    pub(crate) fn limit_max(&self) -> u64 {
        self.limit_max.load(Ordering::SeqCst)
    }

    /// Whether more is charged than the limit, because that was lowered.
    pub(crate) fn is_over(&self) -> bool {
        self.over() > 0
    }

    /// Bytes that are charged past the limit.
    pub(crate) fn over(&self) -> u64 {
        self.budget.taken().saturating_sub(self.budget.limit())
    }

    /// Keeps `frame` for the next who needs one of its length.
    pub(crate) fn recycle(&self, frame: Frame) {
        if !self.is_over() {
            self.recycled.push(frame);
        } // otherwise the limit was lowered, and the frame is freed
    }

    /// Frees what is kept for recycling.
    pub(crate) fn trim(&self) {
        self.recycled.trim();
    }

    /// The bytes that are charged only because they are kept for recycling.
    pub(crate) fn recycled_bytes(&self) -> u64 {
        self.recycled.bytes()
    }
}

/// What sizes between the power of two at or below `len` and the next are multiples of.
fn step(len: usize) -> usize {
    let power = 1 << len.ilog2();
    if len < FINE_MAX { (power / SIZES_PER_DOUBLING).max(1) } else { power }
}

/// In the order of the sizes.
pub(crate) fn class_index(len: usize) -> usize {
    len.ilog2() as usize * SIZES_PER_DOUBLING + (len - (1 << len.ilog2())) / step(len)
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    #[test]
    fn classes_are_a_quarter_apart_from_the_smallest_to_the_page() {
        let frames = Frames::new(0, 16384);
        assert_eq!([0, 1, 256, 257, 4095, 4096].map(|n| frames.class(n)), [256, 256, 256, 320, 4096, 4096]);
        assert_eq!([4097, 8193, 99999].map(|n| frames.class(n)), [8192, 16384, 16384]);
        assert_eq!([512, 513, 641, 769, 897].map(|n| frames.class(n)), [512, 640, 768, 896, 1024]);
        let mut lens: Vec<_> = (0..=16384).map(|n| frames.class(n)).collect();
        lens.dedup();
        assert!(lens.is_sorted() && lens.windows(2).all(|two| class_index(two[0]) < class_index(two[1])));
        assert_eq!([0, 5, 8].map(|n| Frames::new(0, 8).class(n)), [8, 8, 8]);
    }

    #[test]
    fn a_recycled_frame_stays_charged_and_makes_room_for_another_size() {
        let frames = Frames::new(1024, 1024);
        let small: Vec<_> = (0..4).map(|_| frames.take(256).unwrap()).collect();
        assert!(frames.take(256).is_none());
        small.into_iter().for_each(|frame| frames.recycle(frame));
        assert_eq!((frames.budget().taken(), frames.recycled_bytes()), (1024, 1024));

        let page = frames.take(1024).unwrap();
        assert_eq!((frames.budget().taken(), frames.recycled_bytes()), (1024, 0));
        drop(page);
        assert_eq!(frames.budget().taken(), 0);
    }

    /// The frames that the first page outgrew were worth a page only together with what was left of
    /// the budget; as nobody added the two up, the next page found no memory.
    #[test]
    fn recycled_frames_make_room_together_with_what_is_left() {
        let frames = Frames::new(2048, 1024);
        let outgrown = [256, 512].map(|len| frames.take(len).unwrap());
        let page = frames.take(1024).unwrap();
        outgrown.into_iter().for_each(|frame| frames.recycle(frame));
        assert!(frames.take(1024).is_some());
        drop(page);
    }

    #[test]
    fn large_frames_begin_at_a_cache_line() {
        let frames = Frames::new(1 << 20, 1 << 19);
        for len in [ALIGNED_MIN, 2 * ALIGNED_MIN, ALIGNED_MIN] {
            let mut frame = frames.take(len).unwrap();
            assert_eq!(frame.first_mut(1).as_ptr().align_offset(ALIGN), 0);
        }
    }
}
