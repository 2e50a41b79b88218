//! What happened, for people to look at. Nothing in the crate decides anything by it.

use std::time::Duration;

/// Transfers to and from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoCounts {
    /// Transfers from the store: one for each run of bytes that lay together there.
    pub reads: u64,
    /// Bytes that came from the store.
    pub read_bytes: u64,
    /// Transfers to the store.
    pub writes: u64,
    /// Bytes that went to the store.
    pub written_bytes: u64,
    /// The time that all these transfers took together.
    pub time: Duration,
}

impl IoCounts {
    pub(crate) fn count_read(&mut self, bytes: usize, took: Duration) {
        self.reads += 1;
        self.read_bytes += bytes as u64;
        self.time += took;
    }

    pub(crate) fn count_write(&mut self, bytes: usize, took: Duration) {
        self.writes += 1;
        self.written_bytes += bytes as u64;
        self.time += took;
    }
}

/// Where the bytes of one buffer are, and what it took to put them there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferStats {
    /// Bytes of memory charged to the budget for this buffer: its frames.
    pub bytes_resident: u64,
    /// Bytes of the store taken by this buffer: its slots. A page whose copy in a slot is still good
    /// counts here and in `bytes_resident`.
    pub bytes_spilled: u64,
    /// Pages that were moved out of memory to the store, or written there directly.
    pub spills: u64,
    /// Transfers to and from the store.
    pub io: IoCounts,
}
