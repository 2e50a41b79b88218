//! Which pieces are handed out to whom, and what stays resident.

use super::*;
use crate::memory::pieces::CHUNK;
use crate::memory::system::heap::Heap;
use crate::sync::in_thread_with;
use std::collections::BTreeMap;

const LEN: usize = 64 << 10;

/// What one thread keeps warm.
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
    assert_eq!(allocate(&chunks, LEN).at(), at[WARM / 2 / LEN - 1], "the last in this thread's arena");
    assert_eq!(chunks.warm_bytes(), WARM as u64 - LEN as u64);
}

#[test]
fn all_threads_together_keep_twelve_mebibytes_warm() {
    let chunks = chunks();
    let six_mebibytes = || -> Vec<_> { (0..=WARM / LEN).map(|_| allocate(&chunks, LEN)).collect() };
    let pieces =
        (0..ARENAS).flat_map(|arena| in_thread_with(&|number| number % ARENAS == arena, six_mebibytes));
    let pieces: Vec<_> = pieces.collect();
    free(&chunks, pieces);
    assert_eq!(chunks.warm_bytes(), 12 << 20);
    chunks.trim();
    assert_eq!((chunks.warm_bytes(), chunks.source.mapped()), (0, 0));
}

/// A piece that a thread with another arena has allocated.
fn of_another_arena(chunks: &Chunks<Heap>) -> Piece {
    let mine = thread_number() % ARENAS;
    in_thread_with(&|number| number % ARENAS != mine, || allocate(chunks, LEN))
}

/// Pieces of two threads lay in turn in one chunk, and each thread took what the other had freed: with two
/// threads a buffer of 3 MB took three times as long to write as with one.
#[test]
fn threads_have_chunks_of_their_own_and_a_piece_goes_back_to_where_it_came_from() {
    let chunks = chunks();
    let other = of_another_arena(&chunks);
    let (arena, at) = (other.arena(), other.at());
    let mine = allocate(&chunks, LEN);
    assert!(mine.at().addr().get().abs_diff(at.addr().get()) >= CHUNK, "in one chunk");
    free(&chunks, [other]);
    assert_eq!(chunks.arenas[arena].warm.bytes(), LEN as u64);
    assert_eq!(allocate(&chunks, LEN).at(), at, "what is warm elsewhere is taken before what is cold");
    chunks.source.refuse(true);
    let others = (0..CHUNK / LEN - 1 + CHUNK / LEN - 1).map(|_| allocate(&chunks, LEN).arena());
    assert_eq!(others.filter(|other| *other == arena).count(), CHUNK / LEN - 1, "rather than none");
}

#[test]
fn a_process_that_has_lost_an_arena_does_with_the_others() {
    let mut chunks = chunks();
    let mine = thread_number() % ARENAS;
    let kept = allocate(&chunks, LEN);
    free(&chunks, [allocate(&chunks, LEN)]);
    chunks.arenas[mine].classes = std::array::from_fn(|_| Lock::lost(Class::new()));
    chunks.arenas[mine].warm = Warm::lost();
    let pieces = [(); 2].map(|()| allocate(&chunks, LEN));
    assert!(pieces.iter().all(|piece| piece.arena() != mine));
    free(&chunks, pieces.into_iter().chain([kept]));
    chunks.trim();
    assert_eq!((chunks.warm_bytes(), chunks.source.resident()), (0, LEN), "one piece is lost");

    chunks.arenas.iter_mut().for_each(|arena| {
        arena.classes = std::array::from_fn(|_| Lock::lost(Class::new()));
    });
    assert_eq!(chunks.allocate(LEN).err(), Some(NoPiece::Never));
}

/// Pages that outgrow their frames need longer ones, and what they leave behind is of no use to them.
#[test]
fn what_is_warm_makes_way_for_other_lengths() {
    let chunks = chunks();
    let short: Vec<_> = (0..WARM / LEN).map(|_| allocate(&chunks, LEN)).collect();
    free(&chunks, short);
    let long: Vec<_> = (0..WARM / LEN).map(|_| allocate(&chunks, 2 * LEN)).collect();
    assert_eq!(chunks.warm_bytes(), WARM_WITH_OTHERS_MAX);
    assert_eq!(chunks.source.resident() as u64, 2 * WARM as u64 + WARM_WITH_OTHERS_MAX);
    free(&chunks, [allocate(&chunks, LEN)]);
    assert_eq!(chunks.warm_bytes(), WARM_WITH_OTHERS_MAX, "its own length is there");
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

/// An empty chunk of each length stays mapped. Where the process may have no more addresses, these were in
/// the way of all other lengths: 31 of 32 MiB went to the disk beside 64 that were mapped and free.
#[test]
fn what_is_free_makes_way_where_addresses_are_short() {
    let chunks = chunks();
    let long = allocate(&chunks, PAGE_SIZE_MAX);
    let short = allocate(&chunks, LEN);
    chunks.source.refuse_beyond(chunks.source.mapped());
    free(&chunks, [long]);
    let pieces: Vec<_> = (0..2 * CHUNK / LEN).map(|_| allocate(&chunks, LEN)).collect();
    free(&chunks, pieces.into_iter().chain([short]));
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
