//! The counters of a pool.
//!
//! Promises:
//!
//! - Nothing in the crate decides anything by them.
//! - Nothing is counted here where bytes stay in memory: only transfers to and from the store and their
//!   errors, pages that leave memory, refusals and waits, once for each. A count costs a few nanoseconds,
//!   what it counts hundreds.
//! - Counters are relaxed atomics: two that are read together may be of slightly different moments. Each
//!   alone never goes down.
//!
//! Held by: `tests/tests/pool_stats.rs`.

use crate::observe::stats::{ByteCounts, IoCounts, PoolStats, RefusalCounts, SpillCounts, SpillReason};
use crate::sync::{AtomicU64, Ordering};
use std::time::Duration;

/// The counters of one pool. Any thread adds to them; [`fill_in`](Counters::fill_in) reads them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Pages whose bytes went to the store, by [`SpillReason`]: this one and the next four.
    evicted: Count,
    reclaimed: Count,
    direct: Count,
    requested: Count,
    limit_lowered: Count,
    /// Pages with content that left memory.
    evictions: Count,
    /// Frames taken from donors.
    reclaims: Count,
    /// Bytes that callers have read and written, of buffers that were spilled: this one and the next.
    requested_reads: Count,
    requested_writes: Count,
    /// Transfers between frames and slots.
    paged_io: IoCounters,
    /// Transfers between callers' bytes and slots.
    direct_io: IoCounters,
    /// Requests refused, by cause: this one and the next.
    refused_disk_limit: Count,
    refused_store_full: Count,
    /// Calls that waited, blocking or async, and are done; those of them that failed; their time together.
    waits: Count,
    waits_timed_out: Count,
    wait_nanos: Count,
}

#[derive(Debug, Default)]
struct IoCounters {
    reads: Count,
    read_bytes: Count,
    writes: Count,
    written_bytes: Count,
    errors: Count,
    nanos: Count,
}

/// The path of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IoPath {
    /// Between a frame, or a block beside the frames, and a slot.
    Paged,
    /// Between the caller's bytes and a slot, past all frames.
    Direct,
}

#[derive(Debug)]
struct Count(AtomicU64);

impl Default for Count {
    fn default() -> Self {
        Count(AtomicU64::new(0))
    }
}

impl Count {
    fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// `time` in nanoseconds; `u64::MAX` if it is longer than that.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl IoCounters {
    fn add(&self, counts: &IoCounts) {
        self.reads.add(counts.reads);
        self.read_bytes.add(counts.read_bytes);
        self.writes.add(counts.writes);
        self.written_bytes.add(counts.written_bytes);
        self.errors.add(counts.errors);
        self.nanos.add(nanos(counts.time));
    }

    fn get(&self) -> IoCounts {
        IoCounts {
            reads: self.reads.get(),
            read_bytes: self.read_bytes.get(),
            writes: self.writes.get(),
            written_bytes: self.written_bytes.get(),
            errors: self.errors.get(),
            time: Duration::from_nanos(self.nanos.get()),
        }
    }
}

impl Counters {
    /// Counts pages whose bytes went to the store.
    pub(crate) fn count_spills(&self, reason: SpillReason, pages: u64) {
        match reason {
            SpillReason::Evicted => &self.evicted,
            SpillReason::Reclaimed => &self.reclaimed,
            SpillReason::Direct => &self.direct,
            SpillReason::Requested => &self.requested,
            SpillReason::LimitLowered => &self.limit_lowered,
        }
        .add(pages);
    }

    /// Counts a page with content that left memory.
    pub(crate) fn count_eviction(&self) {
        self.evictions.add(1);
    }

    /// Counts a frame that was taken from a donor.
    pub(crate) fn count_reclaim(&self) {
        self.reclaims.add(1);
    }

    pub(crate) fn count_requested(&self, bytes: &ByteCounts) {
        self.requested_reads.add(bytes.read);
        self.requested_writes.add(bytes.written);
    }

    pub(crate) fn count_io(&self, path: IoPath, counts: &IoCounts) {
        match path {
            IoPath::Paged => self.paged_io.add(counts),
            IoPath::Direct => self.direct_io.add(counts),
        }
    }

    pub(crate) fn count_refused_by_limit(&self) {
        self.refused_disk_limit.add(1);
    }

    pub(crate) fn count_refused_by_store(&self) {
        self.refused_store_full.add(1);
    }

    /// Counts a call that waited for `time`; `timed_out` if it failed after that.
    pub(crate) fn count_wait(&self, time: Duration, timed_out: bool) {
        self.waits.add(1);
        self.waits_timed_out.add(u64::from(timed_out));
        self.wait_nanos.add(nanos(time));
    }

    /// Copies the counters into their fields of `stats`.
    pub(crate) fn fill_in(&self, stats: &mut PoolStats) {
        stats.spills = SpillCounts {
            evicted: self.evicted.get(),
            reclaimed: self.reclaimed.get(),
            direct: self.direct.get(),
            requested: self.requested.get(),
            limit_lowered: self.limit_lowered.get(),
        };
        stats.evictions = self.evictions.get();
        stats.reclaims = self.reclaims.get();
        stats.requested =
            ByteCounts { read: self.requested_reads.get(), written: self.requested_writes.get() };
        stats.direct_io = self.direct_io.get();
        stats.io = self.paged_io.get() + stats.direct_io;
        stats.refused = RefusalCounts {
            disk_limit: self.refused_disk_limit.get(),
            store_full: self.refused_store_full.get(),
        };
        stats.waits = self.waits.get();
        stats.waits_timed_out = self.waits_timed_out.get();
        stats.wait_time = Duration::from_nanos(self.wait_nanos.get());
    }
}
