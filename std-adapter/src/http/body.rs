//! Frozen content as the body of a request or a response.
//!
//! Its promises are listed at [`SpillBody`].
//!
//! # What a body holds
//!
//! A frame is a page that is lent where it is, and charged to the pool until the receiver drops it; or, once
//! as much is lent as may be, a copy that is not charged. What is not in memory is [read
//! ahead](crate::polled::read_ahead): several pages if they can be lent, otherwise a single copy, or up to 64
//! KiB of copies for a receiver that waits. So a body whose receiver stands still holds at most that, and
//! what the receiver itself keeps.
//!
//! Held by: `tests/servers/tests/bodies.rs`.

use crate::api::buffer::SpillBuffer;
use crate::api::frozen::Frozen;
use crate::http::body_error::BodyError;
use crate::pager::shared::Counted;
use crate::polled::held::Held;
use crate::polled::read_ahead::{Extent, Piece, ReadAhead};
use crate::polled::runtime::Poller;
use crate::sync::Arc;
use crate::tokio::turn::poll_bytes;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A body over [`Frozen`] content, for hyper, axum, tonic, reqwest and everything else that speaks
/// [`http_body::Body`].
///
/// It promises:
///
/// - The thread that polls it never waits for the disk. What is in memory is sent at once, without a copy, an
///   allocation of the content or a task switch; what is not is read by a blocking thread of the tokio
///   runtime, ahead of the receiver.
/// - Each frame of the body is one contiguous [`Bytes`]. The page of the pool that it lies in stays charged
///   until the receiver drops it. Once a quarter of the memory limit is lent, or as much as
///   [`PoolBuilder::lend`](crate::PoolBuilder::lend) allows, frames are copies of at most 16 KiB, which are
///   not charged; the body has at most 64 KiB of them ready.
/// - Its length is exact: [`size_hint`](Body::size_hint) is what is still to be sent, and nothing
///   else is ever sent.
/// - **A clone starts at the beginning**, wherever this body has got to: that is what a retry needs.
/// - It is `Send`, `Sync` and `'static`, and holds the content as a [`Frozen`] does.
///
/// A server keeps frames until the client has received them. hyper keeps up to some 400 KiB: for each
/// connection over HTTP/1, where `max_buf_size` lowers this, and for each stream over HTTP/2, where
/// `max_send_buf_size` does.
///
/// It must be polled in a tokio runtime if some of the content may be spilled.
///
/// ```
/// use http_body_util::BodyExt;
/// use overspill::SpillBuffer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let frozen = SpillBuffer::from(&b"head and tail"[..]).freeze();
/// let mut body = frozen.slice(9..).body(); // a range of it
/// let retry = body.clone();
/// assert_eq!(body.frame().await.unwrap()?.into_data().unwrap(), "tail");
/// assert!(body.frame().await.is_none());
/// assert_eq!(retry.collect().await?.to_bytes(), "tail");
/// # Ok(())
/// # }
/// ```
pub struct SpillBody {
    /// Dropped before `frozen`, as it demands.
    ahead: ReadAhead,
    /// Once it has found something that was not in memory. Dropped before `frozen`, too.
    counted: Option<Counted>,
    frozen: Held<Frozen>,
    /// Where the next frame begins.
    at: u64,
    trailers: Option<Arc<HeaderMap>>,
    /// The trailers are still to be sent.
    trails: bool,
}

impl Frozen {
    /// A body that sends the content of this handle, for hyper, axum and all others of their kind. Costs
    /// one atomic addition.
    #[must_use]
    pub fn body(&self) -> SpillBody {
        SpillBody::new(self.clone(), None)
    }
}

/// A body without content, which is charged to none of your pools.
impl Default for SpillBody {
    fn default() -> Self {
        SpillBuffer::default().freeze().body()
    }
}

impl SpillBody {
    pub(crate) fn new(frozen: Frozen, trailers: Option<Arc<HeaderMap>>) -> Self {
        let trails = trailers.is_some();
        let (ahead, frozen) = (ReadAhead::default(), Held::new(frozen));
        SpillBody { ahead, counted: None, frozen, at: 0, trailers, trails }
    }

    /// A body of `bytes`, which may be a `Bytes`, a `Vec<u8>`, a `String`, or a static slice or `str`: for
    /// content that the program makes itself, beside bodies that it received.
    ///
    /// It is charged to none of your pools, but to a memory limit of its own that has room for all of it,
    /// like a buffer from [`SpillBuffer::from`]: whole pages of 64 KiB are kept where they are, and the rest
    /// is copied. Nothing is spilled, so an event loop may make such a body. Kept pages are lent, however
    /// many there are; copied ones up to a quarter of that limit, as in [any pool](crate::PoolBuilder::lend).
    /// For a body that is charged to a pool, [push](SpillBuffer::push) the bytes to a buffer of the pool, and
    /// make the body from that buffer.
    ///
    /// ```
    /// use http::Request;
    /// use overspill::SpillBody;
    ///
    /// let request = Request::post("/").body(SpillBody::from_bytes(r#"{"name": "film.mkv"}"#)?)?;
    /// let again = request.clone();
    /// assert_eq!(again.body().frozen().len(), 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the system has no memory for what is copied, and no room in its temp directory either.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> io::Result<Self> {
        SpillBuffer::try_from_bytes(bytes.into()).map(SpillBody::from)
    }

    /// Returns the same body with `trailers`, which are sent after its content and replace any that it had.
    /// Call this before the body is polled. Clones of the body send the trailers too.
    ///
    /// Over HTTP/2, all of them are sent. Over HTTP/1, hyper sends those that the header `Trailer` names, in
    /// a message with the header `Transfer-Encoding: chunked`. Set both headers: otherwise a body whose
    /// length is known is sent without chunks, and so without trailers. A server sends trailers only to a
    /// client that has sent `TE: trailers`.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use http_body_util::BodyExt;
    /// use overspill::SpillBody;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut trailers = HeaderMap::new();
    /// trailers.insert("checksum", "73d9".parse()?);
    /// let body = SpillBody::from_bytes("all of it")?.with_trailers(trailers);
    /// let sent = body.collect().await?;
    /// assert_eq!(sent.trailers().unwrap()["checksum"], "73d9");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        (self.trailers, self.trails) = (Some(Arc::new(trailers)), true);
        self
    }

    /// All the content, wherever the body has got to: for a handler that reads it by itself.
    #[must_use]
    pub fn frozen(&self) -> &Frozen {
        self.frozen.get()
    }

    /// Ends the body.
    fn end(&mut self) {
        (self.at, self.trails) = (self.frozen().len(), false);
        (self.ahead, self.counted) = (ReadAhead::default(), None);
    }

    fn is_read(&self) -> bool {
        self.at == self.frozen().len()
    }

    /// What may be read ahead, and where in its content this body's position 0 is.
    fn extent(&self) -> (Extent, u64) {
        let frozen = self.frozen();
        let start = frozen.start;
        (Extent { shared: Arc::clone(&frozen.shared), end: start + frozen.len(), feed: None }, start)
    }

    /// The next bytes, of which there are some.
    fn poll_data(&mut self, poller: Poller<'_>) -> Poll<io::Result<Bytes>> {
        let (extent, start) = self.extent();
        let at = start + self.at;
        loop {
            if let Some(piece) = self.ahead.take(&extent, at, poller) {
                return Poll::Ready(Ok(bytes(piece)));
            }
            if ready!(self.ahead.poll(poller))? {
                continue;
            }
            match extent.resident_piece(at) {
                Some(piece) => return Poll::Ready(Ok(bytes(piece?))),
                None => {
                    self.counted.get_or_insert_with(|| Counted::new(Arc::clone(&extent.shared)));
                    self.ahead.start(&extent, at, 1)?;
                }
            }
        }
    }
}

fn bytes(piece: Piece) -> Bytes {
    match piece {
        Piece::Lent(part) => Bytes::from_owner(part),
        Piece::Copied(bytes) => bytes.into(),
    }
}

/// A clone starts at the beginning.
impl Clone for SpillBody {
    fn clone(&self) -> Self {
        SpillBody::new(self.frozen().clone(), self.trailers.clone())
    }
}

/// Sends the content of this handle, as [`Frozen::body`] does.
impl From<Frozen> for SpillBody {
    fn from(frozen: Frozen) -> Self {
        SpillBody::new(frozen, None)
    }
}

/// [Freezes](SpillBuffer::freeze) the buffer, and sends all of its content, wherever its position is. The
/// pages stay charged to its pool. Moves no byte.
impl From<SpillBuffer> for SpillBody {
    fn from(buffer: SpillBuffer) -> Self {
        SpillBody::new(buffer.freeze(), None)
    }
}

/// Sends `text`, which is charged to none of your pools, as [`from_bytes`](SpillBody::from_bytes) does. This
/// conversion lets [`CollectError::to_response`](crate::CollectError::to_response) make such a body.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for a copy.
impl From<String> for SpillBody {
    fn from(text: String) -> Self {
        SpillBuffer::from(text).into()
    }
}

impl Body for SpillBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_read() {
            let trailers = self.trailers.as_deref().filter(|_| self.trails).cloned();
            self.trails = false;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let position = self.at;
        let next = match ready!(poll_bytes(context, |poller| self.poll_data(poller))) {
            Ok(bytes) => {
                self.at += bytes.len() as u64;
                if self.is_read() {
                    self.counted = None; // a server may keep it for long
                }
                Ok(Frame::data(bytes))
            }
            Err(source) => {
                self.end();
                Err(BodyError { position, source })
            }
        };
        Poll::Ready(Some(next))
    }

    fn is_end_stream(&self) -> bool {
        self.is_read() && !self.trails
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.frozen().len() - self.at)
    }
}

/// Shows lengths, never the content.
impl fmt::Debug for SpillBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillBody")
            .field("len", &self.frozen().len())
            .field("position", &self.at)
            .finish_non_exhaustive()
    }
}
