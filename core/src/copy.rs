//! Where copying falls into a trap of some processors, and how to go around it. Not a part of the interface: it is public
//! for the `overspill` crate.
//!
//! C libraries copy more than 2 KiB with the instruction `rep movsb`, which on AMD processors since Zen 3
//! takes twenty times as long when the destination begins a little past the source, modulo 4 KiB
//! (<https://sourceware.org/bugzilla/show_bug.cgi?id=30994>). Large vectors begin 16 bytes past a page of
//! the machine, so memory that begins at one meets this: 64 KiB took 36 µs instead of 1.4 where it was
//! measured.

/// Bytes up to which no `rep movsb` is used.
pub const PIECE: usize = 2 << 10;

/// How far past the source, modulo a page of the machine, is too near: all that was slow was less.
pub const NEAR: usize = 32;

const MACHINE_PAGE: usize = 4 << 10;

/// Whether `len` bytes are better copied in pieces of [`PIECE`] from `from` to `to`.
#[inline(always)]
#[must_use]
pub fn is_slow(to: *const u8, from: *const u8, len: usize) -> bool {
    cfg!(target_arch = "x86_64")
        && len > PIECE
        && (1..NEAR).contains(&(to.addr().wrapping_sub(from.addr()) % MACHINE_PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_copy_to_a_little_past_the_source_is_slow() {
        let start = core::ptr::without_provenance::<u8>(5 * MACHINE_PAGE + 7);
        let is_slow_by = |bytes: isize, len| is_slow(start.wrapping_offset(bytes), start, len);
        for pages in [-1, 0, 2] {
            let past = |bytes: usize| (pages * MACHINE_PAGE as isize) + bytes as isize;
            for bytes in [1, 7, NEAR - 1] {
                assert_eq!(is_slow_by(past(bytes), PIECE + 1), cfg!(target_arch = "x86_64"), "{bytes}");
                assert!(!is_slow_by(past(bytes), 2048), "no `rep movsb` for this");
            }
            assert!([0, NEAR, MACHINE_PAGE - 1].iter().all(|&bytes| !is_slow_by(past(bytes), PIECE + 1)));
        }
    }
}
