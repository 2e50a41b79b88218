//! A window on what a buffer shares with its clones, for a pass of small reads while memory is short.
//!
//! A whole page of that is copied only while memory is spare. Otherwise the buffer reads what it shares as a
//! reader of frozen content does, by a [`Reader`] of its own: with a window as long as the fair share allows.
//! Without one, each read of 10 bytes was a call of the store, or loaded a page below.
//!
//! Promises:
//!
//! - What the window has is what the base has: it is asked only where the page is a hole, and before the end
//!   of the base; and it is gone once the base is another.
//! - The window and the buffer's own frames keep the buffer's own memory limit, and that of a pool for one
//!   buffer: the window makes way for them.
//!
//! Held by: the tests below, `tests/tests/many_readers.rs`, `tests/tests/clones.rs`.

use crate::disk::store_access;
use crate::error::SpillError;
use crate::pager::base::{Base, Leaving};
use crate::pager::reader::{Filling, Reader};
use crate::pager::span::Direction;
use crate::pager::state::Pager;
use crate::pool::state::PoolState;
use crate::sync::Arc;
use crate::try_box::TryBox;

/// The base of a buffer of a pool.
struct InBase<'a> {
    base: &'a Base,
    pool: &'a PoolState,
}

impl Filling for InBase<'_> {
    fn len(&self) -> u64 {
        self.base.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        if offset < self.base.len() && !buf.is_empty() { self.base.read_at(offset, buf) } else { Ok(0) }
    }

    fn make_room(&self, len: usize) -> bool {
        self.base.make_room(len, Leaving::Clean, self.pool)
    }

    fn address_of(&self, _: u64) -> Option<usize> {
        None // a source has a lock, which a read would take for this alone
    }
}

impl Pager {
    /// Reads all of `buf`, which lies in the base and in one page, from the window on it, if that has it.
    pub(crate) fn read_window_below(&mut self, offset: u64, buf: &mut [u8]) -> bool {
        let below = self.cold_if_any().and_then(|cold| cold.below.as_deref_mut());
        below.is_some_and(|below| below.read_window(&mut { offset }, buf))
    }

    /// Reads at least one byte of `buf`, which is not empty, lies in the base and in one page, and is a part
    /// of a pass of small reads: through the window on the base if there is memory for one.
    pub(crate) fn read_below(
        &mut self,
        offset: u64,
        buf: &mut [u8],
        direction: Direction,
    ) -> Result<usize, SpillError> {
        // A thread that must not read from the store would lose its window.
        if store_access::is_resident_only() {
            return self.read_base(offset, buf);
        }
        let (memory, pool) = (&self.usage().memory, Arc::clone(&self.pool));
        let most = usize::try_from(memory.limit().saturating_sub(memory.used())).unwrap_or(usize::MAX);
        let Some(cold) = self.cold_if_any() else { return self.read_base(offset, buf) };
        let Some(base) = &cold.base else { return self.read_base(offset, buf) };
        if cold.below.is_none() {
            cold.below = TryBox::new(Reader::new(Arc::clone(&pool), 0));
        }
        match cold.below.as_deref_mut() {
            Some(below) => {
                let piece = offset..offset.saturating_add(buf.len() as u64);
                below.go_on(piece, direction, base.len(), most);
                below.read(&InBase { base, pool: &pool }, offset, buf)
            }
            None => base.read_at(offset, buf),
        }
    }

    /// Lets go of the window on the base, because that becomes another, or is not read by the buffer any
    /// more.
    pub(crate) fn leave_window_below(&mut self) {
        if let Some(cold) = self.cold_if_any() {
            cold.below = None;
        }
    }

    /// Gives back the frame of the window on the base, if that takes of what the buffer's own pages may have.
    /// Those that wait are told at the end of the operation.
    #[inline]
    pub(crate) fn give_up_window_below(&mut self) {
        let is_bound = self.pool.registry.is_none()
            || self.usage_if_any().is_some_and(|usage| usage.memory.limit() < u64::MAX);
        if is_bound && let Some(below) = self.cold_if_any().and_then(|cold| cold.below.as_deref_mut()) {
            below.give_up_window();
        }
    }

    /// Bytes of memory that the window on the base takes.
    pub(crate) fn bytes_below(&self) -> u64 {
        self.cold_ref().and_then(|cold| cold.below.as_deref()).map_or(0, Reader::memory_used)
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use crate::api::buffer::SpillBuffer;
    use crate::api::pool::SpillPool;
    use crate::disk::memory_store::MemoryStore;
    use std::io::{Read, Seek, SeekFrom, Write};

    const PAGE: usize = 64 << 10;
    const LEN: usize = 3 * PAGE + 1000;

    fn bytes(len: usize, salt: usize) -> Vec<u8> {
        (0..len).map(|at| (at ^ (at >> 8) ^ salt).to_le_bytes()[0]).collect()
    }

    /// `buffer` with `model` in it, which came in small pieces.
    fn written(mut buffer: SpillBuffer, model: &[u8]) -> SpillBuffer {
        model.chunks(1000).for_each(|piece| buffer.write_all(piece).unwrap());
        buffer
    }

    /// A clone of a buffer with `model`, and others in the same pool, which has little memory: so it reads by
    /// a window on its base.
    fn clone_in_little_memory(model: &[u8]) -> (SpillPool, SpillBuffer, Vec<SpillBuffer>) {
        let pool = SpillPool::builder().memory(4 * PAGE).store(MemoryStore::new()).build().unwrap();
        let mut others: Vec<_> = (0..16).map(|_| written(pool.buffer(), model)).collect();
        let mut clone = others[0].try_clone().unwrap();
        clone.rewind().unwrap();
        (pool, clone, others)
    }

    fn read_on(buffer: &mut SpillBuffer, model: &[u8], count: usize) {
        for _ in 0..count {
            let (at, mut piece) = (usize::try_from(buffer.position()).unwrap(), [0; 70]);
            let n = buffer.read(&mut piece).unwrap();
            assert!(n == 70 || at + n == model.len(), "{n} bytes at {at}");
            assert!(piece[..n] == model[at..at + n], "{n} bytes at {at}");
        }
    }

    fn overwrite(buffer: &mut SpillBuffer, model: &mut Vec<u8>, at: usize, new: &[u8]) {
        let position = buffer.position();
        buffer.write_all_at(new, at as u64).unwrap();
        buffer.seek(SeekFrom::Start(position)).unwrap();
        model.resize(model.len().max(at + new.len()), 0);
        model[at..at + new.len()].copy_from_slice(new);
    }

    /// What the window has is not shown once the buffer has written there, or was cloned again.
    #[test]
    fn the_window_below_shows_what_the_buffer_has() {
        for salt in 0..3 {
            let mut model = bytes(LEN, salt);
            let (pool, mut clone, others) = clone_in_little_memory(&model);
            read_on(&mut clone, &model, 10);
            assert!(clone.pager.bytes_below() > 0, "it reads by the window");
            // Written to right behind the position: the page is the buffer's own then.
            overwrite(&mut clone, &mut model, 710, &[1; 30]);
            read_on(&mut clone, &model, 10);
            // And cloned: what it shares then has the same page.
            let mut second = clone.try_clone().unwrap();
            assert_eq!(clone.pager.bytes_below(), 0, "that was a window on another base");
            read_on(&mut clone, &model, 30);
            read_on(&mut second, &model, 30);
            clone.clear();
            assert_eq!(clone.pager.bytes_below(), 0);
            overwrite(&mut clone, &mut Vec::new(), 0, &[9; 5000]);
            clone.rewind().unwrap();
            read_on(&mut clone, &[9; 5000], 72);
            second.rewind().unwrap();
            read_on(
                &mut second,
                &[&bytes(710, salt)[..], &[1; 30][..], &bytes(LEN, salt)[740..]].concat(),
                LEN / 70,
            );
            clone.check_invariants();
            second.check_invariants();
            pool.check_invariants();
            let frozen = second.freeze();
            drop((frozen, clone, others));
            pool.trim();
            let stats = pool.stats();
            assert_eq!((stats.buffers, stats.memory_used, stats.disk_used), (0, 0, 0));
        }
    }

    /// What was cut off is zeros once the buffer has grown again, though the window has it yet.
    #[test]
    fn the_window_below_shows_nothing_that_was_cut_off() {
        for salt in 0..3 {
            let mut model = bytes(LEN, salt);
            let (pool, mut clone, _others) = clone_in_little_memory(&model);
            read_on(&mut clone, &model, 10);
            for cut in [2050, 1700, 1000] {
                assert!(clone.pager.bytes_below() > 0, "it reads by the window");
                clone.set_len(cut).unwrap();
                model.truncate(usize::try_from(cut).unwrap());
                clone.set_len(LEN as u64).unwrap();
                model.resize(LEN, 0);
                read_on(&mut clone, &model, 40);
                clone.rewind().unwrap();
                read_on(&mut clone, &model, 10);
            }
            clone.check_invariants();
            pool.check_invariants();
        }
    }

    /// The window counts towards the memory limit of its buffer, and makes way for the buffer's own pages.
    #[test]
    fn the_window_below_keeps_the_limit_of_the_buffer() {
        for limit in [0, 100, 4096, 10_000, PAGE] {
            let pool = SpillPool::builder().memory(4 * PAGE).store(MemoryStore::new()).build().unwrap();
            let mut model = bytes(LEN, 0);
            let _others: Vec<_> = (0..16).map(|_| written(pool.buffer(), &model)).collect();
            let mut buffer = written(pool.buffer_builder().memory(limit).build(), &model);
            let mut clone = buffer.try_clone().unwrap();
            clone.rewind().unwrap();
            let mut most = 0;
            for round in 0..100 {
                read_on(&mut clone, &model, 20);
                most = most.max(clone.pager.bytes_below());
                assert!(clone.stats().memory_used <= limit as u64, "{limit}: {}", clone.stats().memory_used);
                if round % 4 == 3 {
                    overwrite(&mut clone, &mut model, round * 1900, &[7; 10]);
                    assert!(
                        clone.stats().memory_used <= limit as u64,
                        "{limit}: {}",
                        clone.stats().memory_used
                    );
                }
            }
            assert!(most > 0 || limit < 256, "it reads by the window");
            clone.check_invariants();
        }
    }

    /// A table comes with the frame of the buffer that has left it, which may be longer than what the limit
    /// has left for a window.
    #[test]
    fn a_frame_that_the_table_came_with_keeps_the_limit_too() {
        const PAGE: usize = 16 << 10;
        let builder = SpillPool::builder().memory(64 * PAGE).page_size(PAGE).store(MemoryStore::new());
        let pool = builder.build().unwrap();
        let mut model = bytes(3 * PAGE + 100, 0);
        let mut buffer = pool.buffer_builder().memory(PAGE + 1500).build();
        buffer.write_all(&model).unwrap();
        let mut clone = buffer.try_clone().unwrap();
        overwrite(&mut clone, &mut model, PAGE, &[7; 10]);
        pool.buffer().write_all(&[1; PAGE]).unwrap();
        clone.seek(SeekFrom::Start(2 * PAGE as u64)).unwrap();
        for _ in 0..60 {
            read_on(&mut clone, &model, 1);
            assert!(clone.stats().memory_used <= PAGE as u64 + 1500, "{:?}", clone.stats());
        }
        assert!(clone.stats().memory_used > PAGE as u64, "it has a page, and reads by the window");
    }
}
