//! Copies that are slow on some processors, and how to avoid them. Not a part of the interface: public for
//! the `overspill` crate only.
//!
//! C libraries copy more than 2 KiB with the instruction `rep movsb`, which on AMD processors since Zen 3
//! takes twenty times as long when the destination begins a little past the source, modulo 4 KiB
//! (<https://sourceware.org/bugzilla/show_bug.cgi?id=30994>). Large vectors begin 16 bytes past a machine
//! page, so copies between them and page-aligned memory are affected: 64 KiB took 36 µs instead of 1.4 on
//! the machine measured.
//!
//! Held by: the test below, `core/tests/ring_field_bugs.rs` (`long_copies_*`).

/// The longest copy in bytes for which no C library uses `rep movsb`.
pub const PIECE: usize = 2 << 10;

/// The least distance in bytes from the source to the destination, modulo a machine page, at
/// which no copy was slow.
const NEAR: usize = 32;

const MACHINE_PAGE: usize = 4 << 10;

/// Whether copying `len` bytes from `from` to `to` is faster in pieces of [`PIECE`].
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
