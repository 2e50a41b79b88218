//! Export: the whole content of a buffer becomes a file.
//!
//! Promises:
//!
//! - A buffer whose own file can become the target is not copied, except for what is in memory.
//! - Otherwise what is spilled is copied by the store itself if it can, as a temp file does by the kernel:
//!   pages whose slots are adjacent in one call. What it refuses, and what is in memory, is read and written.
//! - Blocks of free slots make no copy fail: see [`Backing::with_room`].
//! - With checksums, no content that does not match its sum becomes a file (I9).
//! - On an error the buffer is whole (I3). Holes are not written.
//!
//! Held by: `tests/tests/hand_over.rs`, `tests/tests/kernel_copies.rs`, `tests/tests/checksums/export.rs`,
//! `tests/tests/spill_faults`, `tests/tests/real_faults.rs`.

use crate::disk::atomic_file::AtomicFile;
use crate::disk::backing::Backing;
use crate::disk::{temp_file, transfer};
use crate::error::SpillError;
use crate::foreign::as_far_as;
use crate::memory::scratch::{BLOCK_MAX, with_block};
use crate::observe::counters::IoPath;
use crate::observe::stats::IoCounts;
use crate::pager::base::StoreCopy;
use crate::pager::content::Content;
use crate::pager::state::Pager;
use crate::sync::Arc;
use overspill_core::ReadMedium;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The most bytes that the store copies in one call: the table is locked while a run is measured.
const RUN_MAX: usize = 64 << 20;

/// A failed operation on the target file, as a [`SpillError`].
pub(crate) fn target(path: &Path, source: io::Error) -> SpillError {
    SpillError::Target { path: PathBuf::from(path), source }
}

/// Moves the position of `file`, which is `name` in errors. A file system limits positions,
/// and a buffer does not.
pub(crate) fn seek_to(mut file: &File, position: u64, name: &Path) -> Result<(), SpillError> {
    // Whatever the system says of it: Windows has no kind of error for that.
    let kind = |source: &io::Error| match i64::try_from(position) {
        Ok(_) => source.kind(),
        Err(_) => io::ErrorKind::InvalidInput,
    };
    let at =
        |source: io::Error| target(name, io::Error::new(kind(&source), InvalidPosition { position, source }));
    file.seek(SeekFrom::Start(position)).map(drop).map_err(at)
}

/// The buffer's position is none that the file could have.
#[derive(Debug, thiserror::Error)]
#[error("a file there cannot be at the buffer's position {position}; rewind the buffer")]
struct InvalidPosition {
    position: u64,
    source: io::Error,
}

/// Makes `file`, which is `name` in errors, `len` bytes long. A buffer may be longer than any file.
fn set_len(file: &File, len: u64, name: &Path) -> Result<(), SpillError> {
    let too_long = |_| io::Error::new(io::ErrorKind::FileTooLarge, TooLong { len });
    // std's error for it is one of a conversion.
    i64::try_from(len)
        .map_err(too_long)
        .and_then(|_| file.set_len(len))
        .map_err(|source| target(name, source))
}

/// The content is longer than a file can be.
#[derive(Debug, thiserror::Error)]
#[error("no file can have the content's {len} bytes; the most is {}", i64::MAX)]
struct TooLong {
    len: u64,
}

impl Pager {
    /// Completes the buffer's own file, if it has one, and commits it in place of `target_file`, positioned
    /// at `position`. `None` if the buffer has no own file or it cannot be used; the caller copies then.
    pub(crate) fn put_own_file(
        &mut self,
        target_file: &mut AtomicFile,
        path: &Path,
        position: u64,
    ) -> Result<Option<File>, SpillError> {
        let failed = |source| target(path, source);
        let Some(own) = self.own().cloned() else { return Ok(None) };
        // To another file system it is copied, and what is in memory need not be spilled first.
        if !own.made_file().is_some_and(|file| target_file.may_commit_as(file)) {
            return Ok(None);
        }
        // The pages in memory may not fit below the disk limit, which does not apply to the target: copy
        // instead.
        if self.spill().is_err() {
            return Ok(None);
        }
        if self.has_sums() {
            // The file becomes the target as it is, so check all of it before.
            self.for_each_piece(None, |_, _| Ok(()))?;
            self.fit_sums()?; // `finish` clears what lies past the content, which sums may cover
        }
        let Some(slack) = self.slack() else { return Ok(None) };
        // A file that cannot be completed may still be readable: copy instead.
        let finished = own.finish(self.len(), &slack).ok().flatten();
        let Some(file) = finished else { return Ok(None) };
        let handed_over = file.try_clone().map_err(failed)?;
        seek_to(&handed_over, position, path)?;
        let committed = target_file.commit_as(file, |_| own.note_unsynced());
        if committed.map_err(failed)?.is_none() {
            return Ok(None);
        }
        own.detach();
        Ok(Some(handed_over))
    }

    /// The parts of slots that lie past the content of their pages, as offsets and lengths in an own file,
    /// where each page is at its offset in the stream. `None` if there is no memory for the list.
    fn slack(&mut self) -> Option<Vec<(u64, u64)>> {
        let page_size = self.pool.page_size as u64;
        self.table(|table| {
            let (mut slack, mut from) = (Vec::new(), 0);
            while let Some((index, _, end)) = table.next_spilled(from, |_, end| (end as u64) < page_size) {
                slack.try_reserve(1).ok()?;
                slack.push((index * page_size + end as u64, page_size - end as u64));
                from = index + 1;
            }
            Some(slack)
        })
    }

    /// Writes the content to `file`, which is empty, and sets its length. `name` is its path in errors.
    pub(crate) fn copy_to(&mut self, file: &File, name: &Path) -> Result<(), SpillError> {
        set_len(file, self.len(), name)?;
        // What is checked passes through memory.
        let by_store = if self.has_sums() { None } else { Some(file) };
        let pool = Arc::clone(&self.pool);
        let backing = Backing { disk: &pool.disk, own: None };
        self.for_each_piece(by_store, |at, piece| {
            backing.with_room(|| write_all_at(file, piece, at)).map_err(|source| target(name, source))
        })
    }

    /// Calls `f` with the content of all pages that are not holes, in order and in pieces, and with the
    /// position of each piece. Stops at the first error. Moves no page.
    ///
    /// What the store can copy to the file `by_store` itself, at its position in the content, it copies, and
    /// `f` is not called with that.
    fn for_each_piece(
        &mut self,
        by_store: Option<&File>,
        f: impl FnMut(u64, &[u8]) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        self.check()?;
        self.end_loan();
        self.try_table()?;
        let pool = Arc::clone(&self.pool);
        let read = |room: &mut [u8]| self.read_pieces(room, by_store, f);
        let done = with_block(BLOCK_MAX, read);
        pool.tell_waiters();
        done
    }

    /// As [`for_each_piece`](Pager::for_each_piece), through `room`.
    fn read_pieces(
        &mut self,
        room: &mut [u8],
        mut by_store: Option<&File>,
        mut f: impl FnMut(u64, &[u8]) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        let len = self.len();
        let most = room.len();
        let mut at = 0;
        while let Some(next) = self.next_data(at)? {
            at = next;
            let left = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX);
            if left == 0 {
                break;
            }
            if let Some(file) = by_store {
                let copied = self.copy_run(at, left, file);
                by_store = by_store.filter(|_| !copied.is_refused);
                at += copied.bytes as u64;
                if copied.bytes > 0 {
                    continue;
                }
            }
            // What the store may copy ends a piece.
            let most = if by_store.is_some() { most.min(self.pool.page_size) } else { most };
            let n = self.peek_run(at, &mut room[..left.min(most)])?;
            f(at, &room[..n])?;
            at += n as u64;
        }
        Ok(())
    }

    /// Reads what lies at `at`, in as many pages as follow it without a hole. At least one byte.
    fn peek_run(&mut self, at: u64, room: &mut [u8]) -> Result<usize, SpillError> {
        as_far_as(room.len(), |done| {
            let next = at + done as u64;
            if done > 0 && self.next_data(next)? != Some(next) {
                return Ok(0);
            }
            self.peek(next, &mut room[done..])
        })
    }

    /// Lets the store copy what is spilled at `at`, and at most `left` bytes, to the same place in `file`:
    /// nothing if the page is in memory.
    fn copy_run(&mut self, at: u64, left: usize, file: &File) -> StoreCopy {
        let (offset, len) = self.settled_run(at, left.min(RUN_MAX));
        let copied = if len > 0 {
            let bytes = self.copy_store_to(offset, len, file, at);
            StoreCopy { bytes, is_refused: bytes < len }
        } else {
            let most = self.hole_from(at).min(left).min(RUN_MAX);
            self.base().map(|base| base.copy_run(at, most, file, at)).unwrap_or_default()
        };
        self.tell_failures();
        copied
    }

    /// As [`run_in_store`](Pager::run_in_store), once the first page is in transit no more.
    fn settled_run(&mut self, at: u64, most: usize) -> (u64, usize) {
        // Of a page that is lost in transit, the copy through memory says so.
        let _ = self.pin_settled(at >> self.pool.page_size.trailing_zeros());
        let run = self.run_in_store(at, most);
        self.end_operation();
        run
    }

    /// How many bytes from `at` on are none of the buffer's own, and so the base's if it has them.
    fn hole_from(&mut self, at: u64) -> usize {
        let page = self.pool.page_size as u64;
        let next = self.own_table.as_mut().and_then(|table| table.with(|table| table.next_page(at / page)));
        let end = next.map_or(u64::MAX, |index| index * page);
        usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX)
    }
}

impl Content {
    /// Writes the bytes of `range` to `file`, which is empty, from 0 on, and sets its length. `name` is its
    /// path in errors. Holes are not written, and other handles read on meanwhile.
    pub(crate) fn copy_range_to(
        &self,
        range: Range<u64>,
        file: &File,
        name: &Path,
    ) -> Result<(), SpillError> {
        self.locked(|state| state.check_kept(range.start))??;
        set_len(file, range.end - range.start, name)?;
        let copy = |block: &mut [u8]| self.copy_through(block, range, file, name);
        with_block(self.pool.page_size.min(BLOCK_MAX), copy)
    }

    /// As [`copy_range_to`](Content::copy_range_to), through `block`.
    fn copy_through(
        &self,
        block: &mut [u8],
        range: Range<u64>,
        file: &File,
        name: &Path,
    ) -> Result<(), SpillError> {
        let page_size = self.pool.page_size as u64;
        let (mut at, mut by_store) = (range.start, true);
        while at < range.end {
            let Some(from) = self.next_data(at)? else { break };
            if by_store {
                let left = usize::try_from(range.end.saturating_sub(from)).unwrap_or(usize::MAX);
                let copied = self.copy_run(from, left.min(RUN_MAX), file, from - range.start);
                by_store = !copied.is_refused;
                if copied.bytes > 0 {
                    at = from + copied.bytes as u64;
                    continue;
                }
            }
            let end = range.end.min((from / page_size * page_size).saturating_add(page_size));
            let len = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX).min(block.len());
            let read = if len > 0 { self.read_at(from, &mut block[..len])? } else { break };
            let written = self.backing().with_room(|| write_all_at(file, &block[..read], from - range.start));
            written.map_err(|source| target(name, source))?;
            at = from + read as u64;
        }
        Ok(())
    }

    /// Lets the store copy what is spilled at `from`, and at most `most` bytes, to `at` in `file`: nothing if
    /// the page is in memory.
    pub(crate) fn copy_run(&self, from: u64, most: usize, file: &File, at: u64) -> StoreCopy {
        let run = self.locked(|state| {
            // What is checked passes through memory.
            let most = if state.pager.has_sums() { 0 } else { most.min(state.complete_from(from)) };
            let (offset, len) = if most > 0 { state.pager.settled_run(from, most) } else { (0, 0) };
            (offset, len, state.pager.hole_from(from).min(most))
        });
        let (offset, len, below) = run.unwrap_or_default();
        if len == 0 {
            return self.base.as_ref().map(|base| base.copy_run(from, below, file, at)).unwrap_or_default();
        }
        let mut counts = IoCounts::default();
        let bytes = transfer::copy_to_file(&self.backing(), offset, len, file, at, &mut counts);
        let _ = self.with_pager(|pager| pager.count_io(IoPath::Direct, counts));
        StoreCopy { bytes, is_refused: bytes < len }
    }
}

fn write_all_at(file: &File, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match temp_file::write_at(file, data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                data = &data[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
