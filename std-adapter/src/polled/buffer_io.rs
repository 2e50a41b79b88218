//! Reading and writing of a polled buffer.
//!
//! Its promises are those of [`buffer`](crate::polled::buffer). An operation looks for its bytes,
//! or for room, in this order: in the window, beside the pages, in memory. Then a job brings them
//! to memory, or beside.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::error::SpillError;
use crate::memory::copy::copy;
use crate::pager::span::ZEROS;
use crate::polled::along::Pass;
use crate::polled::buffer::Polled;
use crate::polled::job::{Kind, Request};
use crate::polled::runtime::Poller;
use std::io;
use std::task::{Poll, ready};

/// Where bytes to lend are.
enum Lendable {
    End,
    Beside,
    Zeros(usize),
    Buffer(usize),
}

impl Polled {
    // ---- writing

    /// Writes all of `data` if it lies in the window. Otherwise does nothing and returns false.
    #[inline]
    pub(crate) fn write_window(&mut self, data: &[u8]) -> bool {
        let Some(buffer) = &mut self.home else { return false };
        self.beside.is_empty() && buffer.pager.write_window(&mut self.position, data)
    }

    #[cold]
    pub(crate) fn poll_write(&mut self, poller: Poller<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            ready!(self.poll_home(poller, Kind::Write))?;
            ready!(self.poll_unblocked(poller))?;
            if self.pay()? {
                continue;
            }
            // Only now: a call that was dropped may have moved the position.
            let (position, requested) = (self.position, data.len() as u64);
            let countable = usize::try_from(u64::MAX - position).unwrap_or(usize::MAX);
            let data = &data[..data.len().min(countable)];
            if data.is_empty() {
                return Poll::Ready(Err(SpillError::TooLarge { position, requested, end: u64::MAX }.into()));
            }
            let data = self.home.as_ref().map_or(Ok(data), |buffer| buffer.pager.fitting(position, data))?;
            self.go_on(Pass::Writing, poller);
            if let Some(taken) = self.write_here(data)? {
                self.position += taken as u64;
                self.ready = None;
                return Poll::Ready(Ok(taken));
            }
            if ready!(self.poll_first(poller)) {
                continue;
            }
            self.submit(Request::Write { offset: self.position, len: data.len() })?;
        }
    }

    /// Writes what there is room for. `None` if that is nothing.
    fn write_here(&mut self, data: &[u8]) -> Result<Option<usize>, SpillError> {
        let Some(buffer) = &mut self.home else { return Ok(None) };
        self.beside.read.forget();
        let is_ready = self.ready == Some((Kind::Write, self.position));
        if self.beside.accepted.is_empty() {
            if let Some(written) = buffer.pager.write_inline(self.position, data, &mut self.wait) {
                return written.map(Some);
            }
            if !is_ready {
                return Ok(None);
            }
        }
        // What was accepted before goes first, and no page has a frame for more.
        let taken = self.beside.accept(self.position, data)?;
        buffer.pager.requested.written += taken as u64;
        Ok(Some(taken).filter(|taken| *taken > 0))
    }

    // ---- reading

    /// Reads all of `buf` if it lies in the window. Otherwise does nothing and returns false.
    #[inline]
    pub(crate) fn read_window(&mut self, buf: &mut [u8]) -> bool {
        let Some(buffer) = &mut self.home else { return false };
        self.beside.is_empty() && buffer.pager.read_window(&mut self.position, buf)
    }

    #[cold]
    pub(crate) fn poll_read(&mut self, poller: Poller<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            ready!(self.poll_home(poller, Kind::Read))?;
            if self.pay()? {
                continue;
            }
            let is_pass = self.is_pass();
            if let Some(read) = self.read_here(buf)? {
                self.advance(read);
                if is_pass {
                    self.go_on(Pass::Reading, poller);
                }
                return Poll::Ready(Ok(read));
            }
            if ready!(self.poll_first(poller)) {
                continue;
            }
            self.submit_read(buf.len())?;
        }
    }

    /// Has a job bring bytes into memory; or beside, if one has done the former and they are not there.
    fn submit_read(&mut self, len: usize) -> io::Result<()> {
        let beside = self.ready == Some((Kind::Read, self.position));
        self.submit(Request::Read { offset: self.position, len, beside })
    }

    /// Whether the operation at the position is probably one of a sequential pass.
    fn is_pass(&mut self) -> bool {
        let position = self.position;
        position == 0 || self.home.as_mut().is_some_and(|buffer| buffer.pager.goes_on_at(position))
    }

    /// Has what a pass comes to next, or has filled, moved while it goes on.
    fn go_on(&mut self, pass: Pass, poller: Poller<'_>) {
        if let Some(buffer) = &mut self.home {
            self.along.go_on(pass, buffer, self.position, poller);
        }
    }

    /// Waits until the first of the jobs that move pages along has ended. Ready with false if there is none.
    fn poll_first(&mut self, poller: Poller<'_>) -> Poll<bool> {
        let Some(buffer) = &mut self.home else { return Poll::Ready(false) };
        self.along.poll_first(buffer, poller, self.position)
    }

    /// Moves past `n` bytes that were read.
    fn advance(&mut self, n: usize) {
        self.position = self.position.saturating_add(n as u64);
        self.ready = None;
        if self.beside.read.from(self.position).is_empty() {
            self.beside.read.forget();
        }
    }

    /// Reads what is here. `None` if that is nothing, though there is more.
    fn read_here(&mut self, buf: &mut [u8]) -> Result<Option<usize>, SpillError> {
        let source = self.lendable()?;
        let Some(buffer) = &mut self.home else { return Ok(None) };
        let len = match source {
            None => return Ok(None),
            Some(Lendable::End) => 0,
            Some(Lendable::Beside) => {
                let here = self.beside.from(self.position);
                let len = here.len().min(buf.len());
                copy(&mut buf[..len], &here[..len]);
                len
            }
            Some(Lendable::Zeros(most)) => {
                let len = most.min(buf.len());
                buf[..len].fill(0);
                len
            }
            Some(Lendable::Buffer(most)) => {
                let len = most.min(buf.len());
                return buffer.pager.read_inline(self.position, &mut buf[..len]).transpose();
            }
        };
        buffer.pager.requested.read += len as u64;
        Ok(Some(len))
    }

    /// Where the bytes at the position are, and how many at most. `None` if a job has the buffer.
    fn lendable(&self) -> Result<Option<Lendable>, SpillError> {
        let Some(buffer) = &self.home else { return Ok(None) };
        if self.position >= self.len() {
            return Ok(Some(Lendable::End));
        }
        if !self.beside.from(self.position).is_empty() {
            return Ok(Some(Lendable::Beside));
        }
        let most = self.beside.uncovered(self.position);
        let in_buffer = buffer.len() > self.position;
        Ok(Some(if in_buffer { Lendable::Buffer(most) } else { Lendable::Zeros(most) }))
    }

    pub(crate) fn poll_fill_buf(&mut self, poller: Poller<'_>) -> Poll<io::Result<&[u8]>> {
        loop {
            ready!(self.poll_home(poller, Kind::Read))?;
            if self.pay()? {
                continue;
            }
            match self.lendable()? {
                None => {}
                Some(Lendable::End) => return Poll::Ready(Ok(&[])),
                Some(Lendable::Beside) => return Poll::Ready(Ok(self.beside.from(self.position))),
                Some(Lendable::Zeros(most)) => return Poll::Ready(Ok(&ZEROS[..most.min(ZEROS.len())])),
                Some(Lendable::Buffer(most)) => {
                    if self.is_pass() {
                        self.go_on(Pass::Reading, poller);
                    }
                    let lent = self.home.as_mut().and_then(|buffer| buffer.pager.lend_inline(self.position));
                    if let Some(len) = lent.transpose()? {
                        return Poll::Ready(Ok(self.lent(len.min(most))?));
                    }
                    if !ready!(self.poll_first(poller)) {
                        self.submit_read(1)?;
                    }
                }
            }
        }
    }

    /// The `len` bytes at the position that were lent.
    fn lent(&mut self, len: usize) -> Result<&[u8], SpillError> {
        let Some(buffer) = &mut self.home else { return Ok(&[]) };
        let lent = buffer.pager.lent_inline(self.position, len)?;
        Ok(&lent[..lent.len().min(len)])
    }

    pub(crate) fn consume(&mut self, n: usize) {
        let source = self.lendable().ok().flatten();
        if let Some(buffer) = &mut self.home {
            match source {
                None | Some(Lendable::End) => {}
                Some(Lendable::Beside) => {
                    buffer.pager.requested.read += n.min(self.beside.from(self.position).len()) as u64;
                }
                Some(Lendable::Zeros(most)) => {
                    buffer.pager.requested.read += n.min(most).min(ZEROS.len()) as u64;
                }
                Some(Lendable::Buffer(most)) => {
                    buffer.pager.consume(self.position, n.min(most));
                    return self.advance(n);
                }
            }
            buffer.pager.end_loan();
        }
        self.advance(n);
    }
}
