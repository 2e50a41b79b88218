//! A cache of the tables of dropped buffers, for new buffers.
//!
//! A server makes and drops small bodies by the million. Most of the cost is in the allocator: for the table,
//! and for its one small frame. So a dropped buffer's table is cached, with its frame if that is small, and
//! the next body is written without any access to the pool.
//!
//! Promises:
//!
//! - A cached table stays in the registry. Reclaiming its frame costs no I/O: its page is empty.
//! - At most [`CACHED_MAX`] tables, and [`CACHED_BYTES_MAX`] bytes of frames, are cached beside the last one.
//! - While more memory is charged than the limit, no table is cached.
//!
//! The last table has a place of its own behind a [`TryLock`], where one atomic exchange gets it instead of
//! the two of a mutex.
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/pool_stress.rs`, `tests/tests/pool_memory.rs`.

use crate::memory::frame_pool::FramePool;
use crate::pool::member::OwnTable;
use crate::pool::registry::Registration;
use crate::sync::biased::TryLock;
use crate::sync::{Mutex, lock};

/// The most tables that `others` holds.
const CACHED_MAX: usize = 1 << 10;

/// The most bytes of frames that come with them.
const CACHED_BYTES_MAX: u64 = 1 << 20;

/// A table of the pool, and its place in the registry.
#[derive(Debug)]
pub(crate) struct RegisteredTable {
    pub(crate) table: OwnTable,
    /// None in a pool for one buffer, which has no registry.
    pub(crate) registration: Option<Registration>,
}

/// Cached tables. Each has no pages, but for an empty one that has a frame.
#[derive(Debug, Default)]
pub(crate) struct TableCache {
    /// A table that was cached while this place was empty.
    last: TryLock<Option<RegisteredTable>>,
    others: Mutex<Others>,
}

#[derive(Debug, Default)]
struct Others {
    /// Each with the bytes of its frame at the time when it was cached.
    tables: Vec<(RegisteredTable, u64)>,
    /// The sum of these bytes.
    frame_bytes: u64,
}

impl RegisteredTable {
    /// Bytes of its frame. The pool may reclaim the frame at any moment.
    fn frame_bytes(&self) -> u64 {
        self.table.unlocked().usage.memory.used()
    }
}

impl TableCache {
    #[inline]
    pub(crate) fn pop(&self) -> Option<RegisteredTable> {
        self.last.try_with(Option::take).flatten().or_else(|| self.pop_other())
    }

    fn pop_other(&self) -> Option<RegisteredTable> {
        let mut others = lock(&self.others);
        let (registered, frame_bytes) = others.tables.pop()?;
        others.frame_bytes -= frame_bytes;
        Some(registered)
    }

    /// Caches a table. Returns it if the cache is full, or if more memory is charged than the limit.
    #[inline]
    pub(crate) fn push(&self, registered: RegisteredTable, frames: &FramePool) -> Option<RegisteredTable> {
        if frames.is_over() {
            return Some(registered);
        }
        let mut registered = Some(registered);
        self.last.try_with(|last| {
            if last.is_none() {
                *last = registered.take();
            }
        });
        registered.and_then(|registered| self.push_other(registered))
    }

    fn push_other(&self, registered: RegisteredTable) -> Option<RegisteredTable> {
        let bytes = registered.frame_bytes();
        let mut others = lock(&self.others);
        let frame_bytes = others.frame_bytes + bytes;
        if others.tables.len() >= CACHED_MAX || frame_bytes > CACHED_BYTES_MAX {
            return Some(registered);
        }
        others.frame_bytes = frame_bytes;
        others.tables.push((registered, bytes));
        None
    }

    /// Takes all tables out, but for one that another thread is caching or taking at this moment.
    pub(crate) fn drain(&self) -> impl Iterator<Item = RegisteredTable> {
        let others = std::mem::take(&mut *lock(&self.others));
        let last = self.last.try_with(Option::take).flatten();
        last.into_iter().chain(others.tables.into_iter().map(|(registered, _)| registered))
    }

    /// The number of cached tables, without one that another thread is caching or taking at this moment.
    pub(crate) fn len(&self) -> usize {
        let last = self.last.try_with(|last| last.is_some()).unwrap_or_default();
        lock(&self.others).tables.len() + usize::from(last)
    }

    /// Bytes of the frames of cached tables.
    pub(crate) fn bytes(&self) -> u64 {
        let last = self.last.try_with(|last| last.as_ref().map(RegisteredTable::frame_bytes)).flatten();
        let others: u64 =
            lock(&self.others).tables.iter().map(|(registered, _)| registered.frame_bytes()).sum();
        last.unwrap_or_default() + others
    }
}
