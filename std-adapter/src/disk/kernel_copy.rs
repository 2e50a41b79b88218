//! Bytes from file to file, copied by the kernel: no way through the memory of the process.
//!
//! Promises:
//!
//! - The target has bytes of its own when the call returns. File systems that share blocks between files copy
//!   them when either is written.
//! - No error has to be told: whatever the kernel refuses, reading and writing the same bytes works, or
//!   fails with an error that says which of the two it was. Refusals are many: another file system
//!   (`EXDEV`), a target opened to append (`EBADF`), a file that is none on a disk (`EINVAL`), a kernel or a
//!   file system without the call (`ENOSYS`, `EOPNOTSUPP`), a sandbox (`EPERM`); and old kernels copy 0
//!   bytes of some files.
//! - Nothing is lent: `sendfile`, `splice` and `vmsplice` have no place in this crate. They put a page of the
//!   file into a socket or a pipe by reference, and it is read there much later. A slot is used again as soon
//!   as it is free, so the reader would get the bytes of another buffer.
//!
//! Held by: `tests/tests/kernel_copies.rs`, `tests/tests/refused_calls.rs`,
//! `tests/tests/tidy.rs` (what is lent).

use std::fs::File;
use std::io;

/// Copies up to `len` bytes from `from`, at `from_offset`, to `to`, at `to_offset`, and returns how many.
/// Moves the position of neither file. `Unsupported` on platforms other than Linux and Android.
pub(crate) fn copy(
    from: &File,
    from_offset: u64,
    to: &File,
    to_offset: u64,
    len: usize,
) -> io::Result<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let (mut from_offset, mut to_offset) = (from_offset, to_offset);
        let (from_offset, to_offset) = (Some(&mut from_offset), Some(&mut to_offset));
        Ok(rustix::fs::copy_file_range(from, from_offset, to, to_offset, len)?)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (from, from_offset, to, to_offset, len);
        Err(io::ErrorKind::Unsupported.into())
    }
}
