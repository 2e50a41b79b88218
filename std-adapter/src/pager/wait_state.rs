//! What a buffer keeps between a refusal at the disk limit and the grant of room.
//!
//! Held by: `tests/tests/when_full.rs`.

use crate::disk::quota::Ticket;
use crate::pool::when_full::WhenFull;

/// The state of a buffer that was refused room on the disk, or that has its own policy for that case.
#[derive(Debug, Default)]
pub(crate) struct WaitState {
    /// The buffer's own policy; `None` means the pool's.
    pub(crate) when_full: Option<WhenFull>,
    /// Bytes of disk that were requested and refused, until a call succeeds, a wait ends at its deadline or
    /// the buffer shrinks.
    /// [`poll_writable`](crate::SpillBuffer::poll_writable) waits for so many.
    pub(crate) requested: Option<u64>,
    /// The buffer's place in the queue for room, and what was granted there. Dropping it leaves the queue.
    pub(crate) ticket: Option<Ticket>,
}
