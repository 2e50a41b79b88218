//! Copies between a caller's bytes and a frame, in pieces where one large copy would be slow: see
//! `core/src/copy.rs`.
//!
//! Held by: the tests below.

use overspill_core::copy::{self, PIECE};

/// The longest copy in bytes that is faster in pieces on a Zen 5, where the slow case takes a third longer and no more: 16 kB took
/// 103 ns for 128, 30 kB 366 for 303.
#[cfg(target_arch = "x86_64")]
const LEN_MAX_ON_ZEN_5: usize = 20 << 10;

/// Whether copying `len` bytes from `from` to `to` is faster in pieces of [`PIECE`].
///
/// The processors with the slow case are AMD's, and only they have `SSE4a`. On others the pieces would cost a
/// fifth more: large vectors begin 16 bytes past a page of the machine, and frames of a page or more at one.
#[inline(always)]
pub(crate) fn is_slow(to: *const u8, from: *const u8, len: usize) -> bool {
    copy::is_slow(to, from, len) && may_be_slow(len)
}

#[cold]
fn may_be_slow(len: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("sse4a")
        // Of AMD's, only those from Zen 5 on have this.
        && (len <= LEN_MAX_ON_ZEN_5 || !std::arch::is_x86_feature_detected!("avx512vp2intersect"));
    #[cfg(not(target_arch = "x86_64"))]
    return {
        let _ = len;
        false
    };
}

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
            let near = copy::is_slow(to.as_ptr(), from.as_ptr(), len);
            slow += usize::from(is_slow(to.as_ptr(), from.as_ptr(), len));
            if near || at % 97 == 0 {
                to.fill(0);
                super::copy(to, &from);
                assert!(to == from, "{at}");
                to.fill(0);
                copy_in_pieces(to, &from);
                assert!(to == from, "{at}, in pieces");
            }
        }
        assert_eq!(slow, if may_be_slow(len) { NEAR - 1 } else { 0 });
    }
}
