//! Are the limits of a pool and of its buffers kept, also when they change (I2, I6)? And when memory is
//! short, which buffers does the pool reclaim pages from?

use overspill::{MemoryStore, SpillBuffer, SpillError, SpillPool};
use overspill_tests::support::{content_of, spill_error, stream};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const PAGE: usize = 4096;

fn pool(pages: usize) -> SpillPool {
    let store = MemoryStore::new();
    SpillPool::builder().memory(pages * PAGE).page_size(PAGE).store(store).build().unwrap()
}

/// A buffer of so many pages, written by quarters of a page.
fn pages_of(pool: &SpillPool, pages: usize, byte: u8) -> SpillBuffer {
    stream(pool, pages * PAGE, byte)
}

fn assert_content(buffer: &mut SpillBuffer, pages: usize, byte: u8) {
    assert!(content_of(buffer) == vec![byte; pages * PAGE], "the content is not what was written");
}

/// The byte that the content of buffer `i` consists of.
fn mark(i: usize) -> u8 {
    i.to_le_bytes()[0]
}

/// While memory is short, some of it is left to those that have less than their share. A write that the disk
/// refused, and that this was enough for, failed beside it.
#[test]
fn what_the_disk_refuses_takes_what_is_left_of_the_memory() {
    let memory = 3 * PAGE;
    let builder = SpillPool::builder().memory(memory).disk(0).page_size(2 * PAGE);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let mut whole = pool.buffer();
    whole.write_all(&[1; 2 * PAGE]).unwrap();
    let mut small = pool.buffer();
    small.write_all(&[2; PAGE]).unwrap();
    assert_eq!(pool.stats().memory_used, memory as u64);
    let refused = spill_error(small.write(&[2]).unwrap_err());
    assert!(matches!(refused, SpillError::DiskLimit { .. }), "{refused:?}");
    assert_eq!((content_of(&mut whole), content_of(&mut small)), (vec![1; 2 * PAGE], vec![2; PAGE]));
    pool.check_invariants();
}

/// A page had room for a part of a write, which the disk refused as a whole because it was longer than the
/// page's frame. Smaller writes were taken.
#[test]
fn a_long_write_takes_what_has_room_where_the_disk_is_full() {
    let pool = SpillPool::builder().memory(PAGE).disk(0).page_size(4 * PAGE);
    let pool = pool.store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 3000]).unwrap();
    let taken = buffer.write(&[2; 10_000]).unwrap();
    assert_eq!(taken, 72, "to the end of its frame");
    assert!(matches!(spill_error(buffer.write(&[3]).unwrap_err()), SpillError::DiskLimit { .. }));
    assert_eq!(content_of(&mut buffer), [[1; 3000].as_slice(), &[2; 72]].concat());
}

/// A slot that the limit refused counted as warm: as blocks of the file that can be used again. Nothing
/// was ever written there.
#[test]
fn what_the_disk_limit_refuses_leaves_no_blocks_behind() {
    let pool = SpillPool::builder().memory(0).disk(3 * PAGE as u64).page_size(PAGE);
    let pool = pool.store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer();
    assert_eq!(buffer.write(&[1; 4 * PAGE]).unwrap(), 3 * PAGE);
    let stats = pool.stats();
    assert_eq!((stats.disk_used, stats.disk_recycled), (3 * PAGE as u64, 0));
    pool.check_invariants();
}

/// The same for a page that grows, in a buffer that would then hold more than its share.
#[test]
fn a_page_that_cannot_leave_grows_into_what_is_left_of_the_memory() {
    let pool = SpillPool::builder().memory(64 * PAGE).disk(0).page_size(16 * PAGE);
    let pool = pool.store(MemoryStore::new()).build().unwrap();
    let mut buffers = [(); 32].map(|()| stream(&pool, PAGE, 1));
    pool.set_memory_limit(32 * PAGE);
    for buffer in &mut buffers {
        buffer.write(&[2; PAGE]).unwrap_err(); // all are active
    }
    pool.set_memory_limit(36 * PAGE);
    buffers[0].write_all(&[2; PAGE]).unwrap();
    assert_eq!(pool.stats().memory_used, 33 * PAGE as u64);
    assert_eq!(content_of(&mut buffers[0]), [[1; PAGE], [2; PAGE]].concat());
}

/// The same for pages whose beginning is in the store, and whose slot is full.
#[test]
fn what_a_full_slot_refuses_takes_what_is_left_of_the_memory() {
    let pool = SpillPool::builder().memory(16 * PAGE).disk(PAGE as u64).page_size(16 * PAGE);
    let pool = pool.store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; PAGE]).unwrap();
    buffer.spill().unwrap();
    pool.set_memory_limit(2 * PAGE);
    buffer.write_all(&[2; PAGE]).unwrap();
    assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (2 * PAGE as u64, PAGE as u64));
    assert_eq!(content_of(&mut buffer), [[1; PAGE], [2; PAGE]].concat());
    buffer.check_invariants();
}

/// Lowering the limit moves pages out of idle buffers at once, and loses nothing.
#[test]
fn a_lowered_limit_is_kept_at_once() {
    let pool = pool(64);
    let mut buffers: Vec<_> = (0..8).map(|i| pages_of(&pool, 8, i)).collect();
    assert_eq!(pool.stats().memory_used, 64 * PAGE as u64);
    for pages in [40, 10, 1, 0] {
        pool.set_memory_limit(pages * PAGE);
        let stats = pool.stats();
        assert!(stats.memory_used + stats.memory_recycled <= (pages * PAGE) as u64, "{pages} pages");
    }
    for (buffer, i) in buffers.iter_mut().zip(0..) {
        assert_content(buffer, 8, i);
        buffer.check_invariants();
    }
    pool.check_invariants();
}

/// The search for a page to evict gave up after 1,024 entries of the table, resident or not. So pages in use
/// that lay far from its starting point stayed in memory, whatever the limit was lowered to.
#[test]
fn a_lowered_limit_is_kept_by_a_large_buffer_with_few_pages_in_memory() {
    const IN_USE: std::ops::Range<u64> = 9_000..9_900;
    let pool = pool(1024);
    let mut buffer = pages_of(&pool, 16 << 10, 5);
    let mut piece = [0; 64];
    for round in 0..20 {
        for page in IN_USE {
            buffer.seek(SeekFrom::Start(page * PAGE as u64 + 64 * round)).unwrap();
            buffer.read_exact(&mut piece).unwrap();
        }
    }
    assert!(pool.stats().memory_used > 800 * PAGE as u64, "pages in use come to memory: {:?}", pool.stats());
    pool.set_memory_limit(16 * PAGE);
    let used = pool.stats().memory_used;
    assert!(used <= 16 * PAGE as u64, "{} pages are left", used / PAGE as u64);
    assert_content(&mut buffer, 16 << 10, 5);
    buffer.check_invariants();
}

/// What `fill_buf` had lent, and what stood in the window, was to leave at the next use of its buffer, but
/// stayed for ever: 200 buffers kept 13 MB of a limit of 1 MiB, however long they worked on.
#[test]
fn what_was_lent_leaves_when_its_buffer_is_used_next() {
    type Use = fn(&mut SpillBuffer);
    let uses: [(&str, Use); 4] = [
        ("consume", |buffer| buffer.consume(10)),
        ("refill", |buffer| assert_eq!(buffer.fill_buf().unwrap()[0], 7)),
        ("read elsewhere", |buffer| {
            buffer.seek(SeekFrom::Start(PAGE as u64 - 5)).unwrap();
            assert_eq!(buffer.read(&mut [0; 10]).unwrap(), 10);
        }),
        ("write elsewhere", |buffer| {
            buffer.seek(SeekFrom::End(0)).unwrap();
            buffer.write_all(&[7; 10]).unwrap();
        }),
    ];
    for (name, next_use) in uses {
        let pool = pool(1000);
        let mut buffers: Vec<_> = (0..200).map(|_| pages_of(&pool, 2, 7)).collect();
        for buffer in &mut buffers {
            buffer.rewind().unwrap();
            assert_eq!(buffer.fill_buf().unwrap()[0], 7);
        }
        pool.set_memory_limit(16 * PAGE);
        assert_eq!(pool.stats().memory_used, 200 * PAGE as u64, "{name}: lent pages cannot leave");
        buffers.iter_mut().for_each(next_use);
        assert!(pool.stats().memory_used <= 16 * PAGE as u64, "{name}: {:?}", pool.stats());
        for buffer in &mut buffers {
            assert!(content_of(buffer)[..2 * PAGE] == [7; 2 * PAGE], "{name}");
            buffer.check_invariants();
        }
        pool.check_invariants();
    }
}

/// A buffer evicted its own pages while the pool was over its limit, even if another one held too much:
/// bodies of a few pages lost them, and a huge buffer that was not used kept all of its own.
#[test]
fn a_buffer_within_its_share_keeps_its_pages_while_another_is_over() {
    let pool = pool(64);
    let (mut huge, mut small) = (pages_of(&pool, 32, 1), pages_of(&pool, 4, 2));
    pool.set_disk_limit(0);
    pool.set_memory_limit(16 * PAGE);
    pool.set_disk_limit(u64::MAX);
    assert_eq!(pool.stats().memory_used, 36 * PAGE as u64, "nothing could leave");
    assert_content(&mut small, 4, 2);
    assert_eq!(small.stats().memory_used, 4 * PAGE as u64);
    assert_content(&mut huge, 32, 1);
    assert!(pool.stats().memory_used <= 16 * PAGE as u64, "{:?}", pool.stats());
    assert_eq!(small.stats().memory_used, 4 * PAGE as u64);
}

/// A thread that was inside its buffer each time when pages were reclaimed kept all of them if it read by
/// lines: in one of seven tries, of 28 pages.
#[test]
fn a_thread_that_reads_lines_keeps_a_lowered_limit() {
    for _ in 0..100 {
        let pool = pool(64);
        let mut buffer = pool.buffer();
        (0..28 * PAGE / 16).for_each(|_| buffer.write_all(b"a line of bytes\n").unwrap());
        buffer.rewind().unwrap();
        let (lowered, is_reading) = (AtomicBool::new(false), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut read = |line: &mut String| {
                    line.clear();
                    if buffer.read_line(line).unwrap() == 0 {
                        buffer.rewind().unwrap();
                    }
                };
                let mut line = String::new();
                is_reading.wait();
                while !lowered.load(Ordering::SeqCst) {
                    read(&mut line);
                }
                read(&mut line);
            });
            is_reading.wait();
            pool.set_memory_limit(2 * PAGE);
            lowered.store(true, Ordering::SeqCst);
        });
        assert!(pool.stats().memory_used <= 2 * PAGE as u64, "{:?}", pool.stats());
    }
}

/// With the limit raised again, pages in use come back to memory.
#[test]
fn a_raised_limit_brings_pages_back() {
    let pool = pool(0);
    let mut buffer = pages_of(&pool, 4, 7);
    assert_eq!(buffer.stats().memory_used, 0);
    pool.set_memory_limit(64 * PAGE);
    let mut piece = [0; 64];
    buffer.rewind().unwrap();
    (0..4 * PAGE / 64).for_each(|_| buffer.read_exact(&mut piece).unwrap());
    assert_eq!(buffer.stats().memory_used, 4 * PAGE as u64);
}

/// Pages that cannot leave because of the disk limit stay in memory. They leave once there is room.
#[test]
fn a_limit_that_cannot_be_kept_is_kept_later() {
    let pool = pool(8);
    let mut buffer = pages_of(&pool, 8, 3);
    pool.set_disk_limit(0);
    pool.set_memory_limit(2 * PAGE);
    assert_eq!(pool.stats().memory_used, 8 * PAGE as u64, "a page left, though there is no disk");
    assert_content(&mut buffer, 8, 3);
    pool.set_disk_limit(u64::MAX);
    pool.set_memory_limit(2 * PAGE);
    assert!(pool.stats().memory_used <= 2 * PAGE as u64);
    assert_content(&mut buffer, 8, 3);
}

/// Tables that are kept for the next buffers do not count as buffers, and so take no share of the memory.
#[test]
fn buffers_are_counted() {
    let pool = pool(64);
    let some: Vec<_> = (0..5).map(|i| pages_of(&pool, 1, i)).collect();
    assert_eq!(pool.stats().buffers, 5);
    drop(some);
    assert_eq!(pool.stats().buffers, 0);
}

/// Buffers that hold no memory took a share of it. So a small body in use held more than its share, and was
/// moved out for a lowered limit before a huge one.
#[test]
fn buffers_that_hold_no_memory_take_no_share_of_it() {
    let pool = pool(64);
    let mut others: Vec<_> = (0..1000).map(|_| pool.buffer()).collect();
    for buffer in &mut others[..100] {
        buffer.write_all(&[1; PAGE]).unwrap();
        buffer.spill().unwrap();
    }
    let (small, _huge) = (pages_of(&pool, 4, 1), pages_of(&pool, 60, 2));
    let _next = pages_of(&pool, 1, 3); // its search finds out that the spilled ones hold nothing
    pool.set_memory_limit(32 * PAGE);
    assert_eq!((small.stats().memory_used, small.is_spilled()), (4 * PAGE as u64, false));
    assert_eq!(pool.stats().buffers, 1003);
    pool.check_invariants();
}

/// A search for memory looked at tables that hold none: beside a million empty buffers a stream took three
/// times as long, and seldom found the buffer that held all the memory.
#[test]
fn a_search_for_memory_does_not_look_at_empty_buffers() {
    let pool = pool(64);
    let mut empty: Vec<_> = (0..5000).map(|_| pool.buffer()).collect();
    let mut huge = pages_of(&pool, 64, 1);
    let mut next = pool.buffer();
    next.write_all(&[2; PAGE]).unwrap();
    assert_eq!(next.stats().memory_used, PAGE as u64, "reclaimed from the huge buffer at once");
    empty[4000].write_all(&[3; PAGE]).unwrap();
    assert_eq!(empty[4000].stats().memory_used, PAGE as u64);
    assert_content(&mut huge, 64, 1);
    pool.check_invariants();
    empty.truncate(4001);
    assert_eq!(pool.stats().buffers, 4003);
    assert_content(&mut empty[4000], 1, 3);
    pool.check_invariants();
}

/// A huge buffer does not push small ones to the disk.
#[test]
fn a_small_body_never_spills_because_of_a_huge_one() {
    let pool = pool(32);
    let huge = pages_of(&pool, 100, 1);
    let small: Vec<_> = (0..15).map(|i| pages_of(&pool, 1, i)).collect();
    assert!(small.iter().all(|small| small.stats().spills == 0), "each is within its fair share");
    drop(huge);
    pool.check_invariants();
}

/// From idle buffers that fill the memory, pages are reclaimed for an active one.
#[test]
fn idle_buffers_do_not_starve_an_active_one() {
    let pool = pool(64);
    let mut idle: Vec<_> = (0..64).map(|i| pages_of(&pool, 1, i)).collect();
    // It is not known at once who is idle.
    let mut active = pages_of(&pool, 20, 99);
    assert_eq!(active.stats().memory_used, 8 * PAGE as u64, "an eighth of the limit");
    assert_content(&mut active, 20, 99);
    idle.iter_mut().zip(0..).for_each(|(buffer, i)| assert_content(buffer, 1, i));
}

/// The one that held most was asked, each time, and had no room on the disk: nobody else was asked any more,
/// and the active one got no memory at all.
#[test]
fn a_donor_that_can_give_nothing_is_in_the_way_of_nobody() {
    let pool = pool(64);
    let mut stuck = pool.buffer_builder().disk(0).build();
    stuck.write_all(&[98; 33 * PAGE]).unwrap();
    let mut idle: Vec<_> = (0..31).map(|i| pages_of(&pool, 1, i)).collect();
    let mut active = pages_of(&pool, 20, 99);
    let held = active.stats().memory_used;
    assert!(held >= 4 * PAGE as u64, "{held} bytes");
    assert_content(&mut active, 20, 99);
    assert_content(&mut stuck, 33, 98);
    idle.iter_mut().zip(0..).for_each(|(buffer, i)| assert_content(buffer, 1, i));
}

/// The first buffer's pages had no room on the disk, and those of the second, which were there already,
/// stayed in memory too.
#[test]
fn a_lowered_limit_is_kept_by_those_who_can() {
    let builder = SpillPool::builder().memory(64 * PAGE).disk(24 * PAGE as u64).page_size(PAGE);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let mut dirty = pages_of(&pool, 40, 1);
    let mut clean = pages_of(&pool, 24, 2);
    clean.spill().unwrap();
    for page in 0..24 {
        clean.seek(SeekFrom::Start(page * PAGE as u64)).unwrap();
        clean.read_exact(&mut [0; 64]).unwrap();
    }
    assert!(clean.stats().memory_used >= 23 * PAGE as u64, "it was read back: {:?}", clean.stats());
    pool.set_memory_limit(8 * PAGE);
    let held = clean.stats().memory_used;
    assert!(held <= 4 * PAGE as u64, "{held} bytes, and its share is half the limit");
    assert_eq!(dirty.stats().memory_used, 40 * PAGE as u64);
    assert_content(&mut dirty, 40, 1);
    assert_content(&mut clean, 24, 2);
    pool.check_invariants();
}

/// A stream larger than its share recycles its own frames before it pushes idle buffers to the disk.
#[test]
fn a_long_stream_does_not_push_out_idle_buffers() {
    let pool = pool(64);
    let idle: Vec<_> = (0..48).map(|i| pages_of(&pool, 1, i)).collect();
    let _long = pages_of(&pool, 500, 99);
    let spilled = idle.iter().filter(|buffer| buffer.is_spilled()).count();
    assert_eq!(spilled, 0, "16 pages were free, which is more than an eighth");
}

/// Pages of idle buffers are reclaimed several at a time, in one write if their slots lie side by side. Few
/// are reclaimed ahead, so that a long stream does not get more than its share in this way.
#[test]
fn pages_are_reclaimed_together_and_not_too_many() {
    const PAGES: usize = 1024;
    let pool = pool(PAGES);
    let mut idle: Vec<_> = (0..PAGES).map(|i| pages_of(&pool, 1, mark(i))).collect();
    // It is not known at once who is idle.
    let mut long = pages_of(&pool, 10, 99);
    let before = pool.stats();
    (0..64).for_each(|_| long.write_all(&[99; PAGE / 4]).unwrap());
    let stats = pool.stats().since(&before);
    let at_once = (PAGES / 64) as u64;
    assert!((16..16 + at_once).contains(&stats.reclaims), "as many as needed, and a few ahead: {stats:?}");
    assert!(stats.io.writes <= stats.reclaims / 3, "each in a write of its own: {stats:?}");
    (0..4 * PAGES).for_each(|_| long.write_all(&[99; PAGE / 4]).unwrap());
    let most = PAGES as u64 / 8 + at_once;
    assert!(pool.stats().reclaims <= most, "an eighth of the limit: {:?}", pool.stats());
    pool.check_invariants();
    idle.iter_mut().enumerate().for_each(|(i, buffer)| assert_content(buffer, 1, mark(i)));
    assert_content(&mut long, 26 + PAGES, 99);
}

/// Small bodies leave many in one write, with zeros between them, though each fills its slot only in part: a
/// write and a heavy fence for each took three times as long.
#[test]
fn small_bodies_leave_together_when_the_limit_is_lowered() {
    const BODIES: usize = 1000;
    let pool = SpillPool::builder().memory(1 << 20).store(MemoryStore::new()).build().unwrap();
    let mut bodies: Vec<_> = (0..BODIES).map(|i| stream(&pool, 100 + i / 2, mark(i))).collect();
    pool.set_memory_limit(1 << 10);
    let stats = pool.stats();
    assert!(stats.memory_used + stats.memory_recycled <= 1 << 10, "{stats:?}");
    assert!(stats.io.writes <= stats.reclaims / 15, "16 slots of 4 KiB are a write: {stats:?}");
    for (i, body) in bodies.iter_mut().enumerate() {
        assert!(content_of(body) == vec![mark(i); 100 + i / 2], "{i}");
        body.set_len(2000).unwrap();
        assert!(content_of(body)[100 + i / 2..].iter().all(|&byte| byte == 0), "{i}");
        body.check_invariants();
    }
    pool.check_invariants();
}

/// Two pages were written together because only a few bytes lay between them. Where pages are small, those
/// bytes were the slot of a third.
#[test]
fn what_lies_between_pages_that_leave_together_is_kept() {
    let pool =
        SpillPool::builder().memory(64 << 10).page_size(1 << 10).store(MemoryStore::new()).build().unwrap();
    let mut buffers: Vec<_> = (0..3).map(|i| stream(&pool, 1000, i)).collect();
    for buffer in &mut buffers {
        buffer.spill().unwrap();
    }
    for i in [0, 2] {
        buffers[i].rewind().unwrap();
        buffers[i].write_all(&[mark(i); 10]).unwrap();
    }
    pool.set_memory_limit(0);
    assert_eq!(pool.stats().reclaims, 2, "both were in memory");
    buffers.iter_mut().zip(0..).for_each(|(buffer, i)| assert!(content_of(buffer) == [i; 1000], "{i}"));
}

/// Pages that leave together go each to the file of its buffer.
#[test]
fn pages_reclaimed_together_go_each_to_its_own_file() {
    const PAGES: usize = 512;
    let dir = tempfile::tempdir().unwrap();
    let pool = SpillPool::builder().memory(PAGES * PAGE).page_size(PAGE).build().unwrap();
    let names: Vec<_> = (0..PAGES).map(|i| dir.path().join(i.to_string())).collect();
    let mut idle = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let mut buffer = if i % 3 == 0 { pool.buffer_for(name) } else { pool.buffer() };
        buffer.write_all(&[mark(i); PAGE]).unwrap();
        idle.push(buffer);
    }
    let mut active = pages_of(&pool, 60, 99);
    assert!(pool.stats().reclaims >= 48, "{:?}", pool.stats());
    assert_content(&mut active, 60, 99);
    idle.iter_mut().enumerate().for_each(|(i, buffer)| assert_content(buffer, 1, mark(i)));
    for (i, (buffer, name)) in idle.into_iter().zip(&names).enumerate().step_by(3) {
        buffer.persist(name).unwrap().durable().unwrap();
        assert!(std::fs::read(name).unwrap() == [mark(i); PAGE], "{i}");
    }
}

/// The limits of one buffer hold within those of the pool.
#[test]
fn a_buffer_has_limits_of_its_own() {
    let pool = pool(64);
    drop(pages_of(&pool, 1, 0)); // leaves a table with a frame for the next buffer
    let mut buffer = pool.buffer_builder().memory(2 * PAGE).disk(3 * PAGE as u64).build();
    let mut taken = 0;
    let refused = loop {
        match buffer.write(&[1; PAGE / 2]) {
            Ok(n) => taken += n,
            Err(error) => break error,
        }
        assert!(buffer.stats().memory_used <= 2 * PAGE as u64);
        assert!(buffer.stats().disk_used <= 3 * PAGE as u64);
    };
    assert!(taken >= 3 * PAGE, "{taken}");
    assert!(matches!(spill_error(refused), SpillError::DiskLimit { limit, .. } if limit == 3 * PAGE as u64));
    assert_content(&mut buffer, taken / PAGE, 1);
    drop(buffer);
    let mut next = pages_of(&pool, 10, 5);
    assert_eq!(next.stats().memory_used, 10 * PAGE as u64, "the next buffer has the limits of this one");
    assert_content(&mut next, 10, 5);
}

#[test]
fn a_pool_is_sized_from_the_machine() {
    // Small parts, since a machine may have more memory than a 32-bit process can address.
    let [all, half] = [1.0 / 64.0, 0.5 / 64.0]
        .map(|part| SpillPool::builder().memory_fraction(part).build().unwrap().stats().memory_limit);
    assert!(half > 0 && half.abs_diff(all / 2) < 2, "{half} of {all}");
}
