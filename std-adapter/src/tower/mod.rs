//! A layer over a pool, for services of any framework.
//!
//! Held by: the table of layers in `tests/tests/tidy.rs`.

pub(crate) mod layer;
pub(crate) mod response_body;
