//! Writing several slices by a write of one.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::foreign::drop_quietly;
use std::io::{self, IoSlice};
use std::task::Poll;

/// Writes slice after slice by `write`, until one is not taken whole.
pub(crate) fn write_vectored(
    bufs: &[IoSlice<'_>],
    mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    let mut done = 0;
    for data in bufs {
        match write(data) {
            Poll::Ready(Ok(taken)) => {
                done += taken;
                if taken < data.len() {
                    break;
                }
            }
            // What was taken before is held. The next call waits, or fails.
            refused if done > 0 => {
                drop_quietly(refused);
                break;
            }
            refused => return refused,
        }
    }
    Poll::Ready(Ok(done))
}
