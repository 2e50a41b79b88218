//! Bytes that are given with their memory, which becomes content where that is cheaper than to copy it.
//!
//! Its promises are those of [`keeping`](crate::pager::keeping).
//!
//! Held by: `tests/tests/given_bytes/`, `tests/tests/spill_model.rs`.

use crate::api::buffer::{MEMORY_LIMIT_DEFAULT, SpillBuffer};
use crate::memory::given::Owner;
use crate::pager::keeping::Kept;
use crate::pool::state::PAGE_SIZE_DEFAULT;
use std::io::{self, Write};

/// The memory limit of a buffer that is made from memory of `pinned` bytes: so much that all of it may be
/// kept, beside which an eighth has to be free, and as many bytes again of frames for what is not.
fn limit_for(pinned: usize) -> usize {
    let pages = pinned.next_multiple_of(PAGE_SIZE_DEFAULT);
    MEMORY_LIMIT_DEFAULT.max(pages.saturating_add(pages / 7).saturating_add(2 * PAGE_SIZE_DEFAULT))
}

impl SpillBuffer {
    /// Writes what `owner` has at the position, as `write_all` does, and keeps the memory of whole pages
    /// where that is cheaper than to copy them. The owner keeps `pinned` bytes of memory.
    fn push_owned(&mut self, owner: Owner, pinned: usize) -> io::Result<()> {
        let page = self.pager.pool.page_size;
        let past = usize::try_from(self.position % page as u64).unwrap_or(0);
        let head = if past == 0 { 0 } else { page - past };
        if owner.bytes().len() < head.saturating_add(page) {
            return self.write_all(owner.bytes());
        }
        self.write_all(&owner.bytes()[..head])?;
        match self.pager.keep(self.position, owner, head, pinned) {
            Ok(Kept { given, len }) => {
                self.position += len as u64;
                self.write_all(&given.bytes()[head + len..])
            }
            Err(owner) => self.write_all(&owner.bytes()[head..]),
        }
    }

    /// A buffer of its own that has what `owner` has, at position 0. It fails if the system has neither
    /// memory nor room in its temp directory for a copy.
    fn try_from_owned(owner: Owner, pinned: usize) -> io::Result<SpillBuffer> {
        let len = owner.bytes().len();
        // A copy needs no room for what is pinned beside it.
        let needed = if pinned / 2 > len { len } else { pinned };
        let mut buffer = SpillBuffer::with_budget(limit_for(needed));
        buffer.push_owned(owner, pinned)?;
        buffer.position = 0;
        Ok(buffer)
    }

    fn from_owned(owner: Owner, pinned: usize) -> SpillBuffer {
        let len = owner.bytes().len();
        match SpillBuffer::try_from_owned(owner, pinned) {
            Ok(buffer) => buffer,
            Err(error) => panic!("no memory for {len} bytes, and no room on the disk: {error}"),
        }
    }

    /// As `From<Bytes>`, without its panic.
    #[cfg(feature = "http-body")]
    pub(crate) fn try_from_bytes(bytes: bytes::Bytes) -> io::Result<SpillBuffer> {
        let (owner, pinned) = Owner::of_bytes(bytes);
        SpillBuffer::try_from_owned(owner, pinned)
    }

    /// Writes `bytes` at the position, and overwrites what is there, as [`write_all`](Write::write_all) does:
    /// it appends only at the end. It keeps the memory that it is given instead of copying it, where that is
    /// cheaper. Behind the feature `bytes`.
    ///
    /// Kept are whole pages, from the first one that begins in `bytes`: pages have 64 KiB, unless the memory
    /// limit is small or [`PoolBuilder::page_size`](crate::PoolBuilder::page_size) says otherwise. What lies
    /// before and behind them is copied. Everything is copied, and `bytes` is dropped before this returns:
    ///
    /// - if `bytes` has no whole page, or only one of less than 16 KiB, or the buffer has content where
    ///   its first one goes;
    /// - if more than a half of the memory that would be kept is other than these pages;
    /// - if less than an eighth of the memory limit were left beside it, or a limit of the
    ///   buffer's own is passed;
    /// - in a pool, if it is more than a quarter of the memory limit: memory that was given in one piece
    ///   comes free in one piece.
    ///
    /// The memory that is kept is charged to the memory limit, from before this returns until it is freed.
    /// The charge is the length of `bytes` or, if nothing else shares the bytes, the capacity of their vector
    /// from their first byte on. A slice may keep more memory than that: what is shared, or lies before it.
    /// This cannot be known, and is not charged. So copy a small slice of a large block instead of pushing
    /// it.
    ///
    /// A kept page is read where it is, and leaves memory like any other: when the limit is lowered, when
    /// another buffer needs memory, by [`spill`](SpillBuffer::spill) or a cut. When it is written to, it is
    /// copied to memory of the pool first, or goes to the store if there is none. The last page that leaves
    /// drops `bytes`. That may run foreign code (see [`Bytes::from_owner`](bytes::Bytes::from_owner)), on
    /// whatever thread this happens: it runs with nothing locked, may use the pool, and a panic of it reaches
    /// nobody. [`Frozen::bytes_at`](crate::Frozen::bytes_at) lends kept pages as they are.
    ///
    /// To keep takes some 0.6 µs, and 0.3 µs for each page, with their drop; to copy a page of 64
    /// KiB takes 2 to 8 µs.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use overspill::SpillBuffer;
    ///
    /// let bytes = Bytes::from(vec![7; 1 << 20]);
    /// let at = bytes.as_ptr();
    /// let mut buffer = SpillBuffer::new();
    /// buffer.push(bytes)?;
    /// assert_eq!((buffer.len(), buffer.position()), (1 << 20, 1 << 20));
    /// assert_eq!(buffer.freeze().bytes_at(0, 64 << 10)?.as_ptr(), at);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`write_all`](Write::write_all). The position has moved by exactly what was taken.
    #[cfg(feature = "bytes")]
    pub fn push(&mut self, bytes: bytes::Bytes) -> io::Result<()> {
        let (owner, pinned) = Owner::of_bytes(bytes);
        self.push_owned(owner, pinned)
    }
}

/// Makes a buffer of the vector's memory, at position 0. Whole pages of 64 KiB are kept where they are, and
/// the rest is copied, as by `push` of the feature `bytes`; all of it is copied if the vector has twice as
/// much capacity as it has whole pages. Its memory limit is 8 MiB, or the capacity of the vector in whole
/// pages, a seventh and two pages more if that is more: so nothing is spilled.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for a copy.
impl From<Vec<u8>> for SpillBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        let pinned = bytes.capacity();
        SpillBuffer::from_owned(Owner::of_vec(bytes), pinned)
    }
}

/// Makes a buffer of the memory of `bytes`, at position 0, as of a vector.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for a copy.
impl From<Box<[u8]>> for SpillBuffer {
    fn from(bytes: Box<[u8]>) -> Self {
        bytes.into_vec().into()
    }
}

/// Makes a buffer of the text's memory, at position 0, as of a vector.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for a copy.
impl From<String> for SpillBuffer {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

/// Makes a buffer of the memory of `bytes`, at position 0, as of a vector. See [`push`](SpillBuffer::push).
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for a copy.
#[cfg(feature = "bytes")]
impl From<bytes::Bytes> for SpillBuffer {
    fn from(bytes: bytes::Bytes) -> Self {
        let (owner, pinned) = Owner::of_bytes(bytes);
        SpillBuffer::from_owned(owner, pinned)
    }
}
