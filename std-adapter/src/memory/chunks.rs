//! Chunks: memory of the process that is cut into pieces of one length each, for the frames of all pools.
//!
//! An allocator for all lengths mixes them, and can give memory back only where everything around is free
//! too: a pool that was charged 48 MiB made a process of 76 MiB, and 50 stayed when its buffers were gone.
//! Here a chunk has pieces of one length, a power of two of at least a page of the machine, so each piece can
//! go back to the system by itself, and nothing has to be moved or merged.
//!
//! # Arenas
//!
//! There are a few arenas, each with chunks and warm pieces of its own. A thread gets its pieces from one of
//! them, and each goes back to the one that it came from, in whichever thread that is. With one for all, two
//! threads that each made and dropped a buffer of 3 MB wrote at a third of the speed of one thread where
//! their cores shared no cache: they waited for one lock, each took what the other had written, and pieces of
//! both lay in turn in one chunk. That last alone halved the speed, with nothing shared; probably a
//! processor that comes to the end of a piece fetches what lies behind.
//!
//! # States of a piece
//!
//! | state | its memory | next state | by |
//! |---|---|---|---|
//! | cold | is with the system | used | [`Chunks::allocate`], if no piece is warm |
//! | used | holds the owner's bytes | warm | [`Chunks::free`], while [`KEEPERS`] arenas have room |
//! | | | cold | [`Chunks::free`] otherwise |
//! | warm | is resident, with old bytes | used | [`Chunks::allocate`], the last freed first |
//! | | | cold | [`Chunks::allocate`] of another length, while more than [`WARM_WITH_OTHERS_MAX`] are warm; [`Chunks::trim`] |
//!
//! A chunk whose pieces are all cold is unmapped, but for one of each length and arena, which costs addresses
//! only.
//!
//! Promises:
//!
//! - A piece is handed out to one owner at a time. Its old bytes may be another pool's: the owner must not
//!   show what it has not written ([`Block`](crate::memory::block::Block) does not).
//! - At most [`WARM_MAX`] bytes for each arena are resident and unused, over all lengths.
//! - Allocating fails if the system refuses, and never aborts. Freeing never fails, and allocates nothing
//!   that it needs.
//! - No lock is held during a call of the system.
//! - A process that was forked while another thread held a lock does without what that protects: it gets that
//!   memory from another arena and gives none back to this one. All other forked processes go on as their
//!   parent would.
//!
//! Held by: `std-adapter/src/memory/chunks/tests.rs`, `std-adapter/src/models.rs` (loom),
//! `tests/tests/resident_memory.rs`.

#![allow(unsafe_code)]

use crate::memory::pieces::{self, CLASSES, Class, PIECE_MIN, Piece, chunk_len, class_of};
use crate::memory::size_class::PAGE_SIZE_MAX;
use crate::memory::system::{HAS_CHUNKS, Pages, Source};
use crate::memory::warm::{WARM_MAX, Warm};
use crate::sync::fork::Lock;
use crate::sync::{MutexGuard, const_fn, thread_number};

/// Bytes of pieces that stay resident where others of another length become so. Streams whose pages had
/// outgrown their frames kept 6 MiB of these beside 48 that were in use.
const WARM_WITH_OTHERS_MAX: u64 = WARM_MAX / 3 * 2;

const ARENAS: usize = pieces::ARENAS as usize;

/// In which order arenas are looked at, by the bits in which their numbers differ from that of the one which
/// is to be first. Two threads that came one after the other meet in neither of their first two.
#[cfg(not(overspill_loom))]
const ORDER: [usize; ARENAS] = [0, 2, 1, 3];
#[cfg(overspill_loom)]
const ORDER: [usize; ARENAS] = [0];

/// How many arenas, in that order, keep warm what was freed: one thread keeps enough for a buffer of 6 MB.
const KEEPERS: usize = ARENAS.div_ceil(2);

/// All chunks of one source.
#[derive(Debug)]
pub(crate) struct Chunks<S: Source> {
    arenas: [Arena; ARENAS],
    source: S,
}

/// The chunks from which some of the threads get their pieces. Has its cache lines for itself: processors
/// fetch two at a time.
#[derive(Debug)]
#[repr(align(128))]
struct Arena {
    classes: [Lock<Class>; CLASSES],
    warm: Warm,
}

/// Why there is no piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPiece {
    /// There are none of that length, or none in this process, which has lost all arenas in a fork: the
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

/// The numbers of all arenas, in the [`ORDER`] of the one that is `first`, or of a thread with that number.
fn beginning_with(first: usize) -> impl Iterator<Item = usize> {
    ORDER.iter().map(move |bits| (first % ARENAS) ^ bits)
}

/// An array of new values: a constant one, but in models.
macro_rules! array_of {
    ($new:expr; $count:expr) => {{
        #[cfg(not(overspill_loom))]
        let array = [const { $new }; $count];
        #[cfg(overspill_loom)]
        let array = std::array::from_fn(|_| $new);
        array
    }};
}

impl Arena {
    const_fn! {
        fn new() -> Self {
            Arena { classes: array_of![Lock::of_program(Class::new()); CLASSES], warm: Warm::new() }
        }
    }

    /// Locks the chunks with pieces of `len` bytes. `None` in a process that has lost them in a fork.
    fn enter(&self, len: usize) -> Option<MutexGuard<'_, Class>> {
        self.classes[class_of(len)].lock().ok()
    }
}

impl<S: Source> Chunks<S> {
    const_fn! {
        pub(crate) fn new(source: S) -> Self {
            Chunks { arenas: array_of![Arena::new(); ARENAS], source }
        }
    }

    /// Whether there are pieces of `len` bytes: powers of two from [`PIECE_MIN`] to [`PAGE_SIZE_MAX`], and no
    /// less than a page of the machine.
    fn has(&self, len: usize) -> bool {
        let shortest = self.source.page_size().max(PIECE_MIN);
        len.is_power_of_two() && (shortest..=PAGE_SIZE_MAX).contains(&len)
    }

    fn take_warm(&self, len: usize) -> Option<Piece> {
        beginning_with(thread_number()).find_map(|arena| self.arenas[arena].warm.take(len))
    }

    /// A piece of `len` bytes, with arbitrary bytes in it.
    pub(crate) fn allocate(&self, len: usize) -> Result<Piece, NoPiece> {
        if !self.has(len) {
            return Err(NoPiece::Never);
        }
        let piece = self.take_warm(len).map_or_else(|| self.allocate_cold(len), Ok)?;
        self.source.mark(piece.at(), len, true);
        Ok(piece)
    }

    #[cold]
    fn allocate_cold(&self, len: usize) -> Result<Piece, NoPiece> {
        self.cool_others(len);
        let mut arenas = beginning_with(thread_number()).filter(|arena| self.has_not_lost(*arena, len));
        let cold = |arena: usize| self.arenas[arena].enter(len)?.take_cold(len, arena);
        let own = arenas.next().ok_or(NoPiece::Never)?;
        cold(own)
            .or_else(|| self.allocate_of_new_chunk(len, own))
            .or_else(|| arenas.find_map(cold))
            .or_else(|| {
                self.trim(); // what is free may take the addresses
                self.allocate_of_new_chunk(len, own)
            })
            .ok_or(NoPiece::Refused)
    }

    fn has_not_lost(&self, arena: usize, len: usize) -> bool {
        self.arenas[arena].classes[class_of(len)].check().is_ok()
    }

    /// Gives warm pieces of other lengths to the system, about `len` bytes, while more than
    /// [`WARM_WITH_OTHERS_MAX`] are warm.
    fn cool_others(&self, len: usize) {
        let mut left = len;
        for other in (0..CLASSES).map(|class| PIECE_MIN << class).filter(|other| *other != len) {
            while left > 0
                && self.warm_bytes() > WARM_WITH_OTHERS_MAX
                && let Some(piece) = self.take_warm(other)
            {
                left = left.saturating_sub(other);
                self.cool(piece);
            }
        }
    }

    fn allocate_of_new_chunk(&self, len: usize, arena: usize) -> Option<Piece> {
        let at = self.source.map(chunk_len(len))?;
        self.source.mark(at, chunk_len(len), false);
        let piece = self.arenas[arena].enter(len).and_then(|mut class| class.add(at, len, arena));
        if piece.is_none() {
            // SAFETY: it was mapped above with this length, and is in no class.
            unsafe { self.source.unmap(at, chunk_len(len)) };
        }
        piece
    }

    /// Takes a piece back, and keeps it warm or gives its memory to the system.
    ///
    /// # Safety
    /// The piece is from these chunks, and nothing uses its bytes any more.
    pub(crate) unsafe fn free(&self, piece: Piece) {
        self.source.mark(piece.at(), piece.len(), false);
        let mut keepers = beginning_with(piece.arena()).take(KEEPERS);
        if let Some(piece) = keepers.try_fold(piece, |piece, arena| self.arenas[arena].warm.put(piece)) {
            self.cool(piece);
        }
    }

    /// Gives the memory of a piece that is in no list to the system, and unmaps its chunk if nothing else is
    /// left of that. Its bytes must be unused.
    fn cool(&self, piece: Piece) {
        let (len, arena) = (piece.len(), &self.arenas[piece.arena()]);
        // SAFETY: the piece lies in a mapping, its length is one of whole machine pages, and it is in no
        // list, so nothing uses its bytes before `put_cold`.
        unsafe { self.source.release(piece.at(), len) };
        let empty = arena.enter(len).and_then(|mut class| class.put_cold(piece));
        if let Some(at) = empty {
            // SAFETY: the chunk is out of the class: all its pieces are cold, and none can be taken.
            unsafe { self.source.unmap(at, chunk_len(len)) };
        }
    }

    /// Gives the memory of all warm pieces to the system, and unmaps all chunks without a used piece.
    pub(crate) fn trim(&self) {
        for len in (0..CLASSES).map(|class| PIECE_MIN << class) {
            // Others may free more meanwhile, for ever.
            let there = self.warm_bytes() / len as u64;
            (0..there).map_while(|_| self.take_warm(len)).for_each(|piece| self.cool(piece));
            for arena in &self.arenas {
                if let Some(at) = arena.enter(len).and_then(|mut class| class.remove_spare()) {
                    // SAFETY: as in `cool`.
                    unsafe { self.source.unmap(at, chunk_len(len)) };
                }
            }
        }
    }

    /// Bytes of pieces that are resident and unused. May be out of date at once.
    pub(crate) fn warm_bytes(&self) -> u64 {
        self.arenas.iter().map(|arena| arena.warm.bytes()).sum()
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
            assert!(chunks.warm_bytes() <= WARM_MAX);
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
