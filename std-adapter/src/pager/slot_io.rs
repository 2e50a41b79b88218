//! Which slots a buffer has, and transfers to and from them, each charged and counted.

use crate::disk::backing::Home;
use crate::disk::slots::Slot;
use crate::disk::transfer;
use crate::error::{LimitScope, SpillError};
use crate::memory::budget::Refused;
use crate::observe::counters::Way;
use crate::observe::stats::IoCounts;
use crate::pager::state::Pager;

impl Pager {
    fn home(&self) -> Home<'_> {
        Home { disk: &self.core.disk, own: self.own().map(|own| &**own) }
    }

    /// A slot for `bytes` of page `index`.
    pub(crate) fn take_slot(&mut self, index: u64, bytes: usize) -> Result<Slot, SpillError> {
        let (home, account) = (self.home(), &self.account().disk);
        let asked = home.slot_bytes(bytes);
        let refused = |refused: Refused| {
            SpillError::disk_limit(refused.limit, refused.taken, asked, LimitScope::Buffer)
        };
        account.take(asked).map_err(refused)?;
        home.take(index, bytes, self.place()).inspect_err(|_| account.give_back(asked))
    }

    /// A slot as long as a page for page `index`, if the one at `offset` can be had.
    pub(crate) fn take_slot_at(&mut self, index: u64, offset: u64) -> Option<Slot> {
        let (home, account) = (self.home(), &self.account().disk);
        let asked = self.core.page_size as u64;
        account.take(asked).ok()?;
        let slot = home.take_at(index, offset);
        if slot.is_none() {
            account.give_back(asked);
        }
        slot
    }

    pub(crate) fn free_slot(&self, slot: Slot) {
        self.account().disk.give_back(slot.len());
        self.home().free(slot);
    }

    /// See [`transfer::read`].
    pub(crate) fn read_store(&mut self, way: Way, offset: u64, buf: &mut [u8]) -> Result<(), SpillError> {
        let mut counts = IoCounts::default();
        let read = transfer::read(self.home().store(), offset, buf, &mut counts);
        self.count_io(way, counts);
        read
    }

    /// See [`transfer::write()`].
    pub(crate) fn write_store(
        &mut self,
        way: Way,
        offset: u64,
        data: &[u8],
    ) -> (usize, Result<(), SpillError>) {
        let mut counts = IoCounts::default();
        let written = transfer::write(self.home().store(), offset, data, &mut counts);
        self.count_io(way, counts);
        written
    }

    fn count_io(&mut self, way: Way, counts: IoCounts) {
        self.core.tally.count_io(way, &counts);
        let rare = self.rare();
        rare.io = rare.io + counts;
    }
}
