//! Bodies of HTTP messages over a pool, for everything that speaks [`http_body::Body`].
//!
//! Held by: the table of layers in `tests/tests/tidy.rs`.

pub(crate) mod body;
pub(crate) mod body_error;
pub(crate) mod collect;
pub(crate) mod collect_error;
pub(crate) mod collected;
pub(crate) mod intake;
pub(crate) mod spool_collect;
