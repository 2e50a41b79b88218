//! The bytes of a page in memory.
//!
//! The bytes past `valid` are zeros, whatever the frame has there: growing costs nothing, and memory is used again
//! without being cleared.
//!
//! Held by: `std-adapter/src/pages/table/tests.rs`, `tests/tests/spill_model.rs`.

use crate::disk::slots::Slot;
use crate::memory::copy::copy;
use crate::memory::frame::Frame;

/// A page in memory.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) frame: Frame,
    /// How many bytes of the frame are content; at most what was ever written to it.
    pub(crate) valid: usize,
    /// The frame is newer than the slot, or there is no slot.
    pub(crate) dirty: bool,
    pub(crate) slot: Option<Slot>,
}

impl Resident {
    /// The content, from the page's beginning.
    #[inline(always)]
    pub(crate) fn content(&self) -> &[u8] {
        &self.frame.bytes()[..self.valid]
    }

    /// Copies the page's bytes from `at` on to `out`; past the content they are zeros.
    pub(crate) fn read(&self, at: usize, out: &mut [u8]) {
        let held = self.content().get(at..).unwrap_or_default();
        let n = held.len().min(out.len());
        copy(&mut out[..n], &held[..n]);
        out[n..].fill(0);
    }

    /// Writes `data` from `at` on, within the frame; a gap before it becomes zeros.
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
