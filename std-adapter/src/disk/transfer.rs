//! Whole transfers to and from a store, counted.
//!
//! A transfer is finished or fails; short ones and interrupted ones are continued here alone.

use crate::disk::store::Store;
use crate::disk::temp_file::NoTempFile;
use crate::error::{SpillError, StoreOperation};
use crate::observe::stats::IoCounts;
use std::io::{self, IoSlice};
use std::time::Instant;

/// Reads all of `buf` from `offset`.
pub(crate) fn read(
    store: &dyn Store,
    offset: u64,
    buf: &mut [u8],
    counts: &mut IoCounts,
) -> Result<(), SpillError> {
    let started = Instant::now();
    let (done, result) = transfer(buf.len(), io::ErrorKind::InvalidData, |done| {
        store.read_at(offset + done as u64, &mut buf[done..])
    });
    counts.count_read(done, started.elapsed());
    result.map_err(|source| failed(StoreOperation::Read, offset + done as u64, buf.len() - done, source))
}

/// Writes all of `data` at `offset`, or as much as the store takes: the number of bytes that are there
/// now stands beside the result.
pub(crate) fn write(
    store: &dyn Store,
    offset: u64,
    data: &[u8],
    counts: &mut IoCounts,
) -> (usize, Result<(), SpillError>) {
    let started = Instant::now();
    let (done, result) = transfer(data.len(), io::ErrorKind::WriteZero, |done| {
        store.write_at(offset + done as u64, &data[done..])
    });
    counts.count_write(done, started.elapsed());
    (
        done,
        result
            .map_err(|source| failed(StoreOperation::Write, offset + done as u64, data.len() - done, source)),
    )
}

/// As [`write()`], from several parts that are to lie one behind the other.
pub(crate) fn write_parts(
    store: &dyn Store,
    offset: u64,
    mut parts: &mut [IoSlice<'_>],
    counts: &mut IoCounts,
) -> (usize, Result<(), SpillError>) {
    let started = Instant::now();
    let len = parts.iter().map(|part| part.len()).sum();
    let mut before = 0;
    let (done, result) = transfer(len, io::ErrorKind::WriteZero, |done| {
        IoSlice::advance_slices(&mut parts, done - before);
        before = done;
        store.write_vectored_at(offset + done as u64, parts)
    });
    counts.count_write(done, started.elapsed());
    (done, result.map_err(|source| failed(StoreOperation::Write, offset + done as u64, len - done, source)))
}

/// Calls `step` with what is done so far until all `len` bytes are.
///
/// `none` is the error if a step moves nothing. It must not be taken for the end of the content.
fn transfer(
    len: usize,
    none: io::ErrorKind,
    mut step: impl FnMut(usize) -> io::Result<usize>,
) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < len {
        match step(done) {
            Ok(0) => return (done, Err(none.into())),
            Ok(n) => done += n.min(len - done),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

fn failed(operation: StoreOperation, offset: u64, len: usize, source: io::Error) -> SpillError {
    let len = len as u64;
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            if operation == StoreOperation::Write =>
        {
            SpillError::StoreFull { offset, len, source }
        }
        _ => match source.downcast::<NoTempFile>() {
            Ok(NoTempFile { dir, source }) => SpillError::Directory { dir, source },
            Err(source) => SpillError::Store { operation, offset, len, source },
        },
    }
}
