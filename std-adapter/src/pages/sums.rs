//! Checksums of spilled pages: which sum each block of a page has. Bookkeeping only, without I/O.
//!
//! Promises:
//!
//! - I9: a read of bytes that were changed in their slot is an error, and never returns wrong bytes. A disk
//!   that decays may change them, a write that was lost or went elsewhere, or another program.
//! - The sums are no protection from an attacker, who can choose the changed bytes so that they match.
//!
//! # Design
//!
//! - **The sums are in memory, beside the page table.** In the slot they would be lost together with what
//!   they guard: a write that the disk forgot leaves an old slot with its old sum. They would also unalign
//!   slots, and a small read would need a second read for the sum.
//! - **A block is 4 KiB**, or a page if that is smaller. A file system writes no less, so that much goes bad
//!   at once. A small read of a spilled page has to read its block whole. Blocks of 1 KiB made such reads no
//!   cheaper and large transfers dearer, and would take four times the memory. A block takes 4 bytes, a page
//!   of 64 KiB takes 64, and a page that was never spilled none. Like the table, the sums are not charged.
//! - **The sum is 32 bits of XXH3**, the fastest hash that needs no compiler flags. It takes 115 ns for 4
//!   KiB, where CRC-32C took 220 to 330 and other hashes 180 to 250. A sum that can be updated from a change
//!   would not save the read before a partial write: the update needs the old bytes as well.
//! - **A sum covers the bytes of its block as they were written.** When a page is truncated, its last sum
//!   still covers the bytes that were cut off. So truncating needs no I/O; the next read includes those
//!   bytes.
//! - **A write of a part of a block** reads the block first, and fails if the block does not match its sum:
//!   the new sum would vouch for bytes that were never checked. A write of a whole block reads nothing, and
//!   so repairs a bad block.
//! - **A write that fails half-way** leaves a block in two halves, of which the first is known. If the second
//!   was content too, and had not been read, the block has no sum until it is written again. It is read
//!   unchecked, because an error would deny bytes that were accepted (I3).
//! - **A page that is moved to another slot keeps its sums**, and is not checked. A bad block stays bad, and
//!   is an error only for a read of that block.
//!
//! The documentation of [`Checksums`] says what they cost, and why they are off by default.
//!
//! The sums of a page are valid while it is spilled, or in memory and clean. Those of a dirty page belong to
//! bytes that are no longer needed. A hole has none.
//!
//! Held by: the tests below, `tests/tests/checksums/`.

use crate::memory::ordered::Ordered;
use crate::pages::resident::Resident;
use crate::try_box::TryBox;
use std::alloc::{Layout, handle_alloc_error};
use std::collections::TryReserveError;
use std::num::NonZeroU32;
use twox_hash::XxHash3_64;

/// Bytes of a block, which has one sum. A page that is smaller is one block.
pub(crate) const BLOCK: usize = 4096;

/// Whether a pool keeps checksums of the pages that it spills.
///
/// With checksums, bytes that were changed in the store after they were spilled are an error when they are
/// read or persisted ([`SpillError::Corrupted`](crate::SpillError::Corrupted)), and never wrong bytes.
///
/// They are off by default. Most spilled bytes live for seconds, and in the page cache: there a transfer is a
/// copy, and a checksum costs much beside a copy.
///
/// Turn them on if spilled bytes stay for hours, if the disk or the network is not trusted, or if an error is
/// much better than a wrong byte.
///
/// # Cost
///
/// - Time, measured with everything in the page cache: in pieces of 64 KiB, spilling was a tenth slower and
///   reading back a third; in small pieces and in order, a tenth and a sixth. Small reads and writes at
///   random places were two fifths slower. Writing that had to wait for the disk took no longer. Where so
///   many buffers share the memory that each has less than 4 KiB, each piece moves whole blocks of 4 KiB.
///   `cargo bench -p overspill-tests --bench peers -- checksums` measures this.
/// - Memory: 4 bytes for each 4 KiB spilled, and some 66 for each page: 130 for one of 64 KiB. They do not
///   count against the memory limit.
///
/// # Examples
///
/// ```
/// use overspill::{Checksums, SpillPool};
///
/// let pool = SpillPool::builder().checksums(Checksums::On).build()?;
/// # Ok::<(), overspill::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksums {
    /// No checksums. Bytes from the store are not checked.
    #[default]
    Off,
    /// A checksum in memory for each block of 4 KiB, or for each page if pages are smaller. Each misses one
    /// accidental change in four thousand million. They do not stop an attacker.
    On,
}

impl Checksums {
    /// The sums of what a page has in its frame, or `None` if the pool keeps no sums. A segment begins with a
    /// block. An error if there is no memory for them.
    pub(crate) fn of_page(self, page: &Resident) -> Result<Option<PageSums>, TryReserveError> {
        match self {
            Checksums::Off => Ok(None),
            Checksums::On => PageSums::of_frame(page).map(Some),
        }
    }
}

/// The sum of a block. `None` if it is unknown: the block is not checked.
pub(crate) type Sum = Option<NonZeroU32>;

/// The sum of `bytes`. Never `None`: a hash of 0 becomes 1.
pub(crate) fn sum(bytes: &[u8]) -> Sum {
    #[expect(clippy::cast_possible_truncation, reason = "any 32 bits of the hash are equally good")]
    let low = XxHash3_64::oneshot(bytes) as u32;
    NonZeroU32::new(low).or(Some(NonZeroU32::MIN))
}

/// The sums of one page, or of the blocks from [`first`](PageSums::first) on.
#[derive(Debug, Default)]
pub(crate) struct PageSums {
    /// The block that the first of the sums is of. Not 0 only for what is about to be [put](Sums::put).
    first: usize,
    /// The page has content past these blocks.
    goes_on: bool,
    /// How many bytes from the page's beginning the sums cover. At least its content, while they are valid.
    covered: usize,
    /// One for each block that has covered bytes.
    blocks: Vec<Sum>,
}

impl PageSums {
    /// The sums of a page with this content.
    pub(crate) fn of(content: &[u8]) -> Result<Self, TryReserveError> {
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(content.len().div_ceil(BLOCK))?;
        blocks.extend(content.chunks(BLOCK).map(sum));
        Ok(PageSums { first: 0, goes_on: false, covered: content.len(), blocks })
    }

    /// The sums of what a page has in its frame.
    fn of_frame(page: &Resident) -> Result<Self, TryReserveError> {
        let (first, goes_on) = (page.frame_start() / BLOCK, page.frame_end() < page.end());
        Ok(PageSums { first, goes_on, covered: page.frame_end(), ..PageSums::of(page.content())? })
    }
}

/// The sums of one buffer's pages, by page index.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// `None` while there are no sums, as always in a pool that keeps none.
    pages: Option<TryBox<Ordered<PageSums>>>,
}

impl Sums {
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_none()
    }

    fn page(&self, index: u64) -> Option<&PageSums> {
        self.pages.as_ref()?.get(index)
    }

    /// How many bytes from the beginning of page `index` its sums cover; 0 if it has none.
    pub(crate) fn covered(&self, index: u64) -> usize {
        self.page(index).map_or(0, |page| page.covered)
    }

    /// How many of `found`, computed of consecutive blocks of page `index` from block `first` on, match
    /// before the first that does not. An unknown sum matches anything; a block past the last covered one
    /// does not match.
    pub(crate) fn matching(&self, index: u64, first: usize, found: &[Sum]) -> usize {
        let known = self.page(index).and_then(|page| page.blocks.get(first..)).unwrap_or_default();
        let matches = |(found, known): &(&Sum, &Sum)| known.is_none() || found == known;
        found.iter().zip(known).take_while(matches).count()
    }

    /// Makes sure that [`set`](Sums::set) needs no memory up to byte `end` of page `index`. Returns
    /// false if there is none.
    #[must_use]
    pub(crate) fn reserve(&mut self, index: u64, end: usize) -> bool {
        if self.pages.is_none() {
            self.pages = TryBox::new(Ordered::default());
        }
        let page = self.pages.as_mut().and_then(|pages| pages.try_insert(index));
        page.is_some_and(|page| {
            let more = end.div_ceil(BLOCK).saturating_sub(page.blocks.len());
            page.blocks.try_reserve(more).is_ok()
        })
    }

    /// Makes sure that [`put`](Sums::put) needs no memory for the sums of what `page` has in its frame now.
    /// Returns false if there is none. Those of a whole page bring their own.
    #[must_use]
    pub(crate) fn reserve_for(&mut self, index: u64, page: &Resident) -> bool {
        self.reserve(index, page.end_of_segment())
    }

    /// The sums of page `index`, with room up to byte `end`. Ends the process if there is no memory for that,
    /// which was to be [reserved](Sums::reserve).
    fn reserved(&mut self, index: u64, end: usize) -> &mut PageSums {
        let is_reserved = self.reserve(index, end);
        let page = self.pages.as_mut().filter(|_| is_reserved).and_then(|pages| pages.get_mut(index));
        page.unwrap_or_else(|| handle_alloc_error(Layout::new::<PageSums>()))
    }

    /// Puts the sums of page `index`, of which what its frame had was written.
    pub(crate) fn put(&mut self, index: u64, page: PageSums) {
        if page.goes_on {
            return self.set(index, page.first, &page.blocks, page.covered);
        }
        let known = self.reserved(index, if page.first == 0 { 0 } else { page.covered });
        if page.first == 0 {
            *known = page;
            return;
        }
        // Content ends here: what was covered past it is no longer.
        known.covered = page.covered;
        known.blocks.resize(page.first, None);
        known.blocks.extend(page.blocks);
    }

    /// Sets the sums of consecutive blocks of page `index` from block `first` on. They cover the page up to
    /// byte `end`; more stays covered if it was. Blocks in between become unknown.
    pub(crate) fn set(&mut self, index: u64, first: usize, sums: &[Sum], end: usize) {
        let blocks = first + sums.len();
        let page = self.reserved(index, blocks * BLOCK);
        page.covered = page.covered.max(end);
        if page.blocks.len() < blocks {
            page.blocks.resize(blocks, None);
        }
        page.blocks[first..blocks].copy_from_slice(sums);
    }

    /// Makes the sums of page `index` cover `end` bytes and no more. `last` is the sum of the last block
    /// left.
    pub(crate) fn shorten(&mut self, index: u64, end: usize, last: Sum) {
        if let Some(page) = self.pages.as_mut().and_then(|pages| pages.get_mut(index)) {
            page.covered = end;
            page.blocks.truncate(end.div_ceil(BLOCK));
            if let Some(block) = page.blocks.last_mut() {
                *block = last;
            }
        }
    }

    /// Removes the sums of page `index` from the block on that begins at byte `start`.
    pub(crate) fn forget_from(&mut self, index: u64, start: usize) {
        if let Some(page) = self.pages.as_mut().and_then(|pages| pages.get_mut(index)) {
            page.covered = page.covered.min(start);
            page.blocks.truncate(start / BLOCK);
        }
    }

    /// Removes the sums of page `index`.
    pub(crate) fn forget(&mut self, index: u64) {
        self.pages.as_mut().and_then(|pages| pages.remove(index));
    }

    /// Removes the sums of the pages from `first` on.
    #[inline]
    pub(crate) fn cut(&mut self, first: u64) {
        let Some(pages) = &mut self.pages else { return };
        while let Some(last) = pages.last().filter(|&last| last >= first) {
            pages.remove(last);
        }
        if pages.is_empty() {
            self.pages = None;
        }
    }

    /// The indices of the pages that have sums.
    pub(crate) fn pages(&self) -> impl Iterator<Item = u64> {
        let pages = self.pages.iter().flat_map(|pages| pages.from(0));
        pages.filter(|(_, page)| page.covered > 0).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_depends_on_every_bit_of_its_block() {
        let mut block = [7; BLOCK];
        let right = sum(&block);
        for bit in 0..BLOCK * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum(&block), right, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_ne!(sum(&block[1..]), right, "the length counts too");
    }

    #[test]
    fn matching_counts_sums_up_to_the_first_that_differs() {
        let mut sums = Sums::default();
        let content: Vec<u8> =
            [[1; BLOCK], [2; BLOCK], [3; BLOCK]].concat().into_iter().chain([4; 5]).collect();
        sums.put(4, PageSums::of(&content).unwrap());
        let found: Vec<Sum> = content.chunks(BLOCK).map(sum).collect();
        assert_eq!(
            (sums.covered(4), sums.matching(4, 0, &found), sums.matching(4, 2, &found[2..])),
            (content.len(), 4, 2)
        );
        assert_eq!((sums.covered(5), sums.matching(5, 0, &found)), (0, 0), "nothing matches a hole");
        sums.set(4, 1, &[sum(b"other")], 0);
        assert_eq!(sums.matching(4, 0, &found), 1);
        sums.set(4, 1, &[None], 0);
        assert_eq!(sums.matching(4, 0, &found), 4, "an unknown sum matches");
    }

    #[test]
    fn sums_cover_a_page_as_far_as_it_was_written() {
        let mut sums = Sums::default();
        sums.set(0, 2, &[sum(b"abc")], 2 * BLOCK + 3);
        sums.set(0, 0, &[sum(b"abc")], 3);
        assert_eq!(sums.covered(0), 2 * BLOCK + 3);
        sums.shorten(0, 2, sum(b"ab"));
        assert_eq!((sums.covered(0), sums.matching(0, 0, &[sum(b"ab"), None])), (2, 1));
        sums.set(1, 0, &[sum(b"x"), sum(b"y")], BLOCK + 1);
        sums.forget_from(1, 2 * BLOCK);
        assert_eq!((sums.covered(1), sums.matching(1, 1, &[sum(b"y")])), (BLOCK + 1, 1));
        sums.forget_from(1, BLOCK);
        assert_eq!((sums.covered(1), sums.matching(1, 0, &[sum(b"x"), sum(b"y")])), (BLOCK, 1));
        sums.cut(1);
        assert_eq!(sums.pages().collect::<Vec<_>>(), [0]);
        sums.forget(0);
        assert_eq!(sums.pages().count(), 0);
    }
}
