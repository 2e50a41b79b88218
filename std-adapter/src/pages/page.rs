//! Where the bytes of a page are; the states themselves are the table at the head of [`table`](crate::pages::table).

use crate::disk::slots::Slot;
use crate::pages::resident::Resident;
use crate::pages::transit::{Outcome, Transit};
use crate::sync::Arc;

/// Where the bytes of a page are.
#[derive(Debug, Default)]
pub(crate) enum Page {
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

/// What [`Table::locate`] says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Hole,
    /// In memory; [`Table::focus`] makes it the window.
    Memory,
    Spilled {
        slot: Slot,
        valid: usize,
    },
    /// On its way to the store; [`Table::transit`] says when it is there.
    InTransit,
}

/// What [`Table::for_each`] shows of a page.
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
