//! What the polled operations need of an async runtime.
//!
//! Held by: the layers in `tests/tests/tidy.rs`, which keep runtimes out of what is below their faces.

use crate::error::SpillError;
use crate::foreign::contained;
use crate::pool::offload::{Drain, NotRun, Pending};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What an async face brings.
pub(crate) trait Runtime {
    /// Which runtime this is; 0 if there is none.
    fn number(&self) -> u64;

    /// Has `drain` [run](Drain::run) on a thread that may block, or drops it.
    fn spawn(&self, drain: Drain);

    /// A future that is ready in `left`, by the clock of the runtime; `None` if it has no timer.
    fn timer(&self, left: Duration) -> Option<Timer>;
}

/// The task that polls, and the runtime that it runs in: what each polled operation is told.
#[derive(Clone, Copy)]
pub(crate) struct Poller<'a> {
    waker: &'a Waker,
    runtime: &'a dyn Runtime,
}

impl<'a> Poller<'a> {
    pub(crate) fn new(waker: &'a Waker, runtime: &'a dyn Runtime) -> Self {
        Poller { waker, runtime }
    }

    pub(crate) fn context(self) -> Context<'a> {
        Context::from_waker(self.waker)
    }

    /// As [`Pending::poll`], but an error if the job was running when this process was forked: it never ends
    /// here.
    pub(crate) fn poll_job<T, R>(self, job: &mut Pending<T, R>) -> Poll<io::Result<(T, Result<R, NotRun>)>>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let polled = job.poll(&self.context(), self.runtime.number(), &|drain| self.runtime.spawn(drain));
        if polled.is_pending() && job.is_lost() {
            return Poll::Ready(Err(SpillError::Forked.into()));
        }
        polled.map(Ok)
    }

    /// See [`Pending::begin`].
    pub(crate) fn begin<T, R>(self, job: &Pending<T, R>, follows: bool)
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        job.begin(self.runtime.number(), &|drain| self.runtime.spawn(drain), follows);
    }

    /// This runtime, for a job whose end wakes nobody.
    pub(crate) fn without_task(self) -> Self {
        Poller { waker: Waker::noop(), runtime: self.runtime }
    }
}

/// A future that is ready at some time.
pub(crate) type Timer = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// The timer of one deadline, in the runtime that has polled last: the next may be another.
#[derive(Default)]
pub(crate) struct Alarm {
    timer: Option<Timer>,
    runtime: u64,
}

impl Alarm {
    /// Whether `deadline`, the same at each call, has come. Otherwise the poller is woken then. Kept while
    /// one runtime polls: its clock may stand still, or jump, in a test.
    pub(crate) fn is_over(&mut self, deadline: Instant, poller: Poller<'_>) -> bool {
        let number = poller.runtime.number();
        if self.timer.is_none() || self.runtime != number {
            self.timer = poller.runtime.timer(deadline.saturating_duration_since(Instant::now()));
            self.runtime = number;
        }
        is_over(self.timer.as_mut(), &mut poller.context())
    }
}

/// Whether the time of `timer` has come; also if there is no timer, or its runtime was shut down, which it
/// says by a panic. Otherwise the waker of `context` is called then.
fn is_over(timer: Option<&mut Timer>, context: &mut Context<'_>) -> bool {
    timer.is_none_or(|timer| contained(|| timer.as_mut().poll(context).is_ready()).unwrap_or(true))
}

/// The error of a call whose job was not done.
pub(crate) fn not_run(reason: NotRun) -> io::Error {
    io::Error::from(match reason {
        NotRun::ShutDown => SpillError::NoRuntime,
        NotRun::Forked => SpillError::Forked,
        NotRun::Panicked(message) => SpillError::JobPanicked { message },
    })
}
