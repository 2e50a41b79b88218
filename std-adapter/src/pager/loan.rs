//! The state of a loan: what [`chunk_at`](overspill_core::ReadMedium::chunk_at) has lent.
//!
//! Promises:
//!
//! - What is left of a copy stays lent when a part of it was consumed: a line of 10 bytes read 4 KiB from the
//!   store, and so did the next.
//! - A copy is freed once all of it was consumed, or something else was done.
//! - I2': copies are not charged, but those of a pool's handles have [`COPIES_MAX`] bytes together, and
//!   [`SHORT`] more each. A copy of 4 KiB stayed with each buffer that had lent a line.
//!
//! Held by: `tests/tests/conformance.rs`, `tests/tests/spill_model.rs`, `tests/tests/many_readers.rs`,
//! `tests/tests/resident_memory.rs`.

use crate::error::SpillError;
use crate::pages::window::Window;
use crate::pool::state::PoolState;
use crate::sync::Arc;

/// Bytes of the longest copy that a spilled page is lent from when it gets no frame.
pub(crate) const COPY_MAX: usize = 4 << 10;

/// Bytes of the copies of one pool, but for those that are [`SHORT`].
const COPIES_MAX: u64 = 1 << 20;

/// Bytes of a copy that is not counted.
const SHORT: usize = 256;

/// What [`chunk_at`](overspill_core::ReadMedium::chunk_at) lends from, and a reader of frozen content.
#[derive(Debug, Default)]
pub(crate) struct Loan {
    /// The window while its bytes are lent. It is out of the table, so it cannot be reclaimed.
    pub(crate) window: Option<Window>,
    /// Where the bytes begin that are lent, and how many they are. `None` once something else was done.
    pub(crate) lent: Option<(u64, usize)>,
    /// A part of a page that has no frame. What is lent of it are its last bytes.
    pub(crate) copy: Option<LentCopy>,
}

/// A part of a page, beside the frames.
#[derive(Debug)]
pub(crate) struct LentCopy {
    bytes: Vec<u8>,
    /// Where its bytes are counted.
    counted: Option<Arc<PoolState>>,
}

impl LentCopy {
    /// A copy of up to `most` bytes of what `read` reads.
    pub(crate) fn read(
        pool: &Arc<PoolState>,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, SpillError>,
    ) -> Result<Self, SpillError> {
        let long = most.min(COPY_MAX);
        let is_counted = long > SHORT && pool.copies.add(COPY_MAX as u64, COPIES_MAX);
        let mut copy = LentCopy { bytes: Vec::new(), counted: is_counted.then(|| Arc::clone(pool)) };
        let len = if is_counted { long } else { long.min(SHORT) };
        copy.bytes.try_reserve_exact(len).map_err(|_| SpillError::OutOfMemory)?;
        copy.bytes.resize(len, 0);
        let len = read(&mut copy.bytes)?;
        copy.bytes.truncate(len);
        Ok(copy)
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for LentCopy {
    fn drop(&mut self) {
        self.counted.iter().for_each(|pool| pool.copies.subtract(COPY_MAX as u64));
    }
}

impl Loan {
    /// The bytes that are lent, from the window or from the copy. They begin at offset `at` of their page.
    pub(crate) fn bytes(&self, at: usize) -> &[u8] {
        let len = self.lent.map_or(0, |(_, len)| len);
        match (&self.window, &self.copy) {
            (Some(window), _) => &window.content_from(at)[..len],
            (None, Some(copy)) => &copy.bytes[copy.len() - len..],
            (None, None) => &[],
        }
    }

    /// Whether a copy is lent that has bytes at `position`. Those stay lent then, without any before.
    pub(crate) fn goes_on_at(&mut self, position: u64) -> bool {
        let Some((from, len)) = self.lent.as_mut().filter(|_| self.window.is_none()) else { return false };
        let done = position.checked_sub(*from).and_then(|done| usize::try_from(done).ok());
        let Some(left) = done.and_then(|done| len.checked_sub(done)).filter(|left| *left > 0) else {
            return false;
        };
        (*from, *len) = (position, left);
        true
    }

    /// Ends the loan, and returns the window, which belongs into its table.
    pub(crate) fn end(&mut self) -> Option<Window> {
        self.lent = None;
        self.copy = None;
        self.window.take()
    }
}
