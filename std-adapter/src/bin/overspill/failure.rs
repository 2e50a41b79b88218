//! Failures of the command: one line for each, with what to do.
//!
//! Promises: a message is one line and harmless to a terminal, whatever names are in it; printing it cannot
//! panic.
//!
//! Held by: `std-adapter/tests/command/` of this package.

use crate::blocking;
use crate::quote::harmless;
use overspill::SpillError;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::ExitCode;

/// Why the command ends early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The reader closed the output; nothing is printed.
    BrokenPipe,
    /// The line to print.
    Message(String),
}

impl Failure {
    pub(crate) fn message(line: impl Into<String>) -> Self {
        Failure::Message(line.into())
    }

    /// An action on a file failed: "cannot `action` `path`: `error`; `advice`". The advice is another if the
    /// error alone tells what to do.
    pub(crate) fn cannot(action: &str, path: &Path, error: &io::Error, advice: impl Display) -> Self {
        let (path, reason) = (path.display(), reason(error));
        Failure::Message(match remedy(error) {
            Some(remedy) => format!("cannot {action} {path}: {reason}; {remedy}"),
            None => format!("cannot {action} {path}: {reason}; {advice}"),
        })
    }

    /// Prints the message, and returns the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            // 128 + 13: what a shell reports for a command that SIGPIPE ended.
            Failure::BrokenPipe => ExitCode::from(141),
            Failure::Message(line) => {
                say_line(line);
                ExitCode::FAILURE
            }
        }
    }
}

/// Prints `line` as one on standard error, harmless to a terminal whatever names are in it.
pub(crate) fn say_line(line: &str) {
    say(&format!("overspill: {}\n", harmless(line)));
}

/// Prints `text` on standard error. That may be closed: then nothing is left to tell it by.
pub(crate) fn say(text: &str) {
    let _ = blocking::write_all(&mut io::stderr(), text.as_bytes());
}

/// The error's text without the system's error number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// What to do about an error that has nothing to do with where it happened.
pub(crate) fn remedy(error: &io::Error) -> Option<&'static str> {
    #[cfg(unix)]
    if let Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) = rustix::io::Errno::from_io_error(error)
    {
        return Some("raise the limit on open files (ulimit -n), or close some");
    }
    match error.kind() {
        ErrorKind::FileTooLarge => Some("raise the limit on the size of files (ulimit -f)"),
        ErrorKind::ReadOnlyFilesystem => Some("mount it for writing, or choose another place"),
        _ => None,
    }
}

/// What a buffer holds, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// The content that the file had before.
    pub(crate) old: u64,
    /// The input behind it.
    pub(crate) input: u64,
}

impl Held {
    pub(crate) fn input(len: u64) -> Self {
        Held { old: 0, input: len }
    }
}

impl Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [old, input] = [self.old, self.input].map(indicatif::BinaryBytes);
        match self {
            Held { old: 0, .. } => write!(f, "{input} of input"),
            Held { input: 0, .. } => write!(f, "{old} of the file's old content"),
            _ => write!(f, "{old} of the file's old content and {input} of input"),
        }
    }
}

/// The failure for an error of a buffer. `dir` is where it spills, if that is known.
pub(crate) fn buffer_failure(error: io::Error, held: Held, dir: Option<&Path>) -> Failure {
    match error.downcast::<SpillError>() {
        Ok(error) => spill_failure(&error, held, dir),
        Err(error) => Failure::message(format!("cannot keep the input: {}", reason(&error))),
    }
}

/// As [`buffer_failure`].
pub(crate) fn spill_failure(error: &SpillError, held: Held, dir: Option<&Path>) -> Failure {
    let place = dir.map_or("the temporary directory".into(), |dir| dir.display().to_string());
    Failure::message(match error {
        SpillError::DiskLimit { limit, .. } => format!(
            "the disk limit of {} is reached after {held}; raise --disk or --memory",
            indicatif::BinaryBytes(*limit)
        ),
        SpillError::StoreFull { source, .. } => format!(
            "no room left in {place} after {held}: {}; {}",
            reason(source),
            remedy(source).unwrap_or(
                "free some, or choose another place with --dir; a file named with -o needs room where it is, too"
            )
        ),
        SpillError::Store { operation, source, .. } => format!(
            "cannot {operation} the temporary file in {place} after {held}: {}; {}",
            reason(source),
            remedy(source).unwrap_or("choose another place with --dir")
        ),
        SpillError::Directory { dir, source, .. } => format!(
            "cannot make a temporary file in {}: {}; {}",
            dir.display(),
            reason(source),
            remedy(source).unwrap_or("make the directory usable, or choose another with --dir")
        ),
        SpillError::Target { path, source, .. } => {
            let advice = match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some room there",
                // Windows says it of a file that is open somewhere, too.
                ErrorKind::PermissionDenied if cfg!(windows) => "close it in other programs",
                ErrorKind::PermissionDenied => "make its directory writable",
                _ => remedy(source).unwrap_or("fix that"),
            };
            let reason = reason(source);
            format!("cannot write {}: {reason}; it is as it was: {advice}, then run it again", path.display())
        }
        SpillError::NotDurable { path, source, .. } => {
            let is_refused = source.kind() == ErrorKind::PermissionDenied;
            let advice = if is_refused { "make the directory readable" } else { "check the disk" };
            format!(
                "{} is written, but its directory cannot be synced: {}; a crash of the machine may undo it: {advice}",
                path.display(),
                reason(source)
            )
        }
        other => format!("cannot keep the input: {other}"),
    })
}
