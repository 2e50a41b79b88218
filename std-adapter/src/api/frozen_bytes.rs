//! Frozen content as [`Bytes`], without a copy where it is in memory.
//!
//! Held by: `tests/tests/lent_bytes.rs`.

use crate::api::frozen::Frozen;
use bytes::Bytes;
use std::io;

impl Frozen {
    /// The `len` bytes at `offset`, or as many as there are before the end. `offset` is the first argument
    /// here, and the last one of [`read_at`](Frozen::read_at).
    ///
    /// If they lie in one page, and this is in memory or can be brought there, they are lent where they are:
    /// nothing is copied. The page stays charged to the pool until the last clone is dropped, on whatever
    /// thread, and whether or not the content is still there.
    /// [`PoolStats::memory_lent`](crate::PoolStats::memory_lent) counts it.
    ///
    /// Bytes that were [given](crate::SpillBuffer::push) are lent from the memory that they were given with.
    /// While one page of it is lent, all of that memory is kept, and counts as lent, once for all of its
    /// pages. A [standalone](crate::SpillBuffer::new) buffer lends such bytes even past the limit on lending.
    ///
    /// They are copied to memory that the pool does not charge:
    ///
    /// - if they lie in several pages: [`chunks`](Frozen::chunks) go from page to page;
    /// - if more than a quarter of the memory limit would be lent, or than what
    ///   [`PoolBuilder::lend`](crate::PoolBuilder::lend) says, so that slow receivers never starve the pool;
    /// - if they are less than a quarter of what would be held for them;
    /// - if there is no memory for the page.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    ///
    /// let frozen = SpillBuffer::from(&b"head and tail"[..]).freeze();
    /// let tail = frozen.bytes_at(9, 100)?;
    /// drop(frozen);
    /// assert_eq!(tail, "tail");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read_at`](Frozen::read_at), and of kind `OutOfMemory` if there is no memory for a copy.
    pub fn bytes_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if len == 0 {
            return Ok(Bytes::new());
        }
        if let Some(part) = self.shared.content.lend_part(self.start + offset, len)? {
            return Ok(Bytes::from_owner(part));
        }
        let mut copy = Vec::new();
        copy.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        copy.resize(len, 0);
        self.read_exact_at(&mut copy, offset)?;
        Ok(copy.into())
    }

    /// Bytes between `offset` and the end of its page, or of the content.
    fn left_in_page(&self, offset: u64) -> usize {
        let page = self.shared.content.pool.page_size as u64;
        let len = (page - (self.start + offset) % page).min(self.len().saturating_sub(offset));
        usize::try_from(len).unwrap_or(usize::MAX)
    }

    /// All bytes in order, in chunks that end with their pages, each as [`bytes_at`](Frozen::bytes_at)
    /// returns it. After an error it ends.
    ///
    /// ```
    /// use overspill::SpillPool;
    /// use std::io::Write;
    ///
    /// let pool = SpillPool::builder().memory(1 << 20).build()?;
    /// let mut body = pool.buffer();
    /// body.write_all(&[7; 3_000_000])?;
    /// let mut sent = 0;
    /// for chunk in body.freeze().chunks() {
    ///     sent += chunk?.len();
    /// }
    /// assert_eq!(sent, 3_000_000);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn chunks(&self) -> Chunks {
        Chunks { frozen: self.clone(), at: 0 }
    }
}

/// The bytes of a [`Frozen`] content in order; see [`Frozen::chunks`].
#[derive(Clone, Debug)]
pub struct Chunks {
    frozen: Frozen,
    at: u64,
}

impl Iterator for Chunks {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let len = self.frozen.left_in_page(self.at);
        if len == 0 {
            return None;
        }
        let chunk = self.frozen.bytes_at(self.at, len);
        self.at = if chunk.is_ok() { self.at + len as u64 } else { self.frozen.len() };
        Some(chunk)
    }
}

impl std::iter::FusedIterator for Chunks {}
