//! Limits of single buffers, below those of their pool.
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/when_full.rs`.

use crate::api::buffer::SpillBuffer;
use crate::api::pool::SpillPool;
use crate::pool::when_full::WhenFull;

/// Builds a buffer with limits of its own; see [`SpillPool::buffer_builder`].
#[derive(Debug)]
#[must_use]
pub struct BufferBuilder<'a> {
    pool: &'a SpillPool,
    memory: u64,
    disk: u64,
    when_full: Option<WhenFull>,
}

impl SpillPool {
    /// Starts a buffer with limits of its own. Limits that are not set are the pool's alone.
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
    /// Sets the buffer's memory limit: the most bytes of the pool's memory that its pages may use.
    ///
    /// The default is no limit but the pool's.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes as u64;
        self
    }

    /// Sets the buffer's disk limit: the most bytes of the store that it may use, counted in whole blocks as
    /// the pool's limit is.
    ///
    /// A call that would pass it fails at once, whatever [`when_full`](BufferBuilder::when_full) says: only
    /// the waiting buffer itself could make room. The default is no limit but the pool's.
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disk = bytes;
        self
    }

    /// Sets what this buffer's calls do when the pool's disk limit is reached, in place of the pool's own
    /// [`when_full`](crate::PoolBuilder::when_full).
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = Some(when_full);
        self
    }

    /// Makes the buffer. It is empty: no page is allocated, and no file is made.
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
