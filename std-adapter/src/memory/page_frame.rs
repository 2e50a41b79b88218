//! The memory of a page: a frame, or a page of memory that was given.
//!
//! Promises:
//!
//! - Only a frame is written to: what changes bytes does nothing to given memory, and says so. So does what
//!   would use it again.
//! - It is as long as a frame is.
//!
//! Held by: the tests below, `tests/tests/given_bytes/`, `std-adapter/src/models/given.rs` (loom).

#[cfg(any(feature = "bytes", feature = "tokio"))]
use crate::memory::budget::WatchedBudget;
use crate::memory::frame::Frame;
use crate::memory::given::{Given, GivenPage};
use crate::sync::Arc;

/// Where the bytes of a page in memory lie.
#[derive(Debug)]
pub(crate) enum PageFrame {
    Own(Frame),
    Given(GivenPage),
}

impl From<Frame> for PageFrame {
    fn from(frame: Frame) -> Self {
        PageFrame::Own(frame)
    }
}

impl PageFrame {
    /// All bytes that can be read.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            PageFrame::Own(frame) => frame.bytes(),
            PageFrame::Given(page) => page.bytes(),
        }
    }

    /// The budget that its memory is charged to.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) fn budget(&self) -> &Arc<WatchedBudget> {
        match self {
            PageFrame::Own(frame) => frame.budget(),
            PageFrame::Given(page) => page.given().budget(),
        }
    }

    /// The bytes that fit.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        match self {
            PageFrame::Own(frame) => frame.capacity(),
            PageFrame::Given(page) => page.len(),
        }
    }

    /// The bytes from the beginning that may be written to.
    pub(crate) fn usable(&self) -> usize {
        match self {
            PageFrame::Own(frame) => frame.usable(),
            PageFrame::Given(_) => 0,
        }
    }

    /// The frame, to be used again. `None`, and what was given is let go, if it is none.
    pub(crate) fn into_own(self) -> Option<Frame> {
        match self {
            PageFrame::Own(frame) => Some(frame),
            PageFrame::Given(_) => None,
        }
    }

    pub(crate) fn is_given(&self) -> bool {
        matches!(self, PageFrame::Given(_))
    }

    /// The memory that was given, if it is a page of that.
    pub(crate) fn given(&self) -> Option<&Arc<Given>> {
        match self {
            PageFrame::Own(_) => None,
            PageFrame::Given(page) => Some(page.given()),
        }
    }

    /// See [`Frame::use_first`].
    pub(crate) fn use_first(&mut self, len: usize) {
        if let PageFrame::Own(frame) = self {
            frame.use_first(len);
        }
    }

    /// See [`Frame::written_mut`].
    #[inline(always)]
    pub(crate) fn written_mut(&mut self, at: usize, len: usize) -> Option<&mut [u8]> {
        match self {
            PageFrame::Own(frame) => frame.written_mut(at, len),
            PageFrame::Given(_) => None,
        }
    }

    /// See [`Frame::append`].
    #[inline(always)]
    pub(crate) fn append(&mut self, at: usize, data: &[u8], commit: impl FnOnce()) -> bool {
        match self {
            PageFrame::Own(frame) => frame.append(at, data, commit),
            PageFrame::Given(_) => false,
        }
    }

    /// See [`Frame::write`].
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) -> bool {
        match self {
            PageFrame::Own(frame) => frame.write(at, data),
            PageFrame::Given(_) => false,
        }
    }

    /// See [`Frame::first_mut`]. Of given memory, none.
    pub(crate) fn first_mut(&mut self, len: usize) -> &mut [u8] {
        match self {
            PageFrame::Own(frame) => frame.first_mut(len),
            PageFrame::Given(_) => &mut [],
        }
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use crate::memory::frame_pool::FramePool;
    use crate::memory::given::Owner;

    #[test]
    fn given_memory_costs_a_frame_no_room_and_is_never_written_to() {
        assert_eq!(size_of::<PageFrame>(), size_of::<Frame>());
        let frames = FramePool::new(1 << 10, 64);
        let given = frames.charge_given(Owner::of_vec(vec![7; 100]), 100).ok().unwrap();
        let mut page = PageFrame::Given(GivenPage::new(&given, 30, 64));
        assert_eq!((page.bytes(), page.capacity(), page.usable()), (&[7; 64][..], 64, 0));
        assert!(page.written_mut(0, 1).is_none() && page.first_mut(1).is_empty());
        assert!(!page.write(0, &[1]) && !page.append(64, &[], || panic!("it has no end")));
        assert!(page.bytes() == [7; 64] && page.is_given() && page.into_own().is_none());
        assert_eq!((given.leave(), given.leave()), (0, 100), "the last releases all");
        assert_eq!(frames.budget().used(), 100);
        drop(given);
        assert_eq!(frames.budget().used(), 0);
    }
}
