//! A store without a file.

use crate::disk::store::Store;
use crate::sync::{Mutex, lock};
use std::io;

/// A store in memory that is charged to nobody: for tests and fuzzing, where no file is wanted.
///
/// ```
/// use overspill::{MemoryStore, SpillPool};
/// use std::io::Write;
///
/// let pool = SpillPool::builder().memory(0).page_size(8).store(MemoryStore::new()).build()?;
/// let mut buffer = pool.buffer();
/// buffer.write_all(b"not in a file, and not in the budget either")?;
/// assert!(buffer.is_spilled());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    bytes: Mutex<Vec<u8>>,
    /// A write past this offset is refused with `StorageFull`.
    capacity: Option<u64>,
}

impl MemoryStore {
    /// An empty store without a limit of its own.
    #[must_use]
    pub fn new() -> Self {
        MemoryStore::default()
    }

    /// An empty store that is full at `bytes`, as a disk is: it takes what fits, then refuses.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        MemoryStore { bytes: Mutex::default(), capacity: Some(bytes) }
    }
}

impl Store for MemoryStore {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = lock(&self.bytes);
        let held = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let n = held.len().min(buf.len());
        buf[..n].copy_from_slice(&held[..n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let room = self.capacity.unwrap_or(u64::MAX).saturating_sub(offset);
        let data = &data[..usize::try_from(room).unwrap_or(usize::MAX).min(data.len())];
        if data.is_empty() {
            return Err(full());
        }
        let start = usize::try_from(offset).map_err(|_| full())?;
        let end = start.checked_add(data.len()).ok_or_else(full)?;
        let mut bytes = lock(&self.bytes);
        if bytes.len() < end {
            let more = end - bytes.len();
            bytes.try_reserve(more).map_err(|_| full())?;
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(data);
        Ok(data.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut bytes = lock(&self.bytes);
        bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        bytes.shrink_to_fit();
        Ok(())
    }
}
