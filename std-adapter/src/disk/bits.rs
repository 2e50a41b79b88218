//! A set of small numbers, as bits: its room is requested before, so that putting a number in never needs
//! memory.
//!
//! Promises:
//!
//! - Only [`grow`](Bits::grow) needs memory, and changes nothing that counts if there is none.
//! - Every call takes a few steps, however many numbers there are: a word of 64 bits has a bit in the level
//!   above it, which says whether any is set.
//!
//! Held by: the tests below, the tests of `slots.rs`.

/// Levels: the highest has a word for each 64⁴ numbers, and is searched from its beginning.
const LEVELS: usize = 4;

const WORD: usize = u64::BITS as usize;

/// Makes room for so many `words`, and a quarter more: a set that grows word by word takes no more than that
/// for long, where doubling would take twice as much.
#[cold]
fn reserve(level: &mut Vec<u64>, words: usize) -> bool {
    let missing = words.saturating_sub(level.len());
    level.try_reserve_exact(missing.saturating_add(words / 4)).is_ok()
        || level.try_reserve_exact(missing).is_ok()
}

#[derive(Debug, Default)]
pub(crate) struct Bits {
    levels: [Vec<u64>; LEVELS],
}

impl Bits {
    pub(crate) fn is_empty(&self) -> bool {
        self.levels[LEVELS - 1].iter().all(|word| *word == 0)
    }

    /// Makes room for the numbers below `end`. Returns false if there is no memory for that.
    #[must_use]
    pub(crate) fn grow(&mut self, end: usize) -> bool {
        let mut words = end;
        self.levels.iter_mut().all(|level| {
            words = words.div_ceil(WORD);
            let has_room = words <= level.capacity() || reserve(level, words);
            if has_room && words > level.len() {
                level.resize(words, 0);
            }
            has_room
        })
    }

    /// Gives back room for the numbers from `end` on, none of which is in the set. Some stays, so that a set
    /// that grows and shrinks does not request it each time.
    pub(crate) fn shrink(&mut self, end: usize) {
        let mut words = end;
        for level in &mut self.levels {
            words = words.div_ceil(WORD);
            level.truncate(words);
            if level.len() < level.capacity() / 4 {
                level.shrink_to(2 * level.len());
            }
        }
    }

    /// Puts `number` in, for which there is room.
    pub(crate) fn insert(&mut self, number: usize) {
        let mut at = number;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / WORD) else {
                debug_assert!(false, "no room was requested for {number}");
                return;
            };
            let before = std::mem::replace(word, *word | 1 << (at % WORD));
            if before != 0 {
                break;
            }
            at /= WORD;
        }
    }

    fn contains(&self, number: usize) -> bool {
        self.levels[0].get(number / WORD).is_some_and(|word| word >> (number % WORD) & 1 == 1)
    }

    /// Takes `number` out, and returns whether it was in.
    pub(crate) fn remove(&mut self, number: usize) -> bool {
        if !self.contains(number) {
            return false;
        }
        let mut at = number;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / WORD) else { break };
            *word &= !(1 << (at % WORD));
            if *word != 0 {
                break;
            }
            at /= WORD;
        }
        true
    }

    /// The lowest number.
    fn first(&self) -> Option<usize> {
        let highest = &self.levels[LEVELS - 1];
        let mut at = highest.iter().position(|word| *word != 0)?;
        for level in self.levels.iter().rev() {
            at = at * WORD + level.get(at)?.trailing_zeros() as usize;
        }
        Some(at)
    }

    /// Takes the lowest number out.
    pub(crate) fn pop_first(&mut self) -> Option<usize> {
        let first = self.first()?;
        self.remove(first).then_some(first)
    }

    /// The highest number.
    pub(crate) fn last(&self) -> Option<usize> {
        let highest = &self.levels[LEVELS - 1];
        let mut at = highest.iter().rposition(|word| *word != 0)?;
        for level in self.levels.iter().rev() {
            at = at * WORD + level.get(at)?.checked_ilog2()? as usize;
        }
        Some(at)
    }

    /// The numbers in the set.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.levels[0].len() * WORD).filter(|number| self.contains(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_agrees_with_a_btree_set() {
        let (mut bits, mut model) = (Bits::default(), BTreeSet::new());
        let (mut seed, mut end) = (5_u64, 0);
        for round in 0..40_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (seed >> 33) as usize % 300_000;
            match seed >> 61 {
                0..4 => {
                    end = end.max(number + 1);
                    assert!(bits.grow(end));
                    bits.insert(number);
                    model.insert(number);
                }
                4 | 5 => assert_eq!(bits.remove(number), model.remove(&number), "{round}"),
                6 => assert_eq!(bits.pop_first(), model.pop_first(), "{round}"),
                _ => {
                    end = model.last().map_or(0, |last| last + 1);
                    bits.shrink(end);
                }
            }
            let [first, last] = [model.first(), model.last()].map(|number| number.copied());
            assert_eq!((bits.is_empty(), bits.first(), bits.last()), (model.is_empty(), first, last));
        }
        assert!(bits.iter().eq(model.iter().copied()));
        assert!(std::iter::from_fn(|| bits.pop_first()).eq(model));
        // With 32 bits all numbers take 512 MiB, which there may be.
        #[cfg(target_pointer_width = "64")]
        assert!(!bits.grow(usize::MAX), "there is not so much memory");
        assert!(bits.is_empty() && bits.pop_first().is_none());
    }
}
