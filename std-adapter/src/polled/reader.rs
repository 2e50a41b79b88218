//! What an async reader of shared content does: it reads what is in memory at once, and has the
//! rest read off the loop.
//!
//! Promises:
//!
//! - A read that is ready has moved the position past what it has read, and one that is pending has moved
//!   nothing. What was pending may be dropped, and any other operation may follow.
//! - What is in memory is read inline, in one poll as far as it reaches. No call here reaches the store.
//! - An error goes to the read that needs the bytes. What was read ahead for another position is
//!   dropped, with its errors.
//! - Each job is followed by progress: what it has read lies [here](crate::polled::read_ahead).
//!
//! Nothing here knows a runtime: see [`Poller`].
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::frozen_reader::FrozenReader;
use crate::disk::store_access::if_resident;
use crate::foreign::drop_quietly;
use crate::memory::copy::copy;
use crate::pager::descent::Descent;
use crate::pager::reader::Reader;
use crate::polled::read_ahead::{COPIED_MAX, COPIED_MIN, Extent, Piece, ReadAhead};
use crate::polled::runtime::Poller;
use crate::sync::Arc;
use std::io;
use std::task::{Poll, ready};

/// A reader, and what it may read.
pub(crate) struct View<'a> {
    pub(crate) extent: Extent,
    pub(crate) reader: &'a mut Reader,
    /// The position in the content.
    pub(crate) at: &'a mut u64,
}

/// For the async form.
impl FrozenReader {
    pub(crate) fn view(&mut self) -> View<'_> {
        let extent = Extent { shared: Arc::clone(&self.shared), end: self.end, feed: None };
        View { extent, reader: &mut self.reader, at: &mut self.at }
    }

    /// The position in the content.
    pub(crate) fn place(&self) -> u64 {
        self.at
    }

    /// What was lent at the position, with nothing in between.
    pub(crate) fn lent(&self) -> &[u8] {
        let lent = self.reader.lent(self.at);
        &lent[..lent.len().min(self.left())]
    }
}

impl View<'_> {
    /// Bytes between the position and the end, as far as they can be counted.
    pub(crate) fn left(&self) -> usize {
        usize::try_from(self.extent.end.saturating_sub(*self.at)).unwrap_or(usize::MAX)
    }

    /// Reads what is in memory. `None` if that is nothing.
    fn read_inline(&mut self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        let read = if_resident(|| self.reader.read(&self.extent.shared.content, *self.at, buf))?;
        *self.at += *read.as_ref().unwrap_or(&0) as u64;
        Some(read.map_err(io::Error::from))
    }
}

/// Where bytes are that can be lent.
pub(crate) enum Lent {
    /// At the position, in what was read ahead.
    Ahead,
    /// In the reader's window, or a copy of the reader's.
    Window,
    /// The end is reached.
    End,
}

/// What an async reader has beside its [`Reader`].
#[derive(Default)]
pub(crate) struct PolledReader {
    /// A piece that was read ahead, and where it begins.
    piece: Option<(u64, Piece)>,
    /// Where what comes after it begins.
    next: u64,
    /// The position that what comes is for: where it begins, or in a pass downwards a place in it.
    awaits: u64,
    ahead: ReadAhead,
    descent: Descent,
}

impl PolledReader {
    /// Whether nothing was read ahead, so that the window may be tried first.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.piece.is_none() && self.ahead.is_idle()
    }

    /// The bytes at `at` that were read ahead and taken. None if there are no such.
    pub(crate) fn at(&self, at: u64) -> &[u8] {
        let Some((start, piece)) = &self.piece else { return &[] };
        let from = at.checked_sub(*start).and_then(|from| usize::try_from(from).ok());
        from.and_then(|from| piece.as_ref().get(from..)).unwrap_or_default()
    }

    /// After a seek from `before` to `at`: drops what was read ahead, and the job that reads on, unless that
    /// goes on there. What begins at the beginning is probably a pass.
    pub(crate) fn moved(&mut self, before: u64, at: u64) {
        if before != at && self.at(at).is_empty() && self.awaits != at {
            let ahead = if at == 0 { ReadAhead::default() } else { ReadAhead::after_jump() };
            // A pass downwards has come to the beginning of the piece.
            let descent = self.piece.as_ref().map_or(self.descent, |(start, _)| self.descent.come_to(*start));
            *self = PolledReader { ahead, descent, ..PolledReader::default() };
        }
    }

    /// Takes the piece at the position, if it was read ahead. Returns the number of its bytes from there on.
    fn take(&mut self, view: &mut View<'_>, poller: Poller<'_>) -> usize {
        let (here, at) = (self.at(*view.at).len(), *view.at);
        if here > 0 {
            return here;
        }
        if self.awaits != at {
            let (ahead, descent) = (self.ahead.emptied(), self.descent);
            *self = PolledReader { piece: None, next: at, awaits: at, ahead, descent };
            return 0;
        }
        if self.piece.take().is_some() {
            view.reader.skip_to(at);
        }
        let Some(piece) = self.ahead.take(&view.extent, at, poller) else { return 0 };
        let start = self.next;
        self.next = start + piece.as_ref().len() as u64;
        self.awaits = self.next;
        self.piece = Some((start, piece));
        let here = self.at(at).len();
        if here == 0 {
            self.descent.leave(at); // to be asked for by itself
        }
        here
    }

    /// Waits for the job that reads at the position, if one is under way.
    pub(crate) fn poll_arrived(&mut self, poller: Poller<'_>, view: &mut View<'_>) -> Poll<io::Result<()>> {
        if view.left() == 0 || self.take(view, poller) > 0 || self.ahead.is_idle() {
            return Poll::Ready(Ok(()));
        }
        self.poll_ahead(poller, view, 1)
    }

    /// Reads at least one byte, unless the position is at the end or `buf` is empty.
    pub(crate) fn poll_read(
        &mut self,
        poller: Poller<'_>,
        view: &mut View<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let want = buf.len().min(view.left());
        let mut done = 0;
        while done < want {
            let here = self.take(view, poller).min(want - done);
            if here > 0 {
                copy(&mut buf[done..done + here], &self.at(*view.at)[..here]);
                *view.at += here as u64;
                done += here;
                continue;
            }
            let inline = if self.ahead.is_idle() { view.read_inline(&mut buf[done..want]) } else { None };
            match inline {
                Some(Ok(read)) => {
                    done += read;
                    break;
                }
                Some(Err(error)) if done == 0 => return Poll::Ready(Err(error)),
                _ if done > 0 => break,
                _ => ready!(self.poll_ahead(poller, view, want))?,
            }
        }
        Poll::Ready(Ok(done))
    }

    /// Waits for a job that reads at the position, or starts one for `want` bytes. Ready once it has read
    /// something, or is to be polled.
    fn poll_ahead(&mut self, poller: Poller<'_>, view: &View<'_>, want: usize) -> Poll<io::Result<()>> {
        let at = *view.at;
        match ready!(self.ahead.poll(poller)) {
            Ok(false) => {}
            // What lies before `at` may be to blame.
            Err(error) if self.next < self.awaits => {
                drop_quietly(error);
                self.descent.leave(at);
            }
            arrived => return Poll::Ready(arrived.map(drop)),
        }
        (self.next, self.awaits) = (at, at);
        let descends = self.descent.note(at..at.saturating_add(want as u64), false, want.max(COPIED_MIN));
        Poll::Ready(if descends && want <= COPIED_MAX / 2 {
            self.ahead.start_down(&view.extent, at, want).map(|start| self.next = start)
        } else {
            self.ahead.start(&view.extent, at, want)
        })
    }

    /// Prepares bytes at the position to be lent: with nothing in between, [`at`](PolledReader::at) or
    /// [`Reader::lent`] has them.
    pub(crate) fn poll_lend(&mut self, poller: Poller<'_>, view: &mut View<'_>) -> Poll<io::Result<Lent>> {
        if view.left() == 0 {
            return Poll::Ready(Ok(Lent::End));
        }
        loop {
            if self.take(view, poller) > 0 {
                return Poll::Ready(Ok(Lent::Ahead));
            }
            if self.ahead.is_idle() {
                let (content, at) = (&view.extent.shared.content, *view.at);
                if let Some(lent) = if_resident(|| view.reader.lend(content, at).map(drop)) {
                    return Poll::Ready(lent.map(|()| Lent::Window).map_err(io::Error::from));
                }
            }
            ready!(self.poll_ahead(poller, view, 1))?;
        }
    }
}
