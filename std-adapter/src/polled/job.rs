//! What an async handle has done off the loop: one job at a time, with the buffer in it.
//!
//! Promises:
//!
//! - A job never has a caller's bytes, but those that an earlier call has accepted.
//! - It does not wait for room on the disk: the handle waits, and not a thread. Nor does a call of the
//!   user's.
//! - An error has changed nothing of what was accepted.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::buffer::SpillBuffer;
use crate::error::SpillError;
use crate::pager::state::Pager;
use crate::pager::waiting::{Blockage, Tried, Wait, without_waits};
use crate::polled::beside::{BESIDE_MAX, Beside};

/// What the caller of [`AsyncSpillBuffer::run`](crate::AsyncSpillBuffer::run) has done to the buffer.
pub(crate) type Call = Box<dyn FnOnce(&mut SpillBuffer) + Send>;

/// What a job is for.
pub(crate) enum Request {
    /// Room in memory at `offset`, for a call that has `len` bytes; or if there is none, nothing that
    /// was accepted beside.
    Write { offset: u64, len: usize },
    /// Bytes in memory at `offset`, for a call for `len`; unless it is to be `beside`, there.
    Read { offset: u64, len: usize, beside: bool },
    /// The content shortened or lengthened.
    SetLen(u64),
    /// What was accepted in the buffer, and memory within a lowered limit.
    Settle,
    /// The same, and then a call of the user's.
    Run(Option<Call>),
}

/// The kind of a request: its errors belong to calls of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    Read,
    Other,
}

/// A buffer and what is to be done with it.
pub(crate) struct Work {
    pub(crate) buffer: SpillBuffer,
    pub(crate) beside: Beside,
    pub(crate) request: Request,
    /// The wait of the call that it is for.
    pub(crate) wait: Option<Wait>,
}

/// What came of a job.
pub(crate) enum Outcome {
    /// What was asked for is done, or there: in memory, or beside.
    Ready,
    /// There is no room on the disk, and the policy is to wait for it.
    Blocked(Blockage),
    Failed(SpillError),
}

impl From<Tried<()>> for Outcome {
    fn from(tried: Tried<()>) -> Self {
        match tried {
            Tried::Done(()) => Outcome::Ready,
            Tried::Blocked(refused) => Outcome::Blocked(refused),
        }
    }
}

impl Work {
    /// For [`Offload::submit`](crate::pool::offload::Offload::submit).
    pub(crate) fn run(&mut self) -> Outcome {
        self.try_run().unwrap_or_else(Outcome::Failed)
    }

    fn try_run(&mut self) -> Result<Outcome, SpillError> {
        match self.request {
            Request::Write { offset, len } => {
                self.beside.read.forget();
                if let Tried::Blocked(refused) = self.settle()? {
                    return Ok(Outcome::Blocked(refused));
                }
                let pager = &mut self.buffer.pager;
                let room = pager.attempt(&mut self.wait, |pager| {
                    let room = pager.prepare_write(offset, len).and_then(|is_ready| {
                        if is_ready { Ok(offset) } else { pager.room_beside(offset, len, BESIDE_MAX) }
                    });
                    room.map_err(|error| pager.refusal_of_buffer(error))
                })?;
                match room {
                    Tried::Done(room) => self.beside.room = room,
                    Tried::Blocked(refused) => return Ok(Outcome::Blocked(refused)),
                }
                Ok(Outcome::Ready)
            }
            Request::Read { offset, len, beside } => {
                let is_ready = !beside && self.buffer.pager.prepare_read(offset, len)?;
                if !is_ready {
                    self.read_beside(offset, len)?;
                }
                Ok(Outcome::Ready)
            }
            Request::SetLen(len) => {
                self.beside.read.forget();
                self.beside.accepted.cut(len);
                self.buffer.set_len(len)?;
                self.forget_wait();
                Ok(Outcome::Ready)
            }
            Request::Settle => Ok(self.settle()?.into()),
            Request::Run(ref mut call) => {
                let call = call.take();
                match self.settle() {
                    Ok(Tried::Done(())) => {}
                    refused => {
                        self.request = Request::Run(call);
                        return refused.map(Outcome::from);
                    }
                }
                self.beside.read.forget();
                if let Some(call) = call {
                    without_waits(|| call(&mut self.buffer));
                    self.forget_wait();
                }
                Ok(Outcome::Ready)
            }
        }
    }

    /// Forgets a wait whose ticket is gone: what was freed may be what was missing, and the
    /// next wait begins anew.
    fn forget_wait(&mut self) {
        if self.buffer.pager.ticket().is_none() {
            self.wait = None;
        }
    }

    /// Moves what was accepted into the buffer, and what is above a lowered limit out of memory.
    fn settle(&mut self) -> Result<Tried<()>, SpillError> {
        if !self.beside.accepted.is_empty() {
            self.beside.read.forget(); // it has what lay below
        }
        while !self.beside.accepted.is_empty() {
            let (pager, accepted) = (&mut self.buffer.pager, &self.beside.accepted);
            let write = |pager: &mut Pager| {
                let written = pager.write_once(accepted.at, &accepted.bytes);
                written.map_err(|error| pager.refusal_of_buffer(error))
            };
            let written = pager.attempt(&mut self.wait, write);
            match written? {
                Tried::Done(taken) => self.beside.accepted.advance(taken),
                Tried::Blocked(refused) => return Ok(Tried::Blocked(refused)),
            }
        }
        self.buffer.pager.keep_limit();
        Ok(Tried::Done(()))
    }

    fn read_beside(&mut self, offset: u64, len: usize) -> Result<(), SpillError> {
        let pager = &mut self.buffer.pager;
        let piece = &mut self.beside.read;
        piece.bytes.clear();
        piece.at = offset;
        // A few bytes more than one call asks for save the next calls a switch of tasks.
        let len = len.clamp(BESIDE_MAX / 4, BESIDE_MAX);
        piece.bytes.try_reserve_exact(len).map_err(|_| SpillError::OutOfMemory)?;
        piece.bytes.resize(len, 0);
        let read = pager.read_past_frames(offset, &mut piece.bytes);
        piece.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(drop)
    }
}

impl Request {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Request::Write { .. } => Kind::Write,
            Request::Read { .. } => Kind::Read,
            Request::SetLen(_) | Request::Settle | Request::Run(_) => Kind::Other,
        }
    }
}
