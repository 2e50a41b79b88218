//! The statistics of a buffer and of a pool, as plain values.
//!
//! Counts never go down; [`since`](IoCounts::since) subtracts an earlier reading. Nothing in the crate
//! decides anything by these values.
//!
//! Held by: `tests/tests/pool_stats.rs`, `tests/tests/observed/main.rs`, `tests/tests/transfers.rs`.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// Transfers to and from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoCounts {
    /// Transfers from the store that moved bytes: one for each contiguous run of its bytes.
    pub reads: u64,
    /// Bytes read from the store.
    pub read_bytes: u64,
    /// Transfers to the store that moved bytes: one for each contiguous run of its bytes.
    pub writes: u64,
    /// Bytes written to the store.
    pub written_bytes: u64,
    /// Transfers that failed because the store failed or has no file, and blocks whose
    /// [checksum](crate::Checksums) did not match. Refusals by a full store or a limit are not counted. The
    /// request that needed the transfer has failed too, or has gone another way, or has tried again, and each
    /// failed attempt counts.
    pub errors: u64,
    /// The time that all transfers took, failed ones included, summed over threads.
    pub time: Duration,
}

impl IoCounts {
    pub(crate) fn count_read(&mut self, bytes: usize, took: Duration) {
        self.reads += u64::from(bytes > 0);
        self.read_bytes += bytes as u64;
        self.time += took;
    }

    pub(crate) fn count_write(&mut self, bytes: usize, took: Duration) {
        self.writes += u64::from(bytes > 0);
        self.written_bytes += bytes as u64;
        self.time += took;
    }

    /// What was counted after `earlier` was read. A count that is lower than in `earlier`, for example
    /// because that is of another buffer, becomes 0.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Write;
    ///
    /// let mut buffer = SpillBuffer::with_budget(0);
    /// buffer.write_all(&[7; 4096])?;
    /// let earlier = buffer.stats().io;
    /// buffer.write_all(&[7; 1000])?;
    /// assert_eq!(buffer.stats().io.since(&earlier).written_bytes, 1000);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &IoCounts) -> IoCounts {
        IoCounts {
            reads: self.reads.saturating_sub(earlier.reads),
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            errors: self.errors.saturating_sub(earlier.errors),
            time: self.time.saturating_sub(earlier.time),
        }
    }
}

impl Add for IoCounts {
    type Output = IoCounts;

    fn add(self, other: IoCounts) -> IoCounts {
        IoCounts {
            reads: self.reads + other.reads,
            read_bytes: self.read_bytes + other.read_bytes,
            writes: self.writes + other.writes,
            written_bytes: self.written_bytes + other.written_bytes,
            errors: self.errors + other.errors,
            time: self.time + other.time,
        }
    }
}

/// Bytes that callers have read from buffers, and have written to buffers and spools. Bytes that are read
/// from [frozen](crate::Frozen) content and from spools are not counted, nor is handing the content over to a
/// file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ByteCounts {
    /// Bytes that callers have read from buffers.
    pub read: u64,
    /// Bytes that were accepted from callers.
    pub written: u64,
}

impl ByteCounts {
    /// What was counted after `earlier` was read. A count that is lower than in `earlier` becomes 0.
    #[must_use]
    pub fn since(&self, earlier: &ByteCounts) -> ByteCounts {
        ByteCounts {
            read: self.read.saturating_sub(earlier.read),
            written: self.written.saturating_sub(earlier.written),
        }
    }
}

/// Where the bytes of one buffer are, and how much was spilled and transferred for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferStats {
    /// Bytes of memory that this buffer uses: its frames, and each piece of memory that it was given, whole
    /// as long as the buffer keeps a page of it.
    pub memory_used: u64,
    /// Bytes of the store that this buffer uses: its slots. A clean page, in memory with a copy in its slot,
    /// counts both here and in `memory_used`.
    pub disk_used: u64,
    /// Pages whose bytes went to the store: moved out of memory, or written there directly.
    pub spills: u64,
    /// Bytes that callers have read and written, those that stayed in memory included.
    pub requested: ByteCounts,
    /// Transfers to and from the store that this buffer's calls made for its own pages. Two kinds of
    /// transfers are counted in the pool's `io` only: those by which the pool moved pages of this buffer for
    /// other buffers or for a lowered limit, though `spills` counts those pages; and those of pages that are
    /// shared with a [clone](crate::SpillBuffer::try_clone).
    pub io: IoCounts,
}

impl BufferStats {
    /// What was counted after `earlier` was read: spills, bytes requested and transfers. Memory and disk used
    /// are as they are now. A count that is lower than in `earlier` becomes 0.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Write;
    ///
    /// let mut buffer = SpillBuffer::with_budget(1 << 20);
    /// buffer.write_all(&[7; 4096])?;
    /// let before = buffer.stats();
    /// buffer.write_all(&[7; 1000])?;
    /// let since = buffer.stats().since(&before);
    /// assert_eq!((since.requested.written, since.memory_used >= 5096), (1000, true));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &BufferStats) -> BufferStats {
        BufferStats {
            spills: self.spills.saturating_sub(earlier.spills),
            requested: self.requested.since(&earlier.requested),
            io: self.io.since(&earlier.io),
            ..*self
        }
    }
}

/// What a pool holds at one moment, and what happened in it since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Bytes of memory that all buffers use: their frames, and the memory that they were given and keep.
    pub memory_used: u64,
    /// Bytes of memory in recycled frames: no buffer uses them, and they are kept for reuse. Together with
    /// `memory_used` they never pass `memory_limit`, unless the limit was lowered and pages could not leave
    /// yet.
    pub memory_recycled: u64,
    /// The most that `memory_used` and `memory_recycled` were together, in bytes.
    pub memory_high_water: u64,
    /// The memory limit, in bytes.
    pub memory_limit: u64,
    /// Bytes that this process keeps resident for further frames of all its pools, and that no pool is
    /// charged for: at most 12 MiB. 0 where frames come from the allocator, which does not report what it
    /// keeps.
    pub memory_warm: u64,
    /// Bytes of frames and of given memory that are lent: as `Bytes`, or to async readers that read ahead.
    /// Their content may be gone already. They count in `memory_used`.
    pub memory_lent: u64,
    /// Bytes of the store that the slots of all buffers use, what is free in blocks that small bodies share,
    /// and what is set aside for waiters, together.
    pub disk_used: u64,
    /// Bytes of freed slots whose blocks the store still has, for further slots: at most 1 MiB, unless the
    /// store could not take them back, or more than 2 MiB was freed at once. The excess goes back with later
    /// calls that spill or free, or by [`SpillPool::trim`](crate::SpillPool::trim).
    pub disk_recycled: u64,
    /// The most that `disk_used` was, in bytes.
    pub disk_high_water: u64,
    /// The disk limit, in bytes; `u64::MAX` for none.
    pub disk_limit: u64,
    /// Live buffers, including frozen ones. What [clones](crate::SpillBuffer::try_clone) share counts as one
    /// more for each generation: what was written between two clones of one buffer, as long as any of it is
    /// seen.
    pub buffers: usize,
    /// Pages whose bytes went to the store, by reason.
    pub spills: SpillCounts,
    /// Pages with content that lost their frame, whether they had to be written or their slot was up to date.
    /// Copies of what a [clone](crate::SpillBuffer::try_clone) or a [frozen](crate::Frozen) buffer has are
    /// not counted.
    pub evictions: u64,
    /// Frames that the pool took from a donor, for another buffer or for a lowered limit.
    pub reclaims: u64,
    /// Bytes that callers have read and written, in memory or in the store, counted only for buffers that
    /// have used the store, or of which the pool has moved a page there. For a live buffer, bytes requested
    /// since the last transfer that its own calls made are not included yet. `io` divided by this is the
    /// number of bytes moved for each byte requested. That holds only without frozen content, clones and
    /// spools: `io` includes the transfers for their readers, but what those read is not counted here.
    pub requested: ByteCounts,
    /// All transfers to and from the store, those of reclaimed pages included.
    pub io: IoCounts,
    /// The part of `io` that went straight between a caller's bytes and the store, past all frames.
    pub direct_io: IoCounts,
    /// Requests that failed for lack of room.
    pub refused: RefusalCounts,
    /// Calls that waited for disk room, blocking or async, and have ended.
    pub waits: u64,
    /// The part of `waits` that found no room, and failed.
    pub waits_timed_out: u64,
    /// The time that `waits` have waited, summed over calls.
    pub wait_time: Duration,
    /// Buffers in the queue for disk room now, for blocking calls and for async ones.
    pub waiters: u64,
}

impl PoolStats {
    /// What was counted after `earlier` was read: spills, evictions, reclaims, bytes requested, transfers,
    /// refusals and waits. All else is as it is now.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::Write;
    ///
    /// let pool = SpillPool::builder().memory(0).build()?;
    /// pool.buffer().write_all(&[1; 100_000])?;
    /// let before = pool.stats();
    /// pool.buffer().write_all(&[2; 50_000])?;
    /// assert_eq!(pool.stats().since(&before).io.written_bytes, 50_000);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &PoolStats) -> PoolStats {
        PoolStats {
            spills: self.spills.since(&earlier.spills),
            evictions: self.evictions.saturating_sub(earlier.evictions),
            reclaims: self.reclaims.saturating_sub(earlier.reclaims),
            requested: self.requested.since(&earlier.requested),
            io: self.io.since(&earlier.io),
            direct_io: self.direct_io.since(&earlier.direct_io),
            refused: self.refused.since(&earlier.refused),
            waits: self.waits.saturating_sub(earlier.waits),
            waits_timed_out: self.waits_timed_out.saturating_sub(earlier.waits_timed_out),
            wait_time: self.wait_time.saturating_sub(earlier.wait_time),
            ..*self
        }
    }
}

/// Why a page's bytes went to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpillReason {
    /// It made way for another page of its buffer, or it grew and there was no memory for a larger frame.
    Evicted,
    /// The pool reclaimed its frame for another buffer.
    Reclaimed,
    /// It was written directly to the store, past memory: no frame was available, or the write was large.
    Direct,
    /// [`SpillBuffer::spill`](crate::SpillBuffer::spill) was called, or
    /// [`persist`](crate::SpillBuffer::persist) of a buffer that spills beside its final file.
    Requested,
    /// The memory limit was lowered.
    LimitLowered,
}

impl SpillReason {
    /// The name in events and metrics: `evicted`, `reclaimed`, `direct`, `requested` or `limit_lowered`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SpillReason::Evicted => "evicted",
            SpillReason::Reclaimed => "reclaimed",
            SpillReason::Direct => "direct",
            SpillReason::Requested => "requested",
            SpillReason::LimitLowered => "limit_lowered",
        }
    }
}

impl fmt::Display for SpillReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Pages whose bytes went to the store, by [`SpillReason`]. A page that is spilled again counts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpillCounts {
    /// See [`SpillReason::Evicted`].
    pub evicted: u64,
    /// See [`SpillReason::Reclaimed`].
    pub reclaimed: u64,
    /// See [`SpillReason::Direct`].
    pub direct: u64,
    /// See [`SpillReason::Requested`].
    pub requested: u64,
    /// See [`SpillReason::LimitLowered`].
    pub limit_lowered: u64,
}

impl SpillCounts {
    /// Each reason with its number of pages.
    #[must_use]
    pub fn by_reason(&self) -> [(SpillReason, u64); 5] {
        [
            (SpillReason::Evicted, self.evicted),
            (SpillReason::Reclaimed, self.reclaimed),
            (SpillReason::Direct, self.direct),
            (SpillReason::Requested, self.requested),
            (SpillReason::LimitLowered, self.limit_lowered),
        ]
    }

    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, pages)| pages).sum()
    }

    /// What was counted after `earlier` was read. A count that is lower than in `earlier` becomes 0.
    #[must_use]
    pub fn since(&self, earlier: &SpillCounts) -> SpillCounts {
        SpillCounts {
            evicted: self.evicted.saturating_sub(earlier.evicted),
            reclaimed: self.reclaimed.saturating_sub(earlier.reclaimed),
            direct: self.direct.saturating_sub(earlier.direct),
            requested: self.requested.saturating_sub(earlier.requested),
            limit_lowered: self.limit_lowered.saturating_sub(earlier.limit_lowered),
        }
    }
}

/// Requests that failed for lack of room. A write that took some bytes and then ran out of room succeeded,
/// and is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusalCounts {
    /// Requests that failed with [`SpillError::DiskLimit`](crate::SpillError::DiskLimit).
    pub disk_limit: u64,
    /// Requests that failed with [`SpillError::StoreFull`](crate::SpillError::StoreFull).
    pub store_full: u64,
}

impl RefusalCounts {
    /// What was counted after `earlier` was read. A count that is lower than in `earlier` becomes 0.
    #[must_use]
    pub fn since(&self, earlier: &RefusalCounts) -> RefusalCounts {
        RefusalCounts {
            disk_limit: self.disk_limit.saturating_sub(earlier.disk_limit),
            store_full: self.store_full.saturating_sub(earlier.store_full),
        }
    }
}
