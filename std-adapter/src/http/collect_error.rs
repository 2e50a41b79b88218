//! Why a body was not taken into a pool, and what to answer its sender.
//!
//! Promise: the text of each names what was received and what would have worked, as its status does.
//!
//! Held by: `tests/servers/tests/collect.rs`, `tests/servers/tests/upload.rs`.

use crate::error::{DiskLimitScope, SpillError};
use http::StatusCode;
use std::error::Error;
use std::io;
use std::time::Duration;

/// When to try again after the pool's disk limit was reached. Nobody knows when other bodies end; with
/// [`WhenFull::Wait`](crate::WhenFull) this one has waited for them already.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A body was not collected. All that had arrived of it is dropped, and its memory and disk are back in the pool: at once, or with the
/// last reader, if it has [any](crate::SpillPool::spool_body).
///
/// [`status`](CollectError::status) is what a server answers; a text for the client is `to_string`, which names no path and
/// nothing of the server but its limits. `Display` leaves the source out: print the chain for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The body is longer than [`Collect::limit`](crate::Collect::limit) allows. Status 413.
    #[error("the body is longer than the {limit} bytes that are allowed; send a shorter one")]
    #[non_exhaustive]
    TooLong {
        /// The limit, in bytes.
        limit: u64,
        /// Bytes that had arrived; 0 if the body said beforehand how long it is, and was refused at once.
        received: u64,
    },

    /// The pool could not take the body. Status 503 at the pool's disk limit, 507 if the store is full, 413 at a limit of
    /// this buffer alone, else 500.
    #[error("{} after {received} bytes; {}", match self.status() {
        StatusCode::INTERNAL_SERVER_ERROR => "the server could not store the body",
        _ => "there is no room for the body",
    }, match self.status() {
        StatusCode::SERVICE_UNAVAILABLE => "try again later",
        StatusCode::PAYLOAD_TOO_LARGE => "send a shorter one",
        _ => "trying again will not help before the server has been looked after",
    })]
    #[non_exhaustive]
    NoRoom {
        /// Bytes that were taken.
        received: u64,
        /// The error of the write; [`SpillError::of`] finds what is within.
        source: io::Error,
    },

    /// The body itself failed: the client has gone, or what it sent cannot be understood. Status 400, which a client that has
    /// gone does not see.
    #[error("the body ended after {received} bytes, before its end; send all of it")]
    #[non_exhaustive]
    Broken {
        /// Bytes that had arrived.
        received: u64,
        /// The body's own error.
        source: Box<dyn Error + Send + Sync>,
    },

    /// Nothing arrived for as long as [`Collect::idle_timeout`](crate::Collect::idle_timeout) allows. Status 408.
    #[error("nothing of the body arrived for {idle:?} after {received} bytes; send without pauses")]
    #[non_exhaustive]
    Idle {
        /// Bytes that had arrived.
        received: u64,
        /// The time allowed.
        idle: Duration,
    },
}

impl CollectError {
    /// The error of a handler that writes a body into a buffer by itself, and whose write failed with `source` after so many
    /// bytes.
    #[must_use]
    pub fn of_write(received: u64, source: io::Error) -> Self {
        CollectError::NoRoom { received, source }
    }

    /// The status to answer with: 413, 503, 507, 400, 408 or 500.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            CollectError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
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

    /// For the header `Retry-After`: a time with status 503, when other bodies of the pool may have made room; else `None`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.is_passing().then_some(RETRY_AFTER)
    }

    fn is_passing(&self) -> bool {
        self.status() == StatusCode::SERVICE_UNAVAILABLE
    }
}
