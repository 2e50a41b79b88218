//! Where the bytes of a page are; the states themselves are the table at the head of [`table`](crate::pages::table).

use crate::disk::slots::Slot;
use crate::pages::resident::Resident;
use crate::pages::transit::{Departure, Outcome};
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
    Leaving(Arc<Departure>),
}

/// What [`Table::locate`] says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    Hole,
    /// In memory; [`Table::focus`] makes it the window.
    Memory,
    Spilled {
        slot: Slot,
        valid: usize,
    },
    /// On its way to the store; [`Table::departure`] says when it is there.
    Leaving,
}

/// What [`Table::for_each`] shows of a page.
pub(crate) enum View<'a> {
    Resident(&'a Resident),
    Leaving(&'a Departure),
    Spilled { slot: Slot, valid: usize },
}

impl From<Outcome> for Page {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Landed { slot, valid, .. } => Page::Spilled { slot, valid },
            Outcome::Returned(resident) => Page::Resident(resident),
        }
    }
}
