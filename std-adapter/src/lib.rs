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

mod account;
mod audit;
mod biased;
mod budget;
mod buffer;
mod buffer_io;
mod builder;
mod checked;
mod contained;
mod copy;
mod departure;
mod direct;
mod disk;
mod error;
mod events;
mod export;
mod frame;
mod frame_pool;
mod hand_over;
mod home;
mod idle;
mod in_place;
mod lending;
mod limits;
mod loan;
mod machine;
mod member;
mod memory_store;
#[cfg(all(test, overspill_loom))]
mod models;
mod own_file;
mod page;
mod pager;
mod pager_state;
mod patience;
mod pool;
mod pool_audit;
mod pool_state;
mod pressure;
mod quota;
#[cfg(feature = "metrics")]
mod recording;
mod recycled;
mod registry;
mod residency;
mod resident;
mod room;
mod size_class;
mod slot_io;
mod slots;
mod span;
mod stash;
mod stats;
mod store;
mod sums;
mod sync;
mod table;
mod taking;
mod tally;
mod temp_file;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;
mod waiting;
mod when_full;

pub use buffer::SpillBuffer;
pub use builder::{BuildError, Builder};
pub use error::{LimitScope, Operation, SpillError};
pub use events::Event;
pub use hand_over::HandOverError;
pub use limits::BufferBuilder;
pub use memory_store::MemoryStore;
pub use pool::SpillPool;
pub use room::Room;
pub use stats::{BufferStats, IoCounts, PoolStats, RefusalCounts, SpillCounts, SpillReason};
pub use store::Store;
pub use sums::Checksums;
pub use temp_file::TempFileStore;
pub use when_full::WhenFull;

/// The README's code, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
