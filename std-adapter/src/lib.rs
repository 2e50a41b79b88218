//! A file-like buffer that starts in RAM and spills pages to disk, under a memory limit shared by
//! any number of buffers.
//!
//! - [`SpillBuffer`] reads, writes and seeks as a file does. A standalone one needs no pool.
//! - [`SpillPool`] holds thousands of buffers to one hard memory limit and one disk limit.
//! - [`SpillBuffer::freeze`] ends the writing: any number of readers and threads then share a
//!   [`Frozen`] content.
//! - [`SpillBuffer::try_clone`] makes a second buffer that shares the pages, and copies one when
//!   either writes to it.
//! - [`SpillPool::spool`] makes content that is read while it is written.
//! - [`Store`] is where spilled pages go: an unnamed temp file by default, or a store of your own.
//! - [`SpillBuffer::persist`] turns a buffer into a named file, whole or not at all.
//!
//! ```
//! use overspill::SpillPool;
//! use std::io::{Read, Seek, Write};
//!
//! let pool = SpillPool::builder().memory(1 << 20).disk(1 << 30).build()?;
//! let mut upload = pool.buffer();
//! upload.write_all(&[7; 3_000_000])?; // 1 MiB of it in memory, the rest on disk
//! upload.rewind()?;
//! let mut start = [0; 4];
//! upload.read_exact(&mut start)?;
//! assert_eq!(start, [7; 4]);
//! assert!(upload.is_spilled() && pool.stats().memory_used <= 1 << 20);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What a buffer promises, and what it does not, is listed at [`SpillBuffer`].
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `testing` | the module `testing`: stores whose calls fail as planned |
//! | `arbitrary` | `testing`, and plans generated from a fuzzer's bytes |
//! | `bytes` | `Frozen::{bytes_at, chunks}`: content as `Bytes`, without a copy where it is in memory; `SpillBuffer::push`: the other way |
//! | `tokio` | `into_async` of buffers, readers and the ends of spools: they spill without stalling an event loop |
//! | `http-body` | `bytes` and `tokio`; `SpillPool::{collect, spool_body}`, `Frozen::body`: bodies of HTTP messages, received and sent again |
//! | `tower` | `http-body`; `SpillBodyLayer`: a layer that collects the bodies of requests |
//! | `tracing` | each [`Event`] as an event of the `tracing` crate, target `overspill` |
//! | `metrics` | `SpillPool::record_metrics`, for the `metrics` crate |
//! | `cli` | the `overspill` command and its dependencies |
#![deny(missing_docs)]
// What is pasted from a page shows no warning.
#![doc(test(attr(deny(unused_imports))))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api;
mod auto_traits;
mod disk;
mod error;
mod foreign;
#[cfg(feature = "http-body")]
mod http;
mod memory;
#[cfg(all(test, overspill_loom))]
mod models;
mod observe;
mod pager;
mod pages;
#[cfg(feature = "tokio")]
mod polled;
mod pool;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "tower")]
mod tower;
mod try_box;

#[cfg(feature = "http-body")]
pub use self::http::{
    body::SpillBody, body_error::BodyError, collect::Collect, collect_error::CollectError,
    collected::Collected, spool_collect::SpoolCollect,
};
#[cfg(feature = "tokio")]
pub use self::tokio::{
    buffer::{AsyncSpillBuffer, IntoInnerError},
    frozen_reader::AsyncFrozenReader,
    persist::AsyncPersistError,
    spool_reader::AsyncSpoolReader,
    spool_writer::{AsyncSpoolWriter, FinishError},
};
pub use api::buffer::SpillBuffer;
pub use api::buffer_builder::BufferBuilder;
pub use api::frozen::Frozen;
#[cfg(feature = "bytes")]
pub use api::frozen_bytes::Chunks;
pub use api::frozen_reader::FrozenReader;
pub use api::persist::PersistError;
pub use api::persisted::Persisted;
pub use api::pool::SpillPool;
pub use api::pool_builder::{BuildError, PoolBuilder};
pub use api::spool::SpoolWriter;
pub use api::spool_reader::SpoolReader;
pub use api::writable::Writable;
pub use disk::memory_store::MemoryStore;
pub use disk::store::Store;
pub use disk::temp_file::TempFileStore;
pub use error::{DiskLimitScope, SpillError, StoreOperation};
pub use observe::events::Event;
pub use observe::stats::{
    BufferStats, ByteCounts, IoCounts, PoolStats, RefusalCounts, SpillCounts, SpillReason,
};
pub use pages::sums::Checksums;
pub use pool::when_full::WhenFull;

#[cfg(feature = "tower")]
pub use self::tower::{
    layer::{SpillBodyFuture, SpillBodyLayer, SpillBodyService},
    response_body::SpillResponseBody,
};

/// Runs the README's code as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
