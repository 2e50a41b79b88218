//! Copying between a caller's bytes and a frame.
//!
//! C libraries copy more than 2 KiB with the instruction `rep movsb`, which on AMD processors since Zen 3
//! takes twenty times as long when the destination begins a little past the source, modulo 4 KiB
//! (<https://sourceware.org/bugzilla/show_bug.cgi?id=30994>). Large vectors begin 16 bytes past a page of
//! the machine, so a frame that begins at one meets this: 64 KiB took 36 µs instead of 1.4 where it was
//! measured.

use aligned_vec::{AVec, RuntimeAlign};

/// Bytes up to which no `rep movsb` is used.
const PIECE: usize = 2 << 10;

/// How far past the source, modulo a page of the machine, is too near: all that was slow was less.
const NEAR: usize = 32;

const MACHINE_PAGE: usize = 4 << 10;

/// Copies `from` to `to`, which are equally long.
#[inline(always)]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    if from.len() > PIECE && is_slow(to.as_ptr(), from.as_ptr()) {
        copy_in_pieces(to, from);
    } else {
        to.copy_from_slice(from);
    }
}

/// Copies `from` to the end of `to`.
#[inline(always)]
pub(crate) fn append(to: &mut AVec<u8, RuntimeAlign>, from: &[u8]) {
    if from.len() > PIECE && is_slow(to.as_ptr().wrapping_add(to.len()), from.as_ptr()) {
        append_in_pieces(to, from);
    } else {
        to.extend_from_slice(from);
    }
}

#[cold]
#[inline(never)]
fn append_in_pieces(to: &mut AVec<u8, RuntimeAlign>, from: &[u8]) {
    from.chunks(PIECE).for_each(|piece| to.extend_from_slice(piece));
}

#[inline]
fn is_slow(to: *const u8, from: *const u8) -> bool {
    cfg!(target_arch = "x86_64") && (1..NEAR).contains(&(to.addr().wrapping_sub(from.addr()) % MACHINE_PAGE))
}

#[cold]
#[inline(never)]
fn copy_in_pieces(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.chunks_mut(PIECE).zip(from.chunks(PIECE)) {
        to.copy_from_slice(from);
    }
}

#[cfg(all(test, not(overspill_loom)))]
mod tests {
    use super::*;

    #[test]
    fn copies_the_same_however_far_the_bytes_are_apart() {
        let len = 3 * PIECE + 5;
        let from: Vec<u8> = (0..=250).cycle().take(len).collect();
        let mut room = vec![0; len + MACHINE_PAGE];
        let mut slow = 0;
        for at in 0..MACHINE_PAGE {
            let to = &mut room[at..at + len];
            let is_slow = is_slow(to.as_ptr(), from.as_ptr());
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
