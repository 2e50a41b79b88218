//! Where the bytes of one page are. The states and what changes them are the table at the head of
//! [`table`](crate::pages::table).
//!
//! Held by: `std-adapter/src/pages/table/tests.rs`.

use crate::disk::slots::Slot;
use crate::pages::resident::Resident;
use crate::pages::transit::{Outcome, Transit};
use crate::sync::Arc;

/// A page outside the window, with its bytes or the place where they are.
#[derive(Debug, Default)]
pub(crate) enum Page {
    /// All zeros; nothing is stored.
    #[default]
    Hole,
    Resident(Resident),
    Spilled {
        slot: Slot,
        /// Bytes that are content; at most the slot's length.
        valid: usize,
    },
    InTransit(Arc<Transit>),
}

/// Where a page is, without its bytes: what `Table::locate` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Hole,
    /// In memory, in the window or not; `Table::focus` makes it the window.
    Memory,
    Spilled {
        slot: Slot,
        valid: usize,
    },
    /// Between its frame and a slot; `Table::transit` returns the transit.
    InTransit,
}

/// A page as `Table::for_each` shows it.
pub(crate) enum View<'a> {
    Resident(&'a Resident),
    InTransit(&'a Transit),
    Spilled { slot: Slot, valid: usize },
}

impl From<Outcome> for Page {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Arrived { slot, valid, .. } => Page::Spilled { slot, valid },
            Outcome::Returned(resident) => Page::Resident(resident),
        }
    }
}
