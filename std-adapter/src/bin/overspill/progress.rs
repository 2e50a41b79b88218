//! Progress on standard error: a bar on a terminal, lines elsewhere, or nothing.
//!
//! Promises:
//!
//! - Where standard error is no terminal, no progress is shown without `--progress`.
//! - A closed standard error is no error, and no panic.
//!
//! Held by: `std-adapter/tests/command/` of this package.

use crate::failure::say_line;
use crate::quote::harmless;
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a job runs on a terminal before it shows a bar without `--progress`.
const BAR_DELAY: Duration = Duration::from_millis(500);

/// The time from one line to the next.
const LINE_PERIOD: Duration = Duration::from_secs(1);

/// Shows on standard error how much input was read.
pub(crate) struct Progress {
    mode: Mode,
    /// Bytes read so far.
    done: u64,
    /// Bytes to be read in all, if that is known.
    total: Option<u64>,
    /// When to show the bar, or the next line.
    next: Instant,
}

enum Mode {
    Silent,
    Lines,
    /// Becomes a bar at `next`.
    PendingBar,
    Bar(ProgressBar),
}

impl Progress {
    pub(crate) fn new(requested: bool) -> Self {
        let (mode, delay) = match (io::stderr().is_terminal(), requested) {
            (true, true) => (Mode::PendingBar, Duration::ZERO),
            (true, false) => (Mode::PendingBar, BAR_DELAY),
            (false, true) => (Mode::Lines, LINE_PERIOD),
            (false, false) => (Mode::Silent, LINE_PERIOD),
        };
        Progress { mode, done: 0, total: None, next: Instant::now() + delay }
    }

    /// Takes the number of bytes to come from `input`. If `input` is a terminal, prints how to end it, since
    /// the command seems to hang otherwise.
    pub(crate) fn expect(&mut self, input: &File) {
        if input.is_terminal() {
            say_line("reading from the terminal; end with Ctrl-D");
        }
        self.total =
            input.metadata().ok().filter(std::fs::Metadata::is_file).map(|file| file.len() + self.done);
    }

    /// Counts `bytes` more that were read, and shows them if it is time.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        match &self.mode {
            Mode::Silent => {}
            Mode::Bar(bar) => bar.set_position(self.done),
            Mode::PendingBar if Instant::now() >= self.next => self.mode = Mode::Bar(self.bar()),
            Mode::Lines if Instant::now() >= self.next => {
                say_line(&format!("{} soaked up", BinaryBytes(self.done)));
                self.next += LINE_PERIOD;
            }
            Mode::PendingBar | Mode::Lines => {}
        }
    }

    /// Shows that the input has ended, and that `len` bytes are being written to the file `path`.
    pub(crate) fn writing(&mut self, path: &Path, len: u64) {
        let message = format!("writing {} to {}", BinaryBytes(len), harmless(&path.display().to_string()));
        match &self.mode {
            Mode::Bar(bar) => {
                bar.set_style(ProgressStyle::default_spinner());
                bar.set_message(message);
                bar.enable_steady_tick(Duration::from_millis(200));
            }
            Mode::Lines => say_line(&message),
            Mode::Silent | Mode::PendingBar => {}
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&mut self) {
        if let Mode::Bar(bar) = std::mem::replace(&mut self.mode, Mode::Silent) {
            bar.finish_and_clear();
        }
    }

    fn bar(&self) -> ProgressBar {
        let (template, bar) = match self.total {
            Some(total) => (
                "{binary_bytes} of {binary_total_bytes} {wide_bar} {binary_bytes_per_sec}, {eta} left",
                ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()),
            ),
            None => (
                "{spinner} {binary_bytes} soaked up, {binary_bytes_per_sec}",
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
            ),
        };
        // These templates are well-formed; the default style would do as well.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_position(self.done);
        bar.tick(); // draws it now: the next bytes may take long
        bar
    }
}

impl Drop for Progress {
    /// Removes the bar, so that a message after it has a line of its own.
    fn drop(&mut self) {
        self.finish();
    }
}
