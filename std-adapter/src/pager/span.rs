//! The part of a page that an access is for, and how the access came to it.

/// What a hole is lent from, and gaps are written from.
pub(crate) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A range within one page.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) index: u64,
    /// Where in the page it starts, and how long it is, in bytes.
    pub(crate) at: usize,
    pub(crate) part: usize,
}

impl Span {
    pub(crate) fn end(self) -> usize {
        self.at + self.part
    }
}

/// How an access came to a page that is not in memory.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    /// It goes on where the last one ended.
    pub(crate) sequential: bool,
    /// It wants only a little of the page.
    pub(crate) small: bool,
    pub(crate) heat: u8,
}

impl Access {
    /// More of the same is to be expected in this page: it deserves the window. A single visit does
    /// not, since moving the window costs more than the visit.
    pub(crate) fn goes_on(self) -> bool {
        self.sequential && self.small
    }
}
