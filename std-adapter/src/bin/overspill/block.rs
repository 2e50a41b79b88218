//! The room that bytes are moved through.

/// Bytes that are moved at a time: several pages, so that they go past the cache in one call, and
/// few enough to stay in the processor's.
pub(crate) const BLOCK: usize = 256 << 10;

/// Where a block begins: at a memory page. The allocator's own blocks of this size begin sixteen bytes
/// past one, and there the kernel copies at a quarter of the speed (x86-64, `rep movsb`).
const ALIGNMENT: usize = 4096;

/// [`BLOCK`] bytes.
pub(crate) struct Block {
    room: Vec<u8>,
    start: usize,
}

impl Block {
    pub(crate) fn new() -> Self {
        let room = vec![0_u8; BLOCK + ALIGNMENT];
        // The standard library may say that it cannot tell; then it is slower, and that is all.
        let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Block { room, start }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + BLOCK]
    }
}
