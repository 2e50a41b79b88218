//! Chunks with pieces of one length, and which of the pieces are cold. Bookkeeping only: it calls nothing of
//! the system.
//!
//! Promises:
//!
//! - A piece that was taken is in no list until it is put back.
//! - Only adding a chunk needs memory, which may be refused.
//!
//! The states are the table at the head of [`chunks`](crate::memory::chunks).
//!
//! Held by: `std-adapter/src/memory/chunks/tests.rs`, `std-adapter/src/models.rs` (loom).

#![allow(unsafe_code)]

use crate::memory::size_class::PAGE_SIZE_MAX;
use std::ptr::NonNull;

/// Bytes of the shortest piece, a page of the usual machine. Where pages are longer, so is the shortest piece
/// that is used.
pub(crate) const PIECE_MIN: usize = 4 << 10;

/// The lengths of pieces: from [`PIECE_MIN`] to [`PAGE_SIZE_MAX`], each twice the one before. Models have
/// one.
pub(crate) const CLASSES: usize =
    if cfg!(overspill_loom) { 1 } else { (PAGE_SIZE_MAX.ilog2() - PIECE_MIN.ilog2() + 1) as usize };

/// How many [arenas](crate::memory::chunks) there are. Models have one: what is modelled is inside of it.
pub(crate) const ARENAS: u32 = if cfg!(overspill_loom) { 1 } else { 4 };

/// Bytes of a chunk, unless its one piece is longer. A chunk costs two calls of the system.
pub(crate) const CHUNK: usize = 1 << 20;

/// The most pieces of a chunk.
const PIECES_MAX: usize = CHUNK / PIECE_MIN;

/// Memory of one owner, until it is freed.
#[derive(Debug)]
pub(crate) struct Piece {
    at: NonNull<u8>,
    len: u32,
    /// [`ARENAS`] times the chunk's number among those of its length in its arena, and the arena;
    /// [`NO_CHUNK`] if the memory is the allocator's.
    chunk: u32,
}

/// No piece of a chunk has this number.
const NO_CHUNK: u32 = u32::MAX;

/// The most chunks of one length in an arena: so many would be a petabyte.
const CHUNKS_MAX: u32 = NO_CHUNK / ARENAS;

impl Piece {
    /// No memory.
    pub(crate) const NONE: Piece = Piece { at: NonNull::dangling(), len: 0, chunk: NO_CHUNK };

    /// `len` bytes at `at` that are the allocator's.
    pub(crate) fn of_allocator(at: NonNull<u8>, len: u32) -> Self {
        Piece { at, len, chunk: NO_CHUNK }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the longest piece has 16 MiB, and arenas are few")]
    fn of_chunk(at: NonNull<u8>, len: usize, number: u32, arena: usize) -> Self {
        Piece { at, len: len as u32, chunk: number * ARENAS + arena as u32 }
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

    /// The arena of its chunk.
    pub(crate) fn arena(&self) -> usize {
        (self.chunk % ARENAS) as usize
    }
}

/// Bytes of a chunk with pieces of `len` bytes.
pub(crate) fn chunk_len(len: usize) -> usize {
    len.max(CHUNK)
}

/// The number of this length among all, from 0.
pub(crate) fn class_of(len: usize) -> usize {
    (len.ilog2() - PIECE_MIN.ilog2()) as usize
}

fn pieces(len: usize) -> u32 {
    u32::try_from(chunk_len(len) / len).expect("at most PIECES_MAX")
}

/// The chunks of one arena with pieces of one length.
#[derive(Debug)]
pub(crate) struct Class {
    chunks: Vec<Chunk>,
    /// Numbers of entries of `chunks` that stand for no mapping.
    vacant: Vec<u32>,
    /// Numbers of the chunks that have a cold piece.
    open: Vec<u32>,
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

impl Class {
    pub(crate) const fn new() -> Self {
        Class { chunks: Vec::new(), vacant: Vec::new(), open: Vec::new(), spare: None }
    }

    /// A piece of the newest chunk that has a cold one.
    pub(crate) fn take_cold(&mut self, len: usize, arena: usize) -> Option<Piece> {
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
        Some(Piece::of_chunk(at, len, number, arena))
    }

    /// Forgets the chunk that stays mapped without a used piece, and returns its address.
    pub(crate) fn remove_spare(&mut self) -> Option<NonNull<u8>> {
        let spare = self.spare.take()?;
        Some(self.remove(spare))
    }

    /// Marks a piece as cold. Returns the address of its chunk if that is to be unmapped; it is out of the
    /// class then.
    pub(crate) fn put_cold(&mut self, piece: Piece) -> Option<NonNull<u8>> {
        let (len, number) = (piece.len(), piece.chunk / ARENAS);
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

    /// Adds the chunk at `at`, and takes its first piece. `None` if there is no memory for its entry; all
    /// later steps need none.
    pub(crate) fn add(&mut self, at: NonNull<u8>, len: usize, arena: usize) -> Option<Piece> {
        let chunks = self.chunks.len() + 1;
        self.chunks.try_reserve(1).ok()?;
        self.vacant.try_reserve(chunks - self.vacant.len()).ok()?;
        self.open.try_reserve(chunks - self.open.len()).ok()?;
        let mut cold = [0; PIECES_MAX / 64];
        for index in 1..pieces(len) as usize {
            cold[index / 64] |= 1 << (index % 64);
        }
        let chunk = Chunk { at, cold, cold_pieces: pieces(len) - 1, open_at: 0 };
        let number = match self.vacant.pop() {
            Some(number) => {
                self.chunks[number as usize] = chunk;
                number
            }
            None => {
                let number = u32::try_from(self.chunks.len()).ok().filter(|&number| number < CHUNKS_MAX)?;
                self.chunks.push(chunk);
                number
            }
        };
        if pieces(len) > 1 {
            self.open(number);
        }
        Some(Piece::of_chunk(at, len, number, arena))
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
