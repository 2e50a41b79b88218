//! What stands between the writer of a spool and its readers, beside the content: how it ended, which readers
//! wait, and what all have consumed.
//!
//! Promises:
//!
//! - No reader waits for ever: one that waits is woken by the next bytes, by the end, and by the
//!   drop of the writer.
//! - While no reader waits, a write costs a fence and a load here.
//! - Bytes count as consumed only when every reader has said that it reads once, and the slowest of them is
//!   past them.
//! - Wakers run, and are dropped, with nothing locked.
//!
//! # Why no wake-up is lost
//!
//! A reader counts itself among those that wait, passes a full fence, and only then looks at the length.
//! The writer stores the length, passes a full fence, and reads the count. So at least one of the two
//! sees the other's store.
//!
//! Held by: `tests/tests/spool.rs`, `std-adapter/src/models/spool.rs` (loom).

use crate::error::SpillError;
use crate::foreign::{Wakers, drop_waker};
use crate::pager::content::Content;
use crate::sync::fork::Lock;
use crate::sync::{AtomicUsize, Condvar, Ordering, fences, spin_until, wait_until};
use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

/// How the writing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has not.
    Open,
    Finished,
    /// The writer has said why.
    Failed(String),
    Dropped,
}

#[derive(Debug)]
pub(crate) struct Feed {
    /// Readers that block or have a waker here. Written with the state locked, read without.
    waiting: AtomicUsize,
    state: Lock<State>,
    /// Signalled when the content has grown or ended.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    end: End,
    /// The readers, by their numbers.
    readers: BTreeMap<u64, Mark>,
    /// Positions, ascending, each with the number of readers that have consumed exactly the bytes before it.
    /// A reader that does not read once is counted at 0. There is room for a position of each reader.
    consumed: Vec<(u64, usize)>,
    /// The highest position that was ever said to be consumed by all: what lies before it may be gone.
    gone: u64,
    /// The number of the last reader that came: the first has 1.
    newest: u64,
    /// How many of the readers are jobs.
    jobs: usize,
}

/// What is known of a reader.
#[derive(Debug, Default)]
struct Mark {
    /// The end of what it has consumed; 0 unless it reads once.
    consumed: u64,
    reads_once: bool,
    /// It is no reader, but a job that reads for one, which may be gone.
    is_job: bool,
    waker: Option<Waker>,
}

impl Feed {
    pub(crate) fn new() -> Self {
        let (readers, consumed) = (BTreeMap::new(), Vec::new());
        let state = State { end: End::Open, readers, consumed, gone: 0, newest: 0, jobs: 0 };
        Feed { waiting: AtomicUsize::new(0), state: Lock::new(state), changed: Condvar::new() }
    }

    pub(crate) fn end(&self) -> Result<End, SpillError> {
        Ok(self.state.lock()?.end.clone())
    }

    /// Registers a reader. `consumed` is the end of what it has consumed if it reads once, and else `None`.
    /// Returns its number, and the first position that is certain to be kept for it.
    pub(crate) fn enter(&self, consumed: Option<u64>) -> (u64, u64) {
        let mark =
            Mark { consumed: consumed.unwrap_or(0), reads_once: consumed.is_some(), ..Mark::default() };
        self.register(mark)
    }

    /// Registers a job that reads from `from` on: what lies there is kept until it [leaves](Feed::leave). As
    /// a reader it does not count, so what the last one has not passed is kept as ever. Returns its number.
    #[cfg(feature = "tokio")]
    pub(crate) fn enter_job(&self, from: u64) -> u64 {
        self.register(Mark { consumed: from, reads_once: true, is_job: true, waker: None }).0
    }

    fn register(&self, mark: Mark) -> (u64, u64) {
        // Number 0 is nobody's.
        let Ok(mut state) = self.state.lock() else { return (0, 0) };
        state.newest += 1;
        let (number, consumed) = (state.newest, mark.consumed);
        state.jobs += usize::from(mark.is_job);
        state.readers.insert(number, mark);
        let more = state.readers.len().saturating_sub(state.consumed.len());
        state.consumed.reserve(more);
        state.note(consumed);
        (number, state.gone)
    }

    /// A reader is gone. Returns the end of what all others have consumed.
    pub(crate) fn leave(&self, number: u64) -> u64 {
        let (waker, consumed) = {
            let Ok(mut state) = self.state.lock() else { return 0 };
            let mark = state.readers.remove(&number);
            if let Some(mark) = &mark {
                state.forget(mark.consumed);
                state.jobs -= usize::from(mark.is_job);
            }
            let waker = mark.and_then(|mark| mark.waker);
            self.waiting.fetch_sub(usize::from(waker.is_some()), Ordering::Relaxed);
            (waker, state.consumed_by_all())
        };
        waker.into_iter().for_each(drop_waker);
        consumed
    }

    /// Notes that a reader that reads once has come to `position`. Returns the end of what all have consumed.
    pub(crate) fn note_consumed(&self, number: u64, position: u64) -> u64 {
        let Ok(mut state) = self.state.lock() else { return 0 };
        if let Some(mark) = state.readers.get_mut(&number) {
            let before = std::mem::replace(&mut mark.consumed, position);
            mark.reads_once = true;
            state.forget(before);
            state.note(position);
        }
        state.consumed_by_all()
    }

    /// Whether there is a reader. True in a forked process that cannot look.
    pub(crate) fn has_readers(&self) -> bool {
        self.state.lock().map_or(true, |state| state.has_readers())
    }

    /// The position from which all is kept, as the readers are now: there is none, or one that does not read
    /// once. `None` if what they pass is freed.
    #[cfg(feature = "http-body")]
    pub(crate) fn kept_from(&self) -> Option<u64> {
        let state = self.state.lock().ok()?;
        let mut readers = state.readers.values();
        (!state.has_readers() || readers.any(|reader| !reader.reads_once)).then_some(state.gone)
    }

    /// Tells those that wait that the content has grown. To be called once its length is stored.
    #[inline]
    pub(crate) fn grown(&self) {
        fences::full();
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.tell(|_| ());
        }
    }

    /// Ends the writing, once, and tells those that wait.
    pub(crate) fn finish(&self, end: End) {
        self.tell(|state| {
            if state.end == End::Open {
                state.end = end;
            }
        });
    }

    #[cold]
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut wakers = Wakers::default();
        let mut next = {
            let Ok(mut state) = self.state.lock() else { return };
            change(&mut state);
            state.take_wakers(0, &mut wakers)
        };
        self.changed.notify_all();
        loop {
            self.waiting.fetch_sub(wakers.len(), Ordering::Relaxed);
            std::mem::take(&mut wakers).wake_all();
            let Some(from) = next else { return };
            let Ok(mut state) = self.state.lock() else { return };
            next = state.take_wakers(from, &mut wakers);
        }
    }

    /// Blocks while `content` ends at `position` and may grow. Returns false if the deadline has passed
    /// before. An error in a forked process, where nobody writes.
    pub(crate) fn wait(
        &self,
        content: &Content,
        position: u64,
        deadline: Option<Instant>,
    ) -> Result<bool, SpillError> {
        if spin_until(|| content.len() > position) {
            return Ok(true);
        }
        let mut state = self.state.lock()?;
        if self.state.is_inherited() {
            return Err(SpillError::Forked);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut in_time = true;
        loop {
            fences::full();
            let has_more = content.len() > position || state.end != End::Open;
            if has_more || !in_time {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                return Ok(has_more);
            }
            (state, in_time) = wait_until(&self.changed, state, deadline);
        }
    }

    /// Whether `content` reaches beyond `position` or has ended. Otherwise `waker` is called when it does.
    pub(crate) fn poll(&self, content: &Content, number: u64, position: u64, waker: &Waker) -> bool {
        // Clone the waker, and drop its predecessor, outside the lock: both run foreign code.
        let mut waker = Some(waker.clone());
        let Ok(mut state) = self.state.lock() else { return true };
        let is_open = state.end == End::Open && !self.state.is_inherited();
        let Some(mark) = state.readers.get_mut(&number).filter(|_| is_open) else { return true };
        std::mem::swap(&mut mark.waker, &mut waker);
        if waker.is_none() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        fences::full();
        let has_more = content.len() > position;
        let unneeded = if has_more { mark.waker.take() } else { None };
        self.waiting.fetch_sub(usize::from(unneeded.is_some()), Ordering::Relaxed);
        drop(state);
        has_more
    }
}

impl State {
    /// Takes the wakers of readers from number `from` on. Returns the number to go on with, if there
    /// was no room for more.
    fn take_wakers(&mut self, from: u64, wakers: &mut Wakers) -> Option<u64> {
        for (number, mark) in self.readers.range_mut(from..) {
            if wakers.is_full() {
                return Some(*number);
            }
            wakers.add(mark.waker.take());
        }
        None
    }

    fn has_readers(&self) -> bool {
        self.readers.len() > self.jobs
    }

    /// The end of what all readers have consumed: 0 unless there are some, and all of them read once.
    fn consumed_by_all(&mut self) -> u64 {
        if !self.has_readers() {
            return 0;
        }
        let consumed = self.consumed.first().map_or(0, |(position, _)| *position);
        self.gone = self.gone.max(consumed);
        consumed
    }

    /// Counts a reader that has consumed everything before `position`.
    fn note(&mut self, position: u64) {
        match self.consumed.binary_search_by_key(&position, |(position, _)| *position) {
            Ok(at) => self.consumed[at].1 += 1,
            Err(at) => self.consumed.insert(at, (position, 1)),
        }
    }

    /// Counts off a reader that was counted at `position`.
    fn forget(&mut self, position: u64) {
        if let Ok(at) = self.consumed.binary_search_by_key(&position, |(position, _)| *position) {
            self.consumed[at].1 -= 1;
            if self.consumed[at].1 == 0 {
                self.consumed.remove(at);
            }
        }
    }
}
