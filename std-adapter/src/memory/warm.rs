//! Warm pieces: freed ones whose memory stays resident, for the next that are needed.
//!
//! Promises:
//!
//! - At most [`WARM_MAX`] bytes are here.
//! - Nothing here calls the system, but the allocator for a list that grows, which may refuse.
//! - In a process that was forked while another thread had the lock, what was here is lost, and nothing more
//!   is kept.
//!
//! Held by: `std-adapter/src/memory/chunks/tests.rs`, the models in `std-adapter/src/memory/chunks.rs`.

use crate::memory::pieces::{CLASSES, PIECE_MIN, Piece, class_of};
use crate::sync::fork::Lock;
use crate::sync::{AtomicU64, Ordering, const_fn};

/// Bytes of warm pieces in one list. Bringing in a page anew costs a fault, half a microsecond: a buffer of
/// 3 MB, made and dropped again and again, took 470 of them each time.
pub(crate) const WARM_MAX: u64 = if cfg!(overspill_loom) { PIECE_MIN as u64 } else { 3 << 20 };

/// Warm pieces of all lengths.
#[derive(Debug)]
pub(crate) struct Warm {
    /// By [`class_of`] their length; of each, the last freed at the end.
    pieces: Lock<[Vec<Piece>; CLASSES]>,
    /// Bytes of all pieces. Changes under the lock.
    bytes: AtomicU64,
}

impl Warm {
    const_fn! {
        pub(crate) fn new() -> Self {
            Warm { pieces: Lock::of_program([const { Vec::new() }; CLASSES]), bytes: AtomicU64::new(0) }
        }
    }

    /// Bytes of all pieces, a moment ago.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The piece of `len` bytes that was put last.
    pub(crate) fn take(&self, len: usize) -> Option<Piece> {
        if self.bytes() < len as u64 {
            return None;
        }
        let Ok(mut pieces) = self.pieces.lock() else {
            self.bytes.store(0, Ordering::Relaxed);
            return None;
        };
        let piece = pieces[class_of(len)].pop()?;
        self.bytes.store(self.bytes() - len as u64, Ordering::Relaxed);
        Some(piece)
    }

    /// Keeps a piece, whose bytes nothing uses. Returns it if there is no room, or no memory for its entry.
    pub(crate) fn put(&self, piece: Piece) -> Option<Piece> {
        let bytes = piece.len() as u64;
        if self.bytes() + bytes > WARM_MAX {
            return Some(piece);
        }
        let Ok(mut pieces) = self.pieces.lock() else { return Some(piece) };
        let list = &mut pieces[class_of(piece.len())];
        if self.bytes() + bytes > WARM_MAX || list.try_reserve(1).is_err() {
            return Some(piece);
        }
        list.push(piece);
        self.bytes.store(self.bytes() + bytes, Ordering::Relaxed);
        None
    }
}

/// Lost in a fork.
#[cfg(test)]
#[cfg(not(overspill_loom))]
impl Warm {
    pub(crate) fn lost() -> Self {
        let pieces = Lock::lost([const { Vec::new() }; CLASSES]);
        Warm { pieces, bytes: AtomicU64::new(PIECE_MIN as u64) }
    }
}
