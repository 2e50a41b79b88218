//! How far it has come: a bar on a terminal, lines elsewhere, or nothing.

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// A job that ends before that shows no bar on a terminal.
const PATIENCE: Duration = Duration::from_millis(500);

/// From one line to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// Shows how far the command is, on standard error.
pub(crate) struct Progress {
    how: How,
    done: u64,
    /// Bytes to come, if that is known.
    total: Option<u64>,
    /// When to show something next.
    next: Instant,
}

enum How {
    Silent,
    Lines,
    /// Will be a bar, if it takes long enough.
    Patient,
    Bar(ProgressBar),
}

impl Progress {
    pub(crate) fn new(requested: bool) -> Self {
        let (how, wait) = match (io::stderr().is_terminal(), requested) {
            (true, true) => (How::Patient, Duration::ZERO),
            (true, false) => (How::Patient, PATIENCE),
            (false, true) => (How::Lines, PERIOD),
            (false, false) => (How::Silent, PERIOD),
        };
        Progress { how, done: 0, total: None, next: Instant::now() + wait }
    }

    /// Learns from `input` how much is to come, and tells who sits before a silent terminal.
    pub(crate) fn expect(&mut self, input: &File) {
        if input.is_terminal() {
            let _ = writeln!(io::stderr(), "overspill: reading from the terminal; end with Ctrl-D");
        }
        self.total =
            input.metadata().ok().filter(std::fs::Metadata::is_file).map(|found| found.len() + self.done);
    }

    /// So many bytes more have come.
    pub(crate) fn soaked(&mut self, bytes: usize) {
        self.done += bytes as u64;
        match &self.how {
            How::Silent => {}
            How::Bar(bar) => bar.set_position(self.done),
            How::Patient if Instant::now() >= self.next => self.how = How::Bar(self.bar()),
            How::Lines if Instant::now() >= self.next => {
                say(&format!("{} soaked up", BinaryBytes(self.done)));
                self.next += PERIOD;
            }
            How::Patient | How::Lines => {}
        }
    }

    /// The input has ended, and the file `shown` is being written.
    pub(crate) fn writing(&mut self, shown: &Path) {
        let message = format!("writing {} to {}", BinaryBytes(self.done), shown.display());
        match &self.how {
            How::Bar(bar) => {
                bar.set_style(ProgressStyle::default_spinner());
                bar.set_message(message);
                bar.enable_steady_tick(Duration::from_millis(200));
            }
            How::Lines => say(&message),
            How::Silent | How::Patient => {}
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let How::Bar(bar) = std::mem::replace(&mut self.how, How::Silent) {
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
        // A template of ours is well-formed; if not, the default is as good.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_position(self.done);
        bar.tick(); // at once: the next bytes may be long in coming
        bar
    }
}

impl Drop for Progress {
    /// A message that follows stands on a line of its own.
    fn drop(&mut self) {
        self.finish();
    }
}

fn say(what: &str) {
    let _ = writeln!(io::stderr(), "overspill: {what}");
}
