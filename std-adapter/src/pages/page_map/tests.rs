//! Does the page map do what a `BTreeMap` of pages does?

use super::*;
use crate::memory::frame_pool::FramePool;
use std::collections::BTreeMap;

fn spilled(mark: u64) -> Page {
    Page::Spilled { slot: Slot::new(mark, 1), end: 1 }
}

fn mark(page: Page) -> Option<u64> {
    match page {
        Page::Spilled { slot, .. } => Some(slot.offset),
        Page::Resident(resident) => Some(mark_of_bytes(resident.content())),
        Page::Hole | Page::InTransit(_) | Page::Shared(_) => None,
    }
}

fn mark_of(view: View<'_>) -> u64 {
    match view {
        View::Spilled { slot, .. } => slot.offset,
        View::Resident(resident) => mark_of_bytes(resident.content()),
        View::InTransit(_) | View::Shared(_) => unreachable!("no page is in transit or shared"),
    }
}

fn resident(frames: &FramePool) -> Page {
    marked(frames, 0)
}

fn marked(frames: &FramePool, mark: u64) -> Page {
    let mut page = Resident::fresh(frames.acquire(8).unwrap());
    page.write(0, &mark.to_le_bytes());
    Page::Resident(page)
}

fn mark_of_bytes(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a mark of 8 bytes"))
}

/// Indices around the ends of leaves, of the first and the last leaf too.
const PLACES: [u64; 14] =
    [0, 1, 7, 254, 255, 256, 257, 511, 512, 600, 70_000, u64::MAX - 256, u64::MAX - 255, u64::MAX];

#[test]
fn a_page_map_agrees_with_a_btree_map() {
    let frames = FramePool::new(1 << 20, 8);
    let (mut map, mut model) = (PageMap::default(), BTreeMap::new());
    let mut seed = 7_u64;
    for round in 1..2000_u32 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let place = PLACES[(seed >> 33) as usize % PLACES.len()];
        match seed >> 60 {
            0 => {
                let (mut removed, mut cut_off) = (Vec::new(), CutOff::default());
                while let Some(page) = map.cut_last(place, &mut cut_off) {
                    removed.push(mark(page).expect("a hole was returned"));
                }
                removed.extend(cut_off.slots.iter().map(|slot| slot.offset));
                removed.extend(cut_off.frames.iter().map(|frame| mark_of_bytes(frame.bytes())));
                removed.sort_unstable();
                let mut cut: Vec<u64> = model.split_off(&place).into_values().collect();
                cut.sort_unstable();
                assert_eq!(removed, cut, "{place} in round {round}");
            }
            1 if !model.contains_key(&PLACES[0]) && place != PLACES[0] => {
                let is_resident = map.resident_mut(place).is_some();
                let Page::Resident(mut page) = marked(&frames, u64::from(round)) else { unreachable!() };
                let is_reserved = round % 2 == 0 && map.reserve_entry(PLACES[0]);
                let is_exchanged = map.exchange(place, PLACES[0], &mut page);
                assert!(!is_exchanged || is_resident, "{place} in round {round}");
                assert!(is_exchanged || !is_resident || !is_reserved, "{place} in round {round}");
                if is_exchanged {
                    let before = model.remove(&place);
                    assert_eq!(Some(mark_of_bytes(page.content())), before, "{place} in round {round}");
                    model.insert(PLACES[0], u64::from(round));
                }
            }
            kind => {
                assert_eq!(mark(map.take(place)), model.remove(&place), "{place} in round {round}");
                if kind > 4 {
                    let page = if kind % 2 == 0 {
                        spilled(u64::from(round))
                    } else {
                        marked(&frames, u64::from(round))
                    };
                    map.put(place, page);
                    model.insert(place, u64::from(round));
                }
            }
        }
        for from in PLACES {
            assert_eq!(map.page(from).map(mark_of), model.get(&from).copied());
            let resident = map.resident_mut(from).map(|page| mark_of_bytes(page.content()));
            assert!(resident.is_none() || resident == model.get(&from).copied(), "{from} in round {round}");
            let pages = map.pages(from).map(|(index, view)| (index, mark_of(view)));
            assert!(
                pages.eq(model.range(from..).map(|(&index, &mark)| (index, mark))),
                "from {from} in round {round}"
            );
        }
        assert!(!map.is_empty() || model.is_empty());
    }
    while map.cut_last(0, &mut CutOff::default()).is_some() {}
    assert!(map.is_empty() && map.page(0).is_none() && map.resident_mut(0).is_none());
    assert_eq!((map.touch(0), map.coldest(None, |_| true)), (0, None));
}

/// Room for the entries of a few pages was freed with each body, and allocated anew for the next one.
#[test]
fn the_room_of_few_pages_waits_for_another_buffer_without_their_heat() {
    let frames = FramePool::new(1 << 20, 8);
    for (pages, is_kept) in [(1, true), (PAGES_KEPT as u64, true), (PAGES_KEPT as u64 + 1, false)] {
        let mut map = PageMap::default();
        for index in 0..pages {
            map.put(index, marked(&frames, index));
            map.touch(index);
        }
        while map.cut_last(1, &mut CutOff::default()).is_some() {}
        let first = map.remove_only_first().unwrap();
        assert_eq!(mark_of_bytes(first.content()), 0);
        assert!(map.is_empty() && map.leaves.is_some() == is_kept, "{pages} pages");
        assert!(map.page(0).is_none() && map.remove_only_first().is_none());

        map.put(1, marked(&frames, 7));
        assert_eq!((map.heat(0), map.touch(1)), (0, 1), "{pages} pages");
        assert_eq!(map.coldest(None, |_| true), Some((1, 1)));
    }
}

#[test]
fn the_coldest_of_the_next_few_is_found_and_searches_go_on_in_turn() {
    let frames = FramePool::new(1 << 20, 8);
    let mut map = PageMap::default();
    for index in (0..40).chain(300..310) {
        map.put(index, if index % 2 == 0 { resident(&frames) } else { spilled(index) });
    }
    let all: Vec<u64> = (0..40).chain(300..310).step_by(2).collect();
    // All have the same heat: each search returns the first page of its sample.
    let turns: Vec<u64> = (0..4).map(|_| map.coldest(None, |_| true).unwrap().0).collect();
    assert_eq!(turns, [all[0], all[8], all[16], all[24]]);
    for index in 0..40 {
        for _ in 0..5 {
            map.touch(index);
        }
    }
    map.touch(300);
    // A cold page is found wherever the hand is, and never the pinned one.
    for _ in 0..4 {
        let (index, heat) =
            (0..4).filter_map(|_| map.coldest(Some(302), |_| true)).min_by_key(|c| c.1).unwrap();
        assert!((304..310).contains(&index) && heat == 0, "{index} of heat {heat}");
    }
    let mut one = PageMap::default();
    one.put(5, resident(&frames));
    assert_eq!(
        [Some(5), None, Some(4)].map(|pinned| one.coldest(pinned, |_| true)),
        [None, Some((5, 0)), Some((5, 0))]
    );
}

/// A search visited 1,024 entries, resident or not, and then found no page to evict.
#[test]
fn a_search_for_the_coldest_finds_the_only_resident_page_of_many() {
    let frames = FramePool::new(1 << 20, 8);
    let mut map = PageMap::default();
    (0..5000).filter(|&index| index != 2500).for_each(|index| map.put(index, spilled(index)));
    map.put(2500, resident(&frames));
    let found: Vec<_> = (0..3).map(|_| map.coldest(None, |_| true)).collect();
    assert_eq!(found, [Some((2500, 0)); 3]);
    assert_eq!(map.coldest(Some(2500), |_| true), None, "it is pinned");
}

/// Each search must go on behind the last one, though each eviction moves a page to another position.
#[test]
fn every_resident_page_is_found_when_they_are_evicted_one_by_one() {
    let frames = FramePool::new(1 << 20, 8);
    let mut map = PageMap::default();
    (0..600).for_each(|index| map.put(index, resident(&frames)));
    let mut evicted = Vec::new();
    while let Some((index, _)) = map.coldest(None, |_| true) {
        assert!(matches!(map.take(index), Page::Resident(_)), "{index}");
        map.put(index, spilled(index));
        evicted.push(index);
    }
    evicted.sort_unstable();
    assert!(evicted.into_iter().eq(0..600));
}

#[test]
fn heat_is_halved_at_intervals_and_saturates() {
    let mut map = PageMap::default();
    for index in [3, 7, 9, 70_000] {
        map.put(index, spilled(index));
    }
    // Four entries: all heat is halved every forty visits.
    let heats: Vec<u8> = (0..42).map(|_| map.touch(3)).collect();
    assert_eq!((heats[0], heats[39], heats[40], heats[41]), (1, 40, 21, 22));
    assert_eq!(map.touch(99), 0, "no entry");
    map.take(3);
    assert_eq!((map.touch(3), map.touch(3)), (23, 24), "the heat stays when the page leaves");
    let mut large = PageMap::default();
    (0..600).for_each(|index| large.put(index, spilled(index)));
    assert_eq!((0..300).map(|_| large.touch(1)).last(), Some(255), "the heat saturates");
    for _ in 300..8 * 601 {
        large.touch(599);
    }
    assert_eq!(large.touch(1), 128, "all leaves cool");
}
