//! Where an index stands: position arithmetic as pure functions, without memory or atomics.
//!
//! An index must tell a full ring from an empty one although both have the same place in memory. Two
//! schemes do that for every byte of the capacity, and do not break when the index type overflows:
//!
//! | capacity | an index counts | place of an index |
//! |---|---|---|
//! | power of two, known when compiled | freely, modulo 2^bits of `usize` (a multiple of the capacity) | mask |
//! | any other | modulo twice the capacity | compare and subtract |
//!
//! Index 0 is not always at the first byte of the memory: `base` says which index is (see
//! [`Span::base_at`]).

/// The index arithmetic of one capacity, 0 included.
///
/// `capacity` is at most `isize::MAX` (it is the length of a slice), so twice of it fits in a `usize`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    capacity: usize,
    /// Whether indices count freely. Constant wherever the capacity is.
    masked: bool,
}

impl Span {
    /// The span of a capacity known when compiled: the choice of the scheme costs nothing.
    #[inline(always)]
    pub(crate) const fn fixed(capacity: usize) -> Self {
        Span { capacity, masked: capacity.is_power_of_two() }
    }

    /// The span of a capacity known only when running: modulo twice the capacity, whatever it is.
    #[inline(always)]
    pub(crate) const fn erased(capacity: usize) -> Self {
        Span { capacity, masked: false }
    }

    #[inline(always)]
    pub(crate) const fn capacity(self) -> usize {
        self.capacity
    }

    /// How far `to` is ahead of `from`, 0 to the capacity for the two indices of a ring.
    #[inline(always)]
    pub(crate) const fn distance(self, from: usize, to: usize) -> usize {
        let ahead = to.wrapping_sub(from);
        if self.masked || to >= from { ahead } else { ahead.wrapping_add(2 * self.capacity) }
    }

    /// The index `count` ahead of `index`; `count` is at most the capacity.
    #[inline(always)]
    pub(crate) const fn advance(self, index: usize, count: usize) -> usize {
        let ahead = index.wrapping_add(count);
        if self.masked {
            return ahead;
        }
        // An index is below twice the capacity, so that what is left of this round is positive; asking
        // for it first keeps the sum from overflowing for capacities near isize::MAX.
        let left = 2 * self.capacity - index;
        if count < left { ahead } else { count - left }
    }

    /// The place in memory of `index`, below the capacity (0 for a capacity of 0).
    #[inline(always)]
    pub(crate) const fn place(self, index: usize, base: usize) -> usize {
        if self.masked {
            return index.wrapping_sub(base) & (self.capacity - 1);
        }
        let index = self.base_at(index);
        if index >= base { index - base } else { index.wrapping_sub(base).wrapping_add(self.capacity) }
    }

    /// The base that puts `index` at the first byte of the memory.
    #[inline(always)]
    pub(crate) const fn base_at(self, index: usize) -> usize {
        if self.masked {
            index & (self.capacity - 1)
        } else if index >= self.capacity {
            index - self.capacity
        } else {
            index
        }
    }

    /// `count` bytes from `place` on, cut at the end of the memory: how many before the cut.
    #[inline(always)]
    pub(crate) const fn before_wrap(self, place: usize, count: usize) -> usize {
        let left = self.capacity - place;
        if count < left { count } else { left }
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    /// Every index that the scheme can reach, by walking a whole round one by one from `start`.
    fn walk(span: Span, start: usize, steps: usize, mut visit: impl FnMut(usize, usize)) {
        let mut index = start;
        for step in 0..steps {
            visit(step, index);
            index = span.advance(index, 1);
        }
    }

    fn check(span: Span, start: usize) {
        let capacity = span.capacity();
        walk(span, start, 4 * capacity, |step, read| {
            for base_step in 0..capacity {
                let base = span.base_at(span.advance(start, base_step));
                assert_eq!(span.place(read, base), (step + capacity - base_step) % capacity);
            }
            for used in 0..=capacity {
                let write = span.advance(read, used);
                assert_eq!(span.distance(read, write), used, "{span:?} {read} + {used}");
                assert_eq!(write == read, used == 0);
            }
            let place = span.place(read, span.base_at(start));
            for count in 0..=capacity {
                let before = span.before_wrap(place, count);
                assert!(before <= count && place + before <= capacity);
                assert!(before == count || place + before == capacity);
            }
        });
    }

    /// Indices that wrap at a round number broke other queues for capacities that do not divide it, after
    /// hours: so every small capacity, every index, every fill, through several rounds.
    #[test]
    fn every_small_capacity_counts_right_in_both_schemes() {
        for capacity in 1..=24 {
            check(Span::erased(capacity), 0);
            check(Span::fixed(capacity), 0);
        }
    }

    /// A freely counting index passes the end of `usize`: 2^32 bytes come in minutes on a small machine.
    #[test]
    fn free_counting_indices_pass_the_end_of_usize() {
        for capacity in [1_usize, 2, 4, 8, 16] {
            check(Span::fixed(capacity), 0_usize.wrapping_sub(2 * capacity));
        }
    }

    #[test]
    fn a_capacity_of_nothing_stays_at_the_first_place() {
        for span in [Span::fixed(0), Span::erased(0)] {
            assert_eq!((span.distance(0, 0), span.place(0, 0), span.before_wrap(0, 0)), (0, 0, 0));
            assert_eq!(span.advance(0, 0), 0);
        }
    }

    /// Length arithmetic that overflowed once said yes to a grant of `usize::MAX` bytes.
    #[test]
    fn the_largest_capacity_does_not_overflow() {
        let capacity = isize::MAX.unsigned_abs();
        let span = Span::erased(capacity);
        let last = 2 * capacity - 1;
        assert_eq!(span.advance(last, capacity), capacity - 1);
        assert_eq!(span.distance(last, capacity - 1), capacity);
        assert_eq!(span.place(last, capacity - 1), 0);
    }
}
