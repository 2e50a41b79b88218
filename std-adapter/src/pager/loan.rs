//! What is lent out of a buffer.

use crate::pages::table::Window;

/// Bytes that are lent from a spilled page when there is no frame to be had: beside the budget, and
/// only for who reads by `fill_buf` then.
pub(crate) const SCRATCH: usize = 4 << 10;

/// What [`chunk_at`](overspill_core::Medium::chunk_at) lends.
#[derive(Debug, Default)]
pub(crate) struct Loan {
    /// The window while its bytes are lent out: nobody can take it back then.
    pub(crate) window: Option<Window>,
    /// What is lent where there is no frame.
    pub(crate) scratch: Option<Box<[u8; SCRATCH]>>,
}
