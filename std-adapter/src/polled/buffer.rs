//! A buffer whose operations are polled: they do what memory allows at once, and have the rest done off the
//! loop.
//!
//! Promises:
//!
//! - I12: an operation that is ready is done, and one that is pending has taken nothing. What was pending may
//!   be dropped, and any other operation may follow.
//! - What touches memory alone is done inline, without an allocation. No call here reaches the store.
//! - One job at a time has the buffer. The next operation waits for it, whatever that is. Another may read
//!   [along](crate::polled::along) a pass, without the buffer.
//! - An error goes to the call that it concerns: one of a job whose call was dropped goes to
//!   the next of its kind.
//! - Each job is followed by progress: what it has made ready is pinned, or lies beside the pages.
//!
//! Nothing here knows a runtime: see [`Poller`].
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::buffer::SpillBuffer;
use crate::disk::store_access::without_store;
use crate::error::SpillError;
use crate::foreign::drop_quietly;
use crate::observe::stats::BufferStats;
use crate::pager::waiting::Wait;
use crate::polled::along::{Along, Pass};
use crate::polled::beside::Beside;
use crate::polled::blocked::Blocked;
use crate::polled::job::{Call, Kind, Outcome, Request, Work};
use crate::polled::runtime::{Poller, not_run};
use crate::pool::offload::Pending;
use crate::sync::Arc;
use crate::sync::fork::Lock;
use std::io::{self, SeekFrom};
use std::task::{Poll, ready};

/// A buffer, or where it is.
pub(crate) struct Polled {
    pub(crate) position: u64,
    /// `None` while a job has it.
    pub(crate) home: Option<SpillBuffer>,
    /// The length of the content while a job has the buffer.
    len: u64,
    /// Empty while a job has it.
    pub(crate) beside: Beside,
    pub(crate) along: Along,
    away: Option<Away>,
    pub(crate) wait: Option<Wait>,
    blocked: Option<Blocked>,
    /// What the last job has made ready.
    pub(crate) ready: Option<(Kind, u64)>,
    /// A job has evicted what it could for a lowered memory limit.
    has_paid: bool,
    /// A call that is to be made once there is room on the disk. In a lock, which is never waited for, so
    /// that handles are `Sync`.
    parked: Lock<Option<Call>>,
}

/// A job that is under way.
struct Away {
    kind: Kind,
    offset: u64,
    is_run: bool,
    pending: Pending<Work, Outcome>,
}

impl Polled {
    pub(crate) fn new(buffer: SpillBuffer) -> Self {
        Polled {
            position: buffer.position(),
            len: buffer.len(),
            home: Some(buffer),
            beside: Beside::default(),
            along: Along::default(),
            away: None,
            wait: None,
            blocked: None,
            ready: None,
            has_paid: false,
            parked: Lock::new(None),
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn len(&self) -> u64 {
        let Some(buffer) = &self.home else { return self.len };
        let accepted = &self.beside.accepted;
        buffer.len().max(if accepted.is_empty() { 0 } else { accepted.end() })
    }

    /// `None` while a job has the buffer.
    pub(crate) fn stats(&self) -> Option<BufferStats> {
        self.home.as_ref().map(SpillBuffer::stats)
    }

    /// See [`Pager::room_of_limits`](crate::pager::state::Pager::room_of_limits); any number while a job has
    /// the buffer.
    #[cfg(feature = "http-body")]
    pub(crate) fn room_of_limits(&self) -> u64 {
        self.home.as_ref().map_or(u64::MAX, |buffer| buffer.pager.room_of_limits())
    }

    /// The same when the pool has refused it `requested` bytes of the disk.
    #[cfg(feature = "http-body")]
    pub(crate) fn room_when_refused(&self, requested: u64) -> u64 {
        let full = self.home.as_ref().filter(|buffer| buffer.pager.fills_pool(requested));
        full.map_or_else(|| self.room_of_limits(), SpillBuffer::len)
    }

    // ---- away and home

    /// Waits until no job has the buffer. Of its errors, those of calls of another `kind` are dropped: what
    /// was refused then, is refused again when it is tried.
    pub(crate) fn poll_home(&mut self, poller: Poller<'_>, kind: Kind) -> Poll<io::Result<()>> {
        if let Some(buffer) = &mut self.home {
            let but = match kind {
                Kind::Read => None, // it waits for what it needs, when it does not find that
                Kind::Write => Some(Some(Pass::Writing)),
                Kind::Other => Some(None),
            };
            if let Some(but) = but {
                ready!(self.along.poll_all(buffer, poller, but));
            }
        }
        let Some(away) = &mut self.away else { return Poll::Ready(Ok(())) };
        let (work, result) = ready!(poller.poll_job(&mut away.pending))?;
        let (of, offset) = (away.kind, away.offset);
        self.take_in(work);
        Poll::Ready(match result {
            Ok(Outcome::Ready) => {
                self.ready = Some((of, offset));
                Ok(())
            }
            Ok(Outcome::Blocked(refused)) => {
                self.blocked = Some(Blocked::new(refused));
                Ok(())
            }
            Ok(Outcome::Failed(error)) if of == kind => Err(error.into()),
            Err(reason) if of == kind => Err(not_run(reason)),
            other => {
                drop_quietly(other);
                Ok(())
            }
        })
    }

    /// Takes over what a job had.
    fn take_in(&mut self, work: Work) {
        let is_run = self.away.take().is_some_and(|away| away.is_run);
        if is_run {
            self.position = work.buffer.position();
        }
        if let Request::Run(Some(call)) = work.request
            && let Ok(mut parked) = self.parked.lock()
        {
            *parked = Some(call);
        }
        (self.beside, self.wait) = (work.beside, work.wait);
        self.home = Some(work.buffer);
    }

    /// Gives the buffer to a job. It must be at home.
    pub(crate) fn submit(&mut self, request: Request) -> io::Result<()> {
        debug_assert!(!self.along.is_moving(), "a job may change what is spilled");
        let len = self.len();
        let Some(mut buffer) = self.home.take() else { return Ok(()) };
        let (kind, offset) = (request.kind(), self.position);
        let is_run = matches!(request, Request::Run(_));
        if is_run {
            buffer.position = self.position;
        }
        self.ready = None;
        let offload = buffer.pager.pool.offload().clone();
        let work = Work { buffer, beside: std::mem::take(&mut self.beside), request, wait: self.wait };
        match offload.submit(work, Work::run) {
            Ok(pending) => {
                self.len = len;
                self.away = Some(Away { kind, offset, is_run, pending });
                Ok(())
            }
            Err(work) => {
                self.take_in(work);
                Err(offload.refusal().into())
            }
        }
    }

    /// Waits for room on the disk, if a job has found none and the policy is to wait.
    pub(crate) fn poll_unblocked(&mut self, poller: Poller<'_>) -> Poll<io::Result<()>> {
        let (Some(blocked), Some(buffer)) = (&mut self.blocked, &mut self.home) else {
            return Poll::Ready(Ok(()));
        };
        if ready!(blocked.poll(poller, buffer.pager.ticket())) {
            self.blocked = None;
            return Poll::Ready(Ok(()));
        }
        let refused = self.blocked.take().map(Blocked::into_blockage);
        let error = refused.map(|refused| buffer.pager.give_up(self.wait.take(), refused));
        Poll::Ready(error.map_or(Ok(()), |error| Err(error.into())))
    }

    /// Has a job evict what is above the buffer's share of a lowered memory limit. Returns whether
    /// it was given to one.
    pub(crate) fn pay(&mut self) -> io::Result<bool> {
        let owes = self.home.as_ref().is_some_and(|buffer| buffer.pager.owes_memory());
        if self.along.is_moving() {
            return Ok(false); // its pages leave afterwards
        }
        if !owes || self.has_paid || !self.beside.accepted.is_empty() {
            self.has_paid &= owes;
            return Ok(false);
        }
        self.has_paid = true;
        self.submit(Request::Settle)?;
        Ok(true)
    }

    // ---- the position and the length

    /// Waits until the position and the length are known: a job whose call was dropped may change them. Its
    /// error was that call's.
    pub(crate) fn poll_known(&mut self, poller: Poller<'_>) -> Poll<io::Result<()>> {
        match &self.away {
            Some(away) if away.kind == Kind::Other => self.poll_home(poller, Kind::Read),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Moves at once: the position is what [`poll_known`](Polled::poll_known) has waited for, or else nobody
    /// has.
    pub(crate) fn seek(&mut self, to: SeekFrom) -> io::Result<()> {
        let (from, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.position, offset),
            SeekFrom::End(offset) => (self.len(), offset),
        };
        let position =
            from.checked_add_signed(offset).ok_or(SpillError::InvalidSeek { from, offset, end: u64::MAX })?;
        self.position = position;
        self.away.iter_mut().for_each(|away| away.is_run = false); // its position is no longer the buffer's
        Ok(())
    }

    /// Leaves the queue for room on the disk, if the buffer is at home.
    pub(crate) fn leave_queue(&mut self) {
        (self.blocked, self.wait) = (None, None);
        self.home.iter_mut().for_each(|buffer| buffer.pager.leave_queue());
    }

    /// Cuts or lengthens the content. `begun` belongs to the call, and is false at first.
    pub(crate) fn poll_set_len(
        &mut self,
        poller: Poller<'_>,
        len: u64,
        begun: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_home(poller, Kind::Other))?;
            if *begun {
                return Poll::Ready(Ok(()));
            }
            if len >= self.len()
                && self.beside.accepted.is_empty()
                && let Some(buffer) = &mut self.home
            {
                return Poll::Ready(Ok(buffer.set_len(len)?));
            }
            *begun = true;
            self.submit(Request::SetLen(len))?;
        }
    }

    // ---- the buffer itself

    /// Makes `call` off the loop, on the buffer with all that was accepted. It is done once this
    /// is ready with success.
    pub(crate) fn poll_run(&mut self, poller: Poller<'_>, call: &mut Option<Call>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_home(poller, Kind::Other))?;
            let parked = { self.parked.lock().map_err(SpillError::from)?.take() };
            // One that was parked before this call was made belongs to another, which was dropped.
            let next = call.take().or(parked);
            let Some(next) = next else { return Poll::Ready(Ok(())) };
            let unblocked = if self.beside.accepted.is_empty() {
                self.leave_queue(); // of a write that was dropped: its room is not needed here
                Poll::Ready(Ok(()))
            } else {
                self.poll_unblocked(poller)
            };
            match unblocked {
                Poll::Ready(Ok(())) => self.submit(Request::Run(Some(next)))?,
                other => {
                    *call = Some(next);
                    return other;
                }
            }
        }
    }

    /// Forgets a call that has not begun.
    pub(crate) fn cancel_run(&mut self) {
        if let Some(away) = &mut self.away
            && away.is_run
            && let Some(work) = away.pending.take_back()
        {
            self.take_in(work);
        }
        drop(self.parked.lock().map(|mut parked| parked.take()));
    }

    /// Waits until the buffer is at home and has all that was accepted.
    pub(crate) fn poll_settled(&mut self, poller: Poller<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_home(poller, Kind::Other))?;
            if self.beside.accepted.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_unblocked(poller))?;
            self.submit(Request::Settle)?;
        }
    }

    /// The buffer, if it is at home and has all that was accepted; a job that has not begun is forgotten.
    pub(crate) fn take_buffer(&mut self) -> Option<SpillBuffer> {
        if let Some(away) = &mut self.away
            && let Some(work) = away.pending.take_back()
        {
            self.take_in(work);
        }
        let is_home = self.home.as_mut().is_some_and(|buffer| self.along.forget(buffer));
        if !self.beside.accepted.is_empty() || !is_home {
            return None;
        }
        let mut buffer = self.home.take()?;
        buffer.position = self.position;
        buffer.pager.end_ahead();
        buffer.pager.leave_queue(); // of a write that was dropped
        Some(buffer)
    }
}

/// What the buffer frees in the store stays there for later calls, since this may be the
/// thread of an event loop.
impl Drop for Polled {
    fn drop(&mut self) {
        let (work, _waker) = self.away.as_mut().map_or((None, None), |away| away.pending.leave());
        let (buffer, _request) = work.map(|work| (work.buffer, work.request)).unzip();
        let mut buffers = [self.home.take(), buffer];
        // What is foreign is dropped without the guard: a waker, a call, and with the pool its store and
        // listeners.
        let _pools =
            buffers.each_ref().map(|buffer| buffer.as_ref().map(|buffer| Arc::clone(&buffer.pager.pool)));
        without_store(|| {
            std::mem::take(&mut self.along).leave(&mut buffers[0]);
            drop(buffers);
        });
    }
}
