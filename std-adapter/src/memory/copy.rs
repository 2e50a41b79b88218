//! Copies between a caller's bytes and a frame.
//!
//! On AMD processors since Zen 3, C libraries copy more than 2 KiB with the instruction `rep movsb`. Large
//! vectors lie to frames as `core/src/copy.rs` describes it, so reading took up to twenty times as long; and
//! at most other distances it takes up to a tenth longer than a loop of vectors, which is slow at none. For
//! 64 KiB on a Zen 4, in µs:
//!
//! | to | in use | `rep movsb` | by 2 KiB | loop |
//! |---|---|---|---|---|
//! | 16 bytes past the source, modulo 4 KiB | 8 MiB | 1.67 | 1.70 | 1.36 |
//! | | 128 KiB | 1.18 | 1.32 | 1.17 |
//! | 16 bytes before it | 8 MiB | 1.46 | 1.46 | 1.36 |
//! | | 128 KiB | 1.29 | 1.20 | 1.15 |
//!
//! Held by: the tests below, `.ci/sanitize`.

#![allow(unsafe_code)]

use overspill_core::copy::PIECE;

/// Copies `from` to `to`, which must have the same length.
///
/// A long copy is one call, after which nothing is left to do: so no register has to be saved for it, which
/// cost a small operation an eighth of its time.
#[inline(always)]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    assert!(to.len() == from.len(), "{} bytes to the place of {}", from.len(), to.len());
    // SAFETY: `to` is as long as `from`, and borrowed alone.
    unsafe { copy_to(to.as_mut_ptr(), from) }
}

/// Copies `from` to `to`.
///
/// # Safety
/// `from.len()` bytes at `to` can be written, and `from` does not overlap them.
#[inline(always)]
pub(crate) unsafe fn copy_to(to: *mut u8, from: &[u8]) {
    if from.len() > PIECE {
        // SAFETY: as the caller says.
        unsafe { copy_long(to, from) }
    } else {
        // SAFETY: as the caller says.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }
}

/// As [`copy_to`].
///
/// # Safety
/// As for [`copy_to`].
#[inline(never)]
unsafe fn copy_long(to: *mut u8, from: &[u8]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if vectors::are_faster(to, from) {
        // SAFETY: as the caller says; they are faster only where there are such vectors, and from 2 KiB on.
        return unsafe { vectors::copy_to(to, from) };
    }
    // SAFETY: as the caller says.
    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod vectors {
    use overspill_core::copy::is_slow;
    use std::arch::asm;
    use std::arch::is_x86_feature_detected;
    use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_storeu_si256};

    /// A cache line: two vectors.
    const LINE: usize = 64;

    /// The longest copy in bytes that is faster without `rep movsb` on a Zen 5 in the slow case, where that
    /// takes a third longer and no more: in pieces of 2 KiB, 16 kB took 103 ns for 128, 30 kB 366 for 303.
    const LEN_MAX_ON_ZEN_5: usize = 20 << 10;

    /// Whether this processor copies more than 2 KiB faster by vectors.
    ///
    /// The processors with the slow case are AMD's, and only they have `SSE4a`. Of those, only the ones from
    /// Zen 5 on have `AVX512_VP2INTERSECT`. The loop was measured on a Zen 4; C libraries have one much like
    /// it for those before Zen 3.
    pub(super) fn are_faster(to: *const u8, from: &[u8]) -> bool {
        is_x86_feature_detected!("sse4a")
            && is_x86_feature_detected!("avx")
            && (!is_x86_feature_detected!("avx512vp2intersect")
                || from.len() <= LEN_MAX_ON_ZEN_5 && is_slow(to, from.as_ptr(), from.len()))
    }

    /// Copies `from` to `to`, whole cache lines of `to` at a time.
    ///
    /// # Safety
    /// The processor has AVX. `from` has at least 64 bytes, as many can be written at `to`, and they do not
    /// overlap.
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn copy_to(to: *mut u8, from: &[u8]) {
        let (start, last) = (from.as_ptr(), from.len() - LINE);
        // SAFETY: a line from the beginning; there is at least one.
        unsafe { copy_line(to, start) };
        // What lies before the first whole line of `to` has been copied with it.
        let mut at = to.addr().wrapping_neg() % LINE;
        while at < last {
            // SAFETY: a line from `at` on ends before the end, since `at` is less than `last`.
            unsafe { copy_line(to.wrapping_add(at), start.wrapping_add(at)) };
            at += LINE;
        }
        // SAFETY: a line up to the end.
        unsafe { copy_line(to.wrapping_add(last), start.wrapping_add(last)) };
    }

    /// Copies a cache line.
    ///
    /// # Safety
    /// The processor has AVX. 64 bytes at `from` can be read, as many at `to` written, and they do not
    /// overlap.
    #[inline]
    #[target_feature(enable = "avx")]
    unsafe fn copy_line(to: *mut u8, from: *const u8) {
        let (to, from) = (to.cast::<__m256i>(), from.cast::<__m256i>());
        // SAFETY: the first half of the line, which need not be aligned.
        let mut first = unsafe { _mm256_loadu_si256(from) };
        // SAFETY: the second half.
        let mut second = unsafe { _mm256_loadu_si256(from.wrapping_add(1)) };
        // So the compiler does not see that this is a copy, for which it would call the C library.
        // SAFETY: it has no instruction.
        unsafe {
            asm!("/* {} {} */", inout(ymm_reg) first, inout(ymm_reg) second, options(nomem, nostack, preserves_flags));
        }
        // SAFETY: the first half.
        unsafe { _mm256_storeu_si256(to, first) };
        // SAFETY: the second half.
        unsafe { _mm256_storeu_si256(to.wrapping_add(1), second) };
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    /// Where a copy is slow depends on the distance modulo this.
    const MACHINE_PAGE: usize = 4 << 10;

    #[test]
    fn a_copy_is_the_same_at_every_distance_and_length() {
        let from: Vec<u8> = (0..=250).cycle().take(3 * PIECE + 200).collect();
        let mut room = vec![0; from.len() + MACHINE_PAGE];
        for at in 0..MACHINE_PAGE {
            // Each length modulo a cache line with each place in it, long and short ones.
            let len = if at % 2 == 0 { PIECE + 1 + at * 67 % 4200 } else { at * 67 % 4200 };
            let from = &from[at % 50..at % 50 + len];
            room.fill(9);
            super::copy(&mut room[at..at + len], from);
            assert!(&room[at..at + len] == from, "{len} bytes at {at}");
            let around = room[..at].iter().chain(&room[at + len..]);
            assert!(around.into_iter().all(|byte| *byte == 9), "beside {len} bytes at {at}");
        }
    }

    #[test]
    #[should_panic(expected = "3 bytes to the place of 2")]
    fn a_copy_to_another_length_is_refused() {
        super::copy(&mut [0; 2], &[1; 3]);
    }
}
