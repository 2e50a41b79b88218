//! Reading and writing that waits until it can go on.
//!
//! Promise: a stream that another process has made non-blocking, as some do with a terminal or a pipe that
//! they share, is read and written to its end all the same.
//!
//! Held by: `std-adapter/tests/command/streams.rs`, `std-adapter/tests/command/refused_calls.rs`.

use std::io::{self, ErrorKind, Read, Write};
#[cfg(unix)]
use std::os::fd::AsFd;
use std::time::Duration;

/// How long to wait where the system cannot tell when a stream is ready.
const PAUSE: Duration = Duration::from_millis(5);

/// A stream that can be waited for.
#[cfg(unix)]
pub(crate) trait Stream: AsFd {}
#[cfg(unix)]
impl<S: AsFd> Stream for S {}
#[cfg(not(unix))]
pub(crate) trait Stream {}
#[cfg(not(unix))]
impl<S> Stream for S {}

/// Reads some bytes; none at the end.
pub(crate) fn read(from: &mut (impl Read + Stream), block: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(block) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(from, Direction::In),
            read => return read,
        }
    }
}

/// Writes all of `bytes`.
pub(crate) fn write_all(to: &mut (impl Write + Stream), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(to, Direction::Out),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

enum Direction {
    In,
    Out,
}

#[cfg(unix)]
fn wait(stream: &impl Stream, direction: Direction) {
    use rustix::event::{PollFd, PollFlags, poll};
    let flags = match direction {
        Direction::In => PollFlags::IN,
        Direction::Out => PollFlags::OUT,
    };
    let mut polled = [PollFd::new(stream, flags)];
    let result = rustix::io::retry_on_intr(|| poll(&mut polled, None));
    // macOS polls no terminal, and says so at once. A sandbox may refuse the call.
    if result.is_err() || polled[0].revents().contains(PollFlags::NVAL) {
        std::thread::sleep(PAUSE);
    }
}

#[cfg(not(unix))]
fn wait(_: &impl Stream, direction: Direction) {
    match direction {
        Direction::In | Direction::Out => std::thread::sleep(PAUSE),
    }
}
