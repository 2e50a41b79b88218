//! What do small bodies take on the disk once they have come to rest, and what becomes of them when they
//! grow, are cut, or go?
//!
//! A slot was at least a block of 4 KiB: a body of 600 bytes took seven times what it holds, and a limit
//! lowered over 100,000 of them wrote 400 MB where they held 60. Then a block was cut into parts, and bodies
//! of one length wasted the end of each: those of 1,500 and of 3,000 bytes took 1.37 times what they hold.
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill::testing::{Failure, Fault, FaultPlan, FaultStore};
use overspill::{MemoryStore, SpillBuffer, SpillError, SpillPool, WhenFull};
use overspill_tests::support::{Random, content_of, in_time, spill_error, stream};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const PAGE: usize = 64 << 10;

fn pool() -> SpillPool {
    SpillPool::builder().memory(64 << 20).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

fn bodies(pool: &SpillPool, lens: impl Iterator<Item = usize>) -> Vec<SpillBuffer> {
    lens.enumerate().map(|(i, len)| stream(pool, len, i as u8)).collect()
}

/// How `bodies` come to rest.
const LEAVE: [fn(&SpillPool, &mut [SpillBuffer]); 2] = [
    |_, bodies| bodies.iter_mut().for_each(|body| body.spill().unwrap()),
    |pool, _| pool.set_memory_limit(0),
];

/// Each byte took 1.4 to 6.8; of bodies of one length 1.37.
#[test]
fn bodies_at_rest_take_little_more_than_they_hold() {
    let mut random = Random::new(7);
    let mut cases = vec![(0..2000).map(|_| 600 + random.index(2401)).collect()];
    cases.extend([600, 1500, 3000].map(|len| vec![len; 2000]));
    for (leave, lens) in LEAVE.into_iter().flat_map(|leave| cases.iter().map(move |lens| (leave, lens))) {
        let pool = pool();
        let mut bodies = bodies(&pool, lens.iter().copied());
        leave(&pool, &mut bodies);
        let (used, held) = (pool.stats().disk_used, lens.iter().sum::<usize>() as u64);
        assert!(used * 100 <= held * 115, "{used} for {held}");
        assert!((held..=used).contains(&bodies.iter().map(|body| body.stats().disk_used).sum()));
        pool.check_invariants();
        for ((i, len), body) in lens.iter().enumerate().zip(&mut bodies) {
            assert!(content_of(body) == vec![i as u8; *len], "{i}");
        }
        drop(bodies);
        assert_eq!(pool.stats().disk_used, 0);
        pool.check_invariants();
    }
}

/// A body that is silent is at rest, one that was appended to a moment ago is not: it would have to move.
#[test]
fn what_the_pool_takes_from_silent_bodies_lies_close() {
    const BODIES: usize = 200;
    let builder = SpillPool::builder().memory(BODIES << 10).page_size(4 << 10);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let silent = bodies(&pool, [1000; BODIES / 2].into_iter());
    let before = pool.stats().disk_used;
    assert_eq!(before, 0);
    let mut busy: Vec<_> = (0..40).map(|_| pool.buffer()).collect();
    for _ in 0..40 {
        busy.iter_mut().for_each(|body| body.write_all(&[7; 1024]).unwrap());
    }
    let spilled: u64 = silent.iter().map(|body| body.stats().disk_used).sum();
    assert!(spilled > 0 && silent.iter().all(|body| body.stats().disk_used <= 1024), "{spilled}");
    pool.check_invariants();
}

/// Grown, cut and written over in any order, beside others in the same block.
#[test]
fn what_happens_to_one_body_never_shows_in_those_beside_it() {
    const BODIES: usize = 60;
    let (pool, mut random) = (pool(), Random::new(11));
    let mut bodies = bodies(&pool, [0; BODIES].into_iter());
    let mut expected = vec![Vec::new(); BODIES];
    for round in (0..=u8::MAX).cycle().take(6000) {
        let at = random.index(BODIES);
        let (body, bytes): (_, &mut Vec<u8>) = (&mut bodies[at], &mut expected[at]);
        match random.index(8) {
            0 => {
                let len = random.index(4000);
                body.set_len(len as u64).unwrap();
                bytes.resize(len, 0);
            }
            1..=3 => {
                let part = vec![round; 1 + random.index(700)];
                let start = random.index(bytes.len() + 1);
                body.seek(SeekFrom::Start(start as u64)).unwrap();
                body.write_all(&part).unwrap();
                bytes.resize(bytes.len().max(start + part.len()), 0);
                bytes[start..start + part.len()].copy_from_slice(&part);
            }
            4 | 5 => body.spill().unwrap(),
            6 => {
                pool.set_memory_limit(random.index(3) * (16 << 10));
                pool.set_memory_limit(1 << 20);
            }
            _ => {
                assert!(content_of(body) == *bytes, "{at} in round {round}");
                body.check_invariants();
            }
        }
        if random.index(50) == 0 {
            (*body, *bytes) = (pool.buffer(), Vec::new());
            pool.check_invariants();
        }
    }
    for (body, bytes) in bodies.iter_mut().zip(&expected) {
        assert!(content_of(body) == *bytes);
    }
    drop(bodies);
    assert_eq!(pool.stats().disk_used, 0);
}

/// A block is charged when it is cut, and until the last of its bodies is gone: the store has all of it.
#[test]
fn the_disk_limit_counts_the_blocks_that_are_there() {
    let pool = SpillPool::builder().memory(1 << 20).page_size(PAGE).disk(3 * 4096);
    let pool = pool.store(MemoryStore::new()).build().unwrap();
    let mut bodies = bodies(&pool, [1000; 13].into_iter());
    for (i, body) in bodies.iter_mut().take(12).enumerate() {
        body.spill().unwrap();
        assert_eq!(pool.stats().disk_used, (i as u64 / 4 + 1) * 4096);
    }
    let refused = spill_error(bodies[12].spill().unwrap_err().into());
    assert!(
        matches!(refused, SpillError::DiskLimit { limit: 12288, used: 12288, requested: 4096, .. }),
        "{refused:?}"
    );
    assert_eq!(bodies[12].stats().disk_used, 0);
    // One of each block goes, and there is room for the others' kind, and none for a block.
    [0, 4, 8].into_iter().for_each(|i| bodies[i].clear());
    assert_eq!(pool.stats().disk_used, 3 * 4096);
    bodies[12].spill().unwrap();
    let mut long = stream(&pool, 5000, 1);
    long.spill().unwrap_err();
    pool.check_invariants();
    bodies.clear();
    long.spill().unwrap();
    assert_eq!(pool.stats().disk_used, 8192);
}

/// A slot that was cut stayed charged, and its blocks on the disk, until all of its bodies were gone: of many
/// that leave one in ten, nearly all.
#[test]
fn blocks_that_no_body_has_a_part_of_are_given_back() {
    const BODIES: usize = 2000;
    for len in [600, 3000] {
        let dir = tempfile::tempdir().unwrap();
        let pool = SpillPool::builder().memory(64 << 20).page_size(PAGE).dir(dir.path()).build().unwrap();
        let mut bodies = bodies(&pool, [len; BODIES].into_iter());
        bodies.iter_mut().for_each(|body| body.spill().unwrap());
        let (mut number, before) = (0, pool.stats().disk_used);
        bodies.retain(|_| {
            number += 1;
            number % 10 == 0
        });
        pool.check_invariants();
        let held = pool.stats();
        // A body has a part of two blocks at most.
        assert!(held.disk_used <= 2 * 4096 * bodies.len() as u64, "{} of {before}, {len}", held.disk_used);
        assert!(held.disk_used + held.disk_recycled <= before);
        pool.trim();
        let trimmed = pool.stats();
        // Elsewhere only the end of a file can be given back.
        let has_holes = cfg!(any(target_os = "linux", target_os = "android"));
        let left = if has_holes { 0 } else { held.disk_recycled };
        assert!(trimmed.disk_used == held.disk_used && trimmed.disk_recycled <= left, "{trimmed:?}");
        for (i, body) in bodies.iter_mut().enumerate() {
            assert!(content_of(body) == vec![(i * 10 + 9) as u8; len], "{i}");
        }
        // What was given back is used again.
        let mut more = self::bodies(&pool, [len; BODIES / 2].into_iter());
        more.iter_mut().for_each(|body| body.spill().unwrap());
        assert!(pool.stats().disk_used <= before);
        for (i, body) in more.iter_mut().enumerate() {
            assert!(content_of(body) == vec![i as u8; len], "{i}");
        }
        pool.check_invariants();
        drop((bodies, more));
        assert_eq!(pool.stats().disk_used, 0);
        pool.check_invariants();
    }
}

/// A body that waits for a block was told of blocks that came free, and not of parts of one, which are all
/// that it needs: it waited until its deadline beside room for it.
#[test]
fn a_body_that_waits_for_the_disk_is_told_of_parts_that_come_free() {
    let leave: [fn(SpillBuffer) -> Option<SpillBuffer>; 2] = [
        |body| {
            drop(body);
            None
        },
        |mut body| {
            body.clear();
            Some(body)
        },
    ];
    for (number, leave) in leave.into_iter().enumerate() {
        let when_full = WhenFull::Wait { at_most: Duration::from_secs(60) };
        let pool = SpillPool::builder().memory(1 << 20).page_size(PAGE).disk(2 * 4096).when_full(when_full);
        let pool = pool.store(MemoryStore::new()).build().unwrap();
        let mut bodies = bodies(&pool, [2000; 5].into_iter());
        bodies[..4].iter_mut().for_each(|body| body.spill().unwrap());
        let (sender, receiver) = mpsc::channel();
        let mut waits = bodies.pop().unwrap();
        thread::spawn(move || sender.send(waits.spill().map(|()| waits)).unwrap());
        while pool.stats().waiters == 0 {
            thread::yield_now();
        }
        let _left = leave(bodies.remove(0));
        let spilled = receiver.recv_timeout(Duration::from_secs(30));
        let mut spilled = spilled.unwrap_or_else(|_| panic!("{number}: it was not told")).unwrap();
        assert_eq!(content_of(&mut spilled), [4; 2000]);
        pool.check_invariants();
    }
}

/// A body across the end of a block left a block when it was freed, and parts of another. Only of the block
/// was anybody told, which was too little for the first in the queue; one behind it, for whom the parts were
/// enough, waited until its deadline.
#[test]
fn parts_that_come_free_beside_a_block_are_told_of_too() {
    in_time(|| {
        let when_full = WhenFull::Wait { at_most: Duration::from_secs(60) };
        let builder = SpillPool::builder().memory(1 << 20).page_size(PAGE).disk(2 * 4096);
        let pool = builder.when_full(when_full).store(MemoryStore::new()).build().unwrap();
        let [mut kept, mut before, mut across] = [1280, 1280, 3968].map(|len| stream(&pool, len, 1));
        [&mut kept, &mut before, &mut across].into_iter().for_each(|body| body.spill().unwrap());
        drop(before); // 10 parts, and 12 are left at the end
        assert_eq!(pool.stats().disk_used, 2 * 4096);
        let (sender, receiver) = mpsc::channel();
        for (waiters, len) in [(1, 5000), (2, 1920)] {
            let (mut waits, sender) = (stream(&pool, len, 2), sender.clone());
            thread::spawn(move || sender.send(waits.spill().map(|()| (len, waits))).unwrap());
            while pool.stats().waiters < waiters {
                thread::yield_now();
            }
        }
        drop(across);
        let next = || receiver.recv_timeout(Duration::from_secs(30)).expect("nobody was told").unwrap();
        let (len, second) = next();
        assert_eq!(len, 1920);
        drop((kept, second));
        assert_eq!(next().0, 5000);
    });
}

/// The store refuses the write of a body whose block others are in.
#[test]
fn a_body_that_cannot_be_written_leaves_its_parts_to_the_next() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(1 << 20).page_size(PAGE).store(store).build().unwrap();
    let mut bodies = bodies(&pool, [700; 4].into_iter());
    bodies[0].spill().unwrap();
    faults.set(Fault::once(0, Failure::io()));
    bodies[1].spill().unwrap_err();
    assert_eq!((pool.stats().disk_used, bodies[1].stats().disk_used), (4096, 0));
    faults.set(Fault::once(0, Failure::io()));
    pool.set_memory_limit(0);
    pool.check_invariants();
    bodies.iter_mut().for_each(|body| body.spill().unwrap());
    assert_eq!(pool.stats().disk_used, 4096);
    for (i, body) in bodies.iter_mut().enumerate() {
        let mut content = Vec::new();
        body.rewind().unwrap();
        body.read_to_end(&mut content).unwrap();
        assert_eq!(content, [i as u8; 700]);
    }
}

/// Without memory, a body took a whole page of the disk, whatever its length, and below a disk limit of a
/// page none was taken at all.
#[test]
fn without_memory_a_small_body_takes_a_block() {
    for (blocks, page) in [(1, 64 << 10), (5, 64 << 10), (40, 64 << 10), (5, 4096)] {
        let pool = SpillPool::builder().memory(0).page_size(page).disk(blocks * 4096);
        let pool = pool.store(MemoryStore::new()).build().unwrap();
        let mut bodies = bodies(&pool, (0..blocks).map(|_| 600));
        assert_eq!((pool.stats().disk_used, pool.stats().memory_used), (blocks * 4096, 0));
        let refused = spill_error(pool.buffer().write(&[1; 600]).unwrap_err());
        assert!(matches!(refused, SpillError::DiskLimit { requested: 4096, .. }), "{refused:?}");
        for (i, body) in bodies.iter_mut().enumerate() {
            assert_eq!(content_of(body), [i as u8; 600]);
        }
        // One body can have all of it.
        bodies.clear();
        let mut long = stream(&pool, blocks as usize * 4096, 1);
        assert!(content_of(&mut long) == vec![1; blocks as usize * 4096]);
        pool.check_invariants();
    }
}

/// A body that cannot move for want of room tries with each append. The slot that it did not get was freed as
/// one that has blocks: so each attempt called the store, to give back what was not there.
#[test]
fn a_body_that_cannot_move_leaves_no_blocks_to_give_back() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(1 << 20).page_size(PAGE).disk(2 * 4096).store(store);
    let pool = pool.build().unwrap();
    let mut bodies = bodies(&pool, [4000, 4000].into_iter());
    pool.set_memory_limit(0);
    let before = (pool.stats().disk_recycled, faults.calls());
    for _ in 0..200 {
        let refused = spill_error(bodies[0].write_all(&[0; 5000]).unwrap_err());
        assert!(matches!(refused, SpillError::DiskLimit { .. }), "{refused:?}");
        assert_eq!((pool.stats().disk_recycled, faults.calls()), before);
    }
    assert_eq!(content_of(&mut bodies[0]), [0; 4000]);
    pool.check_invariants();
}

/// A slot that is free, with its blocks still there, was charged whole to a small body that took it:
/// where other content came and went in between, a disk limit held a quarter to an eighth of the bodies
/// that it holds otherwise.
#[test]
fn small_bodies_between_large_ones_take_no_more_of_the_limit() {
    let fits = |len: usize, passing: usize| {
        let builder = SpillPool::builder().memory(1 << 20).disk(8 << 20).store(MemoryStore::new());
        let pool = builder.build().unwrap();
        let mut kept = Vec::new();
        loop {
            // It comes and goes, as far as there is room for it.
            let _ = pool.buffer().write_all(&vec![1; passing]);
            let mut body = pool.buffer();
            if body.write_all(&vec![2; len]).is_err() {
                break;
            }
            kept.push(body);
        }
        pool.check_invariants();
        assert!(pool.stats().disk_high_water <= 8 << 20);
        kept.len()
    };
    for len in [5000, 10_000, 30_000] {
        let (alone, between) = (fits(len, 0), fits(len, 128 << 10));
        assert!(between * 10 >= alone * 9, "{between} of {len} bytes in place of {alone}");
    }
}

/// The first page of a buffer lies in the frame that a former one has left. It grew only to a frame beside
/// that one, which passed the limit: what fitted in a fresh pool was refused, or spilled.
#[test]
fn what_fits_does_not_depend_on_what_a_former_buffer_held() {
    let fits = |buffer: &mut SpillBuffer| buffer.write_all(&[1; PAGE]).is_ok() && !buffer.is_spilled();
    for former in [0, 100, 3000, 10_000, 20_000, 40_000] {
        let leave = |mut buffer: SpillBuffer| buffer.write_all(&vec![2; former]).unwrap();
        let builder = || SpillPool::builder().page_size(PAGE).disk(0);
        let pool = builder().memory(64 * PAGE).build().unwrap();
        leave(pool.buffer());
        assert!(fits(&mut pool.buffer_builder().memory(PAGE).build()), "own limit, after {former}");
        let pool = builder().memory(PAGE).build().unwrap();
        leave(pool.buffer());
        assert!(fits(&mut pool.buffer()), "of a pool, after {former}");
        leave(SpillBuffer::with_budget(PAGE));
        assert!(fits(&mut SpillBuffer::with_budget(PAGE)), "alone, after {former}");
    }
}

/// A page of a buffer with a file of its own was said to count blocks, as any other page, and a body at rest
/// to count blocks towards its buffer's own limit, as towards the pool's.
#[test]
fn what_counts_towards_the_limits_is_what_their_documentation_says() {
    let dir = tempfile::tempdir().unwrap();
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let mut own = pool.buffer_for(dir.path().join("file"));
    own.write_all(&[1]).unwrap();
    assert_eq!((own.stats().disk_used, pool.stats().disk_used), (PAGE as u64, PAGE as u64));

    let pool = self::pool();
    let mut body = pool.buffer();
    body.write_all(&[1; 600]).unwrap();
    body.spill().unwrap();
    assert_eq!((body.stats().disk_used, pool.stats().disk_used), (640, 4096));

    let mut body = pool.buffer_builder().disk(512).build();
    body.write_all(&[1; 600]).unwrap();
    let refused = body.spill().unwrap_err();
    assert!(matches!(refused, SpillError::DiskLimit { limit: 512, requested: 640, .. }), "{refused:?}");
}

/// Frames that lie recycled are room like any other. Where the fair share was shorter than a page, they
/// counted as used: beside 600 small bodies that were silent, new ones of 100 kB spilled, while uploads that
/// were gone had left 31 of 32 MiB.
#[test]
fn recycled_frames_of_any_length_are_room_for_a_page() {
    let pool =
        SpillPool::builder().memory(32 << 20).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let silent = bodies(&pool, (0..600).map(|_| 600));
    let mut uploads: Vec<_> = (0..1000).map(|_| pool.buffer()).collect();
    for _ in 0..40 {
        uploads.iter_mut().for_each(|upload| upload.write_all(&[1; 6000]).unwrap());
    }
    drop(uploads);
    let stats = pool.stats();
    assert!(stats.memory_recycled > stats.memory_limit * 9 / 10, "{stats:?}");
    let mut new: Vec<_> = (0..20).map(|_| pool.buffer()).collect();
    for _ in 0..100 {
        new.iter_mut().for_each(|body| body.write_all(&[3; 1000]).unwrap());
    }
    assert_eq!(new.iter().filter(|body| body.is_spilled()).count(), 0, "{:?}", pool.stats());
    drop((silent, new));
    pool.check_invariants();
}
