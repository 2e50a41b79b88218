//! Chunks: memory of the process that is cut into pieces of one length each, for the frames of all pools.
//!
//! An allocator for all lengths mixes them, and can give memory back only where everything around is free
//! too: a pool that was charged 48 MiB made a process of 76 MiB, and 50 stayed when its buffers were gone.
//! Here a chunk has pieces of one length, a power of two of at least a page of the machine, so each piece can
//! go back to the system by itself, and nothing has to be moved or merged.
//!
//! # States of a piece
//!
//! | state | its memory | next state | by |
//! |---|---|---|---|
//! | cold | is with the system | used | [`Chunks::allocate`], if no piece is warm |
//! | used | holds the owner's bytes | warm | [`Chunks::free`], while at most [`WARM_MAX`] bytes are warm |
//! | | | cold | [`Chunks::free`] otherwise |
//! | warm | is resident, with old bytes | used | [`Chunks::allocate`], the last freed first |
//! | | | cold | [`Chunks::allocate`] of another length, while more than half of that is warm; [`Chunks::trim`] |
//!
//! A chunk whose pieces are all cold is unmapped, but for one of each length, which costs addresses only.
//!
//! Promises:
//!
//! - A piece is handed out to one owner at a time. Its old bytes may be another pool's: the owner must not
//!   show what it has not written ([`Block`](crate::memory::block::Block) does not).
//! - At most [`WARM_MAX`] bytes are resident and unused, over all lengths.
//! - Allocating fails if the system refuses, and never aborts. Freeing never fails, and allocates nothing
//!   that it needs.
//! - No lock is held during a call of the system.
//! - A process that was forked while another thread held a lock notices that, gets no more memory from here
//!   and gives none back, but does not hang. All other forked processes go on as their parent would.
//!
//! Held by: `std-adapter/src/memory/chunks/tests.rs`, `std-adapter/src/models.rs` (loom),
//! `tests/tests/resident_memory.rs`.

#![allow(unsafe_code)]

use crate::memory::pieces::{Class, PIECE_MIN, Piece, chunk_len};
use crate::memory::size_class::PAGE_SIZE_MAX;
use crate::memory::system::{HAS_CHUNKS, Pages, Source};
use crate::sync::fork::current_process;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, const_fn, lock};
use std::hint::spin_loop;

/// Bytes of pieces that stay resident when they are freed. Bringing in a page anew costs a fault, half a
/// microsecond: a buffer of 3 MB, made and dropped again and again, took 470 of them each time.
pub(crate) const WARM_MAX: u64 = if cfg!(overspill_loom) { PIECE_MIN as u64 } else { 6 << 20 };

/// Bytes of pieces that stay resident where others of another length become so. Streams whose pages had
/// outgrown their frames kept 6 MiB of these beside 48 that were in use.
const WARM_WITH_OTHERS_MAX: u64 = WARM_MAX / 2;

/// The lengths: from [`PIECE_MIN`] to [`PAGE_SIZE_MAX`], each twice the one before. Models have one.
const CLASSES: usize =
    if cfg!(overspill_loom) { 1 } else { (PAGE_SIZE_MAX.ilog2() - PIECE_MIN.ilog2() + 1) as usize };

/// How often a forked process tries to get a lock that none of its threads has ever had, before it takes it
/// for lost: a few milliseconds. If the first that gets it has it all that time, the process goes on with
/// the allocator's memory.
const TRIES_AFTER_FORK: u32 = 1 << 17;

/// All chunks of one source.
#[derive(Debug)]
pub(crate) struct Chunks<S: Source> {
    classes: [Mutex<Class>; CLASSES],
    /// Bytes of warm pieces.
    warm: AtomicU64,
    source: S,
    /// The [process](current_process) that first took a lock; 0 before that. A forked one is another.
    process: AtomicU64,
    /// The process that last took the lock of each class: it cannot have lost it in a fork.
    takers: [AtomicU64; CLASSES],
    /// This process was forked while a thread that it has not got held a lock.
    lost: AtomicBool,
}

/// Why there is no piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPiece {
    /// There are none of that length, or none in this process, which has lost a lock in a fork: the
    /// allocator is to be asked.
    Never,
    /// There is no memory.
    Refused,
}

/// The chunks of this process.
#[cfg(not(overspill_loom))]
static CHUNKS: Chunks<Pages> = Chunks::new(Pages);

/// The chunks of this process. Not to be called where [`HAS_CHUNKS`] is false.
#[cfg(not(overspill_loom))]
pub(crate) fn of_process() -> &'static Chunks<Pages> {
    &CHUNKS
}

#[cfg(overspill_loom)]
pub(crate) fn of_process() -> &'static Chunks<Pages> {
    unreachable!("models have chunks of their own")
}

#[cfg(not(overspill_loom))]
const fn classes() -> [Mutex<Class>; CLASSES] {
    [const { Mutex::new(Class::new()) }; CLASSES]
}

#[cfg(not(overspill_loom))]
const fn takers() -> [AtomicU64; CLASSES] {
    [const { AtomicU64::new(0) }; CLASSES]
}

#[cfg(overspill_loom)]
fn takers() -> [AtomicU64; CLASSES] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

#[cfg(overspill_loom)]
fn classes() -> [Mutex<Class>; CLASSES] {
    std::array::from_fn(|_| Mutex::new(Class::new()))
}

/// Gives the memory of this process's warm pieces to the system.
pub(crate) fn trim_process() {
    if HAS_CHUNKS {
        of_process().trim();
    }
}

/// Bytes of this process's warm pieces.
pub(crate) fn warm_bytes_of_process() -> u64 {
    if HAS_CHUNKS { of_process().warm_bytes() } else { 0 }
}

impl<S: Source> Chunks<S> {
    const_fn! {
        pub(crate) fn new(source: S) -> Self {
            Chunks {
                classes: classes(),
                warm: AtomicU64::new(0),
                process: AtomicU64::new(0),
                takers: takers(),
                lost: AtomicBool::new(false),
                source,
            }
        }
    }

    /// Whether there are pieces of `len` bytes: powers of two from [`PIECE_MIN`] to [`PAGE_SIZE_MAX`], and no
    /// less than a page of the machine.
    fn has(&self, len: usize) -> bool {
        let shortest = self.source.page_size().max(PIECE_MIN);
        len.is_power_of_two() && (shortest..=PAGE_SIZE_MAX).contains(&len)
    }

    /// A piece of `len` bytes, with arbitrary bytes in it.
    pub(crate) fn allocate(&self, len: usize) -> Result<Piece, NoPiece> {
        if !self.has(len) {
            return Err(NoPiece::Never);
        }
        let warm = { self.enter(len).ok_or(NoPiece::Never)?.take_warm() };
        let piece = match warm {
            Some(piece) => {
                self.warm.fetch_sub(len as u64, Ordering::Relaxed);
                piece
            }
            None => self.allocate_cold(len)?,
        };
        self.source.mark(piece.at(), len, true);
        Ok(piece)
    }

    #[cold]
    fn allocate_cold(&self, len: usize) -> Result<Piece, NoPiece> {
        self.cool_others(len);
        let cold = { self.enter(len).ok_or(NoPiece::Never)?.take_cold(len) };
        cold.map_or_else(|| self.allocate_of_new_chunk(len), Ok)
    }

    /// Gives warm pieces of other lengths to the system, about `len` bytes, while more than
    /// [`WARM_WITH_OTHERS_MAX`] are warm.
    fn cool_others(&self, len: usize) {
        let mut left = len;
        for other in (0..CLASSES).map(|class| PIECE_MIN << class).filter(|other| *other != len) {
            while left > 0
                && self.warm_bytes() > WARM_WITH_OTHERS_MAX
                && let Some(piece) = self.enter(other).and_then(|mut class| class.take_warm())
            {
                left = left.saturating_sub(other);
                self.cool(std::iter::once(piece));
                self.warm.fetch_sub(other as u64, Ordering::Relaxed); // it was resident until now
            }
        }
    }

    fn allocate_of_new_chunk(&self, len: usize) -> Result<Piece, NoPiece> {
        let at = self.source.map(chunk_len(len)).ok_or(NoPiece::Refused)?;
        self.source.mark(at, chunk_len(len), false);
        let piece = self.enter(len).and_then(|mut class| class.add(at, len));
        if piece.is_none() {
            // SAFETY: it was mapped above with this length, and is in no class.
            unsafe { self.source.unmap(at, chunk_len(len)) };
        }
        piece.ok_or(NoPiece::Refused)
    }

    /// Takes a piece back, and keeps it warm or gives its memory to the system.
    ///
    /// # Safety
    /// The piece is from these chunks, and nothing uses its bytes any more.
    pub(crate) unsafe fn free(&self, piece: Piece) {
        let bytes = piece.len() as u64;
        self.source.mark(piece.at(), piece.len(), false);
        let warms = |warm: u64| (warm + bytes <= WARM_MAX).then_some(warm + bytes);
        if self.warm.fetch_update(Ordering::Relaxed, Ordering::Relaxed, warms).is_err() {
            return self.cool(std::iter::once(piece));
        }
        let refused = match self.enter(piece.len()) {
            Some(mut class) => class.put_warm(piece),
            None => Some(piece),
        };
        if let Some(piece) = refused {
            self.warm.fetch_sub(bytes, Ordering::Relaxed);
            self.cool(std::iter::once(piece));
        }
    }

    /// Gives the memory of pieces that are in no list to the system, and unmaps chunks of which nothing else
    /// is left. Their bytes must be unused.
    fn cool(&self, pieces: impl Iterator<Item = Piece>) {
        for piece in pieces {
            let len = piece.len();
            // SAFETY: the piece lies in a mapping, its length is one of whole machine pages, and it is in no
            // list, so nothing uses its bytes before `put_cold`.
            unsafe { self.source.release(piece.at(), len) };
            let empty = self.enter(len).and_then(|mut class| class.put_cold(piece));
            if let Some(at) = empty {
                // SAFETY: the chunk is out of the class: all its pieces are cold, and none can be taken.
                unsafe { self.source.unmap(at, chunk_len(len)) };
            }
        }
    }

    /// Gives the memory of all warm pieces to the system, and unmaps all chunks without a used piece.
    pub(crate) fn trim(&self) {
        for class_index in 0..CLASSES {
            let len = PIECE_MIN << class_index;
            let Some(warm) = self.enter(len).map(|mut class| class.take_all_warm()) else {
                continue;
            };
            let bytes = (warm.len() * len) as u64;
            self.cool(warm.into_iter());
            self.warm.fetch_sub(bytes, Ordering::Relaxed); // it was resident until now
            if let Some(at) = self.enter(len).and_then(|mut class| class.remove_spare()) {
                // SAFETY: as in `cool`.
                unsafe { self.source.unmap(at, chunk_len(len)) };
            }
        }
    }

    /// Bytes of pieces that are resident and unused. May be out of date at once.
    pub(crate) fn warm_bytes(&self) -> u64 {
        self.warm.load(Ordering::Relaxed)
    }

    /// Locks the chunks with pieces of `len` bytes. `None` only in a forked process that has lost a lock.
    fn enter(&self, len: usize) -> Option<MutexGuard<'_, Class>> {
        if self.lost.load(Ordering::Relaxed) {
            return None;
        }
        if cfg!(not(overspill_loom)) && self.process.load(Ordering::Relaxed) == 0 {
            self.process.store(current_process(), Ordering::Relaxed);
        }
        let class = (len.ilog2() - PIECE_MIN.ilog2()) as usize;
        let Ok(guard) = self.classes[class].try_lock() else { return self.wait(class) };
        self.note_taker(class);
        Some(guard)
    }

    fn note_taker(&self, class: usize) {
        let process = current_process();
        if cfg!(not(overspill_loom)) && self.takers[class].load(Ordering::Relaxed) != process {
            self.takers[class].store(process, Ordering::Relaxed);
        }
    }

    #[cold]
    fn wait(&self, class: usize) -> Option<MutexGuard<'_, Class>> {
        let is_of_this = |process: &AtomicU64| process.load(Ordering::Relaxed) == current_process();
        if cfg!(overspill_loom) || is_of_this(&self.process) || is_of_this(&self.takers[class]) {
            return Some(lock(&self.classes[class]));
        }
        let found = (0..TRIES_AFTER_FORK).find_map(|_| {
            spin_loop();
            self.classes[class].try_lock().ok()
        });
        match found {
            Some(_) => self.note_taker(class),
            None => self.lost.store(true, Ordering::Relaxed),
        }
        found
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;

/// `RUSTFLAGS="--cfg overspill_loom" cargo test -p overspill --release models` runs this with all others.
#[cfg(all(test, overspill_loom))]
mod models {
    use super::*;
    use crate::memory::system::heap::Heap;
    use crate::sync::Arc;
    use loom::thread;

    /// One piece may stay warm.
    const LEN: usize = PIECE_MIN;

    /// Two threads allocate and free, while `meanwhile` runs.
    fn others_allocate_while(meanwhile: impl Fn(&Chunks<Heap>) + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(move || {
            let chunks = Arc::new(Chunks::new(Heap::default()));
            let threads = [0, 1].map(|_| {
                let chunks = Arc::clone(&chunks);
                thread::spawn(move || {
                    let piece = chunks.allocate(LEN).unwrap();
                    // SAFETY: it is from these chunks, and no thread uses its bytes.
                    unsafe { chunks.free(piece) };
                })
            });
            meanwhile(&chunks);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(chunks.warm_bytes() <= LEN as u64);
            assert_eq!(chunks.warm_bytes(), chunks.source.resident() as u64, "what is warm is resident");
            let pieces = [(); 2].map(|()| chunks.allocate(LEN).unwrap());
            // SAFETY: as above.
            pieces.into_iter().for_each(|piece| unsafe { chunks.free(piece) });
            chunks.trim();
            assert_eq!((chunks.warm_bytes(), chunks.source.mapped()), (0, 0));
        });
    }

    /// Guards: a piece has one owner at a time, in memory that is mapped ([`Heap`] checks both); and what is
    /// free is found again, by allocation or by trimming.
    #[test]
    fn two_threads_allocate_and_free_while_one_trims() {
        others_allocate_while(Chunks::trim);
    }

    /// Guards the same among pieces of one chunk.
    #[test]
    fn three_threads_allocate_and_free() {
        others_allocate_while(|chunks| {
            let piece = chunks.allocate(LEN).unwrap();
            // SAFETY: as above.
            unsafe { chunks.free(piece) };
        });
    }
}
