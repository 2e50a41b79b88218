//! Content that is complete, for any number of readers.
//!
//! Its promises are listed at [`Frozen`].
//!
//! Held by: `tests/tests/frozen.rs`, `std-adapter/src/models/content.rs` (loom).

use crate::api::buffer::SpillBuffer;
use crate::api::frozen_reader::FrozenReader;
use crate::api::persist::{save, unnamed};
use crate::api::persisted::Persisted;
use crate::disk::atomic_file::Existing;
use crate::error::SpillError;
use crate::observe::stats::BufferStats;
use crate::pager::content::Content;
use crate::pager::export::seek_to;
use crate::pager::shared::Shared;
use crate::sync::Arc;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::ops::{Bound, RangeBounds};
use std::path::Path;

/// The content of a [`SpillBuffer`] that is complete: it cannot be written to any more, and any number of
/// handles and threads read it at once.
///
/// A clone is another handle of the same content, and costs one atomic addition.
/// [`reader`](Frozen::reader) makes a file-like reader with a position of its own;
/// [`read_at`](Frozen::read_at) needs none. A [slice](Frozen::slice) is a handle of a part. The content is
/// freed with the last handle, whichever that is.
///
/// It promises:
///
/// - A slow handle holds up no other, and none sees another's position or errors. A read waits for one
///   transfer at most that another handle has begun.
/// - The pages are still the pool's: they count against its limits, leave memory when it is short, and come
///   back when they are read. What several readers need at the same time is read from the store once.
/// - A reader that stands still holds no memory that others need.
///
/// ```
/// use overspill::SpillPool;
/// use std::io::{Read, Write};
/// use std::thread;
///
/// let pool = SpillPool::builder().memory(1 << 20).build()?;
/// let mut upload = pool.buffer();
/// upload.write_all(&[7; 3_000_000])?;
///
/// let frozen = upload.freeze();
/// let sums = [frozen.reader(), frozen.reader()].map(|reader| {
///     thread::spawn(move || reader.bytes().map(|byte| u64::from(byte.unwrap())).sum::<u64>())
/// });
/// for sum in sums {
///     assert_eq!(sum.join().unwrap(), 21_000_000);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Nothing writes to it, and so neither it nor its readers can be written to:
///
/// ```compile_fail,E0599
/// use std::io::Write;
///
/// let mut frozen = overspill::SpillBuffer::new().freeze();
/// frozen.write_all(b"more");
/// ```
#[derive(Clone)]
pub struct Frozen {
    pub(crate) shared: Arc<Shared>,
    /// Where in the content this handle's part begins and ends, in bytes.
    pub(crate) start: u64,
    end: u64,
}

impl SpillBuffer {
    /// Ends the writing: the content becomes readable by any number of handles and threads. Moves no byte.
    ///
    /// The only handle of a content can be [turned back](Frozen::into_buffer) into a buffer.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    ///
    /// let frozen = SpillBuffer::from(&b"a body"[..]).freeze();
    /// assert_eq!((frozen.len(), frozen.to_vec()?), (6, b"a body".to_vec()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// The buffer is gone, so nobody can write to what others read:
    ///
    /// ```compile_fail,E0382
    /// use std::io::Write;
    ///
    /// let mut buffer = overspill::SpillBuffer::new();
    /// let frozen = buffer.freeze();
    /// buffer.write_all(b"more");
    /// ```
    #[must_use]
    pub fn freeze(self) -> Frozen {
        Frozen::whole(Arc::new(Shared::new(Content::new(self.pager, false))))
    }
}

/// As [`SpillBuffer::freeze`].
impl From<SpillBuffer> for Frozen {
    fn from(buffer: SpillBuffer) -> Self {
        buffer.freeze()
    }
}

/// What a buffer is made of, frozen.
macro_rules! frozen_from {
    ($($given:ty),*) => { $(
        /// Makes a [`SpillBuffer`] of the value, and freezes it.
        ///
        /// # Panics
        /// If the system has neither memory nor room in its temp directory for a copy.
        impl From<$given> for Frozen {
            fn from(given: $given) -> Self {
                SpillBuffer::from(given).freeze()
            }
        }
    )* };
}

frozen_from!(Vec<u8>, &Vec<u8>, Box<[u8]>, &[u8], String, &String, &str);
#[cfg(feature = "bytes")]
frozen_from!(bytes::Bytes);

/// Makes a [`SpillBuffer`] of the value, and freezes it.
///
/// # Panics
/// If the system has neither memory nor room in its temp directory for a copy.
impl<const N: usize> From<&[u8; N]> for Frozen {
    fn from(given: &[u8; N]) -> Self {
        SpillBuffer::from(given).freeze()
    }
}

impl Frozen {
    pub(crate) fn whole(shared: Arc<Shared>) -> Self {
        let end = shared.content.len();
        Frozen { shared, start: 0, end }
    }

    /// The length in bytes: of the content, or of the part that this handle was [sliced](Frozen::slice) to.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads from `offset` into `buf`, and returns the number of bytes: all that `buf` holds, or as many as
    /// there are before the end; 0 at the end or past it. It reads less only if a page behind the first bytes
    /// cannot be read, which the next call tries again. [`SpillBuffer::read_at`] may always read less.
    ///
    /// Threads may call this at once through one handle. Reads that follow each other are best made by a
    /// [`reader`](Frozen::reader), which takes no lock for most of them.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    ///
    /// let frozen = SpillBuffer::from(&b"head and tail"[..]).freeze();
    /// let mut tail = [0; 8];
    /// assert_eq!(frozen.read_at(&mut tail, 9)?, 4);
    /// assert_eq!(&tail[..4], b"tail");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a page cannot be read from the store, and nothing was read before it. The next call tries again.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        Ok(self.shared.read_at(self.start.saturating_add(offset), &mut buf[..want])?)
    }

    /// Reads all of `buf` from `offset`.
    ///
    /// # Errors
    /// Of kind `UnexpectedEof` if the bytes end before; else as [`read_at`](Frozen::read_at). What `buf`
    /// holds then is not specified.
    pub fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }

    /// A reader at position 0, with a share in the content. It reads on if this handle is dropped.
    #[must_use]
    pub fn reader(&self) -> FrozenReader {
        FrozenReader::new(Arc::clone(&self.shared), self.start, self.end)
    }

    /// A handle of the bytes in `range`. Its first byte is at offset 0, whatever `range` begins with.
    ///
    /// A range that reaches past the end is cut there; one that begins past it, or ends before it begins, is
    /// empty. No byte is copied. The slice keeps all of the content alive, not only its part.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    ///
    /// let frozen = SpillBuffer::from(&b"head and tail"[..]).freeze();
    /// assert_eq!(frozen.slice(9..).to_vec()?, b"tail");
    /// assert_eq!(frozen.slice(5..8).slice(1..100).to_vec()?, b"nd");
    /// assert!(frozen.slice(14..).is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<u64>) -> Frozen {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let place = |offset: u64| self.start.saturating_add(offset).min(self.end);
        let start = place(start);
        Frozen { shared: Arc::clone(&self.shared), start, end: place(end).max(start) }
    }

    /// Copies all bytes to a vector.
    ///
    /// # Errors
    /// Of kind `OutOfMemory` if a vector of that length cannot be allocated; else as
    /// [`read_at`](Frozen::read_at).
    pub fn to_vec(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut self.reader(), &mut bytes)?;
        Ok(bytes)
    }

    /// Writes all bytes to `target`, and returns their number.
    ///
    /// # Errors
    /// Those of `target`, `WriteZero` if that takes no byte, and as [`read_at`](Frozen::read_at). Part of the
    /// bytes may be written then; [`FrozenReader::copy_to`] tells how many, by its position.
    pub fn copy_to(&self, target: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        self.reader().copy_to(target)
    }

    /// Saves the bytes as the file `path`, whole or not at all, as [`SpillBuffer::persist`] does. They are
    /// copied, and the other handles read on meanwhile. The file is positioned at 0.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let frozen = SpillBuffer::from(&b"head and tail"[..]).freeze();
    /// frozen.slice(9..).persist(dir.path().join("tail"))?.durable()?;
    /// assert_eq!(std::fs::read(dir.path().join("tail"))?, b"tail");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`SpillBuffer::persist`]. No name has changed then.
    pub fn persist(&self, path: impl AsRef<Path>) -> Result<Persisted, SpillError> {
        self.persist_over(path.as_ref(), Existing::Replaced)
    }

    /// Like [`persist`](Frozen::persist), but never replaces anything, as [`SpillBuffer::persist_noclobber`]
    /// does not.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("taken");
    /// let frozen = SpillBuffer::from(&b"once"[..]).freeze();
    /// frozen.persist_noclobber(&path)?.durable()?;
    /// let refused = frozen.persist_noclobber(&path).unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`SpillBuffer::persist_noclobber`]. No name has changed then.
    pub fn persist_noclobber(&self, path: impl AsRef<Path>) -> Result<Persisted, SpillError> {
        self.persist_over(path.as_ref(), Existing::Kept)
    }

    fn persist_over(&self, path: &Path, existing: Existing) -> Result<Persisted, SpillError> {
        let (content, range) = (&self.shared.content, self.start..self.end);
        save(path, existing, 0, |_| Ok(None), |file, name| content.copy_range_to(range.clone(), file, name))
    }

    /// Copies the bytes to an unnamed file in the pool's directory, positioned at 0, as
    /// [`SpillBuffer::into_file`] does. The other handles read on meanwhile.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Read;
    ///
    /// let frozen = SpillBuffer::from(&b"head and tail"[..]).freeze();
    /// let mut tail = String::new();
    /// frozen.slice(9..).to_file()?.read_to_string(&mut tail)?;
    /// assert_eq!(tail, "tail");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the file cannot be made or written, or a page cannot be read back.
    pub fn to_file(&self) -> Result<File, SpillError> {
        let (file, dir) = unnamed(&self.shared.content.pool)?;
        self.shared.content.copy_range_to(self.start..self.end, &file, &dir)?;
        seek_to(&file, 0, &dir)?; // writes at offsets move the position on Windows
        Ok(file)
    }

    /// The content as a buffer again, at position 0, to be written to. Moves no byte.
    ///
    /// # Errors
    /// Returns the handle if the content has another one (a reader, a slice and lent bytes count), if this
    /// handle is itself a slice, or if the readers of a spool that read [once](crate::SpoolReader::once) have
    /// passed some of the bytes, which are freed.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Write;
    ///
    /// let frozen = SpillBuffer::from(&b"once"[..]).freeze();
    /// let other = frozen.clone();
    /// let frozen = frozen.into_buffer().unwrap_err(); // it is shared
    /// drop(other);
    /// let mut buffer = frozen.into_buffer().unwrap();
    /// buffer.write_all(b"more")?;
    /// assert_eq!(buffer.to_vec()?, b"more");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_buffer(self) -> Result<SpillBuffer, Frozen> {
        let Frozen { shared, start, end } = self;
        if (start, end) != (0, shared.content.len()) {
            return Err(Frozen { shared, start, end });
        }
        match Shared::into_pager(shared) {
            Ok(pager) => Ok(SpillBuffer { position: 0, pager }),
            Err(shared) => Err(Frozen { shared, start, end }),
        }
    }

    /// Where the bytes of the whole content are, and how much of it was spilled and transferred so far. What
    /// readers hold for themselves is counted by the pool alone.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        self.shared.content.with_pager(|pager| pager.stats()).unwrap_or_default()
    }

    /// Checks every invariant that can be checked without I/O. For tests.
    ///
    /// # Panics
    /// If one does not hold.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        let _ = self.shared.content.with_pager(|pager| pager.check_invariants());
    }
}

/// Shows lengths and counts, never the content.
impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("Frozen")
            .field("len", &self.len())
            .field("memory_used", &stats.memory_used)
            .field("disk_used", &stats.disk_used)
            .finish_non_exhaustive()
    }
}
