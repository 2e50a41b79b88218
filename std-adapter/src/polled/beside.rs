//! What an async handle holds beside the pages of its buffer, when those get no frame.
//!
//! Promises:
//!
//! - Memory for at most [`BESIDE_MAX`] bytes that were accepted, and for as many that were read ahead. It is
//!   not charged to the memory limit, as the copy is not that `fill_buf` lends of a page without a frame.
//!   What was accepted leaves no memory once it is in the buffer.
//! - What was accepted lies over the content until it is in the buffer, and is read from here.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::error::SpillError;
use crate::pager::tail::reserve_within;

/// Bytes of each of the two pieces.
pub(crate) const BESIDE_MAX: usize = 16 << 10;

/// Consecutive bytes of the content.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) at: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Piece {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }

    /// The bytes from `position` on, if the piece has the one there.
    pub(crate) fn from(&self, position: u64) -> &[u8] {
        let at = position.checked_sub(self.at).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }

    /// Takes from `data` what lies before `end`, if the piece is empty or ends at `position`. The
    /// result is 0 otherwise.
    fn append(&mut self, position: u64, data: &[u8], end: u64) -> Result<usize, SpillError> {
        if self.is_empty() {
            self.at = position;
        } else if self.end() != position {
            return Ok(0);
        }
        let room = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
        let taken = data.len().min(room).min(BESIDE_MAX - self.bytes.len());
        reserve_within(&mut self.bytes, taken, BESIDE_MAX)?;
        self.bytes.extend_from_slice(&data[..taken]);
        Ok(taken)
    }

    /// Removes the first `len` bytes; with the last, the memory of the piece.
    pub(crate) fn advance(&mut self, len: usize) {
        self.at += len as u64;
        if len == self.bytes.len() {
            self.forget();
        } else {
            self.bytes.drain(..len);
        }
    }

    /// Cuts off what lies at or past `end`.
    pub(crate) fn cut(&mut self, end: u64) {
        let kept = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if kept == 0 {
            self.forget();
        } else {
            self.bytes.truncate(kept);
        }
    }

    /// Removes all bytes, and their memory.
    pub(crate) fn forget(&mut self) {
        self.bytes = Vec::new();
    }
}

/// The pieces of one handle.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Accepted, and not in the buffer yet.
    pub(crate) accepted: Piece,
    /// A copy of what the buffer has.
    pub(crate) read: Piece,
    /// Where the room on the disk ends that the last job has found for what is accepted.
    pub(crate) room: u64,
}

impl Beside {
    pub(crate) fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.read.is_empty()
    }

    /// Accepts of `data` what there is room for.
    pub(crate) fn accept(&mut self, position: u64, data: &[u8]) -> Result<usize, SpillError> {
        self.accepted.append(position, data, self.room)
    }

    /// How many of the next bytes at `position` are not covered by what was accepted.
    pub(crate) fn uncovered(&self, position: u64) -> usize {
        if self.accepted.is_empty() || self.accepted.end() <= position {
            return usize::MAX;
        }
        usize::try_from(self.accepted.at.saturating_sub(position)).unwrap_or(usize::MAX)
    }

    /// The bytes at `position` that are here.
    pub(crate) fn from(&self, position: u64) -> &[u8] {
        let accepted = self.accepted.from(position);
        if !accepted.is_empty() {
            return accepted;
        }
        let read = self.read.from(position);
        &read[..read.len().min(self.uncovered(position))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handle kept the memory of what it had once accepted, 16 KiB that no limit counts, for
    /// as long as it lived.
    #[test]
    fn what_has_moved_into_the_buffer_leaves_no_memory() {
        let mut beside = Beside { room: u64::MAX, ..Beside::default() };
        assert_eq!(beside.accept(5, &[7; 2 * BESIDE_MAX]).unwrap(), BESIDE_MAX);
        beside.accepted.advance(1000);
        assert_eq!((beside.from(1005).len(), beside.accepted.at), (BESIDE_MAX - 1000, 1005));
        beside.accepted.advance(BESIDE_MAX - 1000);
        assert_eq!((beside.accepted.bytes.capacity(), beside.accepted.at), (0, 5 + BESIDE_MAX as u64));

        // What was cut off stayed too, and what was read.
        assert_eq!(beside.accept(5, &[7; 100]).unwrap(), 100);
        beside.accepted.cut(5);
        assert_eq!(beside.accepted.bytes.capacity(), 0);
    }

    /// The vector doubled past the limit: 16 KiB by pieces of 1,000 took 32,000 bytes.
    #[test]
    fn many_pieces_take_no_more_memory_than_their_maximum() {
        let mut beside = Beside { room: u64::MAX, ..Beside::default() };
        while beside.accept(beside.accepted.end(), &[7; 1000]).unwrap() > 0 {
            assert!(beside.accepted.bytes.capacity() <= BESIDE_MAX);
        }
        assert_eq!(beside.accepted.end(), BESIDE_MAX as u64);
    }
}
