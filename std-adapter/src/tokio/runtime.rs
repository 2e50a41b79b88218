//! The current runtime of tokio, as the polled operations need one.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::runtime::{Runtime, Timer};
use crate::disk::spill_file::{Closing, close_elsewhere};
use crate::foreign::contained;
use crate::pool::offload::Drain;
use std::time::Instant;
use tokio::runtime::Handle;

/// Closes `file` on a thread that may block, if this one runs a runtime.
fn close(file: Closing) {
    match Handle::try_current() {
        Ok(handle) => drop(contained(|| drop(handle.spawn_blocking(|| drop(file))))),
        Err(_) => drop(file),
    }
}

/// The runtime that polls.
#[derive(Debug)]
pub(crate) struct Tokio;

impl Runtime for Tokio {
    fn spawn(&self, drain: Drain) {
        close_elsewhere(close); // what is spilled by an event loop is spilled by such a task
        // Outside a runtime, and where it gets no thread, the task is dropped, which its waiter is told.
        if let Ok(handle) = Handle::try_current() {
            let _ = contained(|| drop(handle.spawn_blocking(|| drain.run())));
        }
    }

    fn timer(&self, at: Instant) -> Option<Timer> {
        // A runtime without a timer says so by a panic.
        contained(|| -> Timer { Box::pin(tokio::time::sleep_until(at.into())) }).ok()
    }
}
