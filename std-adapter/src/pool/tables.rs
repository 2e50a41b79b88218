//! The tables of buffers, from their opening to their end, and what a dropped buffer leaves for the next one.
//!
//! A table without pages is *kept* for another buffer: by the thread whose buffer it was, or for all threads.
//! The frame that it may have stays charged, and is taken back when memory is short: see
//! [`PoolState::drop_kept_tables`].
//!
//! Promises:
//!
//! - While memory is short, or awaited, threads keep no table.
//! - A pool without handles is kept by no thread.
//!
//! Held by: `tests/tests/pool_memory.rs`, `tests/tests/pool_stress.rs`, `tests/tests/told.rs`.

use crate::memory::frame_pool::Room;
use crate::pages::table::Table;
use crate::pool::leftover::Leftover;
use crate::pool::member::{Member, OwnTable};
use crate::pool::private;
use crate::pool::state::PoolState;
use crate::pool::thread_cache;
use crate::sync::{Arc, Ordering};

/// Counts a new buffer of a shared pool, and returns a cached table for it if there is one. Otherwise it gets
/// one by [`open_table`](PoolState::open_table) when it needs one.
#[inline]
pub(crate) fn open_buffer(pool: &Arc<PoolState>) -> Leftover {
    if let Some(leftover) = thread_cache::take(pool).and_then(Leftover::enterable) {
        return leftover;
    }
    open_buffer_of_all(pool)
}

#[inline(never)]
fn open_buffer_of_all(pool: &Arc<PoolState>) -> Leftover {
    let table = pool.cached_table();
    if table.is_none() {
        pool.population.fetch_add(1, Ordering::Relaxed);
    }
    Leftover { table, pool: Arc::clone(pool) }
}

/// Takes what a dropped buffer leaves, to keep it for another or to drop it. Its table has no pages; it
/// may have one empty frame of 64 KiB at most. A table with a file of its own is dropped, since the
/// file cannot be unset.
pub(crate) fn close_buffer(leftover: Leftover) {
    let Leftover { table, pool } = &leftover;
    let Some(table) = table else { return close_without_table(leftover) };
    table.unlocked().usage.reset();
    let room = pool.frames.room();
    if table.unlocked().own().is_some() || room == Room::Over {
        drop_leftover(leftover);
    } else if pool.registry.is_none() {
        private::close(leftover);
    } else if room == Room::Ample {
        if let Some(leftover) = keep_by_thread(leftover) {
            keep_in_place_of_another(leftover);
        }
    } else {
        cache_for_all(leftover);
    }
}

/// Keeps a table for the thread's next buffer, or returns it: if its place has something, or something speaks
/// against it. A thread that lowers the flag or begins to wait recalls what is kept, after that.
#[inline]
fn keep_by_thread(leftover: Leftover) -> Option<Leftover> {
    let seen = thread_cache::recalls(); // first
    if !leftover.pool.may_be_kept_by_thread() {
        return Some(leftover);
    }
    leftover.pool.note_kept_table();
    thread_cache::put(leftover, seen)
}

#[cold]
fn close_without_table(leftover: Leftover) {
    if leftover.pool.registry.is_none() {
        private::close(leftover);
    } else {
        leftover.pool.population.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cold]
fn drop_leftover(leftover: Leftover) {
    let pool = Arc::clone(&leftover.pool);
    if let Some(table) = &leftover.table {
        pool.drop_table(table);
    }
    drop(leftover);
    pool.tell_waiters();
}

#[cold]
fn keep_in_place_of_another(leftover: Leftover) {
    if !leftover.pool.may_be_kept_by_thread() {
        return cache_for_all(leftover);
    }
    let other = thread_cache::make_room();
    // No foreign code in between, such as a waker, which may drop a buffer too.
    let is_ample = leftover.pool.frames.room() == Room::Ample;
    let refused = if is_ample { keep_by_thread(leftover) } else { Some(leftover) };
    for leftover in [refused, other].into_iter().flatten() {
        cache_for_all(leftover);
    }
}

/// Keeps a table without pages for a buffer of any thread, or drops it if there are enough.
#[inline(never)]
fn cache_for_all(leftover: Leftover) {
    let Leftover { table: Some(table), pool } = leftover else { return };
    let held = table.unlocked().usage.memory.used();
    // Its pages have woken the waiters already. What is left is the frame of the table, if there is one.
    if let Some(table) = pool.table_cache.push(table) {
        pool.drop_table(&table);
        drop(table);
        pool.tell_waiters();
    } else if held > 0 {
        // Noted now, and not before it is kept, which would be an atomic exchange more for each small body.
        pool.note_kept_table();
        pool.disk.quota().wake_waiters();
    }
}

impl PoolState {
    /// A cached table that can be entered.
    #[inline]
    fn cached_table(&self) -> Option<OwnTable> {
        let cached = self.table_cache.pop()?;
        if cached.check().is_ok() {
            return Some(cached);
        }
        std::mem::forget(cached);
        None
    }

    /// A table for a buffer that has none: a cached one, or a new one that is now registered. `None`
    /// if there is no memory.
    #[cold]
    pub(crate) fn open_table(&self) -> Option<OwnTable> {
        let kept = || thread_cache::take(self).and_then(Leftover::enterable)?.table;
        if let Some(cached) = kept().or_else(|| self.cached_table()) {
            self.population.fetch_sub(1, Ordering::Relaxed);
            return Some(cached);
        }
        let (table, member) = (Table::new(self.page_size), Member::new());
        let Some(registry) = &self.registry else { return OwnTable::private(table, member) };
        let table = OwnTable::new(table, member)?;
        registry.register(&table);
        Some(table)
    }

    /// Unregisters the table of a reader, which has no page and counts as no buffer.
    pub(crate) fn close_reader(&self, table: &OwnTable) {
        if let Some(registry) = &self.registry {
            registry.unregister(table);
        }
    }

    fn drop_table(&self, table: &OwnTable) {
        self.population.fetch_sub(1, Ordering::Relaxed);
        if let Some(registry) = &self.registry {
            registry.unregister(table);
        }
    }

    /// Whether a thread may keep a table, if there is memory: not while a waiter misses some, and not without
    /// handles.
    #[inline]
    fn may_be_kept_by_thread(&self) -> bool {
        self.disk.quota().waiting() == 0 && self.handles.load(Ordering::Relaxed) > 0
    }

    /// Notes that a table is kept, so that it is looked for.
    #[inline]
    fn note_kept_table(&self) {
        if !self.has_kept_tables.load(Ordering::Relaxed) {
            self.has_kept_tables.store(true, Ordering::Relaxed);
        }
    }

    /// Drops all kept tables, if any were noted. Returns whether that freed any memory. A buffer calls this
    /// for each page that it has no memory for.
    #[inline]
    pub(crate) fn drop_kept_tables(&self) -> bool {
        self.has_kept_tables.load(Ordering::Relaxed) && self.drop_all_kept_tables()
    }

    pub(crate) fn drop_all_kept_tables(&self) -> bool {
        self.has_kept_tables.store(false, Ordering::Relaxed);
        let mut bytes = 0;
        let kept = thread_cache::take_all(self).filter_map(|leftover| leftover.table);
        for table in self.table_cache.drain().chain(kept) {
            bytes += table.unlocked().usage.memory.used();
            self.drop_table(&table);
        }
        bytes > 0
    }

    /// Notes that the last handle is gone, so that no thread keeps the pool.
    pub(crate) fn end(&self) {
        for leftover in thread_cache::take_all(self) {
            cache_for_all(leftover);
        }
    }

    /// Frees the memory that no buffer uses, and gives the blocks of freed slots back to the file system.
    pub(crate) fn trim(&self) {
        self.drop_all_kept_tables();
        if let Some(registry) = &self.registry {
            registry.trim();
        }
        private::trim();
        self.frames.trim();
        self.disk.trim_again();
        self.tell_waiters();
    }

    /// The number of buffers, and of tables that threads keep. May be out of date at once.
    pub(crate) fn buffers(&self) -> usize {
        let population = usize::try_from(self.population.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        population.saturating_sub(self.table_cache.len())
    }
}
