use super::*;

/// Every free byte of slots that are not cut, as a list of parts.
fn free_parts(slots: &Slots) -> Vec<u64> {
    let mut parts = Vec::new();
    for free in &slots.free {
        for number in free.warm.iter().chain(free.cold.iter()) {
            let offset = number as u64 * free.slot;
            parts.extend((offset..offset + free.slot).step_by(128));
        }
    }
    parts
}

#[test]
fn slots_never_overlap_and_all_merge_when_freed() {
    let mut slots = Slots::new(64 << 10);
    let mut allocated: Vec<Slot> = Vec::new();
    let mut seed = 1u64;
    let mut used = 0;
    for round in 0..4000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let pick = (seed >> 33) as usize;
        if round % 3 == 2 && !allocated.is_empty() {
            used -= slots.free(allocated.swap_remove(pick % allocated.len()));
        } else {
            let bytes = if round % 2 == 0 { pick % (70 << 10) } else { pick % 5000 };
            let len = slots.class(bytes, if round % 5 == 0 { Fit::Blocks } else { Fit::Parts });
            assert!(len >= bytes.min(64 << 10) as u64);
            used += slots.charge(len);
            allocated.push(slots.allocate(len).unwrap());
        }
        let held: u64 = allocated.iter().map(|slot| slot.len()).sum();
        assert_eq!(used, held + slots.free_parts(), "what is charged is in use, or a part beside what is");
        if round % 97 == 0 {
            let discarding = slots.start_discard(u64::MAX);
            slots.finish_discard(discarding, true);
            assert_eq!(slots.warm_bytes(), 0);
        }
        if round % 50 != 0 {
            continue;
        }
        let mut parts = free_parts(&slots);
        let free = parts.len() as u64 * PART;
        for slot in &allocated {
            parts.extend((slot.offset..slot.offset + slot.len()).step_by(128));
        }
        let all = parts.len();
        parts.sort_unstable();
        parts.dedup();
        assert_eq!(parts.len(), all, "each part is free or allocated, once");
        assert_eq!(free + used + slots.parts.unused_bytes(), slots.end());
    }
    assert!(slots.free_parts() > 0);
    allocated.drain(..).for_each(|slot| used -= slots.free(slot));
    assert_eq!((used, slots.free_parts()), (0, 0));
    assert_eq!(slots.cut_free_tail(u64::MAX), Some(0));
    assert_eq!((slots.end(), slots.warm_bytes()), (0, 0));
}

#[test]
fn a_page_at_rest_takes_no_more_parts_than_it_needs() {
    let len = |bytes, page| slot_bytes(bytes, page, Fit::Parts);
    let lens = [1, 128, 129, 600, 3000, 3968, 3969, 4097].map(|bytes| len(bytes, 64 << 10));
    assert_eq!(lens, [128, 128, 256, 640, 3072, 3968, 4096, 8192]);
    assert_eq!((len(600, 4096), len(600, 2048)), (640, 2048));
    assert_eq!(
        (len(100, 2048), slot_bytes(600, 64 << 10, Fit::Blocks)),
        (2048, 4096),
        "pages below a block are not cut"
    );
}

#[test]
fn slots_allocated_one_after_another_lie_one_after_another() {
    let mut slots = Slots::new(8);
    let offsets: Vec<u64> = (0..5).map(|_| slots.allocate(8).unwrap().offset).collect();
    assert_eq!(offsets, [0, 8, 16, 24, 32]);
}

#[test]
fn a_slot_at_an_offset_is_available_if_it_is_free_or_at_the_end() {
    let mut slots = Slots::new(4096);
    assert_eq!(slots.allocate_at(4096), None, "the gap before it would be lost");
    let a = slots.allocate_at(0).unwrap();
    let b = slots.allocate_at(4096).unwrap();
    assert_eq!(slots.allocate_at(4096), None);
    slots.free(a);
    assert_eq!(slots.allocate_at(8192), None, "a free slot is used before the file grows");
    assert_eq!(slots.allocate_at(0), Some(a));
    slots.free(a);
    slots.free(b);
    assert_eq!((slots.warm_bytes(), slots.cut_free_tail(u64::MAX)), (8192, Some(0)));
}

#[test]
fn slots_that_are_being_discarded_are_not_allocated() {
    let mut slots = Slots::new(4096);
    let [a, b, c] = [0; 3].map(|_| slots.allocate(4096).unwrap());
    slots.free(a);
    slots.free(b);
    let discarding = slots.start_discard(u64::MAX);
    assert_eq!(discarding.extents, [(0, 8192)]);
    assert_eq!(slots.allocate(4096).unwrap().offset, 3 * 4096);
    slots.finish_discard(discarding, true);
    assert_eq!(slots.allocate(4096).unwrap(), a);
    slots.free(c);
    assert_eq!(slots.allocate(4096).unwrap(), c, "warm before cold");
}

#[test]
fn warm_slots_of_any_length_come_before_cold_ones() {
    let mut slots = Slots::new(16 << 10);
    let [cold, long, kept] = [4096, 8192, 4096].map(|len| slots.allocate(len).unwrap());
    assert_eq!((cold.offset, long.offset, kept.offset), (0, 8192, 4096));
    slots.free(cold);
    let discarding = slots.start_discard(u64::MAX);
    slots.finish_discard(discarding, true);
    slots.free(long);
    assert_eq!(slots.warm_bytes(), 8192);
    assert_eq!(slots.allocate(4096).unwrap().offset, 8192, "half of the warm one, though a cold one fits");
    assert_eq!(slots.warm_bytes(), 4096);
    assert_eq!(slots.cut_free_tail(u64::MAX), None, "a slot is in use at the end");
}

#[test]
fn slots_that_touch_are_discarded_as_one_extent() {
    let mut slots = Slots::new(4096);
    let allocated: Vec<Slot> = (0..7).map(|_| slots.allocate(4096).unwrap()).collect();
    for n in [0, 1, 3, 5] {
        slots.free(allocated[n]);
    }
    let discarding = slots.start_discard(u64::MAX);
    assert_eq!(discarding.extents, [(0, 8192), (3 * 4096, 4096), (5 * 4096, 4096)]);
    slots.finish_discard(discarding, true);
    assert_eq!((slots.warm_bytes(), slots.cut_free_tail(u64::MAX)), (0, None));
    // The last two pages are free now, one warm and one cold; two that are not at the end stay.
    slots.free(allocated[6]);
    slots.free(allocated[4]);
    assert_eq!(slots.warm_bytes(), 2 * 4096);
    assert_eq!(slots.cut_free_tail(u64::MAX), Some(3 * 4096));
    assert_eq!((slots.warm_bytes(), slots.end()), (0, 3 * 4096));
    slots.free(allocated[2]);
    assert_eq!((slots.warm_bytes(), slots.cut_free_tail(u64::MAX)), (4096, Some(0)));
}

#[test]
fn a_merged_slot_that_is_half_warm_counts_as_warm() {
    let mut slots = Slots::new(8192);
    let [low, high] = [4096; 2].map(|len| slots.allocate(len).unwrap());
    slots.free(low);
    let discarding = slots.start_discard(u64::MAX);
    slots.finish_discard(discarding, true);
    slots.free(high);
    assert_eq!(slots.warm_bytes(), 8192);
    let [low, high] = [4096; 2].map(|len| slots.allocate(len).unwrap());
    slots.free(high);
    let discarding = slots.start_discard(u64::MAX);
    slots.finish_discard(discarding, true);
    slots.free(low);
    assert_eq!((slots.warm_bytes(), slots.cut_free_tail(u64::MAX), slots.warm_bytes()), (8192, Some(0), 0));
}
