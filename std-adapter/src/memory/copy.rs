//! Copies between a caller's bytes and a frame, in pieces where one large copy would be slow: see
//! `core/src/copy.rs`.
//!
//! Held by: the tests below.

use overspill_core::copy::{PIECE, is_slow};

/// Copies `from` to `to`, which must have the same length.
#[inline(always)]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    if is_slow(to.as_ptr(), from.as_ptr(), from.len()) {
        copy_in_pieces(to, from);
    } else {
        to.copy_from_slice(from);
    }
}

#[cold]
#[inline(never)]
fn copy_in_pieces(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.chunks_mut(PIECE).zip(from.chunks(PIECE)) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use overspill_core::copy::NEAR;

    use super::*;

    /// The distance that decides is taken modulo this.
    const MACHINE_PAGE: usize = 4 << 10;

    #[test]
    fn a_copy_is_the_same_at_every_distance() {
        let len = 3 * PIECE + 5;
        let from: Vec<u8> = (0..=250).cycle().take(len).collect();
        let mut room = vec![0; len + MACHINE_PAGE];
        let mut slow = 0;
        for at in 0..MACHINE_PAGE {
            let to = &mut room[at..at + len];
            let is_slow = is_slow(to.as_ptr(), from.as_ptr(), len);
            slow += usize::from(is_slow);
            if is_slow || at % 97 == 0 {
                to.fill(0);
                copy(to, &from);
                assert!(to == from, "{at}");
            }
        }
        assert_eq!(slow, if cfg!(target_arch = "x86_64") { NEAR - 1 } else { 0 });
    }
}
