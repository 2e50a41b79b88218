//! Which pieces are handed out, what stays resident, and who waits for a lock.

use super::*;
use crate::memory::pieces::CHUNK;
use crate::memory::system::heap::Heap;
use std::collections::BTreeMap;

const LEN: usize = 64 << 10;
const WARM: usize = 6 << 20;

fn chunks() -> Chunks<Heap> {
    Chunks::new(Heap::default())
}

fn allocate(chunks: &Chunks<Heap>, len: usize) -> Piece {
    chunks.allocate(len).unwrap()
}

fn free(chunks: &Chunks<Heap>, pieces: impl IntoIterator<Item = Piece>) {
    // SAFETY: the pieces are from these chunks, and no test uses their bytes.
    pieces.into_iter().for_each(|piece| unsafe { chunks.free(piece) });
}

/// In a forked process each lock that was taken for some milliseconds counted as lost, and all memory of
/// chunks with it, though a thread of that process had it.
#[test]
fn a_lock_that_this_process_has_had_is_waited_for() {
    let chunks = chunks();
    chunks.process.store(current_process() + 1, Ordering::Relaxed); // as if that had taken locks before it was forked
    let piece = allocate(&chunks, LEN);
    let held = chunks.enter(LEN).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| allocate(&chunks, LEN));
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(held);
        free(&chunks, [piece, other.join().unwrap()]);
    });
    assert!(!chunks.lost.load(Ordering::Relaxed));
}

#[test]
fn pieces_of_one_chunk_lie_side_by_side_and_a_chunk_is_used_up_first() {
    let chunks = chunks();
    let pieces: Vec<_> = (0..CHUNK / LEN).map(|_| allocate(&chunks, LEN)).collect();
    let first = pieces[0].at().addr().get();
    let expected: Vec<_> = (0..pieces.len()).map(|i| first + i * LEN).collect();
    assert_eq!(pieces.iter().map(|piece| piece.at().addr().get()).collect::<Vec<_>>(), expected);
    assert_eq!(chunks.source.mapped(), CHUNK);
    let other = allocate(&chunks, LEN);
    let longer = allocate(&chunks, 2 * LEN);
    assert_eq!(chunks.source.mapped(), 3 * CHUNK, "each length has chunks of its own");
    free(&chunks, pieces.into_iter().chain([other, longer]));
}

#[test]
fn freed_pieces_stay_warm_up_to_the_bound_and_the_last_freed_comes_first() {
    let chunks = chunks();
    let pieces: Vec<_> = (0..=WARM / LEN).map(|_| allocate(&chunks, LEN)).collect();
    let at: Vec<_> = pieces.iter().map(|piece| piece.at()).collect();
    free(&chunks, pieces);
    assert_eq!(chunks.warm_bytes(), WARM as u64);
    assert_eq!(chunks.source.released(), [(at[at.len() - 1], LEN)], "there was no room for one more");
    assert_eq!(allocate(&chunks, LEN).at(), at[at.len() - 2]);
    assert_eq!(chunks.warm_bytes(), WARM as u64 - LEN as u64);
}

/// Pages that outgrow their frames need longer ones, and what they leave behind is of no use to them.
#[test]
fn what_is_warm_makes_way_for_other_lengths() {
    let chunks = chunks();
    let short: Vec<_> = (0..WARM / LEN).map(|_| allocate(&chunks, LEN)).collect();
    free(&chunks, short);
    let long: Vec<_> = (0..WARM / LEN).map(|_| allocate(&chunks, 2 * LEN)).collect();
    assert_eq!(chunks.warm_bytes(), WARM as u64 / 2);
    assert_eq!(chunks.source.resident(), 2 * WARM + WARM / 2);
    free(&chunks, [allocate(&chunks, LEN)]);
    assert_eq!(chunks.warm_bytes(), WARM as u64 / 2, "its own length is there");
    free(&chunks, long);
}

#[test]
fn trim_leaves_nothing_but_what_is_used() {
    let chunks = chunks();
    let pieces: Vec<_> = (0..200).map(|i| allocate(&chunks, LEN << (i % 3))).collect();
    let (kept, freed): (Vec<_>, Vec<_>) =
        pieces.into_iter().partition(|piece| piece.at().addr().get() % 7 == 0);
    let used = kept.len();
    free(&chunks, freed);
    chunks.trim();
    assert_eq!(chunks.warm_bytes(), 0);
    assert!(chunks.source.mapped() <= used * CHUNK);
    free(&chunks, kept);
    chunks.trim();
    assert_eq!((chunks.warm_bytes(), chunks.source.mapped()), (0, 0));
    free(&chunks, [allocate(&chunks, LEN)]);
    assert_eq!(chunks.source.mapped(), CHUNK, "and all goes on");
}

#[test]
fn the_longest_pieces_have_a_chunk_each() {
    let chunks = chunks();
    let pieces: Vec<_> = (0..3).map(|_| allocate(&chunks, PAGE_SIZE_MAX)).collect();
    assert_eq!(chunks.source.mapped(), 3 * PAGE_SIZE_MAX);
    free(&chunks, pieces);
    assert_eq!((chunks.source.mapped(), chunks.warm_bytes()), (PAGE_SIZE_MAX, 0), "one stays, cold");
    for len in [2 * PAGE_SIZE_MAX, PIECE_MIN / 2, PIECE_MIN + 1] {
        assert_eq!(chunks.allocate(len).err(), Some(NoPiece::Never));
    }
}

#[test]
fn a_refusal_is_no_piece_and_changes_nothing() {
    let chunks = chunks();
    let one = allocate(&chunks, LEN);
    chunks.source.refuse(true);
    assert_eq!(chunks.allocate(2 * LEN).err(), Some(NoPiece::Refused));
    let others: Vec<_> = std::iter::from_fn(|| chunks.allocate(LEN).ok()).collect();
    assert_eq!(others.len(), CHUNK / LEN - 1, "what is mapped is there");
    chunks.source.refuse(false);
    free(&chunks, others.into_iter().chain([one, allocate(&chunks, 2 * LEN)]));
}

/// Random allocations and frees beside a plain account of what is used.
#[test]
fn no_piece_is_handed_out_twice() {
    let (chunks, mut random) = (chunks(), 7_u64);
    let mut used: BTreeMap<usize, Piece> = BTreeMap::new();
    for step in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = usize::try_from(random >> 33).unwrap();
        let grows = if step % 4000 < 2000 { 60 } else { 40 };
        if dice % 100 < grows {
            let piece = allocate(&chunks, PIECE_MIN << (dice / 100 % 6));
            let (at, end) = (piece.at().addr().get(), piece.at().addr().get() + piece.len());
            let before = used.range(..end).next_back().map_or(0, |(at, piece)| at + piece.len());
            assert!(before <= at, "{at:x} overlaps what ends at {before:x}");
            used.insert(at, piece);
        } else if let Some(at) = used.keys().nth(dice / 100 % used.len().max(1)).copied() {
            free(&chunks, used.remove(&at));
        }
        if dice % 1000 == 0 {
            chunks.trim();
        }
        let bytes: usize = used.values().map(Piece::len).sum();
        assert!(chunks.source.resident() <= bytes + WARM, "step {step}");
    }
    free(&chunks, std::mem::take(&mut used).into_values());
    chunks.trim();
    assert_eq!(chunks.source.mapped(), 0);
}
