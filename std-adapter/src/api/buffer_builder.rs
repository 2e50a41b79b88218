//! Limits of single buffers, below those of their pool.

use crate::api::buffer::SpillBuffer;
use crate::api::pool::SpillPool;
use crate::pool::when_full::WhenFull;

/// Describes a buffer with limits of its own; see [`SpillPool::buffer_builder`].
#[derive(Debug)]
#[must_use]
pub struct BufferBuilder<'a> {
    pool: &'a SpillPool,
    memory: u64,
    disk: u64,
    when_full: Option<WhenFull>,
}

impl SpillPool {
    /// Describes a buffer that nothing but the pool limits, to be changed and then built.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::Write;
    ///
    /// let pool = SpillPool::builder().memory(1 << 20).build()?;
    /// let mut upload = pool.buffer_builder().memory(64 << 10).disk(256 << 10).build();
    /// upload.write_all(&[7; 200_000])?;
    /// assert!(upload.stats().memory_used <= 64 << 10);
    /// assert!(upload.write_all(&[7; 500_000]).is_err()); // more than both together
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn buffer_builder(&self) -> BufferBuilder<'_> {
        BufferBuilder { pool: self, memory: u64::MAX, disk: u64::MAX, when_full: None }
    }
}

impl BufferBuilder<'_> {
    /// The most memory that the buffer's pages may take of the pool's budget, in bytes.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes as u64;
        self
    }

    /// The most room that the buffer may take in the store, in bytes; counted as the pool's is. What
    /// would pass it fails at once, whatever [`when_full`](BufferBuilder::when_full) says: only the
    /// buffer itself could make room, and it would be waiting.
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disk = bytes;
        self
    }

    /// What a call on this buffer does that needs more of the disk than the pool's limit leaves, instead
    /// of what the pool's other buffers do.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = Some(when_full);
        self
    }

    /// Makes the buffer, empty.
    #[must_use]
    pub fn build(self) -> SpillBuffer {
        let mut buffer = self.pool.buffer();
        buffer.pager.limit(self.memory, self.disk);
        if let Some(when_full) = self.when_full {
            buffer.pager.set_when_full(when_full);
        }
        buffer
    }
}
