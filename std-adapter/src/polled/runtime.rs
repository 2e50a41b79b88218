//! What the polled operations need of an async runtime.
//!
//! Held by: the layers in `tests/tests/tidy.rs`, which keep runtimes out of what is below their faces.

use crate::error::SpillError;
use crate::pool::offload::{Drain, NotRun};
use std::io;
use std::pin::Pin;
use std::time::Instant;

/// What an async face brings.
pub(crate) trait Runtime {
    /// Which runtime this is; 0 if there is none.
    fn number(&self) -> u64;

    /// Has `drain` [run](Drain::run) on a thread that may block, or drops it.
    fn spawn(&self, drain: Drain);

    /// A future that is ready at `at`; `None` if the runtime has no timer.
    fn timer(&self, at: Instant) -> Option<Timer>;
}

/// A future that is ready at some time.
pub(crate) type Timer = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// The error of a call whose job was not done.
pub(crate) fn not_run(reason: NotRun) -> io::Error {
    io::Error::from(match reason {
        NotRun::ShutDown => SpillError::NoRuntime,
        NotRun::Panicked(message) => SpillError::JobPanicked { message },
    })
}
