//! Pools for one buffer each, and a cache of those whose buffer is gone.
//!
//! A buffer with a memory limit of its own has a pool of its own. To make one takes seven allocations, which
//! is fourteen times what a body of 100 bytes costs otherwise. So the pool of a dropped buffer is kept for
//! the next one, with the buffer's table, and with the frame that the table kept: by the thread, and what it
//! cannot keep by all threads together.
//!
//! Promises:
//!
//! - A pool that is used again is as new: nothing was ever spilled in it, and its limit is the new buffer's.
//! - A buffer that is emptied leaves a pool with a file for a new one, so that the file is closed.
//! - The process keeps at most 64 such pools of each page size, with 512 KiB of frames, beside the last one
//!   of each and those of threads.
//! - No two buffers share one at a time.
//!
//! Of the kind of a file that outlives its use: that of a shared pool stays open, one for all its buffers,
//! and `SpillPool::trim` frees its blocks; that of a buffer made for a target stays until the buffer is
//! dropped, with no blocks, since the target may still come of it.
//!
//! Held by: the tests below, `tests/tests/pool_memory.rs`, `tests/tests/resident_memory.rs`,
//! `tests/tests/leftovers.rs`.

use crate::pool::cache::{Cache, Reusable};
use crate::pool::leftover::Leftover;
use crate::pool::state::{PAGE_SIZE_CHOSEN_MIN, PAGE_SIZE_DEFAULT, PoolState, fitting_page_size};
use crate::pool::thread_cache;
use crate::sync::{Arc, Ordering};

/// The page sizes that a pool for one buffer may have: powers of two.
const PAGE_SIZES: usize = (PAGE_SIZE_DEFAULT.ilog2() - PAGE_SIZE_CHOSEN_MIN.ilog2() + 1) as usize;

/// A pool with a lower limit is not kept: the frame that its table keeps, up to a page, may be more than the
/// limit of the next buffer. From here on, sixteen pages are less.
const KEPT_LIMIT_MIN: usize = 16 * PAGE_SIZE_CHOSEN_MIN;

/// The pools of buffers that are gone, by page size. Not in models: what is kept would pass from one
/// execution to the next.
#[cfg(not(overspill_loom))]
static CACHES: [Cache<Leftover>; PAGE_SIZES] = [const { Cache::new(64, 1 << 19) }; PAGE_SIZES];

/// Held by each test that asks for a kept pool, or drops all of them.
#[cfg(all(test, not(overspill_loom)))]
pub(crate) static ALONE: crate::sync::Mutex<()> = crate::sync::Mutex::new(());

impl Reusable for Leftover {
    fn frame_bytes(&self) -> u64 {
        Leftover::frame_bytes(self)
    }
}

/// The index of the page size of pools with a memory limit of `memory` bytes, if they are kept.
fn class(memory: usize) -> Option<usize> {
    let class = (fitting_page_size(memory) / PAGE_SIZE_CHOSEN_MIN).ilog2() as usize;
    Some(class).filter(|class| memory >= KEPT_LIMIT_MIN && *class < PAGE_SIZES)
}

fn cache(class: usize) -> Option<&'static Cache<Leftover>> {
    #[cfg(not(overspill_loom))]
    return CACHES.get(class);
    #[cfg(overspill_loom)]
    return None.filter(|_| class < PAGE_SIZES);
}

/// A pool for one buffer, with a memory limit of `memory` bytes, and a table if one was kept with it.
#[inline]
pub(crate) fn open(memory: usize) -> Leftover {
    let kept = class(memory).and_then(|class| thread_cache::take_private(class + 1).or_else(|| pop(class)));
    if let Some(leftover) = kept.and_then(Leftover::enterable)
        // Not of the process from which this one was forked, in which nobody waits.
        && !leftover.pool.disk.quota().is_inherited()
    {
        if leftover.pool.frames.budget().limit() != memory as u64 {
            leftover.pool.frames.set_limit(memory as u64);
        }
        return leftover;
    }
    let pool = PoolState::private(memory);
    pool.population.fetch_add(1, Ordering::Relaxed);
    Leftover { table: None, pool: Arc::new(pool) }
}

/// Keeps what a dropped buffer leaves for the next one, if nothing was ever spilled in its pool, and nothing
/// of that is lent or in use.
#[inline]
pub(crate) fn close(leftover: Leftover) {
    let pool = &leftover.pool;
    // Clones of the buffer, and readers of what it was frozen to, may be in it still.
    if Arc::strong_count(pool) == 1
        && pool.disk.quota().high_water() == 0
        && pool.lent.get() == 0 // or the next buffer would have less memory than its limit
        && let Ok(memory) = usize::try_from(pool.frames.budget().limit())
        && let Some(class) = class(memory)
        && let Some(leftover) = thread_cache::put_private(class + 1, leftover)
    {
        put_in_place_of_another(class, leftover);
    }
}

#[cold]
fn put_in_place_of_another(class: usize, leftover: Leftover) {
    let other = thread_cache::make_private_room();
    let left = [thread_cache::put_private(class + 1, leftover), other];
    left.into_iter().flatten().for_each(push);
}

fn pop(class: usize) -> Option<Leftover> {
    cache(class).and_then(Cache::pop)
}

/// Keeps it for any thread, if there is room.
fn push(leftover: Leftover) {
    let memory = usize::try_from(leftover.pool.frames.budget().limit()).ok();
    if let Some(cache) = memory.and_then(class).and_then(cache) {
        drop(cache.push(leftover));
    }
}

/// A pool as new in place of `pool`, which its buffer leaves with its table. `None` unless that is a pool for
/// one buffer, has a file, and nothing in it.
pub(crate) fn renewed(pool: &PoolState) -> Option<Arc<PoolState>> {
    let quota = pool.disk.quota();
    if pool.registry.is_some() || quota.high_water() == 0 || quota.used() > 0 {
        return None;
    }
    let memory = usize::try_from(pool.frames.budget().limit()).unwrap_or(usize::MAX);
    let renewed = PoolState::private(memory);
    renewed.population.fetch_add(1, Ordering::Relaxed);
    Some(Arc::new(renewed))
}

/// Drops all pools that are kept.
pub(crate) fn trim() {
    for class in 0..PAGE_SIZES {
        drop(thread_cache::take_all_private(class + 1));
        if let Some(cache) = cache(class) {
            drop(cache.drain());
        }
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::api::buffer::SpillBuffer;
    use std::io::{Read, Seek, Write};

    /// The address of the pool of a buffer.
    fn pool_of(buffer: &SpillBuffer) -> *const PoolState {
        Arc::as_ptr(&buffer.pager.pool)
    }

    /// Other tests use the cache too, so this needs a page size of its own: that of 100,000 bytes is 4 KiB,
    /// of 140,000 it is 8 KiB.
    const LIMIT: usize = 140_000;

    /// It asked for the pool of the buffer before; another test, which drops all that are kept, now
    /// and then came between.
    #[test]
    fn a_pool_is_used_again_with_the_limit_of_the_next_buffer_and_none_of_its_bytes() {
        let _alone = ALONE.lock(); // poisoned or not
        let mut first = SpillBuffer::with_budget(LIMIT);
        first.write_all(&[7; 5000]).unwrap();
        let pool = pool_of(&first);
        drop(first);

        let mut second = SpillBuffer::with_budget(LIMIT + 1);
        assert_eq!(pool_of(&second), pool);
        assert_eq!(second.pager.pool.frames.budget().limit(), LIMIT as u64 + 1);
        assert_eq!((second.len(), second.stats().spills), (0, 0));
        second.set_len(5000).unwrap();
        let mut bytes = Vec::new();
        second.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 5000], "holes, whatever the frame has");
        let third = SpillBuffer::with_budget(LIMIT);
        assert_ne!(pool_of(&third), pool, "it is in use");

        second.rewind().unwrap();
        second.write_all(&vec![8; 2 * LIMIT]).unwrap();
        assert!(second.is_spilled());
        let _address = Arc::clone(&second.pager.pool); // no other pool can have it meanwhile
        drop(second);
        assert_ne!(pool_of(&SpillBuffer::with_budget(LIMIT)), pool, "it has a file");
    }
}
