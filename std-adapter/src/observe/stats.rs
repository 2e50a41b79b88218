//! What happened, for people to look at. Nothing in the crate decides anything by it.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// Transfers to and from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoCounts {
    /// Transfers from the store: one for each run of bytes that lay together there.
    pub reads: u64,
    /// Bytes that came from the store.
    pub read_bytes: u64,
    /// Transfers to the store.
    pub writes: u64,
    /// Bytes that went to the store.
    pub written_bytes: u64,
    /// The time that all these transfers took together.
    pub time: Duration,
}

impl IoCounts {
    pub(crate) fn count_read(&mut self, bytes: usize, took: Duration) {
        self.reads += 1;
        self.read_bytes += bytes as u64;
        self.time += took;
    }

    pub(crate) fn count_write(&mut self, bytes: usize, took: Duration) {
        self.writes += 1;
        self.written_bytes += bytes as u64;
        self.time += took;
    }

    /// What was counted after `earlier` was read. A count that is lower than it was then, as of another buffer,
    /// is 0.
    #[must_use]
    pub fn since(&self, earlier: &IoCounts) -> IoCounts {
        IoCounts {
            reads: self.reads.saturating_sub(earlier.reads),
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
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
            time: self.time + other.time,
        }
    }
}

/// Where the bytes of one buffer are, and what it took to put them there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferStats {
    /// Bytes of memory charged to the budget for this buffer: its frames.
    pub memory_used: u64,
    /// Bytes of the store taken by this buffer: its slots. A page whose copy in a slot is still good
    /// counts here and in `memory_used`.
    pub disk_used: u64,
    /// Pages that were moved out of memory to the store, or written there directly.
    pub spills: u64,
    /// Transfers to and from the store.
    pub io: IoCounts,
}

/// A moment in the life of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Bytes of memory that the frames of all buffers take.
    pub memory_used: u64,
    /// Bytes of memory in frames that no buffer uses, kept to be used again. With
    /// `memory_used` they never pass `memory_limit`.
    pub memory_recycled: u64,
    /// The most that both were together, in bytes.
    pub memory_high_water: u64,
    /// The memory budget, in bytes.
    pub memory_limit: u64,
    /// Bytes of the store that the slots of all buffers take, or that are set aside for buffers that
    /// wait for room.
    pub disk_used: u64,
    /// The most that it was, in bytes.
    pub disk_high_water: u64,
    /// The disk limit, in bytes.
    pub disk_limit: u64,
    /// The buffers that there are.
    pub buffers: usize,
    /// Pages whose bytes went to the store, by reason.
    pub spills: SpillCounts,
    /// Pages with content that gave up their frame, whether they had to be written or were in the store
    /// already.
    pub evictions: u64,
    /// Frames that were taken back from a buffer, for another or because the limit was lowered.
    pub reclaims: u64,
    /// All transfers to and from the store, those for taking pages back included.
    pub io: IoCounts,
    /// Those of them that went straight between a caller's bytes and the store, past all frames.
    pub direct_io: IoCounts,
    /// Requests that failed for want of room.
    pub refused: RefusalCounts,
    /// Calls that blocked to wait for room, and are done with that.
    pub waits: u64,
    /// Those of them that waited in vain, and failed.
    pub waits_timed_out: u64,
    /// The time that all of them waited together.
    pub wait_time: Duration,
    /// How many wait for room just now, blocked or not.
    pub waiters: u64,
}

/// Why a page's bytes went to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpillReason {
    /// It made way for another page of its buffer, or there was no memory for it to grow.
    Evicted,
    /// Another buffer of the pool needed its frame more.
    Reclaimed,
    /// It was written past memory: there was none to be had, or the piece was large.
    Direct,
    /// [`SpillBuffer::spill`](crate::SpillBuffer::spill) was called, or
    /// [`persist`](crate::SpillBuffer::persist) of a buffer that spills beside its final file.
    Requested,
    /// The memory limit was lowered.
    LimitLowered,
}

impl SpillReason {
    /// A short name, as events and metrics have it: `evicted`, `reclaimed`, and so on.
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

/// Pages whose bytes went to the store, by [`SpillReason`]. A page that goes there again is counted again.
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
    /// Each reason, and the pages that it moved.
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

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, pages)| pages).sum()
    }

    /// What was counted after `earlier` was read; 0 where that is the higher one.
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

/// Requests that failed for want of room. A write that took some bytes before it met the end of the room
/// is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusalCounts {
    /// With [`SpillError::DiskLimit`](crate::SpillError::DiskLimit).
    pub disk_limit: u64,
    /// With [`SpillError::StoreFull`](crate::SpillError::StoreFull).
    pub store_full: u64,
}

impl RefusalCounts {
    /// What was counted after `earlier` was read; 0 where that is the higher one.
    #[must_use]
    pub fn since(&self, earlier: &RefusalCounts) -> RefusalCounts {
        RefusalCounts {
            disk_limit: self.disk_limit.saturating_sub(earlier.disk_limit),
            store_full: self.store_full.saturating_sub(earlier.store_full),
        }
    }
}
