//! A buffer as its pool sees it: its table, and what lies beside that, outside the lock.

use crate::disk::own_file::OwnFile;
use crate::pages::table::Table;
use crate::pages::usage::Usage;
use crate::sync::biased::{Owner, Peer};
use crate::sync::{Arc, OnceLock};

/// A buffer's table and what lies beside it, in the hands of the buffer.
pub(crate) type OwnTable = Owner<Table, Member>;

/// The same, in the hands of the pool.
pub(crate) type PeerTable = Peer<Table, Member>;

/// What is known of a buffer without its lock.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) usage: Usage,
    /// Where its pages go instead of the pool's store, if it is to be persisted. Set while the buffer is empty.
    own: OnceLock<Arc<OwnFile>>,
}

impl Member {
    pub(crate) fn new() -> Self {
        Member { usage: Usage::new(), own: OnceLock::new() }
    }

    pub(crate) fn own(&self) -> Option<&Arc<OwnFile>> {
        self.own.get()
    }

    /// For the owner of an empty buffer.
    pub(crate) fn set_own(&self, own: OwnFile) {
        let set = self.own.set(Arc::new(own));
        debug_assert!(set.is_ok(), "a buffer is given a file of its own once");
    }
}
