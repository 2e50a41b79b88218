//! The memory that bytes are moved through.
//!
//! Held by: `std-adapter/tests/command/`.

/// Bytes that are moved at a time: several pages, so that they go past the frames in one call, and few enough
/// to stay in the processor's cache.
pub(crate) const BLOCK: usize = 256 << 10;

/// The alignment of a block: a memory page. The allocator's blocks of this size begin sixteen bytes past the
/// start of a page, and from there the kernel copies at a quarter of the speed (x86-64, `rep movsb`).
const ALIGNMENT: usize = 4096;

/// [`BLOCK`] bytes, aligned to [`ALIGNMENT`].
pub(crate) struct Block {
    allocation: Vec<u8>,
    /// Where the block begins in `allocation`.
    start: usize,
}

impl Block {
    pub(crate) fn new() -> Self {
        let allocation = vec![0_u8; BLOCK + ALIGNMENT];
        // `align_offset` may return `usize::MAX`; the block is then not aligned, and only slower.
        let start = allocation.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Block { allocation, start }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.allocation[self.start..self.start + BLOCK]
    }
}
