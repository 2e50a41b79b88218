//! Splitting a ring into its two ends, and joining them again: what R1 rests on.
//!
//! Held by: `core/tests/loom_ring.rs`, `core/tests/ring_handles.rs`, `core/tests/ring_wakes.rs`.

use super::read_end::ReadEnd;
use super::write_end::WriteEnd;
use crate::ring::any_ring::{AnyRing, Token};
use crate::ring::shared::Shared as _;
use crate::sync::Ordering::Relaxed;

/// Splits a ring that is borrowed exclusively, so that no other end of it is alive.
pub(crate) fn split<R: AnyRing>(ring: &mut R) -> (WriteEnd<'_, R>, ReadEnd<'_, R>) {
    let ring = &*ring;
    // Ends of an earlier split that were leaked or dropped can no longer be used.
    ring.shared(Token).taken().store(false, Relaxed);
    open(ring)
}

/// Splits a shared ring, unless it is split already: `taken` admits one pair of ends.
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
pub(crate) fn try_split<R: AnyRing>(ring: &R) -> Option<(WriteEnd<'_, R>, ReadEnd<'_, R>)> {
    use crate::sync::Ordering::Acquire;
    // Acquire, with the Release in `rejoin`: what the previous ends did to the ring has happened.
    ring.shared(Token).taken().compare_exchange(false, true, Acquire, Relaxed).ok()?;
    Some(open(ring))
}

/// Both ends of a ring, as the previous ones left it. The caller has borrowed it exclusively, or set the flag (R1).
fn open<R: AnyRing>(ring: &R) -> (WriteEnd<'_, R>, ReadEnd<'_, R>) {
    let shared = ring.shared(Token);
    shared.write_closed().store(false, Relaxed);
    shared.read_closed().store(false, Relaxed);
    let write = shared.write().load(Relaxed);
    let read = shared.read().load(Relaxed);
    // The write end begins as if the ring were full, the read end as if it were empty: so the first call of either
    // loads the other's index, and follows a jump of the previous write end.
    let full = ring.bytes().indices().lap_before(write);
    (WriteEnd::new(ring, write, full), ReadEnd::new(ring, read))
}

/// Joins the two ends, so that [`try_split`] may split the ring again. Returns them if they are of two rings.
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
pub(crate) fn rejoin<'a, R: AnyRing>(
    write: WriteEnd<'a, R>,
    read: ReadEnd<'a, R>,
) -> Result<(), (WriteEnd<'a, R>, ReadEnd<'a, R>)> {
    // Two rings never share an address: each contains its indices.
    if !core::ptr::eq(write.ring(), read.ring()) {
        return Err((write, read));
    }
    // Dropped last, after both ends: also if an end that is dropped wakes a waker, and that panics.
    let _joined = Joined(write.ring());
    drop((write, read));
    Ok(())
}

/// A ring whose ends are being dropped to join them.
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
struct Joined<'a, R: AnyRing>(&'a R);

#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
impl<R: AnyRing> Drop for Joined<'_, R> {
    fn drop(&mut self) {
        use crate::sync::Ordering::Release;
        self.0.shared(Token).taken().store(false, Release);
    }
}
