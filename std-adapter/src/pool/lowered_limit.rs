//! How the pool gets below a memory limit that was lowered.
//!
//! Promise: the limit is kept at once, but for pages that are in use or cannot be written. Those follow at
//! their owner's next access outside the window, refill or end of a loan (`Pager::keep_limit`).
//!
//! Held by: `tests/tests/pool_limits.rs`, `tests/tests/told.rs`, `tests/tests/pool_stress.rs`.

use crate::observe::stats::SpillReason;
use crate::pool::member::PeerTable;
use crate::pool::reclaim::{Reclaimed, Take};
use crate::pool::state::PoolState;

/// Rounds over all tables to get below a lowered limit. A page that is in use in all of them leaves at its
/// owner's next access outside the window, refill or end of a loan.
const ROUNDS_MAX: u32 = 4;

/// Buffers that pages are reclaimed from at once when the limit is lowered. One heavy fence serves all of
/// them: with a fence and a write for each, 100,000 bodies of 600 bytes took three times as long to leave.
const DONORS_AT_ONCE: usize = 256;

/// Pages that are reclaimed from one buffer at once when the limit is lowered. Threads that write to one file
/// contend at each call, and one call for 16 pages of 64 KiB takes a fifth less time than 16 calls.
const PAGES_AT_ONCE: usize = 16;

impl PoolState {
    /// Changes the memory limit in bytes, and reclaims what is above it from pages that are not in use.
    pub(crate) fn set_memory_limit(&self, bytes: u64) {
        self.frames.set_limit(bytes);
        if self.frames.is_over() {
            self.drop_all_kept_tables();
            self.frames.trim();
            self.reclaim_excess();
        }
        self.tell_waiters();
    }

    /// Reclaims from the buffers that hold more than their fair share, until no more than the limit is
    /// charged. While more is, at least one buffer holds more than its share.
    fn reclaim_excess(&self) {
        let Some(registry) = &self.registry else { return };
        let share = self.fair_share();
        for _ in 0..ROUNDS_MAX {
            let (before, mut is_refused) = (self.frames.over(), false);
            let mut tables = registry.holding_tables();
            tables.retain(|table| excess_of(table, share) > 0);
            let mut rest = &tables[..];
            while !rest.is_empty() {
                let (batch, others) = rest.split_at(self.batch_len(rest, share));
                is_refused |= !self.reclaim_excess_of(batch, share);
                rest = others;
            }
            let over = self.frames.over();
            if over == 0 || is_refused && over >= before {
                return;
            }
        }
    }

    /// How many of `tables` to reclaim from at once: at least one, at most [`DONORS_AT_ONCE`], with about
    /// [`PAGES_AT_ONCE`] pages.
    fn batch_len(&self, tables: &[PeerTable], share: u64) -> usize {
        let most = (PAGES_AT_ONCE * self.page_size) as u64;
        let mut bytes = 0;
        let fitting = tables.iter().take(DONORS_AT_ONCE).take_while(|table| {
            bytes += excess_of(table, share).min(most);
            bytes <= most
        });
        fitting.count().max(1)
    }

    /// Reclaims what each of `tables` holds beyond `share` bytes, but no more than is charged above the
    /// limit. Returns false if the store refuses: what is left may still leave from other tables.
    fn reclaim_excess_of(&self, tables: &[PeerTable], share: u64) -> bool {
        loop {
            let take =
                Take { pages_max: PAGES_AT_ONCE, share, bytes_max: self.frames.over(), in_place: false };
            if take.bytes_max == 0 {
                return true;
            }
            match self.reclaim(tables, SpillReason::LimitLowered, take) {
                Reclaimed::Frames(frames) => {
                    frames.into_iter().for_each(|frame| self.frames.recycle(frame));
                }
                Reclaimed::Nothing => return true,
                Reclaimed::StoreRefused => return false,
            }
        }
    }
}

/// Bytes of frames that a buffer holds beyond `share`.
fn excess_of(table: &PeerTable, share: u64) -> u64 {
    table.unlocked().usage.memory.used().saturating_sub(share)
}
