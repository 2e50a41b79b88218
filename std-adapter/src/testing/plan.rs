//! Which calls of a store fail, and how. Plain values; nothing here acts.
//!
//! Held by: the tests at the end of this file, and `tests/tests/errors.rs`.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

/// A kind of call to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Call {
    /// The store opens, as a temp file does: before the first other call, and again before each later call
    /// until opening has succeeded.
    Open,
    /// [`Store::read_at`](crate::Store::read_at).
    Read,
    /// [`Store::write_at`](crate::Store::write_at), or
    /// [`Store::write_vectored_at`](crate::Store::write_vectored_at).
    Write,
    /// [`Store::discard`](crate::Store::discard): frees bytes in the middle.
    Discard,
    /// [`Store::set_len`](crate::Store::set_len): cuts the store.
    SetLen,
}

impl Call {
    /// All kinds.
    pub const ALL: [Call; 5] = [Call::Open, Call::Read, Call::Write, Call::Discard, Call::SetLen];
}

/// What a failing call does instead of its work.
///
/// Its `{:?}` is the Rust expression that makes it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It does nothing, and returns an error of this kind; `StorageFull` is a full disk.
    ///
    /// `Interrupted` never comes twice in a row, since callers try again at once and would do so for ever. A
    /// lasting one interrupts every second call.
    Error(ErrorKind),
    /// It does nothing, and returns this system error, such as 5 (`EIO`) or 28 (`ENOSPC`) on Unix.
    Os(i32),
    /// It moves at most this many bytes, and returns how many. With 0 it moves none, like a write that takes
    /// nothing or a read at the end of the file. Only reads and writes can be short; other calls succeed.
    Short(usize),
    /// It panics.
    Panic,
}

impl Failure {
    /// The error of a disk that cannot be read or written: `EIO` on Unix, an error of kind `Other` elsewhere.
    #[must_use]
    pub const fn io() -> Self {
        if cfg!(unix) { Failure::Os(5) } else { Failure::Error(ErrorKind::Other) }
    }

    /// The error of a full disk.
    #[must_use]
    pub const fn full() -> Self {
        Failure::Error(ErrorKind::StorageFull)
    }

    /// Whether this failure can happen to this kind of call.
    #[must_use]
    pub fn applies_to(self, call: Call) -> bool {
        !matches!(self, Failure::Short(_)) || matches!(call, Call::Read | Call::Write)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(kind) => write!(f, "Failure::Error(ErrorKind::{kind:?})"),
            Failure::Os(number) => write!(f, "Failure::Os({number})"),
            Failure::Short(bytes) => write!(f, "Failure::Short({bytes})"),
            Failure::Panic => f.write_str("Failure::Panic"),
        }
    }
}

/// One call that fails, or one and all later ones.
///
/// Only calls to which the failure [applies](Failure::applies_to) fail and are counted. So faults number 0, 1
/// and so on reach each of them, and one past the last fails none.
///
/// Its `{:?}` is the Rust expression that makes it, so a failing test can print a line to paste.
///
/// ```
/// use overspill::testing::{Call, Failure, Fault};
///
/// let fault = Fault::lasting(2, Failure::full()).on(Call::Write); // full at the third write
/// assert_eq!(
///     format!("{fault:?}"),
///     "Fault::lasting(2, Failure::Error(ErrorKind::StorageFull)).on(Call::Write)"
/// );
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The only kind of call that fails and is counted; any to which the failure applies if `None`.
    call: Option<Call>,
    /// The number of the call that fails, from 0.
    nth: u64,
    /// Whether all later calls fail too.
    lasting: bool,
    failure: Failure,
}

impl Fault {
    /// Fails call number `nth`, counted from 0; the next one works again.
    #[must_use]
    pub const fn once(nth: u64, failure: Failure) -> Self {
        Fault { call: None, nth, lasting: false, failure }
    }

    /// Fails call number `nth`, counted from 0, and all later ones.
    #[must_use]
    pub const fn lasting(nth: u64, failure: Failure) -> Self {
        Fault { call: None, nth, lasting: true, failure }
    }

    /// Counts and fails calls of this kind only.
    #[must_use]
    pub const fn on(self, call: Call) -> Self {
        Fault { call: Some(call), ..self }
    }

    fn may_fail(self, call: Call) -> bool {
        self.failure.applies_to(call) && self.call.is_none_or(|only| only == call)
    }

    /// The failure of a `call`, if it fails. Before it came so many calls of each kind.
    pub(super) fn failure_of(self, call: Call, before: [u64; Call::ALL.len()]) -> Option<Failure> {
        let counted = Call::ALL.iter().zip(before).filter(|(call, _)| self.may_fail(**call));
        let number: u64 = counted.map(|(_, count)| count).sum();
        let fails = if self.lasting { number >= self.nth } else { number == self.nth };
        (fails && self.may_fail(call)).then_some(self.failure)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let constructor = if self.lasting { "lasting" } else { "once" };
        write!(f, "Fault::{constructor}({}, {:?})", self.nth, self.failure)?;
        self.call.map_or(Ok(()), |call| write!(f, ".on(Call::{call:?})"))
    }
}

/// The faults and delays of a [`FaultStore`](super::FaultStore).
///
/// ```
/// use overspill::testing::{Call, Failure, Fault, FaultPlan};
/// use std::time::Duration;
///
/// let full_then_slow = FaultPlan::new()
///     .with(Fault::once(3, Failure::full()).on(Call::Write))
///     .slow(Call::Read, Duration::from_millis(1))
///     .recording();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    pub(super) faults: Vec<Fault>,
    pub(super) delays: Vec<(Call, Duration)>,
    pub(super) is_recording: bool,
}

impl FaultPlan {
    /// A plan without faults or delays.
    #[must_use]
    pub fn new() -> Self {
        FaultPlan::default()
    }

    /// Adds a fault. If several apply to one call, the one added first decides.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Delays each call of this kind by at least `by`, before it fails or works. Several delays add up.
    #[must_use]
    pub fn slow(mut self, call: Call, by: Duration) -> Self {
        self.delays.push((call, by));
        self
    }

    /// Records every call, for [`Faults::records`](super::Faults::records); 40 bytes for each.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.is_recording = true;
        self
    }
}

impl From<Fault> for FaultPlan {
    fn from(fault: Fault) -> Self {
        FaultPlan::new().with(fault)
    }
}

impl FromIterator<Fault> for FaultPlan {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        FaultPlan { faults: faults.into_iter().collect(), ..FaultPlan::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_prints_as_the_expression_that_makes_it() {
        let table = [
            (Fault::once(3, Failure::Short(0)), "Fault::once(3, Failure::Short(0))"),
            (
                Fault::once(0, Failure::Os(5)).on(Call::SetLen),
                "Fault::once(0, Failure::Os(5)).on(Call::SetLen)",
            ),
            (Fault::lasting(7, Failure::Panic), "Fault::lasting(7, Failure::Panic)"),
        ];
        for (fault, printed) in table {
            assert_eq!(format!("{fault:?}"), printed);
        }
    }

    /// A fault without a kind counted every call. The first one, which opens the store, cannot be short. So
    /// no call of the first run failed, and a loop that ends with such a run had tested nothing.
    #[test]
    fn a_fault_counts_the_calls_that_can_fail_by_it() {
        let [open, read, write, discard, set_len] = [3, 4, 1, 7, 2];
        let before = [open, read, write, discard, set_len];
        let fails = |fault: Fault, call| fault.failure_of(call, before).is_some();
        assert!(fails(Fault::once(17, Failure::io()), Call::Read));
        assert!(!fails(Fault::once(16, Failure::io()), Call::Read));
        assert!(fails(Fault::lasting(16, Failure::io()), Call::Discard));
        assert!(fails(Fault::once(1, Failure::io()).on(Call::Write), Call::Write));
        assert!(!fails(Fault::once(1, Failure::io()).on(Call::Write), Call::Read));
        assert!(fails(Fault::once(5, Failure::Short(1)), Call::Read));
        assert!(fails(Fault::once(4, Failure::Short(1)).on(Call::Read), Call::Read));
        assert!(!fails(Fault::lasting(0, Failure::Short(1)), Call::SetLen), "a cut cannot be short");
    }
}
