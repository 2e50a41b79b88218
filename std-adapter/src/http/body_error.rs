//! The error of a body that is sent.
//!
//! Held by: `tests/servers/tests/bodies.rs`.

use std::io;

/// A [`SpillBody`](crate::SpillBody) cannot be sent on: a page could not be read from the store, or there is no runtime any
/// more that could read it.
///
/// The body ends with it. The content is as it was: a clone of the body starts anew. `Display` leaves the source out, which is
/// a [`SpillError`](crate::SpillError) within an [`io::Error`] where the store has failed: print the chain.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the body at position {position}")]
#[non_exhaustive]
pub struct BodyError {
    /// Where in the body the bytes begin that could not be read.
    pub position: u64,
    /// Why.
    pub source: io::Error,
}
