//! A handle of shared content that an event loop may drop.
//!
//! Promise: dropping it calls no store, though it may be the last handle. What is freed in the store stays there for later calls.
//!
//! Held by: `tests/servers/tests/bodies.rs`, `tests/tests/async_buffer/`.

use crate::disk::store_access::ResidentOnly;
use crate::foreign::hold_back;
use crate::pool::state::PoolState;
use crate::sync::Arc;

/// A handle whose content has its pages from a pool.
pub(crate) trait Pooled {
    fn pool(&self) -> &Arc<PoolState>;
}

/// `None` while it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Held<T: Pooled>(Option<T>);

impl<T: Pooled> Held<T> {
    pub(crate) fn new(handle: T) -> Self {
        Held(Some(handle))
    }

    pub(crate) fn get(&self) -> &T {
        self.0.as_ref().expect("it is taken by value alone")
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is taken by value alone")
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("it is taken by value alone")
    }
}

impl<T: Pooled> Drop for Held<T> {
    fn drop(&mut self) {
        // The last reference to the pool drops its store and listeners, which are foreign.
        let _pool = self.0.as_ref().map(|handle| Arc::clone(handle.pool()));
        without_store(|| drop(self.0.take()));
    }
}

/// Runs `operation`, which does not fail for want of the store, without it. What it would free there stays for later calls.
pub(crate) fn without_store<R>(operation: impl FnOnce() -> R) -> R {
    // What is foreign comes when the guard has gone: wakers may use any buffer, and its store.
    let _held_back = hold_back();
    let _guard = ResidentOnly::enter();
    operation()
}
