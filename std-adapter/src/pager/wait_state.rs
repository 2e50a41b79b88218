//! What a buffer that was refused room keeps until it is granted.

use crate::disk::quota::Ticket;
use crate::pool::when_full::WhenFull;

/// What a buffer needs that was refused, or that has a policy of its own.
#[derive(Debug, Default)]
pub(crate) struct WaitState {
    /// Instead of the pool's.
    pub(crate) when_full: Option<WhenFull>,
    /// Bytes that were asked and refused, if nothing was granted since.
    pub(crate) requested: Option<u64>,
    pub(crate) ticket: Option<Ticket>,
}
