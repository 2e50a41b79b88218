//! The writer of a spool whose operations are polled: they append what memory allows at once, and have the
//! rest done off the loop.
//!
//! Promises:
//!
//! - I12: a write that is ready is held, and the readers have it; one that is pending has taken nothing. What
//!   was pending may be dropped, and any other operation may follow.
//! - What touches memory alone is done inline. No call here reaches the store, or waits for a thread that
//!   does.
//! - One job at a time is under way. It has the writer's ticket meanwhile, and the readers go on.
//! - An error goes to the call that it concerns: one of a job whose call was dropped goes to
//!   the next of its kind.
//! - Two jobs at most are followed by progress: where readers have taken the room that the first has made,
//!   the second makes room in the [`tail`](crate::pager::tail), which is the writer's alone.
//!
//! Nothing here knows a runtime: see [`Poller`].
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::frozen::Frozen;
use crate::api::spool::SpoolWriter;
use crate::api::spool_reader::SpoolReader;
use crate::disk::quota::Ticket;
use crate::disk::store_access::without_store;
use crate::error::SpillError;
use crate::foreign::drop_quietly;
use crate::observe::stats::BufferStats;
use crate::pager::feed::End;
use crate::pager::shared::Shared;
#[cfg(feature = "http-body")]
use crate::pager::state::Pager;
use crate::pager::waiting::{Blockage, Tried, Wait};
use crate::polled::blocked::Blocked;
use crate::polled::held::{Held, Pooled};
use crate::polled::job::{Kind, Outcome};
use crate::polled::runtime::{Poller, not_run};
use crate::pool::offload::Pending;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use std::fmt;
use std::io;
use std::task::{Poll, ready};

/// What a job is for.
enum Request {
    /// Room for a call that has `len` bytes: in memory, or `beside` the pages.
    Append { len: usize, beside: bool },
    /// The content closed.
    Finish,
    /// The error of a call whose time is up.
    GiveUp(Kind, Option<Blockage>),
}

impl Request {
    fn kind(&self) -> Kind {
        match self {
            Request::Append { .. } => Kind::Write,
            Request::Finish => Kind::Other,
            Request::GiveUp(kind, _) => *kind,
        }
    }
}

/// What a job works on.
struct Growth {
    shared: Arc<Shared>,
    request: Request,
    wait: Option<Wait>,
    ticket: Option<Ticket>,
    /// Where the room ends that was found for the tail.
    room: u64,
}

impl Growth {
    fn run(&mut self) -> Outcome {
        self.try_run().unwrap_or_else(Outcome::Failed)
    }

    fn try_run(&mut self) -> Result<Outcome, SpillError> {
        let content = &self.shared.content;
        if let Request::GiveUp(_, refused) = &mut self.request {
            let Some(refused) = refused.take() else { return Ok(Outcome::Ready) };
            return Err(content.give_up(self.wait.take(), self.ticket.take(), refused));
        }
        if let Tried::Blocked(refused) = content.settle(&mut self.wait, &mut self.ticket)? {
            return Ok(Outcome::Blocked(refused));
        }
        if let Request::Append { len, beside } = self.request {
            match content.prepare_append(len, beside, &mut self.wait, &mut self.ticket)? {
                Tried::Done(room) => self.room = room,
                Tried::Blocked(refused) => return Ok(Outcome::Blocked(refused)),
            }
        } else {
            content.close();
        }
        Ok(Outcome::Ready)
    }
}

/// The writer of a spool, and the job that makes room for it.
pub(crate) struct PolledWriter {
    away: Option<(Kind, Pending<Growth, Outcome>)>,
    wait: Option<Wait>,
    /// A place in the queue for room on the disk; with the job while one is under way.
    ticket: Option<Ticket>,
    /// The wait of a call of this kind.
    blocked: Option<(Kind, Blocked)>,
    /// What the last job has done, if nothing was taken since.
    done: Option<Kind>,
    /// Where the room ends that the last job has found for the tail.
    room: u64,
    /// A job has evicted what it could for a lowered memory limit.
    has_paid: bool,
    writer: Held<SpoolWriter>,
}

impl PolledWriter {
    pub(crate) fn new(writer: SpoolWriter) -> Self {
        PolledWriter {
            away: None,
            wait: None,
            ticket: None,
            blocked: None,
            done: None,
            room: 0,
            has_paid: false,
            writer: Held::new(writer),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.writer.get().len()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.writer.get().shared
    }

    /// A further reader.
    pub(crate) fn reader(&self) -> SpoolReader {
        self.writer.get().reader()
    }

    pub(crate) fn has_readers(&self) -> bool {
        self.writer.get().has_readers()
    }

    /// `None` while another thread has the content for longer than a copy takes.
    pub(crate) fn stats(&self) -> Option<BufferStats> {
        let content = &self.shared().content;
        without_store(|| content.locked_unless_busy(0, |state| state.pager.stats())).ok()
    }

    /// The most bytes that the content could have by the limits and the readers as they are now, when the
    /// pool has refused it `requested` bytes of the disk. Any number if what these pass is freed, or if
    /// others have most of the room, which may end.
    #[cfg(feature = "http-body")]
    pub(crate) fn room_when_refused(&self, requested: u64) -> u64 {
        let SpoolWriter { shared, feed } = self.writer.get();
        let Some(kept_from) = feed.kept_from() else { return u64::MAX };
        let content = &shared.content;
        let room_of = |pager: &Pager| {
            let most = pager.room_of_limits();
            (most, pager.fills_pool(requested).then_some(pager.len))
        };
        let room = without_store(|| content.locked_unless_busy(0, |state| room_of(&state.pager)));
        // What is busy is taken to have no limits of its own.
        let of_pool = |_| {
            let (frames, disk) = (&content.pool.frames, &content.pool.disk);
            (frames.budget().limit().saturating_add(disk.quota().limit()), None)
        };
        let (most, full_at) = room.unwrap_or_else(of_pool);
        if let Some(len) = full_at {
            return len;
        }
        let kept = content.len().saturating_sub(kept_from);
        if kept < most / 2 { u64::MAX } else { most.saturating_add(kept_from) }
    }

    // ---- jobs

    /// Waits until no job is under way. Of its errors, those of calls of another `kind` are dropped: what was
    /// refused then, is refused again when it is tried.
    fn poll_home(&mut self, poller: Poller<'_>, kind: Kind) -> Poll<io::Result<()>> {
        let Some((of, pending)) = &mut self.away else { return Poll::Ready(Ok(())) };
        let (growth, result) = ready!(poller.poll_job(pending))?;
        let of = *of;
        self.take_in(growth);
        Poll::Ready(match result {
            Ok(Outcome::Ready) => {
                self.done = Some(of);
                Ok(())
            }
            Ok(Outcome::Blocked(refused)) => {
                self.blocked = Some((of, Blocked::new(refused)));
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
    fn take_in(&mut self, growth: Growth) {
        self.away = None;
        (self.wait, self.ticket, self.room) = (growth.wait, growth.ticket, growth.room);
        if let Request::GiveUp(kind, Some(refused)) = growth.request {
            self.blocked = Some((kind, Blocked::new(refused))); // it was not run
        }
    }

    fn submit(&mut self, request: Request) -> io::Result<()> {
        self.done = None;
        let (kind, shared) = (request.kind(), Arc::clone(self.shared()));
        let offload = shared.content.pool.offload().clone();
        let ticket = self.ticket.take();
        let growth = Growth { shared, request, wait: self.wait, ticket, room: 0 };
        match offload.submit(growth, Growth::run) {
            Ok(pending) => {
                self.away = Some((kind, pending));
                Ok(())
            }
            Err(growth) => {
                self.take_in(growth);
                Err(offload.refusal().into())
            }
        }
    }

    /// Waits for room on the disk, if a job has found none and the policy is to wait. Ready once there is a
    /// job, or nothing to wait for.
    fn poll_unblocked(&mut self, poller: Poller<'_>) -> Poll<io::Result<()>> {
        let Some((_, blocked)) = &mut self.blocked else { return Poll::Ready(Ok(())) };
        let is_served = ready!(blocked.poll(poller, self.ticket.as_ref()));
        match self.blocked.take() {
            Some((kind, blocked)) if !is_served => {
                Poll::Ready(self.submit(Request::GiveUp(kind, Some(blocked.into_blockage()))))
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Waits until nothing is under way for an earlier call.
    fn poll_free(&mut self, poller: Poller<'_>, kind: Kind) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_home(poller, kind))?;
            ready!(self.poll_unblocked(poller))?;
            if self.away.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    // ---- writing

    pub(crate) fn poll_write(&mut self, poller: Poller<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            ready!(self.poll_free(poller, Kind::Write))?;
            if let Some(taken) = self.write_here(data)? {
                self.done = None;
                self.writer.get().feed.grown();
                return Poll::Ready(Ok(taken));
            }
            let beside = self.done == Some(Kind::Write);
            self.has_paid = true; // a job keeps the limit first
            self.submit(Request::Append { len: data.len(), beside })?;
        }
    }

    /// Appends what there is room for. `None` if that is nothing.
    fn write_here(&mut self, data: &[u8]) -> Result<Option<usize>, SpillError> {
        let content = &self.writer.get().shared.content;
        if content.tail.is_empty() {
            let (wait, ticket, has_paid) = (&mut self.wait, &mut self.ticket, &mut self.has_paid);
            if let Some(taken) = content.append_inline(data, wait, ticket, has_paid) {
                return taken.map(Some);
            }
            if self.done != Some(Kind::Write) {
                return Ok(None);
            }
        }
        // What was accepted before goes first, and no page has a frame for more.
        let taken = content.append_beside(data, self.room)?;
        Ok(Some(taken).filter(|taken| *taken > 0))
    }

    // ---- the end

    /// Closes the content, with all that was accepted, and returns it. Not to be called again
    /// once it has succeeded.
    pub(crate) fn poll_finish(&mut self, poller: Poller<'_>) -> Poll<io::Result<Frozen>> {
        loop {
            ready!(self.poll_home(poller, Kind::Other))?;
            if self.shared().content.tail.is_empty() {
                // The room that a dropped write waits for is not needed.
                (self.blocked, self.ticket, self.wait) = (None, None, None);
            }
            ready!(self.poll_free(poller, Kind::Other))?;
            if self.done == Some(Kind::Other) || self.shared().content.close_inline() {
                return Poll::Ready(Ok(self.writer.get().end_whole()));
            }
            self.submit(Request::Finish)?;
        }
    }

    /// Says why there will be no more.
    pub(crate) fn fail(&self, reason: impl fmt::Display) {
        self.writer.get().feed.finish(End::Failed(reason.to_string()));
    }
}

/// What was made ready for more is freed.
impl Drop for PolledWriter {
    fn drop(&mut self) {
        drop(self.away.take());
        self.shared().content.abandon_inline();
    }
}

impl Pooled for SpoolWriter {
    fn pool(&self) -> &Arc<PoolState> {
        &self.shared.content.pool
    }
}
