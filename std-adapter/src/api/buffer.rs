//! The file-like object itself: a position, and the pager that holds the bytes.
//!
//! Its promises are listed at [`SpillBuffer`].
//!
//! Held by: `tests/tests/spill_model.rs`, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults/`,
//! `tests/tests/when_full.rs`, `tests/tests/leftovers.rs`.

use crate::api::writable::Writable;
use crate::error::SpillError;
use crate::observe::stats::BufferStats;
use crate::pager::medium::MediumError;
use crate::pager::state::Pager;
use crate::pool::private;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use overspill_core::{Medium, ReadMedium};
use std::fmt;
use std::task::{Context, Poll};

/// The memory limit of a buffer made without one, in bytes.
pub(crate) const MEMORY_LIMIT_DEFAULT: usize = 8 << 20;

/// A file-like object that starts in RAM, and keeps in a temp file what does not fit under its pool's memory
/// limit.
///
/// It reads, writes and seeks as a file opened in binary mode does, wherever its bytes are. Seeking past
/// the end is allowed; a read there returns 0 bytes, and a write there fills the gap with zeros. It
/// implements [`Read`](std::io::Read), [`Write`](std::io::Write), [`Seek`](std::io::Seek) and
/// [`BufRead`](std::io::BufRead).
///
/// It promises:
///
/// - The memory of its pages is charged to the memory limit, to the byte, before it is allocated.
/// - Crossing the limit moves nothing at that moment: further pages go to the file, and a page leaves RAM
///   when another one needs its memory.
/// - Beyond the limit, memory is a write-back cache: small operations in order, or within the pages in use,
///   stay at memory speed. A small one elsewhere is one system call.
/// - A failed call loses nothing that was accepted before, and the buffer stays usable.
/// - No file of spilled bytes is left when the process ends, however it ends.
///
/// It does not promise:
///
/// - Durability: `flush` and dropping sync nothing. [`persist`](SpillBuffer::persist) does.
/// - That dropping frees the disk's blocks at once: see [below](#cost-of-dropping).
/// - Full counts: `write` may take less than all of its data when the disk fills, as a file's does.
///   `write_all` continues.
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
///
/// # Cost of dropping
///
/// Dropping a buffer, clearing it or cutting it costs some 20 to 40 ns for each page in the file: less than a
/// millisecond for a gigabyte in pages of 64 KiB. If a buffer of a pool frees more than 2 MiB in the pool's
/// store, that call makes no call of the store: the room below the disk limit is free at once, and the blocks
/// go back to the file system 2 MiB at a time, with the next calls that spill or free pages in the store.
/// Until then they are [`disk_recycled`](crate::PoolStats::disk_recycled), are used for what is spilled next,
/// and make no write fail: one that finds the disk full gives them back first. A pool that spills nothing
/// more keeps them until [`SpillPool::trim`](crate::SpillPool::trim), which takes as long as the file system
/// does, some 60 ms for a gigabyte on ext4.
///
/// Some files are closed by the drop itself, and the file system frees their blocks during it, which takes as
/// long: the file of a [standalone](SpillBuffer::new) buffer, the file of one made by
/// [`SpillPool::buffer_for`](crate::SpillPool::buffer_for), and the file of a pool whose last handle or
/// buffer is dropped. Clearing or cutting a buffer of the first two kinds takes as long. Where a thread must
/// not stop for so long, use buffers of a pool, or their async form.
pub struct SpillBuffer {
    /// Where the next read or write starts, in bytes: any `u64`, past the end too.
    pub(crate) position: u64,
    pub(crate) pager: Pager,
}

impl SpillBuffer {
    /// Makes an empty **standalone** buffer: it belongs to no [`SpillPool`](crate::SpillPool), and has a
    /// memory limit, of 8 MiB, and a temp file of its own. It has no disk limit.
    ///
    /// Allocates no page and makes no file yet.
    #[must_use]
    pub fn new() -> Self {
        SpillBuffer::with_budget(MEMORY_LIMIT_DEFAULT)
    }

    /// Makes an empty [standalone](SpillBuffer::new) buffer with a memory limit of `bytes`, and no disk
    /// limit. With 0, every byte goes to the file.
    ///
    /// Buffers that share a limit come from a [`SpillPool`](crate::SpillPool).
    #[must_use]
    pub fn with_budget(bytes: usize) -> Self {
        SpillBuffer { position: 0, pager: Pager::of(private::open(bytes)) }
    }

    #[inline]
    pub(crate) fn in_pool(pool: &Arc<PoolState>) -> Self {
        SpillBuffer { position: 0, pager: Pager::new(pool) }
    }

    /// The length of the content in bytes, wherever they are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pager.len()
    }

    /// Whether the content has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pager.is_empty()
    }

    /// Where the next read or write starts, in bytes from the beginning. May lie past the end.
    #[inline]
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Cuts the content to `len` bytes, or extends it with zeros. The position stays, even past the new
    /// end.
    ///
    /// Extending takes neither memory nor disk, whatever `len`. Cutting frees both. With 0, a
    /// [standalone](SpillBuffer::new) buffer also closes its temp file, and makes another when it spills
    /// again.
    ///
    /// # Errors
    /// None at present. The result leaves room for stores that can fail here.
    pub fn set_len(&mut self, len: u64) -> Result<(), SpillError> {
        self.pager.set_len(len).map_err(MediumError::into_inner)?;
        if len == 0 {
            self.pager.leave_empty_file();
        }
        Ok(())
    }

    /// Empties the buffer and moves to position 0. Its memory and disk go back to the pool. A
    /// [standalone](SpillBuffer::new) buffer closes its temp file, and makes another when it spills again.
    pub fn clear(&mut self) {
        // Cutting only frees, so it cannot fail.
        let _ = self.set_len(0);
        self.pager.leave_queue();
        self.position = 0;
    }

    /// Whether the buffer uses room in the store: for bytes that are only there, or for copies of pages in
    /// memory. What it shares with a [clone](SpillBuffer::try_clone) is not counted.
    #[must_use]
    pub fn is_spilled(&self) -> bool {
        self.pager.stats().disk_used > 0
    }

    /// Moves all pages from memory to the store now, and returns their memory to the pool. Not those that a
    /// [clone](SpillBuffer::try_clone) shares.
    ///
    /// # Errors
    /// If the disk limit or the store refuses: pages that did not move are still in memory. With
    /// [`WhenFull::Wait`](crate::WhenFull::Wait), the call waits for room before it fails.
    pub fn spill(&mut self) -> Result<(), SpillError> {
        self.pager.retry_after_waits(Pager::spill)
    }

    /// Waits, without blocking the thread, until a write or [`spill`](SpillBuffer::spill) that was refused
    /// with [`SpillError::DiskLimit`] is worth trying again. For callers that must not block, in pools and
    /// buffers that [fail](crate::WhenFull::Fail) at the limit.
    ///
    /// The future is ready when the refused bytes have been set aside for this buffer, or when memory came
    /// free. The next attempt may still be refused: then await again, and the buffer keeps its place in the
    /// queue.
    ///
    /// The future is ready at once:
    ///
    /// - if nothing was refused since the last success;
    /// - the first time, which puts the buffer in the queue: room may have come free just before that;
    /// - after a refusal by the buffer's own disk limit ([`DiskLimitScope::Buffer`](crate::DiskLimitScope)),
    ///   which no other buffer can lift.
    ///
    /// Bytes that are set aside stay so, and no other buffer can use them, until the next write or spill
    /// succeeds, until the buffer is cut or [cleared](SpillBuffer::clear), or until it is dropped: so try
    /// soon. The future needs no runtime and has no deadline; use your runtime's.
    ///
    /// # Cancel safety
    /// Dropping the future before it is ready leaves the queue, and releases what was set aside. Nothing else
    /// changes: no byte of the content is lost, and the position stays.
    ///
    /// ```
    /// use overspill::{DiskLimitScope, SpillBuffer, SpillError};
    /// use std::io::{self, Write};
    ///
    /// /// Whether other buffers can make room.
    /// fn may_pass(error: &io::Error) -> bool {
    ///     matches!(SpillError::of(error), Some(SpillError::DiskLimit { scope: DiskLimitScope::Pool, .. }))
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

    /// Polls as [`writable`](SpillBuffer::writable) does, for implementors of `poll_write` and the like.
    ///
    /// After `Pending` the buffer is in the queue, and stays there, until its next success or until it is
    /// cut, [cleared](SpillBuffer::clear) or dropped. Ceasing to poll does not leave the queue.
    pub fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.pager.poll_writable(context)
    }

    /// Where the bytes are, and how much was spilled and transferred so far.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        self.pager.stats()
    }

    /// Checks every invariant that can be checked without I/O. For tests, while no other handle has a job
    /// under way over what the buffer shares with it: a page that is being loaded is charged, and in no table
    /// yet.
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

/// Shows lengths and counts, never the content.
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
