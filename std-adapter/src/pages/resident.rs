//! The bytes of a page in memory: of the whole page, or of a *segment* of it.
//!
//! The frame of a segment has bytes from its start on; what lies elsewhere in the page is in the slot. A page
//! that is appended to is a segment once its beginning went to the slot: so an append never reads what is
//! there.
//!
//! Promises:
//!
//! - The frame has authority over the bytes that it holds, the slot over the others that it holds, and the
//!   rest of the page is zeros, whatever frame and slot have there. So growing costs nothing, and a recycled
//!   frame need not be cleared.
//! - A page that was written since it was last copied to its slot is dirty.
//! - A segment has a slot, which is long enough for what its frame can hold.
//!
//! Held by: the tests below, `std-adapter/src/pages/table/tests.rs`, `tests/tests/spill_model.rs`.

use crate::disk::slots::{BLOCK_BYTES, Slot};
use crate::memory::copy::copy;
use crate::memory::frame::Frame;
use crate::memory::given::GivenPage;
use crate::memory::page_frame::PageFrame;

/// A page in memory, or a segment of one.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) frame: PageFrame,
    /// How many bytes, from the frame's beginning, are content; at most what was ever written to the frame.
    /// The content of the page ends at [`end`](Resident::end).
    pub(crate) len: usize,
    /// The frame is newer than the slot, or there is content and no slot.
    pub(crate) dirty: bool,
    /// If the page is clean, has the same bytes; if it is dirty, is reserved for the next write, which may
    /// need a longer one.
    pub(crate) slot: Option<Slot>,
    /// The offset in the page of the frame's first byte. At most `stored`.
    frame_start: u32,
    /// Of a segment: how many bytes, from the page's beginning, the slot has, though the frame may have newer
    /// ones. 0 if the frame has the whole page.
    stored: u32,
}

/// Where the bytes at an offset of a page are, and how many lie there together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Frame(usize),
    Slot(Slot, usize),
    Zeros(usize),
}

/// A number of bytes in a page.
#[expect(clippy::cast_possible_truncation, reason = "a page has 16 MiB at most")]
fn short(bytes: usize) -> u32 {
    bytes as u32
}

impl Resident {
    /// A whole page of new content, without a slot. The frame has nothing of it yet.
    pub(crate) fn fresh(frame: Frame) -> Self {
        Resident { dirty: true, ..Resident::copy(frame, 0) }
    }

    /// The whole page that `slot` has: clean. The frame has nothing of it yet.
    pub(crate) fn of_slot(frame: Frame, slot: Slot) -> Self {
        Resident { slot: Some(slot), ..Resident::copy(frame, 0) }
    }

    /// The page, which has `slot` for what it becomes.
    pub(crate) fn with_slot(self, slot: Option<Slot>) -> Self {
        Resident { slot, ..self }
    }

    /// A clean segment from `start` on of a page of which `slot` has the first `stored` bytes. The frame has
    /// nothing yet.
    pub(crate) fn segment(mut frame: Frame, slot: Slot, start: usize, stored: usize) -> Self {
        debug_assert!(start <= stored && stored > 0);
        frame.use_first(room_of_segment(
            frame.capacity(),
            start,
            usize::try_from(slot.len()).unwrap_or(usize::MAX),
        ));
        let (frame_start, stored) = (short(start), short(stored));
        Resident { frame: frame.into(), len: 0, dirty: false, slot: Some(slot), frame_start, stored }
    }

    /// A whole page of given memory, which has no slot yet.
    pub(crate) fn given(page: GivenPage) -> Self {
        let len = page.len();
        Resident { frame: PageFrame::Given(page), len, dirty: true, slot: None, frame_start: 0, stored: 0 }
    }

    /// A copy from `start` on of a page that other content has: clean, and without a slot. The frame has
    /// nothing of it yet.
    pub(crate) fn copy(mut frame: Frame, start: usize) -> Self {
        frame.use_first(frame.capacity());
        Resident {
            frame: frame.into(),
            len: 0,
            dirty: false,
            slot: None,
            frame_start: short(start),
            stored: 0,
        }
    }

    /// Whether this is a copy of what other content has.
    pub(crate) fn is_copy(&self) -> bool {
        !self.dirty && self.slot.is_none() && self.len > 0
    }

    /// Whether it leaves a frame that can be used again: it is in no given memory.
    pub(crate) fn has_frame(&self) -> bool {
        !self.frame.is_given()
    }

    /// The frame, all of which may be used again, unless it is given memory.
    pub(crate) fn into_frame(self) -> PageFrame {
        let mut frame = self.frame;
        frame.use_first(frame.capacity());
        frame
    }

    /// The offset in the page of the frame's first byte.
    #[inline(always)]
    pub(crate) fn frame_start(&self) -> usize {
        self.frame_start as usize
    }

    /// Whether the slot has bytes of the page that the frame has not.
    pub(crate) fn is_segment(&self) -> bool {
        self.stored > 0
    }

    /// The end of what the frame has, as an offset in the page.
    pub(crate) fn frame_end(&self) -> usize {
        self.frame_start() + self.len
    }

    /// The end of what the frame has, if it is a segment; 0 if it has the whole page.
    pub(crate) fn end_of_segment(&self) -> usize {
        if self.is_segment() { self.frame_end() } else { 0 }
    }

    /// The end of the page's content, as an offset in the page.
    pub(crate) fn end(&self) -> usize {
        self.frame_end().max(self.stored as usize)
    }

    /// What the frame has, from [`frame_start`](Resident::frame_start) on.
    #[inline(always)]
    pub(crate) fn content(&self) -> &[u8] {
        &self.frame.bytes()[..self.len]
    }

    /// The bytes that the frame has from offset `at` of the page on; none if it does not have that one.
    pub(crate) fn content_from(&self, at: usize) -> &[u8] {
        at.checked_sub(self.frame_start()).and_then(|at| self.content().get(at..)).unwrap_or_default()
    }

    /// Where up to `len` bytes at offset `at` of the page are.
    pub(crate) fn part(&self, at: usize, len: usize) -> Part {
        let (start, stored) = (self.frame_start(), self.stored as usize);
        let in_frame = self.content_from(at).len();
        if in_frame > 0 {
            return Part::Frame(in_frame.min(len));
        }
        match self.slot {
            Some(slot) if at < stored => {
                let end = if at < start && self.len > 0 { start } else { stored };
                Part::Slot(slot, (end - at).min(len))
            }
            _ => Part::Zeros(len),
        }
    }

    /// Fills `out` with the bytes that the frame has from offset `at` of the page on, and with zeros past
    /// them.
    pub(crate) fn read(&self, at: usize, out: &mut [u8]) {
        let content = self.content_from(at);
        let n = content.len().min(out.len());
        copy(&mut out[..n], &content[..n]);
        if n < out.len() {
            out[n..].fill(0);
        }
    }

    /// How many bytes can be written to the frame at offset `at` of the page. None to given memory.
    pub(crate) fn room(&self, at: usize) -> usize {
        let past_frame = at.saturating_sub(self.frame_end());
        let is_before = at < self.frame_start();
        // The bytes between what the frame has and `at` would become zeros.
        let would_hide = past_frame > 0 && self.frame_end() < self.stored as usize;
        if is_before || would_hide {
            0
        } else {
            (self.frame_start() + self.frame.usable()).saturating_sub(at)
        }
    }

    /// Writes `data` at offset `at` of the page, where there must be [`room`](Resident::room). A gap between
    /// what the frame has and `at` becomes zeros, and content as well.
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) {
        debug_assert!(data.len() <= self.room(at), "{} bytes at {at}", data.len());
        let at = at - self.frame_start();
        if at > self.len {
            self.frame.first_mut(at)[self.len..].fill(0);
        }
        let written = self.frame.write(at, data);
        debug_assert!(written, "the frame reaches to {}", at + data.len());
        self.len = self.len.max(at + data.len());
        self.dirty |= !data.is_empty();
    }

    /// Shortens the content to `end` bytes of the page. The frame has bytes of them.
    pub(crate) fn shorten(&mut self, end: usize) {
        debug_assert!(end > self.frame_start() || self.frame_start == 0);
        self.len = self.len.min(end - self.frame_start());
        self.stored = self.stored.min(short(end));
    }
}

/// How many bytes a segment at `start` can hold in a frame of `capacity` bytes, where its slot has
/// `slot_len`. It ends with a block of the file system if it can, so that the next one begins with one.
pub(crate) fn room_of_segment(capacity: usize, start: usize, slot_len: usize) -> usize {
    let end = (start + capacity).min(slot_len);
    let aligned = end / BLOCK_BYTES * BLOCK_BYTES;
    (if aligned > start { aligned } else { end }).saturating_sub(start)
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::frame_pool::FramePool;

    const PAGE: usize = 64 << 10;

    fn segment(len: usize, start: usize, stored: usize) -> Resident {
        let frames = FramePool::new(1 << 20, PAGE);
        Resident::segment(frames.acquire(len).unwrap(), Slot::new(0, PAGE as u64), start, stored)
    }

    #[test]
    fn the_frame_of_a_segment_hides_what_the_slot_has() {
        let mut page = segment(8192, 4096, 20_000);
        let slot = page.slot.unwrap();
        assert_eq!((page.part(0, 9000), page.end()), (Part::Slot(slot, 9000), 20_000));
        page.write(4096, &[1; 5000]);
        assert_eq!(page.part(0, 9000), Part::Slot(slot, 4096));
        assert_eq!(page.part(4096, 9000), Part::Frame(5000));
        assert_eq!(page.part(9096, 20_000), Part::Slot(slot, 10_904));
        assert_eq!(page.part(20_000, 7), Part::Zeros(7));
        assert_eq!((page.end(), page.dirty), (20_000, true));
    }

    #[test]
    fn a_segment_ends_with_a_block_and_with_its_page() {
        let room = |start| segment(8192, start, start.max(1)).room(start);
        assert_eq!([0, 5000, 60_000, 65_535].map(room), [8192, 7288, 5536, 1]);
        assert_eq!(segment(512, 1000, 1000).room(1000), 512, "it is too short to reach the end of a block");
    }

    #[test]
    fn nothing_is_written_to_a_frame_that_would_hide_bytes_of_the_slot() {
        let mut page = segment(8192, 4096, 6000);
        assert_eq!([4095, 4096, 4097, 6001].map(|at| page.room(at)), [0, 8192, 0, 0]);
        page.write(4096, &[1; 1904]);
        assert_eq!([6000, 7000, 12_288].map(|at| page.room(at)), [6288, 5288, 0]);
        page.write(7000, b"x");
        let mut gap = [9; 1002];
        page.read(5999, &mut gap);
        assert_eq!((gap[0], &gap[1..1001], gap[1001]), (1, &[0; 1000][..], b'x'));
    }

    #[test]
    fn a_shortened_segment_ends_where_it_was_cut() {
        let mut page = segment(8192, 4096, 20_000);
        page.write(4096, &[1; 5000]);
        page.shorten(7000);
        assert_eq!((page.end(), page.part(7000, 5)), (7000, Part::Zeros(5)));
    }
}
