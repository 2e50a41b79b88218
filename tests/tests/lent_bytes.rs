//! Content that leaves as `Bytes`: what is copied and what is not, what is charged for how long, and on
//! whatever thread it ends.
#![allow(missing_docs)]

use bytes::Bytes;
use overspill::{Checksums, Frozen, MemoryStore, SpillBuffer, SpillPool};
use overspill_tests::support::Random;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::thread;

const PAGE: usize = 4096;

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

fn frozen(pool: &SpillPool, content: &[u8]) -> Frozen {
    let mut buffer = pool.buffer();
    buffer.write_all(content).unwrap();
    buffer.freeze()
}

#[test]
fn a_page_in_memory_is_lent_without_a_copy_and_stays_charged() {
    let (pool, content) = (pool(64 * PAGE), Random::new(1).bytes(4 * PAGE));
    let frozen = frozen(&pool, &content);
    let used = pool.stats().memory_used;
    let whole = frozen.bytes_at(PAGE as u64, PAGE).unwrap();
    assert_eq!((whole.len(), pool.stats().memory_lent), (PAGE, PAGE as u64));
    let half = frozen.bytes_at(PAGE as u64 + 100, PAGE / 2).unwrap();
    assert_eq!(half.as_ptr(), whole[100..].as_ptr(), "the same memory");
    assert_eq!((pool.stats().memory_lent, pool.stats().memory_used), (PAGE as u64, used), "counted once");
    let (clone, slice) = (whole.clone(), whole.slice(5..9));
    drop((whole, half));
    assert_eq!(pool.stats().memory_lent, PAGE as u64);
    let frozen = frozen.into_buffer().unwrap_err(); // some of it is lent
    drop(frozen);
    let stats = pool.stats();
    assert_eq!((stats.memory_used, stats.memory_lent, stats.buffers), (PAGE as u64, PAGE as u64, 0));
    pool.check_invariants(); // it took what outlives its content for lost
    drop(pool.clone());
    assert!(clone == content[PAGE..2 * PAGE] && slice == content[PAGE + 5..PAGE + 9]);
    drop(clone);
    assert_eq!(pool.stats().memory_used, PAGE as u64);
    thread::spawn(move || drop(slice)).join().unwrap();
    assert_eq!((pool.stats().memory_used, pool.stats().memory_lent), (0, 0));
    pool.check_invariants();
}

/// The last loan of content that is gone freed memory, and told nobody: who waited for room waited on.
#[test]
fn memory_that_comes_free_with_a_loan_wakes_who_waits_for_room() {
    let builder = SpillPool::builder().memory(8 * PAGE).disk(0).page_size(PAGE);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let content = frozen(&pool, &[1; 2 * PAGE]);
    let lent = [0, 1].map(|page| content.bytes_at(page * PAGE as u64, PAGE).unwrap());
    let mut rest = pool.buffer();
    rest.write_all(&[2; 6 * PAGE]).unwrap();
    let mut waiting = pool.buffer();
    waiting.write_all(&[3; PAGE]).unwrap_err();
    let mut context = Context::from_waker(Waker::noop());
    while waiting.poll_writable(&mut context).is_ready() {
        waiting.write_all(&[3; PAGE]).unwrap_err();
    }
    let [first, second] = lent;
    drop((content, first.clone()));
    drop(second);
    assert!(waiting.poll_writable(&mut context).is_ready());
    waiting.write_all(&[3; PAGE]).unwrap();

    while waiting.poll_writable(&mut context).is_ready() {
        waiting.write_all(&[3; PAGE]).unwrap_err();
    }
    thread::spawn(move || drop(first)).join().unwrap();
    assert!(waiting.poll_writable(&mut context).is_ready());
    waiting.write_all(&[3; PAGE]).unwrap();
}

#[test]
fn lent_bytes_outlive_their_pool() {
    let pool = pool(64 * PAGE);
    let bytes = frozen(&pool, &[7; PAGE]).bytes_at(0, PAGE).unwrap();
    drop(pool);
    assert_eq!(bytes, [7; PAGE][..]);
    let own = SpillBuffer::from(&[8; 100_000][..]).freeze();
    let bytes = own.bytes_at(0, 60_000).unwrap();
    drop(own);
    assert!(bytes.iter().all(|byte| *byte == 8));
}

#[test]
fn what_is_spilled_is_brought_to_memory_and_lent() {
    let (pool, content) = (pool(64 * PAGE), Random::new(2).bytes(3 * PAGE));
    let mut buffer = pool.buffer();
    buffer.write_all(&content).unwrap();
    buffer.spill().unwrap();
    let frozen = buffer.freeze();
    let bytes = frozen.bytes_at(0, PAGE).unwrap();
    assert_eq!((pool.stats().memory_lent, pool.stats().io.read_bytes), (PAGE as u64, PAGE as u64));
    assert_eq!(bytes, content[..PAGE]);
    assert_eq!(frozen.bytes_at(0, PAGE).unwrap().as_ptr(), bytes.as_ptr());
    assert_eq!(pool.stats().io.read_bytes, PAGE as u64);
}

/// Slow receivers would keep all of a pool's memory.
#[test]
fn past_a_share_of_the_memory_copies_are_handed_out() {
    let content = Random::new(3).bytes(16 * PAGE);
    let limits = [(None, 8), (Some(0), 0), (Some(3 * PAGE as u64 + 1), 3), (Some(u64::MAX), 16)];
    for (limit, lent) in limits {
        let builder = SpillPool::builder().memory(32 * PAGE).page_size(PAGE).store(MemoryStore::new());
        let builder = if let Some(limit) = limit { builder.lend(limit) } else { builder };
        let pool = builder.build().unwrap();
        let frozen = frozen(&pool, &content);
        let all: Vec<Bytes> = frozen.chunks().map(Result::unwrap).collect();
        assert_eq!(pool.stats().memory_lent, lent * PAGE as u64, "{limit:?}");
        assert!(all.concat() == content && all.len() == 16);
        let mut other = pool.buffer();
        other.write_all(&vec![1; 40 * PAGE]).unwrap();
        assert!(pool.stats().memory_used <= 32 * PAGE as u64);
        assert!(all.concat() == content, "nobody wrote to what is lent");
        drop(all);
        assert_eq!(pool.stats().memory_lent, 0);
        frozen.check_invariants();
        pool.check_invariants();
    }
}

#[test]
fn few_bytes_and_bytes_of_several_pages_are_copied() {
    let (pool, content) = (pool(64 * PAGE), Random::new(4).bytes(3 * PAGE + 9));
    let frozen = frozen(&pool, &content);
    for (at, len) in [(0, 1), (5, PAGE / 8), (PAGE - 1, 2), (7, 3 * PAGE), (2 * PAGE, 2 * PAGE), (0, 1 << 30)]
    {
        let bytes = frozen.bytes_at(at as u64, len).unwrap();
        assert!(bytes == content[at..(at + len).min(content.len())], "{len} at {at}");
    }
    assert_eq!(pool.stats().memory_lent, 0);
    for offset in [content.len() as u64, u64::MAX] {
        assert!(frozen.bytes_at(offset, 10).unwrap().is_empty());
    }
    assert!(frozen.bytes_at(3, 0).unwrap().is_empty());
    assert_eq!(frozen.slice(3 * PAGE as u64..).chunks().next().unwrap().unwrap(), content[3 * PAGE..]);
    assert_eq!(frozen.slice(8..8).chunks().count(), 0);
}

/// Any content, with holes, over any memory, from any slice, beside readers and others that need memory.
#[test]
fn chunks_are_the_content_whatever_the_memory() {
    for seed in 1..100 {
        let random = &mut Random::new(seed);
        let memory = [0, 1, PAGE, 3 * PAGE, 9 * PAGE, 1 << 20][random.index(6)];
        let checksums = if random.index(3) == 0 { Checksums::On } else { Checksums::Off };
        let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(checksums);
        let pool = builder.store(MemoryStore::new()).build().unwrap();
        let (mut buffer, mut model) = (pool.buffer(), vec![0; 9 * PAGE]);
        for _ in 0..random.index(8) {
            let (at, len) = (random.index(6 * PAGE), random.index(3 * PAGE));
            let bytes = random.bytes(len);
            buffer.seek(SeekFrom::Start(at as u64)).unwrap();
            buffer.write_all(&bytes).unwrap();
            model[at..at + len].copy_from_slice(&bytes);
        }
        buffer.set_len(model.len() as u64).unwrap();
        let frozen = buffer.freeze();
        let (mut held, mut other) = (Vec::new(), pool.buffer());
        for _ in 0..30 {
            let from = random.index(model.len());
            let part = frozen.slice(from as u64..);
            match random.index(6) {
                0 => held.push((from, part.chunks().next().unwrap().unwrap())),
                1 => held.push((from, frozen.bytes_at(from as u64, random.index(3 * PAGE)).unwrap())),
                2 if !held.is_empty() => drop(held.swap_remove(random.index(held.len()))),
                3 => other.write_all(&random.bytes(PAGE)).unwrap(),
                4 => pool.set_memory_limit(random.index(memory + 1)),
                _ => {
                    let mut bytes = vec![0; random.index(2 * PAGE)];
                    let n = part.reader().read(&mut bytes).unwrap();
                    assert!(bytes[..n] == model[from..from + n]);
                }
            }
            assert!(held.iter().all(|(at, bytes)| *bytes == model[*at..at + bytes.len()]), "seed {seed}");
            frozen.check_invariants();
        }
        let all: Vec<Bytes> = frozen.chunks().map(Result::unwrap).collect();
        assert!(all.concat() == model, "seed {seed}");
        drop((frozen, other));
        assert!(all.concat() == model);
        drop((all, held));
        pool.trim();
        let stats = pool.stats();
        assert_eq!((stats.memory_used, stats.disk_used, stats.memory_lent), (0, 0, 0), "seed {seed}");
        pool.check_invariants();
    }
}

/// A search looked at a few of the pages that were lent, and found none: the limit was passed by all those
/// whose loans had ended.
#[test]
fn a_lowered_limit_is_kept_however_many_pages_were_lent() {
    const PAGES: usize = 1000;
    let pool = SpillPool::builder().memory(2 * PAGES * PAGE).page_size(PAGE).lend(u64::MAX).build().unwrap();
    let content = frozen(&pool, &vec![7; PAGES * PAGE]);
    let lend = |page| content.bytes_at((page * PAGE) as u64, PAGE).unwrap();
    let loans: Vec<Bytes> = (0..PAGES).map(lend).collect();
    let kept: Vec<Bytes> = loans[..PAGES / 2].to_vec();
    drop(loans);
    pool.set_memory_limit(16 * PAGE);
    let used = pool.stats().memory_used;
    assert!(used <= ((PAGES / 2 + 16) * PAGE) as u64, "{} pages", used / PAGE as u64);
    drop(kept);
}

#[test]
fn threads_drop_what_others_lend_while_memory_is_taken() {
    let pool = pool(24 * PAGE);
    let content = Arc::new(Random::new(5).bytes(20 * PAGE));
    let (frozen, is_over) = (frozen(&pool, &content), Arc::new(AtomicBool::new(false)));
    let lenders: Vec<_> = (1..4)
        .map(|seed| {
            let (frozen, content) = (frozen.clone(), Arc::clone(&content));
            thread::spawn(move || {
                let (random, mut held) = (&mut Random::new(seed), Vec::new());
                for _ in 0..3000 {
                    let at = random.index(20) * PAGE;
                    held.push((at, frozen.bytes_at(at as u64, PAGE).unwrap()));
                    if held.len() > 6 {
                        let (at, bytes) = held.swap_remove(random.index(held.len()));
                        assert!(bytes == content[at..at + PAGE]);
                    }
                    let mut bytes = [0; 300];
                    frozen.read_at(&mut bytes, at as u64).unwrap();
                    assert!(bytes == content[at..at + 300]);
                }
            })
        })
        .collect();
    let disturbing = {
        let (pool, is_over) = (pool.clone(), Arc::clone(&is_over));
        thread::spawn(move || {
            let random = &mut Random::new(9);
            while !is_over.load(Ordering::Relaxed) {
                let mut other = pool.buffer();
                other.write_all(&random.bytes(10 * PAGE)).unwrap();
                pool.set_memory_limit((8 + random.index(16)) * PAGE);
            }
        })
    };
    lenders.into_iter().for_each(|lender| lender.join().unwrap());
    is_over.store(true, Ordering::Relaxed);
    disturbing.join().unwrap();
    assert_eq!(pool.stats().memory_lent, 0);
    frozen.check_invariants();
    pool.check_invariants();
    drop(frozen);
    pool.trim();
    assert_eq!(pool.stats().memory_used, 0);
}
