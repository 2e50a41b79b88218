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
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) usage: Usage,
    /// The file that the pages go to instead of the pool's store, if the buffer is to be persisted. Set once,
    /// by the owner, while the buffer is empty.
    own: OnceLock<Arc<OwnFile>>,
    pub(crate) last_miss: LastMiss,
    pub(crate) refusal: Refusal,
    /// The index of the table in the registry. Only changed with the registry locked.
    pub(crate) place: AtomicUsize,
}

impl Member {
    pub(crate) fn new() -> Self {
        Member {
            usage: Usage::new(),
            own: OnceLock::new(),
            last_miss: LastMiss::default(),
            refusal: Refusal::default(),
            place: AtomicUsize::new(0),
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
