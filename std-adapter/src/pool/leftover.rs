//! What a dropped buffer leaves for the next one.

use crate::pool::member::OwnTable;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use std::mem::ManuallyDrop;
use std::ops::Deref;

/// A table without pages, but for an empty one that may have a frame, and its pool. The table is registered,
/// and counted as a buffer's. So a buffer that is made of it needs no count and no further reference.
#[derive(Debug)]
pub(crate) struct Leftover {
    /// `None` if no table was made, or none is kept. The buffer is counted all the same.
    pub(crate) table: Option<OwnTable>,
    pub(crate) pool: Arc<PoolState>,
}

impl Leftover {
    /// Bytes of the frame of its table. May become less at any moment.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.table.as_ref().map_or(0, |table| table.unlocked().usage.memory.used())
    }

    /// Itself, if its table can be entered in this process. Otherwise `None`: the table is lost, and is not
    /// dropped.
    #[inline(always)]
    pub(crate) fn enterable(self) -> Option<Self> {
        // So it stays in registers, since nothing has to drop it if the look panics, which it does not.
        let leftover = ManuallyDrop::new(self);
        let is_enterable = leftover.table.as_ref().is_none_or(|table| table.check().is_ok());
        let leftover = ManuallyDrop::into_inner(leftover);
        if is_enterable {
            Some(leftover)
        } else {
            leftover.lose_table();
            None
        }
    }

    #[cold]
    fn lose_table(self) {
        std::mem::forget(self.table);
    }
}

/// The pool of a buffer, which its drop takes out to keep it for the next one.
#[derive(Debug)]
pub(crate) struct PoolRef(Option<Arc<PoolState>>);

impl PoolRef {
    pub(crate) fn new(pool: Arc<PoolState>) -> Self {
        PoolRef(Some(pool))
    }

    /// For the drop: nothing may ask for the pool afterwards.
    #[inline]
    pub(crate) fn take(&mut self) -> Arc<PoolState> {
        self.0.take().expect("a pool is taken out once")
    }
}

impl Deref for PoolRef {
    type Target = Arc<PoolState>;

    #[inline]
    fn deref(&self) -> &Arc<PoolState> {
        self.0.as_ref().expect("a buffer has a pool until it is dropped")
    }
}
