//! A temp file that counts what goes through it.

use overspill::{Store, TempFileStore};
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};

/// The pool's own temp file, and the bytes that were written to it and read from it, to the byte.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    file: TempFileStore,
    written: AtomicU64,
    read: AtomicU64,
}

impl Counted {
    /// The bytes written and read since the last call.
    pub(crate) fn take(&self) -> [u64; 2] {
        [&self.written, &self.read].map(|count| count.swap(0, Ordering::Relaxed))
    }
}

fn count(counter: &AtomicU64, result: io::Result<usize>) -> io::Result<usize> {
    result.inspect(|n| {
        counter.fetch_add(*n as u64, Ordering::Relaxed);
    })
}

// A method that is forgotten would take the slow way of the trait, and spoil the times.
#[deny(clippy::missing_trait_methods)]
impl Store for Counted {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        count(&self.read, self.file.read_at(offset, buf))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        count(&self.written, self.file.write_at(offset, data))
    }

    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        count(&self.written, self.file.write_vectored_at(offset, parts))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.discard(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        count(&self.read, self.file.copy_to_file(offset, len, file, at))
    }

    fn copy_from_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        count(&self.written, self.file.copy_from_file(offset, len, file, at))
    }
}
