//! A file-like buffer that starts in RAM and spills pages to disk, under a memory budget shared by
//! any number of buffers.
//!
//! - [`SpillBuffer`]: reads, writes and seeks as a file does.
//! - [`SpillPool`]: one hard memory budget and one disk limit over thousands of buffers.
//! - [`Store`]: what lies below; a temp file, unless you say otherwise.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `testing` | the module `testing`: stores that fail as planned |
//! | `arbitrary` | `testing`, and plans made from a fuzzer's bytes |
//! | `tracing` | each [`Event`] as an event of the `tracing` crate, target `overspill` |
//! | `metrics` | `SpillPool::record_metrics`, for the `metrics` crate |
//! | `cli` | the `overspill` command, and what it depends on |
#![deny(missing_docs)]

mod api;
mod disk;
mod error;
mod memory;
#[cfg(all(test, overspill_loom))]
mod models;
mod observe;
mod pager;
mod pages;
mod pool;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;

pub use api::buffer::SpillBuffer;
pub use api::buffer_builder::BufferBuilder;
pub use api::persist::PersistError;
pub use api::pool::SpillPool;
pub use api::pool_builder::{BuildError, PoolBuilder};
pub use api::writable::Writable;
pub use disk::memory_store::MemoryStore;
pub use disk::store::Store;
pub use disk::temp_file::TempFileStore;
pub use error::{DiskLimitScope, SpillError, StoreOperation};
pub use observe::events::Event;
pub use observe::stats::{BufferStats, IoCounts, PoolStats, RefusalCounts, SpillCounts, SpillReason};
pub use pages::sums::Checksums;
pub use pool::when_full::WhenFull;

/// The README's code, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
