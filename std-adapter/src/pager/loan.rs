//! The state of a loan: what [`chunk_at`](overspill_core::ReadMedium::chunk_at) has lent.
//!
//! Held by: `tests/tests/conformance.rs`, `tests/tests/spill_model.rs`.

use crate::pages::table::Window;
use crate::try_box::TryBox;

/// Bytes of the buffer that a spilled page is lent from when it gets no frame. It is not charged to the
/// memory limit, and allocated only by a `fill_buf` that needs it.
pub(crate) const SCRATCH: usize = 4 << 10;

/// What [`chunk_at`](overspill_core::ReadMedium::chunk_at) lends from, and a reader of frozen content.
#[derive(Debug, Default)]
pub(crate) struct Loan {
    /// The window while its bytes are lent. It is out of the table, so it cannot be reclaimed.
    pub(crate) window: Option<Window>,
    /// Where the bytes begin that are lent, and how many they are. `None` once something else was done.
    pub(crate) lent: Option<(u64, usize)>,
    /// A copy of a part of a page that has no frame. Kept between loans, to be allocated once.
    pub(crate) scratch: Option<TryBox<[u8; SCRATCH]>>,
}

impl Loan {
    /// The bytes that are lent, from the window or from the copy. They begin at offset `at` of their page.
    pub(crate) fn bytes(&self, at: usize) -> &[u8] {
        let len = self.lent.map_or(0, |(_, len)| len);
        match (&self.window, &self.scratch) {
            (Some(window), _) => &window.content_from(at)[..len],
            (None, Some(scratch)) => &scratch[..len],
            (None, None) => &[],
        }
    }
}
