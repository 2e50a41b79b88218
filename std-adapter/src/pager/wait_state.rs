//! What a buffer that was refused room keeps until it is granted.

use crate::disk::quota::Place;
use crate::pool::when_full::WhenFull;

/// What a buffer needs that was refused, or that has a policy of its own.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Instead of the pool's.
    pub(crate) when_full: Option<WhenFull>,
    /// Bytes that were asked and refused, if nothing was granted since.
    pub(crate) asked: Option<u64>,
    pub(crate) place: Option<Place>,
}
