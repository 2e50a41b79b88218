//! Whether a buffer's calls are of a [pass downwards](crate::pager::descent). Of one that has never used the
//! store nothing is noted.
//!
//! Held by: `tests/tests/passes_down.rs`.

use crate::pager::descent::Descent;
use crate::pager::state::Pager;
use crate::pages::table::Table;
use std::ops::Range;

impl Pager {
    pub(crate) fn set_descent(&mut self, descent: Descent) {
        self.cold_if_any().into_iter().for_each(|cold| cold.descent = descent);
    }

    /// Notes a call for `len` bytes at `offset` that misses the window.
    pub(crate) fn note_descent(&mut self, offset: u64, len: usize) {
        if self.cold_ref().is_none() {
            return;
        }
        let range = offset..offset.saturating_add(len as u64);
        let leaves_window = |table: &mut Table| table.window_begin_in(&range).is_some();
        let leaves_window = self.own_table.as_mut().and_then(|table| table.try_with(leaves_window));
        let moves = self.pool.bytes_moved_for(len);
        if let Some(cold) = self.cold_if_any() {
            cold.descent.note(range, leaves_window == Some(true), moves);
        }
    }

    /// Notes a call at `offset` that is no step down.
    pub(crate) fn leave_descent(&mut self, offset: u64) {
        self.cold_if_any().into_iter().for_each(|cold| cold.descent.leave(offset));
    }

    /// Whether a call for `range` would be a step down.
    ///
    /// Looks at one field, where it lies: a copy of all would wait for the call before, and for what that
    /// has copied, since the processor cannot take it from the stores to them. Random reads took 60 ns longer
    /// so.
    #[inline]
    pub(crate) fn would_descend(&self, range: &Range<u64>) -> bool {
        self.cold_ref().is_some_and(|cold| cold.descent.is_reached_by(range))
    }

    /// Whether the call at `offset` was noted last, and is of a pass downwards.
    pub(crate) fn descends_at(&self, offset: u64) -> bool {
        self.cold_ref().is_some_and(|cold| cold.descent.is_pass_at(offset))
    }
}
