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
//! What is not a store's matter no plan can reach: the file that a buffer becomes
//! ([`into_file`](crate::SpillBuffer::into_file), [`persist`](crate::SpillBuffer::persist)) is made, synced and
//! named by the system alone, and so is the own file of a buffer that spills beside its target. There,
//! `strace -e inject=fsync:error=EIO` is the tool; `tests/tests/real_faults.rs` in this crate's repository shows
//! how.
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
//! pool of theirs has no file, and no clock decides anything in it, so an input does the same in every
//! run; and its pages are of a few bytes, so that small inputs meet every boundary. Say that the thing
//! under test reads from anything that is `BufRead`:
//!
//! ```
//! use overspill::testing::PoolPlan;
//! use std::io::{self, BufRead, Seek, Write};
//!
//! /// The thing under test.
//! fn words(from: impl BufRead) -> io::Result<Vec<String>> {
//!     from.split(b' ').map(|word| Ok(String::from_utf8_lossy(&word?).into_owned())).collect()
//! }
//!
//! /// In `fuzz/fuzz_targets/words.rs`: `fuzz_target!(|input: (PoolPlan, Vec<u8>)| check(input));`
//! fn check((plan, bytes): (PoolPlan, Vec<u8>)) {
//!     let (pool, faults) = plan.pool();
//!     let mut buffer = pool.buffer();
//!     // The bytes come in while nothing fails; a disk limit may refuse them all the same.
//!     if faults.paused(|| buffer.write_all(&bytes)).is_err() {
//!         return;
//!     }
//!     buffer.rewind().unwrap();
//!     match words(&mut buffer) {
//!         Ok(read) => assert_eq!(read, words(&bytes[..]).unwrap(), "the same as in memory"),
//!         Err(error) => assert!(faults.failed() > 0, "{error}, though nothing has failed"),
//!     }
//! }
//!
//! # check((PoolPlan::default(), b"a word or two, over pages of eight bytes".to_vec()));
//! # use overspill::testing::{Call, Failure, Fault};
//! # let failing = PoolPlan::default().with(Fault::lasting(2, Failure::io()).on(Call::Read));
//! # check((failing, b"a word or two, over pages of eight bytes".to_vec()));
//! ```
//!
//! In its `fuzz/Cargo.toml`: `overspill = { version = "0.1", features = ["arbitrary"] }`. The target
//! [`example_format`] does more: it writes and seeks, mends the store, and goes on. With
//! `cargo fuzz run --no-trace-compares` such targets run about twice as fast.
//!
//! [`example_format`]: https://github.com/overspill/overspill/blob/main/tests/src/example.rs

#[cfg(feature = "arbitrary")]
mod from_bytes;
mod plan;
mod pool;
mod store;

pub use plan::{Call, Failure, Fault, FaultPlan};
pub use pool::PoolPlan;
pub use store::{FaultStore, Faults, Record};
