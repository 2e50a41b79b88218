//! The frames of a pool: a budget, and free lists for recycling.
//!
//! Promises:
//!
//! - I2: charged bytes never pass the limit. A frame is charged before it is allocated.
//! - A recycled frame stays charged. If freeing recycled frames makes enough room for a request of another
//!   size, they are freed.
//! - While more is charged than the limit, frames are freed instead of recycled. Given memory
//!   is never recycled.
//! - What comes free, by a frame that is freed or recycled or by a new limit, is noted until
//!   [`take_freed`](FramePool::take_freed) says so.
//!
//! Held by: the tests below, `std-adapter/src/models.rs` (loom), `tests/tests/pool_memory.rs`.

use crate::memory::budget::{Budget, HighWater, Waiters, WatchedBudget};
use crate::memory::chunks::trim_process;
use crate::memory::frame::Frame;
use crate::memory::free_lists::FreeLists;
use crate::memory::given::{Given, Owner};
use crate::memory::page_frame::PageFrame;
use crate::memory::size_class::{class_within, size_class};
use crate::sync::{Arc, AtomicU64, Ordering};

/// How much room a pool has below its memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For a page, and an eighth of the limit beside it, where recycled frames count as room.
    Ample,
    Short,
    /// More is charged than the limit, which happens when the limit is lowered.
    Over,
}

/// Frames in use and free ones, of one pool.
#[derive(Debug)]
pub(crate) struct FramePool {
    budget: Arc<WatchedBudget>,
    /// The most bytes ever charged.
    high_water: HighWater,
    /// The highest limit so far, in bytes.
    limit_max: AtomicU64,
    page_size: usize,
    /// None if frames are freed instead of recycled.
    free_lists: Option<Box<FreeLists>>,
}

impl FramePool {
    pub(crate) fn new(limit: u64, page_size: usize) -> Self {
        FramePool { free_lists: Some(Box::default()), ..FramePool::without_recycling(limit, page_size) }
    }

    /// Frees frames instead of recycling them. For one buffer, which seldom needs a frame of a length that it
    /// outgrew, and has no others to leave it to.
    pub(crate) fn without_recycling(limit: u64, page_size: usize) -> Self {
        FramePool {
            budget: Arc::new(WatchedBudget::new(limit)),
            high_water: HighWater::default(),
            limit_max: AtomicU64::new(limit),
            page_size,
            free_lists: None,
        }
    }

    /// The same, and who waits for its memory.
    pub(crate) fn waited_for_by(self, waiters: Arc<dyn Waiters>) -> Self {
        self.budget.set_waiters(waiters);
        self
    }

    pub(crate) fn budget(&self) -> &Budget {
        self.budget.budget()
    }

    pub(crate) fn watched(&self) -> &WatchedBudget {
        &self.budget
    }

    /// Whether frames or room for them came free since the last call.
    #[inline]
    pub(crate) fn take_freed(&self) -> bool {
        self.budget.take_freed()
    }

    /// The length of the frame for `bytes` of a page; at most a page.
    pub(crate) fn class(&self, bytes: usize) -> usize {
        size_class(bytes, self.page_size)
    }

    /// The longest frame that is not longer than `bytes`; 0 if there is none.
    pub(crate) fn class_within(&self, bytes: usize) -> usize {
        class_within(bytes, self.page_size)
    }

    /// A frame of `len` bytes, which must be a [`class`](FramePool::class), with arbitrary bytes in it.
    /// `None` if the budget or the allocator refuses.
    pub(crate) fn acquire(&self, len: usize) -> Option<Frame> {
        debug_assert_eq!(len, self.class(len));
        if let Some(frame) = self.free_lists.as_ref().and_then(|lists| lists.pop(len)) {
            return Some(frame);
        }
        let charge = len as u64;
        let charged = self.budget().reserve(charge).or_else(|refused| {
            let missing = (refused.used + charge).saturating_sub(refused.limit);
            self.free_lists.as_ref().ok_or(refused)?.free_at_least(missing);
            // Try again even if nothing was freed here: another thread may have freed those frames.
            self.budget().reserve(charge)
        });
        self.high_water.note(charged.ok()?);
        Frame::allocate(len, &self.budget)
    }

    /// Whether there was memory for [`acquire`](FramePool::acquire) a moment ago. Costs a few loads where a
    /// request that is refused costs locks and atomic exchanges.
    #[inline]
    pub(crate) fn may_acquire(&self, len: usize) -> bool {
        let left = self.budget().limit().saturating_sub(self.budget().used());
        // The lists are looked at only where it matters: other threads change theirs with each page.
        left >= len as u64 || left.saturating_add(self.noted_bytes()) >= len as u64
    }

    /// As [`acquire`](FramePool::acquire), but leaves an eighth of the limit to others.
    pub(crate) fn acquire_if_ample(&self, len: usize) -> Option<Frame> {
        if let Some(frame) = self.free_lists.as_ref().and_then(|lists| lists.pop(len)) {
            return Some(frame);
        }
        let (limit, used) = (self.budget().limit(), self.budget().used());
        let is_ample = |used: u64| used + len as u64 <= limit - limit / 8;
        // Recycled frames of other lengths are in nobody's use.
        if is_ample(used) || is_ample(used.saturating_sub(self.noted_bytes())) {
            self.acquire(len)
        } else {
            None
        }
    }

    /// Charges `charge` bytes for memory that a caller gives, if an eighth of the limit is left then: given
    /// memory is no frame that the next page can use. Otherwise returns its owner.
    pub(crate) fn charge_given(&self, owner: Owner, charge: u64) -> Result<Arc<Given>, Owner> {
        let reserve = || self.budget().reserve_within(charge, |limit| limit - limit / 8);
        let charged = reserve().or_else(|refused| {
            let missing = refused.used.saturating_add(charge).saturating_sub(refused.limit);
            self.free_lists.as_ref().ok_or(refused)?.free_at_least(missing);
            reserve()
        });
        let Ok(sum) = charged else { return Err(owner) };
        self.high_water.note(sum);
        Given::new(owner, charge, &self.budget)
    }

    /// The most bytes ever charged.
    pub(crate) fn high_water(&self) -> u64 {
        self.high_water.get()
    }

    /// Changes the limit in bytes. Frees nothing.
    pub(crate) fn set_limit(&self, bytes: u64) {
        // Before the limit itself: what the new limit admits is never above `limit_max`.
        self.limit_max.fetch_max(bytes, Ordering::SeqCst);
        self.budget().set_limit(bytes);
        self.budget.note_freed();
    }

    /// The highest limit so far, in bytes.
    pub(crate) fn limit_max(&self) -> u64 {
        self.limit_max.load(Ordering::SeqCst)
    }

    /// Whether more is charged than the limit, which happens when the limit is lowered.
    pub(crate) fn is_over(&self) -> bool {
        self.over() > 0
    }

    /// How much room there is, from one look.
    #[inline]
    pub(crate) fn room(&self) -> Room {
        let (limit, used) = (self.budget().limit(), self.budget().used());
        let (needed, most) = (used + self.page_size as u64, limit - limit / 8);
        if used > limit {
            Room::Over
        } else if needed <= most || needed.saturating_sub(self.noted_bytes()) <= most {
            Room::Ample
        } else {
            Room::Short
        }
    }

    /// Bytes that are charged above the limit.
    pub(crate) fn over(&self) -> u64 {
        self.budget().used().saturating_sub(self.budget().limit())
    }

    /// Keeps `frame` for the next request for its length. Frees it if more is charged than the limit, and
    /// lets go of it if it is of given memory.
    pub(crate) fn recycle(&self, frame: impl Into<PageFrame>) {
        let Some(mut frame) = frame.into().into_own() else { return };
        frame.use_first(frame.capacity());
        self.recycle_all(std::iter::once(frame));
    }

    /// As [`recycle`](FramePool::recycle), all of `frames`, each of which may be used as a whole.
    pub(crate) fn recycle_all(&self, mut frames: impl Iterator<Item = Frame>) {
        while let Some(frame) = frames.next() {
            if let Some(lists) = self.free_lists.as_ref().filter(|_| !self.is_over()) {
                lists.push(std::iter::once(frame).chain(frames));
                // What lowers the limit meanwhile may have emptied the lists before.
                if self.is_over() {
                    lists.trim();
                }
                self.budget.note_freed();
                return;
            }
        }
    }

    /// Frees all recycled frames, and gives the memory that the process keeps warm back to the system.
    pub(crate) fn trim(&self) {
        self.free_lists.iter().for_each(|lists| lists.trim());
        trim_process();
    }

    /// Bytes that are to spare: recycled frames, and what the budget has left.
    #[cfg(feature = "tokio")]
    pub(crate) fn spare_bytes(&self) -> u64 {
        let budget = self.budget();
        budget.limit().saturating_sub(budget.used()).saturating_add(self.recycled_bytes())
    }

    /// Bytes of recycled frames a moment ago, without a lock.
    #[inline]
    fn noted_bytes(&self) -> u64 {
        self.free_lists.as_ref().map_or(0, |lists| lists.noted_bytes())
    }

    /// Bytes of recycled frames, which are charged but not in use.
    pub(crate) fn recycled_bytes(&self) -> u64 {
        self.free_lists.as_ref().map_or(0, |lists| lists.bytes())
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

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

    /// The frames that the first page outgrew were enough for a page only together with what was left of the
    /// budget. The code did not add the two up, so the next page found no memory.
    #[test]
    fn recycled_frames_make_room_together_with_what_is_left() {
        let frames = FramePool::new(2048, 1024);
        let outgrown = [256, 512].map(|len| frames.acquire(len).unwrap());
        let page = frames.acquire(1024).unwrap();
        outgrown.into_iter().for_each(|frame| frames.recycle(frame));
        assert!(frames.acquire(1024).is_some());
        drop(page);
    }
}
