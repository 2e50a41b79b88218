//! Two passes over one buffer, in turn, as where runs are merged or a part is copied within: each keeps a
//! frame, and moves its bytes once.
#![allow(missing_docs)]

use overspill::{Checksums, MemoryStore, SpillBuffer, SpillPool};
use overspill_tests::support::Random;
use std::io::Write;

const LEN: u64 = 8 << 20;
const HALF: u64 = LEN / 2;

/// A buffer over budget.
fn spilled(pool: &SpillPool) -> SpillBuffer {
    let mut buffer = pool.buffer();
    for at in (0..LEN).step_by(1 << 16) {
        let bytes: Vec<u8> = (at..at + (1 << 16)).map(byte_at).collect();
        buffer.write_all(&bytes).unwrap();
    }
    buffer
}

fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// Pieces of so many bytes, so many of them before the other pass goes on.
#[derive(Clone, Copy, Debug)]
struct Turns {
    piece: usize,
    burst: u64,
}

impl Turns {
    /// Calls `on` with the offsets in each half at which the passes go on, in turn: the half's number, and
    /// the offset in it.
    fn run(self, mut on: impl FnMut(u64, u64)) {
        let pieces = HALF / self.piece as u64;
        for first in (0..pieces).step_by(usize::try_from(self.burst).unwrap()) {
            for half in [0, 1] {
                (first..pieces.min(first + self.burst))
                    .for_each(|number| on(half, number * self.piece as u64));
            }
        }
    }
}

fn all_turns() -> impl Iterator<Item = Turns> {
    let pieces = [100, 1000, 4096].into_iter();
    pieces.flat_map(|piece| [1, 4, 64].map(|burst| Turns { piece, burst }))
}

/// Runs `pass` over a new buffer, and checks how much more than `asked` bytes, and in how many calls, it
/// moves to and from the store.
fn check(what: &str, turns: Turns, asked: u64, mut pass: impl FnMut(&mut SpillBuffer)) {
    for memory in [256 << 10, 1 << 20] {
        let pool = SpillPool::builder().memory(memory).store(MemoryStore::new()).build().unwrap();
        let mut buffer = spilled(&pool);
        let before = pool.stats().io;
        pass(&mut buffer);
        let io = pool.stats().io.since(&before);
        let (moved, calls) = (io.read_bytes + io.written_bytes, io.reads + io.writes);
        assert!(moved * 2 <= asked * 5, "{what}, {turns:?} in {memory}: {moved} bytes for {asked}");
        // A page has 16 KiB in the smaller pool.
        let most = 2 * LEN / (16 << 10) + asked / 4000;
        assert!(calls <= most, "{what}, {turns:?} in {memory}: {calls} calls, not {most}");
        buffer.check_invariants();
    }
}

/// Each took the frame in which the other stood: with an operation of one pass outside the window, the next
/// one there looked like a pass whose window the other's was. A merge of two runs by 1,000 bytes read 18
/// bytes for each, and by 100 bytes in 256 KiB it read 49.
#[test]
fn two_passes_in_turn_keep_their_frames() {
    for turns in all_turns() {
        let mut piece = vec![0; turns.piece];
        check("merge", turns, LEN, |buffer| {
            turns.run(|half, at| {
                let offset = half * HALF + at;
                buffer.read_exact_at(&mut piece, offset).unwrap();
                assert!((offset..).zip(&piece).all(|(offset, byte)| *byte == byte_at(offset)), "{offset}");
            });
        });
        check("copy within", turns, 2 * LEN, |buffer| {
            turns.run(|half, at| match half {
                0 => buffer.read_exact_at(&mut piece, at).unwrap(),
                _ => buffer.write_all_at(&piece, HALF + at).unwrap(),
            });
        });
        check("overwrite", turns, 2 * LEN, |buffer| {
            turns.run(|half, at| buffer.write_all_at(&piece, half * HALF + at).unwrap());
        });
    }
}

/// A buffer as a queue: the reads between the appends got no frame, so each was a call of the store.
#[test]
fn reads_between_appends_have_a_frame() {
    for piece in [100, 1000] {
        let turns = Turns { piece, burst: 1 };
        let mut read = vec![0; piece];
        check("queue", turns, LEN, |buffer| {
            turns.run(|half, at| match half {
                0 => buffer.read_exact_at(&mut read, at).unwrap(),
                _ => buffer.write_all_at(&read, LEN + at).unwrap(),
            });
        });
    }
}

/// What goes past the frame for a while was counted by what was asked for: with checksums, of which each
/// piece takes a whole block, a scan from anywhere read 38 bytes for one.
#[test]
fn what_goes_past_a_frame_counts_as_what_it_moves() {
    let page = 64 << 10;
    let builder = SpillPool::builder().memory(page).page_size(page).checksums(Checksums::On);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let (mut buffer, mut random, mut piece) = (spilled(&pool), Random::new(5), [0; 100]);
    let before = pool.stats().io;
    for _ in 0..200 {
        let from = random.below(LEN - 10_000);
        for at in (from..).step_by(100).take(100) {
            buffer.read_exact_at(&mut piece, at).unwrap();
            assert_eq!((piece[0], piece[99]), (byte_at(at), byte_at(at + 99)));
        }
    }
    let moved = pool.stats().io.since(&before).read_bytes;
    assert!(moved <= 12 * 200 * 10_000, "{moved} bytes for {}", 200 * 10_000);
}

/// In a pool of a single frame each piece of one pass loaded its page into it, and the next of the other did
/// so again: 3,500 bytes for each, by 100 of them in a page of 1 MiB.
#[test]
fn two_passes_that_have_one_frame_share_it() {
    let page = 1 << 20;
    for turns in all_turns() {
        let pool =
            SpillPool::builder().memory(page).page_size(page).store(MemoryStore::new()).build().unwrap();
        let mut buffer = spilled(&pool);
        let mut piece = vec![0; turns.piece];
        let before = pool.stats().io;
        turns.run(|half, at| buffer.read_exact_at(&mut piece, half * HALF + at).unwrap());
        let moved = pool.stats().io.since(&before).read_bytes;
        // A quarter of a page goes past the frame, and then it is loaded for the other half.
        assert!(moved <= LEN * 7 / 2, "merge, {turns:?}: {moved} bytes for {LEN}");
        let before = pool.stats().io;
        turns.run(|half, at| match half {
            0 => buffer.read_exact_at(&mut piece, at).unwrap(),
            _ => buffer.write_all_at(&piece, HALF + at).unwrap(),
        });
        let io = pool.stats().io.since(&before);
        let moved = io.read_bytes + io.written_bytes;
        assert!(moved <= LEN * 9 / 2, "copy within, {turns:?}: {moved} bytes for {LEN}");
        buffer.check_invariants();
    }
}
