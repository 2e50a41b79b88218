//! The error of a body that is sent.
//!
//! Held by: `tests/servers/tests/bodies.rs`.

use crate::error::text::write_sources;
use std::fmt;
use std::io;

/// The rest of a [`SpillBody`](crate::SpillBody) cannot be sent: a page could not be read from the store, or
/// there is no runtime any more that could read it.
///
/// The body ends with this error. The content is unchanged: a clone of the body starts at the beginning. If
/// the store has failed, the source is an [`io::Error`] with a [`SpillError`](crate::SpillError) as its inner
/// error; `{error:#}` adds the sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub struct BodyError {
    /// Where in the body the bytes begin that could not be read, in bytes.
    pub position: u64,
    /// The cause.
    pub source: io::Error,
}

/// `{error:#}` adds the sources.
impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the body at position {}", self.position)?;
        write_sources(self, f)
    }
}
