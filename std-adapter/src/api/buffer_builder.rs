//! Limits of single buffers and spools, below those of their pool.
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/when_full.rs`.

use crate::api::buffer::SpillBuffer;
use crate::api::pool::SpillPool;
use crate::api::spool::SpoolWriter;
use crate::api::spool_reader::SpoolReader;
use crate::disk::name_sync::parent;
use crate::disk::temp_file::resolved;
use crate::pool::when_full::WhenFull;
use std::path::{Path, PathBuf};

/// Builds a buffer, or a spool, with limits of its own; see [`SpillPool::buffer_builder`].
#[derive(Debug)]
#[must_use]
pub struct BufferBuilder<'a> {
    pool: &'a SpillPool,
    memory: u64,
    disk: u64,
    when_full: Option<WhenFull>,
    /// The directory of the file to spill to, in place of the pool's store.
    dir: Option<PathBuf>,
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
        BufferBuilder { pool: self, memory: u64::MAX, disk: u64::MAX, when_full: None, dir: None }
    }
}

impl BufferBuilder<'_> {
    /// Sets the buffer's memory limit: the most bytes of the pool's memory that its pages may use.
    ///
    /// The default is no limit but the pool's. Where nothing can be spilled, a limit of two or more whole
    /// pages is used to the last byte; of a limit below a page and a half, small writes may get no more than
    /// a third: see [`PoolBuilder::disk`](crate::PoolBuilder::disk). In a pool without a disk, a call that
    /// would pass this limit fails at once, whatever [`when_full`](BufferBuilder::when_full) says. Only a
    /// write to a [spool](BufferBuilder::spool) follows `when_full`, since its readers may make room.
    ///
    /// What the buffer shares with a [clone](SpillBuffer::try_clone), or has shared with one that is gone,
    /// counts towards no buffer's own limits: only the pool's bound it.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes as u64;
        self
    }

    /// Sets the buffer's disk limit: the most bytes of the store that it may use, counted as
    /// [the pool's limit](crate::PoolBuilder::disk) is. Only of small bodies at rest, which share blocks,
    /// each counts its own bytes, in steps of 128.
    ///
    /// A call that would pass it fails at once, whatever [`when_full`](BufferBuilder::when_full) says: only
    /// the waiting buffer itself could make room. What is shared with clones is not counted, as by
    /// [`memory`](BufferBuilder::memory). The default is no limit but the pool's.
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

    /// Lets the buffer spill beside the file `path`, to an unnamed file that
    /// [`persist`](SpillBuffer::persist) then only names, as [`SpillPool::buffer_for`] does. A relative path
    /// is resolved now.
    ///
    /// The content of a [spool](BufferBuilder::spool) is persisted in this way as a buffer: by
    /// [`into_buffer`](crate::Frozen::into_buffer) of what `finish` returns.
    /// [`Frozen::persist`](crate::Frozen::persist) copies.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::Write;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("upload.bin");
    /// let pool = SpillPool::builder().memory(1 << 20).build()?;
    /// let mut upload = pool.buffer_builder().disk(100 << 20).file(&path).build();
    /// upload.write_all(&[7; 3_000_000])?;
    /// upload.persist(&path)?.durable()?; // no second copy of what was spilled
    /// # assert_eq!(std::fs::read(&path)?, [7; 3_000_000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.dir = Some(resolved(parent(path.as_ref()).to_owned()));
        self
    }

    /// Makes the buffer. It is empty: no page is allocated, and no file is made.
    #[must_use]
    pub fn build(self) -> SpillBuffer {
        let mut buffer = self.pool.buffer();
        if let Some(dir) = &self.dir {
            buffer.pager.spill_to_own_file(dir);
        }
        buffer.pager.limit(self.memory, self.disk);
        if let Some(when_full) = self.when_full {
            buffer.pager.set_when_full(when_full);
        }
        buffer
    }

    /// Makes a spool, as [`SpillPool::spool`] does, within the limits of this builder: they are on its
    /// content, which is one buffer. What its readers have for themselves, a window each, counts in the pool
    /// alone.
    ///
    /// At a disk limit of its own a write fails at once, though readers that read once may be about to make
    /// room. At that of the pool it waits, if the [policy](Self::when_full) says so.
    ///
    /// ```
    /// use overspill::{SpillError, SpillPool};
    /// use std::io::Write;
    ///
    /// let pool = SpillPool::builder().memory(1 << 20).build()?;
    /// let (mut writer, reader) = pool.buffer_builder().memory(64 << 10).disk(256 << 10).spool();
    /// writer.write_all(&[7; 200_000])?;
    /// let refused = writer.write_all(&[7; 500_000]).unwrap_err(); // more than both together
    /// assert!(matches!(SpillError::of(&refused), Some(SpillError::DiskLimit { .. })));
    /// # drop(reader);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn spool(self) -> (SpoolWriter, SpoolReader) {
        SpoolWriter::over(self.build().pager)
    }
}
