//! Which pages every reader of a content has read to their ends: the first to make way for another. And
//! whether readers come to the same pages at all.
//!
//! Readers that go along together need a page at the same time, and none of them again. Their next page then
//! gets the frame that they have just left, which is still in the processor's cache: by any other, 64 KiB
//! took 11 µs to come in, and 4 by this.
//!
//! A reader that no other follows closely reads past the frames: a frame for each page, which leaves before
//! another reader comes, would cost it a second copy of all bytes.
//!
//! Promise: it is a hint, of bounded length. A page that is read again was only chosen badly.
//!
//! Held by: the tests below, `cargo bench -p overspill-tests --bench readers`.

use crate::memory::ordered::Ordered;
use std::collections::VecDeque;

/// Pages that are remembered, of each kind.
const PAGES_MAX: usize = 1 << 12;

/// A page gets a frame once so many bytes have gone past the frames: as many as it has, divided by this. By
/// small reads at random, each would load one otherwise.
const PAST_DIVISOR: usize = 16;

/// Once so many pages have got a frame for several readers and no second one came to them, it takes more.
const UNSHARED_MAX: u8 = 32;

/// Then a page gets one for so many times the bytes that it has, to notice when readers go along together.
const PROBED: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct FinishedPages {
    /// Pages, and how many readers have come to their ends: as many as there is memory to note.
    begun: Ordered<usize>,
    /// The number of these.
    count: usize,
    /// Pages that all readers have left, in that order.
    finished: VecDeque<u64>,
    /// Pages that were to get a frame, less two for each that a reader came to after another. From 0
    /// to [`UNSHARED_MAX`].
    unshared: u8,
    /// Bytes that went past the frames since a page got one.
    gone_past: usize,
}

impl FinishedPages {
    /// One of `readers` has come to the end of page `index`.
    pub(crate) fn note_end(&mut self, index: u64, readers: usize) {
        let ends = self.begun.remove(index).unwrap_or(0) + 1;
        self.count -= usize::from(ends > 1);
        if ends > 1 {
            self.unshared = self.unshared.saturating_sub(2);
        }
        if ends < readers {
            if let Some(begun) = self.begun.try_insert(index) {
                *begun = ends;
                self.count += 1;
            }
        } else if self.finished.try_reserve(1).is_ok() {
            self.finished.push_back(index);
        }
        if self.count > PAGES_MAX {
            self.take_furthest();
        }
        if self.finished.len() > PAGES_MAX {
            self.finished.pop_front();
        }
    }

    /// Counts `part` bytes of a page in the store, which has `end` bytes, that several readers need, and says
    /// whether it is to have a frame that is not to spare.
    pub(crate) fn grant_frame(&mut self, part: usize, end: usize) -> bool {
        self.gone_past = self.gone_past.saturating_add(part);
        let is_open = self.unshared < UNSHARED_MAX;
        let due = if is_open { end / PAST_DIVISOR } else { end.saturating_mul(PROBED) };
        if self.gone_past < due {
            return false;
        }
        self.gone_past = 0;
        self.unshared += u8::from(is_open);
        true
    }

    /// Removes and returns the page that was finished last, of those that `may_leave`; or else the furthest
    /// of those that some have finished, since the others need it later than those before it. What may not
    /// leave is forgotten.
    pub(crate) fn take(&mut self, mut may_leave: impl FnMut(u64) -> bool) -> Option<u64> {
        while let Some(index) = self.finished.pop_back() {
            if may_leave(index) {
                return Some(index);
            }
        }
        while let Some(index) = self.take_furthest() {
            if may_leave(index) {
                return Some(index);
            }
        }
        None
    }

    fn take_furthest(&mut self) -> Option<u64> {
        let index = self.begun.last()?;
        self.begun.remove(index)?;
        self.count -= 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_finished_when_all_have_come_to_its_end() {
        let mut pages = FinishedPages::default();
        for index in [1, 2, 1, 3, 2] {
            pages.note_end(index, 2);
        }
        assert_eq!(pages.take(|index| index != 2), Some(1));
        for index in [4, 5] {
            pages.note_end(index, 2);
        }
        assert_eq!([(); 4].map(|()| pages.take(|_| true)), [Some(5), Some(4), Some(3), None]);
    }

    #[test]
    fn pages_get_frames_while_readers_come_to_the_same() {
        let mut pages = FinishedPages::default();
        let alone: Vec<_> = (0..100).filter(|_| pages.grant_frame(64, 64)).collect();
        assert_eq!((alone.len(), alone[31], alone[32], alone[33]), (36, 31, 47, 63));
        for index in 0..100 {
            let has_frame = pages.grant_frame(64, 64);
            let readers = if has_frame { 3 } else { 0 };
            (0..readers).for_each(|_| pages.note_end(index, 3));
            assert!(has_frame || index < 16, "{index}");
        }
    }

    /// Each small read at random counted as a page that it came to: one of 16 loaded one.
    #[test]
    fn a_page_gets_a_frame_for_bytes_and_not_for_reads() {
        let mut pages = FinishedPages::default();
        let granted = |pages: &mut FinishedPages| (0..1600).filter(|_| pages.grant_frame(1, 64)).count();
        assert_eq!(granted(&mut pages), 32 + (1600 - 32 * 4) / (16 * 64));
        assert_eq!(granted(&mut pages), 1600 / (16 * 64) + 1);
    }

    #[test]
    fn no_more_than_some_are_remembered() {
        let mut pages = FinishedPages::default();
        (0..10_000).for_each(|index| pages.note_end(index, 2));
        (0..10_000).for_each(|index| pages.note_end(index, 1));
        assert!(pages.count <= PAGES_MAX && pages.finished.len() <= PAGES_MAX);
        assert_eq!(pages.take(|_| true), Some(9_999));
    }
}
