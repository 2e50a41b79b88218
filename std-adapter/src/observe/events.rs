//! What is worth telling somebody at the moment that it happens.
//!
//! Promises:
//!
//! - Whoever listens is called with nothing locked, in the thread that the event happened in.
//! - A listener's panic ends here.
//! - Nothing is built or called on a path that touches memory alone.

use crate::error::{DiskLimitScope, SpillError};
use crate::observe::stats::SpillReason;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Something happened in a pool; see [`PoolBuilder::on_event`](crate::PoolBuilder::on_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A buffer has moved bytes to the store that had none there since it was made.
    #[non_exhaustive]
    FirstSpill {
        /// Why.
        reason: SpillReason,
        /// How many bytes were moved just now.
        bytes: u64,
    },
    /// A request was refused with [`SpillError::DiskLimit`], after the wait, if there was one.
    #[non_exhaustive]
    DiskLimit {
        /// The limit, in bytes.
        limit: u64,
        /// How much of it was used, in bytes.
        used: u64,
        /// How much more was asked, in bytes.
        requested: u64,
        /// Whose limit it is.
        scope: DiskLimitScope,
        /// How long room was waited for in vain; zero if nobody waited.
        waited: Duration,
    },
    /// A request was refused with [`SpillError::StoreFull`].
    #[non_exhaustive]
    StoreFull {
        /// Where in the store, in bytes.
        offset: u64,
        /// How many bytes were still to be written.
        len: u64,
    },
}

impl Event {
    /// The refusal that `error` is, if it is one.
    pub(crate) fn of_refusal(error: &SpillError) -> Option<Self> {
        match *error {
            SpillError::DiskLimit { limit, used, requested, scope, waited } => {
                Some(Event::DiskLimit { limit, used, requested, scope, waited })
            }
            SpillError::StoreFull { offset, len, .. } => Some(Event::StoreFull { offset, len }),
            _ => None,
        }
    }
}

/// A user's function.
pub(crate) struct Listener(pub(crate) Box<dyn Fn(&Event) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// Who is told of a pool's events.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// The pool's, in what is told; empty if it has none.
    name: Box<str>,
    listener: Option<Listener>,
}

impl Listeners {
    pub(crate) fn new(name: Box<str>, listener: Option<Listener>) -> Self {
        Listeners { name, listener }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    #[cold]
    pub(crate) fn notify(&self, event: &Event) {
        #[cfg(feature = "tracing")]
        trace(&self.name, event);
        if let Some(Listener(listener)) = &self.listener {
            // What the listener has left half done is its own matter. The panic was reported already,
            // and its value is foreign code again, if its drop panics.
            let told = catch_unwind(AssertUnwindSafe(|| listener(event)));
            let _ = catch_unwind(AssertUnwindSafe(|| drop(told)));
        }
    }
}

#[cfg(feature = "tracing")]
fn trace(pool: &str, event: &Event) {
    use tracing::{debug, warn};
    match event {
        Event::FirstSpill { reason, bytes } => {
            debug!(target: "overspill", pool, %reason, bytes, "a buffer spills for the first time");
        }
        Event::DiskLimit { limit, used, requested, scope, waited } => {
            warn!(target: "overspill", pool, limit, used, requested, %scope, ?waited, "disk limit reached");
        }
        Event::StoreFull { offset, len } => {
            warn!(target: "overspill", pool, offset, len, "the store is full");
        }
    }
}
