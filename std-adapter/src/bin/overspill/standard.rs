//! Standard input and output: whether they are there, and as files without std's buffers.
//!
//! Promises:
//!
//! - A standard stream that was closed when the process began is an error, not empty input, and not
//!   output that is lost.
//! - So is one that is open the wrong way around.
//!
//! std opens `/dev/null` in place of a closed standard descriptor before `main` begins, so that no other file
//! gets its number. So the descriptors are looked at before that, by a function that the loader calls. The
//! mode in which std opens it does not tell: `<>/dev/null`, Python's `DEVNULL` and `daemon(3)` open it for
//! reading and writing too.
//!
//! Held by: `std-adapter/tests/command/streams.rs`.

use crate::failure::Failure;
use std::fs::File;
use std::io;
#[cfg(unix)]
use std::sync::atomic::{AtomicBool, Ordering};

/// A standard stream that bytes come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standard {
    Input,
    Output,
    Error,
}

impl Standard {
    /// The stream of this descriptor.
    pub(crate) fn of(descriptor: i32) -> Option<Standard> {
        match descriptor {
            0 => Some(Standard::Input),
            1 => Some(Standard::Output),
            2 => Some(Standard::Error),
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
        use rustix::fs::{OFlags, fcntl_getfl};
        if self.was_closed() {
            return State::Closed;
        }
        // A sandbox that forbids to look says nothing of the stream.
        match fcntl_getfl(self.descriptor()).map(|flags| flags & OFlags::ACCMODE) {
            Ok(OFlags::RDONLY) => State::ReadOnly,
            Ok(OFlags::WRONLY) => State::WriteOnly,
            _ => State::Open,
        }
    }

    #[cfg(unix)]
    fn descriptor(self) -> std::os::fd::BorrowedFd<'static> {
        match self {
            Standard::Input => rustix::stdio::stdin(),
            Standard::Output => rustix::stdio::stdout(),
            Standard::Error => rustix::stdio::stderr(),
        }
    }

    /// Whether it was closed when the process began.
    #[cfg(unix)]
    fn was_closed(self) -> bool {
        CLOSED[self as usize].load(Ordering::Relaxed)
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

/// Which of them were closed when the process began.
#[cfg(unix)]
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Called by the loader, before std opens anything.
#[cfg(unix)]
#[ctor::ctor(unsafe)]
fn look_before_std() {
    for standard in [Standard::Input, Standard::Output, Standard::Error] {
        let is_closed = rustix::io::fcntl_getfd(standard.descriptor()) == Err(rustix::io::Errno::BADF);
        CLOSED[standard as usize].store(is_closed, Ordering::Relaxed);
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
