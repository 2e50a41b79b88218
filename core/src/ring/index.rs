//! The arithmetic of a ring's indices, as pure functions without memory or atomics.
//!
//! In a full ring and in an empty one both indices have the same place in memory, so an index counts laps
//! around the memory as well. It stays right for every capacity when the index type overflows:
//!
//! | capacity | an index is | place of an index |
//! |---|---|---|
//! | power of two, known at compile time | the number of bytes so far, modulo 2^bits of `usize` | the low bits |
//! | any other | the number of laps so far, modulo 4, in the two highest bits; the place in the others | those others |
//!
//! The write index is at most one capacity ahead of the read index, except after a *jump*: to have the whole
//! memory in one piece, the write end of an empty ring moves its index to the first place of the lap after
//! the next. Indices more than one capacity apart mean that the write index has jumped;
//! [`Indices::follow_jump`] moves the read index after it. No flag says so. The two are thus at most three
//! laps apart, and four laps can be told apart.
//!
//! Held by: the tests below (every small capacity, every index, every fill), `core/tests/ring_jump.rs`.

/// The index arithmetic of one capacity, 0 included: that of a ring in an empty slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indices {
    /// At most [`Indices::CAPACITY_MAX`].
    capacity: usize,
    /// Whether indices count bytes. A compile-time constant wherever the capacity is one.
    masked: bool,
}

impl Indices {
    /// The distance between the indices of one place in two successive laps, unless indices count
    /// bytes. Four laps fit.
    const LAP: usize = 1 << (usize::BITS - 2);

    /// The largest capacity: half a lap, so that a distance shows an additional lap. 512 MiB
    /// on a 32-bit machine.
    pub(crate) const CAPACITY_MAX: usize = Self::LAP / 2;

    /// The arithmetic of a capacity known at compile time: the choice of the scheme costs nothing.
    #[inline(always)]
    pub(crate) const fn fixed(capacity: usize) -> Self {
        Indices { capacity, masked: capacity.is_power_of_two() }
    }

    /// The arithmetic of a capacity known only at run time: laps and places, whatever it is.
    #[inline(always)]
    pub(crate) const fn runtime(capacity: usize) -> Self {
        Indices { capacity, masked: false }
    }

    #[inline(always)]
    pub(crate) const fn capacity(self) -> usize {
        self.capacity
    }

    /// The distance between the indices of one place in two successive laps.
    #[inline(always)]
    const fn lap(self) -> usize {
        if self.masked { self.capacity } else { Self::LAP }
    }

    /// The place in memory of `index`, below the capacity (0 for a capacity of 0).
    #[inline(always)]
    pub(crate) const fn place(self, index: usize) -> usize {
        index & (self.lap() - 1)
    }

    /// How far `to` is ahead of `from`: 0 to the capacity if no jump lies between them, and more if one does.
    #[inline(always)]
    pub(crate) const fn distance(self, from: usize, to: usize) -> usize {
        let ahead = to.wrapping_sub(from);
        if self.masked || ahead <= self.capacity {
            ahead
        } else {
            ahead.wrapping_sub(self.lap() - self.capacity)
        }
    }

    /// The index `count` ahead of `index`; `count` is at most the capacity.
    #[inline(always)]
    pub(crate) const fn advance(self, index: usize, count: usize) -> usize {
        let ahead = index.wrapping_add(count);
        if self.masked || self.place(index) + count < self.capacity {
            ahead
        } else {
            ahead.wrapping_add(self.lap() - self.capacity)
        }
    }

    /// The index of the same place one lap before `index`.
    #[inline(always)]
    pub(crate) const fn lap_before(self, index: usize) -> usize {
        index.wrapping_sub(self.lap())
    }

    /// The index to which `index` jumps: the first place of the lap after the next.
    #[inline(always)]
    pub(crate) const fn jump(self, index: usize) -> usize {
        (index | (self.lap() - 1)).wrapping_add(1 + self.lap())
    }

    /// The read index, moved after the write index if that has jumped, and the number of bytes between the
    /// two.
    #[inline(always)]
    pub(crate) const fn follow_jump(self, read: usize, write: usize) -> (usize, usize) {
        let used = self.distance(read, write);
        if used <= self.capacity {
            return (read, used);
        }
        cold_path();
        let read = self.jump(read);
        (read, self.distance(read, write))
    }

    /// How many of `count` bytes from `place` on lie before the end of the memory.
    #[inline(always)]
    pub(crate) const fn before_wrap(self, place: usize, count: usize) -> usize {
        let left = self.capacity - place;
        if count < left { count } else { left }
    }
}

/// Marks the branch that calls it as unlikely, so that the compiler lays it out of the way.
#[cold]
#[inline(always)]
pub(crate) const fn cold_path() {}

#[cfg(test)]
mod tests {
    use super::Indices;

    /// Visits every index that the scheme can reach, one by one from `start`.
    fn walk(indices: Indices, start: usize, steps: usize, mut visit: impl FnMut(usize, usize)) {
        let mut index = start;
        for step in 0..steps {
            visit(step, index);
            index = indices.advance(index, 1);
        }
    }

    fn check(indices: Indices, start: usize) {
        let capacity = indices.capacity();
        walk(indices, start, 9 * capacity, |step, read| {
            let place = indices.place(read);
            assert_eq!(place, step % capacity);
            for used in 0..=capacity {
                let write = indices.advance(read, used);
                assert_eq!(indices.distance(read, write), used, "{indices:?} {read} + {used}");
                assert_eq!(indices.follow_jump(read, write), (read, used));
                assert_eq!(write == read, used == 0);
            }
            for used in 0..=capacity {
                let jumped = indices.jump(read);
                assert_eq!(indices.place(jumped), 0);
                let write = indices.advance(jumped, used);
                assert!(indices.distance(read, write) > capacity, "{indices:?} {read}, jumped, + {used}");
                assert_eq!(indices.follow_jump(read, write), (jumped, used));
            }
            for count in 0..=capacity {
                let before = indices.before_wrap(place, count);
                assert!(before <= count && place + before <= capacity);
                assert!(before == count || place + before == capacity);
            }
        });
    }

    /// Indices that wrapped at a round number broke other queues, after hours, if their capacity did
    /// not divide it. So this tries every small capacity, index and fill, with and without a jump,
    /// through several laps.
    #[test]
    fn every_small_capacity_counts_right_in_both_schemes() {
        for capacity in 1..=24 {
            check(Indices::runtime(capacity), 0);
            check(Indices::fixed(capacity), 0);
        }
    }

    /// An index that counts bytes overflows `usize`: a small machine moves 2^32 bytes in minutes.
    #[test]
    fn counting_indices_pass_the_end_of_usize() {
        for capacity in [1_usize, 2, 4, 8, 16] {
            check(Indices::fixed(capacity), 0_usize.wrapping_sub(2 * capacity));
        }
    }

    #[test]
    fn an_index_of_capacity_0_stays_at_the_first_place() {
        for indices in [Indices::fixed(0), Indices::runtime(0)] {
            assert_eq!((indices.follow_jump(0, 0).1, indices.place(0), indices.before_wrap(0, 0)), (0, 0, 0));
        }
    }

    /// Another queue's length arithmetic overflowed, and granted `usize::MAX` bytes.
    #[test]
    fn the_largest_capacity_does_not_overflow() {
        let capacity = Indices::CAPACITY_MAX;
        assert_eq!(capacity, usize::MAX / 8 + 1, "as much as the documentation of the rings says");
        for indices in [Indices::runtime(capacity), Indices::fixed(capacity), Indices::runtime(capacity - 1)]
        {
            let capacity = indices.capacity();
            for start in [0, capacity - 1, 0_usize.wrapping_sub(indices.lap())] {
                for used in [0, 1, capacity - 1, capacity] {
                    let write = indices.advance(start, used);
                    assert_eq!(indices.follow_jump(start, write), (start, used));
                    let jumped = indices.jump(start);
                    assert_eq!(indices.follow_jump(start, indices.advance(jumped, used)), (jumped, used));
                }
            }
        }
    }
}
