//! What an async reader of a spool does beside [reading](crate::polled::reader): it waits for the
//! writer, as a future.
//!
//! Promises:
//!
//! - A wait that is dropped leaves a waker in the feed, and nothing else.
//! - Nothing here blocks, but for the locks of a poll, and nothing calls the store.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::spool_reader::SpoolReader;
use crate::disk::store_access::without_store;
use crate::error::SpillError;
use crate::polled::held::Pooled;
use crate::polled::read_ahead::Extent;
use crate::polled::reader::View;
use crate::polled::runtime::{Alarm, Poller};
use crate::pool::state::PoolState;
use crate::sync::Arc;
use std::io;
use std::task::{Poll, ready};
use std::time::Instant;

/// A wait of a reader for more than there is up to a position.
pub(crate) struct Waiting {
    at: u64,
    began: Instant,
    alarm: Alarm,
}

impl SpoolReader {
    /// As a read, which waits for more at the end of what was written, does before it reads: the
    /// number of bytes that can be read now, or 0 at the end. `waiting` is the wait of this reader,
    /// which ends when it is ready.
    pub(crate) fn poll_more(
        &mut self,
        poller: Poller<'_>,
        waiting: &mut Option<Waiting>,
    ) -> Poll<io::Result<usize>> {
        let more = match self.look() {
            Ok(None) if self.poll_readable(&mut poller.context()).is_pending() => {
                ready!(self.poll_timeout(poller, waiting)).map(|()| 0)
            }
            // In a forked process, nobody writes.
            Ok(None) => self.look().and_then(|left| left.ok_or_else(|| SpillError::Forked.into())),
            Ok(Some(left)) => Ok(left),
            Err(error) => Err(error),
        };
        *waiting = None;
        Poll::Ready(more)
    }

    /// Ready, with an error, once the reader has waited for as long as it may.
    fn poll_timeout(&self, poller: Poller<'_>, waiting: &mut Option<Waiting>) -> Poll<io::Result<()>> {
        let Some(timeout) = self.timeout else { return Poll::Pending };
        let at = self.at;
        let waiting = match waiting.take_if(|waiting| waiting.at == at) {
            Some(same) => waiting.insert(same),
            None => waiting.insert(Waiting { at, began: Instant::now(), alarm: Alarm::default() }),
        };
        let Some(deadline) = waiting.began.checked_add(timeout) else { return Poll::Pending };
        // The runtime's clock may be late, and a timer of no time too.
        if deadline > Instant::now() && !waiting.alarm.is_over(deadline, poller) {
            return Poll::Pending;
        }
        Poll::Ready(Err(SpillError::NothingWritten { waited: waiting.began.elapsed() }.into()))
    }

    /// Seeks from the end, once that is known. As in the blocking form, whatever is written begins a new
    /// wait.
    pub(crate) fn poll_seek_from_end(
        &mut self,
        poller: Poller<'_>,
        waiting: &mut Option<Waiting>,
        offset: i64,
    ) -> Poll<io::Result<u64>> {
        let at = std::mem::replace(&mut self.at, self.shared.content.len());
        let ended = loop {
            match self.poll_more(poller, waiting) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Ok(self.at)),
                Poll::Ready(Ok(_)) => self.at = self.shared.content.len(),
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.at = at;
        let end = ready!(ended)?;
        Poll::Ready(without_store(|| self.seek_from(end, offset)))
    }

    /// The next `left` bytes, which are written.
    pub(crate) fn view(&mut self, left: usize) -> View<'_> {
        let (shared, feed) = (Arc::clone(&self.shared), Some(Arc::clone(&self.feed)));
        let extent = Extent { shared, end: self.at + left as u64, feed };
        View { extent, reader: &mut self.reader, at: &mut self.at }
    }

    /// What was lent at the position, with nothing in between.
    pub(crate) fn lent(&self) -> &[u8] {
        self.reader.lent(self.at)
    }
}

impl Pooled for SpoolReader {
    fn pool(&self) -> &Arc<PoolState> {
        &self.shared.content.pool
    }
}
