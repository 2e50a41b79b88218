//! A temp file: which process made it, and where it is closed.
//!
//! Closing a file without a name frees its blocks there and then, which takes ext4 some 60 ms for a gigabyte.
//!
//! Promises:
//!
//! - A file of more than [`LARGE`] bytes that is closed by a thread of a runtime is closed by one of its
//!   threads that may block.
//! - All others are closed where they are dropped; and those too that no such thread takes. So is a
//!   file of the process that this one was forked from: it has none of the threads, and its runtime's
//!   locks may be lost.
//! - Without an async face a file is closed where it is dropped.
//!
//! Held by: the test below, `tests/tests/async_buffer/`.

#[cfg(feature = "tokio")]
use crate::sync::OnceLock;
use crate::sync::fork::current_process;
use std::fs::File;

/// What ext4 frees in a tenth of a millisecond.
#[cfg(feature = "tokio")]
const LARGE: u64 = 2 << 20;

/// A file that is closed where this is dropped.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct Closing {
    _file: File,
}

/// Drops it, or has it dropped.
#[cfg(feature = "tokio")]
pub(crate) type Close = fn(Closing);

/// What the async face has brought, once for the process.
#[cfg(feature = "tokio")]
static ELSEWHERE: OnceLock<Close> = OnceLock::new();

/// Has large files closed by `close` from now on, which finds out where it runs.
#[cfg(feature = "tokio")]
pub(crate) fn close_elsewhere(close: Close) {
    ELSEWHERE.get_or_init(|| close);
}

/// A file that was made for what is spilled.
#[derive(Debug)]
pub(crate) struct SpillFile {
    file: Option<File>,
    /// The process that made it.
    process: u64,
}

impl SpillFile {
    /// A file that this process has made.
    pub(crate) fn new(file: File) -> Self {
        SpillFile { file: Some(file), process: current_process() }
    }

    pub(crate) fn get(&self) -> &File {
        self.file.as_ref().expect("it is taken by its drop alone")
    }

    /// Whether another process has made it, from which this one was forked.
    pub(crate) fn is_inherited(&self) -> bool {
        self.process != current_process()
    }
}

#[cfg(feature = "tokio")]
impl Drop for SpillFile {
    fn drop(&mut self) {
        let is_inherited = self.is_inherited();
        let Some(file) = self.file.take() else { return };
        match ELSEWHERE.get() {
            Some(close) if !is_inherited && file.metadata().is_ok_and(|file| file.len() > LARGE) => {
                close(Closing { _file: file });
            }
            _ => {}
        }
    }
}

#[cfg(all(test, feature = "tokio", not(overspill_loom)))]
mod tests {
    use super::*;
    use crate::sync::{AtomicU64, Ordering};

    /// The length of the last file that was closed elsewhere.
    static CLOSED: AtomicU64 = AtomicU64::new(0);

    /// Processes of one number: the second in a namespace of its own, or made once the first had ended.
    #[test]
    fn a_file_of_another_process_with_the_same_number_is_inherited() {
        let mut file = SpillFile::new(tempfile::tempfile().unwrap());
        assert!(!file.is_inherited());
        file.process = current_process().wrapping_sub(1 << 32);
        assert!(file.is_inherited());
    }

    #[test]
    fn only_large_files_are_closed_elsewhere() {
        let drop_one = |len| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(len).unwrap();
            drop(SpillFile::new(file));
        };
        drop_one(LARGE + 1);
        close_elsewhere(|closing| {
            CLOSED.store(closing._file.metadata().unwrap().len(), Ordering::Relaxed);
        });
        drop_one(LARGE);
        assert_eq!(CLOSED.load(Ordering::Relaxed), 0);
        drop_one(LARGE + 2);
        assert_eq!(CLOSED.load(Ordering::Relaxed), LARGE + 2);
    }
}
