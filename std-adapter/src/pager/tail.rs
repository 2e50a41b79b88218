//! The last bytes of content that grows, beside its pages: what an async writer has accepted while
//! its page gets no frame.
//!
//! Promises:
//!
//! - At most [`TAIL_MAX`] bytes of memory, which are not charged to the memory limit.
//! - They follow the bytes of the pages without a gap, and are read from here until they are there too.
//! - The lock here is held while bytes are copied, and never across a call of the store: so an append to the
//!   tail waits for nobody.
//!
//! Held by: the test below, `tests/tests/async_buffer/`.

use crate::error::SpillError;
use crate::memory::copy::copy;
use crate::sync::fork::Lock;
use crate::sync::{AtomicU64, Ordering};

/// The most bytes of a tail.
pub(crate) const TAIL_MAX: usize = 16 << 10;

/// Makes room in `bytes` for `more`, by doubling as a vector does, but for no more than `max` bytes in all,
/// which suffice.
pub(crate) fn reserve_within(bytes: &mut Vec<u8>, more: usize, max: usize) -> Result<(), SpillError> {
    let needed = bytes.len() + more;
    debug_assert!(needed <= max);
    if needed > bytes.capacity() {
        let capacity = needed.max((2 * bytes.len()).min(max));
        bytes.try_reserve_exact(capacity - bytes.len()).map_err(|_| SpillError::OutOfMemory)?;
    }
    Ok(())
}

#[derive(Debug)]
pub(crate) struct Tail {
    /// Where it begins; `u64::MAX` if it is empty. Written with the bytes locked. A reader that knows a
    /// length of the content sees the beginning that the tail had then, or a later one: once that is past its
    /// bytes, they are in the pages.
    from: AtomicU64,
    bytes: Lock<Vec<u8>>,
}

impl Default for Tail {
    fn default() -> Self {
        Tail { from: AtomicU64::new(u64::MAX), bytes: Lock::default() }
    }
}

impl Tail {
    pub(crate) fn is_empty(&self) -> bool {
        self.from.load(Ordering::Relaxed) == u64::MAX
    }

    /// Copies the bytes from `offset` on that are here, and returns how many these are.
    #[inline]
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        if offset < self.from.load(Ordering::Relaxed) {
            return Ok(0);
        }
        self.read_slow(offset, buf)
    }

    #[cold]
    fn read_slow(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let bytes = self.bytes.lock()?;
        let at = offset.checked_sub(self.from.load(Ordering::Relaxed));
        let here = at.and_then(|at| bytes.get(usize::try_from(at).ok()?..)).unwrap_or_default();
        let len = here.len().min(buf.len());
        copy(&mut buf[..len], &here[..len]);
        Ok(len)
    }

    /// Takes from `data`, which begins at `end`, the end of the content, what lies before the
    /// position `room_end` and has place here.
    pub(crate) fn append(&self, end: u64, data: &[u8], room_end: u64) -> Result<usize, SpillError> {
        let mut bytes = self.bytes.lock()?;
        let room = usize::try_from(room_end.saturating_sub(end)).unwrap_or(usize::MAX);
        let taken = data.len().min(room).min(TAIL_MAX - bytes.len());
        if taken > 0 {
            reserve_within(&mut bytes, taken, TAIL_MAX)?;
            if bytes.is_empty() {
                self.from.store(end, Ordering::Relaxed);
            }
            bytes.extend_from_slice(&data[..taken]);
        }
        Ok(taken)
    }

    /// A copy of all bytes.
    pub(crate) fn copy(&self) -> Result<Vec<u8>, SpillError> {
        let bytes = self.bytes.lock()?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes.len()).map_err(|_| SpillError::OutOfMemory)?;
        copy.extend_from_slice(&bytes);
        Ok(copy)
    }

    /// Removes the first `len` bytes, which are in the pages now. To be called with the content locked: a
    /// reader that finds them gone here finds them there.
    pub(crate) fn advance(&self, len: usize) -> Result<(), SpillError> {
        let mut bytes = self.bytes.lock()?;
        bytes.drain(..len);
        let from = if bytes.is_empty() { u64::MAX } else { self.from.load(Ordering::Relaxed) + len as u64 };
        self.from.store(from, Ordering::Relaxed);
        if bytes.is_empty() {
            *bytes = Vec::new();
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    /// The vector doubled past the limit: 16 KiB by pieces of 1,000 took 32,000 bytes.
    #[test]
    fn a_tail_of_many_pieces_takes_no_more_memory_than_its_maximum() {
        let tail = Tail::default();
        let mut end = 0;
        while let taken @ 1.. = tail.append(end, &[7; 1000], u64::MAX).unwrap() {
            end += taken as u64;
            assert!(tail.bytes.lock().unwrap().capacity() <= TAIL_MAX);
        }
        assert_eq!(end, TAIL_MAX as u64);
        assert_eq!(tail.copy().unwrap(), [7; TAIL_MAX]);
    }
}
