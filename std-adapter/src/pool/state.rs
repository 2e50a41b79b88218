//! What the buffers of a pool share, in one struct; and the page size that fits a memory limit.
//!
//! Held by: the tests below, `tests/tests/pool_limits.rs`.

use crate::disk::quota::Quota;
use crate::disk::slotted_store::SlottedStore;
use crate::disk::store::Store;
use crate::disk::temp_file::TempFileStore;
use crate::memory::budget::Waiters;
use crate::memory::frame_pool::FramePool;
use crate::memory::lent::LentBytes;
use crate::observe::counters::Counters;
use crate::observe::events::Listeners;
use crate::pages::sums::{BLOCK, Checksums};
#[cfg(feature = "tokio")]
use crate::pool::offload::Offload;
use crate::pool::registry::Registry;
use crate::pool::table_cache::{TableCache, table_cache};
use crate::pool::when_full::WhenFull;
#[cfg(feature = "tokio")]
use crate::sync::OnceLock;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, fork};
use std::path::PathBuf;

/// Bytes of a page, unless the memory limit is less than sixteen such pages. Larger pages cost more to move
/// for a small access; smaller ones cost more system calls for a sequential pass.
pub(crate) const PAGE_SIZE_DEFAULT: usize = 64 << 10;

/// Bytes of the smallest page that [`fitting_page_size`] chooses: a block of the usual file systems.
pub(crate) const PAGE_SIZE_CHOSEN_MIN: usize = 4 << 10;

/// The memory limit divided by this may be lent, unless the caller chooses.
#[cfg(any(feature = "bytes", feature = "tokio"))]
const LENT_DIVISOR: u64 = 4;

/// What the buffers of a pool share.
#[derive(Debug)]
pub(crate) struct PoolState {
    pub(crate) frames: FramePool,
    pub(crate) disk: SlottedStore,
    pub(crate) table_cache: TableCache,
    pub(crate) counters: Counters,
    pub(crate) listeners: Listeners,
    /// The number of buffers and of kept tables. Unchanged when a table is cached or used again, so that a
    /// small body pays for no count.
    pub(crate) population: AtomicU64,
    /// The number of handles that a caller has. What a thread keeps for its next buffer has none.
    pub(crate) handles: AtomicUsize,
    /// There may be cached tables, or threads that keep some. Raised by what keeps one, lowered by
    /// what looks for them.
    pub(crate) has_kept_tables: AtomicBool,
    /// None in a pool for one buffer, which has no other buffer to reclaim from.
    pub(crate) registry: Option<Registry>,
    pub(crate) page_size: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) checksums: Checksums,
    /// Bytes of frames that are lent. Apart from the pool, which a loan may outlive.
    pub(crate) lent: Arc<LentBytes>,
    /// The most that may be lent, if the caller chose it.
    #[cfg_attr(
        not(any(feature = "bytes", feature = "tokio")),
        expect(dead_code, reason = "nothing is lent without the feature")
    )]
    pub(crate) lent_limit: Option<u64>,
    /// Bytes of frames that jobs fill for passes, and of those that no pass has taken in yet.
    #[cfg(feature = "tokio")]
    pub(crate) coming: LentBytes,
    /// Bytes of copies that are lent where no frame is to be had, which are not charged.
    pub(crate) copies: LentBytes,
    /// The directory for temp files, if the caller chose one.
    pub(crate) dir: Option<PathBuf>,
    #[cfg(feature = "tokio")]
    pub(crate) offload: OnceLock<Arc<Offload>>,
}

impl PoolState {
    /// Bytes that the store moves for a small call for `len` that goes past the frames: a block at least, if
    /// there are checksums.
    pub(crate) fn bytes_moved_for(&self, len: usize) -> usize {
        match self.checksums {
            Checksums::On => len.max(BLOCK.min(self.page_size)),
            Checksums::Off => len,
        }
    }

    pub(crate) fn new(
        memory: usize,
        disk: u64,
        page_size: usize,
        store: Box<dyn Store>,
        dir: Option<PathBuf>,
    ) -> Self {
        let frames = FramePool::new(memory as u64, page_size);
        PoolState {
            registry: Some(Registry::default()),
            ..PoolState::of(frames, disk, page_size, store, dir)
        }
    }

    /// The same for one buffer: it has no registry.
    fn of(
        frames: FramePool,
        disk: u64,
        page_size: usize,
        store: Box<dyn Store>,
        dir: Option<PathBuf>,
    ) -> Self {
        fork::count_forks();
        let quota = Arc::new(Quota::new(disk));
        let waiters: Arc<dyn Waiters> = Arc::<Quota>::clone(&quota);
        PoolState {
            frames: frames.waited_for_by(waiters),
            disk: SlottedStore::new(store, quota, page_size),
            table_cache: table_cache(),
            counters: Counters::default(),
            listeners: Listeners::default(),
            population: AtomicU64::new(0),
            handles: AtomicUsize::new(0),
            has_kept_tables: AtomicBool::new(false),
            registry: None,
            page_size,
            when_full: WhenFull::Fail,
            checksums: Checksums::Off,
            lent: Arc::default(),
            lent_limit: None,
            #[cfg(feature = "tokio")]
            coming: LentBytes::default(),
            copies: LentBytes::default(),
            dir,
            #[cfg(feature = "tokio")]
            offload: OnceLock::new(),
        }
    }

    /// The jobs of this pool that run off an event loop. Made with a pool of many buffers, since a fork while
    /// it is made would leave it so; and at first use for a buffer of its own, of which most have none.
    #[cfg(feature = "tokio")]
    pub(crate) fn offload(&self) -> &Arc<Offload> {
        self.offload.get_or_init(|| Arc::new(Offload::new()))
    }

    /// The most bytes that may be lent.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) fn lent_max(&self) -> u64 {
        self.lent_limit.unwrap_or_else(|| self.frames.budget().limit() / LENT_DIVISOR)
    }

    /// A pool for one buffer: no registry, no disk limit, a temp file as its store.
    pub(crate) fn private(memory: usize) -> Self {
        let page_size = fitting_page_size(memory);
        let frames = FramePool::without_recycling(memory as u64, page_size);
        PoolState::of(frames, u64::MAX, page_size, Box::new(TempFileStore::new()), None)
    }
}

/// The page size for a memory limit of `memory` bytes: the largest power of two of which sixteen fit, but at
/// least 4 KiB and at most 64 KiB.
pub(crate) fn fitting_page_size(memory: usize) -> usize {
    let sixteenth = (memory / 16).max(1);
    (1 << sixteenth.ilog2()).clamp(PAGE_SIZE_CHOSEN_MIN, PAGE_SIZE_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_small_where_the_memory_limit_is() {
        let sizes = [0, 1, 4096, 100_000, 1 << 20, 64 << 20].map(fitting_page_size);
        assert_eq!(sizes, [4096, 4096, 4096, 4096, 65536, 65536]);
        assert_eq!(fitting_page_size(usize::MAX), 65536);
    }
}
