//! The types that a program uses without an event loop. Nothing below this layer names any of them.
//!
//! Held by: the table of layers in `tests/tests/tidy.rs`.

pub(crate) mod buffer;
pub(crate) mod buffer_builder;
pub(crate) mod buffer_io;
pub(crate) mod clones;
pub(crate) mod frozen;
#[cfg(feature = "bytes")]
pub(crate) mod frozen_bytes;
pub(crate) mod frozen_reader;
pub(crate) mod given;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod persist;
pub(crate) mod persisted;
pub(crate) mod pool;
pub(crate) mod pool_builder;
pub(crate) mod spool;
pub(crate) mod spool_reader;
pub(crate) mod text;
pub(crate) mod transfers;
pub(crate) mod writable;
