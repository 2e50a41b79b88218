use super::*;

const PARTS: u32 = Mask::BITS;
const CUT: u64 = PART * PARTS as u64;
const BLOCK: u64 = PART * BLOCK_PARTS as u64;

/// Cuts the slot at `offset`, and allocates its first `len` bytes.
fn cut(parts: &mut Parts, offset: u64, len: u64) {
    assert!(parts.cut(offset, false));
    assert_eq!(parts.allocate(len), Some(offset));
}

fn next(random: &mut u64) -> u32 {
    *random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    u32::try_from(*random >> 33).unwrap()
}

#[test]
fn the_longest_run_is_that_of_the_bits() {
    let mut random = 1;
    for round in 0..20_000 {
        let [a, b, c] = [(); 3].map(|()| u128::from(next(&mut random)) << (next(&mut random) % 97));
        let free = [a, a | b, (a | b) << 7 | c, !a, !(a & b), !(1 << (c % 128))][round % 6];
        let expected = format!("{free:b}").split('0').map(str::len).max();
        assert_eq!(Some(longest_run(free) as usize), expected, "{free:b}");
    }
    assert_eq!([0, 1, Mask::MAX, Mask::MAX >> 1].map(longest_run), [0, 1, 128, 127]);
}

#[test]
fn a_block_has_so_many_parts() {
    assert_eq!(BLOCK, crate::disk::slots::BLOCK);
}

#[test]
fn a_slot_goes_where_it_fits_best() {
    const REST: u64 = PARTS as u64 - 8; // so that eight parts of a cut slot are left
    let mut parts = Parts::new(64 << 10);
    assert!(parts.charge(PART).is_none() && parts.allocate(PART).is_none(), "no slot is cut");
    for (offset, taken) in [(0, REST + 5), (CUT, REST + 2)] {
        assert!(parts.cut(offset, false));
        for first in (0..taken).step_by(31) {
            let len = PART * 31.min(taken - first);
            // By number of free parts, so that the second is not taken from the first.
            assert_eq!(parts.allocate(len), Some(offset + first * PART));
        }
    }
    let has_room = |parts: &Parts, count| parts.charge(count * PART).is_some();
    assert_eq!((parts.free_bytes(), has_room(&parts, 6), has_room(&parts, 7)), (9 * PART, true, false));
    assert_eq!(parts.allocate(3 * PART), Some((REST + 5) * PART), "all that the first has");
    assert_eq!(parts.allocate(PART), Some(CUT + (REST + 2) * PART));
    parts.free(PART, PART);
    parts.free(3 * PART, 2 * PART);
    assert_eq!(parts.allocate(PART), Some(PART), "between two that are in use");
    assert_eq!(parts.allocate(6 * PART), None);
    parts.free(0, 3 * PART);
    let freed = parts.free(5 * PART, (REST + 3) * PART);
    assert_eq!(freed, Freed { unused: CUT, whole: Some(Whole { offset: 0, is_warm: true }) });
    assert_eq!(parts.free_bytes(), 5 * PART);
}

#[test]
fn a_block_is_in_use_while_a_slot_has_a_part_of_it() {
    let mut parts = Parts::new(64 << 10);
    cut(&mut parts, 3 * CUT, BLOCK - 2 * PART);
    assert_eq!((parts.charge(2 * PART), parts.charge(3 * PART)), (Some(0), Some(BLOCK)));
    assert_eq!(parts.allocate(3 * PART), Some(3 * CUT + BLOCK - 2 * PART), "across the end of a block");
    assert_eq!((parts.free_bytes(), parts.warm_bytes()), (BLOCK - PART, 0));
    let freed = parts.free(3 * CUT + BLOCK - 2 * PART, 3 * PART);
    assert_eq!(freed, Freed { unused: BLOCK, whole: None });
    assert_eq!((parts.free_bytes(), parts.warm_bytes()), (2 * PART, BLOCK), "the second block is warm");
    assert_eq!(parts.allocate(3 * PART), Some(3 * CUT + BLOCK - 2 * PART));
    assert_eq!(parts.warm_bytes(), 0);
    parts.free(3 * CUT + BLOCK - 2 * PART, 3 * PART);
    let whole = Some(Whole { offset: 3 * CUT, is_warm: true });
    assert_eq!(parts.free(3 * CUT, BLOCK - 2 * PART), Freed { unused: BLOCK, whole });
    assert_eq!((parts.free_bytes(), parts.warm_bytes()), (0, 0));
}

/// A longer or equal run of a block that is not in use was taken before one that is, and refused where the
/// disk limit was reached.
#[test]
fn a_slot_goes_to_blocks_in_use_first() {
    const BODY: u64 = BLOCK / 2;
    let mut parts = Parts::new(64 << 10);
    for offset in [0, CUT] {
        assert!(parts.cut(offset, false));
        (0..CUT / BODY).for_each(|n| assert_eq!(parts.allocate(BODY), Some(offset + n * BODY)));
    }
    for offset in [2 * BODY, 3 * BODY, CUT + BODY, CUT + 2 * BODY] {
        parts.free(offset, BODY);
    }
    assert_eq!((parts.warm_bytes(), parts.free_bytes()), (BLOCK, BLOCK));
    for n in [1, 2] {
        assert_eq!((parts.charge(BODY), parts.allocate(BODY)), (Some(0), Some(CUT + n * BODY)));
    }
    assert_eq!((parts.charge(BODY), parts.allocate(BODY)), (Some(BLOCK), Some(2 * BODY)));
}

#[test]
fn blocks_that_are_being_discarded_are_not_allocated() {
    for done in [false, true] {
        let mut parts = Parts::new(64 << 10);
        assert!(parts.cut(0, true));
        assert_eq!((parts.charge(PART), parts.allocate(PART)), (Some(BLOCK), Some(0)));
        assert_eq!(parts.start_discard(), Some((BLOCK, CUT - BLOCK)));
        assert_eq!((parts.start_discard(), parts.warm_bytes()), (None, 0));
        assert_eq!(parts.allocate(BLOCK - PART), Some(PART));
        assert_eq!(parts.allocate(PART), None);
        assert_eq!(parts.free(0, PART), Freed::default());
        let freed = Freed { unused: BLOCK, whole: None };
        assert_eq!(parts.free(PART, BLOCK - PART), freed, "some of it is being discarded");
        assert_eq!(parts.start_discard(), Some((0, BLOCK)));
        assert_eq!(parts.finish_discard(0, BLOCK, true), None);
        let whole = Whole { offset: 0, is_warm: !done };
        assert_eq!(parts.finish_discard(BLOCK, CUT - BLOCK, done), Some(whole));
        assert_eq!((parts.warm_bytes(), parts.cuts.len()), (0, 0));
    }
}

#[test]
fn parts_never_overlap_and_a_slot_is_whole_when_its_last_is_freed() {
    for page in [BLOCK, 2 * BLOCK, 64 << 10] {
        Checked::new(page).check();
    }
}

/// Some slots that may be cut, and what is known of them.
struct Checked {
    parts: Parts,
    whole: Vec<u64>,
    slots: Vec<(u64, u64)>,
    discarding: Vec<(u64, u64)>,
    used: u64,
    random: u64,
}

impl Checked {
    const CUTS: u64 = 40;

    fn new(page: u64) -> Self {
        let (parts, whole) = (Parts::new(page), (0..Checked::CUTS).rev().collect());
        assert_eq!(parts.cut_bytes(), page.min(CUT));
        Checked { parts, whole, slots: vec![], discarding: vec![], used: 0, random: 1 }
    }

    fn take_back(&mut self, whole: Option<Whole>) {
        self.whole.extend(whole.map(|whole| whole.offset / self.parts.cut_bytes()));
    }

    fn free(&mut self, number: usize) {
        let (offset, len) = self.slots.swap_remove(number);
        let freed = self.parts.free(offset, len);
        self.used -= freed.unused;
        self.take_back(freed.whole);
    }

    fn end_discards(&mut self) {
        for (offset, len) in std::mem::take(&mut self.discarding) {
            let done = next(&mut self.random).is_multiple_of(2);
            let whole = self.parts.finish_discard(offset, len, done);
            self.take_back(whole);
        }
    }

    fn allocate(&mut self) {
        let len = bytes(next(&mut self.random) % (BLOCK_PARTS - 1) + 1);
        let charge = self.parts.charge(len);
        let found = self.parts.allocate(len);
        assert_eq!(found.is_some(), charge.is_some());
        self.used += charge.unwrap_or(0);
        if let Some(offset) = found {
            self.slots.push((offset, len));
        } else if let Some(place) = self.whole.pop() {
            assert!(self.parts.cut(place * self.parts.cut_bytes(), next(&mut self.random).is_multiple_of(2)));
            self.used += self.parts.charge(len).unwrap();
            self.slots.push((self.parts.allocate(len).unwrap(), len));
        } else {
            for _ in 0..self.slots.len() / 2 {
                let number = next(&mut self.random) as usize % self.slots.len();
                self.free(number);
            }
        }
    }

    fn check(mut self) {
        for round in 0..20_000 {
            self.allocate();
            if round % 7 == 0 {
                self.discarding.extend(self.parts.start_discard());
            }
            if round % 64 > 0 {
                continue;
            }
            let mut taken = [&self.slots[..], &self.discarding].concat();
            taken.sort_unstable();
            assert!(taken.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
            let held = self.slots.iter().map(|slot| slot.1).sum::<u64>();
            assert_eq!(
                self.parts.free_bytes() + held,
                self.used,
                "each part of a block in use is free or a slot's"
            );
            let discarding = self.discarding.iter().map(|blocks| blocks.1).sum::<u64>();
            assert!(self.parts.warm_bytes() + discarding <= self.parts.unused_bytes());
            self.end_discards();
        }
        self.end_discards();
        (0..self.slots.len()).rev().for_each(|number| self.free(number));
        let parts = self.parts;
        assert_eq!((self.whole.len() as u64, self.used), (Checked::CUTS, 0));
        assert_eq!(
            (parts.free_bytes(), parts.warm_bytes(), parts.runs.some, parts.runs_in_use.some),
            (0, 0, 0, 0)
        );
        assert_eq!((parts.cuts.capacity(), parts.numbers.is_empty()), (0, true));
        assert_eq!((parts.runs_warm.some, parts.runs.links.capacity()), (0, 0));
    }
}
