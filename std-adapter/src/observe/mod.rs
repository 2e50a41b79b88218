//! Statistics and events, for the users of a pool. Nothing in the crate decides anything by them.
//!
//! Held by: `tests/tests/pool_stats.rs`, `tests/tests/observed/main.rs`.

pub(crate) mod counters;
pub(crate) mod events;
pub(crate) mod stats;
