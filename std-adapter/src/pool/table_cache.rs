//! Tables of buffers that are gone, for buffers to come.
//!
//! A server makes and drops small bodies by the million. What that costs is mostly the allocator's:
//! for the table, and for the one small frame it had. So a table that is done is kept, and its frame
//! with it if that is small: the next body is then written without a look at the pool at all. A kept
//! table stays in the registry; whoever takes its frame back takes an empty page.
//!
//! The one that came last lies apart, where one exchange gets it instead of a mutex's two.

use crate::memory::frame_pool::Frames;
use crate::pool::member::OwnTable;
use crate::pool::registry::Place;
use crate::sync::biased::TryLock;
use crate::sync::{Mutex, lock};

/// How many tables are kept at the most, and how many bytes of frames with them.
const KEPT_MAX: usize = 1 << 10;
const KEPT_BYTES_MAX: u64 = 1 << 20;

/// A table of the pool, and where the registry has it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) table: OwnTable,
    /// None in a pool for one buffer, which has no registry.
    pub(crate) place: Option<Place>,
}

/// Kept tables have no pages, but for an empty frame to start with.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    /// The one that came last, unless it found another here.
    last: TryLock<Option<Kept>>,
    others: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    /// Each with the bytes of its frame when it came.
    tables: Vec<(Kept, u64)>,
    /// These bytes together.
    frame_bytes: u64,
}

impl Kept {
    /// Bytes of its frame. Whoever needs memory may take that at any time.
    fn frame_bytes(&self) -> u64 {
        self.table.beside().account.memory.taken()
    }
}

impl Idle {
    #[inline]
    pub(crate) fn take(&self) -> Option<Kept> {
        self.last.try_with(Option::take).flatten().or_else(|| self.take_other())
    }

    fn take_other(&self) -> Option<Kept> {
        let mut all = lock(&self.others);
        let (kept, frame_bytes) = all.tables.pop()?;
        all.frame_bytes -= frame_bytes;
        Some(kept)
    }

    /// Keeps a table; or gives it back, if enough are kept or the budget was lowered.
    #[inline]
    pub(crate) fn keep(&self, kept: Kept, frames: &Frames) -> Option<Kept> {
        if frames.is_over() {
            return Some(kept);
        }
        let mut kept = Some(kept);
        self.last.try_with(|last| {
            if last.is_none() {
                *last = kept.take();
            }
        });
        kept.and_then(|kept| self.keep_other(kept))
    }

    fn keep_other(&self, kept: Kept) -> Option<Kept> {
        let bytes = kept.frame_bytes();
        let mut all = lock(&self.others);
        let frame_bytes = all.frame_bytes + bytes;
        if all.tables.len() >= KEPT_MAX || frame_bytes > KEPT_BYTES_MAX {
            return Some(kept);
        }
        all.frame_bytes = frame_bytes;
        all.tables.push((kept, bytes));
        None
    }

    /// Takes all tables out, but for one that is coming or going just now.
    pub(crate) fn take_all(&self) -> impl Iterator<Item = Kept> {
        let others = std::mem::take(&mut *lock(&self.others));
        let last = self.last.try_with(Option::take).flatten();
        last.into_iter().chain(others.tables.into_iter().map(|(kept, _)| kept))
    }

    /// The number of tables, but for one that is coming or going just now.
    pub(crate) fn len(&self) -> usize {
        let last = self.last.try_with(|last| last.is_some()).unwrap_or_default();
        lock(&self.others).tables.len() + usize::from(last)
    }

    /// Bytes that are charged only because their frames are kept.
    pub(crate) fn bytes(&self) -> u64 {
        let last = self.last.try_with(|last| last.as_ref().map(Kept::frame_bytes)).flatten();
        let others: u64 = lock(&self.others).tables.iter().map(|(kept, _)| kept.frame_bytes()).sum();
        last.unwrap_or_default() + others
    }
}
