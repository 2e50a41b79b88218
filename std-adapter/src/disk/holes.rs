//! Holes of a file: ranges that were never written, which read as zeros and take no room.
//!
//! Promises:
//!
//! - What may have bytes other than zeros is in no hole, as far as the file system tells the truth. One that
//!   knows no holes, a kernel or a sandbox without the call, and a platform other than Linux and Android say
//!   of all of the file that it is data.
//! - To look moves the position of the file: whoever looks sets it afterwards.
//!
//! Held by: `tests/tests/sparse_files.rs`.

use std::fs::{File, Metadata};

/// Whether a file may have holes: it has fewer blocks than its length needs. Some have none all the same:
/// short and compressed ones.
pub(crate) fn may_have_holes(found: &Metadata) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        /// Bytes of what `st_blocks` counts, on every file system.
        const BLOCK: u64 = 512;
        found.is_file() && std::os::unix::fs::MetadataExt::blocks(found).saturating_mul(BLOCK) < found.len()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = found;
        false
    }
}

/// The first offset from `at` on that is in no hole, or the end of the file. `None` if it cannot be told.
pub(crate) fn next_data(file: &File, at: u64) -> Option<u64> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{SeekFrom, seek};
        let len = file.metadata().ok()?.len(); // first: what is appended after the look at it is in no hole
        match seek(file, SeekFrom::Data(at)) {
            // None up to the end, or the end lies before.
            Err(rustix::io::Errno::NXIO) => Some(len.max(at)),
            found => found.ok().filter(|&data| data >= at),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (file, at);
        None
    }
}

/// The first offset from `at` on, where data is, that is in a hole, or the end of the file. `None` if it
/// cannot be told.
pub(crate) fn next_hole(file: &File, at: u64) -> Option<u64> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{SeekFrom, seek};
        seek(file, SeekFrom::Hole(at)).ok().filter(|&hole| hole > at)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (file, at);
        None
    }
}
