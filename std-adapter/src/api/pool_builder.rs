//! The settings of a pool, collected and checked before it is built.
//!
//! Promises:
//!
//! - Settings that cannot be met are refused by [`PoolBuilder::build`], with an error that says what could
//!   be.
//! - Building allocates no frame and makes no file.
//!
//! Held by: the tests at the end of this file, `tests/tests/errors.rs`, `tests/tests/pool_limits.rs`,
//! `tests/tests/in_a_cgroup.rs`, `tests/tests/transfers.rs`.

use crate::api::pool::SpillPool;
use crate::disk::store::Store;
use crate::disk::temp_file::{TempFileStore, resolved};
use crate::memory::machine;
use crate::memory::size_class::PAGE_SIZE_MAX;
use crate::observe::events::{Event, Listener, Listeners};
use crate::pages::sums::Checksums;
use crate::pool::state::{PoolState, fitting_page_size};
use crate::pool::when_full::WhenFull;
use crate::sync::{Arc, fences};
use std::io;
use std::path::PathBuf;

/// The memory limit of a pool built without one, in bytes.
const MEMORY_LIMIT_DEFAULT: usize = 64 << 20;

/// Builds a [`SpillPool`]; see [`SpillPool::builder`].
#[derive(Debug)]
#[must_use]
pub struct PoolBuilder {
    memory: MemoryLimit,
    disk: u64,
    dir: Option<PathBuf>,
    page_size: Option<usize>,
    when_full: WhenFull,
    name: String,
    on_event: Option<Listener>,
    checksums: Checksums,
    lent_limit: Option<u64>,
    store: Option<Box<dyn Store>>,
}

/// The memory limit as the caller set it.
#[derive(Clone, Copy, Debug)]
enum MemoryLimit {
    Bytes(usize),
    /// A fraction of the memory that the process may use.
    Fraction(f64),
}

impl MemoryLimit {
    /// The limit in bytes, or an error if the fraction is not between 0 and 1.
    fn bytes(self) -> Result<usize, BuildError> {
        match self {
            MemoryLimit::Bytes(bytes) => Ok(bytes),
            MemoryLimit::Fraction(fraction) if !(0.0..=1.0).contains(&fraction) => {
                Err(BuildError::MemoryFraction { requested: fraction.to_string() })
            }
            MemoryLimit::Fraction(fraction) => Ok(machine::memory_bytes()
                .map_or(MEMORY_LIMIT_DEFAULT, |bytes| machine::fraction_of(bytes, fraction))),
        }
    }
}

impl SpillPool {
    /// Starts a pool with a memory limit of 64 MiB, no disk limit, pages of 64 KiB, and a temp file in the
    /// [usual place](crate::TempFileStore::new).
    ///
    /// ```
    /// use overspill::SpillPool;
    ///
    /// let pool = SpillPool::builder().memory(16 << 20).disk(1 << 30).dir("/var/tmp").build()?;
    /// assert_eq!(pool.stats().memory_limit, 16 << 20);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder {
            memory: MemoryLimit::Bytes(MEMORY_LIMIT_DEFAULT),
            disk: u64::MAX,
            dir: None,
            page_size: None,
            when_full: WhenFull::Fail,
            name: String::new(),
            on_event: None,
            checksums: Checksums::Off,
            lent_limit: None,
            store: None,
        }
    }
}

impl PoolBuilder {
    /// Sets the memory limit of all buffers together, in bytes. With 0, every byte goes to the store.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = MemoryLimit::Bytes(bytes);
        self
    }

    /// Sets the memory limit as a fraction, between 0 and 1, of the memory that the process may use.
    ///
    /// That is the lowest limit of its control groups (version 2 or 1), or the machine's memory if that is
    /// less, as it is when the pool is built. They are found on Linux only: elsewhere, and where Linux
    /// reports neither, the limit is 64 MiB, whatever the fraction.
    ///
    /// A container's limit covers the page cache of the temp file too, but the kernel drops that when memory
    /// is short. A quarter is a fair share for a program that does other things as well.
    pub fn memory_fraction(mut self, fraction: f64) -> Self {
        self.memory = MemoryLimit::Fraction(fraction);
        self
    }

    /// Sets the disk limit: the most bytes of the store that all buffers together may use. The default is
    /// no limit.
    ///
    /// Room is counted in blocks of 4 KiB, or in pages where these are smaller:
    ///
    /// | in the store | counts |
    /// |---|---|
    /// | a page that grows there | the blocks that its bytes lie in; up to twice as many in a place that was used before |
    /// | any other page in the pool's store | up to twice as many, and the page at most |
    /// | a page of a buffer that [spills beside its final file](SpillPool::buffer_for) | the page |
    /// | small bodies at rest: [spilled](crate::SpillBuffer::spill) on request, silent for long, or moved because the memory limit was lowered | the blocks that they share, in steps of 128 bytes for each body |
    ///
    /// With 0 nothing can be spilled, and writes for which memory has no frame are refused. A page that grows
    /// needs its old frame and its new one at once: of a memory limit below a page and a half, small writes
    /// may get no more than a third, and a write that is longer than a limit below a page gets nothing. A
    /// limit of whole pages, two or more, is used to the last byte.
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disk = bytes;
        self
    }

    /// Sets the directory of the temp file, in place of the [usual one](crate::TempFileStore::new).
    ///
    /// It is not accessed before the first byte is spilled. If it is unusable then, the error names it; each
    /// later spill tries it again. [`SpillBuffer::into_file`](crate::SpillBuffer::into_file) makes its file
    /// there too. If a [store](PoolBuilder::store) is set, the directory is used for `into_file` alone. An
    /// empty path is the current directory. A relative one is resolved now, wherever the process goes later.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(resolved(dir.into()));
        self
    }

    /// Sets the size of a page in bytes: a power of two from 1 byte to 16 MiB.
    ///
    /// The default is 64 KiB or a sixteenth of the memory limit, rounded down to a power of two, whichever is
    /// less, but at least 4 KiB. Where many buffers grow at once, frames that are shorter than a page hold a
    /// part of it, so a smaller page is seldom needed.
    pub fn page_size(mut self, bytes: usize) -> Self {
        self.page_size = Some(bytes);
        self
    }

    /// Sets what a call does that needs more of the disk than the disk limit leaves. By default it fails.
    ///
    /// [`BufferBuilder::when_full`](crate::BufferBuilder::when_full) sets it for one buffer.
    ///
    /// ```
    /// use overspill::{SpillPool, WhenFull};
    /// use std::io::Write;
    /// use std::time::Duration;
    ///
    /// let patient = WhenFull::Wait { at_most: Duration::from_secs(10) };
    /// let pool = SpillPool::builder().memory(0).disk(64 << 10).when_full(patient).build()?;
    /// let mut first = pool.buffer();
    /// first.write_all(&[1; 64 << 10])?; // uses the whole limit
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| drop(first));
    ///     pool.buffer().write_all(&[2; 64 << 10]) // waits until the first is dropped
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Names the pool, so that several can be told apart: `tracing` events and `metrics` carry the name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Calls `listener` for each [`Event`]: when a buffer spills for the first time, when a request is
    /// refused, and when the store fails. Replaces a listener set earlier.
    ///
    /// The listener runs inside the call that caused the event, on its thread, with nothing locked. It should
    /// be quick; it may use the pool, but must not wait for it. What it does there may cause events within
    /// it: so it should not write to a pool whose store has failed, which would fail again, and so on without
    /// end. A panic in it is reported as usual, and does not reach the caller.
    ///
    /// ```
    /// use overspill::{Event, SpillPool};
    /// use std::io::Write;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// static SPILLED: AtomicUsize = AtomicUsize::new(0);
    /// let pool = SpillPool::builder().memory(0).on_event(|event| {
    ///     if let Event::FirstSpill { .. } = event {
    ///         SPILLED.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// });
    /// pool.build()?.buffer().write_all(b"to the disk, since the memory limit is 0")?;
    /// assert_eq!(SPILLED.load(Ordering::Relaxed), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Listener(Box::new(listener)));
        self
    }

    /// Sets whether bytes read back from the store are checked. The default is [`Checksums::Off`];
    /// [`Checksums`] says why, and what they cost.
    ///
    /// ```
    /// use overspill::{Checksums, SpillPool};
    ///
    /// let pool = SpillPool::builder().checksums(Checksums::On).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn checksums(mut self, checksums: Checksums) -> Self {
        self.checksums = checksums;
        self
    }

    /// Sets how many bytes of the pool's memory may be lent: to what receives a `SpillBody`, with the feature
    /// `http-body`; by `Frozen::bytes_at` and `Frozen::chunks`, with the feature `bytes`; and to async
    /// readers that read ahead, with the feature `tokio`. The default is a quarter of the memory limit,
    /// whatever that is at the time.
    ///
    /// What is lent cannot leave memory until the receiver lets go of it. Past that, copies are made, which
    /// are not charged: a body sends them in frames of at most 16 KiB. With 0, all is copied.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub fn lend(mut self, bytes: u64) -> Self {
        self.lent_limit = Some(bytes);
        self
    }

    /// Sets the store for spilled pages, in place of the temp file.
    pub fn store(mut self, store: impl Store + 'static) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Builds the pool. Allocates no page and makes no file yet. On Linux, the first pool of a process that
    /// has threads starts one more for some 20 ms, which registers the process for `membarrier`.
    ///
    /// # Errors
    /// If the page size or the memory fraction is out of range; the error gives the range.
    pub fn build(self) -> Result<SpillPool, BuildError> {
        let memory = self.memory.bytes()?;
        let page_size = match self.page_size {
            Some(requested) if !requested.is_power_of_two() || requested > PAGE_SIZE_MAX => {
                return Err(BuildError::PageSize { requested });
            }
            Some(requested) => requested,
            None => fitting_page_size(memory),
        };
        Ok(self.assemble(memory, page_size))
    }

    fn assemble(self, memory: usize, page_size: usize) -> SpillPool {
        let store = self.store.unwrap_or_else(|| match &self.dir {
            Some(dir) => Box::new(TempFileStore::in_dir(dir)),
            None => Box::new(TempFileStore::new()),
        });
        fences::prepare();
        let state = PoolState::new(memory, self.disk, page_size, store, self.dir);
        let listeners = Listeners::new(self.name.into(), self.on_event);
        let (when_full, checksums, lent_limit) = (self.when_full, self.checksums, self.lent_limit);
        #[cfg(feature = "tokio")]
        state.offload();
        SpillPool::of(Arc::new(PoolState { when_full, checksums, lent_limit, listeners, ..state }))
    }
}

/// The pool that [`SpillPool::builder`] builds without further settings.
impl Default for SpillPool {
    fn default() -> Self {
        SpillPool::builder().assemble(MEMORY_LIMIT_DEFAULT, fitting_page_size(MEMORY_LIMIT_DEFAULT))
    }
}

/// A pool cannot be built with these settings.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The page size is not a power of two between 1 byte and 16 MiB.
    #[error(
        "a page size of {requested} bytes was requested; it must be a power of two from 1 to {}",
        PAGE_SIZE_MAX
    )]
    #[non_exhaustive]
    PageSize {
        /// The page size that was requested, in bytes.
        requested: usize,
    },

    /// The memory fraction is not between 0 and 1.
    #[error("a memory fraction of {requested} was requested; it must be between 0 and 1")]
    #[non_exhaustive]
    MemoryFraction {
        /// The fraction that was requested, as text.
        requested: String,
    },
}

impl From<BuildError> for io::Error {
    fn from(error: BuildError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_size_out_of_range_is_refused() {
        for requested in [0, 3, 100, 32 << 20, usize::MAX] {
            let refused = SpillPool::builder().page_size(requested).build().unwrap_err();
            assert_eq!(refused, BuildError::PageSize { requested });
        }
    }
}
