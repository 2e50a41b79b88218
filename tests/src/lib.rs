//! What checks overspill: models, drivers and conformance checkers, shared by tests, benches and fuzz
//! targets.
//!
//! | module | question it answers |
//! |---|---|
//! | [`model`] | what is a binary file? |
//! | [`ops`] | what can be done to one, and how is a sequence of it made from bytes? |
//! | [`driver`] | do a subject and the model agree after each operation? |
//! | [`cursors`] | … when the subject is a `Cursor`, over every medium |
//! | [`spills`] | … when the subjects are `SpillBuffer`s of one pool, under any limit |
//! | [`pools`] | … whose limits move, and whose store fails in any one call |
//! | [`readers`] | do many readers of one content, frozen or while it is written? |
//! | [`clones`] | … and buffers that were cloned, and cloned again? |
//! | [`drive_args`], [`drive_size`] | does the command read its line as a naive reading says? |
//! | [`drive_example`] | how is a program of one's own fuzzed over a pool with faults? |
//! | [`faulty`] | what does a cursor do when its medium fails? |
//! | [`conformance`] | does a type keep what a trait promises? |
//! | [`mod@bench`] | who is faster, in one alternating run? |
//! | [`support`], `linux`, `children` | (helpers of many tests) |

// What is pasted from a page shows no warning.
#![doc(test(attr(deny(unused_imports))))]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "sizes here are small and made up; a cast that goes wrong fails a test"
)]
#![allow(
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    reason = "for callers who ship this; here a forgotten result is a test that cannot fail, which \
              the tests of the checkers find"
)]

pub mod bench;
#[cfg(target_os = "linux")]
pub mod children;
pub mod clones;
#[cfg(unix)] // where a command line is bytes
mod command_line;
pub mod conformance;
pub mod cursors;
pub mod driver;
mod example;
pub mod faulty;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod model;
pub mod ops;
pub mod pools;
pub mod readers;
mod ring_driver;
pub mod spills;
pub mod support;

/// The code of the pages that no crate's own documentation includes, run as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/guide.md")]
    struct Guide;
    #[doc = include_str!("../../core/README.md")]
    struct Core;
}

/// What a test that a [`Mismatch`](driver::Mismatch) prints needs.
pub mod replay {
    pub use crate::cursors::{CursorSetup, Under::*, run_cursor};
    pub use crate::driver::Watch::*;
    pub use crate::ops::Op::*;
    pub use crate::pools::{After::*, PoolOp::*, PoolSetup, run_pool};
    pub use crate::spills::{Below::*, SpillSetup, run_spill, run_spill_threads};
    pub use overspill::Checksums::*;
    pub use overspill::testing::{Call, Failure, Fault};
    pub use std::io::ErrorKind;
    pub use std::io::SeekFrom::*;
}

pub use clones::drive_clones;
#[cfg(unix)]
pub use command_line::{drive_args, drive_size};
pub use cursors::drive_cursor;
pub use example::drive_example;
pub use pools::drive_pool;
pub use readers::{drive_frozen, drive_spool};
pub use ring_driver::drive_ring;
pub use spills::drive_spill;
pub use support::skip;

/// proptest's configuration with `cases` cases, or as many as `PROPTEST_CASES` says.
///
/// A failure writes nothing beside the sources: it prints a test, which is a better place for it.
pub fn proptest_config(cases: u32) -> proptest::test_runner::Config {
    let default = proptest::test_runner::Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    proptest::test_runner::Config { cases, failure_persistence: None, ..default }
}
