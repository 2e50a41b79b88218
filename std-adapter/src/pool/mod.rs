//! What the buffers of a pool share: their memory, their store, and the registry of their tables.
//!
//! | file | holds |
//! |---|---|
//! | `state` | everything shared, in one struct |
//! | `registry` | the tables of all buffers, and the choice of donors |
//! | `activity` | which buffers need memory, in epochs |
//! | `supply` | the sources of frames, in the order in which they are tried |
//! | `reclaim` | taking pages of donors, and their frames to the requester |
//! | `departure` | pages that their owner sends away, for a job to write |
//! | `carriage` | the calls of the store that write pages in transit to their slots |
//! | `lowered_limit` | what is reclaimed when the memory limit is lowered |
//! | `offload` | jobs that run off the event loop, a few at a time |
//! | `cache` | things that were used, kept to be used again |
//! | `private` | pools for one buffer each, kept for the next |
//! | `table_cache` | tables of dropped buffers, kept for new buffers |
//! | `tables` | tables opened for buffers, kept for the next, and dropped |
//! | `leftover` | what a dropped buffer leaves: its table and its pool |
//! | `thread_place` | a thread's place for one thing, which others may take out |
//! | `thread_cache` | what the last buffer of each thread left |
//! | `member` | a buffer as its pool sees it |
//! | `when_full` | the policy at the disk limit |
//! | `audit` | recounts, for tests |

pub(crate) mod activity;
pub(crate) mod audit;
pub(crate) mod cache;
pub(crate) mod carriage;
#[cfg(feature = "tokio")]
pub(crate) mod departure;
pub(crate) mod leftover;
pub(crate) mod lowered_limit;
pub(crate) mod member;
#[cfg(any(feature = "tokio", all(test, overspill_loom)))]
pub(crate) mod offload;
pub(crate) mod private;
pub(crate) mod reclaim;
pub(crate) mod registry;
pub(crate) mod state;
pub(crate) mod supply;
pub(crate) mod table_cache;
pub(crate) mod tables;
#[cfg_attr(overspill_loom, path = "without_thread_cache.rs")]
pub(crate) mod thread_cache;
pub(crate) mod thread_place;
pub(crate) mod when_full;
