//! Free pages of a store, as runs: neighbours are one entry, however many they are.
//!
//! Promises:
//!
//! - Runs of one set neither overlap nor touch: what touches is merged.
//! - Putting, taking and cutting cost the logarithm of the number of runs, whatever their lengths. The pages of a large
//!   buffer lie one after another, so that freeing them is a few entries.
//!
//! Held by: the tests below, those of `slots.rs`.

use std::collections::BTreeMap;

/// Disjoint ranges of bytes, by offset.
#[derive(Debug, Default)]
pub(crate) struct Runs(BTreeMap<u64, u64>);

impl Runs {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `len` bytes at `offset`, none of which are here.
    pub(crate) fn put(&mut self, offset: u64, len: u64) {
        let (mut start, mut end) = (offset, offset + len);
        if let Some(after) = self.0.remove(&end) {
            end += after;
        }
        if let Some((&before, run)) = self.0.range_mut(..start).next_back() {
            debug_assert!(before + *run <= start, "free twice");
            if before + *run == start {
                start = before;
                *run = end - start;
                return;
            }
        }
        self.0.insert(start, end - start);
    }

    /// Takes out the lowest `len` bytes, and returns their offset. All runs are multiples of `len`.
    pub(crate) fn pop_first(&mut self, len: u64) -> Option<u64> {
        let (offset, run) = self.0.pop_first()?;
        if run > len {
            self.0.insert(offset + len, run - len);
        }
        Some(offset)
    }

    /// Takes out up to `len` bytes, the end of the last run. Returns their offset and their number.
    pub(crate) fn pop_last(&mut self, len: u64) -> Option<(u64, u64)> {
        let mut last = self.0.last_entry()?;
        let (offset, run) = (*last.key(), *last.get());
        if run <= len {
            last.remove();
            return Some((offset, run));
        }
        *last.get_mut() -= len;
        Some((offset + run - len, len))
    }

    /// The end of the last run.
    pub(crate) fn end(&self) -> Option<u64> {
        self.0.last_key_value().map(|(offset, len)| offset + len)
    }

    /// Takes out the `len` bytes at `offset`, and returns whether they are here. All runs are multiples of `len`, and so is
    /// the distance of any two.
    pub(crate) fn take(&mut self, offset: u64, len: u64) -> bool {
        let Some((&start, &run)) = self.0.range(..=offset).next_back() else { return false };
        let (end, after) = (start + run, offset + len);
        if end < after {
            return false;
        }
        self.0.remove(&start);
        if start < offset {
            self.0.insert(start, offset - start);
        }
        if after < end {
            self.0.insert(after, end - after);
        }
        true
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(&offset, &len)| (offset, len))
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn runs_agree_with_a_set_of_pages() {
        const PAGE: u64 = 8;
        let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
        let mut seed = 3u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (what, page) = (seed >> 60, (seed >> 33) % 40);
            match what {
                0..7 => {
                    let pages = page..page + (seed >> 50) % 4;
                    if !pages.is_empty() && pages.clone().all(|page| model.insert(page)) {
                        runs.put(page * PAGE, (pages.end - page) * PAGE);
                    } else {
                        // The model has some of them now that it had not before: the runs get those, too.
                        let here: BTreeSet<u64> =
                            runs.iter().flat_map(|(at, len)| at / PAGE..(at + len) / PAGE).collect();
                        model.difference(&here).for_each(|page| runs.put(page * PAGE, PAGE));
                    }
                }
                7..11 => assert_eq!(runs.take(page * PAGE, PAGE), model.remove(&page)),
                11..13 => assert_eq!(runs.pop_first(PAGE), model.pop_first().map(|page| page * PAGE)),
                _ => {
                    let popped = runs.pop_last(2 * PAGE);
                    let last = model.pop_last();
                    let before = last.is_some_and(|last| last > 0 && model.remove(&(last - 1)));
                    let first = last.map(|last| (last - u64::from(before)) * PAGE);
                    assert_eq!(popped, first.map(|first| (first, PAGE << u8::from(before))));
                }
            }
            let here: Vec<u64> = runs.iter().flat_map(|(at, len)| at / PAGE..(at + len) / PAGE).collect();
            assert!(here.iter().eq(&model), "{here:?} and {model:?}");
            let touching = |pair: &[(u64, u64)]| pair[0].0 + pair[0].1 >= pair[1].0;
            assert!(!runs.iter().collect::<Vec<_>>().windows(2).any(touching), "merged");
            assert_eq!(runs.end(), model.last().map(|page| (page + 1) * PAGE));
            assert_eq!(runs.is_empty(), model.is_empty());
        }
    }
}
