//! A ring is split into its two ends, and joined again.

use super::read_end::ReadEnd;
use super::write_end::WriteEnd;
use crate::ring::any_ring::{AnyRing, Token};
use crate::ring::shared::Shared as _;
use crate::sync::Ordering::Relaxed;

/// Splits a ring that is borrowed exclusively: no other end of it can be alive.
pub(crate) fn split<R: AnyRing>(ring: &mut R) -> (WriteEnd<'_, R>, ReadEnd<'_, R>) {
    let ring = &*ring;
    // A handle of an earlier split that was leaked or dropped is beyond reach now.
    ring.shared(Token).taken().store(false, Relaxed);
    open(ring)
}

/// Splits a shared ring unless it is split already: `taken` admits one pair of ends.
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
pub(crate) fn try_split<R: AnyRing>(ring: &R) -> Option<(WriteEnd<'_, R>, ReadEnd<'_, R>)> {
    use crate::sync::Ordering::Acquire;
    // Acquire, with the Release in `rejoin`: what the ends before did to the ring has happened.
    ring.shared(Token).taken().compare_exchange(false, true, Acquire, Relaxed).ok()?;
    Some(open(ring))
}

/// Both ends of a ring, as the last ones left it. The caller holds it exclusively, or has taken the flag (R1).
fn open<R: AnyRing>(ring: &R) -> (WriteEnd<'_, R>, ReadEnd<'_, R>) {
    let shared = ring.shared(Token);
    shared.write_closed().store(false, Relaxed);
    shared.read_closed().store(false, Relaxed);
    let write = shared.write().load(Relaxed);
    let read = shared.read().load(Relaxed);
    // Nothing is known of, so the first look is a fresh one, and follows a jump of the last write end.
    let full = ring.bytes().indices().lap_before(write);
    (WriteEnd::new(ring, write, full), ReadEnd::new(ring, read))
}

/// Gives the ring back, so that [`try_split`] may split it again, or both ends if they are of two rings.
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
pub(crate) fn rejoin<'a, R: AnyRing>(
    write: WriteEnd<'a, R>,
    read: ReadEnd<'a, R>,
) -> Result<(), (WriteEnd<'a, R>, ReadEnd<'a, R>)> {
    // Rings of no size may share an address, but every ring holds its indices.
    if !core::ptr::eq(write.ring(), read.ring()) {
        return Err((write, read));
    }
    use crate::sync::Ordering::Release;
    let ring = write.ring();
    drop((write, read));
    ring.shared(Token).taken().store(false, Release);
    Ok(())
}
