//! The state of a loan: what [`chunk_at`](overspill_core::ReadMedium::chunk_at) has lent.
//!
//! Held by: `tests/tests/conformance.rs`, `tests/tests/spill_model.rs`.

use crate::pages::table::Window;

/// Bytes of the buffer that a spilled page is lent from when it gets no frame. It is not charged to the
/// memory limit, and allocated only by a `fill_buf` that needs it.
pub(crate) const SCRATCH: usize = 4 << 10;

/// What [`chunk_at`](overspill_core::ReadMedium::chunk_at) lends from.
#[derive(Debug, Default)]
pub(crate) struct Loan {
    /// The window while its bytes are lent. It is out of the table, so it cannot be reclaimed.
    pub(crate) window: Option<Window>,
    /// A copy of a part of a page that has no frame. Kept between loans, to be allocated once.
    pub(crate) scratch: Option<Box<[u8; SCRATCH]>>,
}
