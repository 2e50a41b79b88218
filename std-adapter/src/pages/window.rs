//! The page that a buffer's operations come to one after another.
//!
//! What they do within it leaves no trace but its content. So an operation that comes from elsewhere tells by
//! the window's ends whether a pass has come through it, upwards or downwards.
//!
//! Held by: `std-adapter/src/pages/table/tests.rs`, `tests/tests/passes_in_turn.rs`.

use crate::pages::page::{Stay, low_bits};
use crate::pages::resident::Resident;

/// Where a buffer has one frame, what wants that goes past the window until so many bytes have: the frame's
/// length divided by this. So two passes in turn move some 2.5 bytes for one. With less patience the frame is
/// filled more often, and with more a new pass is longer without it.
const PATIENCE_DIVISOR: usize = 4;

/// The page that the cursor stands on. Kept apart from the page map, so that a small operation needs no
/// lookup.
#[derive(Debug)]
pub(crate) struct Window {
    /// The position in the stream of the frame's first byte.
    pub(super) start: u64,
    pub(super) resident: Resident,
    /// `Kept` at the latest once [`Table::focus`](crate::pages::table::Table::focus) has made the page the
    /// window again.
    pub(super) stay: Stay,
    /// How much content it had when something else wanted its frame last.
    wanted_at: u32,
    /// Bytes that have gone past it since it last grew.
    gone_past: u32,
}

impl Window {
    pub(super) fn new(start: u64, resident: Resident, stay: Stay) -> Self {
        Window { start, resident, stay, wanted_at: 0, gone_past: 0 }
    }

    /// See [`Resident::content_from`].
    pub(crate) fn content_from(&self, at: usize) -> &[u8] {
        self.resident.content_from(at)
    }

    /// Whether the content, or the page, ends at `offset`. The page has 2 to the power of `shift` bytes.
    pub(super) fn ends_at(&self, offset: u64, shift: u32) -> bool {
        let is_next_page = low_bits(offset, shift) == 0 && offset >> shift == (self.start >> shift) + 1;
        is_next_page || offset == self.start + self.resident.len as u64
    }

    /// Whether something else, which wants the frame for `want` bytes, is to go past this window. One that
    /// has grown since the last such call is in use, and keeps its frame.
    pub(super) fn keeps_frame(&mut self, want: usize) -> bool {
        let short = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX); // 16 MiB at most
        let len = short(self.resident.len);
        if self.resident.dirty && std::mem::replace(&mut self.wanted_at, len) != len {
            self.gone_past = 0;
            return true;
        }
        self.gone_past = self.gone_past.saturating_add(short(want));
        self.gone_past < short(self.resident.frame.capacity() / PATIENCE_DIVISOR)
    }
}
