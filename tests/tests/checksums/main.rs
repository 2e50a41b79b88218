//! With checksums, is every change of the bytes in the store noticed, wherever it is and however they are
//! read? (I9)
//!
//! - An error names the bytes that do not have their checksum: their position in the content and their offset
//!   in the store.
//! - No changed byte is ever returned.
//! - Everything beside the changed block is read and written as before, but that a write to a page which
//!   clones share needs all of it. To overwrite the whole block, or to cut it off, heals it.
//!
//! `damage.rs`: what is noticed. `recovery.rs`: what is possible afterwards. `export.rs`: content that
//! becomes a file. `segments.rs`: with less memory than a page. `random.rs`: any operations in any order.
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

mod damage;
mod export;
mod random;
mod recovery;
mod segments;

use overspill::{Checksums, SpillBuffer, SpillError, SpillPool, Store};
use overspill_tests::support::{Random, spill_error};
use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

const KIB: usize = 1 << 10;
const BLOCK: usize = 4 * KIB;
const PAGE: usize = 16 * KIB;

/// A store in memory whose bytes a test can read and change.
#[derive(Clone, Debug, Default)]
struct OpenStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Writes succeed, but leave the bytes as they are.
    forgets: bool,
    /// The store writes so many bytes more; then its writes fail.
    room: Option<usize>,
    /// The offset of a byte that a test has changed and no write has covered since.
    changed: Option<usize>,
}

impl OpenStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn flip(&self, at: usize, bit: usize) {
        self.state().bytes[at] ^= 1 << bit;
    }

    /// The offset in the store of byte `position` of `content`, which was written in pages of `page` bytes.
    fn offset_of(&self, content: &[u8], page: usize, position: usize) -> usize {
        let start = position / page * page;
        let content = &content[start..content.len().min(start + page)];
        let bytes = &self.state().bytes;
        let slot = bytes.chunks(page).position(|slot| slot.starts_with(content)).expect("it was spilled");
        slot * page + (position - start)
    }
}

impl Store for OpenStore {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = &self.state().bytes;
        let from = (offset as usize).min(bytes.len());
        let n = buf.len().min(bytes.len() - from);
        buf[..n].copy_from_slice(&bytes[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        let (mut state, at) = (self.state(), offset as usize);
        let n = state.room.map_or(data.len(), |room| room.min(data.len()));
        if n == 0 {
            return Err(io::Error::other("planned"));
        }
        state.room = state.room.map(|room| room - n);
        if state.bytes.len() < at + n {
            state.bytes.resize(at + n, 0);
        }
        state.changed = state.changed.filter(|changed| !(at..at + n).contains(changed));
        if !state.forgets {
            state.bytes[at..at + n].copy_from_slice(&data[..n]);
        }
        Ok(n)
    }
}

fn pool(memory: usize, page: usize, store: &OpenStore) -> SpillPool {
    let builder = SpillPool::builder().memory(memory).page_size(page).store(store.clone());
    builder.checksums(Checksums::On).build().unwrap()
}

/// Bytes of which no two pages are alike.
fn content(len: usize) -> Vec<u8> {
    Random::new(7).bytes(len)
}

/// A buffer with all of `content` in its slots.
fn spilled(pool: &SpillPool, content: &[u8]) -> SpillBuffer {
    let mut buffer = pool.buffer();
    buffer.write_all(content).unwrap();
    buffer.spill().unwrap();
    buffer
}

/// The place of the changed bytes that the error names: in the content, and in the store.
fn corrupted_place(error: io::Error) -> (Range<usize>, usize) {
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    match spill_error(error) {
        SpillError::Corrupted { position, offset, len, .. } => {
            (position as usize..(position + len) as usize, offset as usize)
        }
        other => panic!("another error: {other}"),
    }
}

type ReadPath = fn(&mut SpillBuffer, usize) -> (Vec<u8>, io::Result<()>);

/// Calls `read` until it returns 0 or an error.
fn drain(mut read: impl FnMut(&mut Vec<u8>) -> io::Result<usize>) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    loop {
        match read(&mut all) {
            Ok(0) => return (all, Ok(())),
            Ok(_) => {}
            Err(error) => return (all, Err(error)),
        }
    }
}

fn read_pieces(buffer: &mut SpillBuffer, size: usize) -> (Vec<u8>, io::Result<()>) {
    let mut piece = vec![0; size];
    drain(|all| {
        let n = buffer.read(&mut piece)?;
        all.extend_from_slice(&piece[..n]);
        Ok(n)
    })
}

/// All ways to read everything from the position to the end.
const READ_PATHS: [(&str, ReadPath); 6] = [
    ("in one piece", |buffer, len| read_pieces(buffer, len.max(1))),
    ("in small pieces", |buffer, len| read_pieces(buffer, 1 + len / 50)),
    ("in pieces that fit no page", |buffer, len| read_pieces(buffer, 1 + len / 3)),
    ("to the end", |buffer, _| drain(|all| buffer.read_to_end(all))),
    ("lent", |buffer, _| {
        drain(|all| {
            let lent = buffer.fill_buf()?;
            all.extend_from_slice(lent);
            let n = lent.len();
            buffer.consume(n);
            Ok(n)
        })
    }),
    ("backwards", |buffer, _| {
        let mut all = vec![0; (buffer.len() - buffer.position()) as usize];
        let from = buffer.position();
        let mut at = all.len();
        while at > 0 {
            let n = at.min(1 + all.len() / 40);
            at -= n;
            buffer.seek(SeekFrom::Start(from + at as u64)).unwrap();
            if let Err(error) = buffer.read_exact(&mut all[at..at + n]) {
                return (Vec::new(), Err(error));
            }
        }
        (all, Ok(()))
    }),
];

/// Reads `buffer` in all ways, while the byte at offset `at` of the store, which is byte `position` of
/// `content`, is changed. What is read must be right, must end before that byte, and the error must name its
/// place.
fn assert_noticed(buffer: &mut SpillBuffer, content: &[u8], position: usize, at: usize) {
    for (name, read) in READ_PATHS {
        for start in [0, position / 2, position] {
            buffer.seek(SeekFrom::Start(start as u64)).unwrap();
            let (read, result) = read(buffer, content.len());
            assert!(content[start..].starts_with(&read), "{name} from {start}: wrong bytes");
            assert!(start + read.len() <= position, "{name} from {start}: the changed byte was read");
            let (found, offset) = corrupted_place(result.expect_err(name));
            assert!(found.contains(&position), "{name}: {found:?} lacks {position}");
            assert_eq!(offset + (position - found.start), at, "{name}: its place in the store");
        }
    }
}

/// Reads `buffer` in all ways: it must be `content`.
fn assert_well(buffer: &mut SpillBuffer, content: &[u8]) {
    for (name, read) in READ_PATHS {
        buffer.rewind().unwrap();
        let (read, result) = read(buffer, content.len());
        assert!(result.is_ok() && read == content, "{name}");
    }
    buffer.check_invariants();
}
