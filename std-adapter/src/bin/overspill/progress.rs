//! Progress on standard error: a bar on a terminal, lines elsewhere, or nothing.
//!
//! Promises:
//!
//! - Where standard error is no terminal, no progress is shown without `--progress`.
//! - A closed standard error is no error, and no panic.
//! - Time alone says when something is shown, so it is shown while no input comes, too; and never sooner than
//!   is due, but for the line that says that the input has ended.
//! - The total is shown only where the system knows it, and while it has not proved wrong.
//!
//! A thread shows it. Reading the input only counts.
//!
//! Held by: `std-adapter/tests/command/progress.rs`.

use crate::failure::say_line;
use crate::quote::harmless;
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::{self, IsTerminal, Seek};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a job runs on a terminal before it shows a bar without `--progress`.
const BAR_DELAY: Duration = Duration::from_millis(500);

/// The time from one picture of the bar to the next.
const BAR_PERIOD: Duration = Duration::from_millis(100);

/// The time from one line to the next.
const LINE_PERIOD: Duration = Duration::from_secs(1);

/// Shows on standard error how much input was read.
pub(crate) struct Progress {
    shared: Arc<Shared>,
    /// When something may be shown for the first time.
    first_due: Instant,
    /// The thread that shows it; `None` if nothing is ever shown.
    thread: Option<JoinHandle<()>>,
}

/// What the thread that reads and the thread that shows have in common.
#[derive(Default)]
struct Shared {
    /// Bytes read so far. Publishes nothing else.
    done: AtomicU64,
    state: Mutex<State>,
    /// Signalled when `has_ended` was set.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    kind: Kind,
    /// Bytes to be read in all, if that is known.
    total: Option<u64>,
    /// What is being done after the input has ended.
    message: Option<String>,
    has_ended: bool,
}

#[derive(Default)]
enum Kind {
    #[default]
    Lines,
    /// A bar that counts from the beginning, for the speed, and is not shown before it is due.
    PendingBar(ProgressBar),
    Bar(ProgressBar),
}

impl Progress {
    pub(crate) fn new(requested: bool) -> Self {
        let now = Instant::now();
        let (kind, delay, period) = match (io::stderr().is_terminal(), requested) {
            (true, true) => (Kind::PendingBar(ProgressBar::hidden()), Duration::ZERO, BAR_PERIOD),
            (true, false) => (Kind::PendingBar(ProgressBar::hidden()), BAR_DELAY, BAR_PERIOD),
            (false, true) => (Kind::Lines, LINE_PERIOD, LINE_PERIOD),
            (false, false) => return Progress { shared: Arc::default(), first_due: now, thread: None },
        };
        let first_due = now + delay;
        let state = State { kind, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), ..Shared::default() });
        let theirs = Arc::clone(&shared);
        // Without another thread, the work goes on and shows nothing.
        let show = move || theirs.show_until_ended(first_due, period);
        let thread = std::thread::Builder::new().spawn(show).ok();
        Progress { shared, first_due, thread }
    }

    /// Takes the number of bytes to come from `input`. If `input` is a terminal, prints how to end it, since
    /// the command seems to hang otherwise.
    pub(crate) fn expect(&self, input: &File) {
        if input.is_terminal() {
            let end = if cfg!(windows) { "Ctrl-Z and Enter" } else { "Ctrl-D" };
            say_line(&format!("reading from the terminal; end with {end}"));
        }
        let mut state = self.shared.state();
        state.total = bytes_to_come(input).map(|bytes| bytes + self.shared.done.load(Ordering::Relaxed));
    }

    /// Counts `bytes` more that were read.
    pub(crate) fn add(&self, bytes: usize) {
        self.shared.done.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Shows from now on, when it is due, that something is done to the file `path` in place of reading.
    pub(crate) fn now(&self, action: &str, path: &Path) {
        self.shared.state().message = Some(format!("{action} {}", harmless(&path.display().to_string())));
    }

    /// Shows the last of the input on a bar, if one is due.
    pub(crate) fn input_has_ended(&self) {
        let mut state = self.shared.state();
        if !matches!(state.kind, Kind::Lines) && Instant::now() >= self.first_due {
            self.shared.show(&mut state);
        }
    }

    /// Shows that `len` bytes are being written to the file `path`.
    pub(crate) fn writing(&self, path: &Path, len: u64) {
        if self.thread.is_none() {
            return;
        }
        self.now(&format!("writing {} to", BinaryBytes(len)), path);
        let mut state = self.shared.state();
        if !matches!(state.kind, Kind::PendingBar(_)) {
            self.shared.show(&mut state);
        }
    }

    /// Shows nothing more, and removes the bar.
    pub(crate) fn finish(&mut self) {
        self.shared.state().has_ended = true;
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Kind::Bar(bar) = &self.shared.state().kind {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    /// Removes the bar, so that a message after it has a line of its own.
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the state when it is `due`, and again whenever `period` has passed.
    fn show_until_ended(&self, mut due: Instant, period: Duration) {
        let mut state = self.state();
        while !state.has_ended {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.show(&mut state);
                due = Instant::now() + period;
            } else {
                let waited = self.ended.wait_timeout(state, left);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn show(&self, state: &mut State) {
        let done = self.done.load(Ordering::Relaxed);
        if state.total.is_some_and(|total| done > total) {
            state.total = None; // the input has got longer
        }
        match &state.kind {
            Kind::Lines => match &state.message {
                Some(message) => say_line(message),
                None => say_line(&format!("{} soaked up", BinaryBytes(done))),
            },
            Kind::PendingBar(bar) => {
                draw(bar, state, done); // hidden, so that the first picture has all
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.tick();
                state.kind = Kind::Bar(bar.clone());
            }
            Kind::Bar(bar) => draw(bar, state, done),
        }
    }
}

fn draw(bar: &ProgressBar, state: &State, done: u64) {
    let template = match (&state.message, state.total) {
        (Some(_), _) => "{spinner} {msg}",
        (None, Some(_)) => {
            "{binary_bytes} of {binary_total_bytes} {wide_bar} {binary_bytes_per_sec}, {eta} left"
        }
        (None, None) => "{spinner} {binary_bytes} soaked up, {binary_bytes_per_sec}",
    };
    // These templates are well-formed; the default style would do as well.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    // Each of these draws, so only what has changed is set.
    if let Some(message) = state.message.as_ref().filter(|message| **message != bar.message()) {
        bar.set_message(message.clone());
    }
    match state.total {
        total if total == bar.length() => {}
        Some(total) => bar.set_length(total),
        None => bar.unset_length(),
    }
    bar.set_position(done);
    bar.tick();
}

/// How many bytes come from `input` until its end, if the system knows.
fn bytes_to_come(input: &File) -> Option<u64> {
    let found = input.metadata().ok().filter(std::fs::Metadata::is_file)?;
    // Files in /proc and /sys have no length, or a made-up one, and no blocks. Neither has a file that is one
    // hole; its total is not shown.
    #[cfg(unix)]
    let has_blocks = std::os::unix::fs::MetadataExt::blocks(&found) > 0;
    #[cfg(not(unix))]
    let has_blocks = true;
    // Others may have read some of it.
    let position = { input }.stream_position().ok()?;
    (has_blocks && found.len() > 0).then(|| found.len().saturating_sub(position))
}
