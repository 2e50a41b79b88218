//! Standard input and output: whether they are there, and as files without std's buffers.
//!
//! Promises:
//!
//! - A standard stream that was closed when the process began is an error, not empty input, and not output that is lost.
//! - So is one that is open the wrong way around.
//!
//! std opens `/dev/null` in place of a closed standard descriptor before `main` begins, so that no other file gets
//! its number. What still tells the two apart is the mode: std opens it for reading and writing at once, a shell's
//! `</dev/null` and `>/dev/null` for one of the two. That is wrong for `<>/dev/null`, and for programs that open it so for the
//! programs they start (Python's `DEVNULL`, `daemon(3)`). These get an error that says how to go on, which does less harm
//! than an emptied file. To look before std does is surer, but takes a hook of the loader's or a `main` of C's, and each
//! needs `unsafe`.
//!
//! Held by: `std-adapter/tests/command/streams.rs`.

use crate::failure::Failure;
use std::fs::File;
use std::io;

/// A standard stream that bytes come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standard {
    Input,
    Output,
    Error,
}

impl Standard {
    /// The stream of this descriptor.
    pub(crate) fn of(descriptor: &str) -> Option<Standard> {
        match descriptor {
            "0" => Some(Standard::Input),
            "1" => Some(Standard::Output),
            "2" => Some(Standard::Error),
            _ => None,
        }
    }

    /// Refuses a standard input that is closed, or not open for reading.
    pub(crate) fn check_readable(self) -> Result<(), Failure> {
        self.check(State::WriteOnly, "read", "for empty input, write </dev/null")
    }

    /// Refuses a stream that is closed, or not open for writing.
    pub(crate) fn check_writable(self) -> Result<(), Failure> {
        self.check(State::ReadOnly, "write", "connect it, or name a file with -o")
    }

    fn check(self, wrong: State, action: &str, advice: &str) -> Result<(), Failure> {
        let what = match self.state() {
            State::Closed if cfg!(unix) => "it is closed, or open as <>/dev/null",
            State::Closed => "it is closed",
            State::ReadOnly if wrong == State::ReadOnly => "it is open for reading only",
            State::WriteOnly if wrong == State::WriteOnly => "it is open for writing only",
            State::Open | State::ReadOnly | State::WriteOnly => return Ok(()),
        };
        Err(Failure::message(format!("cannot {action} standard {}: {what}; {advice}", self.name())))
    }

    fn name(self) -> &'static str {
        match self {
            Standard::Input => "input",
            Standard::Output => "output",
            Standard::Error => "error",
        }
    }

    #[cfg(unix)]
    fn state(self) -> State {
        use std::os::fd::AsFd;
        match self {
            Standard::Input => state(io::stdin().as_fd()),
            Standard::Output => state(io::stdout().as_fd()),
            Standard::Error => state(io::stderr().as_fd()),
        }
    }

    #[cfg(windows)]
    fn state(self) -> State {
        use std::os::windows::io::AsRawHandle;
        let handle = match self {
            Standard::Input => io::stdin().as_raw_handle(),
            Standard::Output => io::stdout().as_raw_handle(),
            Standard::Error => io::stderr().as_raw_handle(),
        };
        // Null, or INVALID_HANDLE_VALUE, which is -1.
        if handle.is_null() || handle.addr() == usize::MAX { State::Closed } else { State::Open }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    ReadOnly,
    WriteOnly,
}

#[cfg(unix)]
fn state(stream: std::os::fd::BorrowedFd<'_>) -> State {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};
    let flags = match fcntl_getfl(stream) {
        Ok(flags) => flags,
        Err(rustix::io::Errno::BADF) => return State::Closed,
        // A sandbox that forbids to look says nothing of the stream.
        Err(_) => return State::Open,
    };
    let null = |found: &rustix::fs::Stat| {
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
            && stat("/dev/null").is_ok_and(|null| null.st_rdev == found.st_rdev)
    };
    match flags & OFlags::ACCMODE {
        OFlags::RDWR if fstat(stream).is_ok_and(|found| null(&found)) => State::Closed,
        OFlags::RDONLY => State::ReadOnly,
        OFlags::WRONLY => State::WriteOnly,
        _ => State::Open,
    }
}

/// Standard input without std's buffer, which would copy every byte once more.
pub(crate) fn unbuffered_stdin() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned()?;
    Ok(widened(handle.into()))
}

/// Standard output without std's buffer, which would search every block for its last newline.
pub(crate) fn unbuffered_stdout() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(widened(handle.into()))
}

/// Lets a pipe hold 1 MiB in place of the usual 64 KiB, so that both of its ends sleep and wake less often.
/// That saves a quarter of a pipeline's time. Errors are ignored: the limit for pipes may be lower, and
/// `pipe` may be no pipe.
fn widened(pipe: File) -> File {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, 1 << 20);
    pipe
}
