//! The free lists of a pool: frames that no buffer uses, kept for recycling.
//!
//! There are a few lists, and each thread starts at one of them. A frame that the thread recycled itself is
//! still in its core's cache; the larger a frame from another thread is, the more its first use costs. If the
//! thread's own list has no frame of the length, the other lists are tried before anything is allocated. With
//! one list for all, two threads that made and dropped buffers of a pool did 1.4 times the work of one; with
//! these lists, 1.8 times.
//!
//! Promises:
//!
//! - A frame in a list stays charged, and is handed out once.
//! - Nothing is freed for a request that would be refused all the same.
//!
//! Held by: the tests below, `std-adapter/src/models.rs` (loom).

use crate::memory::frame::Frame;
use crate::memory::size_class::class_index;
use crate::sync::fork::Lock;
use crate::sync::{AtomicU64, Ordering, thread_number};

/// A few: all are looked through before anything is allocated. Two are enough for the models.
const LISTS: usize = if cfg!(overspill_loom) { 2 } else { 4 };

#[derive(Debug, Default)]
pub(crate) struct FreeLists {
    lists: [FreeList; LISTS],
}

/// Has its cache lines for itself: processors fetch two at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct FreeList {
    list: Lock<List>,
    /// The sum of its capacities when the list was last unlocked.
    bytes: AtomicU64,
}

impl FreeList {
    /// Runs `f` on the list; `None` if the list is lost.
    fn with<R>(&self, f: impl FnOnce(&mut List) -> R) -> Option<R> {
        let Ok(mut list) = self.list.lock() else {
            self.bytes.store(0, Ordering::Relaxed); // no call looks for them again
            return None;
        };
        let result = f(&mut list);
        self.bytes.store(list.bytes, Ordering::Relaxed);
        Some(result)
    }

    /// The sum of its capacities a moment ago, without the lock.
    #[inline]
    fn noted_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl FreeLists {
    /// A frame of `len` bytes, with arbitrary bytes in it. While memory is short the lists are empty, and
    /// each need of a page asks: so a list that had less than `len` when it was last unlocked is not locked.
    pub(crate) fn pop(&self, len: usize) -> Option<Frame> {
        let own = thread_number() % LISTS;
        (own..own + LISTS).find_map(|at| {
            let list = &self.lists[at % LISTS];
            if list.noted_bytes() >= len as u64 { list.with(|list| list.pop(len)).flatten() } else { None }
        })
    }

    /// Keeps `frames`. Frees those that there is no memory to note.
    pub(crate) fn push(&self, mut frames: impl Iterator<Item = Frame>) {
        let unkept =
            self.lists[thread_number() % LISTS].with(|list| frames.find_map(|frame| list.push(frame)));
        drop(unkept); // after the list is unlocked
        frames.for_each(drop);
    }

    /// Frees at least `bytes`, the largest frames of each list first. Frees nothing if all lists together
    /// have less. Another thread may take frames meanwhile, and then less is freed.
    pub(crate) fn free_at_least(&self, bytes: u64) {
        let mut missing = bytes;
        if self.noted_bytes() >= bytes && self.bytes() >= bytes {
            for list in self.own_first() {
                // One at a time: freeing may call the system, and so is done after the list is unlocked.
                while missing > 0
                    && let Some(frame) = list.with(List::pop_largest).flatten()
                {
                    missing = missing.saturating_sub(frame.capacity() as u64);
                }
            }
        }
    }

    /// Frees all frames.
    pub(crate) fn trim(&self) {
        for list in &self.lists {
            let frames = list.with(std::mem::take);
            drop(frames); // after the list is unlocked
        }
    }

    /// The sum of the capacities of all frames.
    pub(crate) fn bytes(&self) -> u64 {
        self.lists.iter().filter_map(|list| list.with(|list| list.bytes)).sum()
    }

    /// The same without a lock: what it was a moment ago.
    #[inline]
    pub(crate) fn noted_bytes(&self) -> u64 {
        self.lists.iter().map(FreeList::noted_bytes).sum()
    }

    /// All lists, beginning with this thread's.
    fn own_first(&self) -> impl Iterator<Item = &FreeList> {
        let (others, own) = self.lists.split_at(thread_number() % LISTS);
        own.iter().chain(others)
    }
}

#[derive(Debug, Default)]
struct List {
    /// By [`class_index`] of the capacity.
    classes: Vec<Vec<Frame>>,
    /// The sum of the capacities.
    bytes: u64,
}

impl List {
    fn pop(&mut self, len: usize) -> Option<Frame> {
        let frame = self.classes.get_mut(class_index(len))?.pop()?;
        self.bytes -= len as u64;
        Some(frame)
    }

    /// Returns the frame if there is no memory to note it.
    fn push(&mut self, frame: Frame) -> Option<Frame> {
        let class = class_index(frame.capacity());
        if self.classes.len() <= class {
            if self.classes.try_reserve(class + 1 - self.classes.len()).is_err() {
                return Some(frame);
            }
            self.classes.resize_with(class + 1, Vec::new);
        }
        let frames = &mut self.classes[class];
        if frames.try_reserve(1).is_err() {
            return Some(frame);
        }
        self.bytes += frame.capacity() as u64;
        frames.push(frame);
        None
    }

    /// The longest frame.
    fn pop_largest(&mut self) -> Option<Frame> {
        let frame = self.classes.iter_mut().rev().find_map(Vec::pop)?;
        self.bytes -= frame.capacity() as u64;
        Some(frame)
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::frame_pool::FramePool;
    use crate::sync::{Mutex, in_thread_with, lock};

    const LEN: usize = 8;

    fn marked(frames: &FramePool, mark: u8) -> Frame {
        let mut frame = frames.acquire(LEN).unwrap();
        frame.first_mut(1)[0] = mark;
        frame
    }

    /// Runs `f` in a thread that starts at another list than this one.
    fn with_another_list(f: impl Fn() + Send + Sync) {
        let own = thread_number() % LISTS;
        in_thread_with(&|number| number % LISTS != own, f);
    }

    #[test]
    fn a_thread_gets_its_own_frames_first_then_those_of_others_then_new_ones() {
        let frames = FramePool::new(1 << 10, LEN);
        let (theirs, ours) =
            ([1, 2].map(|mark| marked(&frames, mark)), [3, 4].map(|mark| marked(&frames, mark)));
        let theirs = Mutex::new(Vec::from(theirs));
        with_another_list(|| lock(&theirs).drain(..).for_each(|frame| frames.recycle(frame)));
        ours.into_iter().for_each(|frame| frames.recycle(frame));
        assert_eq!(frames.recycled_bytes(), 4 * LEN as u64);
        let found: Vec<_> = (0..5).map(|_| frames.acquire(LEN).unwrap()).collect();
        let marks: Vec<_> = found.iter().map(|frame| frame.bytes().first().copied()).collect();
        assert_eq!(marks, [Some(4), Some(3), Some(2), Some(1), None]);
        assert_eq!((frames.recycled_bytes(), frames.budget().used()), (0, 5 * LEN as u64));
    }

    #[test]
    fn frames_of_all_threads_make_room_together() {
        let frames = FramePool::new(1024, 1024);
        let theirs = Mutex::new(vec![frames.acquire(512).unwrap()]);
        let ours = frames.acquire(512).unwrap();
        with_another_list(|| lock(&theirs).drain(..).for_each(|frame| frames.recycle(frame)));
        assert!(frames.acquire(1024).is_none(), "one half is in use");
        assert_eq!(frames.recycled_bytes(), 512, "and freeing the other would not be enough");
        frames.recycle(ours);
        assert!(frames.acquire(1024).is_some());
        assert_eq!((frames.recycled_bytes(), frames.budget().used()), (0, 0));
    }

    #[test]
    fn the_largest_frames_are_freed_first_and_no_more_than_needed() {
        let lists = FreeLists::default();
        let frames = FramePool::new(1 << 20, 1024);
        [256, 512, 1024, 512]
            .map(|len| frames.acquire(len).unwrap())
            .into_iter()
            .for_each(|frame| lists.push(std::iter::once(frame)));
        let left = [2305, 0, 1, 1024].map(|bytes| {
            lists.free_at_least(bytes);
            lists.bytes()
        });
        assert_eq!(left, [2304, 2304, 1280, 256], "too few, so none; none; that of 1024; both of 512");
        lists.trim();
        assert_eq!((lists.bytes(), frames.budget().used()), (0, 0));
    }

    /// In a forked process, the frames of a lost list were looked for at each need of memory, and nothing
    /// else was freed for it.
    #[test]
    fn a_lost_list_has_no_frames() {
        let list = FreeList { list: Lock::lost(List::default()), bytes: AtomicU64::new(100) };
        let lists =
            FreeLists { lists: [list, FreeList::default(), FreeList::default(), FreeList::default()] };
        assert!(lists.pop(LEN).is_none());
        assert_eq!((lists.noted_bytes(), lists.bytes()), (0, 0));
    }
}
