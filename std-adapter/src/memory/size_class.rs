//! The lengths of frames, called size classes.
//!
//! They go from [`SMALLEST`], or the page size if that is smaller, up to the page size. From [`FINE_MAX`] on
//! they are powers of two. Below it there are four for each doubling, so that a body of more than
//! [`SMALLEST`] bytes costs at most a quarter more, and recycled frames still fit often. Finer sizes above
//! would fragment the allocator's memory.
//!
//! Held by: the test below.

/// Bytes of the largest page that a pool can have.
pub(crate) const PAGE_SIZE_MAX: usize = 16 << 20;

/// Bytes of the smallest frame, unless pages are smaller.
const SMALLEST: usize = 256;

/// Frames shorter than this, a page of the machine, come in finer sizes.
const FINE_MAX: usize = 4096;

const SIZES_PER_DOUBLING: usize = 4;

/// The length of the frame for `bytes` of a page, where pages have `page_size` bytes; at most a page.
pub(crate) fn size_class(bytes: usize, page_size: usize) -> usize {
    let bytes = bytes.clamp(SMALLEST.min(page_size), page_size);
    bytes.next_multiple_of(step(bytes)).min(page_size)
}

/// The length of the longest frame of at most `bytes`; 0 if there is none.
pub(crate) fn class_within(bytes: usize, page_size: usize) -> usize {
    match bytes {
        _ if bytes >= page_size => page_size,
        _ if bytes < SMALLEST => 0,
        _ => bytes / step(bytes) * step(bytes),
    }
}

/// The distance between neighbouring size classes around `len`.
fn step(len: usize) -> usize {
    let power = 1 << len.ilog2();
    if len < FINE_MAX { (power / SIZES_PER_DOUBLING).max(1) } else { power }
}

/// The index of the size class `len`. A longer class has a higher index.
pub(crate) fn class_index(len: usize) -> usize {
    len.ilog2() as usize * SIZES_PER_DOUBLING + (len - (1 << len.ilog2())) / step(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_a_quarter_apart_from_the_smallest_to_the_page() {
        let class = |bytes| size_class(bytes, 16384);
        assert_eq!([0, 1, 256, 257, 4095, 4096].map(class), [256, 256, 256, 320, 4096, 4096]);
        assert_eq!([4097, 8193, 99999].map(class), [8192, 16384, 16384]);
        assert_eq!([512, 513, 641, 769, 897].map(class), [512, 640, 768, 896, 1024]);
        let mut lens: Vec<_> = (0..=16384).map(class).collect();
        lens.dedup();
        assert!(lens.is_sorted() && lens.windows(2).all(|two| class_index(two[0]) < class_index(two[1])));
        assert_eq!([0, 5, 8].map(|bytes| size_class(bytes, 8)), [8, 8, 8]);
        let below = |bytes| class_within(bytes, 16384);
        assert_eq!(
            [0, 255, 256, 335, 4095, 4096, 9000, 99_999].map(below),
            [0, 0, 256, 320, 3584, 4096, 8192, 16384]
        );
        assert_eq!([7, 8].map(|bytes| class_within(bytes, 8)), [0, 8]);
    }
}
