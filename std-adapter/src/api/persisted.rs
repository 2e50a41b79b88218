//! What [`persist`](crate::SpillBuffer::persist) returns once the name has changed: the file, and whether the
//! name is known to be durable.
//!
//! Promise: a failed sync of the directory is not passed over in silence, and the file is not lost with it.
//!
//! Held by: `tests/tests/real_faults.rs`, `tests/tests/hand_over.rs`.

use crate::error::SpillError;
use std::fs::File;
use std::io;
use std::path::Path;

/// The whole content has its name, and its bytes are synced.
///
/// The name is durable too, unless the directory could not be synced; on Windows, and on file systems that
/// cannot sync a directory, it is as durable as the file system makes it. After a failure a crash of the
/// machine may bring back the old file, or none. No retry is sure to help, so none is made. Take the file by
/// [`durable`](Persisted::durable) where the difference matters, and by [`into_file`](Persisted::into_file)
/// where it does not.
///
/// ```
/// use overspill::SpillBuffer;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("report");
/// let persisted = SpillBuffer::from(&b"all of it"[..]).persist(&path)?;
/// if let Some(error) = persisted.not_durable() {
///     eprintln!("{error}"); // the content is in place, all the same
/// }
/// let file = persisted.into_file();
/// assert_eq!(file.metadata()?.len(), 9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the name may not be durable: take the file by `durable`, or by `into_file` if that does not matter"]
pub struct Persisted {
    file: File,
    not_durable: Option<SpillError>,
}

impl Persisted {
    /// `synced` is what came of the sync of the directory of `path`.
    pub(crate) fn new(file: File, path: &Path, synced: io::Result<()>) -> Self {
        let not_durable = |source| SpillError::NotDurable { path: path.to_owned(), source };
        Persisted { file, not_durable: synced.map_err(not_durable).err() }
    }

    /// Returns the file, whose name survives a crash of the machine as far as its file system can promise
    /// that.
    ///
    /// # Errors
    /// [`SpillError::NotDurable`] if the directory could not be synced. The file keeps its name and
    /// its content; this handle of it is closed, so look at [`not_durable`](Persisted::not_durable)
    /// first to go on with it.
    pub fn durable(self) -> Result<File, SpillError> {
        self.not_durable.map_or(Ok(self.file), Err)
    }

    /// Returns the file, whether or not its name is durable.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// Why the name is not known to be durable. `None` if the directory was synced, or all of its file
    /// system; also where nothing can be synced, on Windows and on file systems that cannot sync a directory:
    /// there the name is as durable as the file system makes it.
    #[must_use]
    pub fn not_durable(&self) -> Option<&SpillError> {
        self.not_durable.as_ref()
    }
}
