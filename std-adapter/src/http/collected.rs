//! A body that is all there.
//!
//! Held by: `tests/servers/tests/collect.rs`, `tests/servers/tests/bodies.rs`.

use crate::api::frozen::Frozen;
use crate::api::frozen_reader::FrozenReader;
use crate::http::body::SpillBody;
use crate::polled::held::Held;
use crate::sync::Arc;
use http::HeaderMap;

/// A body that was [collected](crate::SpillPool::collect) within a pool: its bytes, for any number of readers
/// and of bodies to send, and its trailers.
///
/// A clone is another handle of the same content, and costs two atomic additions. The content is freed with
/// the last handle, reader and body; its last bytes with the last lent frame. An event loop may drop it:
/// that calls no store.
#[derive(Clone, Debug)]
pub struct Collected {
    frozen: Held<Frozen>,
    trailers: Option<Arc<HeaderMap>>,
}

impl Collected {
    pub(crate) fn new(frozen: Frozen, trailers: Option<HeaderMap>) -> Self {
        Collected { frozen: Held::new(frozen), trailers: trailers.map(Arc::new) }
    }

    /// The number of bytes that arrived, without the trailers; with those that a [given
    /// buffer](crate::Collect::buffer) had before.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.frozen().len()
    }

    /// Whether the body had no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    #[must_use]
    pub fn frozen(&self) -> &Frozen {
        self.frozen.get()
    }

    /// The bytes, by value.
    #[must_use]
    pub fn into_frozen(self) -> Frozen {
        self.frozen.into_inner()
    }

    /// The bytes and the trailers, by value. Copies the trailers if another handle or body has them too.
    #[must_use]
    pub fn into_parts(self) -> (Frozen, Option<HeaderMap>) {
        let Collected { frozen, trailers } = self;
        let owned = |trailers| Arc::try_unwrap(trailers).unwrap_or_else(|shared| HeaderMap::clone(&shared));
        (frozen.into_inner(), trailers.map(owned))
    }

    /// A blocking reader at position 0; see [`Frozen::reader`]. Its `into_async` reads on an event loop.
    #[must_use]
    pub fn reader(&self) -> FrozenReader {
        self.frozen().reader()
    }

    /// A body that sends the bytes and then the trailers, as often as it is cloned.
    #[must_use]
    pub fn body(&self) -> SpillBody {
        SpillBody::new(self.frozen().clone(), self.trailers.clone())
    }

    /// The trailers, if there were any.
    #[must_use]
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref()
    }
}

/// Sends the bytes and then the trailers, as [`Collected::body`] does.
impl From<Collected> for SpillBody {
    fn from(collected: Collected) -> Self {
        let Collected { frozen, trailers } = collected;
        SpillBody::new(frozen.into_inner(), trailers)
    }
}
