//! Memory that cannot grow, borrowed or part of a value, with a length of its own.
//!
//! Held by: `tests/tests/conformance.rs`, `tests/tests/cursor_model.rs`, `tests/tests/cursor_edges.rs`.

use crate::medium::{CapacityError, Medium, ReadMedium, as_u64, copy, read_in_one_piece, tail_mut};
use core::convert::Infallible;

/// Fixed memory with a length of its own, apart from its capacity.
///
/// `S` is the storage: an array, a `&mut [u8]`, or anything else that lends its bytes. The first
/// [`len`](ReadMedium::len) bytes are content, the rest is free. It takes one `usize` beside the storage.
///
/// It is not `Copy`, so that content is never forked implicitly.
///
/// ```
/// use overspill_core::{Cursor, Fixed, Medium, ReadMedium};
///
/// let mut memory = [0xFF; 8];
/// let mut file = Cursor::new(Fixed::new(&mut memory[..]));
/// assert_eq!(file.write(b"ten letter"), Ok(8)); // takes what fits
/// assert!(file.write(b"er").is_err());          // then says that it is full
/// assert_eq!(file.get_ref().as_slice(), b"ten lett");
///
/// let mut record = Fixed::filled(*b"already here"); // content from the start
/// assert_eq!(record.len(), 12);
/// record.set_len(7)?;
/// record.as_mut_slice()[0] = b'A';
/// assert_eq!(record.as_slice(), b"Already");
/// # Ok::<(), overspill_core::CapacityError>(())
/// ```
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[derive(Clone, Debug, Default)]
pub struct Fixed<S> {
    storage: S,
    /// Content is `..len`. At most the storage's length, unless the storage lends a shorter slice
    /// than it once did; every access allows for that.
    len: usize,
}

impl<S> Fixed<S> {
    /// An empty medium: all of `storage` is free.
    pub const fn new(storage: S) -> Self {
        Fixed { storage, len: 0 }
    }

    /// Returns the storage. Its first `len` bytes are the content.
    pub fn into_inner(self) -> S {
        self.storage
    }
}

impl<S: AsRef<[u8]>> Fixed<S> {
    /// A full medium: all of `storage` is content, which can be cut.
    pub fn filled(storage: S) -> Self {
        let len = storage.as_ref().len();
        Fixed { storage, len }
    }

    /// A medium of which the first `len` bytes of `storage` are content, and the rest is free.
    ///
    /// # Errors
    /// [`CapacityError`] if `storage` is shorter than `len`. The storage is dropped then: if it must not be
    /// lost, compare the two first.
    pub fn with_len(storage: S, len: usize) -> Result<Self, CapacityError> {
        let capacity = storage.as_ref().len();
        if len > capacity {
            return Err(CapacityError { requested: as_u64(len), capacity: as_u64(capacity) });
        }
        Ok(Fixed { storage, len })
    }

    /// The greatest length of the content, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.storage.as_ref().len()
    }

    /// The result of a write that took nothing: an error, unless `data` is empty.
    #[cold]
    fn nothing_taken(&self, offset: u64, data: &[u8]) -> Result<usize, CapacityError> {
        if data.is_empty() {
            return Ok(0);
        }
        let requested = offset.saturating_add(as_u64(data.len()));
        Err(CapacityError { requested, capacity: as_u64(self.capacity()) })
    }

    /// The content.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        let bytes = self.storage.as_ref();
        bytes.get(..self.len).unwrap_or(bytes)
    }
}

impl<S: AsRef<[u8]> + AsMut<[u8]>> Fixed<S> {
    /// The content, to be changed in place.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let bytes = self.storage.as_mut();
        let len = self.len.min(bytes.len());
        bytes.get_mut(..len).unwrap_or_default()
    }
}

read_in_one_piece!([S: AsRef<[u8]>] Fixed<S>, CapacityError, |medium| medium.as_slice());
read_in_one_piece! {
    /// Shared memory is read-only. Any number of cursors may read it at once, and reading it cannot fail.
    [S: AsRef<[u8]>] &Fixed<S>, Infallible, |medium| medium.as_slice()
}

impl<S: AsRef<[u8]> + AsMut<[u8]>> Medium for Fixed<S> {
    #[inline]
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, CapacityError> {
        let is_within = offset <= ReadMedium::len(self);
        let room = if is_within { tail_mut(self.storage.as_mut(), offset) } else { &mut [] };
        let taken = copy(data, room);
        if taken == 0 {
            return self.nothing_taken(offset, data);
        }
        // `offset` is at most `len`, a usize, so the sum is at most the storage's length.
        let end = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(taken);
        self.len = self.len.max(end);
        Ok(taken)
    }

    fn set_len(&mut self, len: u64) -> Result<(), CapacityError> {
        let capacity = self.capacity();
        let refused = CapacityError { requested: len, capacity: as_u64(capacity) };
        let new = usize::try_from(len).map_err(|_| refused)?;
        if new > capacity {
            return Err(refused);
        }
        if let Some(added) = self.storage.as_mut().get_mut(self.len..new) {
            added.fill(0);
        }
        self.len = new;
        Ok(())
    }
}
