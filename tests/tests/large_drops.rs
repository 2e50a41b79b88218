//! What does it cost to drop, clear or cut a buffer with much on the disk, and who does the rest? The
//! caller makes no call of the store; the blocks go back with the calls that follow, and are in
//! nobody's way until then.
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes")]

use overspill::{MemoryStore, SpillBuffer, SpillPool, Store, WhenFull};
use overspill_tests::support::{content_of, stream};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

const PAGE: usize = 64 << 10;
const BLOCK: u64 = 4 << 10;
const LARGE: usize = 8 << 20;

/// Freed blocks that a pool keeps.
const KEPT: u64 = 1 << 20;
/// What one call gives back at most.
const STEP: u64 = 2 << 20;

/// A test fails after that, instead of hanging.
const LONG: Duration = Duration::from_secs(60);

/// A store that counts its blocks, and of a disk with so many bytes: holes take none.
#[derive(Debug)]
struct Disk {
    bytes: MemoryStore,
    blocks: Mutex<BTreeSet<u64>>,
    capacity: u64,
    /// Calls of `discard` and `set_len`.
    given_back: AtomicU64,
    /// Discarding waits while this is true.
    is_stuck: Mutex<bool>,
    freed: Condvar,
}

impl Disk {
    fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Disk {
            bytes: MemoryStore::new(),
            blocks: Mutex::default(),
            capacity,
            given_back: AtomicU64::new(0),
            is_stuck: Mutex::new(false),
            freed: Condvar::new(),
        })
    }

    fn held(&self) -> u64 {
        self.blocks.lock().unwrap().len() as u64 * BLOCK
    }

    fn calls(&self) -> u64 {
        self.given_back.load(Ordering::SeqCst)
    }

    fn stick(&self, stuck: bool) {
        *self.is_stuck.lock().unwrap() = stuck;
        self.freed.notify_all();
    }
}

impl Store for Disk {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.bytes.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        let written = offset / BLOCK..(offset + data.len() as u64).div_ceil(BLOCK);
        {
            let mut blocks = self.blocks.lock().unwrap();
            let more = written.clone().filter(|block| !blocks.contains(block)).count() as u64;
            if (blocks.len() as u64 + more) * BLOCK > self.capacity {
                return Err(ErrorKind::StorageFull.into());
            }
            blocks.extend(written);
        }
        self.bytes.write_at(offset, data)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.given_back.fetch_add(1, Ordering::SeqCst);
        let mut stuck = self.is_stuck.lock().unwrap();
        while *stuck {
            stuck = self.freed.wait(stuck).unwrap();
        }
        self.blocks.lock().unwrap().retain(|block| !(offset..offset + len).contains(&(block * BLOCK)));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.given_back.fetch_add(1, Ordering::SeqCst);
        self.blocks.lock().unwrap().retain(|block| block * BLOCK < len);
        self.bytes.set_len(len)
    }
}

fn pool_on(disk: &Arc<Disk>, memory: usize, limit: u64) -> SpillPool {
    let builder = SpillPool::builder().memory(memory).page_size(PAGE).disk(limit);
    builder.when_full(WhenFull::Wait { at_most: LONG }).store(Arc::clone(disk)).build().unwrap()
}

fn filled(pool: &SpillPool, len: usize, byte: u8) -> SpillBuffer {
    let mut buffer = pool.buffer();
    buffer.write_all(&vec![byte; len]).unwrap();
    buffer
}

/// A drop of a gigabyte was believed to be a matter of bookkeeping. It called the store a thousand times, and
/// took 130 to 230 ms where a server drops it: on its event loop.
#[test]
fn a_large_drop_makes_no_call_of_the_store_and_the_next_calls_give_back_all_of_it() {
    type Free = fn(SpillBuffer) -> Option<SpillBuffer>;
    let ways: [Free; 3] = [
        |_dropped| None,
        |mut cleared| {
            cleared.clear();
            Some(cleared)
        },
        |mut cut| {
            cut.set_len(PAGE as u64).unwrap();
            Some(cut)
        },
    ];
    // In the middle of the file, and at its end.
    for (is_last, free) in [true, false].into_iter().flat_map(|last| ways.map(|free| (last, free))) {
        let disk = Disk::new(u64::MAX);
        let pool = pool_on(&disk, 0, u64::MAX);
        let early = filled(&pool, PAGE, 1);
        let large = filled(&pool, LARGE, 2);
        let late = (!is_last).then(|| filled(&pool, PAGE, 3));
        let before = disk.calls();
        let rest = free(large);
        assert_eq!(disk.calls(), before);
        let stats = pool.stats();
        let left = stats.disk_used;
        assert!(left <= 3 * PAGE as u64, "{stats:?}");
        assert_eq!(stats.disk_recycled + left, disk.held(), "what is still to be given back is told");
        let mut rounds = 0;
        while pool.stats().disk_recycled > KEPT {
            let before = disk.held();
            drop(filled(&pool, 1000, 4)); // it allocates a slot and frees it: two steps
            assert!(before - disk.held() <= 2 * STEP, "a bounded amount at a time");
            assert_eq!(pool.stats().disk_recycled + left, disk.held());
            rounds += 1;
        }
        assert!((2..8).contains(&rounds), "{rounds} small bodies");
        pool.trim();
        assert_eq!((disk.held(), pool.stats().disk_recycled), (left, 0));
        let mut kept = [Some(early), rest, late];
        for (buffer, byte) in kept.iter_mut().zip(1..).filter_map(|(b, byte)| Some((b.as_mut()?, byte))) {
            assert!(content_of(buffer).iter().all(|&found| found == byte));
            buffer.check_invariants();
        }
        drop(kept);
        pool.check_invariants();
        pool.trim();
        assert_eq!((disk.held(), pool.stats().disk_used), (0, 0));
    }
}

/// A change of the disk limit gave back all that was free, on the thread of its caller: also when it was
/// raised, which an event loop may do.
#[test]
fn a_limit_that_leaves_room_for_what_is_free_makes_no_call_of_the_store() {
    let disk = Disk::new(u64::MAX);
    let pool = pool_on(&disk, 0, 4 * LARGE as u64);
    let _kept = filled(&pool, PAGE, 1);
    drop(filled(&pool, LARGE, 2));
    let (calls, held) = (disk.calls(), disk.held());
    assert!(held > LARGE as u64);
    for limit in [8 * LARGE as u64, u64::MAX, held] {
        pool.set_disk_limit(limit);
        assert_eq!((disk.calls(), disk.held()), (calls, held), "{limit}");
    }
    for limit in [held - 1, STEP, PAGE as u64] {
        pool.set_disk_limit(limit);
        assert!(disk.held() <= limit, "{} of {limit}", disk.held());
    }
    assert!(disk.calls() <= calls + 3);
}

/// I6: blocks that are not given back yet count for nobody, and stand in nobody's way: whole pages use them,
/// and for what needs fresh ones they go first.
#[test]
fn what_is_free_at_the_disk_limit_can_be_written_at_once() {
    let limit = LARGE as u64;
    let disk = Disk::new(limit); // never more blocks than the limit, not for a moment
    let pool = pool_on(&disk, 4 * PAGE, limit);
    for round in 0..4 {
        let mut whole = filled(&pool, LARGE, round);
        assert!(content_of(&mut whole).iter().all(|&byte| byte == round));
        drop(whole);
        let mut streams: Vec<_> = (0..100).map(|byte| stream(&pool, LARGE / 128, byte)).collect();
        for (buffer, byte) in streams.iter_mut().zip(0..) {
            assert!(content_of(buffer).iter().all(|&found| found == byte));
        }
    }
    pool.check_invariants();
}

/// I6: so they do for a buffer's own file. It took its bytes of the limit alone, and the pool's free blocks
/// stayed: the file system held up to twice the limit.
#[test]
fn what_is_written_to_an_own_file_makes_free_blocks_go_back() {
    let limit = LARGE as u64;
    let dir = tempfile::tempdir().unwrap();
    for (memory, piece) in [(0, PAGE), (0, LARGE), (8 * PAGE, PAGE)] {
        let disk = Disk::new(limit);
        let pool = pool_on(&disk, memory, limit);
        drop(filled(&pool, LARGE, 1));
        assert!(disk.held() > limit / 2, "what is freed at once stays for a while");
        let mut own = pool.buffer_for(dir.path().join("file"));
        for _ in 0..LARGE / piece {
            own.write_all(&vec![2; piece]).unwrap();
            let stats = pool.stats();
            let held = stats.disk_used + disk.held();
            assert!(held <= limit, "{held} bytes, in pieces of {piece}: {stats:?}");
        }
        own.check_invariants();
    }
}

/// A disk may be full before its limit is reached. A write that needed fresh blocks failed there, though the
/// pool had freed ones that it had not given back.
#[test]
fn a_full_disk_refuses_nothing_while_the_pool_has_free_blocks() {
    let disk = Disk::new(LARGE as u64 + KEPT);
    let pool = pool_on(&disk, 4 * PAGE, u64::MAX);
    let early = filled(&pool, LARGE, 1);
    let late = filled(&pool, PAGE * 5, 2);
    drop(early);
    // All at once in their first blocks, for each of which a longer slot is reserved.
    let mut streams: Vec<_> = (0..200).map(|_| pool.buffer()).collect();
    for round in 0..8 {
        for buffer in &mut streams {
            buffer.write_all(&[round; 4000]).unwrap();
        }
    }
    assert!(disk.held() > 5 << 20, "they are on the disk: {}", disk.held());
    for buffer in &mut streams {
        let content = content_of(buffer);
        assert!(content.chunks(4000).zip(0..).all(|(part, round)| part == [round; 4000]));
    }
    drop(late);
    pool.check_invariants();
}

/// The same while another thread gives them back: the write waits for that.
#[test]
fn a_write_that_finds_no_room_waits_for_blocks_that_are_being_given_back() {
    let disk = Disk::new(LARGE as u64);
    let pool = pool_on(&disk, 0, u64::MAX);
    let early = filled(&pool, LARGE - PAGE, 1);
    let _late = filled(&pool, PAGE, 2);
    drop(early);
    disk.stick(true);
    let before = disk.calls();
    let trimmer = thread::spawn({
        let pool = pool.clone();
        move || pool.trim()
    });
    while disk.calls() == before {
        thread::yield_now();
    }
    let (sender, written) = mpsc::channel();
    thread::spawn(move || sender.send(pool.buffer().write_all(&[3; PAGE])).unwrap());
    assert!(written.recv_timeout(Duration::from_millis(50)).is_err(), "there is no block");
    disk.stick(false);
    written.recv_timeout(LONG).expect("it was not woken").unwrap();
    trimmer.join().unwrap();
}

/// A waiter for room below the limit gets what a large drop frees at once, and not when its
/// blocks have gone back.
#[test]
fn a_large_drop_serves_those_that_wait() {
    let disk = Disk::new(LARGE as u64);
    let pool = pool_on(&disk, 0, LARGE as u64);
    let large = filled(&pool, LARGE, 1);
    let (sender, written) = mpsc::channel();
    for byte in 0..4 {
        let (pool, sender) = (pool.clone(), sender.clone());
        thread::spawn(move || sender.send(filled(&pool, LARGE / 8, byte)).unwrap());
    }
    assert!(written.recv_timeout(Duration::from_millis(50)).is_err(), "they wait");
    let before = disk.calls();
    drop(large);
    let served: Vec<_> = (0..4).map(|_| written.recv_timeout(LONG).expect("it was not woken")).collect();
    assert!(disk.calls() - before < 100, "what waits uses the blocks that are there, or some go back");
    drop(served);
    pool.check_invariants();
    pool.trim();
    assert_eq!((disk.held(), pool.stats().disk_used), (0, 0));
}

/// Threads fill and free much and little, near a limit and with trims; the disk has not one block more.
#[test]
fn threads_that_free_much_at_once_stay_below_the_limit_and_leave_nothing() {
    let limit = 4 * LARGE as u64;
    let disk = Disk::new(limit);
    let pool = pool_on(&disk, 8 * PAGE, limit);
    thread::scope(|scope| {
        for thread in 0..4u8 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..6u8 {
                    let byte = thread * 8 + round;
                    let mut large = filled(pool, LARGE - usize::from(round) * 5000, byte);
                    let mut small = stream(pool, 30_000, byte);
                    if round % 4 == 3 {
                        large.set_len(3 * PAGE as u64).unwrap();
                    } else if round % 3 == 2 {
                        pool.trim();
                    }
                    assert!(content_of(&mut large).iter().all(|&found| found == byte));
                    assert!(content_of(&mut small).iter().all(|&found| found == byte));
                }
            });
        }
    });
    pool.check_invariants();
    let stats = pool.stats();
    assert_eq!(stats.disk_used, 0);
    // A slot that was written in part counts whole.
    assert!(disk.held() <= stats.disk_recycled, "{} held, {stats:?}", disk.held());
    pool.trim();
    assert_eq!(disk.held(), 0);
}

/// What is left of a large drop goes with the pool.
#[test]
fn a_pool_that_is_dropped_with_blocks_to_give_back_drops_its_store() {
    let disk = Disk::new(u64::MAX);
    let pool = pool_on(&disk, 0, u64::MAX);
    drop(filled(&pool, LARGE, 1));
    assert_eq!(disk.held(), LARGE as u64);
    drop(pool);
    assert_eq!(Arc::strong_count(&disk), 1);
}
