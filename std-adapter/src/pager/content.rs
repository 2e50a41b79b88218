//! Content that several handles read at once, and that one may append to: a pager behind a lock.
//!
//! Promises:
//!
//! - What one handle reads never moves another's position, nor its window, nor shows in its errors. A load that failed in
//!   one is tried again by the next.
//! - The lock is held while few bytes are copied and pages change their state, and not while many are copied, a whole page
//!   is read from the store, or a long read goes past the frames; with checksums it is held for reads of the store too.
//! - A page that several readers miss at once is read from the store once.
//! - I4: the bytes that a read returns never depend on where they were.
//! - Foreign code never runs with the lock held, but for the store.
//!
//! # Why a slot can be read without the lock
//!
//! A page that is complete is not written to any more. So once it is spilled it has all its bytes in its slot, and keeps
//! that slot: a load leaves it with the page, an eviction finds the page clean, and it is freed with the content, or when every
//! reader has passed it. The page that content is appended to is read with the lock held.
//!
//! Held by: `tests/tests/frozen.rs`, `tests/tests/spool.rs`, `std-adapter/src/models/content.rs` (loom).

use crate::disk::backing::Backing;
use crate::disk::own_file::OwnFile;
use crate::disk::slots::Slot;
use crate::disk::transfer;
use crate::error::SpillError;
use crate::foreign::hold_back;
use crate::memory::frame::Frame;
use crate::observe::counters::IoPath;
use crate::observe::stats::IoCounts;
#[cfg(feature = "bytes")]
use crate::pager::lent_page::LentPages;
use crate::pager::passed::PassedPages;
use crate::pager::state::Pager;
use crate::pager::waiting::{Attempt, block_until};
use crate::pages::page::{Location, Page};
use crate::pages::resident::Resident;
use crate::pool::registry::Effort;
use crate::pool::state::PoolState;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering, lock, spin_until};

/// The content of a frozen buffer, or of a spool.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) pool: Arc<PoolState>,
    /// The file that the pages are in instead of the pool's store, if they are.
    own: Option<Arc<OwnFile>>,
    /// Bytes of content. Written with the state locked, once they are there.
    len: AtomicU64,
    state: Mutex<State>,
    /// Signalled when a load has ended.
    loaded: Condvar,
    /// Handles that read, each in its own order.
    readers: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) pager: Pager,
    /// The indices of pages that are being read from the store. They are spilled meanwhile.
    pub(crate) loading: Vec<u64>,
    /// Threads that block until a load has ended.
    load_waiters: usize,
    pub(crate) passed_pages: PassedPages,
    /// Content may still be appended.
    is_open: bool,
    /// Bytes at the beginning that every reader has passed, and that are gone.
    pub(crate) passed: u64,
    #[cfg(feature = "bytes")]
    pub(crate) lent: LentPages,
}

/// Bytes that are copied from a page without the lock, from here on: fewer take no longer than it takes to share the page.
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
}

/// A page that one thread reads from the store for all.
pub(crate) struct Load {
    pub(crate) index: u64,
    pub(crate) slot: Slot,
    /// Bytes of content in the slot.
    pub(crate) valid: usize,
    pub(crate) frame: Frame,
}

impl State {
    /// Reads from the page of `offset`, or says how to. `buf` is not empty and ends before the end of the content. There
    /// are so many `readers`.
    fn step(&mut self, offset: u64, buf: &mut [u8], readers: usize) -> Result<Step, SpillError> {
        self.check_kept(offset)?;
        let want = buf.len();
        let complete = want.min(self.complete_from(offset));
        let pager = &mut self.pager;
        pager.keep_limit();
        let span = pager.span(offset, buf.len());
        let out = &mut buf[..span.part];
        let (location, access) = pager.access(offset, span, want);
        let step = match location {
            Location::Spilled { .. } if complete == 0 => pager.peek(offset, out).map(Step::Done),
            Location::Spilled { valid, .. } if span.at < valid && pager.has_sums() => {
                pager.read_slow(offset, out).map(Step::Done)
            }
            Location::Spilled { slot, valid } if span.at < valid => {
                if self.loading.contains(&span.index) {
                    Ok(Step::Wait { index: span.index })
                } else if self.loading.try_reserve(1).is_ok()
                    && pager.table(|table| table.can_load(span.index))
                    && let Some(frame) = match readers {
                        0 | 1 => pager.admit(span, valid, valid, access).map(|(frame, _)| frame),
                        _ => pager.frame_to_share(valid, &mut self.passed_pages),
                    }
                {
                    self.loading.push(span.index);
                    Ok(Step::Load(Load { index: span.index, slot, valid, frame }))
                } else {
                    let (offset, len) = pager.run_in_store(offset, complete);
                    Ok(Step::Direct { offset, len })
                }
            }
            Location::Spilled { .. } | Location::Hole => {
                out.fill(0);
                Ok(Step::Done(span.part))
            }
            Location::Memory | Location::InTransit => {
                let is_long = complete.min(span.part) >= COPIED_ALONE_MIN;
                let shared = pager.table(|table| match is_long {
                    true => table.share(span.index),
                    false => table.shared_page(span.index),
                });
                match shared {
                    Some(page) if is_long => Ok(Step::Copy { page, at: span.at, len: span.part }),
                    Some(page) => {
                        page.read(span.at, out);
                        Ok(Step::Done(span.part))
                    }
                    None => pager.read_memory(offset, out, false).map(Step::Done),
                }
            }
        };
        let is_read = matches!(step, Ok(Step::Done(_) | Step::Copy { .. }));
        if readers > 1 && is_read && span.end() == pager.pool.page_size {
            self.passed_pages.note_end(span.index, readers);
        }
        pager.finish();
        if self.is_open {
            pager.last_end = pager.len; // it tells whether the writer goes on where it was
        }
        step
    }

    /// How many bytes from `offset` on lie in pages that are not written to any more.
    pub(crate) fn complete_from(&self, offset: u64) -> usize {
        let page = self.pager.pool.page_size as u64;
        let end = if self.is_open { self.pager.len / page * page } else { u64::MAX };
        usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX)
    }

    /// An error if the byte at `offset` is gone.
    pub(crate) fn check_kept(&self, offset: u64) -> Result<(), SpillError> {
        if offset < self.passed {
            return Err(SpillError::Passed { position: offset, kept_from: self.passed });
        }
        Ok(())
    }

    /// Ends a load, of which `read` says whether it has succeeded.
    fn end_load(&mut self, load: Load, read: bool) {
        let Load { index, slot, valid, frame } = load;
        self.loading.retain(|&other| other != index);
        // Without memory to note the page it stays where it is, and is read without a frame.
        if !read || !self.pager.table(|table| table.can_load(index)) {
            self.pager.recycle_frame(frame);
            return;
        }
        let mut page = Resident::whole(frame, 0, false, Some(slot));
        page.valid = valid;
        self.pager.table(|table| {
            table.remove(index);
            table.put(index, Page::Resident(page));
        });
    }
}

impl Pager {
    /// A frame for a spilled page that several readers need: of memory that is to spare, of a page that all of them have
    /// passed, of memory within the share, and else of the coldest of a sample of this content's pages.
    pub(crate) fn frame_to_share(&mut self, valid: usize, passed: &mut PassedPages) -> Option<Frame> {
        let need = self.pool.frames.class(valid);
        if let Some(frame) = self.find_frame(need, self.effort_for_more()) {
            return Some(frame);
        }
        let may_leave = |index| self.table(|table| table.may_leave(index));
        if let Some(index) = passed.take(may_leave)
            && let Some(frame) = self.evict_for_frame(index, need, need)
        {
            return Some(frame);
        }
        self.pool.note_miss(self.own_table());
        self.find_in_share(need, 0, Effort::Idle).or_else(|| self.evict_coldest(need))
    }
}

impl Content {
    /// The content of `pager`. If `is_open`, it may be appended to.
    pub(crate) fn new(mut pager: Pager, is_open: bool) -> Self {
        pager.end_loan();
        pager.leave_queue();
        Content {
            pool: Arc::clone(&pager.pool),
            own: pager.own().cloned(),
            len: AtomicU64::new(pager.len),
            state: Mutex::new(State {
                pager,
                loading: Vec::new(),
                load_waiters: 0,
                passed_pages: PassedPages::default(),
                is_open,
                passed: 0,
                #[cfg(feature = "bytes")]
                lent: LentPages::default(),
            }),
            loaded: Condvar::new(),
            readers: AtomicUsize::new(0),
        }
    }

    /// Bytes of the content.
    pub(crate) fn len(&self) -> u64 {
        // Acquire: with the Release of the writer. The bytes themselves are read with the lock.
        self.len.load(Ordering::Acquire)
    }

    /// Whether all of the content is there still, and none of it is lent.
    pub(crate) fn is_whole(&self) -> bool {
        self.locked(|state| {
            state.pager.table(|table| table.end_sharing());
            state.passed == 0 && state.pager.table(|table| table.shared.is_empty())
        })
    }

    /// The content for its last handle, to be written to again.
    pub(crate) fn into_pager(self) -> Pager {
        self.state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).pager
    }

    // ---- growing

    /// Appends `data`, and returns how much was taken: at least one byte, unless there are none. Waits for room as the
    /// policy says, without the lock.
    pub(crate) fn append(&self, data: &[u8]) -> Result<usize, SpillError> {
        let mut state = lock(&self.state);
        let mut end = state.pager.len;
        if state.pager.write_window(&mut end, data) {
            self.len.store(end, Ordering::Release);
            return Ok(data.len());
        }
        drop(state);
        let mut wait = None;
        loop {
            let attempt = self.locked(|state| {
                let end = state.pager.len;
                let attempt = state.pager.attempt(&mut wait, |pager| pager.write_once(end, data));
                if let Ok(Attempt::Done(taken)) = &attempt {
                    state.pager.requested.written += *taken as u64;
                }
                self.len.store(state.pager.len, Ordering::Release);
                attempt
            });
            match attempt? {
                Attempt::Done(taken) => return Ok(taken),
                Attempt::Again => {}
                Attempt::Blocked(refused) => {
                    let ticket = self.with_pager(Pager::take_ticket);
                    let served = block_until(ticket.as_ref(), refused);
                    self.with_pager(|pager| pager.return_ticket(ticket));
                    if let Err(refused) = served {
                        return Err(self.with_pager(|pager| pager.give_up(wait, refused)));
                    }
                }
            }
        }
    }

    /// Ends the growing: the last page is complete too.
    pub(crate) fn close(&self) {
        self.locked(|state| {
            state.pager.leave_queue();
            state.is_open = false;
        });
    }

    /// Frees the pages before `end`, which every reader has passed. Not once the content is complete: it may have other
    /// handles then.
    pub(crate) fn pass(&self, end: u64) {
        self.locked(|state| {
            if !state.is_open {
                return;
            }
            let page = state.pager.pool.page_size as u64;
            let (from, to) = (state.passed / page, end / page);
            state.passed = state.passed.max(to * page);
            state.pager.discard_pages(from..to);
        });
    }

    /// Runs `f` on the pager. What is to be told is told once the lock is released.
    pub(crate) fn with_pager<R>(&self, f: impl FnOnce(&mut Pager) -> R) -> R {
        self.locked(|state| f(&mut state.pager))
    }

    pub(crate) fn locked<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let _held_back = hold_back();
        f(&mut lock(&self.state))
    }

    /// Counts `count` handles that read.
    pub(crate) fn add_readers(&self, count: usize) {
        self.readers.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn remove_reader(&self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Fills `buf` from `offset` on, as far as the content reaches. Bytes that were read before an error are returned;
    /// the next call fails with it, if it still occurs.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let want = buf.len().min(usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < want {
            match self.read_some(offset + done as u64, &mut buf[done..want]) {
                Ok(n) => done += n,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Reads at least one byte of `buf`, which is not empty and ends before the end of the content.
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let readers = self.readers.load(Ordering::Relaxed);
        loop {
            match self.locked(|state| state.step(offset, buf, readers))? {
                Step::Done(n) => return Ok(n),
                Step::Direct { offset, len } => {
                    let read = self.read_store(IoPath::Direct, offset, &mut buf[..len]);
                    return read.map(|()| len);
                }
                Step::Copy { page, at, len } => {
                    page.read(at, &mut buf[..len]);
                    return Ok(len);
                }
                Step::Load(load) => self.load(load)?,
                Step::Wait { index } => self.await_load(index),
            }
        }
    }

    pub(crate) fn load(&self, mut load: Load) -> Result<(), SpillError> {
        let read = self.read_store(IoPath::Paged, load.slot.offset, load.frame.first_mut(load.valid));
        let is_awaited = self.locked(|state| {
            state.end_load(load, read.is_ok());
            state.load_waiters > 0
        });
        if is_awaited {
            self.loaded.notify_all();
        }
        read
    }

    /// Blocks while another thread reads page `index` from the store.
    pub(crate) fn await_load(&self, index: u64) {
        if spin_until(|| !lock(&self.state).loading.contains(&index)) {
            return;
        }
        let mut state = lock(&self.state);
        state.load_waiters += 1;
        while state.loading.contains(&index) {
            state = self.loaded.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state.load_waiters -= 1;
    }

    pub(crate) fn backing(&self) -> Backing<'_> {
        Backing { disk: &self.pool.disk, own: self.own.as_deref() }
    }

    /// Reads from the store without the lock.
    fn read_store(&self, path: IoPath, offset: u64, buf: &mut [u8]) -> Result<(), SpillError> {
        let mut counts = IoCounts::default();
        let read = transfer::read(&self.backing(), offset, buf, &mut counts);
        self.with_pager(|pager| pager.count_io(path, counts));
        read
    }

    /// Makes room for a frame of `bytes` in a pool for one buffer, whose pages nobody else can take: evicts the coldest of
    /// a sample.
    pub(crate) fn make_room(&self, bytes: usize) {
        self.with_pager(|pager| {
            let frame = pager.evict_coldest(pager.pool.frames.class(bytes));
            frame.into_iter().for_each(|frame| pager.recycle_frame(frame));
        });
    }
}
