//! What the errors say.
//!
//! Promises:
//!
//! - `{}` is one line that does not repeat the source.
//! - `{:#}` adds the text of each source, outermost first, as anyhow does.
//!
//! Held by: the tests at the end of `error.rs`, `tests/tests/errors.rs`.

use crate::error::{DiskLimitScope, SpillError};
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// Adds the text of each source of `error`, if `f` is for the alternate form.
pub(crate) fn write_sources(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut link = if f.alternate() { error.source() } else { None };
    while let Some(source) = link {
        write!(f, ": {source}")?;
        link = source.source();
    }
    Ok(())
}

/// `{error:#}` adds the sources.
impl fmt::Display for SpillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_line(f)?;
        write_sources(self, f)
    }
}

impl SpillError {
    fn write_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpillError::DiskLimit { limit, used, requested, scope, waited } => {
                write_disk_limit(f, (*limit, *used, *requested), *scope, *waited)
            }
            SpillError::StoreFull { offset, len, .. } => {
                write!(f, "the store is full: cannot write {len} bytes at its offset {offset}")
            }
            SpillError::Store { operation, offset, len, .. } => {
                write!(f, "the store failed: cannot {operation} {len} bytes at its offset {offset}")
            }
            SpillError::Corrupted { position, offset, len } => write!(
                f,
                "{len} bytes at position {position} were changed in the store, at its offset {offset}: \
                 they do not have their checksum; overwrite or cut off all of them"
            ),
            SpillError::Directory { dir, source } => {
                let (dir, advice) = (dir.display(), directory_advice(source));
                write!(f, "cannot make a temp file in {dir}; {advice}")
            }
            SpillError::TooLarge { position, requested, end } => {
                write!(f, "cannot take {requested} bytes at position {position}: positions end at {end}")
            }
            SpillError::Unfinished { written, reason: Some(reason) } => {
                write!(f, "the writer failed ({reason}) after {written} bytes, before the end")
            }
            SpillError::Unfinished { written, reason: None } => {
                write!(f, "the writer was dropped after {written} bytes, before the end")
            }
            SpillError::NothingWritten { waited } => write!(f, "nothing was written for {waited:.1?}"),
            SpillError::Passed { position, kept_from } => write!(
                f,
                "position {position} is no longer readable: it was passed by what reads once; \
                 the content is kept from {kept_from}"
            ),
            SpillError::OutOfMemory => {
                f.write_str("the system refused memory; free some, or allow the process more")
            }
            SpillError::Forked => write!(f, "{}", crate::sync::fork::Forked),
            SpillError::NoRuntime => f.write_str(
                "there is no runtime to run a job of the store, or it is shutting down; nothing was lost",
            ),
            SpillError::JobPanicked { message } => write!(f, "a job has panicked: {message}"),
            SpillError::InvalidSeek { from, offset: 0, end } => {
                write!(f, "position {from} is outside of 0..={end}")
            }
            SpillError::InvalidSeek { from, offset, end } => {
                write!(f, "a seek by {offset} from {from} leads out of 0..={end}")
            }
            SpillError::Target { path, .. } if path.as_os_str().is_empty() => {
                f.write_str("cannot write a file whose path is empty")
            }
            SpillError::Target { path, .. } => write!(f, "cannot write {}", path.display()),
            SpillError::NotDurable { path, .. } => write!(
                f,
                "{} has the new content, but its directory could not be synced: \
                 a crash of the machine may undo the name",
                path.display()
            ),
        }
    }
}

/// What to do if no file could be made in a directory.
fn directory_advice(source: &io::Error) -> &'static str {
    #[cfg(unix)]
    if let Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) =
        rustix::io::Errno::from_io_error(source)
    {
        return "close some files, or raise the limit on open files";
    }
    let _ = source;
    "make the directory usable, or choose another"
}

/// The limit, what is used of it, and what was requested, in bytes.
fn write_disk_limit(
    f: &mut fmt::Formatter<'_>,
    (limit, used, requested): (u64, u64, u64),
    scope: DiskLimitScope,
    waited: Duration,
) -> fmt::Result {
    match limit {
        0 => write!(f, "the {} may use no disk", scope.as_str())?,
        _ => write!(f, "disk limit {scope} reached")?,
    }
    if !waited.is_zero() {
        write!(f, " (no room came free in {waited:.1?})")?;
    }
    if limit == 0 {
        let whose = match scope {
            DiskLimitScope::Pool => "the pool",
            DiskLimitScope::Buffer => "the buffer or of the pool",
        };
        return write!(
            f,
            ": {requested} bytes found no room in memory; free memory of {whose}, or raise a limit"
        );
    }
    let could_fit = requested <= limit;
    let advice = match scope {
        DiskLimitScope::Pool if could_fit => "drop or truncate other buffers, or raise the limit",
        DiskLimitScope::Pool => "raise the limit",
        DiskLimitScope::Buffer if could_fit => "truncate the buffer, or give the next one a higher limit",
        DiskLimitScope::Buffer => "give the next buffer a higher limit",
    };
    // Of a buffer's own limit nothing is left to others.
    let has_room = scope == DiskLimitScope::Pool && requested <= limit.saturating_sub(used);
    let whose = if has_room { ", and what is free is for earlier waiters" } else { "" };
    write!(f, ": {requested} more bytes requested, {used} of {limit} used{whose}; {advice}")
}
