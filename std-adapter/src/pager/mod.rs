//! One buffer's pages as a medium below the cursor: moves bytes between the caller, frames and slots.
//!
//! | file | holds |
//! |---|---|
//! | `state` | what a buffer is made of |
//! | `medium` | reading, writing and truncating |
//! | `residency` | which pages have frames; evicts |
//! | `direct` | transfers past all frames |
//! | `checked` | transfers that are checked against checksums |
//! | `slot_io` | slots taken and freed, transfers counted |
//! | `lending`, `loan` | bytes lent where they lie |
//! | `waiting`, `wait_state` | what happens at the disk limit |
//! | `export` | the whole content, for a file |
//! | `audit` | recounts, for tests |

pub(crate) mod audit;
pub(crate) mod checked;
pub(crate) mod direct;
pub(crate) mod export;
pub(crate) mod lending;
pub(crate) mod loan;
pub(crate) mod medium;
pub(crate) mod residency;
pub(crate) mod slot_io;
pub(crate) mod span;
pub(crate) mod state;
pub(crate) mod wait_state;
pub(crate) mod waiting;
