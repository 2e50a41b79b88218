//! Splitting a ring into its two ends: what R1 rests on.
//!
//! Held by: `core/tests/loom_ring.rs` (`split_*`), `core/tests/ring_handles.rs`, `core/tests/ring_wakes.rs`.

use super::read_end::ReadEnd;
use super::write_end::WriteEnd;
use crate::ring::any_ring::{AnyRing, Token};
use crate::ring::shared::{OPEN, Shared as _};
use crate::sync::Ordering::Relaxed;

/// Splits a ring that is borrowed exclusively, so that no other end of it is alive, not even
/// one that was leaked.
pub(crate) fn split<R: AnyRing>(ring: &mut R) -> (WriteEnd<'_, R>, ReadEnd<'_, R>) {
    open(ring)
}

/// Splits a shared ring, unless an end of it is still there.
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
pub(crate) fn try_split<R: AnyRing>(ring: &R) -> Option<(WriteEnd<'_, R>, ReadEnd<'_, R>)> {
    use crate::ring::shared::{GONE, open_once};
    use crate::sync::Ordering::Acquire;
    let shared = ring.shared(Token);
    // Acquire: what the previous ends did to the ring has happened.
    let is_gone = |state: &crate::sync::AtomicU8| state.load(Acquire) == GONE;
    open_once(
        shared.splitting(),
        || is_gone(shared.write_state()) && is_gone(shared.read_state()),
        || open(ring),
    )
}

/// Both ends of a ring, as the previous ones left it. The caller has borrowed it exclusively, or
/// found both gone (R1).
fn open<R: AnyRing>(ring: &R) -> (WriteEnd<'_, R>, ReadEnd<'_, R>) {
    let shared = ring.shared(Token);
    shared.write_state().store(OPEN, Relaxed);
    shared.read_state().store(OPEN, Relaxed);
    let write = shared.write().load(Relaxed);
    let read = shared.read().load(Relaxed);
    // The write end begins as if the ring were full, the read end as if it were empty: so the first call of
    // either loads the other's index, and follows a jump of the previous write end.
    let full = ring.bytes().indices().lap_before(write);
    (WriteEnd::new(ring, write, full), ReadEnd::new(ring, read))
}
