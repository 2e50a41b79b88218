//! Content that several handles read at once: a pager behind a lock.
//!
//! Promises:
//!
//! - What one handle reads never moves another's position, nor its window, nor shows in its errors. A load that failed in
//!   one is tried again by the next.
//! - The lock is held while bytes are copied and pages change their state, and not while a whole page is read from the
//!   store or a long read goes past the frames; with checksums it is held then too.
//! - A page that several readers miss at once is read from the store once.
//! - I4: the bytes that a read returns never depend on where they were.
//! - Foreign code never runs with the lock held, but for the store.
//!
//! # Why a slot can be read without the lock
//!
//! Nobody writes to the content any more. So a page that is spilled has all its bytes in its slot, and keeps that slot: a load
//! leaves it with the page, an eviction finds the page clean, and only the drop of the last handle frees it.
//!
//! Held by: `tests/tests/frozen.rs`, `std-adapter/src/models/content.rs` (loom).

use crate::disk::backing::Backing;
use crate::disk::own_file::OwnFile;
use crate::disk::slots::Slot;
use crate::disk::transfer;
use crate::error::SpillError;
use crate::foreign::hold_back;
use crate::memory::frame::Frame;
use crate::observe::counters::IoPath;
use crate::observe::stats::IoCounts;
use crate::pager::span::{Access, Span};
use crate::pager::state::Pager;
use crate::pages::page::{Location, Page};
use crate::pages::resident::Resident;
use crate::pool::registry::Effort;
use crate::pool::state::PoolState;
use crate::sync::{Arc, AtomicUsize, Condvar, Mutex, Ordering, lock};

/// The content of a frozen buffer.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) pool: Arc<PoolState>,
    /// The file that the pages are in instead of the pool's store, if they are.
    own: Option<Arc<OwnFile>>,
    len: u64,
    state: Mutex<State>,
    /// Signalled when a load has ended.
    loaded: Condvar,
    /// Handles that read, each in its own order.
    readers: AtomicUsize,
}

#[derive(Debug)]
struct State {
    pager: Pager,
    /// The indices of pages that are being read from the store. They are spilled meanwhile.
    loading: Vec<u64>,
}

/// What a read has to do next.
enum Step {
    /// So many bytes are there.
    Done(usize),
    /// So many bytes are to be read from this offset of the store on.
    Direct { offset: u64, len: usize },
    /// The page is to be read into the frame.
    Load(Load),
    /// Another thread reads the page from the store.
    Wait { index: u64 },
}

/// A page that one thread reads from the store for all.
struct Load {
    index: u64,
    slot: Slot,
    /// Bytes of content in the slot.
    valid: usize,
    frame: Frame,
}

impl State {
    /// Reads from the page of `offset`, or says how to. `buf` is not empty and ends before the end of the content. With
    /// `is_shared`, others are likely to read the page too.
    fn step(&mut self, offset: u64, buf: &mut [u8], is_shared: bool) -> Result<Step, SpillError> {
        let pager = &mut self.pager;
        pager.keep_limit();
        let span = pager.span(offset, buf.len());
        let buf_len = buf.len();
        let out = &mut buf[..span.part];
        let (location, access) = pager.access(offset, span, buf_len);
        let step = match location {
            Location::Spilled { valid, .. } if span.at < valid && pager.has_sums() => {
                pager.read_slow(offset, out).map(Step::Done)
            }
            Location::Spilled { slot, valid } if span.at < valid => {
                if self.loading.contains(&span.index) {
                    Ok(Step::Wait { index: span.index })
                } else if let Some(frame) = pager.frame_for(span, valid, access, is_shared) {
                    self.loading.push(span.index);
                    Ok(Step::Load(Load { index: span.index, slot, valid, frame }))
                } else {
                    let (offset, len) = pager.direct_run(offset, buf_len);
                    Ok(Step::Direct { offset, len })
                }
            }
            Location::Spilled { .. } | Location::Hole => {
                out.fill(0);
                Ok(Step::Done(span.part))
            }
            Location::Memory | Location::InTransit => pager.read_memory(offset, out, false).map(Step::Done),
        };
        pager.finish();
        step
    }

    /// Ends a load, of which `read` says whether it has succeeded.
    fn end_load(&mut self, load: Load, read: bool) {
        let Load { index, slot, valid, frame } = load;
        self.loading.retain(|&other| other != index);
        if !read {
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
    /// A frame for the `valid` bytes of a spilled page, if it deserves one: as in a buffer, or because others are likely to
    /// read it.
    fn frame_for(&mut self, span: Span, valid: usize, access: Access, is_shared: bool) -> Option<Frame> {
        if is_shared {
            return self.frame_to_share(valid);
        }
        self.admit(span, valid, valid, access).map(|(frame, _)| frame)
    }

    /// A frame for a spilled page that several readers need: of memory that is to spare or within the share, and else of the
    /// coldest of a sample of this content's pages.
    fn frame_to_share(&mut self, valid: usize) -> Option<Frame> {
        let need = self.pool.frames.class(valid);
        if let Some(frame) = self.find_frame(need, self.effort_for_more()) {
            return Some(frame);
        }
        self.pool.note_miss(self.own_table());
        self.find_in_share(need, 0, Effort::Idle).or_else(|| self.evict_coldest(need))
    }
}

impl Content {
    /// The content of `pager`, which nobody writes to any more.
    pub(crate) fn new(mut pager: Pager) -> Self {
        pager.end_loan();
        pager.leave_queue();
        Content {
            pool: Arc::clone(&pager.pool),
            own: pager.own().cloned(),
            len: pager.len,
            state: Mutex::new(State { pager, loading: Vec::new() }),
            loaded: Condvar::new(),
            readers: AtomicUsize::new(0),
        }
    }

    /// Bytes of the content.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The content for its last handle, to be written to again.
    pub(crate) fn into_pager(self) -> Pager {
        self.state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).pager
    }

    /// Runs `f` on the pager. What is to be told is told once the lock is released.
    pub(crate) fn with_pager<R>(&self, f: impl FnOnce(&mut Pager) -> R) -> R {
        self.locked(|state| f(&mut state.pager))
    }

    fn locked<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
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
        let want = buf.len().min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
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
        let is_shared = self.readers.load(Ordering::Relaxed) > 1;
        loop {
            match self.locked(|state| state.step(offset, buf, is_shared))? {
                Step::Done(n) => return Ok(n),
                Step::Direct { offset, len } => {
                    let read = self.read_store(IoPath::Direct, offset, &mut buf[..len]);
                    return read.map(|()| len);
                }
                Step::Load(load) => self.load(load)?,
                Step::Wait { index } => self.await_load(index),
            }
        }
    }

    fn load(&self, mut load: Load) -> Result<(), SpillError> {
        let read = self.read_store(IoPath::Paged, load.slot.offset, load.frame.first_mut(load.valid));
        self.locked(|state| state.end_load(load, read.is_ok()));
        self.loaded.notify_all();
        read
    }

    /// Blocks while another thread reads page `index` from the store.
    fn await_load(&self, index: u64) {
        let mut state = lock(&self.state);
        while state.loading.contains(&index) {
            state = self.loaded.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Reads from the store without the lock.
    fn read_store(&self, path: IoPath, offset: u64, buf: &mut [u8]) -> Result<(), SpillError> {
        let backing = Backing { disk: &self.pool.disk, own: self.own.as_deref() };
        let mut counts = IoCounts::default();
        let read = transfer::read(backing.store(), offset, buf, &mut counts);
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
