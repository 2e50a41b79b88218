use super::*;
use crate::disk::slots::Slot;
use crate::memory::frame_pool::FramePool;
use crate::pages::cut_off::CutOff;
use crate::pages::retired::RETIRED_FRAME_MAX;
use crate::pages::sums::PageSums;
use crate::pages::transit::Carrier;
use crate::pages::usage::Usage;
use std::time::{Duration, Instant};

const PAGE: usize = 8;

fn frames() -> FramePool {
    FramePool::new(1 << 20, PAGE)
}

fn slot(at: u64) -> Slot {
    Slot::new(at * PAGE as u64, PAGE as u64)
}

fn spilled(at: u64, end: usize) -> Page {
    Page::Spilled { slot: slot(at), end }
}

/// A page with content `text` that was never spilled.
fn resident(frames: &FramePool, text: &[u8]) -> Resident {
    let mut resident = Resident::copy(frames.acquire(PAGE).unwrap(), 0);
    resident.write(0, text);
    resident
}

/// A resident page 0, a window on page 1 with 5 bytes, a spilled page 2, and holes.
fn table(frames: &FramePool) -> Table {
    let mut table = Table::new(PAGE);
    table.put(0, Page::Resident(resident(frames, b"resident")));
    table.put(2, spilled(2, 6));
    table.open(1, resident(frames, b"windo"), Stay::Kept);
    table
}

/// Starts the transit of page `index`, and returns the carrier.
fn start_transit(table: &mut Table, index: u64) -> Carrier {
    let (transit, carrier) = Transit::start(table.remove_resident(index).unwrap(), PAGE as u64).unwrap();
    table.put(index, Page::InTransit(transit));
    carrier
}

/// A usage with one frame, and the slot for its page.
fn usage() -> Usage {
    let usage = Usage::new();
    usage.memory.reserve(PAGE as u64).unwrap();
    usage.disk.reserve(PAGE as u64).unwrap();
    usage
}

/// Truncates the table to `len` bytes, and returns how many pages outside the window were removed.
fn cut(table: &mut Table, len: u64) -> usize {
    let mut cut_off = CutOff::default();
    let returned = std::iter::from_fn(|| table.truncate(len, &mut cut_off)).count();
    returned + cut_off.slots.len() + cut_off.frames.len()
}

fn read(resident: &Resident, at: usize, len: usize) -> Vec<u8> {
    let mut out = vec![0xEE; len];
    resident.read(at, &mut out);
    out
}

#[test]
fn bytes_past_the_content_of_a_page_are_zeros_whatever_the_frame_has() {
    let frames = frames();
    let mut page = resident(&frames, b"old page");
    page.len = 2;
    assert_eq!((read(&page, 0, 8), read(&page, 1, 2)), (b"ol\0\0\0\0\0\0".to_vec(), b"l\0".to_vec()));
    assert_eq!((read(&page, 2, 2), read(&page, 7, 1)), (vec![0; 2], vec![0]));
    page.write(4, b"x");
    assert_eq!((page.len, page.content()), (5, &b"ol\0\0x"[..]), "the gap is zeros");
    page.write(1, b"L");
    assert_eq!((page.len, page.content()), (5, &b"oL\0\0x"[..]), "nothing is cut off");
    page.write(5, b"y");
    assert_eq!(page.content(), b"oL\0\0xy", "no gap, so no zeros");
}

#[test]
fn a_page_is_dirty_once_bytes_are_written_and_not_before() {
    let frames = frames();
    let mut page = resident(&frames, b"");
    page.write(0, b"");
    assert!(!page.dirty);
    page.write(0, b"a");
    page.write(0, b"");
    assert!(page.dirty);
}

#[test]
fn window_mut_needs_bytes_without_a_gap_where_the_frame_was_written() {
    let frames = frames();
    let mut table = Table::new(PAGE);
    assert!(table.window_mut(0, 1).is_none(), "there is no window");
    let mut page = resident(&frames, b"123456");
    (page.len, page.dirty) = (4, false);
    table.open(2, page, Stay::Kept);
    let state = |table: &mut Table| {
        let page = table.resident(2).unwrap();
        (page.len, page.dirty)
    };
    for (offset, len) in [(15, 1), (0, 1), (21, 1), (22, 0), (24, 0), (u64::MAX, 0), (20, 3), (16, 7)] {
        assert!(table.window_mut(offset, len).is_none(), "{len} at {offset}");
    }
    assert_eq!(table.window_mut(18, 0), Some(&mut [][..]));
    assert_eq!(state(&mut table), (4, false), "no bytes were requested");
    table.window_mut(17, 2).unwrap().copy_from_slice(b"AB");
    assert_eq!(state(&mut table), (4, true));
    table.window_mut(20, 2).unwrap().copy_from_slice(b"CD");
    assert_eq!(state(&mut table), (6, true));
    assert_eq!(table.content(16, 6), Some(&b"1AB4CD"[..]));
    table.window_mut(16, 0).unwrap();
    assert!(table.resident(2).unwrap().dirty, "a dirty page stays dirty");
}

#[test]
fn an_append_continues_at_the_end_of_the_window_or_changes_nothing() {
    let frames = frames();
    let mut table = Table::new(PAGE);
    assert!(!table.append(0, b"x", || panic!("there is no window")));
    table.open(1, resident(&frames, b""), Stay::Kept);
    for (offset, data) in [(7, &b"x"[..]), (9, b"x"), (0, b""), (8, b"123456789")] {
        assert!(!table.append(offset, data, || panic!("not at the end, or too long")), "{offset}");
    }
    assert!(table.append(8, b"", || ()) && !table.resident(1).unwrap().dirty);
    let mut commits = 0;
    assert!(table.append(8, b"123", || commits += 1) && table.append(11, b"45678", || commits += 1));
    assert_eq!((commits, table.content(8, 8)), (2, Some(&b"12345678"[..])));
    assert!(table.append(16, b"", || ()) && table.resident(1).unwrap().dirty, "a dirty page stays dirty");
    table.resident(1).unwrap().len = 3;
    assert!(!table.append(11, b"x", || panic!("not at the end of what was written to the frame")));
}

#[test]
fn content_is_returned_only_if_all_of_it_lies_in_the_window() {
    let frames = frames();
    assert!(Table::new(PAGE).content(0, 0).is_none());
    let table = table(&frames);
    assert_eq!(table.content(8, 5), Some(&b"windo"[..]));
    assert_eq!((table.content(10, 2), table.content(13, 0)), (Some(&b"nd"[..]), Some(&b""[..])));
    for (offset, len) in [(7, 1), (0, 8), (8, 6), (13, 1), (14, 0), (u64::MAX, 1)] {
        assert_eq!(table.content(offset, len), None, "{len} at {offset}");
    }
}

#[test]
fn each_page_is_where_it_was_put() {
    let frames = frames();
    let mut table = table(&frames);
    let wanted = [
        Location::Memory,
        Location::Memory,
        Location::Spilled { slot: slot(2), end: 6 },
        Location::Hole,
        Location::Hole,
    ];
    assert_eq!([0, 1, 2, 3, 1 << 40].map(|index| table.locate(index)), wanted);
    let carrier = start_transit(&mut table, 0);
    assert_eq!((table.locate(0), table.pin(0)), (Location::InTransit, Location::InTransit));
    assert_eq!([0, 1].map(|index| table.is_pinned(index)), [true, false]);
    assert_eq!((table.pin(2), table.is_pinned(0), table.is_pinned(2)), (wanted[2], false, true));
    table.unpin();
    assert!(!table.is_pinned(2));
    drop(carrier);
}

#[test]
fn focus_moves_the_window_and_the_former_page_stays_in_memory() {
    let frames = frames();
    let mut table = table(&frames);
    assert!(table.focus(2).is_none() && table.focus(3).is_none(), "not in memory");
    assert_eq!(table.window_index(), Some(1));
    assert_eq!(table.focus(1).unwrap().content(), b"windo");
    assert!(table.reserve_for_focus(0));
    assert_eq!(table.focus(0).unwrap().content(), b"resident");
    assert_eq!((table.window_index(), table.content(0, 8)), (Some(0), Some(&b"resident"[..])));
    assert_eq!((table.locate(1), table.resident(1).unwrap().content()), (Location::Memory, &b"windo"[..]));
    assert_eq!(table.visit(1, false).unwrap().content(), b"windo");
    assert_eq!(table.window_index(), Some(0), "visited without focus");
    assert_eq!(table.visit(1, true).unwrap().content(), b"windo");
    assert_eq!(table.window_index(), Some(1));
    assert!([2, 3].iter().all(|&index| table.resident(index).is_none()));
}

#[test]
fn a_window_is_passing_until_focus_opens_it_again() {
    let frames = frames();
    let mut table = table(&frames);
    table.open(5, resident(&frames, b"5"), Stay::Passing);
    assert_eq!((table.passing_index(), table.locate(1)), (Some(5), Location::Memory));
    table.focus(5).unwrap();
    assert_eq!(table.passing_index(), Some(5));
    assert!(table.focus(1).is_none(), "page 5 has no entry to go to");
    assert_eq!(table.passing_index(), Some(5));
    table.visit(1, true).unwrap();
    table.visit(5, true).unwrap();
    assert_eq!(table.passing_index(), None, "focus opened it again");
}

#[test]
fn a_removed_page_leaves_a_hole() {
    let frames = frames();
    let mut table = table(&frames);
    assert!(table.remove_resident(2).is_none() && table.remove_resident(9).is_none());
    assert_eq!(table.locate(2), Location::Spilled { slot: slot(2), end: 6 }, "a spilled page stays");
    assert_eq!(table.remove_resident(1).unwrap().content(), b"windo");
    assert_eq!((table.window_index(), table.locate(1)), (None, Location::Hole));
    assert!(matches!(table.remove(0), Page::Resident(page) if page.content() == b"resident"));
    assert!(matches!(table.remove(2), Page::Spilled { end: 6, .. }));
    assert!([0, 1, 2, 9].iter().all(|&index| matches!(table.remove(index), Page::Hole)));
}

#[test]
fn a_lent_window_is_out_of_the_table_until_it_is_reopened() {
    let frames = frames();
    let mut table = table(&frames);
    let window = table.lend().unwrap();
    assert_eq!((window.content_from(0), table.locate(1)), (&b"windo"[..], Location::Hole));
    assert!(table.lend().is_none());
    table.reopen(window);
    assert_eq!(table.window_index(), Some(1));
}

/// A page that could not be written went back to the map, whose room a reclaiming thread had used for the
/// window meanwhile: so its return needed memory, and could not be refused any.
#[test]
fn a_page_that_could_not_leave_returns_as_the_window_if_there_is_none() {
    let frames = frames();
    let mut table = table(&frames);
    let evicted = table.remove_resident(0).unwrap();
    let carrier = start_transit(&mut table, 1);
    table.put_back(0, evicted);
    assert_eq!(table.window_index(), Some(0));
    assert!(carrier.return_page(&usage()).is_none());
    table.settle(1);
    let evicted = table.remove_resident(1).unwrap();
    table.put_back(1, evicted);
    assert_eq!((table.window_index(), table.locate(1)), (Some(0), Location::Memory));
    assert_eq!(
        [read(table.resident(0).unwrap(), 0, 8), read(table.resident(1).unwrap(), 0, 5)],
        [b"resident".to_vec(), b"windo".to_vec()]
    );
}

#[test]
fn neither_the_window_nor_the_pinned_page_is_the_coldest() {
    let frames = frames();
    let mut table = table(&frames);
    table.put(3, Page::Resident(resident(&frames, b"3")));
    assert_eq!((table.touch(0), table.touch(0), table.touch(3)), (1, 2, 1));
    assert_eq!(table.coldest(|_| true), Some((3, 1)));
    table.pin(3);
    assert_eq!(table.coldest(|_| true), Some((0, 2)));
    table.pin(0);
    table.remove(3);
    assert_eq!(table.coldest(|_| true), None);
}

#[test]
fn a_search_finds_the_first_page_at_or_after_an_index() {
    let frames = frames();
    let mut table = Table::new(PAGE);
    assert_eq!((table.next_in_memory(0), table.next_page(0), table.next_in_transit(0)), (None, None, None));
    for index in [4, 6, 400] {
        table.put(index, Page::Resident(resident(&frames, b"x")));
    }
    table.put(2, spilled(2, 1));
    table.open(5, resident(&frames, b"window"), Stay::Kept);
    let carrier = start_transit(&mut table, 6);
    let found = |from| (table.next_page(from), table.next_in_memory(from), table.next_in_transit(from));
    assert_eq!(found(0), (Some(2), Some(4), Some(6)));
    assert_eq!(found(3), (Some(4), Some(4), Some(6)));
    assert_eq!(found(5), (Some(5), Some(5), Some(6)));
    assert_eq!(found(6), (Some(6), Some(400), Some(6)));
    assert_eq!(found(7), (Some(400), Some(400), None));
    assert_eq!(found(401), (None, None, None));
    drop(carrier);
}

#[test]
fn a_page_whose_transit_has_ended_settles_as_spilled_or_resident() {
    let frames = frames();
    let usage = usage();
    let mut table = table(&frames);
    let carrier = start_transit(&mut table, 0);
    assert!(table.transit(0).is_some());
    assert!([1, 2, 9].iter().all(|&index| table.transit(index).is_none()));
    table.settle(0);
    assert_eq!(table.locate(0), Location::InTransit, "the transit has not ended");
    carrier.arrive(slot(7), Some(PageSums::of(b"resident").unwrap()), &usage);
    table.settle(0);
    assert_eq!(table.locate(0), Location::Spilled { slot: slot(7), end: 8 });
    assert_eq!(table.sums.covered(0), 8);
    table.settle(0);
    table.settle(1);
    assert_eq!(
        (table.locate(0), table.window_index()),
        (Location::Spilled { slot: slot(7), end: 8 }, Some(1))
    );

    let carrier = start_transit(&mut table, 1);
    usage.memory.reserve(PAGE as u64).unwrap();
    assert!(carrier.return_page(&usage).is_none(), "the page returns to its owner");
    table.settle(1);
    assert_eq!(table.resident(1).unwrap().content(), b"windo");
}

#[test]
fn truncation_removes_pages_past_the_length_and_shortens_the_page_it_falls_in() {
    let frames = frames();
    let mut table = table(&frames);
    table.sums.put(2, PageSums::of(b"spill!").unwrap());
    table.sums.put(3, PageSums::of(b"3").unwrap());
    assert!(matches!(table.cut_window(9), Page::Hole), "the window begins before 9");
    table.put(3, spilled(3, 1));
    table.put(300, spilled(300, 1));
    assert_eq!(cut(&mut table, 19), 2);
    assert_eq!(table.locate(2), Location::Spilled { slot: slot(2), end: 3 });
    assert_eq!(table.sums.pages().collect::<Vec<_>>(), [2], "the shortened page keeps its sums");

    assert_eq!(cut(&mut table, 24), 0, "24 is a page boundary");
    assert_eq!(table.locate(2), Location::Spilled { slot: slot(2), end: 3 }, "content is not lengthened");
    assert_eq!(cut(&mut table, 16), 1);
    assert_eq!(table.sums.pages().count(), 0);
    assert_eq!(cut(&mut table, 10), 0);
    assert_eq!(table.content(8, 2), Some(&b"wi"[..]), "the window is shortened");
    assert!(matches!(table.cut_window(8), Page::Resident(page) if page.content() == b"wi"));
    assert_eq!(cut(&mut table, 3), 0);
    assert_eq!(table.resident(0).unwrap().content(), b"res");
    assert_eq!(cut(&mut table, 0), 1);
    assert_eq!(table.next_page(0), None);
}

#[test]
fn truncation_changes_the_window_only_if_the_length_falls_inside_its_content() {
    let mut table = table(&frames());
    for len in [13, 8, 0] {
        cut(&mut table, len);
        assert_eq!(table.content(8, 5), Some(&b"windo"[..]), "to {len}: `cut_window` removes the window");
    }
}

#[test]
fn a_table_with_at_most_a_small_first_page_can_be_retired() {
    let frames = frames();
    let mut table = Table::new(PAGE);
    assert!(table.retire(), "a new table");
    table.open(0, resident(&frames, b"abc"), Stay::Passing);
    table.pin(0);
    table.sums.put(0, PageSums::of(b"abc").unwrap());
    assert!(table.retire());
    assert_eq!((table.content(0, 0), table.content(0, 1)), (Some(&b""[..]), None));
    assert_eq!((table.passing_index(), table.is_pinned(0), table.sums.covered(0)), (None, false, 0));

    let len = |table: &mut Table| table.resident(0).unwrap().len;
    table.resident(0).unwrap().write(0, b"abc");
    table.resident(0).unwrap().slot = Some(slot(0));
    assert!(!table.retire() && len(&mut table) == 3, "the slot would be lost");
    table.resident(0).unwrap().slot = None;
    table.put(1, spilled(1, 1));
    assert!(!table.retire() && len(&mut table) == 3, "page 1 would be lost");
    assert_eq!(cut(&mut table, 0), 1, "page 1 is removed");
    assert!(table.retire());
    let mut second = Table::new(PAGE);
    second.open(1, resident(&frames, b"abc"), Stay::Kept);
    assert!(!second.retire(), "its window is not the first page");
    let mut third = Table::new(PAGE);
    let mut segment = Resident::segment(frames.acquire(PAGE).unwrap(), slot(0), 3, 5);
    segment.write(3, b"abc");
    third.put(0, Page::Resident(segment));
    assert!(!third.retire(), "the slot would be lost");
    assert_eq!(
        (third.content(0, 1), third.content(3, 3)),
        (None, Some(&b"abc"[..])),
        "its bytes are where they were"
    );
    for (bytes, is_kept) in [(RETIRED_FRAME_MAX, true), (2 * RETIRED_FRAME_MAX, false)] {
        let frames = FramePool::new(1 << 20, bytes);
        let mut table = Table::new(bytes);
        let frame = frames.acquire(bytes).unwrap();
        table.open(0, Resident::copy(frame, 0), Stay::Kept);
        assert_eq!(table.retire(), is_kept, "a frame of {bytes}");
    }
}

#[test]
fn for_each_visits_the_window_first_and_no_hole() {
    let frames = frames();
    let mut table = table(&frames);
    table.put(4, Page::Resident(resident(&frames, b"4")));
    let carrier = start_transit(&mut table, 4);
    table.remove(0);
    let mut visited = Vec::new();
    table.for_each(|index, view| {
        visited.push(match view {
            View::Resident(page) => (index, "resident", page.len as u64),
            View::InTransit(transit) => (index, "in transit", transit.memory_bytes()),
            View::Shared(page) => (index, "shared", page.len as u64),
            View::Spilled { slot, end } => (index, "spilled", slot.offset + end as u64),
        });
    });
    assert_eq!(visited, [(1, "resident", 5), (2, "spilled", 2 * 8 + 6), (4, "in transit", 8)]);
    drop(carrier);
}

/// The frame of the first page was dropped with a body of more than one page, so the next body had to grow a
/// new one. It must stay with the table.
#[test]
fn the_first_frame_stays_when_all_other_pages_are_truncated() {
    let frames = frames();
    let mut table = table(&frames);
    assert!(!table.retire(), "there are other pages");
    assert_eq!(
        table.resident(0).map(|first| read(first, 0, 8)),
        Some(b"resident".to_vec()),
        "no content has changed"
    );
    drop(table.cut_window(PAGE as u64));
    assert_eq!(cut(&mut table, PAGE as u64), 1, "the spilled page");
    assert!(table.retire());
    assert_eq!(
        (table.window_index(), table.content(0, 1)),
        (Some(0), None),
        "the first page is an empty window"
    );
    assert!(table.retire(), "a retired table can be retired again");

    // A first page that is not in memory has no frame to keep.
    let mut table = Table::new(PAGE);
    table.put(0, spilled(1, 3));
    assert!(!table.retire() && table.locate(0) == Location::Spilled { slot: slot(1), end: 3 });
}

fn listed(table: &Table) -> usize {
    table.shared.from(0).count()
}

/// All shared pages were looked at for each page that was to leave: a quarter of a gigabyte of lent bytes
/// took longer than the page.
#[test]
fn a_few_shared_pages_are_looked_at_for_each_that_leaves_and_more_before_none_is_found() {
    let frames = frames();
    let mut table = Table::new(PAGE);
    let mut lent: Vec<_> = (0..100)
        .map(|index| {
            table.put(index, Page::Resident(resident(&frames, b"resident")));
            table.share(index).unwrap()
        })
        .collect();
    assert_eq!((table.coldest(|_| true), listed(&table)), (None, 100));
    table.put(100, Page::Resident(resident(&frames, b"resident")));
    lent.truncate(10); // 90 are only here now
    for _ in 0..3 {
        let before = listed(&table);
        assert!(table.coldest(|_| true).is_some());
        assert!((6..=16).contains(&(before - listed(&table))), "up to ten of sixteen are still lent");
    }
    table.end_sharing_if_idle(99);
    table.end_sharing_if_idle(0);
    assert!(table.is_unshared_and_unpinned(99) && !table.is_unshared_and_unpinned(0));
    table.end_sharing();
    assert_eq!(listed(&table), 10);
    drop(lent);
    for index in 200..300 {
        table.put(index, Page::Resident(resident(&frames, b"resident")));
        drop(table.share(index));
        table.remove(index);
        assert!(listed(&table) <= 22, "what was removed does not stay in the list");
    }
    while let Some((index, _)) = table.coldest(|_| true) {
        table.remove_resident(index).unwrap();
    }
    assert!(table.shared.is_empty() && table.next_page(0).is_none());
}

/// Each page that left took a look at all shared pages, with its content locked: 165 µs with 32,768 of them.
#[test]
fn a_shared_page_leaves_at_the_same_cost_however_many_there_are() {
    let frames = frames();
    let mut table = Table::new(PAGE);
    for index in 0..50_000 {
        table.put(index, Page::Resident(resident(&frames, b"resident")));
        drop(table.share(index).unwrap());
    }
    let start = Instant::now();
    (0..50_000).for_each(|index| table.end_sharing_if_idle(index));
    assert!((0..50_000).all(|index| table.is_unshared_and_unpinned(index)) && table.shared.is_empty());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
