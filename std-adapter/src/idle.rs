//! Tables of buffers that are gone, for buffers to come.
//!
//! A server makes and drops small bodies by the million. What that costs is mostly the allocator's:
//! for the table, and for the one small frame it had. So a table that is done is kept, and its frame
//! with it if that is small: the next body is then written without a look at the pool at all.

use crate::biased::Owner;
use crate::frame::Frames;
use crate::sync::{Mutex, lock};
use crate::table::Table;

/// Bytes of the largest frame that stays with its table. It is charged to an empty buffer.
pub(crate) const KEPT_FRAME_MAX: usize = 8 << 10;

/// How many tables are kept at the most, and how many bytes of frames with them.
const KEPT_MAX: usize = 1 << 10;
const KEPT_BYTES_MAX: u64 = 1 << 20;

/// A table without pages, but for an empty frame to start with.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) table: Owner<Table>,
    /// The capacity of that frame, in bytes; 0 if there is none.
    pub(crate) frame_bytes: u64,
}

impl Kept {
    pub(crate) fn new(page_size: usize) -> Self {
        Kept { table: Owner::new(Table::new(page_size)), frame_bytes: 0 }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Idle {
    kept: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    tables: Vec<Kept>,
    /// Bytes of all their frames together.
    frame_bytes: u64,
}

impl Idle {
    #[inline]
    pub(crate) fn take(&self) -> Option<Kept> {
        let mut all = lock(&self.kept);
        let kept = all.tables.pop()?;
        all.frame_bytes -= kept.frame_bytes;
        Some(kept)
    }

    /// Keeps a table, unless enough are kept or the budget was lowered.
    pub(crate) fn keep(&self, kept: Kept, frames: &Frames) {
        if frames.budget().taken() > frames.budget().limit() {
            return;
        }
        let mut all = lock(&self.kept);
        let frame_bytes = all.frame_bytes + kept.frame_bytes;
        if all.tables.len() < KEPT_MAX && frame_bytes <= KEPT_BYTES_MAX {
            all.frame_bytes = frame_bytes;
            all.tables.push(kept);
        }
    }

    /// Lets all tables go, and their frames; says whether there were frames among them.
    pub(crate) fn clear(&self) -> bool {
        let all = std::mem::take(&mut *lock(&self.kept));
        all.frame_bytes > 0
    }

    /// Bytes that are charged only because their frames are kept.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.kept).frame_bytes
    }
}
