//! Failures of the command: one line for each, with what to do.
//!
//! Promises: a message is one line and harmless to a terminal, whatever names are in it; printing it cannot
//! panic.
//!
//! Held by: `std-adapter/tests/command/` of this package.

use overspill::SpillError;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
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

    /// An action on a file failed: "cannot `action` `path`: `error`; `advice`".
    pub(crate) fn cannot(action: &str, path: &Path, error: &io::Error, advice: impl Display) -> Self {
        Failure::Message(format!("cannot {action} {}: {}; {advice}", path.display(), reason(error)))
    }

    /// Prints the message, and returns the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            // 128 + 13: what a shell reports for a command that SIGPIPE ended.
            Failure::BrokenPipe => ExitCode::from(141),
            Failure::Message(line) => {
                // File names may have control characters, which could break the line or drive a terminal.
                let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
                // Standard error may be closed too; the exit status is all that is left then.
                let _ = writeln!(io::stderr(), "overspill: {line}");
                ExitCode::FAILURE
            }
        }
    }
}

/// The error's text without the system's error number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// The failure for an error of a buffer that holds `len` bytes. `dir` is where it spills, if that is known.
pub(crate) fn buffer_failure(error: io::Error, len: u64, dir: Option<&Path>) -> Failure {
    match error.downcast::<SpillError>() {
        Ok(error) => spill_failure(&error, len, dir),
        Err(error) => Failure::message(format!("cannot keep the input: {}", reason(&error))),
    }
}

/// As [`buffer_failure`].
pub(crate) fn spill_failure(error: &SpillError, len: u64, dir: Option<&Path>) -> Failure {
    let held = indicatif::BinaryBytes(len);
    let place = dir.map_or("the temporary directory".into(), |dir| dir.display().to_string());
    Failure::message(match error {
        SpillError::DiskLimit { limit, .. } => format!(
            "the disk limit of {} is reached after {held} of input; raise --disk or --memory",
            indicatif::BinaryBytes(*limit)
        ),
        SpillError::StoreFull { source, .. } => format!(
            "no room left in {place} after {held} of input: {}; free some, or choose another place with --dir",
            reason(source)
        ),
        SpillError::Store { operation, source, .. } => format!(
            "cannot {operation} the temporary file in {place} after {held} of input: {}; choose another place with --dir",
            reason(source)
        ),
        SpillError::Directory { dir, source, .. } => format!(
            "cannot make a temporary file in {}: {}; make the directory usable, or choose another with --dir",
            dir.display(),
            reason(source)
        ),
        SpillError::Target { path, source, .. } => {
            let advice = match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some room there",
                // Windows says it of a file that is open somewhere, too.
                ErrorKind::PermissionDenied if cfg!(windows) => "close it in other programs",
                ErrorKind::PermissionDenied => "make its directory writable",
                _ => "fix that",
            };
            let reason = reason(source);
            format!("cannot write {}: {reason}; it is as it was: {advice}, then run it again", path.display())
        }
        SpillError::NotDurable { path, source, .. } => format!(
            "{} is written, but its directory cannot be synced: {}; a crash of the machine may undo it: check the disk",
            path.display(),
            reason(source)
        ),
        other => format!("cannot keep the input: {other}"),
    })
}
