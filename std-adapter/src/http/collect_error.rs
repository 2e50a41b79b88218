//! Why a body was not taken into a pool, and how to respond to its sender.
//!
//! Promise: the text of each names what was received and what would have worked, as its status does.
//!
//! Held by: `tests/servers/tests/collect.rs`, `tests/servers/tests/too_long.rs`,
//! `tests/servers/tests/too_short.rs`, `tests/servers/tests/upload.rs`.

use crate::error::text::write_sources;
use crate::error::{DiskLimitScope, SpillError, find};
use crate::http::body_error::BodyError;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::LengthLimitError;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// When to try again after the pool's disk limit was reached. Nobody knows when other bodies end; with
/// [`WhenFull::Wait`](crate::WhenFull) this one has waited for them already.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A body was not collected. All that had arrived of it is dropped, and its memory and disk are back in the
/// pool: at once or, if it has [readers](crate::SpillPool::spool_body), when the last of them is dropped.
///
/// [`status`](CollectError::status) is the status for the response, and `to_string` a text for the client,
/// which names no path and nothing of the server but its limits. `{error:#}` adds the sources, for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The body is longer than [`Collect::limit`](crate::Collect::limit) allows, or than the pool could take
    /// if it held nothing else: its memory limit and its disk limit together, or a little less, since memory
    /// and disk are given out in whole frames and slots of the pool. Status 413.
    #[non_exhaustive]
    TooLong {
        /// The limit that the body exceeds, in bytes: that of `Collect::limit`, the pool's two limits
        /// together, or what there was room for.
        limit: u64,
        /// Bytes that had arrived; 0 if the body was refused at once for its announced length.
        received: u64,
    },

    /// The pool could not take the body. Status 503 at the pool's disk limit, 507 if the store is full, 413
    /// at a limit of this buffer alone, else 500.
    #[non_exhaustive]
    NoRoom {
        /// Bytes that were taken.
        received: u64,
        /// The error of the write; [`SpillError::of`] returns its inner error.
        source: io::Error,
    },

    /// The body itself failed: the client has gone, what it sent cannot be understood, or it ended before its
    /// announced length. Status 400, which a client that has gone does not see. Or the body came out of a
    /// pool, as a [`SpillBody`](crate::SpillBody) or through a reader, and the pool could not read it: status
    /// 500.
    #[non_exhaustive]
    Broken {
        /// Bytes that had arrived.
        received: u64,
        /// The body's own error.
        source: Box<dyn Error + Send + Sync>,
    },

    /// A limit outside of this crate has cut the body off: the body's error is, or has among its sources, a
    /// [`LengthLimitError`](https://docs.rs/http-body-util/0.1/http_body_util/struct.LengthLimitError.html).
    /// That is the error of `http_body_util::Limited`, and so of tower-http's `RequestBodyLimitLayer`. Status
    /// 413.
    #[non_exhaustive]
    CutOff {
        /// Bytes that had arrived.
        received: u64,
        /// The body's own error.
        source: Box<dyn Error + Send + Sync>,
    },

    /// Nothing arrived for as long as [`Collect::idle_timeout`](crate::Collect::idle_timeout) allows. Status
    /// 408.
    #[non_exhaustive]
    Idle {
        /// Bytes that had arrived.
        received: u64,
        /// The time allowed.
        idle: Duration,
    },
}

impl CollectError {
    /// The error for a handler that writes a body into a buffer by itself: its write failed with `source`
    /// after `received` bytes.
    ///
    /// At the pool's disk limit its status is 503, also if the body has the pool for itself, so that trying
    /// again cannot help: it knows neither the buffer nor the pool. [`collect`](crate::SpillPool::collect)
    /// knows both, and is 413 then. A handler can compare the buffer's
    /// [`stats`](crate::AsyncSpillBuffer::stats) with [those of the pool](crate::SpillPool::stats).
    #[must_use]
    pub fn of_write(received: u64, source: io::Error) -> Self {
        CollectError::NoRoom { received, source }
    }

    /// The error of a body of at least `len` bytes whose write failed with `source` after so many. What it
    /// was written to could never take more than `most` says when the pool has refused so many bytes of the
    /// disk.
    pub(crate) fn of_sink(received: u64, len: u64, source: io::Error, most: impl FnOnce(u64) -> u64) -> Self {
        if let Some(SpillError::DiskLimit { scope: DiskLimitScope::Pool, requested, .. }) =
            SpillError::of(&source)
        {
            let limit = most(*requested);
            if len > limit {
                // Others that end make room, but not enough for this one.
                return CollectError::TooLong { limit, received };
            }
        }
        CollectError::of_write(received, source)
    }

    /// The error of a body that failed with `source` after so many bytes.
    pub(crate) fn of_body(received: u64, source: Box<dyn Error + Send + Sync>) -> Self {
        match find::<LengthLimitError>(&*source) {
            Some(_) => CollectError::CutOff { received, source },
            None => CollectError::Broken { received, source },
        }
    }

    /// The status to respond with: 413, 503, 507, 400, 408 or 500.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            CollectError::TooLong { .. } | CollectError::CutOff { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            CollectError::Broken { source, .. } if is_of_pool(&**source) => StatusCode::INTERNAL_SERVER_ERROR,
            CollectError::Broken { .. } => StatusCode::BAD_REQUEST,
            CollectError::Idle { .. } => StatusCode::REQUEST_TIMEOUT,
            CollectError::NoRoom { source, .. } => match SpillError::of(source) {
                Some(SpillError::DiskLimit { scope: DiskLimitScope::Pool, .. }) => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                Some(SpillError::DiskLimit { .. } | SpillError::TooLarge { .. }) => {
                    StatusCode::PAYLOAD_TOO_LARGE
                }
                Some(SpillError::StoreFull { .. }) => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// The time for the header `Retry-After`, after which other bodies of the pool may have made room. `None`
    /// unless the status is 503.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.is_passing().then_some(RETRY_AFTER)
    }

    /// The response to the sender: the status, a line of text, and `Retry-After` where that helps. `B` is any
    /// body made of a `String`, such as axum's, `Full<Bytes>`, `String` itself, or a
    /// [`SpillBody`](crate::SpillBody), for a handler that returns one otherwise.
    ///
    /// Over HTTP/1, if part of the body has not arrived, the connection ends with this response, since the
    /// rest of the body would be taken for the next request. hyper closes the connection without announcing
    /// it. So add the header `Connection: close`, as the layer of the feature `tower` does, so that the
    /// client does not use the connection again. HTTP/2 does not have that header.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full};
    /// use overspill::{SpillBody, SpillPool};
    ///
    /// async fn echo(pool: &SpillPool, request: Request<Full<&'static [u8]>>) -> Response<SpillBody> {
    ///     match pool.collect(request.into_body()).limit(9).await {
    ///         Ok(collected) => Response::new(collected.body()),
    ///         Err(error) => error.to_response(),
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = SpillPool::builder().memory(1 << 20).build()?;
    /// let answer = echo(&pool, Request::new(Full::new(b"all of it"))).await;
    /// assert_eq!(answer.into_body().collect().await?.to_bytes(), "all of it");
    ///
    /// let answer = echo(&pool, Request::new(Full::new(b"all of it, and more"))).await;
    /// assert_eq!((answer.status().as_u16(), answer.headers().get("retry-after")), (413, None));
    /// let text = answer.into_body().collect().await?.to_bytes();
    /// assert!(text.starts_with(b"the body is longer than the 9 bytes that are allowed"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn to_response<B: From<String>>(&self) -> Response<B> {
        let mut answer = Response::new(B::from(format!("{self}\n")));
        *answer.status_mut() = self.status();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
        }
        answer
    }

    fn is_passing(&self) -> bool {
        self.status() == StatusCode::SERVICE_UNAVAILABLE
    }
}

/// `{error:#}` adds the sources.
impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CollectError::TooLong { limit, .. } => {
                write!(f, "the body is longer than the {limit} bytes that are allowed; send a shorter one")?;
            }
            CollectError::NoRoom { received, .. } => {
                let (what, advice) = match self.status() {
                    StatusCode::SERVICE_UNAVAILABLE => ("there is no room for the body", "try again later"),
                    StatusCode::PAYLOAD_TOO_LARGE => ("there is no room for the body", "send a shorter one"),
                    StatusCode::INTERNAL_SERVER_ERROR => ("the server could not store the body", NOT_YET),
                    _ => ("there is no room for the body", NOT_YET),
                };
                write!(f, "{what} after {received} bytes; {advice}")?;
            }
            CollectError::Broken { received, source } if is_of_pool(&**source) => {
                write!(f, "the server could not read the body after {received} bytes; {NOT_YET}")?;
            }
            CollectError::Broken { received, .. } => {
                write!(f, "the body ended after {received} bytes, before its end; send all of it")?;
            }
            CollectError::CutOff { received, .. } => {
                write!(f, "the body is longer than is allowed, and was cut off after {received} bytes; ")?;
                f.write_str("send a shorter one")?;
            }
            CollectError::Idle { received, idle } => {
                let sent = format_args!("{idle:?} after {received} bytes");
                write!(f, "nothing of the body arrived for {sent}; send without pauses")?;
            }
        }
        write_sources(self, f)
    }
}

/// Whether a body failed in a pool that it came from, and not on its way there.
fn is_of_pool(error: &(dyn Error + 'static)) -> bool {
    match SpillError::find(error) {
        Some(SpillError::Unfinished { .. } | SpillError::NothingWritten { .. }) => false,
        Some(_) => true,
        None => find::<BodyError>(error).is_some(),
    }
}

/// What a client is told that can do nothing.
const NOT_YET: &str = "trying again will not help before the server has been looked after";

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    /// A client is told no more than a line, and the log had to walk along the sources for the rest.
    #[test]
    fn the_log_has_the_sources_on_the_same_line() {
        let source = || io::Error::other("the cause");
        let broken = CollectError::Broken { received: 7, source: source().into() };
        let line = "the body ended after 7 bytes, before its end; send all of it";
        assert_eq!((broken.to_string(), format!("{broken:#}")), (line.into(), format!("{line}: the cause")));
        let no_room =
            CollectError::of_write(7, SpillError::disk_limit(10, 9, 4, DiskLimitScope::Pool).into());
        let line = "there is no room for the body after 7 bytes; try again later";
        assert_eq!(no_room.to_string(), line);
        assert!(
            format!("{no_room:#}").starts_with(&format!("{line}: disk limit of the pool reached: 4 more"))
        );
        let body = BodyError { position: 3, source: source() };
        let line = "cannot read the body at position 3";
        assert_eq!((body.to_string(), format!("{body:#}")), (line.into(), format!("{line}: the cause")));
    }
}
