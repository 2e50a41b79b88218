//! Memory to copy through, for the length of a call. No limit counts it.
//!
//! Held by: `tests/tests/refused_allocations/`, `tests/tests/kernel_copies.rs`.

/// The longest block: with 4 KiB, copies would take sixteen times as many calls of the system.
pub(crate) const BLOCK_MAX: usize = 64 << 10;

/// Runs `f` with a block of `len` bytes, [`BLOCK_MAX`] at most: of the heap, or where that is refused 4 KiB
/// of the stack.
pub(crate) fn with_block<R>(len: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
    let (mut block, len) = (Vec::new(), len.min(BLOCK_MAX));
    if block.try_reserve_exact(len).is_err() {
        return f(&mut [0; 4 << 10]);
    }
    block.resize(len, 0);
    f(&mut block)
}
