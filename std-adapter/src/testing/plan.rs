//! Which calls of a store fail, and how: descriptions, and nothing that acts.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

/// A kind of call that a store gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Call {
    /// The store is made usable, as the temp file is opened: before the first other call, and again
    /// before each further one until it has succeeded.
    Open,
    /// [`Store::read_at`](crate::Store::read_at).
    Read,
    /// [`Store::write_at`](crate::Store::write_at), or
    /// [`Store::write_vectored_at`](crate::Store::write_vectored_at).
    Write,
    /// [`Store::discard`](crate::Store::discard): blocks in the middle are given back.
    Discard,
    /// [`Store::set_len`](crate::Store::set_len): the store gets shorter.
    SetLen,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 5] = [Call::Open, Call::Read, Call::Write, Call::Discard, Call::SetLen];
}

/// What a call does instead of what it was asked.
///
/// Printed with `{:?}` it is the expression that makes it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It does nothing, and gives an error of this kind; `StorageFull` is a full disk.
    ///
    /// `Interrupted` never comes twice in a row, since whoever meets it tries again at once: so a
    /// lasting one interrupts every second call.
    Error(ErrorKind),
    /// It does nothing, and gives this error of the system, such as 5 (`EIO`) or 28 (`ENOSPC`) on Unix.
    Os(i32),
    /// It moves at most so many bytes, and says so. With 0 it moves none: a write that takes
    /// nothing, a read at the end of the file. Only reads and writes can be short; other calls are
    /// left alone.
    Short(usize),
    /// It panics.
    Panic,
}

impl Failure {
    /// The error of a disk that cannot be read or written: `EIO` where there is such a thing.
    #[must_use]
    pub const fn io() -> Self {
        if cfg!(unix) { Failure::Os(5) } else { Failure::Error(ErrorKind::Other) }
    }

    /// The error of a full disk.
    #[must_use]
    pub const fn full() -> Self {
        Failure::Error(ErrorKind::StorageFull)
    }

    /// Whether it can happen to this kind of call.
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

/// One call that fails, or one and all that follow.
///
/// Printed with `{:?}` it is the expression that makes it, so that a failing test can print a line to
/// paste.
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
    /// Only calls of this kind fail, and are counted.
    call: Option<Call>,
    nth: u64,
    lasting: bool,
    failure: Failure,
}

impl Fault {
    /// Call number `nth` fails, counted from 0; the one after it works again.
    #[must_use]
    pub const fn once(nth: u64, failure: Failure) -> Self {
        Fault { call: None, nth, lasting: false, failure }
    }

    /// Call number `nth` fails, counted from 0, and so do all after it.
    #[must_use]
    pub const fn lasting(nth: u64, failure: Failure) -> Self {
        Fault { call: None, nth, lasting: true, failure }
    }

    /// Counts calls of this kind only, and fails no other.
    #[must_use]
    pub const fn on(self, call: Call) -> Self {
        Fault { call: Some(call), ..self }
    }

    /// What the call does, if it fails. `of_kind` calls of its kind came before it, and `of_all` calls
    /// of any.
    pub(super) fn hit(self, call: Call, of_kind: u64, of_all: u64) -> Option<Failure> {
        let number = match self.call {
            Some(only) if only != call => return None,
            Some(_) => of_kind,
            None => of_all,
        };
        let hit = if self.lasting { number >= self.nth } else { number == self.nth };
        (hit && self.failure.applies_to(call)).then_some(self.failure)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.lasting { "lasting" } else { "once" };
        write!(f, "Fault::{how}({}, {:?})", self.nth, self.failure)?;
        self.call.map_or(Ok(()), |call| write!(f, ".on(Call::{call:?})"))
    }
}

/// What a [`FaultStore`](super::FaultStore) does wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    pub(super) faults: Vec<Fault>,
    pub(super) delays: Vec<(Call, Duration)>,
    pub(super) is_recording: bool,
}

impl FaultPlan {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        FaultPlan::default()
    }

    /// This fault, too. Where two meet in one call, the first that was added decides.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Calls of this kind take at least so long. What else happens to them happens after that.
    #[must_use]
    pub fn slow(mut self, call: Call, by: Duration) -> Self {
        self.delays.push((call, by));
        self
    }

    /// Notes every call, for [`Faults::records`](super::Faults::records); 40 bytes for each.
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
    fn a_fault_prints_as_what_makes_it() {
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

    #[test]
    fn a_fault_counts_its_own_kind_or_all() {
        let any = Fault::once(4, Failure::io());
        assert!(any.hit(Call::Read, 0, 4).is_some());
        assert!(any.hit(Call::Read, 4, 5).is_none());
        let second_write = Fault::lasting(1, Failure::io()).on(Call::Write);
        assert!(second_write.hit(Call::Write, 0, 9).is_none());
        assert!(second_write.hit(Call::Write, 1, 10).is_some());
        assert!(second_write.hit(Call::Read, 1, 10).is_none());
        assert!(
            Fault::lasting(0, Failure::Short(1)).hit(Call::SetLen, 0, 0).is_none(),
            "a cut is never short"
        );
    }
}
