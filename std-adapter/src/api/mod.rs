//! The public types. Nothing below this layer names any of them.
//!
//! Held by: the table of layers in `tests/tests/tidy.rs`.

#[cfg(feature = "tokio")]
pub(crate) mod along;
#[cfg(feature = "tokio")]
pub(crate) mod beside;
#[cfg(feature = "tokio")]
pub(crate) mod blocked;
pub(crate) mod buffer;
pub(crate) mod buffer_builder;
pub(crate) mod buffer_io;
pub(crate) mod clones;
pub(crate) mod frozen;
#[cfg(feature = "bytes")]
pub(crate) mod frozen_bytes;
pub(crate) mod frozen_reader;
pub(crate) mod given;
#[cfg(feature = "tokio")]
pub(crate) mod held;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
#[cfg(feature = "tokio")]
pub(crate) mod off_loop;
pub(crate) mod persist;
pub(crate) mod persisted;
#[cfg(feature = "tokio")]
pub(crate) mod polled;
#[cfg(feature = "tokio")]
pub(crate) mod polled_follower;
#[cfg(feature = "tokio")]
pub(crate) mod polled_io;
#[cfg(feature = "tokio")]
pub(crate) mod polled_reader;
#[cfg(feature = "tokio")]
pub(crate) mod polled_writer;
pub(crate) mod pool;
pub(crate) mod pool_builder;
#[cfg(feature = "tokio")]
pub(crate) mod read_ahead;
#[cfg(feature = "tokio")]
pub(crate) mod runtime;
pub(crate) mod spool;
pub(crate) mod spool_reader;
pub(crate) mod text;
pub(crate) mod transfers;
pub(crate) mod writable;
