//! What searches for memory have met in a table and could not take for the moment.
//!
//! A page that is pinned cannot leave, and neither can one whose frame is out of the table: while it is read
//! from the store, or its window is lent. When that ends no memory comes free, so nobody would be told. So a
//! search leaves a note here, and what ends it takes the note and tells those that wait. Both have the table
//! locked: either the search finds the page, or its note is found.
//!
//! There are two notes, since each attempt of a waiter pins a page. The end of a pin takes only what was
//! noted during a pin: waiters that have nothing for each other do not keep each other awake.
//!
//! Held by: `tests/tests/within_reach.rs`, `std-adapter/src/models/waiting.rs` (loom),
//! `std-adapter/src/pool/supply.rs`.

/// The notes of one table.
#[derive(Debug, Default)]
pub(crate) struct Sought {
    /// A search found nothing while a page was pinned.
    during_pin: bool,
    /// A search found nothing.
    ever: bool,
}

impl Sought {
    /// Notes that a search has found nothing.
    pub(crate) fn note(&mut self, is_pinned: bool) {
        self.during_pin |= is_pinned;
        self.ever = true;
    }

    /// At the end of a pin: whether a search has found nothing meanwhile.
    pub(crate) fn take_during_pin(&mut self) -> bool {
        std::mem::take(&mut self.during_pin)
    }

    /// Whether a search has found nothing since the last call. For the visit in which a frame comes back that
    /// was out of the table.
    pub(crate) fn take(&mut self) -> bool {
        std::mem::take(&mut self.ever)
    }
}
