//! A body that is all there.
//!
//! Held by: `tests/servers/tests/collect.rs`, `tests/servers/tests/bodies.rs`.

use crate::api::buffer::SpillBuffer;
use crate::api::frozen::Frozen;
use crate::api::frozen_reader::FrozenReader;
use crate::http::body::SpillBody;
use crate::polled::held::Held;
use crate::sync::Arc;
use http::HeaderMap;

/// A body that was [collected](crate::SpillPool::collect) within a pool: its bytes, for any number of readers
/// and of bodies to send, and its trailers.
///
/// A clone is another handle of the same content, and costs two atomic additions. The content is freed when
/// the last handle, reader and body are dropped; bytes that are lent, when the last lent frame is. An event
/// loop may drop it: that calls no store.
#[derive(Clone, Debug)]
pub struct Collected {
    frozen: Held<Frozen>,
    trailers: Option<Arc<HeaderMap>>,
}

impl Collected {
    pub(crate) fn new(frozen: Frozen, trailers: Option<HeaderMap>) -> Self {
        Collected { frozen: Held::new(frozen), trailers: trailers.map(Arc::new) }
    }

    /// The number of bytes: those that arrived, without the trailers, and those that a [given
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

    /// The bytes as a buffer, at position 0: to be written to, or to become a file by
    /// [`persist`](SpillBuffer::persist). Moves no byte, and drops the trailers.
    ///
    /// # Errors
    /// Returns this handle if the content has another one (readers, bodies and lent frames count as handles),
    /// or if the readers of a [spooled body](crate::SpillPool::spool_body) that read
    /// [once](crate::AsyncSpoolReader::once) have passed some of the bytes, which are freed.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use overspill::SpillPool;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pool = SpillPool::default();
    /// let collected = pool.collect(Full::new(&b"a body"[..])).await.unwrap();
    /// let other = collected.clone();
    /// let collected = collected.into_buffer().unwrap_err(); // it is shared
    /// drop(other);
    /// assert_eq!(collected.into_buffer().unwrap().to_vec().unwrap(), b"a body");
    /// # });
    /// ```
    pub fn into_buffer(self) -> Result<SpillBuffer, Collected> {
        let Collected { frozen, trailers } = self;
        let buffer = frozen.into_inner().into_buffer();
        buffer.map_err(|frozen| Collected { frozen: Held::new(frozen), trailers })
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
