//! The part of a page that an access is for, and what kind of access it is.
//!
//! Held by: `tests/tests/spill_model.rs`.

use crate::disk::slots::Slot;
use crate::pages::page::Location;

/// Zeros, to lend a hole from and to write gaps from.
pub(crate) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A range within one page.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    /// The index of the page.
    pub(crate) index: u64,
    /// The offset of the range in the page, in bytes.
    pub(crate) at: usize,
    /// The length of the range, in bytes.
    pub(crate) part: usize,
}

impl Span {
    /// The end of the range, as an offset in the page.
    pub(crate) fn end(self) -> usize {
        self.at + self.part
    }

    /// How many bytes from the beginning of the page it covers: none if it begins later.
    pub(crate) fn covered(self) -> usize {
        if self.at == 0 { self.part } else { 0 }
    }
}

/// Where a page is that the owner has pinned: it is in transit no more, and stays where it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pinned {
    /// In memory, whole or as a segment.
    Memory,
    Slot {
        slot: Slot,
        /// The end of the page's content.
        end: usize,
    },
    /// In neither. It shows what the base has there.
    Hole,
}

impl Pinned {
    /// `None` if the page is in transit still.
    pub(crate) fn new(location: Location) -> Option<Self> {
        match location {
            Location::Memory => Some(Pinned::Memory),
            Location::Spilled { slot, end } => Some(Pinned::Slot { slot, end }),
            Location::Hole => Some(Pinned::Hole),
            Location::InTransit => None,
        }
    }
}

/// Where the byte is that a read begins with.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    /// The page is in memory. Of a segment, the byte may be in its slot.
    Memory,
    /// In a slot; see [`Pinned::Slot`].
    Slot { slot: Slot, end: usize },
    /// In the base.
    Base,
    /// Nowhere: it is 0.
    Zeros,
}

/// Which way a pass goes that an access is a part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// It is of no pass.
    None,
    /// It begins where the last one ended, or the window.
    Up,
    /// It ends where the last one began, or the window.
    Down,
    /// The same, but the rest of the call goes to the page above, which is to stay in memory until then.
    Across,
}

/// What decides whether a page deserves a frame: the kind of access, and how often the page was visited.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    pub(crate) direction: Direction,
    /// Bytes of the whole call that it belongs to.
    pub(crate) want: usize,
    /// The call needs less than half of a page.
    pub(crate) is_small: bool,
    /// Recent visits to the page, this one included; decays as others are visited.
    pub(crate) heat: u8,
}

impl Access {
    /// As one of a pass upwards.
    pub(crate) fn as_scan(self) -> Self {
        Access { direction: Direction::Up, ..self }
    }

    /// As one of a pass upwards in the smallest pieces, in pages of any size.
    #[cfg(feature = "tokio")]
    pub(crate) fn as_small_scan(self) -> Self {
        Access { want: 1, is_small: true, ..self.as_scan() }
    }

    /// More small accesses to this page are likely, so it becomes the window. After a single visit it does
    /// not: moving the window costs more than the visit.
    pub(crate) fn continues(self) -> bool {
        matches!(self.direction, Direction::Up | Direction::Down) && self.is_small
    }
}
