//! Frozen content as [`Bytes`], without a copy where it is in memory.
//!
//! Held by: `tests/tests/lent_bytes.rs`.

use crate::api::frozen::Frozen;
use crate::pager::lent_page::LentPage;
use crate::sync::Arc;
use bytes::Bytes;
use std::io;

/// A part of a lent page.
struct Part {
    page: Arc<LentPage>,
    at: usize,
    len: usize,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.page.bytes_from(self.at)[..self.len]
    }
}

impl Frozen {
    /// The `len` bytes at `offset`, or as many as there are before the end.
    ///
    /// If they lie in one page, and this is in memory or can be brought there, they are lent where they are: nothing is copied.
    /// The page stays charged to the pool until the last clone is dropped, on whatever thread, and whether or not the content
    /// is still there. [`PoolStats::memory_lent`](crate::PoolStats::memory_lent) counts it.
    ///
    /// They are copied to memory that the pool does not charge:
    ///
    /// - if they lie in several pages: [`chunks`](Frozen::chunks) go from page to page;
    /// - if a quarter of the memory limit is lent, or what [`PoolBuilder::lend`](crate::PoolBuilder::lend) says, so that slow
    ///   receivers never starve the pool;
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
        let content = self.content();
        let (place, page) = (self.start() + offset, content.pool.page_size as u64);
        let at = place % page;
        if at + len as u64 <= page
            && let Some(page) = content.lend(place, len)?
        {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            return Ok(Bytes::from_owner(Part { page, at, len }));
        }
        let mut copy = Vec::new();
        copy.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        copy.resize(len, 0);
        self.read_exact_at(&mut copy, offset)?;
        Ok(copy.into())
    }

    /// All bytes in order, in chunks that end with their pages, each as [`bytes_at`](Frozen::bytes_at) returns it. After an
    /// error it ends.
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
        let left = self.frozen.len() - self.at;
        if left == 0 {
            return None;
        }
        let page = self.frozen.content().pool.page_size as u64;
        let len = (page - (self.frozen.start() + self.at) % page).min(left);
        let chunk = self.frozen.bytes_at(self.at, usize::try_from(len).unwrap_or(usize::MAX));
        self.at = if chunk.is_ok() { self.at + len } else { self.frozen.len() };
        Some(chunk)
    }
}

impl std::iter::FusedIterator for Chunks {}
