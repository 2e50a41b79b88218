//! Clones of a buffer share its pages, and what one writes no other sees.
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill::testing::{Failure, Fault, FaultPlan, FaultStore};
use overspill::{Checksums, MemoryStore, SpillBuffer, SpillPool};
use overspill_tests::clones::write_clones;
use overspill_tests::support::{Random, content_of};
use std::fs;
use std::io::{BufRead, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

/// A buffer of `pages` pages, of which the first byte of each is its number.
fn numbered(pool: &SpillPool, pages: usize) -> (SpillBuffer, Vec<u8>) {
    let model: Vec<u8> = (0..pages).flat_map(|page| [page as u8; PAGE]).collect();
    let mut buffer = pool.buffer();
    buffer.write_all(&model).unwrap();
    (buffer, model)
}

/// Any interleaving of buffers that are written to, read, cut, frozen, cloned and dropped, in any memory, is
/// what vectors would be.
#[test]
fn what_one_writes_no_other_sees_whatever_the_memory() {
    (1..70).for_each(|seed| write_clones(&mut Random::new(seed)));
}

#[test]
fn a_clone_copies_nothing_and_a_write_copies_one_page() {
    for memory in [1 << 20, 4 * PAGE] {
        let pool = pool(memory);
        let (mut first, mut model) = numbered(&pool, 16);
        let before = pool.stats();
        let mut second = first.try_clone().unwrap();
        let after = pool.stats();
        assert_eq!((after.memory_used, after.disk_used), (before.memory_used, before.disk_used));
        assert_eq!((after.io, after.buffers), (before.io, 3), "what they share counts as one");
        assert_eq!(second.stats().memory_used, 0);

        second.seek(SeekFrom::Start(5 * PAGE as u64 + 7)).unwrap();
        second.write_all(b"new").unwrap();
        let held = second.stats().memory_used + second.stats().disk_used;
        assert_eq!(held, PAGE as u64, "one page, in memory or not");
        assert!(content_of(&mut first) == model);
        model[5 * PAGE + 7..][..3].copy_from_slice(b"new");
        assert!(content_of(&mut second) == model);
        assert!(pool.stats().memory_used <= memory as u64);
    }
}

/// The end of the last page is 2^64, which overflowed: a write there, into a buffer that had ever been
/// cloned, panicked half-way, or freed nothing of what it replaced. What reached to the end was freed up to
/// that page.
#[test]
fn the_last_page_of_a_clone_is_written_and_freed() {
    for memory in [1 << 20, 0] {
        let pool = pool(memory);
        let mut first = pool.buffer();
        first.write_all(&[1; 50]).unwrap();
        let mut second = first.try_clone().unwrap();
        write_at(&mut second, u64::MAX - 90, &[2; 10]);
        let third = second.try_clone().unwrap();
        write_at(&mut second, u64::MAX - 85, &[3; 10]);
        let mut read = [0; 16];
        second.seek(SeekFrom::Start(u64::MAX - 91)).unwrap();
        second.read_exact(&mut read).unwrap();
        assert_eq!(read, *b"\0\x02\x02\x02\x02\x02\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03");
        second.check_invariants();
        drop((first, third));
        write_at(&mut second, u64::MAX - 90, &[4; 10]);
        second.set_len(PAGE as u64).unwrap();
        drop(second.try_clone().unwrap());
        let stats = pool.stats();
        assert!(stats.memory_used + stats.disk_used <= 2 * PAGE as u64, "{memory}: {stats:?}");
        drop(second);
        assert_eq!(pool.stats().disk_used, 0);
    }
}

/// It was, but for a last page.
#[test]
fn what_only_a_dropped_clone_saw_is_freed_to_the_end() {
    let pool = pool(0);
    for place in [1 << 40, u64::MAX - 90] {
        let mut first = pool.buffer();
        first.write_all(&[1; 50]).unwrap();
        write_at(&mut first, place, &[2; 10]);
        drop(first.try_clone().unwrap());
        first.set_len(PAGE as u64).unwrap();
        assert_eq!(pool.stats().disk_used, PAGE as u64, "at {place}");
    }
}

fn write_at(buffer: &mut SpillBuffer, place: u64, bytes: &[u8]) {
    buffer.seek(SeekFrom::Start(place)).unwrap();
    buffer.write_all(bytes).unwrap();
}

/// A snapshot was made before each of many writes, as an undo does. Each clone of a clone must not make reads
/// slower, nor keep what nobody sees.
#[test]
fn ten_thousand_clones_in_a_row_keep_what_is_seen() {
    let pool = pool(1 << 20);
    let (mut buffer, mut model) = numbered(&pool, 16);
    for n in 0..10_000_usize {
        let at = n * 5003 % model.len();
        buffer.write_at(&[n as u8], at as u64).unwrap();
        model[at] = n as u8;
        let clone = buffer.try_clone().unwrap();
        if n % 2 == 0 {
            buffer = clone; // the clone goes on, or the original
        }
        let pages = pool.stats().memory_used + pool.stats().disk_used;
        assert!(pages <= 2 * model.len() as u64, "{pages} bytes after {n} clones");
        assert!(pool.stats().buffers <= 18);
    }
    assert!(content_of(&mut buffer) == model);
    buffer.check_invariants();
}

#[test]
fn ten_thousand_clones_that_all_stay_are_each_what_they_were() {
    let pool = pool(4 << 20);
    let (mut buffer, mut model) = numbered(&pool, 4);
    let mut kept = Vec::new();
    for n in 0..10_000_usize {
        let at = n * 5003 % model.len();
        buffer.write_at(&[n as u8], at as u64).unwrap();
        model[at] = n as u8;
        let clone = buffer.try_clone().unwrap();
        if n % 100 == 0 {
            kept.push((clone, model.clone()));
        } else {
            kept.push((clone, Vec::new()));
        }
    }
    for (clone, model) in kept.iter_mut().filter(|(_, model)| !model.is_empty()) {
        assert!(content_of(clone) == *model);
    }
    drop((kept, buffer));
    pool.trim();
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.memory_used, stats.disk_used), (0, 0, 0));
}

/// What only one buffer still sees is freed when it is cut, also in what it shared before.
#[test]
fn cutting_the_last_buffer_frees_what_it_shared() {
    let pool = pool(8 * PAGE);
    let (mut first, model) = numbered(&pool, 16);
    let second = first.try_clone().unwrap();
    first.set_len(2 * PAGE as u64).unwrap();
    assert!(pool.stats().memory_used + pool.stats().disk_used >= 16 * PAGE as u64, "the other sees it");
    drop(second);
    first.set_len(PAGE as u64 + 1).unwrap();
    assert!(pool.stats().memory_used + pool.stats().disk_used <= 2 * PAGE as u64);
    assert!(content_of(&mut first) == model[..=PAGE]);
    first.set_len(3 * PAGE as u64).unwrap();
    assert!(content_of(&mut first)[PAGE + 1..].iter().all(|byte| *byte == 0), "cut bytes never come back");
    first.clear();
    pool.trim();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
}

#[test]
fn a_clone_has_a_position_of_its_own_and_what_was_lent_stays_with_the_original() {
    let mut first = SpillBuffer::from(&b"first and second"[..]);
    first.seek(SeekFrom::Start(6)).unwrap();
    assert_eq!(&first.fill_buf().unwrap()[..3], b"and");
    let mut second = first.try_clone().unwrap();
    first.consume(4);
    assert_eq!((first.position(), second.position()), (10, 6));
    second.rewind().unwrap();
    let mut rest = String::new();
    first.read_to_string(&mut rest).unwrap();
    assert_eq!((&rest[..], second.position()), ("second", 0));
}

/// A clone of a buffer without a pool has none either. What it writes was to be charged to the pool of the
/// original, in which nobody takes memory from anybody: it would have gone to the disk, byte by byte.
#[test]
fn clones_without_a_pool_have_a_memory_limit_each() {
    let mut first = SpillBuffer::with_budget(16 * PAGE);
    let model: Vec<u8> = (0..32 * PAGE).map(|at| (at / 100) as u8).collect();
    first.write_all(&model).unwrap();
    let mut second = first.try_clone().unwrap();
    for buffer in [&mut first, &mut second] {
        buffer.seek(SeekFrom::Start(5)).unwrap();
        (0..3 * PAGE).for_each(|_| buffer.write_all(b"x").unwrap());
        let io = buffer.stats().io;
        assert!(io.writes < 100, "{} writes for 12,288 bytes", io.writes);
        assert!(buffer.stats().memory_used <= 16 * PAGE as u64);
    }
    drop(first);
    let mut expected = model.clone();
    expected[5..5 + 3 * PAGE].fill(b'x');
    assert!(content_of(&mut second) == expected);
}

#[test]
fn clones_become_files_whole() {
    let dir = tempfile::tempdir().unwrap();
    let pool = SpillPool::builder().memory(8 * PAGE).page_size(PAGE).dir(dir.path()).build().unwrap();
    for has_own in [false, true] {
        let path = dir.path().join("whole");
        let mut first = if has_own { pool.buffer_for(&path) } else { pool.buffer() };
        let mut model: Vec<u8> = (0..20 * PAGE).map(|at| (at / 77) as u8).collect();
        first.write_all(&model).unwrap();
        first.set_len(40 * PAGE as u64).unwrap();
        model.resize(40 * PAGE, 0);
        let mut second = first.try_clone().unwrap();
        second.write_at(b"second", 3 * PAGE as u64).unwrap();
        first.persist(&path).unwrap().durable().unwrap();
        assert!(fs::read(&path).unwrap() == model);
        let frozen = second.freeze();
        frozen.persist(&path).unwrap().durable().unwrap();
        model[3 * PAGE..][..6].copy_from_slice(b"second");
        assert!(fs::read(&path).unwrap() == model);
        let mut file = frozen.into_buffer().unwrap().into_file().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == model);
    }
}

/// Each piece was sought in all that lies below, to its end, before the buffer looked at its own pages: a
/// clone that had been rewritten took minutes to become a file.
#[test]
fn a_clone_that_was_rewritten_becomes_a_file_in_time_for_each_page_once() {
    const SMALL: usize = 16;
    const PAGES: usize = 20_000;
    let pool = SpillPool::builder().memory(0).page_size(SMALL).store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; PAGES * SMALL]).unwrap();
    drop(buffer.try_clone().unwrap());
    for page in (1..PAGES).step_by(2) {
        buffer.write_all_at(&[2; SMALL], (page * SMALL) as u64).unwrap(); // a run of its own
    }
    drop(buffer.try_clone().unwrap());
    buffer.write_all_at(&[3; PAGES * SMALL], 0).unwrap();
    buffer.rewind().unwrap();
    let began = Instant::now();
    let mut file = buffer.into_file().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == [3; PAGES * SMALL]);
}

/// Buffers over a store that fails as planned; each error leaves what was accepted, and the other
/// buffer sees nothing. A write that was cut short or refused `continues`, or is left like that.
/// Returns how many calls failed.
fn with_faults(plan: FaultPlan, continues: bool, checksums: Checksums, memory: usize) -> u64 {
    let (store, faults) = FaultStore::new(MemoryStore::new(), plan);
    let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(checksums);
    let pool = builder.store(store).build().unwrap();
    let mut buffers = vec![(pool.buffer(), Vec::new())];
    let ops: [(usize, usize, usize); 9] = [
        (0, 0, 6 * PAGE),
        (0, 100, 50),
        (1, PAGE - 20, 2 * PAGE + 40),
        (0, 2 * PAGE, PAGE),
        (1, 5 * PAGE + 9, 3 * PAGE),
        (2, 3 * PAGE + 1, 20),
        (2, 0, 4 * PAGE),
        (1, 7, 3),
        (0, 5 * PAGE, 200),
    ];
    for (step, (buffer, at, len)) in ops.into_iter().enumerate() {
        if buffer == buffers.len() {
            let (last, model) = buffers.last_mut().unwrap();
            let clone = (last.try_clone().unwrap(), model.clone());
            buffers.push(clone);
        }
        let (buffer, model) = &mut buffers[buffer];
        let data: Vec<u8> = (0..len).map(|at| (at * 7 + step) as u8).collect();
        let mut done = 0;
        while done < len {
            let mut taken = buffer.write_at(&data[done..], (at + done) as u64);
            if taken.is_err() && continues {
                taken = buffer.write_at(&data[done..], (at + done) as u64);
            }
            let Ok(taken) = taken else { break };
            model.resize(model.len().max(at + done + taken), 0);
            model[at + done..][..taken].copy_from_slice(&data[done..][..taken]);
            done += taken;
            if !continues {
                break;
            }
        }
        let _ = buffer.spill();
        buffers.iter_mut().for_each(|(buffer, _)| buffer.check_invariants());
    }
    let failed = faults.failed();
    faults.lift();
    for (mut buffer, model) in buffers {
        assert!(content_of(&mut buffer) == model);
    }
    pool.trim();
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.memory_used, stats.disk_used), (0, 0, 0));
    failed
}

/// Each call of the store fails in turn, once and with all that follow (I3, I11).
#[test]
fn a_failing_store_costs_no_clone_a_byte() {
    let mut places = 0;
    for (checksums, memory) in
        [(Checksums::Off, 0), (Checksums::On, 0), (Checksums::Off, 3 * PAGE), (Checksums::On, 2 * PAGE)]
    {
        let full = Failure::Error(ErrorKind::StorageFull);
        let plans: [fn(u64, Failure) -> FaultPlan; 4] = [
            |n, full| FaultPlan::new().with(Fault::once(n, full)),
            |n, full| FaultPlan::new().with(Fault::lasting(n, full)),
            |n, _| FaultPlan::new().with(Fault::lasting(n, Failure::Short(100))),
            // What was written of a page before the store was full does not hide what the base has of the
            // rest.
            |n, full| {
                let short = Fault::once(n, Failure::Short(PAGE + 100));
                FaultPlan::new().with(short).with(Fault::lasting(n + 1, full))
            },
        ];
        for (plan, continues) in plans.into_iter().flat_map(|plan| [(plan, false), (plan, true)]) {
            let failed = |n: &u64| with_faults(plan(*n, full), continues, checksums, memory) > 0;
            places += (0..).take_while(failed).count();
        }
    }
    assert!(places > 200, "{places} places are too few to prove anything");
}

/// Threads that write to clones of one content, in a pool that is short of memory.
#[test]
fn clones_are_written_to_by_threads_of_their_own() {
    let pool = pool(6 * PAGE);
    let (mut first, model) = numbered(&pool, 12);
    let model = Arc::new(model);
    let threads: Vec<_> = (1..5_usize)
        .map(|n| {
            let (mut clone, model) = (first.try_clone().unwrap(), Arc::clone(&model));
            thread::spawn(move || {
                let mut expected = model.to_vec();
                for round in 0..200 {
                    let at = (round * 4099 * n) % (expected.len() - 9);
                    expected[at..at + 9].fill(n as u8 + 100);
                    clone.write_at(&[n as u8 + 100; 9], at as u64).unwrap();
                    if round % 50 == n {
                        assert!(content_of(&mut clone) == expected);
                        clone = clone.try_clone().unwrap();
                    }
                }
                assert!(content_of(&mut clone) == expected);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(content_of(&mut first) == *model);
    first.check_invariants();
    pool.check_invariants();
}

/// A page that was overwritten whole stayed in the content that the clone had shared, which only its writer
/// saw any more: so there was no room, and a buffer that waited for room waited for itself.
#[test]
fn a_rewrite_by_whole_pages_frees_what_nobody_sees_any_more() {
    for pages_at_once in [1, 3] {
        for memory in [0, 2 * PAGE] {
            let disk = 24 * PAGE as u64;
            let pool = SpillPool::builder().memory(memory).page_size(PAGE).disk(disk);
            let pool = pool.store(MemoryStore::new()).build().unwrap();
            let (mut buffer, _) = numbered(&pool, 16);
            drop(buffer.try_clone().unwrap());
            buffer.rewind().unwrap();
            for _ in 0..16_usize.div_ceil(pages_at_once) {
                buffer.write_all(&vec![99; pages_at_once * PAGE]).unwrap();
            }
            let content = content_of(&mut buffer);
            assert!(
                content.iter().all(|byte| *byte == 99),
                "{pages_at_once} at once, {memory} bytes of memory"
            );
            buffer.check_invariants();
            drop(buffer);
            pool.check_invariants();
        }
    }
}

/// A page that was read before it was written to stayed in what the clone had shared: its copy was written
/// to, and whether it left memory later by a way that knows of what lies below was chance.
#[test]
fn pages_that_are_read_and_then_written_to_free_what_nobody_sees_any_more() {
    const PAGES: usize = 32;
    for (memory, spread) in [(4 * PAGES, 1), (4 * PAGES, 7), (4, 1), (4, 7)] {
        let pool = pool(memory * PAGE);
        let (mut buffer, mut model) = numbered(&pool, PAGES);
        buffer.spill().unwrap();
        drop(buffer.try_clone().unwrap());
        let mut few = [0; 10];
        for page in (0..PAGES).map(|n| n * spread % PAGES) {
            for at in [page * PAGE, page * PAGE + 10] {
                buffer.seek(SeekFrom::Start(at as u64)).unwrap();
                buffer.read_exact(&mut few).unwrap();
                assert!(few == model[at..at + 10]);
            }
            buffer.seek(SeekFrom::Start((page * PAGE) as u64)).unwrap();
            buffer.write_all(&[99; 10]).unwrap();
            model[page * PAGE..][..10].fill(99);
        }
        let of_window = 2 * PAGE as u64; // in memory and in its slot
        let stats = (pool.stats(), buffer.stats());
        let shared = [stats.0.memory_used - stats.1.memory_used, stats.0.disk_used - stats.1.disk_used];
        assert!(shared.iter().sum::<u64>() <= of_window, "{shared:?} bytes, with {memory} pages of memory");
        assert!(content_of(&mut buffer) == model);
        buffer.check_invariants();
        pool.check_invariants();
    }
}

/// A page of which only the beginning is seen stayed in what the clone had shared when it was overwritten:
/// the rest of it belonged to no source.
#[test]
fn a_page_that_was_cut_in_two_is_freed_when_it_is_overwritten() {
    for has_runs in [false, true] {
        let pool = pool(0);
        let (mut buffer, mut model) = numbered(&pool, 4);
        buffer.set_len(3 * PAGE as u64 + 100).unwrap();
        drop(buffer.try_clone().unwrap());
        buffer.set_len(6 * PAGE as u64).unwrap();
        model.truncate(3 * PAGE + 100);
        model.resize(6 * PAGE, 0);
        if has_runs {
            buffer.write_all_at(&[5; PAGE], 5 * PAGE as u64).unwrap();
            model[5 * PAGE..].fill(5);
            drop(buffer.try_clone().unwrap());
        }
        let before = pool.stats().disk_used;
        buffer.write_all_at(&[9; PAGE], 3 * PAGE as u64).unwrap();
        model[3 * PAGE..4 * PAGE].fill(9);
        assert_eq!(pool.stats().disk_used, before, "with further runs: {has_runs}");
        assert!(content_of(&mut buffer) == model);
        buffer.check_invariants();
        drop(buffer);
        pool.check_invariants();
    }
}

/// A copy of what clones share counted as evicted if the pool took it, and not if its buffer let go of it.
#[test]
fn a_copy_that_leaves_memory_is_not_counted_as_evicted() {
    let take: [fn(&SpillPool, &mut SpillBuffer); 2] =
        [|pool, _| pool.set_memory_limit(0), |_, clone| clone.spill().unwrap()];
    for take in take {
        let pool = pool(8 * PAGE);
        let (mut buffer, _) = numbered(&pool, 4);
        buffer.spill().unwrap();
        let mut clone = buffer.try_clone().unwrap();
        clone.rewind().unwrap();
        (0..40).for_each(|_| clone.read_exact(&mut [0; 100]).unwrap());
        let before = pool.stats();
        assert!(before.memory_used > 0);
        take(&pool, &mut clone);
        assert_eq!((pool.stats().memory_used, pool.stats().evictions), (0, before.evictions));
    }
}

/// What clones share counted towards no buffer's own limits, of which nothing said so: a buffer with a limit
/// of its own that is cloned now and then has all of the pool's disk.
#[test]
fn what_clones_share_counts_towards_no_limit_of_a_buffers_own() {
    const LIMIT: usize = 16 * PAGE;
    let pool = pool(0);
    let mut buffer = pool.buffer_builder().disk(LIMIT as u64).build();
    for round in 1..=8 {
        buffer.write_all(&[7; LIMIT]).unwrap();
        buffer.write_all(&[7]).unwrap_err();
        drop(buffer.try_clone().unwrap());
        let used = (buffer.stats().disk_used, pool.stats().disk_used);
        assert_eq!(used, (0, (round * LIMIT) as u64));
    }
    pool.set_disk_limit((8 * LIMIT) as u64);
    buffer.write_all(&[7]).unwrap_err();
}
