//! What the buffers of a pool share: who may have memory, where it comes from, and which buffers there are.
//!
//! | file | holds |
//! |---|---|
//! | `state` | all of it together |
//! | `registry` | the tables of all buffers, and which of them give up memory |
//! | `supply` | where frames come from, in turn |
//! | `reclaim` | pages taken back from other buffers |
//! | `table_cache` | tables of finished buffers, for new ones |
//! | `member` | a buffer as its pool sees it |
//! | `when_full` | the policy at the disk limit |
//! | `audit` | recounts, for tests |

pub(crate) mod audit;
pub(crate) mod member;
pub(crate) mod reclaim;
pub(crate) mod registry;
pub(crate) mod state;
pub(crate) mod supply;
pub(crate) mod table_cache;
pub(crate) mod when_full;
