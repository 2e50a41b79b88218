//! The policy at the disk limit: to fail, or to wait for room.
//!
//! Held by: `tests/tests/when_full.rs`.

use std::time::Duration;

/// What a call does when it needs more disk than the pool's disk limit leaves.
///
/// The policy covers the pool's limit only. A store that is itself full fails the call at once with
/// [`SpillError::StoreFull`](crate::SpillError::StoreFull), and a limit of the buffer's own with
/// [`SpillError::DiskLimit`](crate::SpillError::DiskLimit).
///
/// ```
/// use overspill::{SpillPool, WhenFull};
/// use std::time::Duration;
///
/// let pool = SpillPool::builder()
///     .memory(1 << 20)
///     .disk(8 << 20)
///     .when_full(WhenFull::Wait { at_most: Duration::from_secs(5) })
///     .build()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// The call fails with [`SpillError::DiskLimit`](crate::SpillError::DiskLimit).
    #[default]
    Fail,
    /// The call blocks its thread until there is room; an async one is pending. If there is none in time, it
    /// fails with [`SpillError::DiskLimit`](crate::SpillError::DiskLimit), which says how long it waited.
    ///
    /// Room comes from other threads: they drop, clear or truncate buffers of the pool, or raise its limits.
    /// If every thread that could do so waits itself, all of them wait until their deadlines. Waiters are
    /// served in the order of their arrival: bytes that come free are set aside for the one that has waited
    /// longest.
    ///
    /// A write that has accepted some bytes already does not wait: it returns their number. So `write_all`
    /// may wait for up to `at_most` each time that it makes no progress. A read never waits.
    Wait {
        /// The longest time that one call waits. [`Duration::MAX`] means without a deadline.
        at_most: Duration,
    },
}
