//! The current runtime of tokio, as the polled operations need one.
//!
//! Promises: what a runtime has no thread for is dropped at once.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::disk::spill_file::{Closing, close_elsewhere};
use crate::foreign::contained;
use crate::polled::runtime::{Poller, Runtime, Timer};
use crate::pool::offload::Drain;
use crate::sync::{Arc, Mutex, lock};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::task::Context;
use std::time::Duration;
use tokio::runtime::Handle;

/// Has `task` run by `run` on a thread that may block, or drops it.
fn spawn_blocking<T: Send + 'static>(task: T, run: fn(T)) {
    let Ok(handle) = Handle::try_current() else { return };
    let ours = Arc::new(Mutex::new(Some(task)));
    let theirs = Arc::clone(&ours);
    let take = |task: &Mutex<Option<T>>| lock(task).take();
    let spawned = contained(|| drop(handle.spawn_blocking(move || take(&theirs).into_iter().for_each(run))));
    if spawned.is_err() {
        // The runtime has queued it, and could start no thread: it may lie there for ever.
        drop(take(&ours));
    }
}

/// Closes `file` on a thread that may block, if this one runs a runtime.
fn close(file: Closing) {
    spawn_blocking(file, drop);
}

/// The runtime that polls.
#[derive(Debug)]
pub(crate) struct Tokio;

/// The task of `context`, in the runtime that polls it.
pub(crate) fn poller<'a>(context: &Context<'a>) -> Poller<'a> {
    Poller::new(context.waker(), &Tokio)
}

impl Runtime for Tokio {
    fn number(&self) -> u64 {
        let Ok(handle) = Handle::try_current() else { return 0 };
        let mut hasher = DefaultHasher::new();
        handle.id().hash(&mut hasher);
        hasher.finish()
    }

    fn spawn(&self, drain: Drain) {
        close_elsewhere(close); // what is spilled by an event loop is spilled by such a task
        spawn_blocking(drain, Drain::run);
    }

    fn timer(&self, left: Duration) -> Option<Timer> {
        // A runtime without a timer says so by a panic.
        contained(|| -> Timer { Box::pin(tokio::time::sleep(left)) }).ok()
    }
}
