//! Whole transfers to and from a store, counted and timed.
//!
//! Promises:
//!
//! - A transfer moves all its bytes, or fails with an error that names the operation, the offset and the
//!   length of what is left. Short and interrupted calls are continued here, and nowhere else.
//! - A read that finds no bytes is an error, never the end of the content.
//! - A thread that may not call a store now makes no call, and counts nothing.
//! - An error is counted where it arises, whatever its caller makes of it.
//! - A copy to or from a file moves what it can, and has no errors: its caller transfers the rest, and counts
//!   no more of a copy than the bytes it moved.
//!
//! Held by: `tests/tests/spill_faults/`, `tests/tests/spill_edges.rs`.

use crate::disk::store::Store;
use crate::disk::store_access;
use crate::disk::temp_file::NoTempFile;
use crate::error::{SpillError, StoreOperation};
use crate::foreign::drop_quietly;
use crate::observe::stats::IoCounts;
use std::fs::File;
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

/// Reads all of `buf` from `offset`.
pub(crate) fn read(
    store: &dyn Store,
    offset: u64,
    buf: &mut [u8],
    counts: &mut IoCounts,
) -> Result<(), SpillError> {
    store_access::check(StoreOperation::Read, offset, buf.len() as u64)?;
    let started = Instant::now();
    let (done, result) = transfer(buf.len(), io::ErrorKind::InvalidData, |done| {
        store.read_at(offset + done as u64, &mut buf[done..])
    });
    counts.count_read(done, started.elapsed());
    let failed =
        |source| failed(counts, StoreOperation::Read, offset + done as u64, buf.len() - done, source);
    result.map_err(failed)
}

/// Writes all of `data` at `offset`. Returns the number of bytes written, after an error too.
pub(crate) fn write(
    store: &dyn Store,
    offset: u64,
    data: &[u8],
    counts: &mut IoCounts,
) -> (usize, Result<(), SpillError>) {
    let step = |done| store.write_at(offset + done as u64, &data[done..]);
    write_by(offset, data.len(), counts, step)
}

/// As [`write()`], but gathers the bytes from several parts.
pub(crate) fn write_parts(
    store: &dyn Store,
    offset: u64,
    mut parts: &mut [IoSlice<'_>],
    counts: &mut IoCounts,
) -> (usize, Result<(), SpillError>) {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut before = 0;
    write_by(offset, len, counts, |done| {
        IoSlice::advance_slices(&mut parts, done - before);
        before = done;
        store.write_vectored_at(offset + done as u64, parts)
    })
}

/// Writes `len` bytes at `offset` by calls of `step`, as [`transfer`] makes them.
fn write_by(
    offset: u64,
    len: usize,
    counts: &mut IoCounts,
    step: impl FnMut(usize) -> io::Result<usize>,
) -> (usize, Result<(), SpillError>) {
    if let Err(refused) = store_access::check(StoreOperation::Write, offset, len as u64) {
        return (0, Err(refused));
    }
    let started = Instant::now();
    let (done, result) = transfer(len, io::ErrorKind::WriteZero, step);
    counts.count_write(done, started.elapsed());
    let failed = |source| failed(counts, StoreOperation::Write, offset + done as u64, len - done, source);
    (done, result.map_err(failed))
}

/// Copies up to `len` bytes from `offset` to `file`, at `at` there. Returns how many; the rest are to
/// be read and written.
pub(crate) fn copy_to_file(
    store: &dyn Store,
    offset: u64,
    len: usize,
    file: &File,
    at: u64,
    counts: &mut IoCounts,
) -> usize {
    let step = |done| store.copy_to_file(offset + done as u64, len - done, file, at + done as u64);
    copy(len, step, |copied, time| counts.count_read(copied, time))
}

/// Copies up to `len` bytes of `file`, from `at` there, to `offset`. Returns how many, as
/// [`copy_to_file`] does.
pub(crate) fn copy_from_file(
    store: &dyn Store,
    offset: u64,
    len: usize,
    file: &File,
    at: u64,
    counts: &mut IoCounts,
) -> usize {
    let step = |done| store.copy_from_file(offset + done as u64, len - done, file, at + done as u64);
    copy(len, step, |copied, time| counts.count_write(copied, time))
}

/// As [`transfer`], without the error. Calls `count` with the number of bytes copied, unless it is 0, and the
/// time taken.
fn copy(
    len: usize,
    step: impl FnMut(usize) -> io::Result<usize>,
    count: impl FnOnce(usize, Duration),
) -> usize {
    if store_access::is_resident_only() {
        return 0;
    }
    let started = Instant::now();
    let (copied, refused) = transfer(len, io::ErrorKind::Unsupported, step);
    drop_quietly(refused);
    if copied > 0 {
        count(copied, started.elapsed());
    }
    copied
}

/// Calls `step` with the number of bytes done until all `len` bytes are. Returns that number, after an error
/// too.
///
/// `if_none` is the kind of the error if a step moves nothing.
fn transfer(
    len: usize,
    if_none: io::ErrorKind,
    mut step: impl FnMut(usize) -> io::Result<usize>,
) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < len {
        match step(done) {
            Ok(0) => return (done, Err(if_none.into())),
            Ok(n) => done += n.min(len - done),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => drop_quietly(error),
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// The error for a transfer of which `len` bytes at `offset` were left. Counts it, unless the store is full.
fn failed(
    counts: &mut IoCounts,
    operation: StoreOperation,
    offset: u64,
    len: usize,
    source: io::Error,
) -> SpillError {
    let len = len as u64;
    let error = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            if operation == StoreOperation::Write =>
        {
            return SpillError::StoreFull { offset, len, source };
        }
        _ => match source.downcast::<NoTempFile>() {
            Ok(NoTempFile { dir, source }) => SpillError::Directory { dir, source },
            Err(source) => SpillError::Store { operation, offset, len, source },
        },
    };
    counts.errors += 1;
    error
}
