//! What the owner of given memory may do when it is dropped, where that happens, and what a
//! failing store leaves it.

use super::{Drops, PAGE, assert_content, counted, foreign, pool, used};
use overspill::testing::{Failure, Fault, FaultPlan, FaultStore};
use overspill::{Frozen, MemoryStore, SpillBuffer, SpillPool};
use overspill_tests::support::{Random, content_of, in_time};
use std::io::{Read, Seek, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Waker};
use std::thread;

#[test]
fn an_owner_that_panics_when_it_is_dropped_reaches_nobody() {
    let pool = pool(64);
    for how in 0..6 {
        let (bytes, mut buffer) = (foreign(&[5; 4 * PAGE], || panic!("an owner")), pool.buffer());
        match how {
            0 => {
                buffer.write_all(&[5; 4 * PAGE]).unwrap();
                buffer.rewind().unwrap();
                buffer.push(bytes).unwrap(); // copied
            }
            1 => {
                buffer.push(bytes).unwrap();
                buffer.spill().unwrap();
            }
            2 => {
                buffer.push(bytes).unwrap();
                pool.set_memory_limit(PAGE);
                pool.set_memory_limit(64 * PAGE);
            }
            3 => {
                buffer.push(bytes).unwrap();
                (0..4).for_each(|page| assert_eq!(buffer.write_at(&[5], page * PAGE as u64).unwrap(), 1));
            }
            4 => {
                buffer.push(bytes).unwrap();
                let frozen = buffer.freeze();
                let lent = frozen.bytes_at(0, PAGE).unwrap();
                drop(frozen);
                drop(lent);
                buffer = pool.buffer();
                buffer.write_all(&[5; 4 * PAGE]).unwrap();
            }
            _ => {
                buffer.push(bytes).unwrap();
                buffer.clear();
                buffer.write_all(&[5; 4 * PAGE]).unwrap();
            }
        }
        assert_content(&mut buffer, &[5; 4 * PAGE]);
        drop(buffer);
        pool.trim();
        assert_eq!(used(&pool), 0, "way {how}");
        pool.check_invariants();
    }
}

/// The pages of a frozen content leave while its lock is held, and an owner that reads it would
/// wait for its own thread.
#[test]
fn an_owner_may_use_the_pool_when_it_is_dropped() {
    in_time(|| {
        let (pool, content) = (pool(64), Random::new(10).bytes(6 * PAGE));
        let (told, dropped) = mpsc::channel();
        let (theirs, shared) = (pool.clone(), Arc::new(OnceLock::<Frozen>::new()));
        let read = Arc::clone(&shared);
        let bytes = foreign(&content, move || {
            let mut buffer = theirs.buffer();
            buffer.write_all(&[3; 3 * PAGE]).unwrap();
            assert_eq!(content_of(&mut buffer), [3; 3 * PAGE]);
            let again = read.get().unwrap().bytes_at(0, 6 * PAGE).unwrap();
            theirs.set_memory_limit(60 * PAGE);
            told.send(again).unwrap();
        });
        let mut buffer = pool.buffer();
        buffer.push(bytes).unwrap();
        let frozen = buffer.freeze();
        shared.set(frozen.clone()).unwrap();
        // A long read holds a reference past the lock; the pool cannot take its page then.
        assert!(frozen.bytes_at(0, 6 * PAGE).unwrap() == content);
        pool.set_memory_limit(2 * PAGE);
        let mut reader = frozen.reader();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == content);
        assert!(dropped.recv().unwrap() == content);
        drop((reader, frozen, shared));
        pool.check_invariants();
    });
}

/// An owner that is dropped while its content evicts under the lock, by a read, is told of
/// once the lock is free.
#[test]
fn an_owner_is_dropped_with_the_lock_of_its_content_free() {
    in_time(|| {
        let pool = pool(64);
        let shared = Arc::new(OnceLock::<Frozen>::new());
        let (read, drops) = (Arc::clone(&shared), Drops::default());
        let count = Arc::clone(&drops.0);
        let bytes = foreign(&[6; 2 * PAGE], move || {
            let frozen = read.get().unwrap();
            frozen.read_exact_at(&mut [0; 100], 50).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        });
        let mut buffer = pool.buffer();
        buffer.push(bytes).unwrap();
        let frozen = buffer.freeze();
        shared.set(frozen.clone()).unwrap();
        let lent = [0, 1].map(|page| frozen.bytes_at(page * PAGE as u64, PAGE).unwrap());
        pool.set_memory_limit(0);
        assert_eq!(drops.count(), 0, "it is lent");
        drop(lent);
        // The content keeps to the limit within its lock.
        frozen.read_exact_at(&mut [0; 100], PAGE as u64).unwrap();
        assert_eq!((drops.count(), used(&pool)), (1, 0));
    });
}

/// Memory that is freed once nothing is locked was freed after the waiters had been told, where an async
/// handle, a body or a shared reader was what let go of it.
#[test]
fn memory_that_comes_free_with_an_owner_wakes_who_waits_for_room() {
    type End = fn(SpillBuffer);
    let ends: [End; 4] = [
        |mut holder| holder.clear(),
        |holder| drop(holder.into_async()),
        |holder| drop(holder.freeze()),
        |holder| drop(holder.freeze().reader().into_async()),
    ];
    for end in ends {
        in_time(move || {
            let builder = SpillPool::builder().memory(8 * PAGE).disk(0).page_size(PAGE);
            let pool = builder.store(MemoryStore::new()).build().unwrap();
            let ((bytes, drops), mut holder) = (counted(&[1; 2 * PAGE]), pool.buffer());
            holder.push(bytes).unwrap();
            let mut rest = pool.buffer();
            rest.write_all(&[2; 6 * PAGE]).unwrap();
            let mut waiting = pool.buffer();
            waiting.write_all(&[3; PAGE]).unwrap_err();
            let waker = Waker::noop();
            let mut context = Context::from_waker(waker);
            while waiting.poll_writable(&mut context).is_ready() {
                waiting.write_all(&[3; PAGE]).unwrap_err();
            }
            holder.set_len(PAGE as u64).unwrap();
            assert!(waiting.poll_writable(&mut context).is_pending(), "a part of it frees nothing");
            end(holder);
            assert_eq!(drops.count(), 1);
            assert!(waiting.poll_writable(&mut context).is_ready());
            waiting.write_all(&[3; PAGE]).unwrap();
        });
    }
}

#[test]
fn a_failed_eviction_keeps_the_content_and_what_was_given() {
    for failure in [Failure::Error(std::io::ErrorKind::TimedOut), Failure::Panic] {
        for fault in [Fault::once, Fault::lasting] {
            for call in 0..8 {
                let (store, faults) =
                    FaultStore::new(MemoryStore::new(), FaultPlan::from(fault(call, failure)));
                let builder = SpillPool::builder().memory(64 * PAGE).page_size(PAGE).store(store);
                let (pool, content) = (builder.build().unwrap(), Random::new(11).bytes(6 * PAGE));
                let ((bytes, drops), mut buffer) = (counted(&content), pool.buffer());
                buffer.push(bytes).unwrap();
                pool.set_memory_limit(PAGE);
                let _ = buffer.spill();
                buffer.check_invariants();
                let held = if buffer.stats().memory_used > 0 { 6 * PAGE } else { 0 };
                assert_eq!((used(&pool), drops.count()), (held, usize::from(held == 0)));
                faults.paused(|| assert_content(&mut buffer, &content));
                faults.paused(|| buffer.spill().unwrap());
                assert_eq!((used(&pool), drops.count()), (0, 1));
                faults.paused(|| drop(buffer));
                pool.check_invariants();
            }
        }
    }
}

#[test]
fn owners_are_dropped_by_whichever_thread_is_last() {
    let pool = pool(24);
    let drops = Drops::default();
    let threads: Vec<_> = (0..4)
        .map(|number: u8| {
            let (pool, drops) = (pool.clone(), drops.clone());
            thread::spawn(move || {
                let mut random = Random::new(u64::from(number));
                for _ in 0..40 {
                    let (mut buffer, mut content) = (pool.buffer(), Vec::new());
                    for _ in 0..4 {
                        let len = 1 + random.index(5 * PAGE);
                        let piece = random.bytes(len);
                        let count = Arc::clone(&drops.0);
                        let on_drop = move || _ = count.fetch_add(1, Ordering::SeqCst);
                        buffer.push(foreign(&piece, on_drop)).unwrap();
                        content.extend_from_slice(&piece);
                    }
                    assert_content(&mut buffer, &content);
                    let at = random.index(content.len());
                    buffer.write_at(&[number], at as u64).unwrap();
                    content[at] = number;
                    assert!(buffer.freeze().bytes_at(0, content.len()).unwrap() == content);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(drops.count(), 4 * 40 * 4);
    pool.trim();
    assert_eq!(used(&pool), 0);
    pool.check_invariants();
}
