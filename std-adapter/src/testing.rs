//! Making what lies below a buffer fail, in your own tests and fuzz targets.
//!
//! | to | use |
//! |---|---|
//! | fail one call of a store, or all from one on | [`FaultStore`], [`Fault`] |
//! | fail call 0, then call 1, and so on until a run has none | [`Faults::failed`] |
//! | look at what a failure has left, without meeting it again | [`Faults::paused`] |
//! | let the disk have room again | [`Faults::lift`] |
//! | see in which order a program reads and writes | [`FaultPlan::recording`] |
//! | give a fuzz target a small pool whose every boundary is near | [`PoolPlan`] |
//!
//! # Every call fails once
//!
//! Faults are best counted, not sampled: let call 0 fail, then call 1, and so on, until a run has met
//! none. So each place in which a program meets its disk is seen to fail.
//!
//! ```
//! use overspill::testing::{Failure, Fault, PoolPlan};
//! use std::io::{Read, Seek, Write};
//!
//! for n in 0.. {
//!     // Pages of 8 bytes, one of them in memory: a disk is needed at once.
//!     let plan = PoolPlan { page_size: 8, memory: 8, ..PoolPlan::default() };
//!     let (pool, faults) = plan.with(Fault::lasting(n, Failure::full())).pool();
//!     let mut buffer = pool.buffer();
//!
//!     let mut accepted = Vec::new();
//!     for word in ["some", "words", "that", "need", "more", "than", "a", "page"] {
//!         if buffer.write_all(word.as_bytes()).is_ok() {
//!             accepted.extend(word.bytes());
//!         } else {
//!             // `write_all` does not say how much it took; the position does.
//!             let taken = buffer.position() as usize - accepted.len();
//!             accepted.extend(&word.as_bytes()[..taken]);
//!         }
//!     }
//!     let failed = faults.failed();
//!     faults.lift();
//!     let mut content = Vec::new();
//!     buffer.rewind()?;
//!     buffer.read_to_end(&mut content)?;
//!     assert_eq!(content, accepted, "with call {n} failing");
//!     if failed == 0 {
//!         break;
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # In a fuzz target
//!
//! With the feature `arbitrary`, [`FaultPlan`] and [`PoolPlan`] are made from the fuzzer's bytes. A
//! pool of theirs uses no file and no clock to decide anything, so an input does the same in every
//! run; and its pages are of a few bytes, so that small inputs meet every boundary. Take the type
//! under test to be a parser that reads from anything that is `Read + Seek`:
//!
//! ```ignore
//! fuzz_target!(|input: (PoolPlan, Vec<u8>)| {
//!     let (plan, bytes) = input;
//!     let (pool, faults) = plan.pool();
//!     let mut buffer = pool.buffer();
//!     // Put the bytes there while nothing fails …
//!     if faults.paused(|| buffer.write_all(&bytes)).is_err() {
//!         return; // … but a disk limit may still refuse.
//!     }
//!     buffer.rewind().unwrap();
//!     match my_parser::parse(&mut buffer) {
//!         // Whatever it says must be what it says of the same bytes in memory,
//!         Ok(parsed) => assert_eq!(Ok(parsed), my_parser::parse(&mut Cursor::new(&bytes))),
//!         // or it has met a fault, and says so.
//!         Err(error) => assert!(faults.failed() > 0 || error.is_about_the_bytes()),
//!     }
//! });
//! ```
//!
//! `fuzz/fuzz_targets/example_format.rs` in this crate's repository is such a target, whole.

#[cfg(feature = "arbitrary")]
mod from_bytes;
mod plan;
mod pool;
mod store;

pub use plan::{Call, Failure, Fault, FaultPlan};
pub use pool::PoolPlan;
pub use store::{FaultStore, Faults, Record};
