//! Recounts what a pool has charged, and compares it with what its buffers hold. For tests.

use crate::pool::state::PoolState;

impl PoolState {
    /// Checks what can be checked while other threads are at work.
    ///
    /// # Panics
    /// If it does not hold.
    pub(crate) fn check_budget(&self) {
        assert!(self.frames.high_water() <= self.frames.limit_max(), "I2: the budget was passed");
    }

    /// Checks that every byte is accounted for, while no operation is under way.
    ///
    /// # Panics
    /// If one is not.
    pub(crate) fn check_quiet(&self) {
        self.check_budget();
        let Some(registry) = &self.registry else { return };
        let held: u64 = registry.tables().iter().map(|table| table.unlocked().usage.memory.used()).sum();
        let memory = self.frames.budget().used();
        assert_eq!(held + self.frames.recycled_bytes(), memory, "I2: frames and what is charged");
        let slots: u64 = registry.tables().iter().map(|table| table.unlocked().usage.disk.used()).sum();
        let quota = self.disk.quota();
        assert_eq!(slots + quota.set_aside(), quota.used(), "I6: slots and what is charged");
    }
}
