//! Passes downwards: calls each of which reaches from below to where the one before began, as where a log is
//! read from its end on, or a file is filled from there.
//!
//! What a call does within the window leaves no trace. So a call that reaches from below into the window, or
//! to its beginning, counts as well.
//!
//! Held by: `tests/tests/passes_down.rs`, `tests/tests/async_buffer/passes.rs`.

use std::ops::Range;

/// So many steps in a row make a pass. One does not: neighbours are often swapped, and the page of the lower
/// one would then be loaded for it alone.
const STEPS_MIN: u8 = 2;

/// And they are of so many bytes. A record that is read in a few small pieces, the last one first, is not
/// worth a page: of 64 KiB that would be 200 bytes for one.
const BYTES_MIN: u64 = 4 << 10;

/// How far a handle has come on its way down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Descent {
    /// Where the last call that missed the window began.
    begin: u64,
    /// Where it ended.
    end: u64,
    /// How many such calls in a row were steps down.
    steps: u8,
    /// Bytes that these have come past, or have moved if that was more.
    passed: u64,
}

impl Descent {
    /// A pass that has come to `position`.
    pub(crate) fn to(position: u64) -> Self {
        Descent { begin: position, end: position, steps: STEPS_MIN, passed: BYTES_MIN }
    }

    /// Notes a call at `position` that is no step down. Leaves what counts only beside steps: each random
    /// access comes here.
    #[inline]
    pub(crate) fn leave(&mut self, position: u64) {
        (self.begin, self.steps) = (position, 0);
    }

    /// Notes a call for `range`, which misses the window or `leaves_window` downwards, and moves so many
    /// bytes if it gets no page. Returns whether it is of a pass. One that is made again, since it could not
    /// be served before, is noted once.
    pub(crate) fn note(&mut self, range: Range<u64>, leaves_window: bool, moves: usize) -> bool {
        if range != (self.begin..self.end) {
            let is_step = self.is_reached_by(&range) || leaves_window && range.start < self.begin;
            let before = if self.steps > 0 { self.passed } else { 0 };
            let step = self.begin.saturating_sub(range.start).max(moves as u64);
            let steps = if is_step { self.steps.saturating_add(1) } else { 0 };
            *self =
                Descent { begin: range.start, end: range.end, steps, passed: before.saturating_add(step) };
        }
        self.is_pass_at(range.start)
    }

    /// The same, and it has come to `position`.
    #[cfg(feature = "tokio")]
    pub(crate) fn come_to(self, position: u64) -> Self {
        Descent { begin: position, end: position, ..self }
    }

    /// Whether a call for `range` would be a step down.
    #[inline]
    pub(crate) fn is_reached_by(&self, range: &Range<u64>) -> bool {
        range.start < self.begin && self.begin <= range.end
    }

    /// Whether the call at `offset` was noted last, and is of a pass.
    #[inline]
    pub(crate) fn is_pass_at(&self, offset: u64) -> bool {
        self.steps >= STEPS_MIN && self.passed >= BYTES_MIN && self.begin == offset
    }
}
