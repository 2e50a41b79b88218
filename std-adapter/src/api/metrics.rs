//! A pool's statistics for the recorder of the `metrics` crate.
//!
//! Held by: `tests/tests/pool_stats.rs`.

use crate::api::pool::SpillPool;
use crate::observe::counters::nanos;
use crate::observe::stats::{IoCounts, PoolStats};
use metrics::{counter, describe_counter, describe_gauge, gauge};

/// What each gauge is.
const GAUGES: [(&str, &str); 4] = [
    ("overspill_memory_bytes", "Bytes of memory of the pool, by state."),
    ("overspill_disk_bytes", "Bytes of the pool's store, by state."),
    ("overspill_buffers", "Buffers alive."),
    ("overspill_waiters", "Buffers that wait for disk room."),
];

/// What each counter is.
const COUNTERS: [(&str, &str); 15] = [
    ("overspill_spills_total", "Pages whose bytes went to the store, by reason."),
    ("overspill_evictions_total", "Pages with content that lost their frame."),
    (
        "overspill_reclaims_total",
        "Frames that the pool took from a donor, for another buffer or for a lowered limit.",
    ),
    ("overspill_requested_read_bytes_total", "Bytes that callers read from buffers that were spilled."),
    ("overspill_requested_written_bytes_total", "Bytes that callers wrote to buffers that were spilled."),
    ("overspill_store_reads_total", "Transfers from the store."),
    ("overspill_store_writes_total", "Transfers to the store."),
    ("overspill_store_read_bytes_total", "Bytes read from the store."),
    ("overspill_store_written_bytes_total", "Bytes written to the store."),
    ("overspill_store_errors_total", "Transfers that failed, but not because the store is full."),
    ("overspill_store_nanoseconds_total", "Time in the store, summed over threads."),
    ("overspill_refused_total", "Requests that failed for lack of room, by cause."),
    ("overspill_waits_total", "Waits for disk room that have ended."),
    ("overspill_waits_timed_out_total", "Waits that found no room."),
    ("overspill_wait_nanoseconds_total", "Time that calls have waited for disk room, summed."),
];

impl SpillPool {
    /// Passes the current [`stats`](SpillPool::stats) to the recorder of the `metrics` crate.
    ///
    /// Call it whenever the figures should be fresh, such as before each scrape. Nothing is recorded between
    /// calls, so recording costs nothing then. Each call also describes the metrics, as the recorder may be
    /// another one.
    ///
    /// Every metric has the label `pool`, the pool's [name](crate::PoolBuilder::name). Counters are set to
    /// their absolute value, so a further call counts nothing twice.
    ///
    /// Pools of the same name share their metrics, whether they exist at once or one after another. A gauge
    /// has the value of the pool that was recorded last. A counter has the largest: recorders do not let it
    /// fall, so that of a later pool shows the earlier pool's number until it has passed that. Give each pool
    /// a name of its own where this matters.
    ///
    /// | gauges | |
    /// |---|---|
    /// | `overspill_memory_bytes` | label `state`: `used`, `recycled`, `lent`, `high_water`, `limit`; `warm`, which is the process's |
    /// | `overspill_disk_bytes` | label `state`: `used`, `recycled`, `high_water`, `limit` (2⁶⁴ for no limit) |
    /// | `overspill_buffers`, `overspill_waiters` | buffers, and waiters for disk room |
    ///
    /// | counters | |
    /// |---|---|
    /// | `overspill_spills_total` | pages; label `reason`, a [`SpillReason`](crate::SpillReason) |
    /// | `overspill_evictions_total`, `overspill_reclaims_total` | pages, frames |
    /// | `overspill_requested_read_bytes_total`, `overspill_requested_written_bytes_total` | bytes, of buffers that were spilled; not what is read from frozen content and spools |
    /// | `overspill_store_reads_total`, `overspill_store_writes_total` | transfers; label `path`: `paged`, `direct` |
    /// | `overspill_store_read_bytes_total`, `overspill_store_written_bytes_total` | bytes; the same label |
    /// | `overspill_store_errors_total` | transfers that failed, but not because the store is full; the same label |
    /// | `overspill_store_nanoseconds_total` | time in the store; the same label |
    /// | `overspill_refused_total` | requests; label `cause`: `disk_limit`, `store_full` |
    /// | `overspill_waits_total`, `overspill_waits_timed_out_total` | calls that waited, blocking or async; those that timed out |
    /// | `overspill_wait_nanoseconds_total` | time waited, summed over calls |
    pub fn record_metrics(&self) {
        let pool = self.name().to_owned();
        let stats = self.stats();
        GAUGES.iter().for_each(|(name, help)| describe_gauge!(*name, *help));
        COUNTERS.iter().for_each(|(name, help)| describe_counter!(*name, *help));
        record_gauges(&pool, &stats);
        record_counters(&pool, &stats);
        let paged = stats.io.since(&stats.direct_io);
        for (path, io) in [("paged", paged), ("direct", stats.direct_io)] {
            record_io(&pool, path, &io);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a recorder's gauges are floating")]
fn record_gauges(pool: &str, stats: &PoolStats) {
    let memory = [
        ("used", stats.memory_used),
        ("recycled", stats.memory_recycled),
        ("high_water", stats.memory_high_water),
        ("limit", stats.memory_limit),
        ("warm", stats.memory_warm),
        ("lent", stats.memory_lent),
    ];
    for (state, bytes) in memory {
        gauge!("overspill_memory_bytes", "pool" => pool.to_owned(), "state" => state).set(bytes as f64);
    }
    let disk = [
        ("used", stats.disk_used),
        ("recycled", stats.disk_recycled),
        ("high_water", stats.disk_high_water),
        ("limit", stats.disk_limit),
    ];
    for (state, bytes) in disk {
        gauge!("overspill_disk_bytes", "pool" => pool.to_owned(), "state" => state).set(bytes as f64);
    }
    gauge!("overspill_buffers", "pool" => pool.to_owned()).set(stats.buffers as f64);
    gauge!("overspill_waiters", "pool" => pool.to_owned()).set(stats.waiters as f64);
}

fn record_counters(pool: &str, stats: &PoolStats) {
    for (reason, pages) in stats.spills.by_reason() {
        let reason = reason.as_str();
        counter!("overspill_spills_total", "pool" => pool.to_owned(), "reason" => reason).absolute(pages);
    }
    let refused = [("disk_limit", stats.refused.disk_limit), ("store_full", stats.refused.store_full)];
    for (cause, requests) in refused {
        counter!("overspill_refused_total", "pool" => pool.to_owned(), "cause" => cause).absolute(requests);
    }
    for (name, count) in [
        ("overspill_evictions_total", stats.evictions),
        ("overspill_reclaims_total", stats.reclaims),
        ("overspill_requested_read_bytes_total", stats.requested.read),
        ("overspill_requested_written_bytes_total", stats.requested.written),
        ("overspill_waits_total", stats.waits),
        ("overspill_waits_timed_out_total", stats.waits_timed_out),
        ("overspill_wait_nanoseconds_total", nanos(stats.wait_time)),
    ] {
        counter!(name, "pool" => pool.to_owned()).absolute(count);
    }
}

fn record_io(pool: &str, path: &'static str, io: &IoCounts) {
    for (name, count) in [
        ("overspill_store_reads_total", io.reads),
        ("overspill_store_read_bytes_total", io.read_bytes),
        ("overspill_store_writes_total", io.writes),
        ("overspill_store_written_bytes_total", io.written_bytes),
        ("overspill_store_errors_total", io.errors),
        ("overspill_store_nanoseconds_total", nanos(io.time)),
    ] {
        counter!(name, "pool" => pool.to_owned(), "path" => path).absolute(count);
    }
}
