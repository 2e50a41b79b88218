//! Events of a pool, passed to the user's listener and to `tracing` as they happen.
//!
//! Promises:
//!
//! - A listener is called with nothing locked, on the thread whose call caused the event.
//! - A listener's panic does not pass [`notify`](Listeners::notify).
//! - No event is built on a path that touches memory alone.
//!
//! Held by: `tests/tests/pool_stats.rs`, `tests/tests/observed/main.rs`.

use crate::error::{DiskLimitScope, SpillError};
use crate::foreign::{contained, tell};
use crate::observe::stats::{IoCounts, SpillReason};
use crate::sync::Arc;
use std::fmt;
use std::io;
use std::time::Duration;

/// An event of a pool; see [`PoolBuilder::on_event`](crate::PoolBuilder::on_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A buffer moved bytes to the store for the first time since it was made.
    #[non_exhaustive]
    FirstSpill {
        /// Why it spilled.
        reason: SpillReason,
        /// The bytes of the buffer's own that this first move wrote, without the zeros of a gap before them,
        /// and without what a write copied of a page that a [clone](crate::SpillBuffer::try_clone) shares.
        bytes: u64,
    },
    /// A request was refused with [`SpillError::DiskLimit`], after its wait if it waited.
    #[non_exhaustive]
    DiskLimit {
        /// The limit, in bytes.
        limit: u64,
        /// The bytes of it that were used, including those set aside for waiters. If there was room for
        /// `requested` beside them, that room was left to waiters that came earlier.
        used: u64,
        /// The further bytes that were requested.
        requested: u64,
        /// Whose limit it is.
        scope: DiskLimitScope,
        /// How long the call waited for room before it was refused; zero if it did not wait.
        waited: Duration,
    },
    /// A request was refused with [`SpillError::StoreFull`].
    #[non_exhaustive]
    StoreFull {
        /// Where in the store the write started, in bytes.
        offset: u64,
        /// The bytes that were still to be written.
        len: u64,
    },
    /// A transfer to or from the store failed, but not because the store is full: with [`SpillError::Store`],
    /// [`SpillError::Directory`] or [`SpillError::Corrupted`]. The request that needed it has failed, or has
    /// gone another way: a page that cannot be reclaimed stays in memory, and what could not be read ahead is
    /// read again. There is one such event for each error that [`IoCounts::errors`](crate::IoCounts::errors)
    /// counts.
    #[non_exhaustive]
    StoreFailed {
        /// The kind of the error.
        kind: io::ErrorKind,
        /// The error and its sources, as `{error:#}` prints them. It may name the directory.
        message: String,
    },
}

impl Event {
    /// The event for `error`, if `error` is a refusal for lack of room.
    pub(crate) fn of_refusal(error: &SpillError) -> Option<Self> {
        match *error {
            SpillError::DiskLimit { limit, used, requested, scope, waited } => {
                Some(Event::DiskLimit { limit, used, requested, scope, waited })
            }
            SpillError::StoreFull { offset, len, .. } => Some(Event::StoreFull { offset, len }),
            _ => None,
        }
    }

    #[cold]
    fn of_failure(error: &SpillError) -> Self {
        // What prints the store's own error is foreign.
        let message = contained(|| format!("{error:#}")).unwrap_or_else(|_| error.to_string());
        Event::StoreFailed { kind: error.kind(), message }
    }
}

/// The user's function.
pub(crate) struct Listener(pub(crate) Box<dyn Fn(&Event) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// The receivers of a pool's events: the user's listener, and `tracing` with that feature.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    receivers: Option<Arc<Receivers>>,
}

#[derive(Debug)]
struct Receivers {
    /// The pool's name, carried by events and metrics; empty if it has none.
    name: Box<str>,
    listener: Option<Listener>,
}

impl Listeners {
    pub(crate) fn new(name: Box<str>, listener: Option<Listener>) -> Self {
        Listeners { receivers: Some(Arc::new(Receivers { name, listener })) }
    }

    pub(crate) fn name(&self) -> &str {
        self.receivers.as_ref().map_or("", |receivers| &receivers.name)
    }

    /// The event of `error` if it is among the errors that `counts` has, and not only a refusal. `None` also
    /// if nobody is to be told.
    #[inline]
    pub(crate) fn event_of_errors(&self, counts: &IoCounts, error: Option<&SpillError>) -> Option<Event> {
        let error = error.filter(|_| counts.errors > 0)?;
        let has_receiver = cfg!(feature = "tracing") || self.receivers.as_ref()?.listener.is_some();
        has_receiver.then(|| Event::of_failure(error))
    }

    /// Notifies of `error`, as [`event_of_errors`](Listeners::event_of_errors) says.
    pub(crate) fn notify_errors(&self, counts: &IoCounts, error: Option<&SpillError>) {
        self.event_of_errors(counts, error).into_iter().for_each(|event| self.notify(event));
    }

    /// Passes `event` to `tracing` and to the listener, once this thread [holds nothing
    /// back](crate::foreign::hold_back).
    #[cold]
    pub(crate) fn notify(&self, event: Event) {
        let receivers = self.receivers.clone();
        tell(move || {
            #[cfg(feature = "tracing")]
            let _ = contained(|| trace(receivers.as_ref().map_or("", |receivers| &receivers.name), &event));
            if let Some(Listener(listener)) = receivers.as_ref().and_then(|all| all.listener.as_ref()) {
                let _ = contained(|| listener(&event));
            }
        });
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
            let scope = scope.as_str();
            warn!(target: "overspill", pool, limit, used, requested, %scope, ?waited, "disk limit reached");
        }
        Event::StoreFull { offset, len } => {
            warn!(target: "overspill", pool, offset, len, "the store is full");
        }
        Event::StoreFailed { kind, message } => {
            warn!(target: "overspill", pool, ?kind, error = message, "the store failed");
        }
    }
}
