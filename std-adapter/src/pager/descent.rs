//! Passes downwards: calls each of which ends where the one before began, as where a log is read from its end
//! on, or a file is filled from there.
//!
//! What a call does within the window leaves no trace. So a call that reaches from below into the window, or
//! to its beginning, counts as well.
//!
//! Held by: `tests/tests/passes_down.rs`, `tests/tests/async_buffer/downwards.rs`.

use std::ops::Range;

/// So many calls in a row make a pass. One does not: neighbours are often swapped, and the page of the lower
/// one would then be loaded for it alone.
const STEPS_MIN: u8 = 2;

/// How far a handle has come on its way down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Descent {
    /// Where the last call that missed the window began.
    begin: u64,
    /// Where it ended.
    end: u64,
    /// How many such calls in a row were steps down.
    steps: u8,
}

impl Descent {
    /// A pass that has come to `position`.
    pub(crate) fn to(position: u64) -> Self {
        Descent { begin: position, end: position, steps: STEPS_MIN }
    }

    /// Notes a call at `position` that is no step down.
    #[inline]
    pub(crate) fn leave(&mut self, position: u64) {
        *self = Descent { begin: position, end: position, steps: 0 };
    }

    /// Notes a call that moves `range`, which misses the window or `leaves_window` downwards. Returns whether
    /// it is of a pass. One that is made again, since it could not be served before, is noted once.
    pub(crate) fn note(&mut self, range: Range<u64>, leaves_window: bool) -> bool {
        if range != (self.begin..self.end) {
            let is_step = leaves_window || self.goes_on_to(range.end);
            let steps = if is_step { self.steps.saturating_add(1) } else { 0 };
            *self = Descent { begin: range.start, end: range.end, steps };
        }
        self.is_pass_at(range.start)
    }

    /// As [`note`](Descent::note), where what the last call has left behind reaches to where that began.
    #[cfg(feature = "tokio")]
    pub(crate) fn note_reaching(&mut self, range: Range<u64>) -> bool {
        let reaches = range.contains(&self.begin);
        self.note(range, reaches)
    }

    /// The same, and it has come to `position`.
    #[cfg(feature = "tokio")]
    pub(crate) fn come_to(self, position: u64) -> Self {
        Descent { begin: position, end: position, ..self }
    }

    /// Whether a call that moves what lies before `end` would be a step down.
    #[inline]
    pub(crate) fn goes_on_to(&self, end: u64) -> bool {
        end == self.begin
    }

    /// Whether the call at `offset` was noted last, and is of a pass.
    #[inline]
    pub(crate) fn is_pass_at(&self, offset: u64) -> bool {
        self.steps >= STEPS_MIN && self.begin == offset
    }
}
