//! Does a child hang, or read wrong bytes, that was forked while other threads of its parent used the same
//! pool?
//!
//! A store stops one call for as long as the test likes, so that what it is a part of is under way during
//! the fork: a page in transit, a load, blocks on their way back. What lies between two calls is met by
//! chance, in the last test.
#![cfg(target_os = "linux")]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill::{
    Frozen, MemoryStore, SpillBuffer, SpillError, SpillPool, SpoolReader, SpoolWriter, WhenFull,
};
use overspill_tests::children::{Call, Gate, in_a_child};
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::{Builder, Runtime};

/// One test forks at a time.
static ALONE: Mutex<()> = Mutex::new(());

const PAGE: usize = 4 << 10;
const LEN: usize = 5 * PAGE;

fn pool_of(memory: usize) -> (SpillPool, Gate) {
    let gate = Gate::default();
    let builder = SpillPool::builder().memory(memory).page_size(PAGE).store(gate.clone());
    (builder.build().unwrap(), gate)
}

fn bytes(seed: u8) -> Vec<u8> {
    (0..LEN).map(|at| (at / 7) as u8 ^ seed).collect()
}

fn filled(mut buffer: SpillBuffer, seed: u8) -> SpillBuffer {
    buffer.write_all(&bytes(seed)).unwrap();
    buffer
}

fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Deadlock
}

/// Right bytes, or an error that says why not. Returns whether they were bytes.
fn bytes_or_lost(read: io::Result<Vec<u8>>, expected: &[u8]) -> bool {
    match read {
        Ok(found) => {
            assert!(found == expected, "{} bytes, and not the {} right ones", found.len(), expected.len());
            true
        }
        Err(error) if is_lost(&error) => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// The same of what returns no bytes.
fn done_or_lost<T>(done: Result<T, impl Into<io::Error>>) {
    if let Err(error) = done {
        let error = error.into();
        assert!(is_lost(&error), "{error:?}");
    }
}

fn content_of(buffer: &mut SpillBuffer) -> io::Result<Vec<u8>> {
    let mut content = vec![0; buffer.len() as usize];
    buffer.rewind()?;
    buffer.read_exact(&mut content)?;
    Ok(content)
}

/// Syncs, so that it takes its time.
fn persist(buffer: SpillBuffer, expected: &[u8]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    match buffer.persist(&target) {
        Ok(_) => assert!(std::fs::read(&target).unwrap() == expected),
        Err(refused) => return matches!(refused.error(), SpillError::Forked),
    }
    true
}

/// Uses a buffer in each way, which has the bytes of `seed`, and drops it.
fn use_buffer(mut buffer: SpillBuffer, seed: u8) -> bool {
    let expected = bytes(seed);
    let reads = bytes_or_lost(content_of(&mut buffer), &expected);
    buffer.seek(SeekFrom::Start(PAGE as u64 + 3)).unwrap();
    match buffer.fill_buf() {
        Ok(lent) => {
            let n = lent.len();
            assert!(lent == &expected[PAGE + 3..][..n]);
            buffer.consume(n);
        }
        Err(error) => assert!(is_lost(&error), "{error:?}"),
    }
    if seed.is_multiple_of(2) {
        done_or_lost(buffer.try_clone().map(|mut clone| {
            bytes_or_lost(content_of(&mut clone), &expected);
            done_or_lost(clone.write_all(&expected));
        }));
    }
    done_or_lost(buffer.spill());
    buffer.seek(SeekFrom::End(0)).unwrap();
    done_or_lost(buffer.write_all(&expected));
    done_or_lost(buffer.set_len(LEN as u64));
    done_or_lost(buffer.set_len(LEN as u64 / 2 + 1));
    bytes_or_lost(content_of(&mut buffer), &expected[..LEN / 2 + 1]);
    let _ = (buffer.stats(), format!("{buffer:?}"));
    if seed % 8 == 1 {
        return persist(buffer, &expected[..LEN / 2 + 1]) && reads;
    }
    buffer.clear();
    done_or_lost(buffer.write_all(b"again"));
    let frozen = buffer.freeze();
    done_or_lost(frozen.read_at(&mut [0; 5], 0));
    reads
}

/// Uses frozen content in each way.
fn use_frozen(frozen: &Frozen, seed: u8) -> bool {
    let expected = bytes(seed);
    let reads = bytes_or_lost(frozen.to_vec(), &expected);
    let mut small = [0; 10];
    match frozen.read_at(&mut small, 2 * PAGE as u64) {
        Ok(n) => assert!(small[..n] == expected[2 * PAGE..][..n]),
        Err(error) => assert!(is_lost(&error), "{error:?}"),
    }
    let mut reader = frozen.reader();
    let mut found = Vec::new();
    bytes_or_lost(reader.clone().read_to_end(&mut found).map(|_| found), &expected);
    done_or_lost(reader.fill_buf().map(drop));
    let _ = (frozen.stats(), frozen.slice(5..9).to_vec());
    done_or_lost(frozen.clone().into_buffer().map_err(|_| SpillError::Forked));
    reads
}

/// Uses a pool in each way. Its new buffers work, or say why not.
fn use_pool(pool: &SpillPool) -> bool {
    let mut works = true;
    for seed in 0..3 {
        let mut buffer = pool.buffer();
        works &= match buffer.write_all(&bytes(seed)) {
            Ok(()) => use_buffer(buffer, seed),
            Err(error) => {
                assert!(is_lost(&error), "{error:?}");
                false
            }
        };
        let _ = (pool.stats(), format!("{pool:?}"));
        let limit = pool.stats().memory_limit as usize;
        pool.set_memory_limit(limit / 2);
        pool.set_memory_limit(limit);
        pool.set_disk_limit(1 << 20);
        pool.set_disk_limit(u64::MAX);
        pool.trim();
    }
    let (mut writer, mut reader) = pool.spool();
    let mut found = vec![0; LEN];
    let spooled = writer.write_all(&bytes(9)).and_then(|()| reader.read_exact(&mut found)).map(|()| found);
    works &= bytes_or_lost(spooled, &bytes(9));
    done_or_lost(writer.finish());
    works
}

/// A pool of the child's own works whatever became of its parent's.
fn own_pool_works() -> bool {
    let pool = SpillPool::builder().memory(LEN).build().unwrap();
    use_pool(&pool) && use_buffer(filled(SpillBuffer::with_budget(2 * PAGE), 3), 3)
}

/// A child waited for ever for a page that a thread of its parent was moving to the store.
#[test]
fn a_page_in_transit_during_the_fork_is_an_error_and_others_are_not() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for use_another in [0, 1, 2] {
        let (pool, gate) = pool_of(8 * LEN);
        let (moved, mut kept) = (filled(pool.buffer(), 1), filled(pool.buffer(), 2));
        kept.spill().unwrap();
        let (mut moved, mut kept) = (Some(moved), Some(kept));
        gate.forked_during(
            Call::Write,
            || pool.set_memory_limit(0),
            || {
                let mut moved = moved.take().unwrap();
                let error = content_of(&mut moved).unwrap_err();
                assert!(matches!(SpillError::of(&error), Some(SpillError::Forked)), "{error:?}");
                match use_another {
                    0 => assert!(!use_buffer(moved, 1)),
                    1 => assert!(!use_frozen(&moved.freeze(), 1)),
                    _ => drop(moved),
                }
                use_buffer(kept.take().unwrap(), 2) && use_pool(&pool) && own_pool_works()
            },
        );
        for (buffer, seed) in [(moved, 1), (kept, 2)] {
            assert!(content_of(&mut buffer.unwrap()).unwrap() == bytes(seed), "the parent's are untouched");
        }
        pool.check_invariants();
    }
}

/// A child waited for ever for the lock of content into which its parent's thread was writing.
#[test]
fn content_that_was_locked_during_the_fork_is_an_error() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (pool, gate) = pool_of(0);
    let (mut writer, mut reader) = pool.spool();
    let again = reader.clone();
    gate.forked_during(
        Call::Write,
        || writer.write_all(&bytes(1)).unwrap(),
        || {
            // What is asked for is not there yet: nobody will write it.
            let error = reader.read(&mut [0; 10]).unwrap_err();
            assert!(is_lost(&error), "{error:?}");
            assert!(reader.fill_buf().is_err() && reader.seek(SeekFrom::End(0)).is_err());
            let mut context = Context::from_waker(Waker::noop());
            assert!(reader.poll_readable(&mut context).is_ready());
            drop((reader.clone().once(), again));
            use_pool(&pool) && own_pool_works()
        },
    );
    let mut found = vec![0; LEN];
    reader.read_exact(&mut found).unwrap();
    assert!(found == bytes(1));
}

/// A child waited for ever for a page that a thread of its parent was reading for all readers.
#[test]
fn a_page_that_was_being_loaded_during_the_fork_is_loaded_by_the_child() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (pool, gate) = pool_of(8 * LEN);
    let mut buffer = filled(pool.buffer(), 1);
    buffer.spill().unwrap();
    let frozen = buffer.freeze();
    let (mut reader, second) = (frozen.reader(), frozen.reader());
    gate.forked_during(
        Call::Read,
        || drop(reader.read_exact(&mut [0; 10])),
        || {
            drop(second);
            use_frozen(&frozen, 1) && use_pool(&pool) && own_pool_works()
        },
    );
    assert!(frozen.to_vec().unwrap() == bytes(1));
}

/// A child waited for ever for its parent's thread to end cutting or discarding.
#[test]
fn blocks_on_their_way_back_during_the_fork_hold_up_no_child() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for call in [Call::Cut, Call::Discard] {
        let (pool, gate) = pool_of(0);
        let mut buffers: Vec<_> = (0..20).map(|seed| Some(filled(pool.buffer(), seed))).collect();
        (1..20).step_by(2).for_each(|at| drop(buffers[at].take()));
        if call == Call::Cut {
            (10..20).for_each(|at| drop(buffers[at].take()));
        }
        gate.forked_during(
            call,
            || pool.trim(),
            || {
                pool.trim();
                let kept = (0..20).filter_map(|seed| Some((buffers[usize::from(seed)].take()?, seed)));
                kept.fold(true, |fine, (buffer, seed)| use_buffer(buffer, seed) && fine)
                    && use_pool(&pool)
                    && own_pool_works()
            },
        );
        for (buffer, seed) in buffers.into_iter().zip(0..) {
            assert!(buffer.is_none_or(|mut buffer| content_of(&mut buffer).unwrap() == bytes(seed)));
        }
        pool.check_invariants();
    }
}

/// In a child, a call that waited for room waited for threads of its parent: for ever, and
/// behind them in the queue.
#[test]
fn nobody_waits_for_room_in_a_child() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let patient = WhenFull::Wait { at_most: Duration::from_secs(3600) };
    let builder = SpillPool::builder().memory(0).disk(LEN as u64).page_size(PAGE);
    let pool = builder.store(MemoryStore::new()).when_full(patient).build().unwrap();
    let mut full = Some(filled(pool.buffer(), 1));
    let mut refused = pool.buffer();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(filled(pool.buffer(), 2)));
        while pool.stats().waiters == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let fine = in_a_child(|| {
            let error = refused.write_all(&bytes(3)).unwrap_err();
            assert!(matches!(SpillError::of(&error), Some(SpillError::DiskLimit { .. })), "{error:?}");
            let mut context = Context::from_waker(Waker::noop());
            assert!((0..3).all(|_| refused.poll_writable(&mut context).is_ready()));
            refused.clear();
            assert!(content_of(full.as_mut().unwrap()).unwrap() == bytes(1));
            drop(full.take());
            // The room is for those that are there.
            assert_eq!(pool.stats().waiters, 0);
            assert!(content_of(&mut filled(pool.buffer(), 4)).unwrap() == bytes(4));
            true
        });
        drop(full.take());
        waiter.join().unwrap();
        assert!(fine);
    });
}

/// A reader in a child waited for ever for a writer that is a thread of its parent.
#[test]
fn a_reader_in_a_child_reads_what_is_there_and_waits_for_no_writer() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let pool = SpillPool::builder().memory(LEN).build().unwrap();
    let (mut writer, mut reader) = pool.spool();
    writer.write_all(&bytes(1)).unwrap();
    let mut waiting = reader.clone();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || waiting.read_to_end(&mut Vec::new()).unwrap());
        thread::sleep(Duration::from_millis(20));
        let fine = in_a_child(|| {
            let mut found = vec![0; LEN];
            reader.read_exact(&mut found).unwrap();
            let error = reader.read(&mut [0]).unwrap_err();
            found == bytes(1) && is_lost(&error)
        });
        writer.finish().unwrap();
        assert_eq!(waiter.join().unwrap(), LEN);
        assert!(fine);
    });
}

/// Polls once, as a task of `runtime` does.
fn polled<T>(runtime: &Runtime, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let _inside = runtime.enter();
    poll(&mut Context::from_waker(Waker::noop()))
}

/// A call in a child waited for ever for a job that a thread of its parent was doing. One that was only
/// queued said that there was no runtime.
#[test]
fn a_job_of_the_parent_is_an_error() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for (call, has_begun) in
        [Call::Read, Call::Write].into_iter().flat_map(|call| [(call, true), (call, false)])
    {
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (pool, gate) = pool_of(0);
        let mut spilled = filled(pool.buffer(), 1);
        spilled.spill().unwrap();
        let mut reader = spilled.freeze().reader().into_async();
        let mut writer = pool.spool().0.into_async();
        runtime.block_on(writer.write_all(&bytes(2))).unwrap();
        let (begin, is_to_begin) = mpsc::channel();
        runtime.spawn_blocking(move || is_to_begin.recv().unwrap());
        let mut room = [0; 10];
        let mut poll = |context: &mut Context<'_>| match call {
            Call::Read => Pin::new(&mut reader).poll_read(context, &mut ReadBuf::new(&mut room)),
            _ => Pin::new(&mut writer).poll_write(context, &bytes(2)).map_ok(drop),
        };
        while polled(&runtime, &mut poll).is_ready() {}
        let mut child = || {
            let is_error = |_| match polled(&runtime, &mut poll) {
                Poll::Ready(Err(error)) => matches!(SpillError::of(&error), Some(SpillError::Forked)),
                _ => false,
            };
            (0..3).all(is_error) && own_pool_works()
        };
        if has_begun {
            gate.forked_during(call, || begin.send(()).unwrap(), child);
        } else {
            assert!(in_a_child(&mut child));
            begin.send(()).unwrap();
        }
        runtime.block_on(poll_fn(poll)).unwrap();
    }
}

/// What the threads of the last test use at once, and its children.
struct Everything {
    pool: SpillPool,
    kept: Vec<SpillBuffer>,
    frozen: Frozen,
    spool: (SpoolWriter, SpoolReader),
}

impl Everything {
    fn new() -> Self {
        let builder = SpillPool::builder().memory(4 * LEN).page_size(PAGE).store(MemoryStore::new());
        let pool = builder.build().unwrap();
        let kept = (0..6).map(|seed| filled(pool.buffer(), seed)).collect();
        let frozen = filled(pool.buffer(), 77).freeze();
        let (mut writer, reader) = pool.spool();
        writer.write_all(&bytes(5)).unwrap();
        Everything { pool, kept, frozen, spool: (writer, reader) }
    }

    /// Notes in `told` which buffers could be read.
    fn in_child(&mut self, mut told: &File) -> bool {
        for (buffer, seed) in self.kept.drain(..).zip(0..) {
            told.write_all(&[use_buffer(buffer, seed).into()]).unwrap();
        }
        use_frozen(&self.frozen, 77);
        let (mut writer, mut reader) = (&mut self.spool.0, self.spool.1.clone());
        let mut found = vec![0; LEN];
        bytes_or_lost(reader.read_exact(&mut found).map(|()| found), &bytes(5));
        done_or_lost((&mut writer).write_all(&bytes(6)));
        use_pool(&self.pool);
        content_of(&mut filled(SpillBuffer::with_budget(2 * PAGE), 3)).unwrap() == bytes(3)
    }
}

/// One thread's share of the use of a pool that its process forks from.
fn busy(pool: &SpillPool, frozen: &Frozen, thread: u8, is_over: &AtomicBool) {
    let mut round = 0_u8;
    while !is_over.load(Ordering::Relaxed) {
        round = round.wrapping_add(1);
        let seed = thread.wrapping_mul(50).wrapping_add(round);
        let mut buffers: Vec<_> = (0..4).map(|more| filled(pool.buffer(), seed ^ more)).collect();
        assert!(content_of(&mut buffers[0]).unwrap() == bytes(seed));
        assert!(frozen.to_vec().unwrap() == bytes(77));
        let mut reader = frozen.reader();
        let mut small = [0; 100];
        (0..200).for_each(|_| reader.read_exact(&mut small).unwrap());
        match round % 4 {
            0 => pool.trim(),
            1 => {
                pool.set_memory_limit(2 * LEN);
                pool.set_memory_limit(4 * LEN);
            }
            2 => {
                let (mut writer, reader) = pool.spool();
                writer.write_all(&bytes(seed)).unwrap();
                let mut reader = reader.once();
                reader.read_exact(&mut [0; LEN]).unwrap();
                assert_eq!(writer.finish().unwrap().len(), LEN as u64);
            }
            _ => {
                let frozen = buffers.swap_remove(0).freeze();
                assert!(frozen.to_vec().unwrap() == bytes(seed));
            }
        }
    }
}

fn told_of(mut told: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    told.rewind().unwrap();
    told.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Two hundred children, each forked while three threads spill, read, reclaim, freeze and spool.
///
/// It asked for half of the buffers in all children; how many a fork meets at rest is chance, and one child
/// at a moment of rest is proof enough that what is at rest can be read.
#[test]
fn no_child_hangs_or_reads_wrong_bytes_whenever_it_was_forked() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut everything = Everything::new();
    let (pool, frozen) = (everything.pool.clone(), everything.frozen.clone());
    let (is_over, told) = (AtomicBool::new(false), tempfile::tempfile().unwrap());
    let failed = thread::scope(|scope| {
        for thread in 0..3 {
            let (pool, frozen, is_over) = (&pool, &frozen, &is_over);
            scope.spawn(move || busy(pool, frozen, thread, is_over));
        }
        let failed = (0..200).find(|_| {
            thread::sleep(Duration::from_micros(500));
            !in_a_child(|| everything.in_child(&told))
        });
        is_over.store(true, Ordering::Relaxed);
        failed
    });
    assert_eq!(failed, None, "this child failed, or hung");
    let read = told_of(told);
    assert!(read.chunks(6).any(|child| child == [1; 6]), "no child could read all six buffers");
    for (buffer, seed) in everything.kept.iter_mut().zip(0..) {
        assert!(content_of(buffer).unwrap() == bytes(seed));
    }
}
