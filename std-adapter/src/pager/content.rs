//! Content that several handles read at once, and that one may append to: a pager behind a lock.
//!
//! Promises:
//!
//! - What one handle reads never moves another's position, nor its window, nor shows in its errors. A load
//!   that failed in one is tried again by the next.
//! - The lock is held while few bytes are copied and pages change their state, and not while many are copied,
//!   a whole page is read from the store, or a long read goes past the frames; with checksums it is held for
//!   reads of the store too.
//! - A page that several readers miss at once is read from the store once.
//! - I4: the bytes that a read returns never depend on where they were.
//! - Foreign code never runs with the lock held, but for the store.
//!
//! # Why a slot can be read without the lock
//!
//! A page that is complete is not written to any more. So once it is spilled it has all its bytes in its
//! slot, and keeps that slot: a load leaves it with the page, an eviction finds the page clean, and it is
//! freed with the content, or when every reader has consumed it. The page that content is appended to is
//! read with the lock held.
//!
//! Held by: `tests/tests/frozen.rs`, `tests/tests/spool.rs`, `tests/tests/reader_faults/`,
//! `std-adapter/src/models/content.rs` (loom).

use crate::disk::backing::Backing;
use crate::disk::own_file::OwnFile;
use crate::disk::store_access;
use crate::disk::transfer;
use crate::error::{SpillError, StoreOperation};
use crate::foreign::{as_far_as, hold_back};
use crate::observe::counters::IoPath;
use crate::observe::stats::IoCounts;
use crate::pager::base::{Base, Leaving};
use crate::pager::descent::Descent;
use crate::pager::finished::FinishedPages;
#[cfg(any(feature = "bytes", feature = "tokio"))]
use crate::pager::lent_page::LentPages;
use crate::pager::load::Load;
use crate::pager::reader::Filling;
use crate::pager::span::Origin;
use crate::pager::state::Pager;
#[cfg(feature = "tokio")]
use crate::pager::tail::Tail;
use crate::pages::resident::Resident;
use crate::pool::state::PoolState;
use crate::sync::fork::{Forked, Lock};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Condvar, MutexGuard, Ordering, spin_until};

/// The content of a frozen buffer, or of a spool.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) pool: Arc<PoolState>,
    /// The file that the pages are in instead of the pool's store, if they are.
    own: Option<Arc<OwnFile>>,
    /// What lies below the pages, and is read without the lock.
    pub(crate) base: Option<Base>,
    /// Bytes of content. Written with the state locked, once they are there.
    pub(crate) len: AtomicU64,
    pub(crate) state: Lock<State>,
    /// Signalled when a load has ended.
    loaded: Condvar,
    /// Handles that read, each in its own order.
    readers: AtomicUsize,
    /// A writer appends to it, or did.
    pub(crate) grows: bool,
    /// Where what every reader has consumed ends, noted by a reader that found the lock taken; 0 if there is
    /// nothing to free.
    pub(crate) noted_consumed: AtomicU64,
    /// Where the last piece ended that was asked for to be lent.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) lent_to: AtomicU64,
    #[cfg(feature = "tokio")]
    pub(crate) tail: Tail,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) pager: Pager,
    /// The indices of pages that are being read from the store. They are spilled meanwhile.
    pub(crate) loading: Vec<u64>,
    /// Threads that block until a load has ended.
    load_waiters: usize,
    pub(crate) finished_pages: FinishedPages,
    /// Content may still be appended.
    pub(crate) is_open: bool,
    /// Whole pages at the beginning, in bytes, that every reader has consumed: nothing before this is read,
    /// and the pages are discarded, or will be from `first_kept` on.
    pub(crate) freed: u64,
    /// The first page that was not discarded: one before the end of `freed` was in transit.
    pub(crate) first_kept: u64,
    /// Bytes at the beginning that every reader has consumed, with those that are in the tail yet.
    pub(crate) consumed_by_all: u64,
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) lent: LentPages,
}

/// Bytes that are copied from a page without the lock, from here on: fewer take no longer than it
/// takes to share the page.
const COPIED_ALONE_MIN: usize = 4 << 10;

/// What a read has to do next.
enum Step {
    /// So many bytes are there.
    Done(usize),
    /// So many bytes are to be read from this offset of the store on.
    Direct { offset: u64, len: usize },
    /// The page is to be read into the frame.
    Load(Load),
    /// So many bytes are to be copied from this offset of the page on.
    Copy { page: Arc<Resident>, at: usize, len: usize },
    /// Another thread reads the page from the store.
    Wait { index: u64 },
    /// Up to so many bytes are to be read from the base.
    Base { len: usize },
}

impl State {
    /// In a forked process, which has none of the threads that were loading pages.
    fn adopt(&mut self) {
        self.loading.clear();
        self.load_waiters = 0;
    }

    /// Reads from the page of `offset`, or says how to. `buf` is not empty and ends before the end of the
    /// content. There are so many `readers`.
    fn step(&mut self, offset: u64, buf: &mut [u8], readers: usize) -> Result<Step, SpillError> {
        self.check_kept(offset)?;
        let want =
            buf.len().min(usize::try_from(self.pager.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        let buf = &mut buf[..want];
        let complete = want.min(self.complete_from(offset));
        self.pager.keep_limit();
        let span = self.pager.span(offset, buf.len());
        let out = &mut buf[..span.part];
        let (page, access) = self.pager.access(offset, span, want).inspect_err(|_| self.end_step())?;
        let pager = &mut self.pager;
        let step = match pager.origin(page, span) {
            // Before a frame is taken for a load.
            Origin::Slot { .. } if store_access::is_resident_only() => {
                Err(store_access::refuse(StoreOperation::Read, offset, 0))
            }
            Origin::Slot { .. } if complete == 0 => pager.peek(offset, out).map(Step::Done),
            Origin::Slot { .. } if pager.has_sums() => pager.read_shared(offset, out).map(Step::Done),
            Origin::Slot { slot, end } => {
                if self.loading.contains(&span.index) {
                    Ok(Step::Wait { index: span.index })
                } else if self.loading.try_reserve(1).is_ok()
                    && pager.table(|table| table.reserve_for_load(span.index))
                    && let Some(frame) =
                        pager.frame_to_load((span, end), access, readers, &mut self.finished_pages)
                {
                    self.loading.push(span.index);
                    Ok(Step::Load(Load { index: span.index, slot, end, frame }))
                } else {
                    let (offset, len) = pager.run_in_store(offset, complete);
                    Ok(Step::Direct { offset, len })
                }
            }
            Origin::Base => Ok(Step::Base { len: span.part }),
            Origin::Zeros => {
                out.fill(0);
                Ok(Step::Done(span.part))
            }
            Origin::Memory => {
                let is_long = complete.min(span.part) >= COPIED_ALONE_MIN;
                let shared = pager.table(|table| {
                    if is_long { table.share(span.index) } else { table.shared_page(span.index) }
                });
                match shared {
                    Some(page) if is_long => Ok(Step::Copy { page, at: span.at, len: span.part }),
                    Some(page) => {
                        page.read(span.at, out);
                        Ok(Step::Done(span.part))
                    }
                    None => pager.read_memory(offset, out).map(Step::Done),
                }
            }
        };
        let is_read = matches!(step, Ok(Step::Done(_) | Step::Copy { .. }));
        if readers > 1 && is_read && span.end() == pager.pool.page_size {
            self.finished_pages.note_end(span.index, readers);
        }
        self.end_step();
        step
    }

    fn end_step(&mut self) {
        self.pager.end_operation();
        if self.is_open {
            self.pager.last_end = self.pager.len; // it tells whether the writer goes on where it was
        }
    }

    /// How many bytes from `offset` on lie in pages that are not written to any more.
    pub(crate) fn complete_from(&self, offset: u64) -> usize {
        let page = self.pager.pool.page_size as u64;
        let end = if self.is_open { self.pager.len / page * page } else { u64::MAX };
        usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX)
    }

    /// An error if the byte at `offset` is gone.
    pub(crate) fn check_kept(&self, offset: u64) -> Result<(), SpillError> {
        if offset < self.freed {
            return Err(SpillError::Passed { position: offset, kept_from: self.freed });
        }
        Ok(())
    }

    /// Ends a load that a thread made for all, of which `is_read` says whether it has succeeded.
    fn end_load(&mut self, load: Load, is_read: bool) {
        self.loading.retain(|&other| other != load.index);
        self.pager.end_load(load, is_read);
    }
}

impl Content {
    /// The content of `pager`. If `is_open`, it may be appended to.
    pub(crate) fn new(mut pager: Pager, is_open: bool) -> Self {
        pager.end_loan();
        pager.leave_queue();
        pager.leave_window_below();
        pager.set_descent(Descent::default());
        Content {
            pool: Arc::clone(&pager.pool),
            own: pager.own().cloned(),
            base: pager.base().cloned(),
            len: AtomicU64::new(pager.len),
            state: Lock::new(State {
                pager,
                loading: Vec::new(),
                load_waiters: 0,
                finished_pages: FinishedPages::default(),
                is_open,
                freed: 0,
                first_kept: 0,
                consumed_by_all: 0,
                #[cfg(any(feature = "bytes", feature = "tokio"))]
                lent: LentPages::default(),
            }),
            loaded: Condvar::new(),
            readers: AtomicUsize::new(0),
            grows: is_open,
            noted_consumed: AtomicU64::new(0),
            #[cfg(any(feature = "bytes", feature = "tokio"))]
            lent_to: AtomicU64::new(0),
            #[cfg(feature = "tokio")]
            tail: Tail::default(),
        }
    }

    /// Bytes of the content.
    pub(crate) fn len(&self) -> u64 {
        // Acquire: with the Release of the writer. The bytes themselves are read with the lock.
        self.len.load(Ordering::Acquire)
    }

    /// Whether all of the content is there still, and none of it is lent.
    pub(crate) fn is_whole(&self) -> bool {
        let is_whole = self.locked(|state| {
            state.pager.table(|table| table.end_sharing());
            state.freed == 0 && state.pager.table(|table| table.shared.is_empty())
        });
        is_whole.unwrap_or_default()
    }

    /// The content for its last handle, to be written to again, which has asked whether it [is
    /// whole](Content::is_whole).
    pub(crate) fn into_pager(self) -> Pager {
        self.state.into_inner().expect("a lost state is not whole").pager
    }

    /// Runs `f` on the pager. What is to be told is told once the lock is released.
    pub(crate) fn with_pager<R>(&self, f: impl FnOnce(&mut Pager) -> R) -> Result<R, SpillError> {
        self.locked(|state| f(&mut state.pager))
    }

    /// Runs `f` on the state. An error if it is lost: see [`Lock`]; or if its table is.
    pub(crate) fn locked<R>(&self, f: impl FnOnce(&mut State) -> R) -> Result<R, SpillError> {
        let held_back = hold_back();
        let result = {
            let mut state = self.state()?;
            state.pager.check()?;
            f(&mut state)
        };
        self.free_what_is_noted();
        drop(held_back);
        self.pool.tell_waiters(); // what was held back may have freed memory
        Ok(result)
    }

    /// The state.
    pub(crate) fn state(&self) -> Result<MutexGuard<'_, State>, Forked> {
        self.state.lock_or_adopt(State::adopt)
    }

    /// The state, if no thread has it.
    pub(crate) fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        self.state.try_lock_or_adopt(State::adopt)
    }

    /// Whether an earlier process made it, from which this one was forked.
    pub(crate) fn is_inherited(&self) -> bool {
        self.state.is_inherited()
    }

    /// As [`locked`](Content::locked). On a thread that must not wait for a store, an error if another holds
    /// the lock for longer than a copy takes.
    pub(crate) fn locked_unless_busy<R>(
        &self,
        offset: u64,
        f: impl FnOnce(&mut State) -> R,
    ) -> Result<R, SpillError> {
        if !store_access::is_resident_only() {
            return self.locked(f);
        }
        let held_back = hold_back();
        let mut state = None;
        spin_until(|| {
            state = self.try_state();
            state.is_some()
        });
        let Some(mut state) = state else {
            return Err(store_access::refuse(StoreOperation::Read, offset, 0));
        };
        state.pager.check()?;
        let result = f(&mut state);
        drop(state);
        self.free_what_is_noted();
        drop(held_back);
        self.pool.tell_waiters();
        Ok(result)
    }

    /// Counts `count` handles that read.
    pub(crate) fn add_readers(&self, count: usize) {
        self.readers.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn remove_reader(&self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many handles read.
    pub(crate) fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    /// Fills `buf` from `offset` on, as far as the content reaches. Bytes that were read before an error are
    /// returned; the next call fails with it, if it still occurs.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let want = buf.len().min(usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX));
        as_far_as(want, |done| self.read_some(offset + done as u64, &mut buf[done..want]))
    }

    /// Reads at least one byte of `buf`, which is not empty and ends before the end of the content.
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let readers = self.readers();
        #[cfg(feature = "tokio")]
        match self.tail.read(offset, buf)? {
            0 => {}
            read => return Ok(read),
        }
        loop {
            // A listener would wait for a load that this thread has not begun.
            let held_back = hold_back();
            let step = self.locked_unless_busy(offset, |state| state.step(offset, buf, readers))??;
            let _until_loaded = matches!(step, Step::Load(_)).then_some(held_back);
            match step {
                Step::Done(n) => return Ok(n),
                Step::Direct { offset, len } => {
                    let read = self.read_store(IoPath::Direct, offset, &mut buf[..len]);
                    return read.map(|()| len);
                }
                Step::Copy { page, at, len } => {
                    page.read(at, &mut buf[..len]);
                    drop(page);
                    self.pool.tell_let_go(); // all others may have consumed it meanwhile
                    return Ok(len);
                }
                Step::Load(load) => self.load(load)?,
                Step::Wait { index } => {
                    store_access::check(StoreOperation::Read, offset, 0)?;
                    self.await_load(index)?;
                }
                Step::Base { len } => {
                    let base = self.base.as_ref().expect("the pager has it too");
                    return base.read_at(offset, &mut buf[..len]);
                }
            }
        }
    }

    pub(crate) fn load(&self, mut load: Load) -> Result<(), SpillError> {
        let read = self.read_store(IoPath::Paged, load.slot.offset, load.frame.first_mut(load.end));
        let is_awaited = self.locked(|state| {
            state.end_load(load, read.is_ok());
            state.load_waiters > 0
        })?;
        if is_awaited {
            self.loaded.notify_all();
        }
        read
    }

    /// Blocks while another thread reads page `index` from the store.
    pub(crate) fn await_load(&self, index: u64) -> Result<(), SpillError> {
        if !spin_until(|| self.try_state().is_some_and(|state| !state.loading.contains(&index))) {
            let mut state = self.state()?;
            state.load_waiters += 1;
            while state.loading.contains(&index) {
                state = self.loaded.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            state.load_waiters -= 1;
        }
        self.free_what_is_noted();
        Ok(())
    }

    pub(crate) fn backing(&self) -> Backing<'_> {
        Backing { disk: &self.pool.disk, own: self.own.as_deref() }
    }

    /// Reads from the store without the lock.
    fn read_store(&self, path: IoPath, offset: u64, buf: &mut [u8]) -> Result<(), SpillError> {
        let mut counts = IoCounts::default();
        let read = transfer::read(&self.backing(), offset, buf, &mut counts);
        self.with_pager(|pager| pager.count_io(path, counts))?;
        self.pool.listeners.notify_errors(&counts, read.as_ref().err());
        read
    }

    /// Where the first page begins, at or after `from`, that is no hole, or `from` if that lies in one.
    pub(crate) fn next_data(&self, from: u64) -> Result<Option<u64>, SpillError> {
        self.with_pager(|pager| pager.next_data(from))?
    }

    /// Makes room for a frame of `bytes` in a pool for one buffer, whose pages nobody else can take: evicts
    /// the coldest of a sample, if `leaving` allows. Returns whether it did.
    pub(crate) fn make_room(&self, bytes: usize, leaving: Leaving) -> bool {
        let made = self.locked_unless_busy(0, |state| {
            let pager = &mut state.pager;
            let frame = pager.evict_coldest(pager.pool.frames.class(bytes), leaving);
            frame.map(|frame| pager.recycle_frame(frame)).is_some()
        });
        made.unwrap_or_default()
    }
}

impl Filling for Content {
    fn len(&self) -> u64 {
        Content::len(self)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        Content::read_at(self, offset, buf)
    }

    fn make_room(&self, len: usize) -> bool {
        Content::make_room(self, len, Leaving::Clean)
    }

    /// If it is in memory now and no thread has the content's lock.
    fn address_of(&self, offset: u64) -> Option<usize> {
        let mut state = self.try_state()?;
        let is_sound = state.pager.check().is_ok();
        let address = if is_sound { state.pager.table(|table| table.address_of(offset)) } else { None };
        drop(state);
        self.free_what_is_noted(); // by readers that found the lock taken
        address
    }
}
