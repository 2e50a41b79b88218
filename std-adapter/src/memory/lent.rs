//! Bytes of a pool that have a limit of their own: those that are lent outside it, for instance.
//!
//! Promise: the sum never passes the limit that a request names, not for a moment.
//!
//! Held by: `tests/tests/lent_bytes.rs`, `std-adapter/src/models/content.rs` (loom).

use crate::sync::{AtomicU64, Ordering};

/// A sum of bytes.
#[derive(Debug, Default)]
pub(crate) struct LentBytes(AtomicU64);

impl LentBytes {
    /// Adds `bytes`, if the sum is no more than `limit` then. Returns whether it did.
    pub(crate) fn add(&self, bytes: u64, limit: u64) -> bool {
        let add = |lent: u64| lent.checked_add(bytes).filter(|sum| *sum <= limit);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub(crate) fn subtract(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
