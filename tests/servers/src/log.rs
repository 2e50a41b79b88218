//! What the operator is told: lines on the standard error.
//!
//! Promise: a log that cannot be written to stops nothing. A pipe that has no reader is an error, at which
//! `eprintln!` panics. A pipe that is full, of a pager that stands still, blocks its writer: one thread
//! writes, and what it cannot keep up with is dropped and counted.

use std::error::Error;
use std::fmt::Display;
use std::io::{Write, stderr};
use std::iter::successors;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// Lines that wait to be written.
const WAITING_MAX: usize = 256;

/// Lines that are not written yet.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Lines that were dropped, and not told of yet.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Where lines go to be written. The thread lives as long as the process.
static LINES: LazyLock<SyncSender<String>> = LazyLock::new(|| {
    let (sender, lines) = sync_channel::<String>(WAITING_MAX);
    let write = move || {
        for line in lines {
            let told = match DROPPED.swap(0, Ordering::Relaxed) {
                0 => line + "\n",
                dropped => format!("{dropped} lines of this log were dropped: it was not read\n{line}\n"),
            };
            let _ = stderr().write_all(told.as_bytes()); // of which nobody could be told
            WAITING.fetch_sub(1, Ordering::Release);
        }
    };
    drop(thread::Builder::new().name("log".into()).spawn(write)); // without it each line is dropped
    sender
});

/// Has a line written, and does not wait for that.
pub fn log(text: impl Display) {
    WAITING.fetch_add(1, Ordering::Relaxed);
    if LINES.try_send(text.to_string()).is_err() {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until all lines are written, `at_most` for so long: a process that ends does not wait for the
/// thread.
pub fn flush(at_most: Duration) {
    let began = Instant::now();
    while WAITING.load(Ordering::Acquire) > 0 && began.elapsed() < at_most {
        sleep(Duration::from_millis(1));
    }
}

/// An error and its sources, as a line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let sources = successors(error.source(), |error: &&dyn Error| (*error).source());
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}
