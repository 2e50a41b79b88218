//! Work off the event loop: what needs the store runs on threads that may block, a few for each pool.
//!
//! Promises:
//!
//! - At most [`TASKS_MAX`] tasks of a pool run, and as many of each runtime are about to, whatever the number
//!   of buffers. Further jobs queue, and a task runs one after another until there is none.
//! - A waiter counts on tasks that run, or that its own runtime is about to begin: the threads of another may
//!   all be taken, for ever.
//! - A job carries what it works on, its subject, and gives it back. Nothing else has a
//!   reference to it meanwhile.
//! - No subject is lost: a job that was not begun gives it back when its waiter [takes](Pending::take_back)
//!   it, and drops it with its waiter. One that runs when its waiter is dropped runs to its end, and drops it
//!   then. So neither the queue nor a task keeps a subject whose waiter is gone, and the pool, which a
//!   subject refers to, is not kept by its own queue. A job whose subject came back leaves the queue.
//! - A task runs a bounded number of jobs, after which the waiters start another: so a runtime that is shut
//!   down does not go on with the jobs of others.
//! - A runtime that is shut down may drop tasks that it has not begun. The next poll of any waiter starts
//!   another one in the runtime of that waiter, and all waiters are woken for that. If that runtime takes no
//!   tasks either, the waiter gets its subject back and [`NotRun::ShutDown`].
//! - Wakers run, and are dropped, with nothing locked.
//! - A process that was forked once the pool was made runs no jobs of it: it has none of the threads. What
//!   was queued at that moment comes back there with [`NotRun::Forked`], and what a job was working on never
//!   does: see [`Pending::is_lost`].
//!
//! The queue knows of a runtime its number: the code that polls a waiter brings that and a function that
//! starts a task, which calls [`Drain::run`] on a thread that may block, or drops it.
//!
//! Held by: `std-adapter/src/pool/offload/tests.rs`, `tests/tests/async_buffer/`,
//! `std-adapter/src/models/offload.rs` (loom).

#[cfg(feature = "tokio")]
use crate::error::SpillError;
use crate::foreign::{contained, drop_waker};
use crate::sync::fork::{Forked, Lock};
use crate::sync::{Arc, MutexGuard, try_arc};
use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};

/// Tasks of one pool at once. More would wait for the same disk, and take threads from the
/// rest of the program.
pub(crate) const TASKS_MAX: usize = if cfg!(overspill_loom) { 1 } else { 4 };

/// Jobs that a task runs. All waiters are woken then, so not too few.
const JOBS_MAX: usize = 256;

/// The jobs of one pool.
pub(crate) struct Offload {
    queue: Lock<Queue>,
    /// Jobs that a task runs.
    share: usize,
}

struct Queue {
    jobs: VecDeque<Arc<dyn Run>>,
    /// Tasks that run.
    running: usize,
    /// Tasks that were started and have not begun to run: the runtime of each.
    starting: Vec<u64>,
    /// How many were dropped in place of being run.
    dropped: u64,
}

/// Which task a job needs, to be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// One of its own.
    Own,
    /// Any: it follows another job, and nothing waits for it.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code))]
    Any,
}

/// A job, whatever it works on.
trait Run: Send + Sync {
    /// Does the work, unless the subject was taken back, and wakes the waiter.
    fn run(&self);

    fn wake(&self);
}

/// Why a job was not done. The subject is as it was, or as the panic has left it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotRun {
    /// The runtime takes no tasks any more.
    ShutDown,
    /// This process was forked from the one that has queued it.
    Forked,
    /// The work has panicked, with this message.
    Panicked(String),
}

struct Job<T, R> {
    work: fn(&mut T) -> R,
    state: Lock<State<T, R>>,
}

struct State<T, R> {
    /// `None` while the work runs, and once it was taken back.
    subject: Option<T>,
    result: Option<Result<R, String>>,
    waker: Option<Waker>,
    /// The waiter is gone: what the work leaves is dropped by its task.
    is_left: bool,
}

/// The waiter of a job.
pub(crate) struct Pending<T: Send + 'static, R: Send + 'static> {
    offload: Arc<Offload>,
    job: Arc<Job<T, R>>,
}

impl Offload {
    pub(crate) fn new() -> Self {
        Offload::with_share(JOBS_MAX)
    }

    /// With tasks that run so many jobs each.
    pub(crate) fn with_share(share: usize) -> Self {
        Offload {
            share,
            queue: Lock::new(Queue { jobs: VecDeque::new(), running: 0, starting: Vec::new(), dropped: 0 }),
        }
    }

    /// Queues `work` on `subject`. It begins once the result is [polled](Pending::poll). Returns the subject
    /// if there is no memory, or in a forked process: see [`refusal`](Offload::refusal).
    pub(crate) fn submit<T, R>(
        self: &Arc<Self>,
        subject: T,
        work: fn(&mut T) -> R,
    ) -> Result<Pending<T, R>, T>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let state = State { subject: None, result: None, waker: None, is_left: false };
        let Some(job) = try_arc(Job { work, state: Lock::new(state) }) else { return Err(subject) };
        {
            let Ok(mut queue) = self.queue() else { return Err(subject) };
            if queue.jobs.try_reserve(1).is_err() {
                return Err(subject);
            }
            match job.state.lock() {
                Ok(mut state) => state.subject = Some(subject),
                Err(Forked) => return Err(subject),
            }
            queue.jobs.push_back(Arc::clone(&job) as Arc<dyn Run>);
        }
        Ok(Pending { offload: Arc::clone(self), job })
    }

    /// Starts a task by `spawn`, in `runtime`, if there are more jobs than tasks that are about to
    /// begin there, and a job `needs` one. Returns false if there is no task to wait for, and none
    /// has woken the waiters.
    fn start(self: &Arc<Self>, runtime: u64, spawn: &dyn Fn(Drain), needs: Needs) -> bool {
        let dropped = {
            let Ok(mut queue) = self.queue() else { return false };
            let (starting, coming) = (queue.starting_in(runtime), queue.coming(runtime));
            let may_start = match needs {
                Needs::Own => coming < TASKS_MAX,
                Needs::Any => coming == 0,
            };
            let is_due = queue.jobs.len() > starting && may_start;
            if !is_due || queue.starting.try_reserve(1).is_err() {
                // In one look: a task that is gone by the next one may have left a job to begin one for.
                return coming > 0;
            }
            queue.starting.push(runtime);
            queue.dropped
        };
        spawn(Drain { offload: Arc::clone(self), runtime, is_started: false });
        // It may have ended already, with jobs of others.
        self.queue().is_ok_and(|queue| queue.coming(runtime) > 0 || queue.dropped == dropped)
    }

    /// The queue. A forked process has none of the tasks of its parent: it runs no jobs, and those that were
    /// queued give back what they work on.
    fn queue(&self) -> Result<MutexGuard<'_, Queue>, Forked> {
        let queue = self.queue.lock()?;
        if self.queue.is_inherited() { Err(Forked) } else { Ok(queue) }
    }

    /// Why [`submit`](Offload::submit) has returned the subject.
    #[cfg(feature = "tokio")]
    pub(crate) fn refusal(&self) -> SpillError {
        if self.queue.is_inherited() { SpillError::Forked } else { SpillError::OutOfMemory }
    }

    /// The next job, for a task that runs. Without one the task has ended.
    fn next(&self) -> Option<Arc<dyn Run>> {
        let mut queue = self.queue().ok()?;
        let next = queue.jobs.pop_front();
        if next.is_none() {
            queue.running -= 1;
        }
        next
    }

    /// Removes a job that no task will run.
    fn forget(&self, job: *const ()) {
        if let Ok(mut queue) = self.queue() {
            let at = queue.jobs.iter().position(|other| std::ptr::addr_eq(Arc::as_ptr(other), job));
            at.and_then(|at| queue.jobs.remove(at));
        }
    }

    /// Wakes all tasks that wait for a job that is queued.
    fn wake_queued(&self) {
        let mut at = self.queue().map_or(0, |queue| queue.jobs.len());
        // One at a time, since wakers may not run with the queue locked; the last first, so that none is
        // missed when others leave.
        while at > 0 {
            at -= 1;
            let job = { self.queue().ok().and_then(|queue| queue.jobs.get(at).cloned()) };
            if let Some(job) = job {
                job.wake();
            }
        }
    }

    /// Tasks that were started and have not ended.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> usize {
        self.queue().map_or(0, |queue| queue.running + queue.starting.len())
    }
}

/// Nothing of the jobs.
impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").finish_non_exhaustive()
    }
}

impl Queue {
    fn starting_in(&self, runtime: u64) -> usize {
        self.starting.iter().filter(|starting| **starting == runtime).count()
    }

    /// Tasks that run, or are about to in a runtime.
    fn coming(&self, runtime: u64) -> usize {
        self.running + self.starting_in(runtime)
    }

    /// Notes that a task of a runtime begins, or never will.
    fn leave_start(&mut self, runtime: u64) {
        if let Some(at) = self.starting.iter().position(|starting| *starting == runtime) {
            self.starting.swap_remove(at);
        }
    }
}

/// A task that runs the queued jobs. If it is dropped before it has run, another one is started.
#[derive(Debug)]
pub(crate) struct Drain {
    offload: Arc<Offload>,
    runtime: u64,
    is_started: bool,
}

impl Drain {
    /// Runs jobs until there is none, or many are done. Blocks, and so belongs on a thread that may.
    pub(crate) fn run(mut self) {
        self.is_started = true;
        {
            let Ok(mut queue) = self.offload.queue() else { return };
            queue.leave_start(self.runtime);
            if queue.running == TASKS_MAX {
                return; // each of these runs all jobs, or wakes the waiters
            }
            queue.running += 1;
        }
        for _ in 0..self.offload.share {
            let Some(job) = self.offload.next() else { return };
            // If its waiter is gone, what it worked on and what came of it are dropped here,
            // which runs foreign code.
            let _ = contained(move || {
                job.run();
                drop(job);
            });
        }
        if let Ok(mut queue) = self.offload.queue() {
            queue.running -= 1;
        }
        self.offload.wake_queued();
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if self.is_started {
            return;
        }
        let is_another_running = self.offload.queue().is_ok_and(|mut queue| {
            queue.leave_start(self.runtime);
            queue.dropped += 1;
            queue.running > 0
        });
        // Tasks that run do all jobs, or wake their waiters. A waiter that is woken for this one would start
        // the next, for nothing.
        if !is_another_running {
            self.offload.wake_queued();
        }
    }
}

impl<T: Send, R: Send> Run for Job<T, R> {
    fn run(&self) {
        let Ok(Some(mut subject)) = ({ self.state.lock().map(|mut state| state.subject.take()) }) else {
            return;
        };
        let result = contained(|| (self.work)(&mut subject));
        // Dropped with nothing locked, if nothing waits for them.
        let mut done = Some((subject, result));
        if let Ok(mut state) = self.state.lock()
            && !state.is_left
        {
            (state.subject, state.result) = done.take().unzip();
        }
        self.wake();
    }

    fn wake(&self) {
        let waker = { self.state.lock().ok().and_then(|mut state| state.waker.take()) };
        if let Some(waker) = waker {
            let _ = contained(|| waker.wake());
        }
    }
}

impl<T: Send + 'static, R: Send + 'static> Pending<T, R> {
    /// The subject and the result, once there is one. Otherwise the waker of `context` is called
    /// then. `spawn` starts a task in `runtime`, as the head of this file says. Not to be called
    /// again once it was ready.
    pub(crate) fn poll(
        &mut self,
        context: &Context<'_>,
        runtime: u64,
        spawn: &dyn Fn(Drain),
    ) -> Poll<(T, Result<R, NotRun>)> {
        // Clone the waker, and drop its predecessor, outside the lock: both run foreign code.
        let mut waker = Some(context.waker().clone());
        let mut is_running = false;
        if let Ok(mut state) = self.job.state.lock() {
            std::mem::swap(&mut state.waker, &mut waker);
            is_running = state.subject.is_none() && state.result.is_none();
        }
        drop(waker);
        if is_running && !self.offload.queue.is_inherited() {
            return Poll::Pending; // a task for the jobs behind this one is their waiters' affair
        }
        if let Some(done) = self.take_done() {
            return Poll::Ready(done);
        }
        let goes_on = self.offload.start(runtime, spawn, Needs::Own);
        // The task that has run it may have ended since.
        if let Some(done) = self.take_done() {
            return Poll::Ready(done);
        }
        if goes_on {
            return Poll::Pending;
        }
        match self.take_back() {
            Some(subject) => {
                let is_forked = self.offload.queue.is_inherited();
                Poll::Ready((subject, Err(if is_forked { NotRun::Forked } else { NotRun::ShutDown })))
            }
            None => Poll::Pending,
        }
    }

    /// Has the work begin, without a waker. If it `follows` another job, the task of that one comes to it.
    #[cfg(feature = "tokio")]
    pub(crate) fn begin(&self, runtime: u64, spawn: &dyn Fn(Drain), follows: bool) {
        if !self.is_done() {
            self.offload.start(runtime, spawn, if follows { Needs::Any } else { Needs::Own });
        }
    }

    /// The subject, if there is a result, and the waker, which is to be called: somebody else may wait.
    #[cfg(feature = "tokio")]
    pub(crate) fn take_if_done(&mut self) -> Option<(T, Option<Waker>)> {
        let (subject, _result) = self.take_done()?;
        Some((subject, self.leave().1))
    }

    fn take_done(&mut self) -> Option<(T, Result<R, NotRun>)> {
        let mut state = self.job.state.lock().ok()?;
        let result = state.result.take()?;
        let subject = state.subject.take()?;
        Some((subject, result.map_err(NotRun::Panicked)))
    }

    /// Whether [`poll`](Pending::poll) is ready. Leaves the waker that is there.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_done(&self) -> bool {
        self.job.state.lock().is_ok_and(|state| state.result.is_some())
    }

    /// Whether the work was running when this process was forked: it never ends here, and has
    /// the subject for ever.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_lost(&self) -> bool {
        self.offload.queue.is_inherited()
    }

    /// The subject, unless the work is running, and the waker. A task that has the subject drops it.
    pub(crate) fn leave(&mut self) -> (Option<T>, Option<Waker>) {
        let ((subject, waker), is_done) = {
            let Ok(mut state) = self.job.state.lock() else { return (None, None) };
            state.is_left = true;
            ((state.subject.take(), state.waker.take()), state.result.is_some())
        };
        self.forget_unbegun(subject.is_some() && !is_done);
        (subject, waker)
    }

    /// The subject, unless the work is running: it will not run any more.
    pub(crate) fn take_back(&mut self) -> Option<T> {
        let (subject, is_done) = {
            let mut state = self.job.state.lock().ok()?;
            (state.subject.take(), state.result.is_some())
        };
        self.forget_unbegun(subject.is_some() && !is_done);
        subject
    }

    /// Removes the job from the queue, if it is not begun and never will be. To be called without the lock of
    /// its state, which [`submit`](Offload::submit) takes behind that of the queue.
    fn forget_unbegun(&self, is_unbegun: bool) {
        if is_unbegun {
            self.offload.forget(Arc::as_ptr(&self.job).cast());
        }
    }
}

/// Nothing of the job.
impl<T: Send + 'static, R: Send + 'static> fmt::Debug for Pending<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl<T: Send + 'static, R: Send + 'static> Drop for Pending<T, R> {
    fn drop(&mut self) {
        let (_subject, waker) = self.leave();
        waker.into_iter().for_each(drop_waker);
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;
