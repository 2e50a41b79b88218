//! What the operator is told: lines on the standard error.
//!
//! Promise: a log that cannot be written to stops nothing. `eprintln!` panics there, as on a pipe that
//! nobody reads any more.

use std::error::Error;
use std::fmt::Display;
use std::io::{Write, stderr};
use std::iter::successors;

/// Writes a line.
pub fn log(text: impl Display) {
    let _ = writeln!(stderr(), "{text}"); // of which nobody could be told
}

/// An error and its sources, as a line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let sources = successors(error.source(), |error: &&dyn Error| (*error).source());
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}
