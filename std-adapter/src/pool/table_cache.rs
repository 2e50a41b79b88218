//! A cache of the tables of dropped buffers, for new buffers.
//!
//! A server makes and drops small bodies by the million. Most of the cost is in the allocator: for the table,
//! and for its one small frame. So a dropped buffer's table is cached, with its frame if that is small, and
//! the next body is written without any access to the pool.
//!
//! Promise: a cached table stays in the registry, among those that hold memory if it has a frame. Reclaiming
//! its frame costs no I/O: its page is empty.
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/pool_stress.rs`, `tests/tests/pool_memory.rs`.

use crate::pool::cache::{Cache, Reusable};
use crate::pool::member::OwnTable;

/// Cached tables. Each has no pages, but for an empty one that has a frame.
pub(crate) type TableCache = Cache<OwnTable>;

impl Reusable for OwnTable {
    /// The pool may reclaim the frame at any moment.
    fn frame_bytes(&self) -> u64 {
        self.unlocked().usage.memory.used()
    }
}

/// An empty cache: for 1,024 tables, with 1 MiB of frames.
pub(crate) fn table_cache() -> TableCache {
    Cache::new(1 << 10, 1 << 20)
}
