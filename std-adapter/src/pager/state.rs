//! What a buffer is made of: its table, its pool, and the position of its last access.

use crate::disk::own_file::OwnFile;
use crate::observe::stats::{BufferStats, IoCounts};
use crate::pager::loan::Loan;
use crate::pager::span::Span;
use crate::pager::wait_state::Patience;
use crate::pages::table::{Table, low_bits};
use crate::pages::usage::Account;
use crate::pool::member::OwnTable;
use crate::pool::state::Core;
use crate::pool::table_cache::Kept;
use crate::sync::Arc;

#[derive(Debug)]
pub(crate) struct Pager {
    /// There until the drop.
    pub(crate) kept: Option<Kept>,
    pub(crate) core: Arc<Core>,
    pub(crate) len: u64,
    /// Where the last access that missed the window ended.
    pub(crate) last_end: u64,
    /// Made when it is needed, since of many small buffers each byte counts.
    rare: Option<Box<Rare>>,
}

/// What a buffer needs that has lent a chunk, or that has spilled.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    pub(crate) loan: Option<Box<Loan>>,
    pub(crate) io: IoCounts,
    pub(crate) patience: Option<Box<Patience>>,
}

impl Pager {
    #[inline]
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Pager { kept: Some(core.open_table()), core, len: 0, last_end: 0, rare: None }
    }

    pub(crate) fn stats(&self) -> BufferStats {
        let account = self.account();
        BufferStats {
            bytes_resident: account.memory.taken(),
            bytes_spilled: account.disk.taken(),
            spills: account.spills(),
            io: self.rare.as_ref().map_or_else(IoCounts::default, |rare| rare.io),
        }
    }

    /// Sets limits below the pool's. Only for an empty buffer.
    pub(crate) fn limit(&mut self, memory: u64, disk: u64) {
        debug_assert_eq!(self.len, 0);
        self.account().memory.set_limit(memory);
        self.account().disk.set_limit(disk);
        // It may have started with a frame of the buffer before.
        if self.account().memory.taken() > memory {
            self.truncate(0);
        }
    }

    pub(crate) fn own_table(&self) -> &OwnTable {
        &self.kept.as_ref().expect("the table is there until the drop").table
    }

    pub(crate) fn account(&self) -> &Account {
        &self.own_table().beside().account
    }

    /// The file of its own that the buffer spills to, if it has one.
    pub(crate) fn own(&self) -> Option<&Arc<OwnFile>> {
        self.own_table().beside().own()
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(crate) fn rare_ref(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    pub(crate) fn rare_if_any(&mut self) -> Option<&mut Rare> {
        self.rare.as_deref_mut()
    }

    #[inline]
    pub(crate) fn table<R>(&mut self, f: impl FnOnce(&mut Table) -> R) -> R {
        self.kept.as_mut().expect("the table is there until the drop").table.with(f)
    }

    /// The part of `len` bytes at `offset` that lies in one page.
    pub(crate) fn span(&self, offset: u64, len: usize) -> Span {
        let page = self.core.page_size;
        let at = low_bits(offset, page.trailing_zeros());
        Span { index: offset >> page.trailing_zeros(), at, part: len.min(page - at) }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.end_loan();
        if let Some(own) = self.own() {
            own.let_go(); // nobody will look at it any more: no use in clearing it page by page
        }
        if !self.table(Table::retire) {
            self.truncate(0);
        }
        if let Some(kept) = self.kept.take() {
            self.core.close_table(kept);
        }
    }
}
