//! What is done at the disk limit: the policy.

use std::time::Duration;

/// What a call does that needs more of the disk than the pool's limit leaves.
///
/// A full disk is another matter: that is [`SpillError::StoreFull`](crate::SpillError::StoreFull), at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It fails with [`SpillError::DiskLimit`](crate::SpillError::DiskLimit).
    #[default]
    Fail,
    /// It blocks its thread until there is room, and fails with [`SpillError::DiskLimit`](crate::SpillError::DiskLimit), which tells
    /// how long it waited, if there is none in time.
    ///
    /// Writable comes from other threads: they drop, clear or truncate buffers of the pool, or raise its
    /// limits. If all who could do so wait themselves, all wait in vain. First come, first served: what
    /// comes free is set aside for who has waited longest.
    ///
    /// Nothing is waited for by a write that took some bytes already: it returns their number. So
    /// `write_all` waits for as long as this each time that it gets no further. A read never waits.
    Wait {
        /// The longest that one call waits. [`Duration::MAX`] is for ever.
        at_most: Duration,
    },
}
