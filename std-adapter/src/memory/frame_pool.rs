//! Where frames come from and go back to: one pool of frames for each pool of buffers.
//!
//! Promises:
//!
//! - I2: what is charged never passes the limit; a frame is charged before it is allocated.
//! - A recycled frame stays charged, and is the first to be freed when memory of another size is needed.

use crate::memory::budget::{Budget, HighWater};
use crate::memory::frame::Frame;
use crate::memory::free_lists::FreeLists;
use crate::memory::size_class::size_class;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Where frames come from and go back to: one per pool.
#[derive(Debug)]
pub(crate) struct FramePool {
    budget: Arc<Budget>,
    /// Of what is charged.
    high_water: HighWater,
    /// The highest that the limit ever was, in bytes.
    limit_max: AtomicU64,
    page_size: usize,
    free_lists: FreeLists,
}

impl FramePool {
    pub(crate) fn new(limit: u64, page_size: usize) -> Self {
        FramePool {
            budget: Arc::new(Budget::new(limit)),
            high_water: HighWater::default(),
            limit_max: AtomicU64::new(limit),
            page_size,
            free_lists: FreeLists::default(),
        }
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The length of the frame that `bytes` of a page need; at most a page.
    pub(crate) fn class(&self, bytes: usize) -> usize {
        size_class(bytes, self.page_size)
    }

    /// A frame of `len` bytes, which must be a class, with anything in it; `None` if the budget or
    /// the allocator has none.
    pub(crate) fn acquire(&self, len: usize) -> Option<Frame> {
        debug_assert_eq!(len, self.class(len));
        if let Some(frame) = self.free_lists.pop(len) {
            return Some(frame);
        }
        let charge = len as u64;
        let charged = self.budget.reserve(charge).or_else(|refused| {
            self.free_lists.free_at_least((refused.used + charge).saturating_sub(refused.limit));
            // Even if there was nothing: another thread may have freed what this one did not find.
            self.budget.reserve(charge)
        });
        self.high_water.note(charged.ok()?);
        Frame::allocate(len, &self.budget)
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
        self.budget.used().saturating_sub(self.budget.limit())
    }

    /// Keeps `frame` for the next who needs one of its length.
    pub(crate) fn recycle(&self, frame: Frame) {
        if !self.is_over() {
            self.free_lists.push(frame);
        } // otherwise the limit was lowered, and the frame is freed
    }

    /// Frees what is kept for recycling.
    pub(crate) fn trim(&self) {
        self.free_lists.trim();
    }

    /// The bytes that are charged only because they are kept for recycling.
    pub(crate) fn recycled_bytes(&self) -> u64 {
        self.free_lists.bytes()
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::frame::{ALIGN, ALIGNED_MIN};

    #[test]
    fn a_recycled_frame_stays_charged_and_makes_room_for_another_size() {
        let frames = FramePool::new(1024, 1024);
        let small: Vec<_> = (0..4).map(|_| frames.acquire(256).unwrap()).collect();
        assert!(frames.acquire(256).is_none());
        small.into_iter().for_each(|frame| frames.recycle(frame));
        assert_eq!((frames.budget().used(), frames.recycled_bytes()), (1024, 1024));

        let page = frames.acquire(1024).unwrap();
        assert_eq!((frames.budget().used(), frames.recycled_bytes()), (1024, 0));
        drop(page);
        assert_eq!(frames.budget().used(), 0);
    }

    /// The frames that the first page outgrew were worth a page only together with what was left of
    /// the budget; as nobody added the two up, the next page found no memory.
    #[test]
    fn recycled_frames_make_room_together_with_what_is_left() {
        let frames = FramePool::new(2048, 1024);
        let outgrown = [256, 512].map(|len| frames.acquire(len).unwrap());
        let page = frames.acquire(1024).unwrap();
        outgrown.into_iter().for_each(|frame| frames.recycle(frame));
        assert!(frames.acquire(1024).is_some());
        drop(page);
    }

    #[test]
    fn large_frames_begin_at_a_cache_line() {
        let frames = FramePool::new(1 << 20, 1 << 19);
        for len in [ALIGNED_MIN, 2 * ALIGNED_MIN, ALIGNED_MIN] {
            let mut frame = frames.acquire(len).unwrap();
            assert_eq!(frame.first_mut(1).as_ptr().align_offset(ALIGN), 0);
        }
    }
}
