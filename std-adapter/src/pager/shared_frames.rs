//! Frames for pages of shared content that come from the store: who makes way for a page that several readers
//! need, or a receiver outside the pool.
//!
//! Promise: I2, as in [`residency`](crate::pager::residency), which serves a page that one reader needs.
//!
//! Held by: `tests/tests/frozen.rs`, `tests/tests/lent_bytes.rs`.

use crate::memory::frame::Frame;
use crate::pager::base::Leaving;
use crate::pager::finished::FinishedPages;
use crate::pager::span::{Access, Span};
use crate::pager::state::Pager;
use crate::pages::resident::Resident;
use crate::pool::registry::Effort;

impl Pager {
    /// A frame for the spilled page of `span`, whose content ends at `end`, if it deserves one: while there
    /// is memory to spare, every page does.
    pub(crate) fn frame_to_load(
        &mut self,
        (span, end): (Span, usize),
        access: Access,
        readers: usize,
        finished: &mut FinishedPages,
    ) -> Option<Frame> {
        match readers {
            0 | 1 => self.admit(span, end, end, access).map(|admitted| admitted.frame),
            _ => self
                .spare_to_share(end)
                .or_else(|| if access.is_hot() { self.frame_for_hot(end, access) } else { None })
                .or_else(|| {
                    let is_granted = finished.grant_frame(span.part, end);
                    if is_granted { self.frame_of_others(end, finished) } else { None }
                }),
        }
    }

    /// A frame for a spilled page that several readers need: of memory that is to spare, of a page that
    /// all of them have finished, of memory within the share, and else of the coldest of a sample of
    /// this content's pages.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) fn frame_to_share(&mut self, end: usize, finished: &mut FinishedPages) -> Option<Frame> {
        self.spare_to_share(end).or_else(|| self.frame_of_others(end, finished))
    }

    /// One of memory that is to spare.
    fn spare_to_share(&mut self, end: usize) -> Option<Frame> {
        self.find_frame(self.pool.frames.class(end), self.effort_for_more())
    }

    /// One of an idle buffer, within the share; or of the coldest of a sample of this content's pages, if the
    /// page that needs it is much hotter.
    fn frame_for_hot(&mut self, end: usize, access: Access) -> Option<Frame> {
        let need = self.pool.frames.class(end);
        self.pool.note_miss(self.own_table());
        self.find_in_share(need, 0, Effort::Idle).or_else(|| {
            let (coldest, heat) = self.table(|table| table.coldest(Resident::has_frame))?;
            if access.is_hotter_than(heat) { self.evict_for_frame(coldest, need, need) } else { None }
        })
    }

    /// One of another page: of the first that all readers have finished, and so on.
    fn frame_of_others(&mut self, end: usize, finished: &mut FinishedPages) -> Option<Frame> {
        let need = self.pool.frames.class(end);
        let may_leave = |index| {
            self.table(|table| {
                table.end_sharing_if_idle(index);
                table.is_unshared_and_unpinned(index)
            })
        };
        if let Some(index) = finished.take(may_leave)
            && let Some(frame) = self.evict_for_frame(index, need, need)
        {
            return Some(frame);
        }
        self.pool.note_miss(self.own_table());
        self.find_in_share(need, 0, Effort::Idle).or_else(|| self.evict_coldest(need, Leaving::Any))
    }
}
