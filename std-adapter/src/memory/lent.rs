//! How much of a pool's memory is lent outside it.
//!
//! Promise: the sum never passes the limit that a request names, not for a moment.
//!
//! Held by: `tests/tests/lent_bytes.rs`, `std-adapter/src/models/content.rs` (loom).

use crate::sync::{AtomicU64, Ordering};

/// Bytes that are lent.
#[derive(Debug, Default)]
pub(crate) struct LentBytes(AtomicU64);

#[cfg(any(feature = "bytes", feature = "tokio", all(test, overspill_loom)))]
impl LentBytes {
    /// Adds `bytes`, if no more than `limit` are lent then. Returns whether it did.
    pub(crate) fn add(&self, bytes: u64, limit: u64) -> bool {
        let add = |lent: u64| lent.checked_add(bytes).filter(|sum| *sum <= limit);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub(crate) fn subtract(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl LentBytes {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
