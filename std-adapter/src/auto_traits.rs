//! What the compiler derives for the public types, and what it cannot.
//!
//! Promises:
//!
//! - Each type can be sent to and shared with other threads, moved while it is used, and printed by `{:?}`.
//!   The futures can be sent.
//! - What has content can be used on after a panic was caught.
//!
//! Held by: the compiler, in the tests below.

use std::panic::{RefUnwindSafe, UnwindSafe};

/// The compiler takes what has cells, or foreign code as a store or a listener is, for broken once a panic
/// has passed it. These are not: a panic of foreign code ends where it was called, or becomes an error, with
/// nothing half-way changed, and what it passed works on. `tests/tests/foreign_code.rs` shows it.
macro_rules! survive_panics {
    ($($kind:ty),* $(,)?) => {
        $(impl UnwindSafe for $kind {}
        impl RefUnwindSafe for $kind {})*
    };
}

survive_panics!(
    crate::SpillPool,
    crate::SpillBuffer,
    crate::Frozen,
    crate::FrozenReader,
    crate::SpoolWriter,
    crate::SpoolReader,
    crate::TempFileStore,
    crate::MemoryStore,
);
#[cfg(feature = "tokio")]
survive_panics!(
    crate::AsyncSpillBuffer,
    crate::AsyncFrozenReader,
    crate::AsyncSpoolReader,
    crate::AsyncSpoolWriter,
);
#[cfg(feature = "http-body")]
survive_panics!(crate::SpillBody, crate::Collected);

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use std::fmt::Debug;
    use std::hash::Hash;
    use std::panic::{RefUnwindSafe, UnwindSafe};

    const fn is_usual<T: Send + Sync + Unpin + Debug>() {}
    const fn survives<T: Send + Sync + Unpin + Debug + UnwindSafe + RefUnwindSafe>() {}
    const fn is_key<T: Hash + Eq + Copy>() {}
    #[cfg(feature = "tokio")]
    fn is_sent<T: Send>(_: &T) {}

    const _: () = {
        survives::<crate::SpillPool>();
        survives::<crate::SpillBuffer>();
        survives::<crate::BufferBuilder<'static>>();
        survives::<crate::Frozen>();
        survives::<crate::FrozenReader>();
        survives::<crate::SpoolWriter>();
        survives::<crate::SpoolReader>();
        survives::<crate::TempFileStore>();
        survives::<crate::MemoryStore>();
        survives::<crate::BufferStats>();
        survives::<crate::PoolStats>();
        survives::<crate::ByteCounts>();
        survives::<crate::IoCounts>();
        survives::<crate::RefusalCounts>();
        survives::<crate::SpillCounts>();
        survives::<crate::SpillReason>();
        survives::<crate::Event>();
        survives::<crate::Checksums>();
        survives::<crate::WhenFull>();
        survives::<crate::DiskLimitScope>();
        survives::<crate::StoreOperation>();
        survives::<crate::BuildError>();
        // std's errors do not promise to survive a panic, nor does a store of a caller's.
        is_usual::<crate::SpillError>();
        is_usual::<crate::PersistError>();
        is_usual::<crate::Persisted>();
        is_usual::<crate::PoolBuilder>();
        is_usual::<Box<dyn crate::Store>>();
        is_usual::<crate::Writable<'static>>();
        is_key::<crate::SpillReason>();
        is_key::<crate::Checksums>();
        is_key::<crate::WhenFull>();
        is_key::<crate::DiskLimitScope>();
        is_key::<crate::StoreOperation>();
    };

    #[cfg(feature = "testing")]
    const _: () = {
        survives::<crate::testing::Call>();
        survives::<crate::testing::Failure>();
        survives::<crate::testing::Fault>();
        survives::<crate::testing::FaultPlan>();
        survives::<crate::testing::PoolPlan>();
        survives::<crate::testing::Record>();
        is_usual::<crate::testing::FaultStore>();
        is_usual::<crate::testing::Faults>();
    };

    #[cfg(feature = "bytes")]
    const _: () = survives::<crate::Chunks>();

    #[cfg(feature = "tokio")]
    const _: () = {
        survives::<crate::AsyncSpillBuffer>();
        survives::<crate::AsyncFrozenReader>();
        survives::<crate::AsyncSpoolReader>();
        survives::<crate::AsyncSpoolWriter>();
        is_usual::<crate::IntoInnerError>();
        is_usual::<crate::FinishError>();
        is_usual::<crate::AsyncPersistError>();
    };

    #[cfg(feature = "http-body")]
    const _: () = {
        survives::<crate::SpillBody>();
        survives::<crate::Collected>();
        is_usual::<crate::BodyError>();
        is_usual::<crate::CollectError>();
        is_usual::<crate::Collect<crate::SpillBody>>();
        is_usual::<crate::SpoolCollect<crate::SpillBody>>();
    };

    #[cfg(feature = "tower")]
    const _: () = {
        survives::<crate::SpillBodyLayer>();
        survives::<crate::SpillBodyService<()>>();
        is_usual::<crate::SpillResponseBody<crate::SpillBody>>();
    };

    /// A future that is not sent cannot be spawned.
    #[cfg(feature = "tokio")]
    #[test]
    fn futures_are_sent() {
        let pool = crate::SpillPool::default();
        let mut buffer = pool.buffer().into_async();
        is_sent(&buffer.set_len(0));
        is_sent(&buffer.clear());
        is_sent(&buffer.run(|_| ()));
        is_sent(&buffer.into_inner());
        is_sent(&pool.buffer().into_async().persist("name"));
        let (writer, _reader) = pool.spool();
        is_sent(&writer.into_async().finish());
    }
}
