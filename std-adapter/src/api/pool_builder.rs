//! How a pool is described before it is built.

use crate::api::pool::SpillPool;
use crate::disk::store::Store;
use crate::disk::temp_file::TempFileStore;
use crate::memory::machine;
use crate::memory::size_class::PAGE_SIZE_MAX;
use crate::observe::events::{Event, Listener, Listeners};
use crate::pages::sums::Checksums;
use crate::pool::state::{PoolState, fitting_page_size};
use crate::pool::when_full::WhenFull;
use crate::sync::Arc;
use std::io;
use std::path::PathBuf;

/// Bytes of memory of a pool that was not told otherwise.
const MEMORY_DEFAULT: usize = 64 << 20;

/// Describes a [`SpillPool`] to be built; see [`SpillPool::builder`].
#[derive(Debug)]
#[must_use]
pub struct PoolBuilder {
    memory: Memory,
    disk: u64,
    dir: Option<PathBuf>,
    page_size: Option<usize>,
    when_full: WhenFull,
    name: String,
    on_event: Option<Listener>,
    checksums: Checksums,
    store: Option<Box<dyn Store>>,
}

/// How the memory budget was described.
#[derive(Clone, Copy, Debug)]
enum Memory {
    Bytes(usize),
    /// Of what the process may use.
    Fraction(f64),
}

impl Memory {
    fn bytes(self) -> Result<usize, BuildError> {
        match self {
            Memory::Bytes(bytes) => Ok(bytes),
            Memory::Fraction(fraction) if !(0.0..=1.0).contains(&fraction) => {
                Err(BuildError::MemoryFraction { requested: fraction.to_string() })
            }
            Memory::Fraction(fraction) => {
                Ok(machine::memory_bytes()
                    .map_or(MEMORY_DEFAULT, |bytes| machine::fraction_of(bytes, fraction)))
            }
        }
    }
}

impl SpillPool {
    /// Describes a pool with 64 MiB of memory, no disk limit, pages of 64 KiB, and a temp file in
    /// the usual place, to be changed and then built.
    pub fn builder() -> PoolBuilder {
        PoolBuilder {
            memory: Memory::Bytes(MEMORY_DEFAULT),
            disk: u64::MAX,
            dir: None,
            page_size: None,
            when_full: WhenFull::Fail,
            name: String::new(),
            on_event: None,
            checksums: Checksums::Off,
            store: None,
        }
    }
}

impl PoolBuilder {
    /// The memory budget of all buffers together, in bytes. With 0 everything goes to the store.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = Memory::Bytes(bytes);
        self
    }

    /// The memory budget as a fraction, between 0 and 1, of what the process may use: the lowest limit
    /// of its control groups (version 2 or 1), or the machine's memory, as it is when the pool is built.
    /// Where the system says neither, the budget stays at 64 MiB.
    ///
    /// A container's limit covers the page cache of the temp file too, but that goes when memory is
    /// wanted; so a quarter is a fair share for a program that does other things as well.
    pub fn memory_fraction(mut self, fraction: f64) -> Self {
        self.memory = Memory::Fraction(fraction);
        self
    }

    /// The limit on the room that all buffers together take in the store, in bytes; slots are counted
    /// whole, in steps of 4 KiB or more. With 0 nothing can be spilled, and what does not fit in the
    /// budget is refused.
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disk = bytes;
        self
    }

    /// The directory for the temp file, instead of the usual one. It is not looked at before the first
    /// byte is spilled; an error then names it, and once it is there, spilling works.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// The size of a page in bytes: a power of two from 1 to 16 MiB. Without it, 64 KiB or a
    /// sixteenth of the memory budget, whichever is less, but at least 4 KiB.
    pub fn page_size(mut self, bytes: usize) -> Self {
        self.page_size = Some(bytes);
        self
    }

    /// What a call does that needs more of the disk than its limit leaves. It fails, unless said
    /// otherwise here, or by [`BufferBuilder::when_full`](crate::BufferBuilder::when_full) for one
    /// buffer.
    ///
    /// ```
    /// use overspill::{SpillPool, WhenFull};
    /// use std::io::Write;
    /// use std::time::Duration;
    ///
    /// let patient = WhenFull::Wait { at_most: Duration::from_secs(10) };
    /// let pool = SpillPool::builder().memory(0).disk(64 << 10).when_full(patient).build()?;
    /// let mut first = pool.buffer();
    /// first.write_all(&[1; 64 << 10])?; // all there is
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| drop(first));
    ///     pool.buffer().write_all(&[2; 64 << 10]) // once the first is gone
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// A name, for those who look at more than one pool: it is in what `tracing` and `metrics` are told.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Calls `listener` for each [`Event`]: when a buffer spills for the first time, and when a request is
    /// refused. Replaces the listener before.
    ///
    /// It is called in the thread, and in the middle of the call, that the event happened in, with nothing
    /// locked; so it should be quick, and may look at the pool, but not wait for it. A panic in it is reported
    /// as usual, and goes no further.
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
    /// pool.build()?.buffer().write_all(b"to the disk, since there is no memory")?;
    /// assert_eq!(SPILLED.load(Ordering::Relaxed), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Listener(Box::new(listener)));
        self
    }

    /// Whether what is read back from the store is checked. [`Checksums`] says what that costs, and why
    /// it is off unless asked for.
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

    /// A place for spilled pages instead of the temp file.
    pub fn store(mut self, store: impl Store + 'static) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Builds the pool. No memory is taken and no file is made yet.
    ///
    /// # Errors
    /// If the description cannot be met; the error says what would be.
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
        let state = PoolState::new(memory, self.disk, page_size, store, self.dir);
        let listeners = Listeners::new(self.name.into(), self.on_event);
        let (when_full, checksums) = (self.when_full, self.checksums);
        SpillPool { state: Arc::new(PoolState { when_full, checksums, listeners, ..state }) }
    }
}

/// A pool with 64 MiB of memory, no disk limit, and a temp file in the usual place: as
/// [`builder`](SpillPool::builder) describes it.
impl Default for SpillPool {
    fn default() -> Self {
        SpillPool::builder().assemble(MEMORY_DEFAULT, fitting_page_size(MEMORY_DEFAULT))
    }
}

/// A pool cannot be built as described.
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
        /// What was asked for, in bytes.
        requested: usize,
    },

    /// The memory fraction is not between 0 and 1.
    #[error("a memory fraction of {requested} was requested; it must be between 0 and 1")]
    #[non_exhaustive]
    MemoryFraction {
        /// What was asked for, as text.
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
    fn a_page_size_that_cannot_be_is_refused() {
        for requested in [0, 3, 100, 32 << 20, usize::MAX] {
            let refused = SpillPool::builder().page_size(requested).build().unwrap_err();
            assert_eq!(refused, BuildError::PageSize { requested });
        }
    }
}
