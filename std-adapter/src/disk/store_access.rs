//! Whether this thread may call a store now. A thread that runs an event loop may not.
//!
//! Promises:
//!
//! - In [`without_store`] and [`if_resident`], no call from this thread reaches a store: it is refused before
//!   it is counted, and before a slot is allocated or charged for it. What was to be freed on the way stays
//!   warm, for a later call.
//! - Nothing foreign runs there: a waker that is called or dropped, or a listener, may use any
//!   buffer, and its store.
//! - What was refused is noted, so that the operation can be done again on a thread that may.
//! - Without an async face nothing of this is compiled.
//!
//! The refusal is an error of the kind `WouldBlock`, which no user sees.
//!
//! Held by: the test below, `tests/tests/async_buffer/`.

use crate::error::{SpillError, StoreOperation};
#[cfg(feature = "tokio")]
use crate::foreign::hold_back;
#[cfg(feature = "tokio")]
use crate::sync::thread_local;
#[cfg(feature = "tokio")]
use std::cell::Cell;
use std::io;

#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Access {
    #[default]
    Free,
    /// Only what is in memory.
    Resident,
    /// Only what is in memory; and something else was needed, and refused.
    Refused,
}

#[cfg(feature = "tokio")]
thread_local! {
    static ACCESS: Cell<Access> = Cell::default();
}

/// Whether this thread must not call a store.
#[inline]
pub(crate) fn is_resident_only() -> bool {
    #[cfg(feature = "tokio")]
    return ACCESS.try_with(|access| access.get() != Access::Free).unwrap_or(false);
    #[cfg(not(feature = "tokio"))]
    false
}

/// To be called before a store is needed, for `len` bytes at `offset`. An error if this thread must not call
/// one, which is noted.
#[inline]
pub(crate) fn check(operation: StoreOperation, offset: u64, len: u64) -> Result<(), SpillError> {
    if is_resident_only() {
        return Err(refuse(operation, offset, len));
    }
    Ok(())
}

/// Notes that this thread needs a store that it must not call, and returns the error.
#[cold]
pub(crate) fn refuse(operation: StoreOperation, offset: u64, len: u64) -> SpillError {
    #[cfg(feature = "tokio")]
    let _ = ACCESS.try_with(|access| access.set(Access::Refused));
    SpillError::Store { operation, offset, len, source: io::ErrorKind::WouldBlock.into() }
}

/// Runs `operation`, which does not fail for want of the store, without it. What it would free there
/// stays for later calls.
#[cfg(feature = "tokio")]
pub(crate) fn without_store<R>(operation: impl FnOnce() -> R) -> R {
    let _held_back = hold_back(); // is told when the guard has gone
    let _guard = ResidentOnly::enter();
    operation()
}

/// Runs `operation` without the store. `None` if it has failed for want of it.
#[cfg(feature = "tokio")]
pub(crate) fn if_resident<R>(
    operation: impl FnOnce() -> Result<R, SpillError>,
) -> Option<Result<R, SpillError>> {
    let _held_back = hold_back();
    let guard = ResidentOnly::enter();
    let result = operation();
    (result.is_ok() || !guard.was_refused()).then_some(result)
}

/// While it lives, this thread calls no store.
#[cfg(feature = "tokio")]
#[derive(Debug)]
struct ResidentOnly {
    before: Access,
}

#[cfg(feature = "tokio")]
impl ResidentOnly {
    fn enter() -> Self {
        let before = ACCESS.try_with(|access| access.replace(Access::Resident));
        ResidentOnly { before: before.unwrap_or_default() }
    }

    /// Whether anything was refused since [`enter`](ResidentOnly::enter).
    fn was_refused(&self) -> bool {
        ACCESS.try_with(|access| access.get() == Access::Refused).unwrap_or(false)
    }
}

#[cfg(feature = "tokio")]
impl Drop for ResidentOnly {
    fn drop(&mut self) {
        let _ = ACCESS.try_with(|access| access.set(self.before));
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
#[cfg(feature = "tokio")]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_noted_and_ends_with_its_guard() {
        let check = || check(StoreOperation::Read, 7, 3);
        assert!(!is_resident_only() && check().is_ok());
        let guard = ResidentOnly::enter();
        assert!(is_resident_only() && !guard.was_refused());
        assert!(check().is_err() && guard.was_refused());
        drop(ResidentOnly::enter());
        assert!(is_resident_only() && guard.was_refused(), "one within it ends alone");
        drop(guard);
        assert!(!is_resident_only() && check().is_ok());
        assert!(!ResidentOnly::enter().was_refused(), "the next begins anew");
    }
}
