//! What happened, for people to look at. Nothing in the crate decides anything by it.

pub(crate) mod counters;
pub(crate) mod events;
pub(crate) mod stats;
