//! A lock-free byte queue between one producer and one consumer: an interrupt handler and the main loop, a
//! DMA channel and a driver, two threads.
//!
//! Promises: no call waits, except those of the blocking traits of `embedded-io`. No call allocates or
//! panics, with the exceptions that [the crate's documentation](crate) names. Every byte of the capacity is
//! usable, whatever the capacity. Unread bytes are never overwritten, except by [`Ring::push_overwriting`] on
//! a ring that is whole (for one that is split, see [`LogRing`]). Every other byte that was accepted comes
//! out once, in order. Plain use needs loads and stores only, no compare-and-swap.
//!
//! Not promised: no task is woken, unless the layout is `Waking` (feature `async`). There is no fairness: a
//! producer that never stops keeps the ring full for a slow consumer. [`LogConsumer::pop`] may overwrite its
//! buffer even when it returns no record.
//!
//! ```
//! use overspill_core::ring::Ring;
//!
//! let mut ring = Ring::<8>::new();
//! let (mut producer, mut consumer) = ring.split();
//!
//! assert_eq!(producer.push_slice(b"0123456789"), 8); // every one of the 8 bytes
//! let mut out = [0; 5];
//! assert_eq!(consumer.pop_slice(&mut out), 5);
//! assert_eq!(&out, b"01234");
//! assert_eq!(producer.push_slice(b"89"), 2); // across the wrap
//! assert_eq!(consumer.pop(), Some(b'5'));
//! ```
//!
//! # States
//!
//! | from | to | by |
//! |---|---|---|
//! | whole | split | [`Ring::split`], which borrows it, or [`Ring::try_split`] |
//! | split | whole | dropping or closing both ends, in any order |
//! | open | producer's side closed | dropping or [closing](Producer::close) the producer; what was written can still be read |
//! | open | consumer's side closed | dropping or [closing](Consumer::close) the consumer |
//! | both closed | open | the next split; the bytes within stay |
//!
//! A [`RecordRing`] and a [`LogRing`] have the same states.
//!
//! # Orderings
//!
//! | what | stored by | how | loaded by | how | so that |
//! |---|---|---|---|---|---|
//! | write index | producer | Release | consumer | Acquire | the bytes are written before they are read |
//! | read index | consumer | Release | producer | Acquire | the bytes are read before they are overwritten |
//! | write index, jumping | producer, ring empty | Relaxed | consumer | Acquire | nothing: it hands over no byte |
//! | closed | either | Release | the other | Acquire | what was written before is seen, and read |
//! | gone | either, after it closed | Release | `try_split` | Acquire | the next pair sees what the last one did |
//! | splitting | `try_split` | Acquire, Release | | | of two that find the ring whole, one splits it |
//!
//! With [`Padded`] each end caches its own index and the last value that it loaded of the other's, and loads
//! that again only when the ring seems full or empty: an idea of rtrb's and of Rigtorp's queue. With
//! [`Packed`], which is for a single core, a cache would have a cost and no use. `index.rs` says what an
//! index is, and what a jump is. The read index follows a jump, and is stored, with the next byte that is
//! read. The overwriting ring has a table of its own in `log.rs`, the wake-ups have theirs in `wake.rs`. For
//! every ordering there is a loom model that fails without it (`core/tests/loom_ring.rs`, `.ci/weaken`).
//!
//! # Layers
//!
//! A file imports from its own layer or from one above it in this table, and no two files import each other.
//!
//! | layer | files | what they hold |
//! |---|---|---|
//! | ground | `index`, `errors` | the arithmetic of indices; the errors |
//! | memory | `raw/memory`, `raw/waker_cell`, `wake` | bytes, and a waker, between two threads |
//! | sharing | `shared`, `layout`, `any_ring` | what both ends share, how it lies in memory, and the trait of all rings |
//! | ends | `raw/write_end`, `raw/read_end`, `raw/ends`, `raw/buf` | which end owns which bytes |
//! | handles | `grant`, `producer`, `consumer`, `owned_grant` | the safe interface of one end |
//! | rings | `ring`, `records`, `log` | what is split into ends; `log` uses atomic words, and none of the above but `errors` and how a ring is split, in `shared` |
//! | faces | `io`, `io_async`, `bytes`, `raw/dma` | the traits of other crates |
//!
//! Held by: `core/tests/loom_ring.rs`, `core/tests/ring_threads.rs`, `core/tests/ring_field_bugs.rs`,
//! `tests/tests/ring_model.rs`.

mod any_ring;
#[cfg(feature = "bytes")]
mod bytes;
mod consumer;
mod errors;
mod grant;
mod index;
mod io;
#[cfg(feature = "async")]
mod io_async;
mod layout;
mod log;
mod owned_grant;
mod producer;
mod raw;
mod records;
#[allow(clippy::module_inception, reason = "the ring itself, beside its parts")]
mod ring;
mod shared;
#[cfg(feature = "async")]
mod wake;

pub use any_ring::AnyRing;
#[cfg(feature = "bytes")]
pub use bytes::Readable;
pub use consumer::Consumer;
pub use errors::{BufferTooShort, Closed, Full, GrantError, Lost, PopError, RecordTooLong};
pub use grant::{ReadGrant, WriteGrant};
pub use layout::{HighWater, KeepsHighWater, Layout, Packed, Padded};
#[cfg(feature = "async")]
pub use layout::{Wakes, Waking};
pub use log::{LogConsumer, LogProducer, LogRing};
pub use owned_grant::{OwnedReadGrant, OwnedWriteGrant};
pub use producer::Producer;
#[cfg(feature = "bytes")]
pub use raw::buf::Writable;
pub use records::{Record, RecordConsumer, RecordGrant, RecordProducer, RecordRing};
pub use ring::{Ring, SliceRing};
