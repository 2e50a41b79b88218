//! A file of which more is to come.
//!
//! Promise: what came is in the pool, but for 16 KiB at most, and its sum is that of all of it.

use crate::files::Stored;
use crate::hashed::digits;
use crate::refusal::Refusal;
use axum::http::StatusCode;
use overspill::{AsyncSpillBuffer, CollectError, DiskLimitScope, IntoInnerError, SpillError, SpillPool};
use sha2::{Digest, Sha256};
use std::io;
use tokio::time::Instant;

/// A file of which more is to come.
#[derive(Debug)]
pub struct Partial {
    /// What came so far; `None` once the file is whole.
    pub buffer: Option<AsyncSpillBuffer>,
    /// The sum of that.
    pub sum: Sha256,
    /// When the last byte of it came, or its first request.
    pub grown: Instant,
    /// So much of it is in the pool, and not beside the pages.
    settled: u64,
}

impl Partial {
    /// Nothing of a file yet.
    pub(crate) fn new(pool: &SpillPool) -> Self {
        let buffer = Some(pool.buffer().into_async());
        Partial { buffer, sum: Sha256::new(), grown: Instant::now(), settled: 0 }
    }

    /// Where the next byte goes; `None` if the file is whole by now.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.buffer.as_ref().map(AsyncSpillBuffer::len)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.offset().is_none_or(|offset| offset == self.settled)
    }

    /// Moves what was accepted beside the pages, up to 16 KiB that no limit counts, into the pool: the next
    /// request may be long in coming.
    ///
    /// # Errors
    /// As those of a write: what was accepted last finds no room. It is kept where it is.
    pub async fn settle(&mut self) -> io::Result<()> {
        let Some(buffer) = &mut self.buffer else { return Ok(()) };
        let len = buffer.len();
        buffer.run(|_| ()).await?;
        self.settled = len;
        Ok(())
    }

    /// The file, now that all of it is there. `None` if that was said before.
    ///
    /// # Errors
    /// As [`settle`](Partial::settle).
    pub async fn finish(&mut self, pool: &SpillPool) -> Result<Option<Stored>, Refusal> {
        // So that nothing waits from here on.
        self.settle().await.map_err(|error| self.no_room(pool, error))?;
        let Some(buffer) = self.buffer.take() else { return Ok(None) };
        let no_room = |error: IntoInnerError| CollectError::of_write(self.settled, error.into());
        let buffer = buffer.into_inner().await.map_err(no_room)?;
        let sum = std::mem::take(&mut self.sum);
        Ok(Some(Stored { body: buffer.freeze().into(), sha256: digits(sum).into() }))
    }
    /// The answer to a write that failed. Others that end make room, unless there are none: then the file is
    /// too long, also if it is a little shorter than the limits of the pool, whose frames and slots are
    /// whole.
    #[must_use]
    pub fn no_room(&self, pool: &SpillPool, error: io::Error) -> Refusal {
        let len = self.offset().unwrap_or(self.settled);
        if !self.fills(pool, &error) {
            return CollectError::of_write(len, error).into();
        }
        let text =
            format!("there is no room for the file after {len} bytes; delete it, and send a shorter one");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// Whether it has the pool for itself, which has refused it room on the disk.
    fn fills(&self, pool: &SpillPool, error: &io::Error) -> bool {
        let Some(SpillError::DiskLimit { scope: DiskLimitScope::Pool, requested, .. }) =
            SpillError::of(error)
        else {
            return false;
        };
        let Some(own) = self.buffer.as_ref().and_then(AsyncSpillBuffer::stats) else { return false };
        let all = pool.stats();
        let is_alone = all.disk_used <= own.disk_used && all.memory_used <= own.memory_used;
        is_alone && own.disk_used.saturating_add(*requested) > all.disk_limit
    }
}
