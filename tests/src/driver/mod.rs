//! One runner for every subject: it does the same operations to the subject and to the [`Model`], and
//! compares result, position, length and content.
//!
//! Promises:
//!
//! - Every operation's result is compared, its error included, and position and length after it.
//! - The whole content is compared at the end, and before that as often as [`Watch`] says.
//! - A [`Mismatch`] prints as a test that can be pasted into a file.
//! - A panic of the subject is a mismatch.
//! - The same operations write the same data in every run.
//!
//! Held by: `tests/tests/driver.rs`, with subjects that have one planted bug each.

mod step;
mod subject;

pub use subject::{Subject, Target};

use crate::model::Model;
use crate::ops::{Op, Refusal};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How far a subject may stray from the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leeway {
    /// Not at all: counts and refusals are the model's.
    None,
    /// `fill_buf` may lend less than the whole rest, but at least one byte of it.
    Pieces,
    /// As `Pieces`. An operation that needs room may be refused where the model has room, and a write may
    /// stop short, but takes at least one byte. Reading needs no room.
    Refuse,
    /// As `Refuse`. Every operation that may need the store may fail, reading included. A failure loses
    /// nothing.
    Fail,
}

impl Leeway {
    pub(crate) fn excuses(self, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::Full => self >= Leeway::Refuse,
            Refusal::Failed(_) => self >= Leeway::Fail,
            Refusal::OutOfRange | Refusal::EndOfFile | Refusal::TargetFull => false,
        }
    }
}

/// When the whole content is compared. Reading it moves a window and recycles frames, so a run that compares
/// all the time tests something else than a run that compares at the end only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// At the end of the run only.
    AtEnd,
    /// After every nth operation, and at the end.
    Every(usize),
}

/// A subject and its model.
#[derive(Debug)]
pub struct Pair<S> {
    /// What is tested.
    pub subject: S,
    /// What it must be like.
    pub model: Model,
}

impl<S: Subject> Pair<S> {
    /// An empty `subject` that can hold `capacity` bytes.
    pub fn empty(subject: S, capacity: u64) -> Self {
        Pair { subject, model: Model::new(Vec::new(), capacity) }
    }
}

/// Where subject and model parted. It prints as a test.
pub struct Mismatch<O = Op> {
    /// The operations of the run.
    pub ops: Vec<O>,
    /// What the subject did, and what it should have done.
    pub what: String,
    /// The expression that repeats the run, with `&ops` for the operations.
    pub again: String,
}

impl<O: fmt::Debug> fmt::Display for Mismatch<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.what)?;
        writeln!(f, "#[test]\nfn a_name_for_it() {{")?;
        writeln!(f, "    // The story: what was believed, what was true.")?;
        writeln!(f, "    use overspill_tests::replay::*;")?;
        writeln!(f, "    let ops = [")?;
        for op in &self.ops {
            writeln!(f, "        {op:?},")?;
        }
        writeln!(f, "    ];\n    {}\n}}", self.again)
    }
}

/// As `Display`, so that `unwrap` prints the test.
impl<O: fmt::Debug> fmt::Debug for Mismatch<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<O: fmt::Debug> std::error::Error for Mismatch<O> {}

/// Does `ops` to the pairs, and compares. They go to the first pair until an [`Op::Turn`] changes that.
///
/// # Errors
/// The first mismatch. The caller fills in `again`.
pub fn run<S: Subject>(
    pairs: &mut [Pair<S>],
    ops: &[Op],
    leeway: Leeway,
    watch: Watch,
) -> Result<(), Mismatch> {
    let mismatch = |what| Mismatch { ops: ops.to_vec(), what, again: String::new() };
    let mut turn = 0;
    for (step, &op) in ops.iter().enumerate() {
        if let Op::Turn(n) = op {
            turn = n % pairs.len();
        }
        let look = matches!(watch, Watch::Every(n) if step % n.max(1) == 0);
        let pair = &mut pairs[turn];
        guarded(|| pair.step(op, step, leeway).and_then(|()| pair.compare(look)))
            .map_err(|what| mismatch(format!("step {step}, {op:?}: {what}")))?;
    }
    for (n, pair) in pairs.iter_mut().enumerate() {
        guarded(|| pair.compare(true))
            .map_err(|what| mismatch(format!("at the end, subject {n}: {what}")))?;
    }
    Ok(())
}

/// Runs `step`, and makes an error of a panic. The panic hook has printed the message by then.
pub(crate) fn guarded(step: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", said.unwrap_or("without a message")))
    })
}

/// Names the first difference, and prints a few bytes of it.
pub(crate) fn same_bytes(what: &str, got: &[u8], want: &[u8]) -> Result<(), String> {
    if got == want {
        return Ok(());
    }
    let at = got.iter().zip(want).take_while(|(got, want)| got == want).count();
    let near = |bytes: &[u8]| format!("{:?}", &bytes[at..bytes.len().min(at + 8)]);
    Err(format!(
        "{what}: {} bytes, should be {}; from {at} on {} should be {}",
        got.len(),
        want.len(),
        near(got),
        near(want)
    ))
}

fn same<T: PartialEq + fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what} returned {got:?}, should be {want:?}")) }
}
