//! A store in memory, for tests and fuzzing.
//!
//! Held by: the test below, `tests/tests/spill_model.rs`, `tests/tests/errors.rs`.

use crate::disk::store::Store;
use crate::sync::fork::Lock;
use std::io;

/// A store in memory, for tests and fuzzing. Its bytes do not count against any memory limit.
///
/// It is one contiguous vector behind a mutex: a write far past the end allocates everything before it.
///
/// ```
/// use overspill::{MemoryStore, SpillPool};
/// use std::io::Write;
///
/// let pool = SpillPool::builder().memory(0).page_size(8).store(MemoryStore::new()).build()?;
/// let mut buffer = pool.buffer();
/// buffer.write_all(b"neither in a file nor within the memory limit")?;
/// assert!(buffer.is_spilled());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    bytes: Lock<Vec<u8>>,
    /// Bytes. Nothing is written at or past this offset.
    capacity: Option<u64>,
}

impl MemoryStore {
    /// An empty store without a capacity: it accepts writes until memory runs out, and then fails with
    /// `StorageFull`.
    #[must_use]
    pub fn new() -> Self {
        MemoryStore::default()
    }

    /// An empty store that holds `bytes` bytes. As a disk does, it first writes what fits, and then fails
    /// with `StorageFull`.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        MemoryStore { bytes: Lock::default(), capacity: Some(bytes) }
    }
}

impl Store for MemoryStore {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes.lock()?;
        let held = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let n = held.len().min(buf.len());
        buf[..n].copy_from_slice(&held[..n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0); // as of a file, also where it is full
        }
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let room = self.capacity.unwrap_or(u64::MAX).saturating_sub(offset);
        let data = &data[..usize::try_from(room).unwrap_or(usize::MAX).min(data.len())];
        if data.is_empty() {
            return Err(full());
        }
        let start = usize::try_from(offset).map_err(|_| full())?;
        let end = start.checked_add(data.len()).ok_or_else(full)?;
        let mut bytes = self.bytes.lock()?;
        if bytes.len() < end {
            let more = end - bytes.len();
            bytes.try_reserve(more).map_err(|_| full())?;
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(data);
        Ok(data.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock()?;
        bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        bytes.shrink_to_fit();
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::disk::temp_file::TempFileStore;

    /// A write of nothing found the store full, where a file takes it: no room was asked for.
    #[test]
    fn a_write_of_nothing_is_never_refused() {
        let stores: [Box<dyn Store>; 3] = [
            Box::new(TempFileStore::new()),
            Box::new(MemoryStore::new()),
            Box::new(MemoryStore::with_capacity(4)),
        ];
        for store in stores {
            assert_eq!([0, 4, 5].map(|offset| store.write_at(offset, &[]).unwrap()), [0; 3]);
        }
        assert!(MemoryStore::with_capacity(4).write_at(4, &[1]).is_err());
    }
}
