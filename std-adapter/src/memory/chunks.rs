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
//! | | | cold | [`Chunks::trim`] |
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
//! - A process that was forked while another thread held a lock gets no memory from here for that length,
//!   and gives none back, but does not hang. All other forked processes go on as their parent would.
//!
//! Held by: the tests below, `std-adapter/src/models.rs` (loom), `tests/tests/resident_memory.rs`.

#![allow(unsafe_code)]

use crate::memory::size_class::PAGE_SIZE_MAX;
use crate::memory::system::{HAS_CHUNKS, Pages, Source};
use crate::sync::{AtomicU64, Mutex, MutexGuard, OnceLock, Ordering, lock, yield_now};
use std::process;
use std::ptr::NonNull;

/// Bytes of the shortest piece, a page of the usual machine. Where pages are longer, so is the shortest piece:
/// see [`Chunks::has`].
pub(crate) const PIECE_MIN: usize = 4 << 10;

/// Bytes of a chunk, unless its one piece is longer. A chunk costs two calls of the system.
const CHUNK: usize = 1 << 20;

/// The most pieces of a chunk.
const PIECES_MAX: usize = CHUNK / PIECE_MIN;

/// Bytes of pieces that stay resident when they are freed. Bringing in a page anew costs a fault, half a
/// microsecond: a buffer of 3 MB, made and dropped again and again, took 470 of them each time.
pub(crate) const WARM_MAX: u64 = 6 << 20;

/// The lengths: from [`PIECE_MIN`] to [`PAGE_SIZE_MAX`], each twice the one before.
const CLASSES: usize = (PAGE_SIZE_MAX.ilog2() - PIECE_MIN.ilog2() + 1) as usize;

/// How often a forked process tries to get a lock.
const TRIES_AFTER_FORK: u32 = 1 << 10;

/// Memory of one owner, until it is freed.
#[derive(Debug)]
pub(crate) struct Piece {
    at: NonNull<u8>,
    len: u32,
    /// The chunk's number among those of its length; [`NO_CHUNK`] if the memory is the allocator's.
    chunk: u32,
}

/// No chunk has this number: so many would be 4 PiB.
const NO_CHUNK: u32 = u32::MAX;

impl Piece {
    /// No memory.
    pub(crate) const NONE: Piece = Piece { at: NonNull::dangling(), len: 0, chunk: NO_CHUNK };

    /// `len` bytes at `at` that are the allocator's.
    pub(crate) fn of_allocator(at: NonNull<u8>, len: u32) -> Self {
        Piece { at, len, chunk: NO_CHUNK }
    }

    /// Whether the memory is from chunks, and not the allocator's.
    #[inline]
    pub(crate) fn is_of_chunk(&self) -> bool {
        self.chunk != NO_CHUNK
    }

    /// The first of its bytes.
    #[inline(always)]
    pub(crate) fn at(&self) -> NonNull<u8> {
        self.at
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }
}

/// All chunks of one source.
#[derive(Debug)]
pub(crate) struct Chunks<S: Source> {
    classes: [Mutex<Class>; CLASSES],
    /// Bytes of warm pieces.
    warm: AtomicU64,
    /// Bytes of the shortest piece.
    piece_min: usize,
    source: S,
    /// The process that made this. A forked one has another number.
    process: u32,
}

/// The chunks with pieces of one length.
#[derive(Debug, Default)]
struct Class {
    chunks: Vec<Chunk>,
    /// Numbers of entries of `chunks` that stand for no mapping.
    vacant: Vec<u32>,
    /// Numbers of the chunks that have a cold piece.
    open: Vec<u32>,
    /// Warm pieces, the last freed at the end.
    warm: Vec<Piece>,
    /// A chunk of cold pieces only, which stays mapped.
    spare: Option<u32>,
}

/// One mapping.
#[derive(Debug)]
struct Chunk {
    at: NonNull<u8>,
    /// A bit for each cold piece.
    cold: [u64; PIECES_MAX / 64],
    cold_pieces: u32,
    /// Its place in `open`, if it has a cold piece.
    open_at: u32,
}

// SAFETY: a chunk's address stands for memory that belongs to the process; any thread may free or map it.
unsafe impl Send for Chunk {}
// SAFETY: a piece is memory with one owner, as a `Box<[u8]>` is. The owner may be any thread.
unsafe impl Send for Piece {}
// SAFETY: a shared piece shows only its address and length.
unsafe impl Sync for Piece {}

/// The chunks of this process.
pub(crate) fn of_process() -> &'static Chunks<Pages> {
    static CHUNKS: OnceLock<Chunks<Pages>> = OnceLock::new();
    CHUNKS.get_or_init(|| Chunks::new(Pages))
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

/// Bytes of a chunk with pieces of `len` bytes.
fn chunk_len(len: usize) -> usize {
    len.max(CHUNK)
}

fn pieces(len: usize) -> u32 {
    u32::try_from(chunk_len(len) / len).expect("at most PIECES_MAX")
}

impl<S: Source> Chunks<S> {
    pub(crate) fn new(source: S) -> Self {
        Chunks {
            classes: std::array::from_fn(|_| Mutex::new(Class::default())),
            warm: AtomicU64::new(0),
            piece_min: source.page_size().max(PIECE_MIN),
            source,
            process: process::id(),
        }
    }

    /// Whether there are pieces of `len` bytes: powers of two from [`PIECE_MIN`] to [`PAGE_SIZE_MAX`], and no
    /// less than a page of the machine.
    pub(crate) fn has(&self, len: usize) -> bool {
        len.is_power_of_two() && (self.piece_min..=PAGE_SIZE_MAX).contains(&len)
    }

    /// A piece of `len` bytes, with arbitrary bytes in it. `None` if there are no pieces of that length, or if
    /// the system refuses.
    pub(crate) fn allocate(&self, len: usize) -> Option<Piece> {
        if !self.has(len) {
            return None;
        }
        let mut class = self.enter(len)?;
        let piece = match class.warm.pop() {
            Some(piece) => {
                self.warm.fetch_sub(len as u64, Ordering::Relaxed);
                piece
            }
            None => match class.take_cold(len) {
                Some(piece) => piece,
                None => {
                    drop(class);
                    self.allocate_of_new_chunk(len)?
                }
            },
        };
        self.source.mark(piece.at, len, true);
        Some(piece)
    }

    #[cold]
    fn allocate_of_new_chunk(&self, len: usize) -> Option<Piece> {
        let at = self.source.map(chunk_len(len))?;
        self.source.mark(at, chunk_len(len), false);
        let piece = self.enter(len).and_then(|mut class| {
            class.add(at, len)?;
            class.take_cold(len)
        });
        if piece.is_none() {
            // SAFETY: it was mapped above with this length, and no piece of it was handed out.
            unsafe { self.source.unmap(at, chunk_len(len)) };
        }
        piece
    }

    /// Takes a piece back, and keeps it warm or gives its memory to the system.
    ///
    /// # Safety
    /// The piece is from these chunks, and nothing uses its bytes any more.
    pub(crate) unsafe fn free(&self, piece: Piece) {
        let bytes = piece.len as u64;
        self.source.mark(piece.at, piece.len(), false);
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
            unsafe { self.source.release(piece.at, len) };
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
            let Some(warm) = self.enter(len).map(|mut class| std::mem::take(&mut class.warm)) else {
                continue;
            };
            self.warm.fetch_sub((warm.len() * len) as u64, Ordering::Relaxed);
            self.cool(warm.into_iter());
            let spare =
                self.enter(len).and_then(|mut class| class.spare.take().map(|chunk| class.remove(chunk)));
            if let Some(at) = spare {
                // SAFETY: as in `cool`.
                unsafe { self.source.unmap(at, chunk_len(len)) };
            }
        }
    }

    /// Bytes of pieces that are resident and unused. May be out of date at once.
    pub(crate) fn warm_bytes(&self) -> u64 {
        self.warm.load(Ordering::Relaxed)
    }

    /// Locks the chunks with pieces of `len` bytes. `None` only in a forked process, if a thread that it has
    /// not got may hold the lock.
    fn enter(&self, len: usize) -> Option<MutexGuard<'_, Class>> {
        let class = &self.classes[(len.ilog2() - PIECE_MIN.ilog2()) as usize];
        if let Ok(guard) = class.try_lock() {
            return Some(guard);
        }
        self.wait(class)
    }

    #[cold]
    fn wait<'a>(&self, class: &'a Mutex<Class>) -> Option<MutexGuard<'a, Class>> {
        if process::id() == self.process {
            return Some(lock(class));
        }
        (0..TRIES_AFTER_FORK).find_map(|_| {
            yield_now();
            class.try_lock().ok()
        })
    }
}

impl Class {
    /// A piece of the newest chunk that has a cold one.
    fn take_cold(&mut self, len: usize) -> Option<Piece> {
        let number = *self.open.last()?;
        let chunk = &mut self.chunks[number as usize];
        let word = chunk.cold.iter().position(|word| *word != 0)?;
        let index = word * 64 + chunk.cold[word].trailing_zeros() as usize;
        chunk.cold[word] &= chunk.cold[word] - 1;
        chunk.cold_pieces -= 1;
        // SAFETY: the piece lies in the chunk's mapping, since `cold` has bits for its pieces only.
        let at = unsafe { chunk.at.add(index * len) };
        if chunk.cold_pieces == 0 {
            self.open.pop();
        }
        self.spare.take_if(|spare| *spare == number);
        Some(Piece { at, len: u32::try_from(len).ok()?, chunk: number })
    }

    /// Keeps a piece warm. Returns it if there is no memory for its entry.
    fn put_warm(&mut self, piece: Piece) -> Option<Piece> {
        if self.warm.try_reserve(1).is_err() {
            return Some(piece);
        }
        self.warm.push(piece);
        None
    }

    /// Marks a piece as cold. Returns the address of its chunk if that is to be unmapped; it is out of the
    /// class then.
    fn put_cold(&mut self, piece: Piece) -> Option<NonNull<u8>> {
        let (len, number) = (piece.len(), piece.chunk);
        let chunk = &mut self.chunks[number as usize];
        let index = (piece.at.addr().get() - chunk.at.addr().get()) / len;
        debug_assert_eq!(chunk.cold[index / 64] & 1 << (index % 64), 0, "freed twice");
        chunk.cold[index / 64] |= 1 << (index % 64);
        chunk.cold_pieces += 1;
        let cold_pieces = chunk.cold_pieces;
        if cold_pieces == 1 {
            self.open(number);
        }
        if cold_pieces < pieces(len) {
            return None;
        }
        if self.spare.is_none() {
            self.spare = Some(number);
            return None;
        }
        Some(self.remove(number))
    }

    /// Adds a chunk of cold pieces. `None` if there is no memory for its entry; all later steps need none.
    fn add(&mut self, at: NonNull<u8>, len: usize) -> Option<()> {
        let chunks = self.chunks.len() + 1;
        self.chunks.try_reserve(1).ok()?;
        self.vacant.try_reserve(chunks - self.vacant.len()).ok()?;
        self.open.try_reserve(chunks - self.open.len()).ok()?;
        let mut cold = [0; PIECES_MAX / 64];
        for index in 0..pieces(len) as usize {
            cold[index / 64] |= 1 << (index % 64);
        }
        let chunk = Chunk { at, cold, cold_pieces: pieces(len), open_at: 0 };
        let number = match self.vacant.pop() {
            Some(number) => {
                self.chunks[number as usize] = chunk;
                number
            }
            None => {
                let number = u32::try_from(self.chunks.len()).ok().filter(|&number| number != NO_CHUNK)?;
                self.chunks.push(chunk);
                number
            }
        };
        self.open(number);
        Some(())
    }

    fn open(&mut self, number: u32) {
        self.chunks[number as usize].open_at =
            u32::try_from(self.open.len()).expect("as many as chunks at most");
        self.open.push(number);
    }

    /// Forgets a chunk whose pieces are all cold, and returns its address.
    fn remove(&mut self, number: u32) -> NonNull<u8> {
        let chunk = &self.chunks[number as usize];
        let (at, open_at) = (chunk.at, chunk.open_at);
        self.open.swap_remove(open_at as usize);
        if let Some(&moved) = self.open.get(open_at as usize) {
            self.chunks[moved as usize].open_at = open_at;
        }
        self.vacant.push(number);
        at
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::system::heap::Heap;
    use std::collections::BTreeMap;

    const LEN: usize = 64 << 10;

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
        let first = pieces[0].at.addr().get();
        let expected: Vec<_> = (0..pieces.len()).map(|i| first + i * LEN).collect();
        assert_eq!(pieces.iter().map(|piece| piece.at.addr().get()).collect::<Vec<_>>(), expected);
        assert_eq!(chunks.source.mapped(), CHUNK);
        let other = allocate(&chunks, LEN);
        let longer = allocate(&chunks, 2 * LEN);
        assert_eq!(chunks.source.mapped(), 3 * CHUNK, "each length has chunks of its own");
        free(&chunks, pieces.into_iter().chain([other, longer]));
    }

    #[test]
    fn freed_pieces_stay_warm_up_to_the_bound_and_the_last_freed_comes_first() {
        let chunks = chunks();
        let pieces: Vec<_> = (0..=WARM_MAX as usize / LEN).map(|_| allocate(&chunks, LEN)).collect();
        let at: Vec<_> = pieces.iter().map(|piece| piece.at).collect();
        free(&chunks, pieces);
        assert_eq!(chunks.warm_bytes(), WARM_MAX);
        assert_eq!(chunks.source.released(), [(at[at.len() - 1], LEN)], "there was no room for one more");
        assert_eq!(allocate(&chunks, LEN).at, at[at.len() - 2]);
        assert_eq!(chunks.warm_bytes(), WARM_MAX - LEN as u64);
    }

    #[test]
    fn trim_leaves_nothing_but_what_is_used() {
        let chunks = chunks();
        let pieces: Vec<_> = (0..200).map(|i| allocate(&chunks, LEN << (i % 3))).collect();
        let (kept, freed): (Vec<_>, Vec<_>) =
            pieces.into_iter().partition(|piece| piece.at.addr().get() % 7 == 0);
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
        assert!(!chunks.has(2 * PAGE_SIZE_MAX) && !chunks.has(PIECE_MIN / 2) && !chunks.has(PIECE_MIN + 1));
    }

    #[test]
    fn a_refusal_is_no_piece_and_changes_nothing() {
        let chunks = chunks();
        let one = allocate(&chunks, LEN);
        chunks.source.refuse(true);
        assert!(chunks.allocate(2 * LEN).is_none());
        let others: Vec<_> = std::iter::from_fn(|| chunks.allocate(LEN)).collect();
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
            let dice = (random >> 33) as usize;
            let grows = if step % 4000 < 2000 { 60 } else { 40 };
            if dice % 100 < grows {
                let piece = allocate(&chunks, PIECE_MIN << (dice / 100 % 6));
                let (at, end) = (piece.at.addr().get(), piece.at.addr().get() + piece.len());
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
            assert!(chunks.source.resident() <= bytes + WARM_MAX as usize, "step {step}");
        }
        free(&chunks, std::mem::take(&mut used).into_values());
        chunks.trim();
        assert_eq!(chunks.source.mapped(), 0);
    }
}
