//! A memory budget, a disk limit and a store, shared by any number of buffers.

use crate::buffer::SpillBuffer;
use crate::disk::Disk;
use crate::error::BuildError;
use crate::events::{Event, Listener, Listeners};
use crate::frame::{Frames, PAGE_SIZE_MAX};
use crate::idle::Idle;
use crate::machine;
use crate::quota::Quota;
use crate::registry::Registry;
use crate::stats::PoolStats;
use crate::store::Store;
use crate::sums::Checksums;
use crate::sync::Arc;
use crate::tally::Tally;
use crate::temp_file::TempFileStore;
use crate::waiting::WhenFull;
use std::path::PathBuf;

/// Bytes of memory of a pool that was not told otherwise.
const MEMORY_DEFAULT: usize = 64 << 20;

/// Bytes of a page where the memory budget allows for sixteen of them. A larger page costs more to
/// move for a small access, a smaller one more system calls for a sequential pass.
const PAGE_SIZE_DEFAULT: usize = 64 << 10;

/// Bytes of the smallest page that is chosen without being asked for: a file system's block.
const PAGE_SIZE_CHOSEN_MIN: usize = 4 << 10;

/// What the buffers of a pool share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) frames: Frames,
    pub(crate) disk: Disk,
    pub(crate) idle: Idle,
    pub(crate) tally: Tally,
    pub(crate) listeners: Listeners,
    /// None in a pool for one buffer: there is nobody to take from.
    pub(crate) registry: Option<Registry>,
    pub(crate) page_size: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) checksums: Checksums,
    /// Where temp files are made, if the caller chose.
    pub(crate) dir: Option<PathBuf>,
}

/// One hard memory budget and one disk limit over any number of buffers.
///
/// Cloning is cheap, and all clones are the same pool. A pool lives as long as its last clone or
/// buffer; then its temp file is gone.
///
/// The frames of all buffers together never take more memory than the budget, not for a moment.
/// Beside the frames, a buffer costs some 250 bytes and 90 bytes for each page but one.
///
/// ```
/// use overspill::SpillPool;
/// use std::io::Write;
///
/// let pool = SpillPool::builder().memory(1 << 20).disk(1 << 30).build()?;
/// let mut buffers: Vec<_> = (0..100).map(|_| pool.buffer()).collect();
/// for buffer in &mut buffers {
///     buffer.write_all(&[7; 50_000])?; // 5 MB in all, of which at most 1 MiB is in RAM
/// }
/// assert!(pool.stats().memory_charged <= 1 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpillPool {
    core: Arc<Core>,
}

/// Describes a [`SpillPool`] to be built; see [`SpillPool::builder`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
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
                Err(BuildError::MemoryFraction { asked: fraction.to_string() })
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
    pub fn builder() -> Builder {
        Builder {
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

    /// An empty buffer. Costs no memory of the budget before the first byte, and no file.
    #[must_use]
    pub fn buffer(&self) -> SpillBuffer {
        SpillBuffer::in_core(Arc::clone(&self.core))
    }

    /// What the pool holds just now, and what has happened in it since it was built. Other threads may
    /// have changed it already. Costs a few short locks.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let (memory, disk) = (self.core.frames.budget(), self.core.disk.quota());
        let recycled = self.core.frames.recycled_bytes() + self.core.idle.bytes();
        let mut stats = PoolStats {
            memory_charged: memory.taken().saturating_sub(recycled),
            memory_recycled: recycled,
            memory_high_water: self.core.frames.high_water(),
            memory_limit: memory.limit(),
            disk_used: disk.taken(),
            disk_high_water: disk.high_water(),
            disk_limit: disk.limit(),
            buffers: self.core.buffers(),
            waiting: disk.waiting(),
            ..PoolStats::default()
        };
        self.core.tally.fill_in(&mut stats);
        stats
    }

    /// Changes the memory budget. Lowering it frees what is only kept to be used again, and moves pages
    /// to the store until what is charged is within the new limit. What cannot leave just now, because
    /// it is in use or the store refuses, does so later, when its buffer is used; until then nobody
    /// gets more. Raising it takes effect at once: pages that are in use come back to RAM.
    pub fn set_memory_limit(&self, bytes: usize) {
        self.core.set_memory_limit(bytes as u64);
    }

    /// Changes the disk limit. Lowering it below what is used loses nothing: what is there stays, and
    /// nothing more is taken before enough is freed.
    pub fn set_disk_limit(&self, bytes: u64) {
        self.core.disk.set_limit(bytes);
    }

    /// The name that the pool was [built](Builder::name) with; empty without one.
    #[must_use]
    pub fn name(&self) -> &str {
        self.core.listeners.name()
    }

    /// Checks every invariant of the pool as a whole. For tests, while no operation is under way.
    ///
    /// # Panics
    /// If one does not hold.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        self.core.check_quiet();
    }

    /// Frees what the pool keeps only to be used again: frames, and blocks of the temp file.
    pub fn trim(&self) {
        self.core.trim();
    }
}

impl Builder {
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
            Some(asked) if !asked.is_power_of_two() || asked > PAGE_SIZE_MAX => {
                return Err(BuildError::PageSize { asked });
            }
            Some(asked) => asked,
            None => fitting_page_size(memory),
        };
        let store = self.store.unwrap_or_else(|| match &self.dir {
            Some(dir) => Box::new(TempFileStore::in_dir(dir)),
            None => Box::new(TempFileStore::new()),
        });
        let core = Core::new(memory, self.disk, page_size, store, self.dir);
        let listeners = Listeners::new(self.name.into(), self.on_event);
        let (when_full, checksums) = (self.when_full, self.checksums);
        Ok(SpillPool { core: Arc::new(Core { when_full, checksums, listeners, ..core }) })
    }
}

impl Core {
    pub(crate) fn new(
        memory: usize,
        disk: u64,
        page_size: usize,
        store: Box<dyn Store>,
        dir: Option<PathBuf>,
    ) -> Self {
        Core {
            frames: Frames::new(memory as u64, page_size),
            disk: Disk::new(store, Arc::new(Quota::new(disk)), page_size),
            idle: Idle::default(),
            tally: Tally::default(),
            listeners: Listeners::default(),
            registry: Some(Registry::default()),
            page_size,
            when_full: WhenFull::Fail,
            checksums: Checksums::Off,
            dir,
        }
    }

    /// A pool for one buffer.
    pub(crate) fn private(memory: usize) -> Self {
        let store = Box::new(TempFileStore::new());
        let core = Core::new(memory, u64::MAX, fitting_page_size(memory), store, None);
        Core { registry: None, ..core }
    }
}

fn fitting_page_size(memory: usize) -> usize {
    let sixteenth = (memory / 16).max(1);
    (1 << sixteenth.ilog2()).clamp(PAGE_SIZE_CHOSEN_MIN, PAGE_SIZE_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_small_where_the_budget_is() {
        let sizes = [0, 1, 4096, 100_000, 1 << 20, 64 << 20].map(fitting_page_size);
        assert_eq!(sizes, [4096, 4096, 4096, 4096, 65536, 65536]);
        assert_eq!(fitting_page_size(usize::MAX), 65536);
    }

    #[test]
    fn a_page_size_that_cannot_be_is_refused() {
        for asked in [0, 3, 100, 32 << 20, usize::MAX] {
            let refused = SpillPool::builder().page_size(asked).build().unwrap_err();
            assert_eq!(refused, BuildError::PageSize { asked });
        }
    }
}
