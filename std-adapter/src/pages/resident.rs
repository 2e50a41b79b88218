//! The bytes of a page in memory.
//!
//! Promises:
//!
//! - Bytes past `valid` read as zeros, whatever the frame has there. So growing costs nothing, and a recycled
//!   frame need not be cleared.
//! - A page that was written since it was last copied to its slot is dirty.
//!
//! Held by: `std-adapter/src/pages/table/tests.rs`, `tests/tests/spill_model.rs`.

use crate::disk::slots::Slot;
use crate::memory::copy::copy;
use crate::memory::frame::Frame;

/// A page in memory.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) frame: Frame,
    /// How many bytes, from the frame's beginning, are content; at most what was ever written to the frame.
    pub(crate) valid: usize,
    /// The frame is newer than the slot, or there is content and no slot.
    pub(crate) dirty: bool,
    /// If the page is clean, has the same bytes; if it is dirty, is reserved for the next write, which may
    /// need a longer one.
    pub(crate) slot: Option<Slot>,
}

impl Resident {
    /// The content, from the page's beginning.
    #[inline(always)]
    pub(crate) fn content(&self) -> &[u8] {
        &self.frame.bytes()[..self.valid]
    }

    /// Fills `out` with the page's bytes from `at` on. Bytes past the content are zeros.
    pub(crate) fn read(&self, at: usize, out: &mut [u8]) {
        let content = self.content().get(at..).unwrap_or_default();
        let n = content.len().min(out.len());
        copy(&mut out[..n], &content[..n]);
        out[n..].fill(0);
    }

    /// Writes `data` at `at`. It must end within the frame. A gap between the content and `at` becomes zeros,
    /// and content as well.
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) {
        if at > self.valid {
            self.frame.first_mut(at)[self.valid..].fill(0);
        }
        let written = self.frame.write(at, data);
        debug_assert!(written, "the frame reaches to {}", at + data.len());
        self.valid = self.valid.max(at + data.len());
        self.dirty |= !data.is_empty();
    }
}
