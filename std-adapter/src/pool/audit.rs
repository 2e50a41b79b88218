//! For tests: recounts what a pool has charged, and compares it with what its buffers hold.

use crate::pool::member::PeerTable;
use crate::pool::state::PoolState;

impl PoolState {
    /// Checks what holds even while other threads use the pool.
    ///
    /// # Panics
    /// If more memory was ever charged than the highest limit so far (I2).
    pub(crate) fn check_budget(&self) {
        assert!(self.frames.high_water() <= self.frames.limit_max(), "I2: more was charged than the limit");
    }

    /// Checks that every charged byte is accounted for. Call it while no operation is under way.
    ///
    /// # Panics
    /// If the charges and the usage of all buffers differ (I2, I6), or a search for donors
    /// would pass over memory.
    pub(crate) fn check_quiet(&self) {
        self.check_budget();
        let Some(registry) = &self.registry else { return };
        let (holders, others) = registry.tables();
        let held = |tables: &[PeerTable]| -> u64 {
            tables.iter().map(|table| table.unlocked().usage.memory.used()).sum()
        };
        assert_eq!(held(&others), 0, "bytes that no search finds");
        let held = held(&holders);
        let charged = self.frames.budget().used();
        let found = held + self.frames.recycled_bytes();
        // What is lent may be no buffer's any more.
        let found = found..=found + self.lent.get();
        assert!(found.contains(&charged), "I2: {found:?} bytes of frames, and {charged} bytes charged");
        let tables = holders.iter().chain(&others);
        let slots: u64 = tables.map(|table| table.unlocked().usage.disk.used()).sum();
        let quota = self.disk.quota();
        let used = slots + self.disk.free_parts() + quota.set_aside();
        assert_eq!(used, quota.used(), "I6: bytes of slots and bytes used");
    }
}
