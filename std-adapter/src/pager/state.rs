//! The state of a buffer's pager: its table, its pool, its length and the end of its last access.
//!
//! Promise: a dropped pager frees all its slots and frames, except a frame that its table keeps for reuse.
//!
//! Held by: `tests/tests/pool_memory.rs`, `tests/tests/pool_stress.rs`,
//! `std-adapter/src/models.rs` (loom).

use crate::disk::own_file::OwnFile;
use crate::observe::stats::{BufferStats, ByteCounts, IoCounts};
use crate::pager::loan::Loan;
use crate::pager::span::Span;
use crate::pager::wait_state::WaitState;
use crate::pages::table::{Table, low_bits};
use crate::pages::usage::Usage;
use crate::pool::member::OwnTable;
use crate::pool::private;
use crate::pool::state::PoolState;
use crate::sync::Arc;

/// One buffer's pages: the medium below its cursor.
#[derive(Debug)]
pub(crate) struct Pager {
    /// `Some` until the drop.
    pub(crate) own_table: Option<OwnTable>,
    pub(crate) pool: Arc<PoolState>,
    pub(crate) len: u64,
    /// The end of the last access that missed the window. An access that starts there is sequential.
    pub(crate) last_end: u64,
    /// What callers have read and written.
    pub(crate) requested: ByteCounts,
    /// Boxed and allocated on first use: a pool may have many small buffers, and each byte of a pager counts.
    cold: Option<Box<ColdState>>,
}

/// State that many buffers never need: of a buffer that has lent a chunk, done I/O, or has a [`WaitState`].
#[derive(Debug, Default)]
pub(crate) struct ColdState {
    pub(crate) loan: Option<Box<Loan>>,
    pub(crate) io: IoCounts,
    /// What the pool has counted of `requested`.
    told: ByteCounts,
    pub(crate) wait_state: Option<Box<WaitState>>,
}

impl Pager {
    #[inline]
    pub(crate) fn new(pool: Arc<PoolState>) -> Self {
        Pager {
            own_table: Some(pool.open_table()),
            pool,
            len: 0,
            last_end: 0,
            requested: ByteCounts::default(),
            cold: None,
        }
    }

    pub(crate) fn stats(&self) -> BufferStats {
        let usage = self.usage();
        BufferStats {
            memory_used: usage.memory.used(),
            disk_used: usage.disk.used(),
            spills: usage.spills(),
            requested: self.requested,
            io: self.cold.as_ref().map_or_else(IoCounts::default, |cold| cold.io),
        }
    }

    /// Adds what callers have requested to the pool's count, if the store was used for this buffer. So a buffer
    /// that stays in memory costs the pool's counters, which threads share, nothing.
    pub(crate) fn tell_requested(&mut self) {
        let requested = self.requested;
        if let Some(cold) = self.cold.as_deref_mut().filter(|cold| cold.io != IoCounts::default()) {
            let told = std::mem::replace(&mut cold.told, requested);
            self.pool.counters.count_requested(&requested.since(&told));
        }
    }

    /// Sets the buffer's own limits, in bytes, on top of the pool's. Only for an empty buffer.
    pub(crate) fn limit(&mut self, memory: u64, disk: u64) {
        debug_assert_eq!(self.len, 0);
        self.usage().memory.set_limit(memory);
        self.usage().disk.set_limit(disk);
        // A recycled table may have brought a frame, which the new limit does not allow.
        if self.usage().memory.used() > memory {
            self.truncate(0);
        }
    }

    pub(crate) fn own_table(&self) -> &OwnTable {
        self.own_table.as_ref().expect("the table is there until the drop")
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.own_table().unlocked().usage
    }

    /// The buffer's own file, if it spills to one instead of the pool's store.
    pub(crate) fn own(&self) -> Option<&Arc<OwnFile>> {
        self.own_table().unlocked().own()
    }

    /// The cold state, allocated on first use.
    pub(crate) fn cold(&mut self) -> &mut ColdState {
        self.cold.get_or_insert_default()
    }

    pub(crate) fn cold_ref(&self) -> Option<&ColdState> {
        self.cold.as_deref()
    }

    pub(crate) fn cold_if_any(&mut self) -> Option<&mut ColdState> {
        self.cold.as_deref_mut()
    }

    /// Runs `f` on the table, inside its biased lock. `f` must not do I/O (I5).
    #[inline]
    pub(crate) fn table<R>(&mut self, f: impl FnOnce(&mut Table) -> R) -> R {
        self.own_table.as_mut().expect("the table is there until the drop").with(f)
    }

    /// The part of `len` bytes at `offset` that lies in the page of `offset`.
    pub(crate) fn span(&self, offset: u64, len: usize) -> Span {
        let page = self.pool.page_size;
        let at = low_bits(offset, page.trailing_zeros());
        Span { index: offset >> page.trailing_zeros(), at, part: len.min(page - at) }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.end_loan();
        self.tell_requested();
        if let Some(own) = self.own() {
            own.detach(); // the file is not read again, so its pages need not be cleared one by one
        }
        if !self.table(Table::retire) {
            // All but the first page, whose frame may stay with the table: the next buffer need not grow one again.
            let page_size = self.pool.page_size as u64;
            if self.len > page_size {
                self.truncate(page_size);
            }
            if !self.table(Table::retire) {
                self.truncate(0);
            }
        }
        if let Some(table) = self.own_table.take() {
            self.pool.close_table(table);
            private::close(&self.pool);
        }
    }
}
