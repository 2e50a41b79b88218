//! The public types: what a program sees. Nothing below this layer names any of them.

pub(crate) mod buffer;
pub(crate) mod buffer_builder;
pub(crate) mod buffer_io;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod persist;
pub(crate) mod pool;
pub(crate) mod pool_builder;
pub(crate) mod transfers;
pub(crate) mod writable;
