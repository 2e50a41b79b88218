//! Stores that fail as planned, for your own tests and fuzz targets.
//!
//! | purpose | use |
//! |---|---|
//! | fail one call of a store, or one and all later ones | [`FaultStore`], [`Fault`] |
//! | fail call 0, then call 1, and so on until no call of a run fails | [`Faults::failed`] |
//! | check the state after a failure, without further failures | [`Faults::paused`] |
//! | end all failures, as when a full disk has room again | [`Faults::lift`] |
//! | see in which order a program reads and writes | [`FaultPlan::recording`] |
//! | give a fuzz target a small pool, in which every boundary is near | [`PoolPlan`] |
//!
//! Plans apply to stores only. The file that a buffer becomes ([`into_file`](crate::SpillBuffer::into_file),
//! [`persist`](crate::SpillBuffer::persist)) is made, synced and named by the system, and so is the file of a
//! [`buffer_for`](crate::SpillPool::buffer_for). For those use a tool such as
//! `strace -e inject=fsync:error=EIO`; `tests/tests/real_faults.rs` in this crate's repository shows how.
//!
//! # Every call fails once
//!
//! Count faults instead of sampling them: let call 0 fail, then call 1, and so on, until no call of a run
//! fails. Each place in which the program uses the store has failed then.
//!
//! ```
//! use overspill::testing::{Failure, Fault, PoolPlan};
//! use std::io::{Read, Seek, Write};
//!
//! for n in 0.. {
//!     // Pages of 8 bytes, one of them in memory: the second page spills.
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
//! With the feature `arbitrary`, [`FaultPlan`] and [`PoolPlan`] are generated from the fuzzer's bytes. A pool
//! from such a plan has no file and depends on no clock, so an input does the same in every run. Its pages
//! are of a few bytes, so small inputs reach every boundary. If the code under test reads from any `BufRead`:
//!
//! ```
//! use overspill::testing::PoolPlan;
//! use std::io::{self, BufRead, Seek, Write};
//!
//! /// The code under test.
//! fn words(from: impl BufRead) -> io::Result<Vec<String>> {
//!     from.split(b' ').map(|word| Ok(String::from_utf8_lossy(&word?).into_owned())).collect()
//! }
//!
//! /// In `fuzz/fuzz_targets/words.rs`: `fuzz_target!(|input: (PoolPlan, Vec<u8>)| check(input));`
//! fn check((plan, bytes): (PoolPlan, Vec<u8>)) {
//!     let (pool, faults) = plan.pool();
//!     let mut buffer = pool.buffer();
//!     // No call fails while the bytes are written, but the disk limit may still refuse them.
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
//! The target's `fuzz/Cargo.toml` has `overspill = { version = "0.1", features = ["arbitrary"] }`. The target
//! [`example_format`] does more: it writes and seeks, lifts the faults, and goes on. With
//! `cargo fuzz run --no-trace-compares` such targets run about twice as fast.
//!
//! [`example_format`]: https://github.com/overspill/overspill/blob/main/tests/src/example.rs

// Held by: the tests in the files of this folder, and `tests/tests/spill_faults/`, which stands on them.

#[cfg(feature = "arbitrary")]
mod from_bytes;
mod plan;
mod pool;
mod store;

pub use plan::{Call, Failure, Fault, FaultPlan};
pub use pool::PoolPlan;
pub use store::{FaultStore, Faults, Record};
