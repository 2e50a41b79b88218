//! Tables of buffers that are gone, for buffers to come.
//!
//! A server makes and drops small bodies by the million. What that costs is mostly the allocator's:
//! for the table, and for the one small frame it had. So a table that is done is kept, and its frame
//! with it if that is small: the next body is then written without a look at the pool at all. A kept
//! table stays in the registry; whoever takes its frame back takes an empty page.
//!
//! The one that came last lies apart, where one exchange gets it instead of a mutex's two.

use crate::memory::frame_pool::FramePool;
use crate::pool::member::OwnTable;
use crate::pool::registry::Registration;
use crate::sync::biased::TryLock;
use crate::sync::{Mutex, lock};

/// How many tables are kept at the most, and how many bytes of frames with them.
const CACHED_MAX: usize = 1 << 10;
const CACHED_BYTES_MAX: u64 = 1 << 20;

/// A table of the pool, and where the registry has it.
#[derive(Debug)]
pub(crate) struct RegisteredTable {
    pub(crate) table: OwnTable,
    /// None in a pool for one buffer, which has no registry.
    pub(crate) registration: Option<Registration>,
}

/// Kept tables have no pages, but for an empty frame to start with.
#[derive(Debug, Default)]
pub(crate) struct TableCache {
    /// The one that came last, unless it found another here.
    last: TryLock<Option<RegisteredTable>>,
    others: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    /// Each with the bytes of its frame when it came.
    tables: Vec<(RegisteredTable, u64)>,
    /// These bytes together.
    frame_bytes: u64,
}

impl RegisteredTable {
    /// Bytes of its frame. Whoever needs memory may take that at any time.
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
        let mut all = lock(&self.others);
        let (registered, frame_bytes) = all.tables.pop()?;
        all.frame_bytes -= frame_bytes;
        Some(registered)
    }

    /// Keeps a table; or gives it back, if enough are kept or the budget was lowered.
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
        let mut all = lock(&self.others);
        let frame_bytes = all.frame_bytes + bytes;
        if all.tables.len() >= CACHED_MAX || frame_bytes > CACHED_BYTES_MAX {
            return Some(registered);
        }
        all.frame_bytes = frame_bytes;
        all.tables.push((registered, bytes));
        None
    }

    /// Takes all tables out, but for one that is coming or going just now.
    pub(crate) fn drain(&self) -> impl Iterator<Item = RegisteredTable> {
        let others = std::mem::take(&mut *lock(&self.others));
        let last = self.last.try_with(Option::take).flatten();
        last.into_iter().chain(others.tables.into_iter().map(|(registered, _)| registered))
    }

    /// The number of tables, but for one that is coming or going just now.
    pub(crate) fn len(&self) -> usize {
        let last = self.last.try_with(|last| last.is_some()).unwrap_or_default();
        lock(&self.others).tables.len() + usize::from(last)
    }

    /// Bytes that are charged only because their frames are kept.
    pub(crate) fn bytes(&self) -> u64 {
        let last = self.last.try_with(|last| last.as_ref().map(RegisteredTable::frame_bytes)).flatten();
        let others: u64 =
            lock(&self.others).tables.iter().map(|(registered, _)| registered.frame_bytes()).sum();
        last.unwrap_or_default() + others
    }
}
