//! A medium that fails as planned. Faults are counted, not sampled: a test lets call 0 fail, then call 1, and
//! so on until a run has no failing call; each call once alone, and once together with all calls after it.
//!
//! For stores there is a public module that does the same: `overspill::testing`.

use overspill_core::{Medium, ReadMedium};
use std::fmt;

/// Which calls fail. Only calls that may fail are counted: `len` and `is_empty` are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// None.
    Never,
    /// The nth, counted from 0; the one after it works again.
    Once(usize),
    /// The nth and all after it.
    From(usize),
}

impl Faults {
    fn hit(self, call: usize) -> bool {
        match self {
            Faults::Never => false,
            Faults::Once(n) => call == n,
            Faults::From(n) => call >= n,
        }
    }
}

/// The medium `M`, some of whose calls fail. A failed call does not reach it.
#[derive(Clone, Debug)]
pub struct Faulty<M> {
    inner: M,
    faults: Faults,
    /// Calls so far, failed ones included.
    calls: usize,
    /// How many of them failed.
    failed: usize,
}

/// The error of a call that was planned to fail, or the medium's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultyError<E> {
    /// Planned: of this call, counted from 0.
    Planned(usize),
    /// Not planned.
    Inner(E),
}

impl<M> Faulty<M> {
    /// Fails as `faults` says.
    pub fn new(inner: M, faults: Faults) -> Self {
        Faulty { inner, faults, calls: 0, failed: 0 }
    }

    /// Whether any call has failed.
    pub fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// The medium itself, which does not fail.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    fn call<E>(&mut self) -> Result<&mut M, FaultyError<E>> {
        let call = self.calls;
        self.calls += 1;
        if self.faults.hit(call) {
            self.failed += 1;
            return Err(FaultyError::Planned(call));
        }
        Ok(&mut self.inner)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<M: ReadMedium> ReadMedium for Faulty<M> {
    type Error = FaultyError<M::Error>;

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, Self::Error> {
        self.call()?.read_at(offset, buf).map_err(FaultyError::Inner)
    }

    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], Self::Error> {
        self.call()?.chunk_at(offset).map_err(FaultyError::Inner)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<M: Medium> Medium for Faulty<M> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, Self::Error> {
        self.call()?.write_at(offset, data).map_err(FaultyError::Inner)
    }

    fn set_len(&mut self, len: u64) -> Result<(), Self::Error> {
        self.call()?.set_len(len).map_err(FaultyError::Inner)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.call()?.flush().map_err(FaultyError::Inner)
    }
}

impl<E: fmt::Display> fmt::Display for FaultyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultyError::Planned(call) => write!(f, "call {call} was planned to fail"),
            FaultyError::Inner(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for FaultyError<E> {}

impl<E: embedded_io::Error> embedded_io::Error for FaultyError<E> {
    fn kind(&self) -> embedded_io::ErrorKind {
        match self {
            FaultyError::Planned(_) => embedded_io::ErrorKind::TimedOut,
            FaultyError::Inner(error) => error.kind(),
        }
    }
}
