//! What is said when something fails: one line, with what to do.

use overspill::SpillError;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

/// Why the command ends early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody reads the output any more, and nobody wants to hear about it.
    BrokenPipe,
    /// The line to say.
    Said(String),
}

impl Failure {
    pub(crate) fn said(line: impl Into<String>) -> Self {
        Failure::Said(line.into())
    }

    /// Something could not be done to a file: "cannot `what` `path`: `error`; `advice`".
    pub(crate) fn at(what: &str, path: &Path, error: &io::Error, advice: impl Display) -> Self {
        Failure::Said(format!("cannot {what} {}: {}; {advice}", path.display(), reason(error)))
    }

    /// Says it, and gives the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            // What a shell reports for a command that SIGPIPE ended.
            Failure::BrokenPipe => ExitCode::from(141),
            Failure::Said(line) => {
                // A name may hold anything; the message stays one line and harmless to a terminal.
                let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
                // If standard error is closed too, there is nobody left to tell.
                let _ = writeln!(io::stderr(), "overspill: {line}");
                ExitCode::FAILURE
            }
        }
    }
}

/// The system's words without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// What to say of an error of the buffer, once it holds `len` bytes. `dir` is where it spills, if
/// that is known.
pub(crate) fn of_buffer(error: io::Error, len: u64, dir: Option<&Path>) -> Failure {
    match error.downcast::<SpillError>() {
        Ok(error) => of_spill(&error, len, dir),
        Err(error) => Failure::said(format!("cannot keep the input: {}", reason(&error))),
    }
}

/// As [`of_buffer`].
pub(crate) fn of_spill(error: &SpillError, len: u64, dir: Option<&Path>) -> Failure {
    let held = indicatif::BinaryBytes(len);
    let place = dir.map_or("the temporary directory".into(), |dir| dir.display().to_string());
    Failure::said(match error {
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
                _ => "see to that",
            };
            let reason = reason(source);
            format!("cannot write {}: {reason}; it is as it was: {advice}, then run it again", path.display())
        }
        other => format!("cannot keep the input: {other}"),
    })
}
