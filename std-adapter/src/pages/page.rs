//! One page outside the window: its state, with its bytes or the place where they are.
//!
//! The states, and the functions that change them, are the table at the head of
//! [`table`](crate::pages::table).
//!
//! Held by: `std-adapter/src/pages/table/tests.rs`.

use crate::disk::slots::Slot;
use crate::pages::resident::Resident;
use crate::pages::transit::{Outcome, Transit};
use crate::sync::Arc;

/// A page outside the window.
#[derive(Debug, Default)]
pub(crate) enum Page {
    /// Nothing is stored here. It shows what the base has there, and zeros past that.
    #[default]
    Hole,
    /// In a frame.
    Resident(Resident),
    /// In a slot, and in no frame.
    Spilled {
        slot: Slot,
        /// The end of the content, as an offset in the page; at most the slot's length.
        end: usize,
    },
    /// Between its frame and a slot: a reclaiming thread is writing it, or the transit has ended and is not
    /// settled yet.
    InTransit(Arc<Transit>),
    /// In a frame that others read without the table's lock, or did lately. It does not change and is not
    /// reclaimed until they have let go.
    Shared(Arc<Resident>),
}

/// The state of a page, without its bytes, as `Table::locate` returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Hole,
    /// In memory, in the window or not. `Table::focus` makes it the window, unless it is shared.
    Memory,
    Spilled {
        slot: Slot,
        end: usize,
    },
    /// Between its frame and a slot. `Table::transit` returns the transit.
    InTransit,
}

/// A page that is not a hole. The window is `Resident` as well.
pub(crate) enum View<'a> {
    Resident(&'a Resident),
    InTransit(&'a Arc<Transit>),
    Shared(&'a Arc<Resident>),
    Spilled { slot: Slot, end: usize },
}

/// Whether a page stays in its frame when the cursor moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// A sequential pass loaded the page, and evicts it when it moves on.
    Passing,
    Kept,
}

impl From<Outcome> for Page {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Arrived { slot, end, .. } => Page::Spilled { slot, end },
            Outcome::Returned(resident) => Page::Resident(resident),
        }
    }
}

/// `offset` modulo a page of `1 << bits` bytes.
#[expect(clippy::cast_possible_truncation, reason = "less than a page, which fits in memory")]
pub(crate) fn low_bits(offset: u64, bits: u32) -> usize {
    (offset & ((1 << bits) - 1)) as usize
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    #[test]
    fn an_offset_modulo_a_page_is_less_than_one() {
        assert_eq!([0, 7, 8, 13, u64::MAX].map(|offset| low_bits(offset, 3)), [0, 7, 0, 5, 7]);
        assert_eq!(low_bits(5, 0), 0);
    }
}
