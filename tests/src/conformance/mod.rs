//! Does a type keep what a trait promises? One checker for each trait of std, and one for [`Medium`].
//!
//! [`Medium`]: overspill_core::Medium
//!
//! A checker is a table of rules: a sentence, and a function that tries it on fresh values from a
//! factory. It is run on std's own types first (`tests/conformance.rs`): if it rejects one of
//! those, the checker is wrong. Each rule is shown to reject something (`tests/conformance_can_fail.rs`).
//!
//! ```
//! use overspill_tests::conformance;
//! use std::io::Cursor;
//!
//! conformance::read::check(|content| Cursor::new(content.to_vec()))?;
//! # Ok::<(), conformance::Broken>(())
//! ```

pub mod buf_read;
pub mod medium;
pub mod read;
pub mod seek;
pub mod write;

use std::error::Error;
use std::fmt;

/// A rule that a type does not keep.
#[derive(Debug)]
pub struct Broken {
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// What was seen instead.
    pub found: Box<dyn Error>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}: {}", self.rule, self.found)
    }
}

impl Error for Broken {}

/// The result of trying a rule. An error from the value itself breaks the rule too.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A rule as a sentence, and how to try it with a factory `F`.
pub type Rule<F> = (&'static str, fn(&mut F) -> Outcome);

/// Tries all `rules`.
///
/// # Errors
/// With the first one that is broken.
pub fn try_all<F>(rules: &[Rule<F>], factory: &mut F) -> Result<(), Broken> {
    for &(rule, attempt) in rules {
        attempt(factory).map_err(|found| Broken { rule, found })?;
    }
    Ok(())
}

/// Ends a rule with what was found, unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($found:tt)+) => {
        if !$holds {
            return Err(format!($($found)+).into());
        }
    };
}
pub(crate) use ensure;

/// The error of a file of std with the kind that it has on Unix. Windows says `ERROR_NEGATIVE_SEEK` for a
/// seek to before 0, and std has no kind for that: it promises an error there, not which. Everything of ours
/// has the same kinds on all platforms, and so the rules ask for them.
pub fn as_on_unix(error: std::io::Error) -> std::io::Error {
    const ERROR_NEGATIVE_SEEK: i32 = 131;
    if cfg!(windows) && error.raw_os_error() == Some(ERROR_NEGATIVE_SEEK) {
        return std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    }
    error
}

/// Contents for the values under test: none, one byte, lines, and a few thousand mixed bytes. None is
/// longer than [`LONGEST`].
pub(crate) fn samples() -> [Vec<u8>; 4] {
    let mixed = (0..LONGEST).map(|n| (n * 7 + n / 256) as u8).collect();
    [vec![], vec![b'x'], b"one\ntwo\r\n\nlast, without an end".to_vec(), mixed]
}

/// The length in bytes of the longest content; with gaps, a checker needs up to [`ROOM`].
const LONGEST: usize = 3000;

/// The capacity in bytes that a value must have to be checked, if it has one.
pub const ROOM: usize = 4096;

/// Sizes of single reads and writes.
pub(crate) const SIZES: [usize; 7] = [1, 2, 3, 7, 64, 1000, LONGEST + 1];
