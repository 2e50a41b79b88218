//! Frames that nobody uses, kept for who needs one of their length: the pool's free lists.
//!
//! They are a few, and each thread has one of them first: what a thread gave back itself is still in its core's cache,
//! where that of another thread is the more expensive to use the larger it is. Only then it takes from the others, before
//! anything new is allocated. With one list for all, two threads that made and dropped buffers of a pool got 1.4 times
//! as much done as one; with these 1.8.

use crate::memory::frame::Frame;
use crate::memory::size_class::class_index;
use crate::sync::{Mutex, lock, thread_number};

/// A pool for one buffer pays for each of them too. loom has enough with two.
const LISTS: usize = if cfg!(overspill_loom) { 2 } else { 4 };

#[derive(Debug, Default)]
pub(crate) struct FreeLists {
    lists: [Mutex<List>; LISTS],
}

impl FreeLists {
    /// A frame of `len` bytes, with anything in it.
    pub(crate) fn pop(&self, len: usize) -> Option<Frame> {
        self.own_first().find_map(|list| lock(list).pop(len))
    }

    pub(crate) fn push(&self, frame: Frame) {
        lock(&self.lists[thread_number() % LISTS]).push(frame);
    }

    /// Frees at least `bytes`, the largest frames of each list first, or nothing if there are not so many. Another thread
    /// may do the same meanwhile.
    pub(crate) fn free_at_least(&self, bytes: u64) {
        let mut wanted = bytes;
        if self.bytes() >= bytes {
            self.own_first()
                .for_each(|list| wanted = wanted.saturating_sub(lock(list).free_at_least(wanted)));
        }
    }

    /// Frees all.
    pub(crate) fn trim(&self) {
        for list in &self.lists {
            let frames = std::mem::take(&mut *lock(list));
            drop(frames); // not while the list is locked
        }
    }

    /// The capacity of all frames together.
    pub(crate) fn bytes(&self) -> u64 {
        self.lists.iter().map(|list| lock(list).bytes).sum()
    }

    /// All lists, that of this thread first.
    fn own_first(&self) -> impl Iterator<Item = &Mutex<List>> {
        let (others, own) = self.lists.split_at(thread_number() % LISTS);
        own.iter().chain(others)
    }
}

#[derive(Debug, Default)]
struct List {
    /// By [`class_index`] of their capacity.
    classes: Vec<Vec<Frame>>,
    /// The capacity of all of them together.
    bytes: u64,
}

impl List {
    fn pop(&mut self, len: usize) -> Option<Frame> {
        let frame = self.classes.get_mut(class_index(len))?.pop()?;
        self.bytes -= len as u64;
        Some(frame)
    }

    fn push(&mut self, frame: Frame) {
        let class = class_index(frame.capacity());
        if self.classes.len() <= class {
            self.classes.resize_with(class + 1, Vec::new);
        }
        self.bytes += frame.capacity() as u64;
        self.classes[class].push(frame);
    }

    /// Frees at least `bytes`, if there are as many, the largest frames first, and says how many.
    fn free_at_least(&mut self, bytes: u64) -> u64 {
        let mut shed = 0;
        for class in self.classes.iter_mut().rev() {
            while shed < bytes
                && let Some(frame) = class.pop()
            {
                shed += frame.capacity() as u64;
            }
        }
        self.bytes -= shed;
        shed
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::frame_pool::FramePool;

    const LEN: usize = 8;

    fn marked(frames: &FramePool, mark: u8) -> Frame {
        let mut frame = frames.acquire(LEN).unwrap();
        frame.first_mut(1)[0] = mark;
        frame
    }

    /// Runs `f` in a thread that has another list than this one.
    fn elsewhere(f: impl Fn() + Send + Sync) {
        let here = thread_number() % LISTS;
        let run = || {
            let is_elsewhere = thread_number() % LISTS != here;
            if is_elsewhere {
                f();
            }
            is_elsewhere
        };
        while !std::thread::scope(|scope| scope.spawn(run).join().unwrap()) {}
    }

    #[test]
    fn a_thread_gets_its_own_frames_first_and_those_of_others_before_new_ones() {
        let frames = FramePool::new(1 << 10, LEN);
        let (theirs, ours) =
            ([1, 2].map(|mark| marked(&frames, mark)), [3, 4].map(|mark| marked(&frames, mark)));
        let theirs = Mutex::new(Vec::from(theirs));
        elsewhere(|| lock(&theirs).drain(..).for_each(|frame| frames.recycle(frame)));
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
        elsewhere(|| lock(&theirs).drain(..).for_each(|frame| frames.recycle(frame)));
        assert!(frames.acquire(1024).is_none(), "one half is in use");
        assert_eq!(frames.recycled_bytes(), 512, "and the other is not given up in vain");
        frames.recycle(ours);
        assert!(frames.acquire(1024).is_some());
        assert_eq!((frames.recycled_bytes(), frames.budget().used()), (0, 0));
    }

    #[test]
    fn what_is_freed_to_make_room_is_no_more_than_it_takes_the_largest_first() {
        let lists = FreeLists::default();
        let frames = FramePool::new(1 << 20, 1024);
        [256, 512, 1024, 512].map(|len| frames.acquire(len).unwrap()).into_iter().for_each(|f| lists.push(f));
        let left = [2305, 0, 1, 1024].map(|bytes| {
            lists.free_at_least(bytes);
            lists.bytes()
        });
        assert_eq!(left, [2304, 2304, 1280, 256], "there are not so many; none; that of 1024; both of 512");
        lists.trim();
        assert_eq!((lists.bytes(), frames.budget().used()), (0, 0));
    }
}
