//! A buffer as its pool sees it: its table behind a biased lock, and a [`Member`] beside it, outside the
//! lock.
//!
//! Held by: `std-adapter/src/models.rs` (loom), `tests/tests/pool_stress.rs`.

use crate::disk::own_file::OwnFile;
use crate::pages::table::Table;
use crate::pages::usage::Usage;
use crate::pool::activity::{LastMiss, Refusal};
use crate::sync::biased::{Owner, Peer};
use crate::sync::{Arc, AtomicUsize, OnceLock};

/// The buffer's handle of its table and member.
pub(crate) type OwnTable = Owner<Table, Member>;

/// The pool's handle of the same table and member.
pub(crate) type PeerTable = Peer<Table, Member>;

/// The part of a buffer that is readable without its lock.
///
/// In this order, since the memory of another buffer may lie before it, in the same cache line: `usage`,
/// which changes with each page, is not there.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Member {
    /// The file that the pages go to instead of the pool's store, if the buffer is to be persisted. Set once,
    /// by the owner, while the buffer is empty.
    own: OnceLock<Arc<OwnFile>>,
    pub(crate) last_miss: LastMiss,
    pub(crate) refusal: Refusal,
    /// The index of the table in the registry. Only changed with the registry locked.
    pub(crate) place: AtomicUsize,
    pub(crate) usage: Usage,
}

impl Member {
    pub(crate) fn new() -> Self {
        Member {
            own: OnceLock::new(),
            last_miss: LastMiss::default(),
            refusal: Refusal::default(),
            place: AtomicUsize::new(0),
            usage: Usage::new(),
        }
    }

    pub(crate) fn own(&self) -> Option<&Arc<OwnFile>> {
        self.own.get()
    }

    /// For the owner, while its buffer is empty. May be called once.
    pub(crate) fn set_own(&self, own: OwnFile) {
        let set = self.own.set(Arc::new(own));
        debug_assert!(set.is_ok(), "the buffer has a file of its own already");
    }
}

#[cfg(test)]
#[cfg(all(target_pointer_width = "64", not(overspill_loom)))]
mod tests {
    use super::*;
    use std::mem::offset_of;

    /// A thread with one buffer slowed down another that had made its own at the same time.
    #[test]
    fn what_changes_with_each_page_lies_a_cache_line_from_the_memory_of_others() {
        const LINE: usize = 64;
        let before = 2 * size_of::<usize>(); // the counts of an `Arc`
        assert!(before + offset_of!(Member, usage) >= LINE);
        assert!(size_of::<Table>() - Table::END_OF_WHAT_CHANGES >= LINE - 16, "memory begins at 16 bytes");
    }
}
