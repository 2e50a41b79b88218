//! What happens at the disk limit: an error at once, or a wait. A wait ends when there is room, in the order
//! of arrival, or at its deadline. Nothing is lost either way (I3).

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore};
use overspill::{DiskLimitScope, Event, MemoryStore, SpillBuffer, SpillError, SpillPool, WhenFull};
use overspill_tests::support::{Bell, content_of, spill_error};
use std::io::{self, BufRead, Seek, Write};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

/// How long a wait may last that must end before: a test fails after that, instead of hanging.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

fn wait(at_most: Duration) -> WhenFull {
    WhenFull::Wait { at_most }
}

/// A pool with so many pages of memory and of disk.
fn pool(memory: usize, disk: usize, when_full: WhenFull) -> SpillPool {
    let builder = SpillPool::builder().memory(memory * PAGE).disk((disk * PAGE) as u64).page_size(PAGE);
    builder.store(MemoryStore::new()).when_full(when_full).build().unwrap()
}

fn filled(pool: &SpillPool, pages: usize, byte: u8) -> SpillBuffer {
    let mut buffer = pool.buffer();
    buffer.write_all(&vec![byte; pages * PAGE]).unwrap();
    buffer
}

/// Whose limit has refused, and how long the call has waited for room.
fn refusal(result: io::Result<()>) -> (DiskLimitScope, Duration) {
    match spill_error(result.unwrap_err()) {
        SpillError::DiskLimit { scope, waited, .. } => (scope, waited),
        other => panic!("another error: {other}"),
    }
}

/// Runs `write_all` of so many pages on another thread, which sends the result.
fn write_beside(pool: &SpillPool, pages: usize, byte: u8) -> mpsc::Receiver<io::Result<SpillBuffer>> {
    let (sender, receiver) = mpsc::channel();
    let mut buffer = pool.buffer();
    thread::spawn(move || {
        let written = buffer.write_all(&vec![byte; pages * PAGE]);
        sender.send(written.map(|()| buffer)).unwrap();
    });
    receiver
}

fn assert_waits<T>(receiver: &mpsc::Receiver<T>) {
    assert!(receiver.recv_timeout(SHORT).is_err(), "it did not wait");
}

/// Returns once the call that `receiver` is of waits for room in `pool`, however long that takes.
fn until_it_waits<T>(pool: &SpillPool, receiver: &mpsc::Receiver<T>) {
    while pool.stats().waiters == 0 {
        assert!(receiver.try_recv().is_err(), "it did not wait");
        thread::yield_now();
    }
}

/// Asserts that a write on another thread waits, and ends once `make_room` has run.
fn assert_ended_by(pool: &SpillPool, make_room: impl FnOnce()) {
    let waiting = write_beside(pool, 1, 9);
    assert_waits(&waiting);
    make_room();
    let mut written = waiting.recv_timeout(LONG / 2).expect("it was not woken").unwrap();
    assert_eq!(content_of(&mut written), [9; PAGE]);
    drop(written);
    pool.check_invariants();
}

#[test]
fn without_a_policy_a_write_fails_at_once() {
    let pool = pool(0, 2, WhenFull::Fail);
    let mut full = filled(&pool, 2, 1);
    assert_eq!(refusal(pool.buffer().write_all(&[2])), (DiskLimitScope::Pool, Duration::ZERO));
    assert_eq!(content_of(&mut full), [1; 2 * PAGE]);
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let pool = pool(1, 2, wait(SHORT));
    let mut full = filled(&pool, 3, 1);
    let started = Instant::now();
    let (scope, waited) = refusal(full.write_all(&[2; 2 * PAGE]));
    assert_eq!(scope, DiskLimitScope::Pool);
    assert!(waited >= SHORT && started.elapsed() >= waited, "{waited:?}");
    assert_eq!(content_of(&mut full), [1; 3 * PAGE], "nothing is lost");
    full.check_invariants();
    pool.check_invariants();
    // The buffer can be written as soon as there is room.
    full.set_len(PAGE as u64).unwrap();
    full.seek(io::SeekFrom::End(0)).unwrap();
    full.write_all(&[3; 2 * PAGE]).unwrap();
    assert_eq!(content_of(&mut full)[PAGE..], [3; 2 * PAGE]);
}

#[test]
fn a_wait_ends_when_another_buffer_frees_room() {
    let pool = pool(0, 2, wait(LONG));
    let one = filled(&pool, 2, 1);
    assert_ended_by(&pool, || drop(one));
    let mut two = filled(&pool, 2, 1);
    assert_ended_by(&pool, || two.clear());
    let mut three = filled(&pool, 2, 1);
    assert_ended_by(&pool, || three.set_len(PAGE as u64).unwrap());
}

#[test]
fn a_wait_ends_when_the_limit_is_raised() {
    let pool = pool(0, 2, wait(LONG));
    let _full = filled(&pool, 2, 1);
    assert_ended_by(&pool, || pool.set_disk_limit(3 * PAGE as u64));
}

/// Without a disk, writers wait for memory.
#[test]
fn a_wait_ends_when_memory_is_freed() {
    let pool = pool(2, 0, wait(LONG));
    let one = filled(&pool, 2, 1);
    assert_ended_by(&pool, || drop(one));
    // A small frame stays in the table of its dropped buffer: a path of its own.
    let small: Vec<_> = (0..2).map(|byte| filled(&pool, 1, byte)).collect();
    assert_ended_by(&pool, || drop(small));
    let _two = filled(&pool, 2, 1);
    assert_ended_by(&pool, || pool.set_memory_limit(3 * PAGE));
}

/// `write_all` continues where it stopped, whenever there is room; `write` returns how much it took.
#[test]
fn a_write_continues_page_by_page() {
    let pool = pool(0, 4, wait(LONG));
    let others: Vec<_> = (0..3).map(|byte| filled(&pool, 1, byte)).collect();
    assert_eq!(pool.buffer().write(&[1; 4 * PAGE]).unwrap(), PAGE, "the part that fits, without a wait");
    let waiting = write_beside(&pool, 4, 7);
    for other in others {
        assert_waits(&waiting);
        drop(other);
    }
    assert_eq!(content_of(&mut waiting.recv_timeout(LONG / 2).unwrap().unwrap()), [7; 4 * PAGE]);
}

/// Only the buffer itself could make room below its own limit, and it would wait for itself.
#[test]
fn a_buffers_own_limit_is_not_waited_for() {
    let pool = pool(0, 8, wait(LONG));
    let mut buffer = pool.buffer_builder().disk(PAGE as u64).build();
    assert_eq!(refusal(buffer.write_all(&[1; 2 * PAGE])), (DiskLimitScope::Buffer, Duration::ZERO));
    assert_eq!(content_of(&mut buffer), [1; PAGE]);
}

#[test]
fn a_buffer_has_a_policy_of_its_own() {
    let patient = pool(0, 1, wait(LONG));
    let _full = filled(&patient, 1, 1);
    let mut hasty = patient.buffer_builder().when_full(WhenFull::Fail).build();
    assert_eq!(refusal(hasty.write_all(&[1])).1, Duration::ZERO);

    let hasty = pool(0, 1, WhenFull::Fail);
    let _full = filled(&hasty, 1, 1);
    let mut patient = hasty.buffer_builder().when_full(wait(SHORT)).build();
    assert!(refusal(patient.write_all(&[1])).1 >= SHORT);
}

#[test]
fn spilling_on_request_waits_too() {
    let pool = pool(2, 1, wait(LONG));
    let mut resident = filled(&pool, 1, 1);
    let mut full = filled(&pool, 1, 2);
    full.spill().unwrap();
    let spilling = thread::spawn(move || resident.spill().map(|()| resident));
    thread::sleep(SHORT);
    assert!(!spilling.is_finished());
    drop(full);
    let mut resident = spilling.join().unwrap().unwrap();
    assert_eq!((resident.stats().memory_used, content_of(&mut resident)), (0, vec![1; PAGE]));
}

/// A large request waits for slots that are freed one small one at a time. Small requests that come later
/// must not take them.
///
/// It took 50 ms of silence for a place in the queue; a late thread's large request came after the small one.
#[test]
fn the_first_request_is_served_first() {
    let store = MemoryStore::new();
    let builder = SpillPool::builder().memory(0).page_size(8 * PAGE).disk(8 * PAGE as u64).store(store);
    let pool = builder.when_full(wait(LONG)).build().unwrap();
    // Eight small slots, since a page that is spilled from memory takes a slot for its content only.
    pool.set_memory_limit(8 * PAGE);
    let mut small: Vec<_> = (0..8u8)
        .map(|byte| {
            let mut buffer = pool.buffer();
            buffer.write_all(&[byte; PAGE]).unwrap();
            buffer.spill().unwrap();
            buffer
        })
        .collect();
    pool.set_memory_limit(0);
    assert_eq!(pool.stats().disk_used, 8 * PAGE as u64);
    let large = write_beside(&pool, 8, 9);
    until_it_waits(&pool, &large);
    let late = write_beside(&pool, 1, 9);
    while let Some(one) = small.pop() {
        assert!(late.try_recv().is_err() && large.try_recv().is_err());
        drop(one);
    }
    let written = large.recv_timeout(LONG / 2).expect("the large request was starved").unwrap();
    assert_waits(&late);
    drop(written);
    late.recv_timeout(LONG / 2).unwrap().unwrap();
}

/// The error said that the whole limit was used, though there was room, which an earlier request waited for.
#[test]
fn a_refusal_for_the_sake_of_an_earlier_waiter_tells_what_is_used() {
    let builder = SpillPool::builder().memory(0).page_size(8 * PAGE).disk(9 * PAGE as u64);
    let pool = builder.store(MemoryStore::new()).when_full(wait(LONG)).build().unwrap();
    let full = filled(&pool, 2, 1);
    let large = write_beside(&pool, 8, 9);
    until_it_waits(&pool, &large);
    let mut hasty = pool.buffer_builder().when_full(WhenFull::Fail).build();
    let refused = spill_error(hasty.write(&[2]).unwrap_err());
    let SpillError::DiskLimit { used, .. } = refused else { panic!("another error: {refused}") };
    assert_eq!((used, pool.stats().disk_used), (2 * PAGE as u64, 2 * PAGE as u64));
    assert!(refused.to_string().contains("8192 of 36864 used, and what is free is for earlier waiters"));
    drop(full);
    large.recv_timeout(LONG / 2).unwrap().unwrap();
}

/// A request above the whole limit cannot be served before the limit is raised. No room is set aside for it.
#[test]
fn a_request_above_the_limit_is_passed_over() {
    let pool = pool(0, 1, wait(LONG));
    let full = filled(&pool, 1, 1);
    pool.set_disk_limit(PAGE as u64 / 2);
    let too_much = write_beside(&pool, 1, 2);
    assert_waits(&too_much);
    drop(full);
    assert_waits(&too_much);
    assert_eq!(pool.stats().disk_used, 0, "room is set aside for it");
    pool.set_disk_limit(PAGE as u64);
    too_much.recv_timeout(LONG / 2).unwrap().unwrap();
}

/// There are more writers than room. Each frees its room when it is done, so each must get its turn.
#[test]
fn many_writers_take_turns() {
    let pool = pool(1, 4, wait(LONG));
    thread::scope(|scope| {
        for byte in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..100 {
                    assert_eq!(content_of(&mut filled(pool, 1, byte)), [byte; PAGE]);
                }
            });
        }
    });
    pool.check_invariants();
    pool.trim();
    assert_eq!((pool.stats().disk_used, pool.stats().memory_used), (0, 0));
}

/// Two buffers waited to spill. Each attempt that failed woke all waiters, since memory might have been freed
/// in it; so the two woke each other and themselves, beyond their deadlines, for ever.
#[test]
fn waiters_without_hope_do_not_wake_each_other_for_ever() {
    let pool = pool(4, 0, wait(SHORT));
    let buffers = [1, 2].map(|byte| filled(&pool, 2, byte));
    let spilling =
        buffers.map(|mut buffer| thread::spawn(move || refusal(buffer.spill().map_err(io::Error::from))));
    for spilling in spilling {
        assert!(spilling.join().unwrap().1 < LONG / 2);
    }
}

// ---- without blocking

fn poll(future: impl Future<Output = ()>, bell: &Arc<Bell>) -> Poll<()> {
    let waker = Waker::from(Arc::clone(bell));
    pin!(future).poll(&mut Context::from_waker(&waker))
}

#[test]
fn a_future_waits_without_a_thread() {
    let pool = pool(0, 1, WhenFull::Fail);
    let full = filled(&pool, 1, 1);
    let (mut buffer, bell) = (pool.buffer(), Arc::new(Bell::default()));
    assert_eq!(poll(buffer.writable(), &bell), Poll::Ready(()), "nothing was refused");
    refusal(buffer.write_all(&[2; PAGE]));
    assert_eq!(
        poll(buffer.writable(), &bell),
        Poll::Ready(()),
        "it tries once more, since room may have been freed in between"
    );
    refusal(buffer.write_all(&[2; PAGE]));
    {
        let mut room = pin!(buffer.writable());
        assert_eq!(poll(room.as_mut(), &bell), Poll::Pending);
        assert_eq!(bell.rung(), 0);
        drop(full);
        assert_eq!(bell.rung(), 1);
        assert_eq!(poll(room, &bell), Poll::Ready(()));
    }
    refusal(pool.buffer().write_all(&[3])); // it has been set aside
    buffer.write_all(&[2; PAGE]).unwrap();
    assert_eq!(content_of(&mut buffer), [2; PAGE]);
    drop(buffer);
    pool.check_invariants();
}

/// When a write beyond a gap is refused, the gap is cut off again. That counted as room that the buffer had
/// freed: it lost its place in the queue, and was woken to try again at once, over and over.
#[test]
fn a_refusal_beyond_a_gap_is_waited_for_too() {
    let pool = pool(0, 1, WhenFull::Fail);
    let full = filled(&pool, 1, 1);
    let (mut buffer, bell) = (pool.buffer(), Arc::new(Bell::default()));
    buffer.seek(io::SeekFrom::Start(10)).unwrap();
    refusal(buffer.write_all(&[2]));
    assert_eq!(poll(buffer.writable(), &bell), Poll::Ready(()));
    refusal(buffer.write_all(&[2]));
    let mut room = Box::pin(buffer.writable());
    assert_eq!(poll(room.as_mut(), &bell), Poll::Pending);
    drop(full);
    assert_eq!((bell.rung(), poll(room.as_mut(), &bell)), (1, Poll::Ready(())));
    drop(room);
    buffer.write_all(&[2]).unwrap();
    assert_eq!(content_of(&mut buffer), [[0; 10].as_slice(), &[2]].concat());
}

#[test]
fn a_dropped_future_leaves_the_queue() {
    let pool = pool(0, 2, WhenFull::Fail);
    let (one, two) = (filled(&pool, 1, 1), filled(&pool, 1, 1));
    let bells = [(); 2].map(|()| Arc::new(Bell::default()));
    let [mut first, mut second] = [(); 2].map(|()| pool.buffer());
    for (buffer, bell) in [(&mut first, &bells[0]), (&mut second, &bells[1])] {
        refusal(buffer.write_all(&[2]));
        assert_eq!(poll(buffer.writable(), bell), Poll::Ready(()));
        refusal(buffer.write_all(&[2]));
    }
    let mut waiting = Box::pin(second.writable());
    assert_eq!(poll(waiting.as_mut(), &bells[1]), Poll::Pending);
    assert_eq!(poll(first.writable(), &bells[0]), Poll::Pending); // and the future is dropped here
    drop(one);
    assert_eq!([bells[0].rung(), bells[1].rung()], [0, 1], "the turn is the second's");
    refusal(first.write_all(&[4])); // what came free is set aside for the second
    drop(waiting); // before it was polled
    first.write_all(&[4]).unwrap();
    drop((two, first, second));
    assert_eq!(pool.stats().disk_used, 0);
}

/// `poll_writable` keeps its place in the queue between two polls, until the buffer is dropped.
#[test]
fn polling_by_hand_keeps_the_place_in_the_queue() {
    let pool = pool(0, 1, WhenFull::Fail);
    let full = filled(&pool, 1, 1);
    let (mut buffer, bell) = (pool.buffer(), Arc::new(Bell::default()));
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    assert_eq!(buffer.poll_writable(&mut context), Poll::Ready(()), "nothing was refused");
    for polled in [Poll::Ready(()), Poll::Pending] {
        refusal(buffer.write_all(&[2]));
        assert_eq!(buffer.poll_writable(&mut context), polled);
    }
    drop(full);
    assert_eq!(bell.rung(), 1);
    refusal(pool.buffer().write_all(&[3])); // it has been set aside
    drop(buffer);
    pool.buffer().write_all(&[3]).unwrap();
    assert_eq!(pool.stats().waiters, 0);
}

// ---- one call

/// A pool as [`pool`] makes it, and how many refusals its listener was told.
fn telling(memory: usize, disk: usize, when_full: WhenFull) -> (SpillPool, Arc<AtomicUsize>) {
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let builder = SpillPool::builder().memory(memory * PAGE).disk((disk * PAGE) as u64).page_size(PAGE);
    let builder = builder.store(MemoryStore::new()).when_full(when_full).on_event(move |event| {
        count.fetch_add(usize::from(matches!(event, Event::DiskLimit { .. })), Ordering::SeqCst);
    });
    (builder.build().unwrap(), told)
}

/// A `write_vectored` whose first part was taken waited for room for the second, up to its deadline, and
/// then counted as refused, with an event; and returned success. A call that has moved bytes returns at
/// once, and is no refusal.
#[test]
fn a_call_that_has_moved_bytes_neither_waits_nor_counts() {
    for (memory, taken) in [(0, 1), (1, 2)] {
        let (pool, told) = telling(memory, 1, wait(LONG));
        let mut buffer = pool.buffer();
        let parts = [[1; PAGE], [2; PAGE], [3; PAGE]];
        let slices = parts.each_ref().map(|part| io::IoSlice::new(part));
        assert_eq!(buffer.write_vectored(&slices).unwrap(), taken * PAGE);
        let at_its_end = buffer.position();
        buffer.set_len(0).unwrap();
        buffer.rewind().unwrap();
        assert_eq!(buffer.write(&parts.concat()).unwrap(), taken * PAGE, "one slice");
        assert_eq!(buffer.position(), at_its_end);
        let stats = pool.stats();
        assert_eq!((stats.refused.disk_limit, stats.waits, told.load(Ordering::SeqCst)), (0, 0, 0));
        // One that moves nothing waits, and counts, whatever its form.
        pool.set_disk_limit(pool.stats().disk_used);
        let mut hasty = pool.buffer_builder().when_full(WhenFull::Fail).build();
        for n in [1, 2] {
            let refused = if n == 1 { hasty.write_vectored(&slices) } else { hasty.write(&parts[0]) };
            refusal(refused.map(drop));
            assert_eq!((pool.stats().refused.disk_limit, told.load(Ordering::SeqCst) as u64), (n, n));
        }
    }
}

/// A call waited for room, and then failed for another reason. That counted as a wait that had ended at its
/// deadline, and what was set aside for the call stayed so.
///
/// It took 50 ms of silence for a place in the queue; a late thread's call met the room that had been
/// made, and did not wait.
#[test]
fn a_wait_that_ends_in_another_error_has_not_timed_out() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let builder = SpillPool::builder().memory(0).disk(PAGE as u64).page_size(PAGE).store(store);
    let pool = builder.when_full(wait(LONG)).build().unwrap();
    let full = filled(&pool, 1, 1);
    let waiting = write_beside(&pool, 1, 2);
    until_it_waits(&pool, &waiting);
    faults.set(Fault::lasting(0, Failure::full()).on(Call::Write));
    drop(full);
    assert!(matches!(
        spill_error(waiting.recv_timeout(LONG / 2).unwrap().unwrap_err()),
        SpillError::StoreFull { .. }
    ));
    let stats = pool.stats();
    assert_eq!((stats.waits, stats.waits_timed_out, stats.disk_used), (1, 0, 0));
}

/// A buffer was refused, and its next write went to a page in memory, in its window, there again after a
/// loan, or not. That was a success as its documentation has it, but what was set aside for the buffer stayed
/// so, and no other buffer could use it.
#[test]
fn a_write_to_memory_releases_what_was_set_aside() {
    for way in ["window", "loan", "neither"] {
        let pool = pool(1, 1, WhenFull::Fail);
        let (mut buffer, bell) = (pool.buffer(), Arc::new(Bell::default()));
        buffer.write_all(&[1; PAGE - 100]).unwrap(); // all of the memory
        let full = filled(&pool, 1, 2);
        for polled in [Poll::Ready(()), Poll::Pending] {
            buffer.seek(io::SeekFrom::Start(10 * PAGE as u64)).unwrap();
            refusal(buffer.write_all(&[3; PAGE]));
            let waker = Waker::from(Arc::clone(&bell));
            assert_eq!(buffer.poll_writable(&mut Context::from_waker(&waker)), polled);
            if way == "window" {
                buffer.read_at(&mut [0; 10], 0).unwrap();
            } else if way == "loan" {
                buffer.rewind().unwrap();
                buffer.fill_buf().unwrap();
                buffer.consume(10);
            }
        }
        drop(full);
        assert_eq!((bell.rung(), pool.stats().disk_used), (1, PAGE as u64), "set aside");
        buffer.seek(io::SeekFrom::Start(100)).unwrap();
        buffer.write_all(&[4; 10]).unwrap();
        assert_eq!(pool.stats().disk_used, 0, "{way}");
        filled(&pool, 1, 5).spill().unwrap();
    }
}

/// Closing a buffer that held nothing woke all waiters, which tried again: 30 ms of their processors'
/// time for 10,000 of them.
#[test]
fn closing_an_empty_buffer_wakes_nobody() {
    let pool = pool(0, 1, WhenFull::Fail);
    let full = filled(&pool, 1, 1);
    let (mut buffer, bell) = (pool.buffer(), Arc::new(Bell::default()));
    let waker = Waker::from(Arc::clone(&bell));
    for _ in 0..2 {
        refusal(buffer.write_all(&[2; PAGE]));
        let _ = buffer.poll_writable(&mut Context::from_waker(&waker));
    }
    for _ in 0..10 {
        drop(pool.buffer());
    }
    assert_eq!(bell.rung(), 0);
    drop(full);
    assert_eq!(bell.rung(), 1);
}
