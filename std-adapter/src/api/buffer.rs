//! The file-like object itself: a cursor over pages.

use crate::api::writable::Writable;
use crate::error::SpillError;
use crate::observe::stats::BufferStats;
use crate::pager::state::Pager;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use overspill_core::{Medium, ReadMedium};
use std::fmt;
use std::task::{Context, Poll};

/// Bytes of memory of a buffer that was not told otherwise.
pub(crate) const BUDGET_DEFAULT: usize = 8 << 20;

/// A file-like object that starts in RAM, and moves pages to a temp file when its pool's memory
/// budget is used up.
///
/// It reads, writes and seeks as a file opened in binary mode does, whatever is where: seeking past
/// the end is allowed, reading there gives nothing, writing there fills the gap with zeros. It
/// implements [`Read`](std::io::Read), [`Write`](std::io::Write), [`Seek`](std::io::Seek) and
/// [`BufRead`](std::io::BufRead).
///
/// What it promises:
///
/// - The memory of its pages counts against the budget, to the byte, before it is allocated.
/// - Crossing the budget moves nothing: what is in RAM stays there, further pages go to the file.
/// - After that, memory is a write-back cache: small operations stay as fast as before.
/// - A failed call loses nothing that was accepted before, and the buffer stays usable.
/// - Nothing is left on the disk when the process ends, however it ends.
///
/// What it does not:
///
/// - `flush` and dropping make nothing durable; [`persist`](SpillBuffer::persist) does.
/// - A short count is an answer: `write` may take less than it was given when the disk fills, as a
///   file's does. `write_all` continues.
///
/// ```
/// use overspill::SpillBuffer;
/// use std::io::{Read, Seek, SeekFrom, Write};
///
/// let mut buffer = SpillBuffer::with_budget(64 << 10);
/// for line in 0..100_000 {
///     writeln!(buffer, "line {line}")?; // more than a megabyte, in 64 KiB of memory
/// }
/// assert!(buffer.is_spilled());
///
/// buffer.seek(SeekFrom::End(-12))?;
/// let mut last = String::new();
/// buffer.read_to_string(&mut last)?;
/// assert_eq!(last, "\nline 99999\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SpillBuffer {
    /// Where the next read or write starts, in bytes: any `u64`, past the end too.
    pub(crate) position: u64,
    pub(crate) pager: Pager,
}

impl SpillBuffer {
    /// An empty buffer with a budget of 8 MiB of its own.
    #[must_use]
    pub fn new() -> Self {
        SpillBuffer::with_budget(BUDGET_DEFAULT)
    }

    /// An empty buffer with a budget of `bytes` of its own. With 0, everything goes to the file.
    ///
    /// Buffers that are to share a budget come from a [`SpillPool`](crate::SpillPool).
    #[must_use]
    pub fn with_budget(bytes: usize) -> Self {
        SpillBuffer::in_pool(Arc::new(PoolState::private(bytes)))
    }

    pub(crate) fn in_pool(pool: Arc<PoolState>) -> Self {
        SpillBuffer { position: 0, pager: Pager::new(pool) }
    }

    /// The number of bytes in the buffer, wherever they are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pager.len()
    }

    /// Whether the buffer holds nothing.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pager.is_empty()
    }

    /// Where the next read or write starts, in bytes from the beginning.
    #[inline]
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Cuts the content to `len` bytes, or adds zeros up to it. The position stays, even past the
    /// new end.
    ///
    /// Adding zeros takes neither memory nor disk, whatever `len`. Cutting frees both.
    ///
    /// # Errors
    /// None at present: the result is for stores to come.
    pub fn set_len(&mut self, len: u64) -> Result<(), SpillError> {
        Ok(self.pager.set_len(len)?)
    }

    /// Empties the buffer and moves to position 0. Memory and disk go back to the pool.
    pub fn clear(&mut self) {
        // Cutting cannot fail: it only gives back.
        let _ = self.pager.set_len(0);
        self.pager.leave_queue();
        self.position = 0;
    }

    /// Whether the buffer has taken room in the store: some of its bytes are there, or a copy is.
    #[must_use]
    pub fn is_spilled(&self) -> bool {
        self.pager.usage().disk.used() > 0
    }

    /// Moves everything that is in memory to the store now, and gives the memory back to the pool.
    ///
    /// # Errors
    /// If the disk limit or the store refuses: what did not move is still in memory. Where room is
    /// waited for ([`WhenFull`](crate::WhenFull)), that is after the wait.
    pub fn spill(&mut self) -> Result<(), SpillError> {
        self.pager.retry_after_waits(Pager::spill)
    }

    /// Waits, without blocking the thread, for what a write or [`spill`](SpillBuffer::spill) was
    /// refused with [`SpillError::DiskLimit`]: until it is worth trying again. For callers that may not
    /// block, in pools and buffers that [fail](crate::WhenFull::Fail) at the limit.
    ///
    /// It is ready when as much of the disk as was asked has been set aside for this buffer, or when
    /// memory came free; the write tried again may still be refused, and then this is to be awaited
    /// again, with the buffer's turn in the queue kept. If nothing was refused since the last
    /// success, it is ready at once. So is it the first time, for the sake of what came free meanwhile.
    ///
    /// Dropping the future before it is ready leaves the queue. What was set aside is given up by the
    /// next success, by cutting or [clearing](SpillBuffer::clear) the buffer, or by dropping it; until then nobody else has it, so try soon. It needs no runtime, and
    /// has no deadline: take your runtime's.
    ///
    /// A refusal for the buffer's own disk limit ([`DiskLimitScope::Buffer`](crate::DiskLimitScope)) is not waited
    /// for: then, too, it is ready at once.
    ///
    /// ```
    /// use overspill::{DiskLimitScope, SpillBuffer, SpillError};
    /// use std::io::{self, Write};
    ///
    /// /// Whether others can make room.
    /// fn may_pass(error: &io::Error) -> bool {
    ///     let error = error.get_ref().and_then(|error| error.downcast_ref());
    ///     matches!(error, Some(SpillError::DiskLimit { scope: DiskLimitScope::Pool, .. }))
    /// }
    ///
    /// async fn write_all(buffer: &mut SpillBuffer, mut data: &[u8]) -> io::Result<()> {
    ///     while !data.is_empty() {
    ///         match buffer.write(data) {
    ///             Ok(taken) => data = &data[taken..],
    ///             Err(error) if may_pass(&error) => buffer.writable().await,
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn writable(&mut self) -> Writable<'_> {
        Writable { pager: &mut self.pager, is_done: false }
    }

    /// [`room`](SpillBuffer::writable) for implementors of `poll_write` and the like. A caller that gives up
    /// after `Pending` drops or [clears](SpillBuffer::clear) the buffer, or else keeps its turn.
    pub fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.pager.poll_writable(context)
    }

    /// Where the bytes are, and what it took to put them there.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        self.pager.stats()
    }

    /// Checks every invariant that can be checked from outside I/O. For tests.
    ///
    /// # Panics
    /// If one does not hold.
    #[doc(hidden)]
    pub fn check_invariants(&mut self) {
        self.pager.check_invariants();
    }
}

impl Default for SpillBuffer {
    fn default() -> Self {
        SpillBuffer::new()
    }
}

/// Tells where the buffer stands, and never reads its data.
impl fmt::Debug for SpillBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("SpillBuffer")
            .field("len", &self.len())
            .field("position", &self.position())
            .field("memory_used", &stats.memory_used)
            .field("disk_used", &stats.disk_used)
            .finish_non_exhaustive()
    }
}
