//! Shared content that is read ahead of a receiver on an event loop.
//!
//! Promises:
//!
//! - Nothing here calls the store but a job. What it reads is kept until it has, whatever its receiver does.
//! - What a job has read is there for the receiver, whatever the pool does meanwhile. It is at most
//!   [`AHEAD_MAX`] bytes in lent pages, which the pool charges and bounds together with all that is lent.
//!   Once as much is lent as may be, it is copies, which are not charged: one of at most [`COPIED_MAX`]
//!   bytes, or [`COPIES_AHEAD_MAX`] bytes of them for a receiver that waits for the job. So those that stand
//!   still hold little, and one that does not is served by few jobs.
//! - The next job starts when the last piece is taken: so the store is read while the receiver is busy. But
//!   after a jump jobs read what is asked for, and then a little more, before they read ahead again; and on
//!   the way down what lies before that, too.
//!
//! Held by: `tests/servers/tests/bodies.rs`, `tests/tests/async_buffer/`.

use crate::disk::store_access::{if_resident, without_store};
use crate::error::SpillError;
use crate::foreign::drop_quietly;
use crate::pager::feed::Feed;
use crate::pager::lent_page::LentPart;
use crate::pager::shared::Shared;
use crate::polled::runtime::{Poller, not_run};
use crate::pool::offload::Pending;
use crate::sync::{Arc, AtomicBool, Ordering, try_arc};
use std::collections::VecDeque;
use std::io;
use std::task::{Poll, ready};

/// The most bytes that a job reads ahead, in lent pages.
const AHEAD_MAX: u64 = 256 << 10;

/// The least and the most bytes of a piece that is a copy.
pub(crate) const COPIED_MIN: usize = 4 << 10;
pub(crate) const COPIED_MAX: usize = 16 << 10;

/// The most bytes of copies that a job makes.
const COPIES_AHEAD_MAX: u64 = 64 << 10;

/// Bytes of the content that lie one after another in memory.
pub(crate) enum Piece {
    Lent(LentPart),
    Copied(Vec<u8>),
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        match self {
            Piece::Lent(part) => part.as_ref(),
            Piece::Copied(bytes) => bytes,
        }
    }
}

/// Content to read, and where the part of it ends that may be read.
#[derive(Clone)]
pub(crate) struct Extent {
    pub(crate) shared: Arc<Shared>,
    pub(crate) end: u64,
    /// Of a reader of a spool: what such readers pass or leave may be freed.
    pub(crate) feed: Option<Arc<Feed>>,
}

impl Extent {
    /// Keeps what lies at `at` and behind it.
    fn keep(&self, at: u64) -> Option<Kept> {
        let (feed, page) = (self.feed.clone()?, self.shared.content.pool.page_size as u64);
        let number = feed.enter_job(at / page * page);
        Some(Kept { shared: Arc::clone(&self.shared), feed, number })
    }

    /// The bytes at `at`, which is before the end, to the end of their page, or fewer if they are a copy.
    fn piece(&self, at: u64) -> Result<Piece, SpillError> {
        let content = &self.shared.content;
        match content.lend_part(at, self.left_of_page(at))? {
            Some(part) => Ok(Piece::Lent(part)),
            None => self.copy_in_page(at, COPIED_MAX),
        }
    }

    /// A copy of up to `most` bytes at `at`, which is before the end, no further than their page.
    fn copy_in_page(&self, at: u64, most: usize) -> Result<Piece, SpillError> {
        self.copy(at, self.left_of_page(at).min(most))
    }

    /// A copy of up to `most` bytes at `at`, which is before the end.
    fn copy(&self, at: u64, most: usize) -> Result<Piece, SpillError> {
        let left = usize::try_from(self.end - at).unwrap_or(usize::MAX);
        let (mut copy, len) = (Vec::new(), left.min(most));
        copy.try_reserve_exact(len).map_err(|_| SpillError::OutOfMemory)?;
        copy.resize(len, 0);
        let read = self.shared.content.read_at(at, &mut copy)?;
        copy.truncate(read);
        Ok(Piece::Copied(copy))
    }

    fn left_of_page(&self, at: u64) -> usize {
        let page = self.shared.content.pool.page_size as u64;
        usize::try_from((page - at % page).min(self.end - at)).unwrap_or(usize::MAX)
    }

    /// As [`piece`](Extent::piece), if the store is not needed for it.
    pub(crate) fn resident_piece(&self, at: u64) -> Option<Result<Piece, SpillError>> {
        if_resident(|| self.piece(at))
    }
}

/// How far a job reads. A receiver that has come from elsewhere may go on elsewhere: a few bytes of each of a
/// thousand places took a thousand times [`AHEAD_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reach {
    /// Ahead of the receiver, and further before it asks.
    #[default]
    Ahead,
    /// What is asked for: the receiver has come from elsewhere.
    Jump,
    /// What is asked for, or a longer copy: it went on behind that.
    Longer,
    /// What is asked for, in whole pages: it went on again.
    Pages,
    /// What is asked for, and what lies before that, in one copy: it is on its way down.
    Down,
}

impl Reach {
    /// That of the next job, if it goes on where this one has ended.
    fn next(self) -> Reach {
        match self {
            Reach::Jump | Reach::Down => Reach::Longer,
            Reach::Longer => Reach::Pages,
            Reach::Pages | Reach::Ahead => Reach::Ahead,
        }
    }

    /// The length of the only piece that a job reads for `want` bytes, if that is a copy.
    fn copied(self, want: usize) -> Option<usize> {
        match self {
            Reach::Jump if want <= COPIED_MAX => Some(want.max(COPIED_MIN)),
            Reach::Longer if want <= COPIED_MAX => Some(COPIED_MAX),
            Reach::Down => Some(want.min(COPIED_MAX)),
            _ => None,
        }
    }
}

/// Where a job begins to read.
struct Place {
    extent: Extent,
    at: u64,
    /// Bytes that were asked for there.
    want: usize,
    reach: Reach,
    is_awaited: Arc<AtomicBool>,
    /// Until it has read.
    kept: Option<Kept>,
}

/// Keeps pages from being freed while they are read, though the reader that they are read for goes on or is
/// dropped meanwhile: their slots would be written to, or cut off, under a read of the store.
struct Kept {
    shared: Arc<Shared>,
    feed: Arc<Feed>,
    number: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let by_all = self.feed.leave(self.number);
        if by_all > 0 {
            // A job that has not begun is dropped on the loop.
            without_store(|| self.shared.content.free_consumed(by_all));
        }
    }
}

/// What a job has read.
#[derive(Default)]
struct Arrived {
    pieces: VecDeque<Piece>,
    /// Some of it came from the store, as what follows will, and that is to be read before it is asked for.
    goes_on: bool,
}

/// What was read ahead, and the job that reads what comes after it. Dropped before the receiver's handle of
/// the content, or it may be the last one.
#[derive(Default)]
pub(crate) struct ReadAhead {
    reading: Option<Pending<Place, Result<Arrived, SpillError>>>,
    arrived: Arrived,
    /// How far the next job reads.
    reach: Reach,
    /// Whether the receiver waits for the job that is under way. Made with the first.
    is_awaited: Option<Arc<AtomicBool>>,
}

impl ReadAhead {
    /// Of a receiver that has come from elsewhere.
    pub(crate) fn after_jump() -> Self {
        ReadAhead { reach: Reach::Jump, ..ReadAhead::default() }
    }

    /// Without what was read ahead and the job that is under way.
    pub(crate) fn emptied(&self) -> Self {
        ReadAhead { reach: self.reach, ..ReadAhead::default() }
    }

    /// Whether nothing was read ahead, and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.reading.is_none() && self.arrived.pieces.is_empty()
    }

    /// The next piece that a job has read, which begins at `at`.
    pub(crate) fn take(&mut self, extent: &Extent, at: u64, poller: Poller<'_>) -> Option<Piece> {
        let piece = self.arrived.pieces.pop_front()?;
        if self.arrived.pieces.is_empty() && self.arrived.goes_on {
            let _ = self.start(extent, at + piece.as_ref().len() as u64, COPIED_MAX); // else the next poll does
            self.begin(poller);
        }
        Some(piece)
    }

    /// Has the job that was queued begin, though nobody waits for it. What has failed is left to the next
    /// one.
    fn begin(&mut self, poller: Poller<'_>) {
        let Some(reading) = &mut self.reading else { return };
        if let Poll::Ready(Ok((_, read))) = poller.without_task().poll_job(reading) {
            self.reading = None;
            self.arrived = read.ok().and_then(|read| read.map_err(drop_quietly).ok()).unwrap_or_default();
        }
    }

    /// Waits for the job that is under way. Ready with false if there is none, and with true if
    /// it has read something.
    pub(crate) fn poll(&mut self, poller: Poller<'_>) -> Poll<io::Result<bool>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(Ok(false)) };
        self.is_awaited.iter().for_each(|is_awaited| is_awaited.store(true, Ordering::Relaxed));
        let read = ready!(poller.poll_job(reading));
        self.reading = None;
        let (_, read) = read?;
        self.arrived = read.map_err(not_run)??;
        Poll::Ready(Ok(true))
    }

    /// Queues a job for a receiver on its way down, that asks for `want` bytes at `at`, which is before the
    /// end. It reads what lies before them too, as far as one copy has it. Returns where that begins. It may
    /// end, or fail, before what is asked for.
    pub(crate) fn start_down(&mut self, extent: &Extent, at: u64, want: usize) -> io::Result<u64> {
        let before = COPIED_MAX.saturating_sub(want);
        let start = at.saturating_sub(before as u64);
        self.reach = if start < at { Reach::Down } else { Reach::Jump };
        self.start(extent, start, want + usize::try_from(at - start).unwrap_or(before))?;
        Ok(start)
    }

    /// Queues a job that reads from `at` on, where `want` bytes are asked for, if there is anything.
    pub(crate) fn start(&mut self, extent: &Extent, at: u64, want: usize) -> io::Result<()> {
        if at < extent.end {
            let offload = extent.shared.content.pool.offload();
            let is_awaited = self.is_awaited.take().or_else(|| try_arc(AtomicBool::new(false)));
            let is_awaited = is_awaited.ok_or(SpillError::OutOfMemory)?;
            is_awaited.store(false, Ordering::Relaxed);
            self.is_awaited = Some(Arc::clone(&is_awaited));
            let (extent, kept, reach) = (extent.clone(), extent.keep(at), self.reach);
            let place = Place { extent, at, want, reach, is_awaited, kept };
            let job = offload.submit(place, Place::read_ahead);
            self.reading = Some(job.map_err(|_| offload.refusal())?);
            self.reach = reach.next();
        }
        Ok(())
    }
}

impl Place {
    /// Pieces from here on, at least one. An error that comes after the first of them is left to the next
    /// job.
    fn read_ahead(&mut self) -> Result<Arrived, SpillError> {
        let _kept = self.kept.take();
        let (mut arrived, mut at) = (Arrived::default(), self.at);
        if let Some(len) = self.reach.copied(self.want) {
            let is_down = self.reach == Reach::Down;
            let copy = if is_down { self.extent.copy(at, len) } else { self.extent.copy_in_page(at, len) };
            arrived.pieces.push_back(copy?);
            return Ok(arrived);
        }
        let is_ahead = self.reach == Reach::Ahead;
        let most = if is_ahead { AHEAD_MAX } else { AHEAD_MAX.min(self.want as u64) };
        let end = self.extent.end.min(at.saturating_add(most));
        while at < end {
            let resident = self.extent.resident_piece(at);
            arrived.goes_on |= is_ahead && resident.is_none();
            match resident.unwrap_or_else(|| self.extent.piece(at)) {
                Ok(piece) => {
                    at += piece.as_ref().len() as u64;
                    let is_copied = matches!(piece, Piece::Copied(_));
                    arrived.pieces.push_back(piece);
                    let is_awaited = self.is_awaited.load(Ordering::Relaxed);
                    let has_room = at - self.at + COPIED_MAX as u64 <= COPIES_AHEAD_MAX;
                    if is_copied && !(is_awaited && has_room) {
                        break;
                    }
                }
                Err(error) if arrived.pieces.is_empty() => return Err(error),
                Err(error) => {
                    drop_quietly(error);
                    break;
                }
            }
        }
        Ok(arrived)
    }
}
