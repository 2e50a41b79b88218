//! Copies between a caller's bytes and a frame, in pieces where one large copy would be slow: see
//! `core/src/copy.rs`.
//!
//! Held by: the tests below.

use overspill_core::copy::{self, PIECE};

/// The longest copy in bytes that is faster in pieces on a Zen 5, where the slow case takes a third longer
/// and no more: 16 kB took 103 ns for 128, 30 kB 366 for 303.
#[cfg(target_arch = "x86_64")]
const LEN_MAX_ON_ZEN_5: usize = 20 << 10;

/// The length of the pieces in which `len` bytes are copied fastest to a place where one copy [may be
/// slow](copy::is_slow).
///
/// The processors with the slow case are AMD's, and only they have `SSE4a`. On others the pieces would cost a
/// fifth more: large vectors begin 16 bytes past a page of the machine, and frames of a page or more at one.
#[cold]
pub(crate) fn best_piece(len: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    let is_slow = std::arch::is_x86_feature_detected!("sse4a")
        // Of AMD's, only those from Zen 5 on have this.
        && (len <= LEN_MAX_ON_ZEN_5 || !std::arch::is_x86_feature_detected!("avx512vp2intersect"));
    #[cfg(not(target_arch = "x86_64"))]
    let is_slow = false;
    if is_slow { PIECE } else { len }
}

/// Copies `from` to `to`, which must have the same length.
///
/// What is rare is one call, after which nothing is left to do: so no register has to be saved for it, which
/// cost a small operation an eighth of its time.
#[inline(always)]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    if copy::is_slow(to.as_ptr(), from.as_ptr(), from.len()) {
        copy_in_pieces(to, from);
    } else {
        to.copy_from_slice(from);
    }
}

#[cold]
#[inline(never)]
fn copy_in_pieces(to: &mut [u8], from: &[u8]) {
    let piece = best_piece(from.len());
    for (to, from) in to.chunks_mut(piece).zip(from.chunks(piece)) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    /// The distance that decides is taken modulo this.
    const MACHINE_PAGE: usize = 4 << 10;

    #[test]
    fn a_copy_is_the_same_at_every_distance() {
        let len = 3 * PIECE + 5;
        let from: Vec<u8> = (0..=250).cycle().take(len).collect();
        let mut room = vec![0; len + MACHINE_PAGE];
        for at in 0..MACHINE_PAGE {
            let to = &mut room[at..at + len];
            if copy::is_slow(to.as_ptr(), from.as_ptr(), len) || at % 97 == 0 {
                to.fill(0);
                super::copy(to, &from);
                assert!(to == from, "{at}");
                to.fill(0);
                copy_in_pieces(to, &from);
                assert!(to == from, "{at}, in pieces");
            }
        }
    }

    #[test]
    fn a_piece_is_short_only_where_that_helps() {
        let (short, long) = (best_piece(PIECE + 1), best_piece(1 << 20));
        assert!(short == PIECE || short == PIECE + 1);
        assert!(long == PIECE || long == 1 << 20);
        assert!(short == PIECE || long == 1 << 20, "the shorter are slow first");
    }
}
