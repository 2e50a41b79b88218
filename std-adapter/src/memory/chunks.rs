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
//! Held by: the tests below, `std-adapter/src/models.rs` (loom), `tests/tests/resident_memory.rs`.

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

/// Bytes of pieces that stay resident where others of another length become so. Streams whose pages had outgrown their frames kept
/// 6 MiB of these beside 48 that were in use.
const WARM_WITH_OTHERS_MAX: u64 = WARM_MAX / 2;

/// The lengths: from [`PIECE_MIN`] to [`PAGE_SIZE_MAX`], each twice the one before. Models have one.
const CLASSES: usize =
    if cfg!(overspill_loom) { 1 } else { (PAGE_SIZE_MAX.ilog2() - PIECE_MIN.ilog2() + 1) as usize };

/// How often a forked process tries to get a lock before it takes it for lost: a few milliseconds. If a thread
/// of its own had it all that time, the process goes on with the allocator's memory.
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
    /// This process was forked while a thread that it has not got held a lock.
    lost: AtomicBool,
}

/// Why there is no piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPiece {
    /// There are none of that length, or none in this process, which has lost a lock in a fork: the allocator is
    /// to be asked.
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

    /// Gives warm pieces of other lengths to the system, about `len` bytes, while more than [`WARM_WITH_OTHERS_MAX`] are warm.
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
        let class = &self.classes[(len.ilog2() - PIECE_MIN.ilog2()) as usize];
        if let Ok(guard) = class.try_lock() {
            return Some(guard);
        }
        self.wait(class)
    }

    #[cold]
    fn wait<'a>(&self, class: &'a Mutex<Class>) -> Option<MutexGuard<'a, Class>> {
        if cfg!(overspill_loom) || current_process() == self.process.load(Ordering::Relaxed) {
            return Some(lock(class));
        }
        let found = (0..TRIES_AFTER_FORK).find_map(|_| {
            spin_loop();
            class.try_lock().ok()
        });
        if found.is_none() {
            self.lost.store(true, Ordering::Relaxed);
        }
        found
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::pieces::CHUNK;
    use crate::memory::system::heap::Heap;
    use std::collections::BTreeMap;

    const LEN: usize = 64 << 10;
    const WARM: usize = 6 << 20;

    fn chunks() -> Chunks<Heap> {
        Chunks::new(Heap::default())
    }

    fn allocate(chunks: &Chunks<Heap>, len: usize) -> Piece {
        chunks.allocate(len).unwrap()
    }

    fn free(chunks: &Chunks<Heap>, pieces: impl IntoIterator<Item = Piece>) {
        // SAFETY: the pieces are from these chunks, and no test uses their bytes.
        pieces.into_iter().for_each(|piece| unsafe { chunks.free(piece) });
    }

    #[test]
    fn pieces_of_one_chunk_lie_side_by_side_and_a_chunk_is_used_up_first() {
        let chunks = chunks();
        let pieces: Vec<_> = (0..CHUNK / LEN).map(|_| allocate(&chunks, LEN)).collect();
        let first = pieces[0].at().addr().get();
        let expected: Vec<_> = (0..pieces.len()).map(|i| first + i * LEN).collect();
        assert_eq!(pieces.iter().map(|piece| piece.at().addr().get()).collect::<Vec<_>>(), expected);
        assert_eq!(chunks.source.mapped(), CHUNK);
        let other = allocate(&chunks, LEN);
        let longer = allocate(&chunks, 2 * LEN);
        assert_eq!(chunks.source.mapped(), 3 * CHUNK, "each length has chunks of its own");
        free(&chunks, pieces.into_iter().chain([other, longer]));
    }

    #[test]
    fn freed_pieces_stay_warm_up_to_the_bound_and_the_last_freed_comes_first() {
        let chunks = chunks();
        let pieces: Vec<_> = (0..=WARM / LEN).map(|_| allocate(&chunks, LEN)).collect();
        let at: Vec<_> = pieces.iter().map(|piece| piece.at()).collect();
        free(&chunks, pieces);
        assert_eq!(chunks.warm_bytes(), WARM as u64);
        assert_eq!(chunks.source.released(), [(at[at.len() - 1], LEN)], "there was no room for one more");
        assert_eq!(allocate(&chunks, LEN).at(), at[at.len() - 2]);
        assert_eq!(chunks.warm_bytes(), WARM as u64 - LEN as u64);
    }

    /// Pages that outgrow their frames need longer ones, and what they leave behind is of no use to them.
    #[test]
    fn what_is_warm_makes_way_for_other_lengths() {
        let chunks = chunks();
        let short: Vec<_> = (0..WARM / LEN).map(|_| allocate(&chunks, LEN)).collect();
        free(&chunks, short);
        let long: Vec<_> = (0..WARM / LEN).map(|_| allocate(&chunks, 2 * LEN)).collect();
        assert_eq!(chunks.warm_bytes(), WARM as u64 / 2);
        assert_eq!(chunks.source.resident(), 2 * WARM + WARM / 2);
        free(&chunks, [allocate(&chunks, LEN)]);
        assert_eq!(chunks.warm_bytes(), WARM as u64 / 2, "its own length is there");
        free(&chunks, long);
    }

    #[test]
    fn trim_leaves_nothing_but_what_is_used() {
        let chunks = chunks();
        let pieces: Vec<_> = (0..200).map(|i| allocate(&chunks, LEN << (i % 3))).collect();
        let (kept, freed): (Vec<_>, Vec<_>) =
            pieces.into_iter().partition(|piece| piece.at().addr().get() % 7 == 0);
        let used = kept.len();
        free(&chunks, freed);
        chunks.trim();
        assert_eq!(chunks.warm_bytes(), 0);
        assert!(chunks.source.mapped() <= used * CHUNK);
        free(&chunks, kept);
        chunks.trim();
        assert_eq!((chunks.warm_bytes(), chunks.source.mapped()), (0, 0));
        free(&chunks, [allocate(&chunks, LEN)]);
        assert_eq!(chunks.source.mapped(), CHUNK, "and all goes on");
    }

    #[test]
    fn the_longest_pieces_have_a_chunk_each() {
        let chunks = chunks();
        let pieces: Vec<_> = (0..3).map(|_| allocate(&chunks, PAGE_SIZE_MAX)).collect();
        assert_eq!(chunks.source.mapped(), 3 * PAGE_SIZE_MAX);
        free(&chunks, pieces);
        assert_eq!((chunks.source.mapped(), chunks.warm_bytes()), (PAGE_SIZE_MAX, 0), "one stays, cold");
        for len in [2 * PAGE_SIZE_MAX, PIECE_MIN / 2, PIECE_MIN + 1] {
            assert_eq!(chunks.allocate(len).err(), Some(NoPiece::Never));
        }
    }

    #[test]
    fn a_refusal_is_no_piece_and_changes_nothing() {
        let chunks = chunks();
        let one = allocate(&chunks, LEN);
        chunks.source.refuse(true);
        assert_eq!(chunks.allocate(2 * LEN).err(), Some(NoPiece::Refused));
        let others: Vec<_> = std::iter::from_fn(|| chunks.allocate(LEN).ok()).collect();
        assert_eq!(others.len(), CHUNK / LEN - 1, "what is mapped is there");
        chunks.source.refuse(false);
        free(&chunks, others.into_iter().chain([one, allocate(&chunks, 2 * LEN)]));
    }

    /// Random allocations and frees beside a plain account of what is used.
    #[test]
    fn no_piece_is_handed_out_twice() {
        let (chunks, mut random) = (chunks(), 7_u64);
        let mut used: BTreeMap<usize, Piece> = BTreeMap::new();
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let dice = usize::try_from(random >> 33).unwrap();
            let grows = if step % 4000 < 2000 { 60 } else { 40 };
            if dice % 100 < grows {
                let piece = allocate(&chunks, PIECE_MIN << (dice / 100 % 6));
                let (at, end) = (piece.at().addr().get(), piece.at().addr().get() + piece.len());
                let before = used.range(..end).next_back().map_or(0, |(at, piece)| at + piece.len());
                assert!(before <= at, "{at:x} overlaps what ends at {before:x}");
                used.insert(at, piece);
            } else if let Some(at) = used.keys().nth(dice / 100 % used.len().max(1)).copied() {
                free(&chunks, used.remove(&at));
            }
            if dice % 1000 == 0 {
                chunks.trim();
            }
            let bytes: usize = used.values().map(Piece::len).sum();
            assert!(chunks.source.resident() <= bytes + WARM, "step {step}");
        }
        free(&chunks, std::mem::take(&mut used).into_values());
        chunks.trim();
        assert_eq!(chunks.source.mapped(), 0);
    }
}

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

    /// Guards: a piece has one owner at a time, in memory that is mapped ([`Heap`] checks both); and what is free
    /// is found again, by allocation or by trimming.
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
