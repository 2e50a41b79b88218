//! Do `read_at`, `write_at` and `to_vec` leave the position alone? Does `copy_to` move it by what the target
//! has taken? And: a buffer made of bytes holds them in memory, a store behind a pointer is called as the
//! store, and counts can be subtracted.
//!
//! The same transfers in any order, and with faults: `spill_model.rs`, `spill_faults`.
#![allow(missing_docs)]

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore};
use overspill::{Checksums, Frozen, MemoryStore, SpillBuffer, SpillPool, Store};
use overspill_tests::support::content_of;
use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

const PAGE: usize = 16;

/// Buffers of `bytes` bytes each, with their content: all in memory, some in memory, none.
fn buffers(bytes: usize) -> Vec<(SpillBuffer, Vec<u8>)> {
    let content: Vec<u8> = (0..=250).cycle().take(bytes).collect();
    let pools = [1 << 20, 3 * PAGE, 0].map(|memory| {
        let pool = SpillPool::builder().memory(memory).page_size(PAGE).store(MemoryStore::new());
        pool.checksums(Checksums::On).build().unwrap()
    });
    pools
        .map(|pool| {
            let mut buffer = pool.buffer();
            buffer.write_all(&content).unwrap();
            (buffer, content.clone())
        })
        .into()
}

#[test]
fn read_at_reads_the_content_there_and_the_position_stays() {
    for (mut buffer, content) in buffers(10 * PAGE + 5) {
        buffer.seek(SeekFrom::Start(7)).unwrap();
        for offset in
            [0, 1, PAGE - 1, PAGE, 3 * PAGE + 3, content.len() - 1, content.len(), content.len() + 9]
        {
            let mut out = [0xEE; 2 * PAGE];
            let mut done = 0;
            loop {
                match buffer.read_at(&mut out[done..], (offset + done) as u64).unwrap() {
                    0 => break,
                    n => done += n,
                }
            }
            let wanted = content.get(offset..).unwrap_or_default();
            assert_eq!(out[..done], wanted[..wanted.len().min(out.len())]);
            assert_eq!(buffer.position(), 7);
        }
        assert_eq!(buffer.read_at(&mut [0], u64::MAX).unwrap(), 0);
        assert_eq!(buffer.read_at(&mut [], 0).unwrap(), 0);
    }
}

/// A count that was dropped by `?` was a half-written header.
#[test]
fn all_of_it_is_read_and_written_or_it_is_an_error() {
    for (mut buffer, mut content) in buffers(5 * PAGE) {
        buffer.seek(SeekFrom::Start(3)).unwrap();
        buffer.write_all_at(&[9; 3 * PAGE], 5).unwrap();
        content[5..5 + 3 * PAGE].fill(9);
        let mut read = vec![0; 4 * PAGE];
        buffer.read_exact_at(&mut read, 7).unwrap();
        assert!(read == content[7..7 + 4 * PAGE]);
        let short = buffer.read_exact_at(&mut read, PAGE as u64 + 1).unwrap_err();
        assert_eq!((short.kind(), buffer.position()), (ErrorKind::UnexpectedEof, 3));
    }
    let pool = SpillPool::builder().memory(0).disk(2 * PAGE as u64).page_size(PAGE).store(MemoryStore::new());
    let mut buffer = pool.build().unwrap().buffer();
    buffer.write_all(&[1; PAGE]).unwrap();
    assert_eq!(buffer.write_at(&[2; 3 * PAGE], PAGE as u64 / 2).unwrap(), PAGE / 2 + PAGE);
    let refused = buffer.write_all_at(&[3; 3 * PAGE], PAGE as u64 / 2).unwrap_err();
    assert_eq!((refused.kind(), buffer.position()), (ErrorKind::QuotaExceeded, PAGE as u64));
}

#[test]
fn write_at_writes_there_and_the_position_stays() {
    for (mut buffer, mut content) in buffers(5 * PAGE) {
        buffer.seek(SeekFrom::Start(3)).unwrap();
        assert_eq!(buffer.write_at(b"over", 2 * PAGE as u64 - 2).unwrap(), 4);
        content[2 * PAGE - 2..][..4].copy_from_slice(b"over");
        // Past the end: the gap becomes zeros.
        assert_eq!(buffer.write_at(b"past", 7 * PAGE as u64).unwrap(), 4);
        content.resize(7 * PAGE, 0);
        content.extend(b"past");
        assert_eq!(buffer.write_at(b"", u64::MAX).unwrap(), 0);
        assert_eq!(buffer.write_at(b"no", u64::MAX).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!((buffer.position(), buffer.len()), (3, content.len() as u64));
        assert!(buffer.to_vec().unwrap() == content);
        assert_eq!(buffer.position(), 3, "to_vec does not move it either");
    }
}

/// A target that takes up to seven bytes a call, is interrupted in every third call, and fails once it has
/// `most` bytes.
struct Slow {
    taken: Vec<u8>,
    most: usize,
    calls: usize,
}

impl Write for Slow {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(ErrorKind::Interrupted.into());
        }
        if self.taken.len() >= self.most {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let n = data.len().min(7).min(self.most - self.taken.len());
        self.taken.extend(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn copy_to_copies_from_the_position_and_moves_it_by_what_the_target_takes() {
    for (mut buffer, content) in buffers(9 * PAGE + 1) {
        buffer.seek(SeekFrom::Start(5)).unwrap();
        let mut target = Slow { taken: Vec::new(), most: 40, calls: 0 };
        assert_eq!(buffer.copy_to(&mut target).unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!((buffer.position(), &target.taken[..]), (45, &content[5..45]));
        target.most = usize::MAX;
        assert_eq!(buffer.copy_to(&mut target).unwrap(), content.len() as u64 - 45);
        assert!(target.taken == content[5..]);
        assert_eq!(buffer.copy_to(&mut io::sink()).unwrap(), 0, "at the end");
        buffer.seek(SeekFrom::End(9)).unwrap();
        assert_eq!(buffer.copy_to(&mut io::sink()).unwrap(), 0, "past it");
        buffer.rewind().unwrap();
        let full: &mut [u8] = &mut [0; 3];
        assert_eq!(buffer.copy_to(&mut &mut *full).unwrap_err().kind(), ErrorKind::WriteZero);
        assert_eq!((buffer.position(), &*full), (3, &content[..3]));
    }
}

#[test]
fn a_buffer_made_of_bytes_holds_them_in_memory_at_position_0() {
    for bytes in [0, 1, 5000, 9 << 20] {
        let content: Vec<u8> = (0..=250).cycle().take(bytes).collect();
        for mut buffer in [SpillBuffer::from(&content[..]), SpillBuffer::from(content.clone())] {
            assert_eq!((buffer.len(), buffer.position(), buffer.is_spilled()), (bytes as u64, 0, false));
            assert!(content_of(&mut buffer) == content);
        }
    }
}

#[test]
fn a_default_pool_is_what_the_builder_describes() {
    let (default, built) = (SpillPool::default(), SpillPool::builder().build().unwrap());
    assert_eq!(default.stats(), built.stats());
    assert_eq!(default.stats().memory_limit, 64 << 20);
}

/// Text, and bytes of a length that is known when they are compiled, had to be made a slice or a vector
/// first.
#[test]
fn a_buffer_is_made_of_whatever_a_vector_is_made_of() {
    for buffer in [b"abc".into(), "abc".into(), String::from("abc").into(), SpillBuffer::from(&b"abc"[..])] {
        let mut buffer: SpillBuffer = buffer;
        assert_eq!((buffer.position(), &*buffer.to_vec().unwrap()), (0, &b"abc"[..]));
    }
    // A reference to a vector is none to a slice: these had no buffer either, and frozen content had none.
    let (vec, text) = (b"abc".to_vec(), String::from("abc"));
    let boxed = || Box::<[u8]>::from(*b"abc");
    for mut buffer in [SpillBuffer::from(&vec), SpillBuffer::from(&text), SpillBuffer::from(boxed())] {
        assert_eq!((buffer.position(), buffer.to_vec().unwrap()), (0, b"abc".to_vec()));
    }
    let borrowed = [Frozen::from(&vec), Frozen::from(&text), Frozen::from("abc"), Frozen::from(&vec[..])];
    let owned = [Frozen::from(b"abc"), Frozen::from(boxed()), Frozen::from(vec.clone()), Frozen::from(text)];
    for frozen in borrowed.iter().chain(&owned) {
        assert_eq!(frozen.to_vec().unwrap(), vec);
    }
}

/// A pointer to a store forwards each method. One that it forgot would silently do what the trait does by
/// default.
#[test]
fn a_store_behind_a_pointer_is_the_store() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new().recording());
    let shared = Arc::new(store);
    let boxed: Box<dyn Store> = Box::new(Arc::clone(&shared));
    let parts = [io::IoSlice::new(b"ab"), io::IoSlice::new(b"cd")];
    boxed.write_vectored_at(0, &parts).unwrap();
    let mut back = [0; 2];
    boxed.read_at(0, &mut back).unwrap();
    let _ = boxed.discard(0, 1);
    boxed.set_len(1).unwrap();
    assert_eq!(back, *b"ab");
    let calls: Vec<Call> = faults.records().iter().map(|record| record.call).collect();
    for call in [Call::Write, Call::Read, Call::Discard, Call::SetLen] {
        assert!(calls.contains(&call), "{call:?} is not among {calls:?}");
    }

    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(Arc::clone(&shared)).build().unwrap();
    let before = faults.calls();
    pool.buffer().write_all(&[7; 2 * PAGE]).unwrap();
    assert!(faults.calls() > before, "the pool spills to the store that the test still holds");
}

#[test]
fn the_difference_of_two_counts_is_what_happened_in_between() {
    let pool = SpillPool::builder().memory(0).page_size(PAGE).disk(2 * PAGE as u64).store(MemoryStore::new());
    let pool = pool.build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; PAGE]).unwrap();
    let before = pool.stats();
    buffer.write_all(&[2; PAGE]).unwrap();
    assert!(buffer.write_all(&[3; PAGE]).is_err());
    let after = pool.stats();
    assert_eq!(after.io.since(&before.io).written_bytes, PAGE as u64);
    assert_eq!(after.spills.since(&before.spills).total(), 1);
    assert_eq!(after.refused.since(&before.refused).disk_limit, 1);
    assert_eq!(before.io.since(&after.io).written_bytes, 0, "a difference is never below 0");
}

/// After an error in the middle, `read_to_string` had moved the position past text that it had read
/// and then dropped; `read_to_end` keeps it. Now what the position has passed is in the string,
/// whole characters of it.
#[test]
fn read_to_string_keeps_what_it_has_read() {
    let text = "aé€😀".repeat(40);
    for nth in 0..text.len() / PAGE {
        let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
        let pool =
            SpillPool::builder().memory(0).page_size(PAGE).checksums(Checksums::On).store(store).build();
        let mut buffer = pool.unwrap().buffer();
        for page in text.as_bytes().chunks(PAGE) {
            buffer.write_all(page).unwrap();
        }
        buffer.rewind().unwrap();
        faults.set(Fault::lasting(nth as u64, Failure::io()).on(Call::Read));
        let mut read = String::from("before ");
        let failed = buffer.read_to_string(&mut read);
        let position = usize::try_from(buffer.position()).unwrap();
        assert_eq!(read["before ".len()..], text[..position], "after {nth} reads");
        faults.lift();
        assert_eq!(failed.is_err(), position < text.len());
        assert_eq!(buffer.read_to_string(&mut read).unwrap(), text.len() - position);
        assert_eq!(read["before ".len()..], text);
    }
}

/// std's `read_line` drops a line whose character an error has cut, though the position has passed it.
#[test]
fn read_line_reads_again_what_it_has_not_returned() {
    let text = "aé€😀\n".repeat(40);
    for nth in 0..text.len() / PAGE {
        let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
        let pool = SpillPool::builder().memory(0).page_size(PAGE).store(store).build();
        let mut buffer = pool.unwrap().buffer();
        buffer.write_all(text.as_bytes()).unwrap();
        buffer.rewind().unwrap();
        faults.set(Fault::once(nth as u64, Failure::io()).on(Call::Read));
        let (mut read, mut errors) = (String::new(), 0);
        loop {
            match buffer.read_line(&mut read) {
                Ok(0) => break,
                Ok(_) => assert!(read.ends_with('\n')),
                Err(_) => errors += 1,
            }
            assert_eq!(read, text[..usize::try_from(buffer.position()).unwrap()], "read {nth} has failed");
        }
        assert_eq!((read == text, errors), (true, faults.failed()));
    }
    let mut no_text = SpillBuffer::from(&b"a\xFFb\nc"[..]);
    let mut read = String::new();
    assert_eq!(no_text.read_line(&mut read).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!((read.as_str(), no_text.position()), ("", 4), "as std's");
}

/// As std's: of bytes that are no text, the string gets none.
#[test]
fn bytes_that_are_no_text_leave_the_string_alone() {
    let mut buffer = SpillBuffer::from(&b"text, and then \xFF"[..]);
    let mut read = String::from("before");
    assert_eq!(buffer.read_to_string(&mut read).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!((read.as_str(), buffer.position()), ("before", buffer.len()));
    let mut std = io::Cursor::new(b"text, and then \xFF");
    assert_eq!(std.read_to_string(&mut read).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(read, "before");
}
