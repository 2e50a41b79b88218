//! The store that fails as planned, and the handle that controls it.
//!
//! Promises:
//!
//! - A call that fails with an error or a panic never reaches the store below; a short one reaches it with at
//!   most its number of bytes.
//! - Where the store below cannot free bytes, discarding overwrites them, so that a later read of them shows.
//! - Calls during a pause are neither failed, delayed, counted nor recorded.
//!
//! Held by: the tests at the end of this file.

use super::plan::{Call, Failure, FaultPlan};
use crate::disk::memory_store::MemoryStore;
use crate::disk::store::Store;
use crate::disk::temp_file::NoTempFile;
use crate::sync::fork::{Forked, Lock};
use crate::sync::{Arc, MutexGuard, sleep};
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::time::Duration;

/// Overwrites freed bytes if the store below cannot free them, so that a read of them shows.
const POISON: [u8; 4096] = [0xDB; 4096];

const INTERRUPTED: Failure = Failure::Error(io::ErrorKind::Interrupted);

/// A store over any other, in which calls fail as its [`FaultPlan`] says. A call that fails with an error or
/// a panic never reaches the store below.
///
/// It opens before its first other call, as [`TempFileStore`](crate::TempFileStore) does. A failed
/// [`Call::Open`] is a [`SpillError::Directory`](crate::SpillError::Directory), as there, or if it comes of a
/// full disk a [`SpillError::StoreFull`](crate::SpillError::StoreFull). Freed bytes are overwritten if the
/// store below cannot free them.
///
/// ```
/// use overspill::testing::{Call, Failure, Fault, FaultStore};
/// use overspill::{MemoryStore, SpillPool};
/// use std::io::{Read, Seek, Write};
///
/// let (store, faults) =
///     FaultStore::new(MemoryStore::new(), Fault::lasting(1, Failure::full()).on(Call::Write));
/// let pool = SpillPool::builder().memory(0).page_size(8).store(store).build()?;
/// let mut buffer = pool.buffer();
/// buffer.write_all(b"accepted")?;
/// assert!(buffer.write_all(b"too much").is_err());
///
/// faults.lift(); // the disk has room again
/// buffer.write_all(b" and more")?;
/// let mut content = String::new();
/// buffer.rewind()?;
/// buffer.read_to_string(&mut content)?;
/// assert_eq!(content, "accepted and more");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FaultStore<S = MemoryStore> {
    inner: S,
    faults: Faults,
}

/// The handle of a [`FaultStore`]: counts its calls and changes its plan. Clones share the store's state.
///
/// Threads may call the store at the same time. A count may be outdated when it is returned, and a change
/// applies to calls that begin after it.
#[derive(Clone, Debug)]
pub struct Faults {
    state: Arc<Lock<State>>,
}

/// A call to a [`FaultStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its kind.
    pub call: Call,
    /// The offset in the store, in bytes. The new length for [`Call::SetLen`], 0 for [`Call::Open`].
    pub offset: u64,
    /// The number of bytes. 0 for [`Call::SetLen`] and [`Call::Open`].
    pub len: u64,
    /// How it failed, if it did.
    pub failure: Option<Failure>,
}

#[derive(Debug, Default)]
struct State {
    plan: FaultPlan,
    /// Counted calls by kind, in the order of [`Call::ALL`].
    calls: [u64; Call::ALL.len()],
    failed: u64,
    is_open: bool,
    /// Pauses under way; no call fails while there is one.
    pauses: usize,
    /// Whether the last counted call was interrupted.
    was_interrupted: bool,
    records: Vec<Record>,
}

impl State {
    /// Counts and records a call, and returns its failure and its delay.
    fn count(&mut self, call: Call, offset: u64, len: u64) -> (Option<Failure>, Duration) {
        if self.pauses > 0 {
            return (None, Duration::ZERO);
        }
        let before = self.calls;
        self.calls[call as usize] += 1;
        let faults = self.plan.faults.iter();
        let mut failures = faults.filter_map(|fault| fault.failure_of(call, before));
        let failure = failures.find(|&failure| !(self.was_interrupted && failure == INTERRUPTED));
        self.was_interrupted = failure == Some(INTERRUPTED);
        self.failed += u64::from(failure.is_some());
        if self.plan.is_recording {
            self.records.push(Record { call, offset, len, failure });
        }
        let delays = self.plan.delays.iter().filter(|(of, _)| *of == call);
        (failure, delays.map(|(_, by)| *by).sum())
    }
}

impl<S: Store> FaultStore<S> {
    /// Makes a store over `inner` that fails as `plan` says, and its handle.
    #[must_use]
    pub fn new(inner: S, plan: impl Into<FaultPlan>) -> (Self, Faults) {
        let state = State { plan: plan.into(), ..State::default() };
        let faults = Faults { state: Arc::new(Lock::new(state)) };
        (FaultStore { inner, faults: faults.clone() }, faults)
    }

    /// Opens the store if it is not open, then runs `on_inner` with the number of bytes that the plan lets
    /// pass, unless the plan fails the call.
    fn call<R>(
        &self,
        call: Call,
        offset: u64,
        len: usize,
        on_inner: impl FnOnce(&S, usize) -> io::Result<R>,
    ) -> io::Result<R> {
        self.open()?;
        let most = self.faults.apply(call, offset, len as u64)?;
        on_inner(&self.inner, most.min(len))
    }

    fn open(&self) -> io::Result<()> {
        if self.faults.state()?.is_open {
            return Ok(());
        }
        self.faults.apply(Call::Open, 0, 0).map_err(|source| {
            io::Error::new(source.kind(), NoTempFile { dir: PathBuf::from("a fault store"), source })
        })?;
        let mut state = self.faults.state()?;
        state.is_open = state.pauses == 0; // an opening in a pause does not count
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for FaultStore<S> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.call(Call::Read, offset, buf.len(), |inner, most| inner.read_at(offset, &mut buf[..most]))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.call(Call::Write, offset, data.len(), |inner, most| match &data[..most] {
            [] => Ok(0),
            data => inner.write_at(offset, data),
        })
    }

    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = parts.iter().map(|part| part.len()).sum();
        self.call(Call::Write, offset, len, |inner, most| match &up_to(most, parts)[..] {
            [] => Ok(0),
            parts => inner.write_vectored_at(offset, parts),
        })
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        self.call(Call::Discard, offset, bytes, |inner, _| match inner.discard(offset, len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => poison(inner, offset, len),
            freed => freed,
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(Call::SetLen, len, 0, |inner, _| inner.set_len(len))
    }

    /// Declines, so that each byte is moved by a call that can be planned to fail.
    fn copy_to_file(&self, _: u64, _: usize, _: &File, _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Declines as well.
    fn copy_from_file(&self, _: u64, _: usize, _: &File, _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The first `most` bytes of `parts`, without empty ones.
fn up_to<'a>(mut most: usize, parts: &'a [IoSlice<'_>]) -> Vec<IoSlice<'a>> {
    let cut = parts.iter().map(|part| {
        let len = most.min(part.len());
        most -= len;
        IoSlice::new(&part[..len])
    });
    cut.filter(|part| !part.is_empty()).collect()
}

/// Overwrites freed bytes with [`POISON`].
fn poison(store: &impl Store, mut offset: u64, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let step = usize::try_from(len).map_or(POISON.len(), |len| len.min(POISON.len()));
        match store.write_at(offset, &POISON[..step])? as u64 {
            0 => break,
            n => (offset, len) = (offset + n, len - n),
        }
    }
    Ok(())
}

impl Faults {
    /// The state. In a process that was forked while another thread had it, it is lost: then every call of
    /// the store fails, and what counts says 0.
    fn state(&self) -> Result<MutexGuard<'_, State>, Forked> {
        self.state.lock()
    }

    fn change_pauses(&self, change: impl FnOnce(usize) -> usize) {
        if let Ok(mut state) = self.state() {
            state.pauses = change(state.pauses);
        }
    }

    /// Waits for the call's delay, then returns the planned error, or the most bytes that the call may move.
    ///
    /// # Panics
    /// If that is planned.
    fn apply(&self, call: Call, offset: u64, len: u64) -> io::Result<usize> {
        let (failure, delay) = self.state()?.count(call, offset, len);
        if delay > Duration::ZERO {
            sleep(delay);
        }
        match failure {
            None => Ok(usize::MAX),
            Some(Failure::Short(most)) => Ok(most),
            Some(Failure::Error(kind)) => {
                Err(io::Error::new(kind, format!("a fault was planned here: {kind}")))
            }
            Some(Failure::Os(number)) => Err(io::Error::from_raw_os_error(number)),
            Some(Failure::Panic) => panic!("a panic was planned here"),
        }
    }

    /// The number of calls of all kinds, failed ones included. Calls during a [pause](Faults::paused) are not
    /// counted here or elsewhere.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().map_or(0, |state| state.calls.iter().sum())
    }

    /// The number of calls of this kind, failed ones included.
    #[must_use]
    pub fn calls_of(&self, call: Call) -> u64 {
        self.state().map_or(0, |state| state.calls[call as usize])
    }

    /// The number of calls to which a fault applied, short ones included.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.state().map_or(0, |state| state.failed)
    }

    /// Takes the records of the calls since the last call of `records`; none unless the plan is
    /// [recording](FaultPlan::recording).
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.state().map(|mut state| std::mem::take(&mut state.records)).unwrap_or_default()
    }

    /// Replaces the plan, and counts from 0. The store stays open if it was.
    pub fn set(&self, plan: impl Into<FaultPlan>) {
        let Ok(mut state) = self.state() else { return };
        let (is_open, pauses) = (state.is_open, state.pauses);
        *state = State { plan: plan.into(), is_open, pauses, ..State::default() };
    }

    /// Removes all faults and delays from the plan. Counting and recording go on.
    pub fn lift(&self) {
        let Ok(mut state) = self.state() else { return };
        state.plan.faults.clear();
        state.plan.delays.clear();
    }

    /// Runs `inspect` during a pause, to check what a failure has left: no call fails, is delayed or is
    /// counted.
    ///
    /// The pause applies to all threads, until `inspect` has returned or panicked.
    pub fn paused<R>(&self, inspect: impl FnOnce() -> R) -> R {
        struct Pause<'a>(&'a Faults);
        impl Drop for Pause<'_> {
            fn drop(&mut self) {
                self.0.change_pauses(|pauses| pauses.saturating_sub(1));
            }
        }
        self.change_pauses(|pauses| pauses + 1);
        let _pause = Pause(self);
        inspect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Fault;
    use super::*;
    use std::io::ErrorKind;
    use std::time::Instant;

    fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn each_kind_of_call_fails_at_its_number() {
        for (nth, call) in (0..).zip(Call::ALL) {
            let (store, faults) = FaultStore::new(MemoryStore::new(), Fault::once(nth, Failure::full()));
            let mut buf = [0; 4];
            // Opening is call 0. If it fails, it is tried again before the next call, which then is call 2.
            let results = [
                kind(store.read_at(0, &mut buf)),
                kind(store.write_at(0, b"data")),
                kind(store.discard(0, 2)),
                kind(store.set_len(3)),
            ];
            let failing = results.map(|kind| kind == Some(ErrorKind::StorageFull));
            let mut expected = [false; 4];
            expected[usize::try_from(nth).unwrap().saturating_sub(1)] = true;
            assert_eq!((failing, faults.failed()), (expected, 1), "{call:?}");
            assert_eq!(faults.calls(), 5);
        }
    }

    #[test]
    fn a_short_call_moves_at_most_its_bytes() {
        let (store, faults) = FaultStore::new(MemoryStore::new(), Fault::lasting(0, Failure::Short(3)));
        assert_eq!(store.write_at(0, b"abcdef").unwrap(), 3);
        assert_eq!(store.read_at(1, &mut [0; 6]).unwrap(), 2, "the store has only two bytes from there");
        faults.set(Fault::lasting(0, Failure::Short(0)));
        assert_eq!(store.write_at(0, b"abcdef").unwrap(), 0);
        assert_eq!(store.read_at(0, &mut [0; 6]).unwrap(), 0);
        store.set_len(0).unwrap();
        assert_eq!(
            (faults.calls(), faults.failed()),
            (3, 2),
            "`set` counts from 0, and a cut cannot be short"
        );
    }

    #[test]
    fn a_vectored_write_is_one_write_and_may_end_within_any_part() {
        let parts = [&b"ab"[..], b"", b"cdef", b"g"].map(IoSlice::new);
        for most in 0..=7 {
            let (store, faults) =
                FaultStore::new(MemoryStore::new(), Fault::once(0, Failure::Short(most)).on(Call::Write));
            let n = store.write_vectored_at(1, &parts).unwrap();
            // The store below writes the first part that is not empty.
            assert_eq!(n, most.min(2));
            let taken: Vec<u8> = up_to(most, &parts).iter().flat_map(|part| part.to_vec()).collect();
            assert_eq!(taken, b"abcdefg"[..most]);
            assert_eq!((faults.calls_of(Call::Write), faults.failed()), (1, 1));
        }
    }

    #[test]
    fn an_interruption_never_comes_twice_in_a_row() {
        let interrupted = Failure::Error(ErrorKind::Interrupted);
        let (store, faults) = FaultStore::new(MemoryStore::new(), Fault::lasting(0, interrupted));
        let tries: Vec<bool> = (0..6).map(|_| store.write_at(0, b"x").is_ok()).collect();
        // The opening is interrupted, then works; then the write after it is interrupted, and so on.
        assert_eq!(tries, [false, false, true, false, true, false]);
        assert_eq!((faults.calls_of(Call::Open), faults.calls_of(Call::Write)), (2, 5));
    }

    #[test]
    fn a_pause_neither_fails_nor_counts() {
        let plan = FaultPlan::from(Fault::lasting(0, Failure::io())).recording();
        let (store, faults) = FaultStore::new(MemoryStore::new(), plan);
        faults.paused(|| store.write_at(0, b"seen").unwrap());
        assert_eq!((faults.calls(), faults.failed(), faults.records()), (0, 0, vec![]));
        assert!(store.write_at(0, b"x").is_err());
        assert_eq!(faults.records().len(), 1);
        assert!(std::panic::catch_unwind(|| faults.paused(|| panic!("in a pause"))).is_err());
        assert!(store.write_at(0, b"x").is_err(), "the pause is over");
        faults.paused(|| {
            faults.paused(|| ());
            store.write_at(0, b"x").expect("the end of an inner pause does not end the outer one");
        });
        faults.lift();
        store.write_at(0, b"x").unwrap();
        assert_eq!((faults.calls(), faults.failed()), (4, 2));
    }

    #[test]
    fn records_list_the_calls_in_order_and_freed_bytes_are_overwritten() {
        let plan = FaultPlan::new().with(Fault::once(0, Failure::Short(2))).recording();
        let (store, faults) = FaultStore::new(MemoryStore::new(), plan);
        assert_eq!(store.write_at(8, b"abcd").unwrap(), 2);
        store.discard(8, 2).unwrap();
        let records: Vec<_> = faults.records().iter().map(|r| (r.call, r.offset, r.len, r.failure)).collect();
        let short = Some(Failure::Short(2));
        assert_eq!(
            records,
            [(Call::Open, 0, 0, None), (Call::Write, 8, 4, short), (Call::Discard, 8, 2, None)]
        );
        let mut freed = [0; 2];
        store.read_at(8, &mut freed).unwrap();
        assert_eq!(freed, [0xDB; 2], "a read of freed bytes shows");
    }

    /// It asked a write to take less than 30 ms; a late thread took longer. A write that were
    /// delayed would take an hour.
    #[test]
    fn a_delay_applies_to_its_kind_of_call_alone() {
        let plan = FaultPlan::new().slow(Call::Read, Duration::from_secs(3600));
        let (store, faults) = FaultStore::new(MemoryStore::new(), plan);
        store.write_at(0, b"x").unwrap();
        let by = Duration::from_millis(30);
        faults.set(FaultPlan::new().slow(Call::Read, by));
        let started = Instant::now();
        store.read_at(0, &mut [0]).unwrap();
        assert!(started.elapsed() >= by);
    }
}
