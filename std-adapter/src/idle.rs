//! Tables of buffers that are gone, for buffers to come.
//!
//! A server makes and drops small bodies by the million. What that costs is mostly the allocator's:
//! for the table, and for the one small frame it had. So a table that is done is kept, and its frame
//! with it if that is small: the next body is then written without a look at the pool at all. A kept
//! table stays in the registry; whoever takes its frame back takes an empty page.

use crate::frame::Frames;
use crate::registry::Place;
use crate::sync::{Mutex, lock};
use crate::taking::OwnTable;

/// Bytes of the largest frame that stays with its table. It is charged to an empty buffer.
pub(crate) const KEPT_FRAME_MAX: usize = 8 << 10;

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
    kept: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    /// Each with the bytes of its frame when it came.
    tables: Vec<(Kept, u64)>,
    /// These bytes together.
    frame_bytes: u64,
}

impl Idle {
    #[inline]
    pub(crate) fn take(&self) -> Option<Kept> {
        let mut all = lock(&self.kept);
        let (kept, frame_bytes) = all.tables.pop()?;
        all.frame_bytes -= frame_bytes;
        Some(kept)
    }

    /// Keeps a table; or gives it back, if enough are kept or the budget was lowered.
    pub(crate) fn keep(&self, kept: Kept, frames: &Frames) -> Option<Kept> {
        let bytes = kept.table.beside().memory.taken();
        let mut all = lock(&self.kept);
        let frame_bytes = all.frame_bytes + bytes;
        if frames.is_over() || all.tables.len() >= KEPT_MAX || frame_bytes > KEPT_BYTES_MAX {
            return Some(kept);
        }
        all.frame_bytes = frame_bytes;
        all.tables.push((kept, bytes));
        None
    }

    /// Takes all tables out.
    pub(crate) fn take_all(&self) -> impl Iterator<Item = Kept> {
        std::mem::take(&mut *lock(&self.kept)).tables.into_iter().map(|(kept, _)| kept)
    }

    /// The number of tables.
    pub(crate) fn len(&self) -> usize {
        lock(&self.kept).tables.len()
    }

    /// Bytes that are charged only because their frames are kept.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.kept).tables.iter().map(|(kept, _)| kept.table.beside().memory.taken()).sum()
    }
}
