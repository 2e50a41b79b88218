//! Do the holes of a file stay holes when a buffer takes the file in, and do its bytes come where they
//! belong?
#![allow(missing_docs)]
#![cfg(any(target_os = "linux", target_os = "android"))]

use overspill::{Checksums, SpillBuffer, SpillPool};
use overspill_tests::ops::pattern;
use overspill_tests::proptest_config;
use overspill_tests::support::{content_of, spill_error};
use proptest::prelude::*;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicUsize, Ordering};

const PAGE: usize = 4 << 10;

/// A file of `len` bytes with `data` at these offsets, and holes around, if its file system has any.
fn sparse(len: u64, data: &[(u64, &[u8])]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    for (at, bytes) in data {
        file.write_all_at(bytes, *at).unwrap();
    }
    file
}

/// Whether the directory for temp files is on a file system that tells the holes of a file.
fn has_holes() -> bool {
    let file = sparse(1 << 20, &[(512 << 10, b"data")]);
    let found = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0));
    let has = file.metadata().unwrap().blocks() * 512 < 1 << 20 && found.is_ok_and(|data| data > 0);
    if !has {
        eprintln!("skipped: no holes on this file system");
    }
    has
}

/// A disk image of a tebibyte with a few bytes in it filled the disk, or would have, after some minutes.
#[test]
fn a_hole_takes_neither_time_nor_room() {
    if !has_holes() {
        return;
    }
    const LEN: u64 = 1 << 40;
    let (head, middle) = (pattern(1, 3 * PAGE), pattern(2, 100));
    let file = sparse(LEN, &[(0, &head), (LEN / 2 + 11, &middle)]);
    for (memory, checksums) in [(0, Checksums::Off), (0, Checksums::On), (1 << 20, Checksums::Off)] {
        let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(checksums);
        let pool = builder.build().unwrap();
        let mut buffer = pool.buffer();
        buffer.write_all(&[7; 11]).unwrap();
        (&file).rewind().unwrap();
        assert_eq!(buffer.extend_from_file(&file).unwrap(), LEN);
        assert_eq!((buffer.len(), buffer.position()), (LEN + 11, LEN + 11));
        assert_eq!((&file).stream_position().unwrap(), LEN);
        let stats = pool.stats();
        let used = stats.memory_used + stats.disk_used;
        assert!(used <= 16 * PAGE as u64, "{used} bytes for the few that there are");

        let mut found = vec![1; head.len() + PAGE];
        buffer.read_exact_at(&mut found, 11).unwrap();
        assert!(found[..head.len()] == head && found[head.len()..].iter().all(|&byte| byte == 0));
        let mut found = vec![1; PAGE];
        buffer.read_exact_at(&mut found, LEN / 2 + 22).unwrap();
        assert!(found[..middle.len()] == middle && found[middle.len()..].iter().all(|&byte| byte == 0));
        let mut last = [1];
        assert_eq!(buffer.read_at(&mut last, LEN + 10).unwrap(), 1);
        assert_eq!(last, [0]);
    }
}

/// A step for each of many short holes would cost more than their zeros.
#[test]
fn short_holes_are_no_reason_for_many_steps() {
    if !has_holes() {
        return;
    }
    const LEN: usize = 8 << 20;
    let data = pattern(5, PAGE);
    let parts: Vec<_> = (0..LEN as u64 / 2).step_by(2 * PAGE).map(|at| (at, &data[..])).collect();
    let mut file = sparse(LEN as u64, &parts);
    let pool = SpillPool::builder().memory(0).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.extend_from_file(&file).unwrap();
    let stats = pool.stats();
    let calls = stats.direct_io.writes + stats.direct_io.reads;
    assert!(calls <= 20, "{calls} calls of the store for 4 MiB, of which one moves 64 pages");
    let half = LEN as u64 / 2;
    assert!(stats.disk_used <= half + (64 << 10), "{} bytes, with the hole at the end", stats.disk_used);
    assert!(content_of(&mut buffer) == content_of(&mut file));
}

/// Zeros over a page that was there free it, if nothing stays behind them.
#[test]
fn a_hole_overwrites_what_it_reaches() {
    if !has_holes() {
        return;
    }
    const LEN: usize = 64 * PAGE;
    let file = sparse(LEN as u64, &[(0, &[1; PAGE])]);
    for (before, freed) in [(LEN, true), (LEN + 1, false)] {
        let pool = SpillPool::builder().memory(0).page_size(PAGE).build().unwrap();
        let mut buffer = pool.buffer();
        buffer.write_all(&vec![9; before]).unwrap();
        buffer.rewind().unwrap();
        (&file).rewind().unwrap();
        assert_eq!(buffer.extend_from_file(&file).unwrap(), LEN as u64);
        let mut expected = vec![9; before];
        expected[..PAGE].fill(1);
        expected[PAGE..LEN].fill(0);
        assert!(content_of(&mut buffer) == expected);
        assert_eq!(pool.stats().disk_used <= 2 * PAGE as u64, freed, "{before} bytes before");
    }
}

/// A call that is refused behind a hole goes on from there.
#[test]
fn what_is_refused_behind_a_hole_can_be_asked_for_again() {
    let data = pattern(4, 8 * PAGE);
    let hole = 100 * PAGE as u64;
    let mut file = sparse(hole + data.len() as u64, &[(hole, &data)]);
    let pool = SpillPool::builder().memory(0).disk(4 * PAGE as u64).page_size(PAGE).build().unwrap();
    let mut buffer = pool.buffer();
    if !has_holes() {
        return;
    }
    let refused = buffer.extend_from_file(&file).unwrap_err();
    spill_error(refused);
    assert_eq!(buffer.position(), hole + 4 * PAGE as u64);
    assert_eq!(file.stream_position().unwrap(), buffer.position());
    assert_eq!(buffer.len(), buffer.position());
    pool.set_disk_limit(1 << 20);
    assert_eq!(buffer.extend_from_file(&file).unwrap(), 4 * PAGE as u64);
    assert!(content_of(&mut buffer) == content_of(&mut file));
}

/// The last position is none that a byte can have.
#[test]
fn a_hole_ends_where_positions_do() {
    let file = sparse(1 << 30, &[]);
    for room in [0, 1, 100, PAGE as u64] {
        let mut buffer = SpillBuffer::with_budget(0);
        buffer.seek(SeekFrom::Start(u64::MAX - room)).unwrap();
        (&file).rewind().unwrap();
        let refused = buffer.extend_from_file(&file);
        assert!(refused.is_err(), "{refused:?} where {room} bytes fit");
        assert_eq!((&file).stream_position().unwrap(), buffer.position() - (u64::MAX - room));
    }
}

#[derive(Clone, Debug)]
struct Case {
    /// Lengths, in turn of data and of holes.
    parts: Vec<usize>,
    /// Where in the file the position is, in hundredths.
    from: usize,
    before: usize,
    at: usize,
    memory: usize,
    page: usize,
    sums: bool,
    clone: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let len = prop_oneof![0..200_usize, Just(PAGE), Just(4 * PAGE), 0..20 * PAGE];
    let memory = prop_oneof![Just(0), Just(PAGE), Just(8 * PAGE), Just(1 << 20)];
    let page = prop_oneof![Just(512), Just(PAGE), Just(4 * PAGE)];
    let file = (prop::collection::vec(len, 0..12), 0..100_usize);
    (file, 0..40 * PAGE, 0..50 * PAGE, memory, page, any::<bool>(), any::<bool>()).prop_map(
        |((parts, from), before, at, memory, page, sums, clone)| Case {
            parts,
            from,
            before,
            at,
            memory,
            page,
            sums,
            clone,
        },
    )
}

/// The length was asked for after the look that had found no more data, and what was appended between the two
/// became zeros: in 17 to 43 of 100,000 rounds.
#[test]
fn what_is_appended_meanwhile_is_in_no_hole() {
    const HOLE: u64 = 1 << 20;
    const ROUNDS: usize = 20_000;
    let (file, pool) = (sparse(0, &[]), SpillPool::builder().memory(1 << 20).build().unwrap());
    let (round, done, mut lost) = (AtomicUsize::new(0), AtomicUsize::new(0), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for next in 1..=ROUNDS {
                while round.load(Ordering::SeqCst) < next {
                    std::hint::spin_loop();
                }
                (0..next * 7919 % 400).for_each(|_| std::hint::spin_loop());
                file.write_all_at(&[7; 512], HOLE).unwrap();
                done.store(next, Ordering::SeqCst);
            }
        });
        for next in 1..=ROUNDS {
            file.set_len(0).unwrap();
            file.set_len(HOLE).unwrap();
            (&file).rewind().unwrap();
            let mut buffer = pool.buffer();
            round.store(next, Ordering::SeqCst);
            let taken = buffer.extend_from_file(&file).unwrap();
            while done.load(Ordering::SeqCst) < next {
                std::hint::spin_loop();
            }
            let mut appended = vec![0; usize::try_from(taken - HOLE).unwrap()];
            buffer.read_exact_at(&mut appended, HOLE).unwrap();
            lost += usize::from(appended.iter().any(|byte| *byte != 7));
        }
    });
    assert_eq!(lost, 0, "of {ROUNDS} rounds");
}

proptest! {
    #![proptest_config(proptest_config(300))]

    /// A buffer over which a file is written has what a vector has, and so has its clone.
    #[test]
    fn it_is_as_if_all_of_it_had_been_read(case in case()) {
        let file = tempfile::tempfile().unwrap();
        let mut end = 0;
        for (number, &len) in case.parts.iter().enumerate() {
            if number % 2 == 0 {
                file.write_all_at(&pattern(number, len), end).unwrap();
            }
            end += len as u64;
        }
        file.set_len(end).unwrap();
        let whole = content_of(&mut &file);
        let from = whole.len() * case.from / 100;

        let sums = if case.sums { Checksums::On } else { Checksums::Off };
        let pool = SpillPool::builder().memory(case.memory).page_size(case.page).checksums(sums).build().unwrap();
        let mut buffer = pool.buffer();
        let old = pattern(99, case.before);
        buffer.write_all(&old).unwrap();
        let clone = case.clone.then(|| buffer.try_clone().unwrap());
        buffer.seek(SeekFrom::Start(case.at as u64)).unwrap();
        (&file).seek(SeekFrom::Start(from as u64)).unwrap();
        let taken = buffer.extend_from_file(&file).unwrap();

        let mut model = old.clone();
        let new = &whole[from..];
        if !new.is_empty() {
            model.resize(model.len().max(case.at + new.len()), 0);
            model[case.at..][..new.len()].copy_from_slice(new);
        }
        prop_assert_eq!(taken, new.len() as u64);
        prop_assert_eq!(buffer.position(), (case.at + new.len()) as u64);
        prop_assert!(content_of(&mut buffer) == model);
        if let Some(mut clone) = clone {
            prop_assert!(content_of(&mut clone) == old);
        }
        pool.check_invariants();
    }
}
