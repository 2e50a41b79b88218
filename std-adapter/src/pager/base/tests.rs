use super::*;
use crate::disk::memory_store::MemoryStore;
use crate::sync::Mutex;
use std::collections::BTreeSet;
use std::{iter, mem};

const PAGE: u64 = 4096;
const PAGES: u64 = 2000;

/// Content that notes what is asked of it.
#[derive(Debug, Default)]
struct Noting {
    discarded: Mutex<Vec<Range<u64>>>,
    asked: AtomicUsize,
    has_room: bool,
}

impl Source for Arc<Noting> {
    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<usize, SpillError> {
        unreachable!("nobody reads")
    }

    fn copy_run(&self, _: u64, _: usize, _: &File, _: u64) -> StoreCopy {
        StoreCopy::default()
    }

    fn next_data(&self, _: u64) -> Result<Option<u64>, SpillError> {
        unreachable!("nobody reads")
    }

    fn discard(&self, range: Range<u64>) {
        self.discarded.lock().unwrap().push(range);
    }

    fn make_room(&self, _: usize, _: Leaving, _: &PoolState) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.has_room
    }

    fn check_invariants(&self) {}
}

/// A source that nobody else has, with `pages`, above `below`.
fn above(below: Option<&Base>, source: &Arc<Noting>, pages: impl Iterator<Item = u64>) -> Base {
    let ranges: Vec<_> = pages.map(|page| page * PAGE..(page + 1) * PAGE).collect();
    let source = Arc::new(Arc::clone(source));
    LayersBuilder::new(below, ranges.len()).unwrap().build(below, source, &ranges, PAGES * PAGE)
}

/// Each cut went over all runs, and asked their sources to free what lies between: to cut off 20,000
/// pages one by one took 39 s, and 3 ms without clones.
#[test]
fn a_cut_goes_over_what_it_cuts_off() {
    let sources: [Arc<Noting>; 2] = Default::default();
    let mut base = above(Some(&above(None, &sources[0], 0..PAGES)), &sources[1], (0..PAGES).step_by(2));
    let (clone, third) = (base.clone(), Arc::default());
    base.cut(PAGES * PAGE - 1);
    let other = above(Some(&clone), &third, iter::once(0));
    drop(clone);
    base.cut(PAGES * PAGE - 2);
    assert!(sources.iter().all(|source| source.discarded.lock().unwrap().is_empty()), "others see it");
    drop(other);
    let (mut calls, mut freed) = (0, BTreeSet::new());
    for left in (1..PAGES).rev() {
        let len = left * PAGE - 9;
        base.cut(len);
        for (number, source) in (0..).zip(&sources) {
            for range in mem::take(&mut *source.discarded.lock().unwrap()) {
                calls += 1;
                let pages = range.start.div_ceil(PAGE)..(range.end / PAGE).min(PAGES);
                for page in pages.filter(|page| page % 2 != number) {
                    assert!(page >= left, "page {page} of {left} is seen");
                    freed.insert(page);
                }
            }
        }
        assert!(freed.contains(&left), "page {left} is not seen any more");
    }
    assert!(calls < 5 * PAGES, "{calls} calls for {PAGES} pages");
}

/// What others saw when it was cut off was never freed, once they had gone: later cuts did not come to
/// it.
#[test]
fn a_cut_frees_what_earlier_ones_could_not() {
    let sources: [Arc<Noting>; 2] = Default::default();
    let mut base = above(Some(&above(None, &sources[0], 0..PAGES)), &sources[1], (0..PAGES).step_by(2));
    let other = Base { layers: Arc::clone(&base.layers), ..base };
    base.cut(PAGES / 2 * PAGE);
    assert!(sources.iter().all(|source| source.discarded.lock().unwrap().is_empty()));
    drop(other);
    base.cut((PAGES / 2 - 1) * PAGE);
    for (number, source) in (0..).zip(&sources) {
        let discarded = source.discarded.lock().unwrap();
        let is_freed = |page| discarded.iter().any(|range| range.contains(&(page * PAGE)));
        let unseen = (PAGES / 2 - 1..PAGES).filter(|page| page % 2 != number);
        assert!({ unseen }.all(is_freed));
    }
}

/// Each frame that was sought asked every source, behind its lock: with 8,000 of them a read of 500 bytes
/// took 1.2 ms.
#[test]
fn few_sources_are_asked_for_a_frame_and_all_in_turn() {
    const SOURCES: u64 = 100;
    let pool = PoolState::new(0, 0, 4096, Box::new(MemoryStore::new()), None);
    let (poor, rich) = (Arc::default(), Arc::new(Noting { has_room: true, ..Noting::default() }));
    let mut base = above(None, &poor, 0..PAGES);
    for page in 1..SOURCES {
        base = above(Some(&base), if page == 50 { &rich } else { &poor }, iter::once(page));
    }
    let make_room = || base.make_room(1, Leaving::Any, &pool);
    let asked = || poor.asked.load(Ordering::Relaxed) + rich.asked.load(Ordering::Relaxed);
    let failed = (0..SOURCES).take_while(|_| !make_room()).count();
    assert!(failed > 2 && asked() <= 100, "{failed} times, {} asked", asked());
    let before = asked();
    assert!(make_room() && asked() == before + 1, "the one that had room is asked first");
}

/// The runs that were cut off stayed with the buffer: 2,000,000 pages that lay far apart left 96 MB
/// behind, after a cut to 10 bytes too.
#[test]
fn a_cut_drops_the_runs_that_it_cuts_off() {
    let mut base = above(None, &Arc::default(), (0..PAGES).step_by(2));
    let capacity = |base: &Base| base.layers.runs.capacity() as u64;
    for left in (1..=PAGES).rev() {
        let is_shared = base.clone(); // nothing changes while another sees it
        let before = capacity(&base);
        base.cut(left * PAGE - 5);
        assert_eq!(capacity(&base), before);
        drop(is_shared);
        base.cut(left * PAGE - 9);
        assert!(base.layers.runs.len() as u64 <= (left + 1).max(FEW_RUNS as u64), "{left} pages");
        assert!(capacity(&base) <= 4 * (left + 1).max(FEW_RUNS as u64), "{left} pages");
        base.check_invariants();
    }
    base.cut(10);
    assert!(base.layers.runs.len() == 1 && capacity(&base) <= 4 * FEW_RUNS as u64);
}

/// The documentation of `try_clone` says what a run takes. It said 16 bytes.
#[test]
fn a_run_takes_as_much_as_is_said() {
    let (_, said) = include_str!("../../api/clones.rs").split_once("Each takes ").unwrap();
    let bytes: usize = said.split_once(' ').unwrap().0.parse().unwrap();
    assert_eq!(size_of::<Run>(), if cfg!(target_pointer_width = "64") { bytes } else { 16 });
}
