//! A handle of shared content that an event loop may drop.
//!
//! Promise: dropping it calls no store, though it may be the last handle. What is freed in the store stays
//! there for later calls.
//!
//! Held by: `tests/servers/tests/bodies.rs`, `tests/tests/async_buffer/`.

#[cfg(feature = "http-body")]
use crate::api::frozen::Frozen;
use crate::api::frozen_reader::FrozenReader;
use crate::disk::store_access::without_store;
use crate::pool::state::PoolState;
use crate::sync::Arc;

/// A handle whose content has its pages from a pool.
pub(crate) trait Pooled {
    fn pool(&self) -> &Arc<PoolState>;
}

impl Pooled for FrozenReader {
    fn pool(&self) -> &Arc<PoolState> {
        &self.shared.content.pool
    }
}

#[cfg(feature = "http-body")]
impl Pooled for Frozen {
    fn pool(&self) -> &Arc<PoolState> {
        &self.shared.content.pool
    }
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
