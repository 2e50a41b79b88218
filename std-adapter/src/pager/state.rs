//! What a buffer is made of: its table, its pool, and the position of its last access.

use crate::disk::own_file::OwnFile;
use crate::observe::stats::{BufferStats, IoCounts};
use crate::pager::loan::Loan;
use crate::pager::span::Span;
use crate::pager::wait_state::WaitState;
use crate::pages::table::{Table, low_bits};
use crate::pages::usage::Usage;
use crate::pool::member::OwnTable;
use crate::pool::state::PoolState;
use crate::pool::table_cache::RegisteredTable;
use crate::sync::Arc;

#[derive(Debug)]
pub(crate) struct Pager {
    /// There until the drop.
    pub(crate) registered: Option<RegisteredTable>,
    pub(crate) pool: Arc<PoolState>,
    pub(crate) len: u64,
    /// Where the last access that missed the window ended.
    pub(crate) last_end: u64,
    /// Made when it is needed, since of many small buffers each byte counts.
    cold: Option<Box<ColdState>>,
}

/// What a buffer needs that has lent a chunk, or that has spilled.
#[derive(Debug, Default)]
pub(crate) struct ColdState {
    pub(crate) loan: Option<Box<Loan>>,
    pub(crate) io: IoCounts,
    pub(crate) wait_state: Option<Box<WaitState>>,
}

impl Pager {
    #[inline]
    pub(crate) fn new(pool: Arc<PoolState>) -> Self {
        Pager { registered: Some(pool.open_table()), pool, len: 0, last_end: 0, cold: None }
    }

    pub(crate) fn stats(&self) -> BufferStats {
        let usage = self.usage();
        BufferStats {
            memory_used: usage.memory.used(),
            disk_used: usage.disk.used(),
            spills: usage.spills(),
            io: self.cold.as_ref().map_or_else(IoCounts::default, |cold| cold.io),
        }
    }

    /// Sets limits below the pool's. Only for an empty buffer.
    pub(crate) fn limit(&mut self, memory: u64, disk: u64) {
        debug_assert_eq!(self.len, 0);
        self.usage().memory.set_limit(memory);
        self.usage().disk.set_limit(disk);
        // It may have started with a frame of the buffer before.
        if self.usage().memory.used() > memory {
            self.truncate(0);
        }
    }

    pub(crate) fn own_table(&self) -> &OwnTable {
        &self.registered.as_ref().expect("the table is there until the drop").table
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.own_table().unlocked().usage
    }

    /// The file of its own that the buffer spills to, if it has one.
    pub(crate) fn own(&self) -> Option<&Arc<OwnFile>> {
        self.own_table().unlocked().own()
    }

    pub(crate) fn cold(&mut self) -> &mut ColdState {
        self.cold.get_or_insert_default()
    }

    pub(crate) fn cold_ref(&self) -> Option<&ColdState> {
        self.cold.as_deref()
    }

    pub(crate) fn cold_if_any(&mut self) -> Option<&mut ColdState> {
        self.cold.as_deref_mut()
    }

    #[inline]
    pub(crate) fn table<R>(&mut self, f: impl FnOnce(&mut Table) -> R) -> R {
        self.registered.as_mut().expect("the table is there until the drop").table.with(f)
    }

    /// The part of `len` bytes at `offset` that lies in one page.
    pub(crate) fn span(&self, offset: u64, len: usize) -> Span {
        let page = self.pool.page_size;
        let at = low_bits(offset, page.trailing_zeros());
        Span { index: offset >> page.trailing_zeros(), at, part: len.min(page - at) }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.end_loan();
        if let Some(own) = self.own() {
            own.detach(); // nobody will look at it any more: no use in clearing it page by page
        }
        if !self.table(Table::retire) {
            self.truncate(0);
        }
        if let Some(registered) = self.registered.take() {
            self.pool.close_table(registered);
        }
    }
}
