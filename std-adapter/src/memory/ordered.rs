//! A map by number, in order, whose growth may be refused: std's `BTreeMap` ends the process
//! where there is no memory.
//!
//! Promises:
//!
//! - [`try_insert`](Ordered::try_insert) changes nothing if there is no memory. No other call needs any.
//! - A lookup takes logarithmic time. An insertion moves the entries of one block, of at most [`BLOCK_MAX`],
//!   and at every so many also the list of blocks; so numbers that only rise move nothing.
//!
//! Held by: the tests below, `std-adapter/src/pages/page_map/tests.rs`.

use std::ops::Range;

/// Entries of a block at most.
const BLOCK_MAX: usize = 128;

#[derive(Debug)]
pub(crate) struct Ordered<V> {
    /// By the numbers in them. None is empty.
    blocks: Vec<Vec<(u64, V)>>,
}

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Ordered { blocks: Vec::new() }
    }
}

impl<V> Ordered<V> {
    /// Whether it has memory: numbers, or room for some that are gone.
    pub(crate) fn has_memory(&self) -> bool {
        self.blocks.capacity() > 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The block and the position in it of `number`, or where it would be: in a block that
    /// exists, if there is one.
    fn find(&self, number: u64) -> Result<(usize, usize), (usize, usize)> {
        let block = match self.blocks.len() {
            0 => return Err((0, 0)),
            1 => 0,
            _ => self.blocks.partition_point(|block| block[0].0 <= number).saturating_sub(1),
        };
        let entries = &self.blocks[block];
        // The guess is right in a block of numbers without gaps, as most are.
        let guess = usize::try_from(number.wrapping_sub(entries[0].0)).unwrap_or(usize::MAX);
        if entries.get(guess).is_some_and(|entry| entry.0 == number) {
            return Ok((block, guess));
        }
        let position = entries.binary_search_by_key(&number, |(number, _)| *number);
        position.map(|at| (block, at)).map_err(|at| (block, at))
    }

    pub(crate) fn get(&self, number: u64) -> Option<&V> {
        self.find(number).ok().map(|(block, at)| &self.blocks[block][at].1)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        self.find(number).ok().map(|(block, at)| &mut self.blocks[block][at].1)
    }

    /// The value of `number`, which is the default one if there was none. `None`, and nothing has changed, if
    /// there is no memory for it.
    pub(crate) fn try_insert(&mut self, number: u64) -> Option<&mut V>
    where
        V: Default,
    {
        let (block, at) = match self.find(number) {
            Ok(found) => found,
            Err((block, at)) => {
                let (block, at) = self.make_room(block, at)?;
                self.blocks[block].insert(at, (number, V::default()));
                (block, at)
            }
        };
        Some(&mut self.blocks[block][at].1)
    }

    /// Makes sure that an entry can be inserted at position `at` of a block, and returns where that is then.
    fn make_room(&mut self, block: usize, at: usize) -> Option<(usize, usize)> {
        if self.blocks.get(block).is_some_and(|entries| entries.len() < BLOCK_MAX) {
            self.blocks[block].try_reserve(1).ok()?;
            return Some((block, at));
        }
        if at == BLOCK_MAX
            && let Some(next) = self.blocks.get_mut(block + 1)
            && next.len() < BLOCK_MAX
        {
            next.try_reserve(1).ok()?;
            return Some((block + 1, 0));
        }
        self.blocks.try_reserve(1).ok()?;
        // Behind a full block, numbers that rise begin the next one. Elsewhere a full block is cut in two.
        let cut = if at == BLOCK_MAX { BLOCK_MAX } else { BLOCK_MAX / 2 };
        let moved = self.blocks.get(block).map_or(0, |entries| entries.len() - cut);
        let mut next = Vec::new();
        next.try_reserve_exact(if moved == 0 { 1 } else { BLOCK_MAX }).ok()?;
        if moved == 0 {
            // The caller inserts at once, so no block stays empty.
            let place = if self.blocks.is_empty() { 0 } else { block + 1 };
            self.blocks.insert(place, next);
            return Some((place, 0));
        }
        next.extend(self.blocks[block].drain(cut..));
        self.blocks.insert(block + 1, next);
        Some(if at > cut { (block + 1, at - cut) } else { (block, at) })
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<V> {
        let (block, at) = self.find(number).ok()?;
        let (_, removed) = self.blocks[block].remove(at);
        if self.blocks[block].is_empty() {
            self.blocks.remove(block);
        }
        Some(removed)
    }

    /// Removes the entries of `numbers` for which `is_out` is true.
    pub(crate) fn remove_if(&mut self, numbers: Range<u64>, is_out: impl Fn(u64, &V) -> bool) {
        let end = self.blocks.partition_point(|block| block[0].0 < numbers.end);
        let first = self.blocks[..end].partition_point(|block| block[block.len() - 1].0 < numbers.start);
        let mut is_any_empty = false;
        for block in &mut self.blocks[first..end] {
            block.retain(|(number, value)| !(numbers.contains(number) && is_out(*number, value)));
            is_any_empty |= block.is_empty();
        }
        if is_any_empty {
            self.blocks.retain(|block| !block.is_empty());
        }
    }

    /// The highest number.
    pub(crate) fn last(&self) -> Option<u64> {
        Some(self.blocks.last()?.last()?.0)
    }

    /// The entries from `number` on, in order.
    pub(crate) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &V)> {
        let (block, at) = self.find(number).unwrap_or_else(|place| place);
        let first = self.blocks.get(block).map_or(&[][..], |entries| &entries[at..]);
        let rest = self.blocks.get(block + 1..).unwrap_or_default().iter().flatten();
        first.iter().chain(rest).map(|(number, value)| (*number, value))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.blocks.iter_mut().flatten().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_agrees_with_a_btree_map() {
        let (mut map, mut model) = (Ordered::<u64>::default(), BTreeMap::new());
        let mut seed = 11_u64;
        for round in 0..60_000_u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = match round / 10_000 {
                0 => round,
                1 => 40_000 - round,
                _ => (seed >> 33) % 45_000,
            };
            if round < 40_000 || seed >> 62 == 0 {
                *map.try_insert(number).unwrap() += round;
                *model.entry(number).or_insert(0) += round;
            } else {
                assert_eq!(map.remove(number), model.remove(&number), "{round}");
            }
            assert_eq!((map.get(number), map.last()), (model.get(&number), model.keys().last().copied()));
            assert_eq!(map.get_mut(number ^ 1).copied(), model.get(&(number ^ 1)).copied());
            if round % 500 == 0 {
                let entries = map.from(number).map(|(number, value)| (number, *value));
                assert!(
                    entries.eq(model.range(number..).map(|(number, value)| (*number, *value))),
                    "{round}"
                );
                assert!(map.blocks.iter().all(|block| (1..=BLOCK_MAX).contains(&block.len())));
                assert!(map.values_mut().map(|value| &*value).eq(model.values()));
            }
        }
        let is_out = |number: u64, value: u64| number.is_multiple_of(3) || !value.is_multiple_of(2);
        for range in [0..1, 500..900, 20_000..20_001, 10_000..50_000, 7..7] {
            map.remove_if(range.clone(), |number, value| is_out(number, *value));
            model.retain(|number, value| !(range.contains(number) && is_out(*number, *value)));
            assert!(map.from(0).map(|(number, value)| (number, *value)).eq(model.clone()), "{range:?}");
            assert!(map.blocks.iter().all(|block| !block.is_empty()));
        }
        for number in model.into_keys() {
            assert!(!map.is_empty() && map.remove(number).is_some());
        }
        assert!(map.is_empty() && map.last().is_none() && map.from(0).next().is_none());
    }

    /// Each of the numbers that fell towards a full block got a block of its own: 200,000 of them took 21
    /// seconds.
    #[test]
    fn numbers_that_fall_towards_a_full_block_share_blocks() {
        let mut map = Ordered::<u64>::default();
        let rising = 0..BLOCK_MAX as u64;
        let falling = (1_000..20_000).rev();
        rising.clone().chain(falling.clone()).for_each(|number| *map.try_insert(number).unwrap() = number);
        assert!(map.from(0).map(|(number, _)| number).eq(rising.chain(falling.rev())));
        assert!(map.blocks.len() <= 20_000 / BLOCK_MAX, "{} blocks", map.blocks.len());
    }
}
