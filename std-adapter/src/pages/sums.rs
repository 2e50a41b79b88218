//! Checksums of what is spilled: which block of a page has which sum. Bookkeeping alone; no I/O.
//!
//! Bytes that were changed in a slot, by a disk that rots, a write that was lost or went elsewhere, or another program, are
//! an error when they are read, and never wrong bytes. The sums are no seal: an attacker who chooses the changed bytes can
//! make them fit.
//!
//! # Design
//!
//! - **The sums are in memory, beside the page table.** In the slot they would share the fate of what they guard: a write
//!   that the disk forgot leaves an old slot with its old sum. They would also unalign slots, and small reads would need a
//!   second read for the sum.
//! - **A block is 4 KiB**, or a page if that is smaller: the least that a file system writes, and so what goes bad at once. A
//!   small read of a spilled page has to read its block whole. Blocks of 1 KiB made that no cheaper and large transfers
//!   dearer, and would take four times the memory: 4 bytes for each block, 64 for a page of 64 KiB. A page that was never
//!   spilled has none. Like the table, the sums are not charged.
//! - **The sum is 32 bits of XXH3**, the fastest of those that need no compiler flags: 115 ns for 4 KiB, where CRC-32C took 220
//!   to 330, and other hashes 180 to 250. A sum that can be updated from what a write changes would not spare the read: it
//!   needs the old bytes as well.
//! - **A sum covers the bytes of its block as they were written.** When a page is cut shorter, its last sum still covers what
//!   was cut off: cutting needs no I/O, and the next read includes what the sum covers.
//! - **A write of a part of a block** reads the block first, and is refused if that does not fit its sum: the new sum would
//!   vouch for bytes that were never checked. A write of a whole block reads nothing, and so heals a block that went bad.
//! - **A write that fails half-way** leaves a block in two halves, the first of which is known. If the second was content
//!   too, and had not been read, the block has no sum until it is written again: it is read unchecked, because an error
//!   would deny bytes that were accepted (I3).
//! - **Slots that are moved take their sums along**, unchecked: a bad block stays bad, and is no error for those who do not
//!   read it.
//!
//! The documentation of [`Checksums`] says what they cost, and why they are off by default.
//!
//! The sums of a page are valid while it is spilled, or in memory and clean; those of a dirty page are of bytes that are no
//! longer needed. A hole has none.
//!
//! Held by: the tests below, `tests/tests/checksums/`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use twox_hash::XxHash3_64;

/// Bytes that share one sum, unless a page is smaller.
pub(crate) const BLOCK: usize = 4096;

/// Whether a pool keeps checksums of what it spills.
///
/// With them, bytes that were changed in the store after they were spilled are an error when they are read or persisted
/// ([`SpillError::Corrupted`](crate::SpillError::Corrupted)), and never wrong bytes.
///
/// They are off by default, because most of what is spilled lives for seconds, and in the page cache, where a transfer is a
/// copy and a sum is not cheap beside that. Measured with everything in the page cache, they made spilling in pieces of
/// 64 KiB a tenth slower, reading back a third, and small reads and writes at random places two fifths; in small pieces and
/// in order, a twentieth and a sixth. Writing that had to wait for the disk took no longer.
///
/// Turn them on where spilled bytes lie for hours, on a disk or a network that is not trusted, or where an error is much better
/// than a wrong byte. They take 4 bytes of memory for each 4 KiB spilled, and some 80 for each page, beside the memory
/// limit. `cargo bench -p overspill-tests --bench peers -- checksums` measures them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// None: what the store returns is believed.
    #[default]
    Off,
    /// One for each block of 4 KiB, in memory. They miss one accident in four thousand
    /// million; they do not stop an attacker.
    On,
}

impl Checksums {
    /// The sums of a page with this content, if any are kept.
    pub(crate) fn of_page(self, content: &[u8]) -> Option<PageSums> {
        match self {
            Checksums::Off => None,
            Checksums::On => Some(PageSums::of(content)),
        }
    }
}

/// The sum of a block; none if nothing is known of it.
pub(crate) type Sum = Option<NonZeroU32>;

/// The sum of `bytes`.
pub(crate) fn sum(bytes: &[u8]) -> Sum {
    #[expect(clippy::cast_possible_truncation, reason = "any 32 of its bits are as good as any other")]
    let low = XxHash3_64::oneshot(bytes) as u32;
    NonZeroU32::new(low).or(Some(NonZeroU32::MIN))
}

/// The sums of one page.
#[derive(Debug, Default)]
pub(crate) struct PageSums {
    /// Bytes from the page's beginning that they cover: at least its content.
    covered: usize,
    /// One for each block that is begun.
    blocks: Vec<Sum>,
}

impl PageSums {
    /// Those of a page with this content.
    pub(crate) fn of(content: &[u8]) -> Self {
        PageSums { covered: content.len(), blocks: content.chunks(BLOCK).map(sum).collect() }
    }
}

/// The sums of one buffer's pages, by their index.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// None while there are none: there are pools of many buffers without.
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24 in each of them")]
    pages: Option<Box<BTreeMap<u64, PageSums>>>,
}

impl Sums {
    fn page(&self, index: u64) -> Option<&PageSums> {
        self.pages.as_ref()?.get(&index)
    }

    /// Bytes from the beginning of page `index` that its sums cover.
    pub(crate) fn covered(&self, index: u64) -> usize {
        self.page(index).map_or(0, |page| page.covered)
    }

    /// How many of `found`, the sums of blocks of page `index` from `first` on, are right before one is
    /// not. One that nothing is known of is.
    pub(crate) fn matching(&self, index: u64, first: usize, found: &[Sum]) -> usize {
        let known = self.page(index).and_then(|page| page.blocks.get(first..)).unwrap_or_default();
        let fits = |(found, known): &(&Sum, &Sum)| known.is_none() || found == known;
        found.iter().zip(known).take_while(fits).count()
    }

    /// All of page `index` was written.
    pub(crate) fn put(&mut self, index: u64, page: PageSums) {
        self.pages.get_or_insert_default().insert(index, page);
    }

    /// Blocks of page `index` from `first` on were written, and the page is covered to `end` at least.
    pub(crate) fn set(&mut self, index: u64, first: usize, sums: &[Sum], end: usize) {
        let page = self.pages.get_or_insert_default().entry(index).or_default();
        page.covered = page.covered.max(end);
        let blocks = first + sums.len();
        if page.blocks.len() < blocks {
            page.blocks.resize(blocks, None);
        }
        page.blocks[first..blocks].copy_from_slice(sums);
    }

    /// Page `index` is covered to `end` and no further, and `last` is the sum of its last block.
    pub(crate) fn shorten(&mut self, index: u64, end: usize, last: Sum) {
        if let Some(page) = self.pages.as_mut().and_then(|pages| pages.get_mut(&index)) {
            page.covered = end;
            page.blocks.truncate(end.div_ceil(BLOCK));
            if let Some(block) = page.blocks.last_mut() {
                *block = last;
            }
        }
    }

    /// Page `index` is a hole.
    pub(crate) fn forget(&mut self, index: u64) {
        self.pages.as_mut().and_then(|pages| pages.remove(&index));
    }

    /// Pages from `first` on are holes.
    pub(crate) fn cut(&mut self, first: u64) {
        if let Some(pages) = &mut self.pages {
            drop(pages.split_off(&first));
        }
        self.pages.take_if(|pages| pages.is_empty());
    }

    /// The pages that have sums.
    pub(crate) fn pages(&self) -> impl Iterator<Item = u64> {
        self.pages.iter().flat_map(|pages| pages.keys().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_block_counts() {
        let mut block = [7; BLOCK];
        let right = sum(&block);
        for bit in 0..BLOCK * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum(&block), right, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_ne!(sum(&block[1..]), right, "and the length");
    }

    #[test]
    fn what_fits_is_counted_up_to_the_first_that_does_not() {
        let mut sums = Sums::default();
        let content: Vec<u8> =
            [[1; BLOCK], [2; BLOCK], [3; BLOCK]].concat().into_iter().chain([4; 5]).collect();
        sums.put(4, PageSums::of(&content));
        let found: Vec<Sum> = content.chunks(BLOCK).map(sum).collect();
        assert_eq!(
            (sums.covered(4), sums.matching(4, 0, &found), sums.matching(4, 2, &found[2..])),
            (content.len(), 4, 2)
        );
        assert_eq!((sums.covered(5), sums.matching(5, 0, &found)), (0, 0), "nothing fits a hole");
        sums.set(4, 1, &[sum(b"other")], 0);
        assert_eq!(sums.matching(4, 0, &found), 1);
        sums.set(4, 1, &[None], 0);
        assert_eq!(sums.matching(4, 0, &found), 4, "nothing is known of one");
    }

    #[test]
    fn a_page_is_covered_as_far_as_it_was_written() {
        let mut sums = Sums::default();
        sums.set(0, 2, &[sum(b"abc")], 2 * BLOCK + 3);
        sums.set(0, 0, &[sum(b"abc")], 3);
        assert_eq!(sums.covered(0), 2 * BLOCK + 3);
        sums.shorten(0, 2, sum(b"ab"));
        assert_eq!((sums.covered(0), sums.matching(0, 0, &[sum(b"ab"), None])), (2, 1));
        sums.set(1, 0, &[sum(b"x")], 1);
        sums.cut(1);
        assert_eq!(sums.pages().collect::<Vec<_>>(), [0]);
        sums.forget(0);
        assert_eq!(sums.pages().count(), 0);
    }
}
