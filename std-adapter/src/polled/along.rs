//! What jobs move for a sequential pass of a polled buffer, which stays at home and goes on meanwhile: pages
//! that a reader comes to, and pages that a writer has filled.
//!
//! Two jobs at most are under way, of which the second follows the first on the same thread. With
//! one the thread paused after each, until the loop had begun the next: reading took a half longer,
//! and writing a fifth.
//!
//! Promises:
//!
//! - What comes is waited for before anything else is done to the buffer but reading, and what goes before
//!   anything but reading and writing; both by an operation that finds no bytes, or no room.
//! - If a job fails, or no runtime runs it, the operation that needs it has a job of its own,
//!   and gets its error.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::buffer::SpillBuffer;
use crate::foreign::{Wakers, hold_back, wake};
use crate::pager::along::Coming;
use crate::polled::runtime::Poller;
use crate::pool::departure::Departure;
use crate::pool::offload::Pending;
use crate::sync::fork::Lock;
use crate::sync::{Arc, try_arc};
use std::task::{Poll, ready};

/// What a pass does, and so what is moved for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Reading,
    Writing,
}

/// A pass is probably long once it has come to so many pages, one behind the other. One that began within a
/// page may end in the next.
const LONG_PASS: u64 = 3;

#[derive(Default)]
pub(crate) struct Along {
    /// In the order in which they run.
    jobs: [Option<(Pass, Pending<Moving, ()>)>; 2],
    /// The end of the pages that come.
    end: u64,
    /// The page of the operation that last looked what to begin.
    looked: Option<u64>,
    /// Pages one behind the other in which operations looked, this one included.
    looked_in_row: u64,
    heir: Option<Arc<Heir>>,
}

/// Pages that a job moves. If their buffer's handle is dropped meanwhile they inherit it, so that their slots
/// are not freed while they are used.
struct Moving {
    pages: Option<Pages>,
    heir: Arc<Heir>,
}

enum Pages {
    Coming(Coming),
    Going(Departure),
}

type Heir = Lock<Inheritance>;

#[derive(Default)]
struct Inheritance {
    /// Jobs that move pages of the buffer.
    jobs: usize,
    /// For the last of them.
    buffer: Option<SpillBuffer>,
}

impl Moving {
    fn run(&mut self) {
        match &mut self.pages {
            Some(Pages::Coming(coming)) => coming.run(),
            Some(Pages::Going(going)) => going.run(),
            None => {}
        }
    }

    fn give_to(mut self, buffer: &mut SpillBuffer) {
        self.pages.take().into_iter().for_each(|pages| pages.give_to(buffer));
    }
}

impl Pages {
    fn give_to(self, buffer: &mut SpillBuffer) {
        match self {
            Pages::Coming(coming) => buffer.pager.take_in(coming),
            Pages::Going(going) => buffer.pager.settle_departed(going),
        }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let held_back = hold_back();
        let inherited = self.heir.lock().ok().and_then(|mut heir| {
            if let (Some(buffer), Some(pages)) = (&mut heir.buffer, self.pages.take()) {
                pages.give_to(buffer);
            }
            heir.jobs -= 1;
            if heir.jobs == 0 { heir.buffer.take() } else { None }
        });
        drop(held_back);
        drop(inherited);
    }
}

impl Along {
    pub(crate) fn is_moving(&self) -> bool {
        self.jobs[0].is_some()
    }

    /// Before or after an operation of a `pass` of `buffer` at `position`: begins to move what it comes to or
    /// has left, if it has entered another page.
    pub(crate) fn go_on(&mut self, pass: Pass, buffer: &mut SpillBuffer, position: u64, poller: Poller<'_>) {
        let index = position / buffer.pager.pool.page_size as u64;
        let looked = self.looked.replace(index);
        if looked == Some(index) {
            return;
        }
        let goes_on = looked.and_then(|looked| looked.checked_add(1)) == Some(index);
        self.looked_in_row = if goes_on { self.looked_in_row + 1 } else { 1 };
        while let Some((moving, waker)) = self.jobs[0].as_mut().and_then(|(_, job)| job.take_if_done()) {
            moving.give_to(buffer);
            self.follow(poller);
            wake(waker); // another task waits for what is here now
        }
        let is_other = self.jobs[0].as_ref().is_some_and(|(other, _)| *other != pass);
        if is_other || self.jobs[1].is_some() {
            return;
        }
        let from = if self.is_moving() { self.end } else { 0 };
        let pages = match pass {
            Pass::Reading if self.looked_in_row < LONG_PASS => None,
            Pass::Reading => buffer.pager.let_come(index, from).map(Pages::Coming),
            Pass::Writing => buffer.pager.let_go(index, position).map(Pages::Going),
        };
        if let Some(pages) = pages {
            self.begin(pass, pages, buffer, poller);
        }
    }

    fn begin(&mut self, pass: Pass, pages: Pages, buffer: &mut SpillBuffer, poller: Poller<'_>) {
        let end = if let Pages::Coming(coming) = &pages { coming.end() } else { 0 };
        if self.heir.is_none() {
            self.heir = try_arc(Heir::default());
        }
        let Some(heir) = self.heir.clone().filter(|heir| heir.lock().map(|mut heir| heir.jobs += 1).is_ok())
        else {
            return pages.give_to(buffer);
        };
        let moving = Moving { pages: Some(pages), heir };
        let submitted = buffer.pager.pool.offload().clone().submit(moving, Moving::run);
        match submitted {
            Ok(job) => {
                poller.begin(&job, self.is_moving());
                self.end = end;
                let free = usize::from(self.is_moving());
                self.jobs[free] = Some((pass, job));
            }
            Err(moving) => moving.give_to(buffer),
        }
    }

    /// Waits until the first job under way has ended. Ready with false if there is none. If the page of
    /// `position` is to leave, jobs that have not begun are taken back instead: it is still in memory.
    pub(crate) fn poll_first(
        &mut self,
        buffer: &mut SpillBuffer,
        poller: Poller<'_>,
        position: u64,
    ) -> Poll<bool> {
        let needs_page = self.is_moving() && buffer.pager.is_in_transit(position);
        if needs_page && self.take_back(buffer, Some(Pass::Reading)) {
            return Poll::Ready(true);
        }
        self.poll_first_in_line(buffer, poller)
    }

    fn poll_first_in_line(&mut self, buffer: &mut SpillBuffer, poller: Poller<'_>) -> Poll<bool> {
        let Some((_, job)) = &mut self.jobs[0] else { return Poll::Ready(false) };
        if let Ok((moving, _)) = ready!(poller.poll_job(job)) {
            moving.give_to(buffer);
        }
        self.follow(poller);
        Poll::Ready(true)
    }

    /// Makes the second job the first, which has ended.
    fn follow(&mut self, poller: Poller<'_>) {
        self.jobs = [self.jobs[1].take(), None];
        if let Some((_, next)) = &self.jobs[0] {
            poller.begin(next, true);
        }
    }

    /// Waits until nothing is under way, or only what is for `but`. What has not begun does not: its task may
    /// wait for this buffer.
    pub(crate) fn poll_all(
        &mut self,
        buffer: &mut SpillBuffer,
        poller: Poller<'_>,
        but: Option<Pass>,
    ) -> Poll<()> {
        self.take_back(buffer, but);
        while self.jobs.iter().flatten().any(|(pass, _)| Some(*pass) != but) {
            ready!(self.poll_first_in_line(buffer, poller));
        }
        Poll::Ready(())
    }

    /// Takes back what has not begun to move. Returns false if some has.
    pub(crate) fn forget(&mut self, buffer: &mut SpillBuffer) -> bool {
        self.take_back(buffer, None);
        !self.is_moving()
    }

    /// Takes back what has not begun to move, or has ended, but for what is for `but`.
    /// Returns whether it took any.
    fn take_back(&mut self, buffer: &mut SpillBuffer, but: Option<Pass>) -> bool {
        let (mut wakers, mut is_any) = (Wakers::default(), false);
        for job in self.jobs.iter_mut().rev() {
            let other = job.as_mut().filter(|(pass, _)| Some(*pass) != but);
            if let Some(moving) = other.and_then(|(_, job)| job.take_back()) {
                wakers.add(job.take().and_then(|(_, mut job)| job.leave().1));
                moving.give_to(buffer);
                is_any = true;
            }
        }
        if self.jobs[0].is_none() {
            self.jobs.swap(0, 1); // the first had ended, and the second runs
        }
        wakers.wake_all(); // other tasks wait for what was taken back, and have to look again
        is_any
    }

    /// Leaves `buffer`, whose handle is dropped, to a job that moves pages of it, if there is one.
    pub(crate) fn leave(mut self, buffer: &mut Option<SpillBuffer>) {
        if buffer.as_mut().is_none_or(|buffer| self.forget(buffer)) {
            return;
        }
        if let Some(Ok(mut heir)) = self.heir.as_ref().map(|heir| heir.lock()) {
            heir.buffer = buffer.take();
        }
    }
}
